"""AWS for infra_scripts: moto servers, an empty account for each test, and the commands as a person types them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import boto3
import pytest
import requests

from infra_scripts.platform import change_set, database, stack
from tests.support.account import MONITORED_BUCKET, SOURCE_BUCKET, Account, RunCommand
from tests.support.aws_proxy import AwsProxy
from tests.support.moto import MotoServer
from tests.support.paths import ROOT
from tests.support.person import LOGIN, Person
from tests.support.process import HOST, Process, clean_environment, free_port, get_json, wait_until

SERVER = ROOT / "tests" / "support" / "aws_server.py"


@pytest.fixture(scope="session")
def moto_server() -> Iterator[MotoServer]:
    directory = Path(tempfile.mkdtemp(prefix="infra-data-"))
    with MotoServer(directory) as server:
        yield server
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def account(moto_server: MotoServer) -> Iterator[Account]:
    requests.post(f"{moto_server.url}/moto-api/reset", timeout=30).raise_for_status()
    session = boto3.Session(aws_access_key_id="testing", aws_secret_access_key="testing", region_name="eu-west-1")
    s3 = session.client("s3", endpoint_url=moto_server.url)
    for bucket in (SOURCE_BUCKET, MONITORED_BUCKET):
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    account = Account(
        server=moto_server,
        s3=s3,
        ssm=session.client("ssm", endpoint_url=moto_server.url),
        secrets=session.client("secretsmanager", endpoint_url=moto_server.url),
    )
    yield account
    account.check_logins(from_now_on=False)


@pytest.fixture
def surroundings(account: Account, tmp_path: Path) -> dict[str, str]:
    """The environment of a child: this machine's, without its settings, pointed at moto, with a home of its own."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MBD_", "AIRFLOW", "PG"))
    }
    home = tmp_path / "home"
    home.mkdir()
    return {**inherited, **account.server.environment, "HOME": str(home), "NO_PROXY": "127.0.0.1"}


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    path = tmp_path / ".env"
    path.write_text("MBD_FIRST_NAME=Ada\nMBD_LAST_NAME=Lovelace\nAWS_REGION=eu-west-1\n")
    return path


@pytest.fixture
def command(surroundings: dict[str, str], env_file: Path) -> RunCommand:
    """`python -m infra_scripts ...` as a child, as a person would run it, on a .env of the test's own."""

    def call(
        *arguments: object, changes: Mapping[str, str] | None = None, answers: str = ""
    ) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "infra_scripts", *map(str, arguments), "--env-file", str(env_file)]
        environment = {**surroundings, **(changes or {})}
        return subprocess.run(
            line, env=environment, input=answers, cwd=ROOT, check=False, capture_output=True, text=True, timeout=120
        )

    return call


@pytest.fixture(scope="session")
def aws_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a moto server with aws_server.py's additions."""
    directory = tmp_path_factory.mktemp("aws")
    port = free_port()
    url = f"http://{HOST}:{port}"
    process = Process(
        [sys.executable, "-P", SERVER, "-H", HOST, "-p", port],
        environment=clean_environment(),
        log=directory / "moto.log",
        stop=signal.SIGKILL,  # it has nothing to save, and waits for idle connections otherwise
    )
    try:
        wait_until(lambda: get_json(f"{url}/moto-api/data.json") is not None, processes=[process], seconds=180)
        yield url
    finally:
        process.stop()


@pytest.fixture
def person(aws_server: str, tmp_path: Path) -> Person:
    """Somebody with settings and an empty AWS account."""
    requests.post(f"{aws_server}/moto-api/reset", timeout=30).raise_for_status()
    somebody = Person(tmp_path, {**LOGIN, "AWS_ENDPOINT_URL": aws_server})
    somebody.write_settings()
    return somebody


@pytest.fixture
def aws(person: Person, aws_server: str) -> Iterator[AwsProxy]:
    """Stands between a person and the server, and refuses what a test says."""
    with AwsProxy(aws_server) as proxy:
        person.login["AWS_ENDPOINT_URL"] = proxy.url
        yield proxy


@pytest.fixture
def owner(person: Person, aws: AwsProxy) -> Person:
    """Somebody whose platform is deployed."""
    applied = person.says("apply", "--yes")
    assert applied.code == 0, applied.err
    return person


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No command waits between two looks at what AWS does."""
    for module in (change_set, database, stack):
        monkeypatch.setattr(module, "POLL_SECONDS", 0)
