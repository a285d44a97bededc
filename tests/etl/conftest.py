"""PostgreSQL and AWS stand-ins, started once; for each test a database as new, a bucket of its own, a small batch."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import botocore.session
import pytest

import etl
from etl.cli import main
from etl.table.schema import make_tables
from tests.support.aws_places import Bucket, Clients, Topic
from tests.support.batch_files import Files, days_of
from tests.support.commands import Answer, Command
from tests.support.database import Database, autocommit, emptied
from tests.support.moto import MotoServer
from tests.support.paths import SAMPLE
from tests.support.postgres import PostgresServer
from tests.support.s3_proxy import S3Proxy

if TYPE_CHECKING:
    pass


# --- servers, once a session -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def stack_directory() -> Iterator[Path]:
    """Not pytest's own: another session of pytest takes the way into that from the account that PostgreSQL runs as."""
    directory = Path(tempfile.mkdtemp(prefix="etl-integration-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(stack_directory: Path) -> Iterator[PostgresServer]:
    with PostgresServer(stack_directory / "postgres", databases=("stocks", "empty")) as server:
        with autocommit(server.url("postgres")) as connection, connection.cursor() as cursor:
            cursor.execute("ALTER SYSTEM SET fsync = off")
            cursor.execute("SELECT pg_reload_conf()")
        yield server


@pytest.fixture(scope="session")
def moto_server(stack_directory: Path) -> Iterator[MotoServer]:
    with MotoServer(stack_directory / "moto") as server:
        yield server


@pytest.fixture(autouse=True)
def _quiet_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing of this machine's settings reaches a test, and no handler of a test outlives it.

    But MBD_NATIVE does: all tests hold with the native checker and without.
    """
    for name in list(os.environ):
        if name.startswith(("MBD_", "AWS_", "PG")) and name != "MBD_NATIVE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test's files need not survive a power cut, as its server's need not: nothing waits for the disk."""
    monkeypatch.setattr(os, "fsync", lambda opened: None)


# --- the database ------------------------------------------------------------------------------------------------


@pytest.fixture
def empty_database(postgres_server: PostgresServer) -> Database:
    """A database without our tables."""
    return emptied(Database(postgres_server.url("empty"), postgres_server, "empty"))


@pytest.fixture
def database(postgres_server: PostgresServer) -> Database:
    """A database after init-db."""
    fresh = emptied(Database(postgres_server.url("stocks"), postgres_server, "stocks"))
    make_tables(fresh.url)
    return fresh


# --- a batch in folders ------------------------------------------------------------------------------------------


@pytest.fixture
def make_files(tmp_path: Path) -> Callable[[str], Files]:
    """Makes empty folders for a batch."""

    return lambda name: Files(tmp_path / name).made()


@pytest.fixture
def days() -> Callable[..., list[str]]:
    """Makes rows: `count` days in a row from 2001-01-01 on, the same for the same arguments."""
    return days_of


@pytest.fixture
def three(make_files: Callable[[str], Files], days: Callable[..., list[str]]) -> Files:
    """Three companies, of 5, 10 and 20 rows."""
    files = make_files("three")
    files.put("aa.us.csv", days(5, price=10))
    files.put("bb.us.csv", days(10, price=20))
    files.put("cc.us.csv", days(20, price=30))
    files.name("aa.us.csv", "bb.us.csv", "cc.us.csv")
    return files


@pytest.fixture
def sample(make_files: Callable[[str], Files]) -> Files:
    """A copy of tests/data/sample: 40 companies, 5 of them of 0 bytes, 76,653 rows less the headers."""
    files = make_files("sample")
    shutil.copytree(SAMPLE / "Stocks", files.source, dirs_exist_ok=True)
    shutil.copytree(SAMPLE / "CompanyNames", files.index.parent, dirs_exist_ok=True)
    return files


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses before another attempt, cut short; how many there are stays."""
    # The module, which the function of the same name hides in the package.
    monkeypatch.setattr(sys.modules["etl.table.load"], "_PAUSES_SECONDS", (0.05, 0.1, 0.1))


# --- the command line --------------------------------------------------------------------------------------------


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """`python -m etl ...` in this process."""

    def call(*arguments: object) -> Answer:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Answer(code, printed.out, printed.err)

    return call


# --- AWS ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def new_session() -> Callable[[], boto3.Session]:
    """Makes sessions that share nothing but the descriptions of AWS, which take long to read."""
    loader = botocore.session.get_session().get_component("data_loader")

    def make() -> boto3.Session:
        core = botocore.session.get_session()
        core.register_component("data_loader", loader)
        core.set_credentials("testing", "testing")
        return boto3.Session(botocore_session=core, region_name="eu-west-1")

    return make


@pytest.fixture(scope="session")
def clients(moto_server: MotoServer, new_session: Callable[[], boto3.Session]) -> Clients:
    session, url = new_session(), moto_server.url
    return Clients(
        session.client("s3", endpoint_url=url),
        session.client("sns", endpoint_url=url),
        session.client("sqs", endpoint_url=url),
    )


@pytest.fixture
def aws(moto_server: MotoServer, new_session: Callable[[], boto3.Session]) -> etl.Aws:
    """The moto server, as etl is given it."""
    return etl.Aws(session=new_session(), endpoint_url=moto_server.url)


@pytest.fixture
def bucket(moto_server: MotoServer, clients: Clients, new_session: Callable[[], boto3.Session]) -> Bucket:
    name = f"de-mbd-test-{uuid.uuid4().hex[:12]}"
    clients.s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return Bucket(name, clients.s3, new_session(), moto_server.url)


@pytest.fixture
def proxy(moto_server: MotoServer) -> Iterator[S3Proxy]:
    with S3Proxy(moto_server.url) as proxy:
        yield proxy


@pytest.fixture
def proxied(bucket: Bucket, proxy: S3Proxy) -> Bucket:
    """The bucket, which etl sees through the proxy and the test itself does not."""
    return replace(bucket, endpoint_url=proxy.url)


@pytest.fixture
def hurried_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses of boto3 before another attempt, cut short; how many there are stays."""
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.01)


@pytest.fixture
def topic(clients: Clients) -> Topic:
    name = f"test-{uuid.uuid4().hex[:12]}"
    arn = clients.sns.create_topic(Name=name)["TopicArn"]
    queue = clients.sqs.create_queue(QueueName=name)["QueueUrl"]
    queue_arn = clients.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    clients.sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue_arn)
    return Topic(arn, queue, clients)


@pytest.fixture
def aws_environment(moto_server: MotoServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment that points etl's commands at the moto server."""
    for name, value in moto_server.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def closed_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
