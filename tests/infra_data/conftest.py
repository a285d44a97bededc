"""A moto server for the tests of commands and scripts, emptied for each test, and the environment of a person at it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import boto3
import pytest
import requests

from tests.local_stack import MotoServer

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_ssm import SSMClient

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "tests" / "data" / "sample"
SOURCE_BUCKET = "de-mbd-predict-ada-lovelace-s3-source"
MONITORED_BUCKET = "de-mbd-predict-ada-lovelace-monitored-bucket"


@pytest.fixture(scope="session")
def moto_server() -> Iterator[MotoServer]:
    directory = Path(tempfile.mkdtemp(prefix="infra-data-"))
    with MotoServer(directory) as server:
        yield server
    shutil.rmtree(directory, ignore_errors=True)


@dataclass(frozen=True)
class Account:
    """AWS as one test sees it: empty at first but for the two buckets."""

    server: MotoServer
    s3: S3Client
    ssm: SSMClient
    secrets: SecretsManagerClient

    @property
    def url(self) -> str:
        return self.server.url

    def keys(self, prefix: str = "", *, bucket: str = SOURCE_BUCKET) -> set[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return {entry["Key"] for page in pages for entry in page.get("Contents", [])}

    def get(self, key: str) -> bytes:
        return self.s3.get_object(Bucket=SOURCE_BUCKET, Key=key)["Body"].read()

    def put(self, key: str, content: bytes) -> None:
        self.s3.put_object(Bucket=SOURCE_BUCKET, Key=key, Body=content)

    def put_sample(self) -> None:
        for file in (*SAMPLE.glob("Stocks/*"), *SAMPLE.glob("CompanyNames/*")):
            self.put(file.relative_to(SAMPLE).as_posix(), file.read_bytes())

    def reader_login(self) -> dict[str, str]:
        """Who may look at S3, and nothing more."""
        iam = boto3.client(
            "iam", aws_access_key_id="testing", aws_secret_access_key="testing", region_name="eu-west-1",
            endpoint_url=self.url,
        )  # fmt: skip
        iam.create_user(UserName="reader")
        statement = {"Effect": "Allow", "Action": ["s3:Get*", "s3:List*"], "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=policy)
        key = iam.create_access_key(UserName="reader")["AccessKey"]
        return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}

    def check_logins(self, *, from_now_on: bool) -> None:
        """Let moto refuse every login that it does not know, `testing` among them, or take them all."""
        answer = requests.post(f"{self.url}/moto-api/reset-auth", data=b"0" if from_now_on else b"inf", timeout=10)
        answer.raise_for_status()


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


class RunCommand(Protocol):
    def __call__(
        self, *arguments: object, changes: Mapping[str, str] | None = None, answers: str = ""
    ) -> subprocess.CompletedProcess[str]: ...


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
