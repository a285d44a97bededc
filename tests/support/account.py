"""AWS as one test of a command sees it: a moto server with the two buckets."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import boto3
import requests

from tests.support.moto import MotoServer
from tests.support.paths import SAMPLE

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_ssm import SSMClient

SOURCE_BUCKET = "de-mbd-predict-ada-lovelace-s3-source"
MONITORED_BUCKET = "de-mbd-predict-ada-lovelace-monitored-bucket"


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


class RunCommand(Protocol):
    def __call__(
        self, *arguments: object, changes: Mapping[str, str] | None = None, answers: str = ""
    ) -> subprocess.CompletedProcess[str]: ...
