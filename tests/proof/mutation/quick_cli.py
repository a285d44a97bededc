"""The AWS CLI as the trigger calls it, answered by boto3 in this process: a call takes milliseconds, no second.

It takes the place of `subprocess` in trigger/aws_cli.py. What the CLI itself does, tests/trigger/integration tests.
"""

from __future__ import annotations

import json
import subprocess
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError


class QuickCli:
    """What trigger/aws_cli.py uses of the module `subprocess`."""

    DEVNULL = subprocess.DEVNULL
    TimeoutExpired = subprocess.TimeoutExpired

    def __init__(self) -> None:
        session = botocore.session.get_session()
        session.set_credentials("testing", "testing")
        self._session = boto3.Session(botocore_session=session, region_name="eu-west-1")
        for service in ("s3", "sns", "ssm", "ec2", "sqs"):  # reads AWS's descriptions, for all children
            self._client(service, "http://127.0.0.1:9")

    def run(self, command: list[str], *, input: bytes | None = None, **_: object) -> subprocess.CompletedProcess[bytes]:
        """`PYTHON -m awscli [--endpoint-url URL] ...`, with its exit code, standard output and standard error."""
        words = command[3:]
        url = words[1] if words[0] == "--endpoint-url" else None
        words = words[2:] if url else words
        try:
            answer = self._copy(words, url, input) if words[:2] == ["s3", "cp"] else self._call(words, url)
        except ClientError as error:
            return subprocess.CompletedProcess(command, 254, b"", str(error).encode())
        except BotoCoreError as error:
            return subprocess.CompletedProcess(command, 255, b"", str(error).encode())
        return subprocess.CompletedProcess(command, 0, answer, b"")

    def _copy(self, words: list[str], url: str | None, given: bytes | None) -> bytes:
        _, _, source, target, *_ = words
        bucket, _, key = (target if source == "-" else source).removeprefix("s3://").partition("/")
        client = self._client("s3", url)
        if source == "-":
            client.put_object(Bucket=bucket, Key=key, Body=given)
            return b""
        body: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return body

    def _call(self, words: list[str], url: str | None) -> bytes:
        service, operation, option, file, *options = words
        if operation == "wait":  # ec2 wait instance-STATE --instance-ids ID
            waiter = self._client(service, url).get_waiter(option.replace("-", "_"))
            waiter.wait(InstanceIds=[options[0]], WaiterConfig={"Delay": 1})
            return b""
        client, method = self._client("s3" if service == "s3api" else service, url), operation.replace("-", "_")
        parameters = json.loads(Path(file.removeprefix("file://")).read_text())
        if operation.startswith("list-"):
            most = int(options[options.index("--max-items") + 1]) if "--max-items" in options else None
            pages = client.get_paginator(method).paginate(**parameters, PaginationConfig={"MaxItems": most})
            answer = pages.build_full_result()
        else:
            answer = getattr(client, method)(**parameters)
        headers = answer.pop("ResponseMetadata", {}).get("HTTPHeaders", {})
        if operation == "head-object":  # the CLI prints this header as it is
            answer["LastModified"] = headers["last-modified"]
        return json.dumps(answer, default=_as_text).encode() if answer else b""

    @cache  # noqa: B019  one object for the whole run
    def _client(self, service: str, url: str | None) -> Any:  # noqa: ANN401
        retries = Config(retries={"mode": "standard", "total_max_attempts": 3})
        return self._session.client(service, endpoint_url=url, config=retries)  # type: ignore[call-overload]


def _as_text(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
