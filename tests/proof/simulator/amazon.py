"""Answers the trigger's calls of the AWS CLI from memory, and gives S3 two forms: a folder, or a moto server."""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import subprocess
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import format_datetime
from fnmatch import translate
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import boto3
import requests

import etl

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from tests.proof.simulator.clock import Clock

SOURCE = "de-mbd-predict-ada-lovelace-s3-source"
MONITORED = "de-mbd-predict-ada-lovelace-monitored-bucket"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:de-mbd-predict-ada-lovelace-SNS"
INSTANCE = "i-0123456789abcdef0"
PASSWORD_PARAMETER = "/de-mbd-predict-ada-lovelace/airflow/trigger-password"
KEPT_EVENTS = "https://sqs.eu-west-1.amazonaws.com/123456789012/kept-events"
_BOOT_SECONDS = 90.0


class Bucket(Protocol):
    """The source bucket."""

    def keys(self, prefix: str) -> list[str]: ...
    def read(self, key: str) -> bytes | None: ...
    def write(self, key: str, content: bytes) -> None: ...
    def remove(self, key: str) -> None: ...


@dataclass(frozen=True)
class FolderBucket:
    """A folder in the place of a bucket: keys are paths."""

    root: Path

    def keys(self, prefix: str) -> list[str]:
        try:
            names = os.listdir(f"{self.root}/{prefix}")  # asked for a hundred times a day: no Path
        except FileNotFoundError:
            return []
        return sorted(prefix + name for name in names if not name.endswith(".partial"))

    def read(self, key: str) -> bytes | None:
        try:
            with open(f"{self.root}/{key}", "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def write(self, key: str, content: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def remove(self, key: str) -> None:
        (self.root / key).unlink(missing_ok=True)


@dataclass(frozen=True)
class MotoBucket:
    """A bucket of a moto server."""

    s3: S3Client
    aws: etl.Aws
    name: str = SOURCE

    @classmethod
    def fresh(cls, url: str) -> MotoBucket:
        """The server is emptied for it."""
        requests.post(f"{url}/moto-api/reset", timeout=30).raise_for_status()
        session = boto3.Session("testing", "testing", region_name="eu-west-1")
        s3 = session.client("s3", endpoint_url=url)
        s3.create_bucket(Bucket=SOURCE, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        return cls(s3, etl.Aws(session=session, endpoint_url=url))

    def keys(self, prefix: str) -> list[str]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def read(self, key: str) -> bytes | None:
        try:
            return self.s3.get_object(Bucket=self.name, Key=key)["Body"].read()
        except self.s3.exceptions.NoSuchKey:
            return None

    def write(self, key: str, content: bytes) -> None:
        self.s3.put_object(Bucket=self.name, Key=key, Body=content)

    def remove(self, key: str) -> None:
        self.s3.delete_object(Bucket=self.name, Key=key)


@dataclass(eq=False)
class Put:
    """One put of a marker: what S3 knows of it, and what became of its event."""

    key: str
    at: datetime
    number: int
    is_lost: bool = False
    """S3 never sends its event."""
    run_ids: set[str] = field(default_factory=set)
    """Of the runs that its event started, by the trigger's word."""

    @cached_property
    def listed_at(self) -> datetime:
        return self.at.replace(microsecond=0)

    @cached_property
    def listed_text(self) -> str:
        return self.listed_at.isoformat()

    @property
    def finished_at(self) -> datetime:
        """When the put ended: S3 dates the object by its beginning, and the event by its end."""
        return self.at + timedelta(seconds=0.7)

    def event(self) -> dict[str, Any]:
        entry = {"key": _form_encoded(self.key), "eTag": "d41d8cd98f00b204e9800998ecf8427e", "size": 0}
        record = {
            "eventName": "ObjectCreated:Put",
            "eventTime": self.finished_at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
            "s3": {"bucket": {"name": MONITORED}, "object": {**entry, "sequencer": f"{self.number:016X}"}},
        }
        return {"Records": [record]}


def _form_encoded(key: str) -> str:
    """As S3 encodes keys in events, not by the library that the trigger decodes with."""
    return "".join(
        sign if sign.isascii() and (sign.isalnum() or sign in "-_.*/") else "+" if sign == " " else _percent(sign)
        for sign in key
    )


def _percent(sign: str) -> str:
    return "".join(f"%{byte:02X}" for byte in sign.encode())


class Instance:
    """The EC2 instance that Airflow runs on."""

    def __init__(self, clock: Clock, *, started: Callable[[], object], stopped: Callable[[], object]) -> None:
        self._clock, self._started, self._stopped = clock, started, stopped
        self.state = "running"

    def stop(self) -> None:
        """From now on nothing runs on it; it is stopped half a minute later."""
        if self.state == "running":
            self.state = "stopping"
            self._stopped()
            self._clock.after(30, lambda: self._become("stopped", only_from="stopping"))

    def start(self) -> None:
        if self.state == "stopped":
            self.state = "pending"
            self._clock.after(20, lambda: self._become("running", only_from="pending"))
            self._clock.after(_BOOT_SECONDS, self._booted)

    def _become(self, state: str, *, only_from: str) -> None:
        if self.state == only_from:
            self.state = state

    def _booted(self) -> None:
        if self.state == "running":
            self._started()


class RefusedError(Exception):
    """AWS refuses or fails."""

    def __init__(self, code: str, operation: str, text: str) -> None:
        super().__init__(f"An error occurred ({code}) when calling the {operation} operation: {text}")


class Outside(Protocol):
    """How a call leaves its process: see `World.outside`."""

    def __call__(self, service: str, what: str, act: Callable[[], Any], *, refuse: Callable[[], Any]) -> Any: ...  # noqa: ANN401  whatever `act` gives


class _File(io.StringIO):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


class Amazon:
    """What the trigger's functions see of AWS."""

    def __init__(
        self,
        clock: Clock,
        *,
        source: Bucket,
        instance: Instance,
        outside: Outside,
        publish: Callable[[str, str], object],
    ) -> None:
        self._clock, self._source, self._instance, self._outside = clock, source, instance, outside
        self._publish = publish
        self.puts: dict[str, Put] = {}
        """The last put of each key of the monitored bucket."""
        self.kept: list[str] = []
        """Bodies of kept events."""
        self.password = ""
        self._files: dict[str, _File] = {}
        self._numbers = itertools.count()

    @contextmanager
    def file(self, mode: str, suffix: str) -> Iterator[_File]:
        """In the place of tempfile.NamedTemporaryFile, for the parameters of a call."""
        assert mode == "w"
        given = _File(f"{next(self._numbers)}{suffix}")
        self._files[given.name] = given
        try:
            yield given
        finally:
            del self._files[given.name]

    def run(self, command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[bytes]:  # noqa: ANN401
        """In the place of subprocess.run, for `python -m awscli ...`."""
        service, operation, *rest = command[3:]
        name = f"aws {service} {operation}"
        answer: bytes | dict[str, Any]
        try:
            place = {"s3": "storage", "s3api": "storage", "sns": "sns"}.get(service, "aws")
            answer = self._outside(
                place,
                name,
                lambda: self._answer(service, operation, rest, given=options.get("input")),
                refuse=lambda: _fail(operation),
            )
        except RefusedError as error:
            return subprocess.CompletedProcess(command, 254, b"", str(error).encode())
        output = answer if isinstance(answer, bytes) else json.dumps(answer).encode() if answer else b""
        return subprocess.CompletedProcess(command, 0, output, b"")

    def _answer(self, service: str, operation: str, rest: list[str], *, given: bytes | None) -> bytes | dict[str, Any]:
        asked: dict[str, Any] = {}
        if rest and rest[0] == "--cli-input-json":
            asked = json.loads(self._files[rest[1].removeprefix("file://")].getvalue())
        match service, operation:
            case "s3", "cp":
                return self._copy(*rest, given=given)
            case "s3", _:
                raise NotImplementedError(operation)
            case "s3api", "list-objects-v2":
                return {"Contents": list(self._list(asked))}
            case "s3api", "head-object":
                return self._head(asked)
            case "s3api", "delete-object":
                self._source.remove(asked["Key"])
            case "sns", "publish":
                self._publish(asked["Subject"], asked["Message"])
            case "sqs", "send-message":
                self.kept.append(asked["MessageBody"])
            case "sqs", "receive-message":
                if self.kept:
                    return {"Messages": [{"Body": self.kept[0], "ReceiptHandle": self.kept[0]}]}
            case "sqs", "delete-message":
                self.kept.remove(asked["ReceiptHandle"])
            case "sqs", "change-message-visibility":
                pass
            case "sqs", "get-queue-attributes":
                return {"Attributes": dict.fromkeys(asked["AttributeNames"], "0")}
            case "ssm", "get-parameter":
                return {"Parameter": {"Value": self.password}}
            case "ec2", "describe-instances":
                return {"Reservations": [{"Instances": [{"State": {"Name": self._instance.state}}]}]}
            case "ec2", "start-instances":
                self._instance.start()
            case "ec2", "wait":
                self._wait(rest[0].removeprefix("instance-"))
            case _:
                raise NotImplementedError(f"{service} {operation}")
        return {}

    def _list(self, asked: dict[str, Any]) -> Iterator[dict[str, str]]:
        if asked["Bucket"] == MONITORED:
            for key, put in sorted(self.puts.items()):
                yield {"Key": key, "LastModified": put.listed_text}
            return
        keys, now = self._source.keys(asked.get("Prefix", "")), self._clock.now.isoformat()
        for key in keys[bisect_right(keys, asked.get("StartAfter", "")) :]:
            yield {"Key": key, "LastModified": now}

    def _head(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["Bucket"] == MONITORED:
            put = self.puts.get(asked["Key"])
            if put is None:
                raise RefusedError("404", "HeadObject", "Not Found")
            return {"LastModified": format_datetime(put.listed_at, usegmt=True), "ETag": '"d41d8cd98f00b204"'}
        if self._source.read(asked["Key"]) is None:
            raise RefusedError("404", "HeadObject", "Not Found")
        return {"LastModified": format_datetime(self._clock.now, usegmt=True), "ETag": '"0"'}

    def _copy(self, origin: str, target: str, *options: str, given: bytes | None) -> bytes:
        if "--recursive" in options:
            wanted = [pattern for word, pattern in pairwise(options) if word == "--include"]
            return self._copy_folder(origin.removeprefix(f"s3://{SOURCE}/"), Path(target), wanted)
        if origin == "-":
            self._source.write(target.removeprefix(f"s3://{SOURCE}/"), given or b"")
            return b""
        content = self._source.read(origin.removeprefix(f"s3://{SOURCE}/"))
        if content is None:
            raise RefusedError("404", "HeadObject", "Key does not exist")
        return content

    def _copy_folder(self, prefix: str, target: Path, wanted: Sequence[str]) -> bytes:
        is_wanted = re.compile("|".join(map(translate, wanted))).match
        for key in self._source.keys(prefix):
            name = key.removeprefix(prefix)
            if is_wanted(name) and (content := self._source.read(key)):
                (target / name).write_bytes(content)
        return b""

    def _wait(self, state: str) -> None:
        """As the CLI's waiter: looks every 15 seconds."""
        for _ in range(40):
            if self._instance.state == state:
                return
            self._clock.sleep(15)
        raise RefusedError("Unavailable", "DescribeInstances", "Max attempts exceeded")


def _fail(operation: str) -> None:
    raise RefusedError("ServiceUnavailable", operation.title().replace("-", ""), "Please reduce your request rate")
