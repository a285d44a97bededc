"""Reads and writes objects under an S3 prefix: whole ones, byte ranges, and streamed multipart uploads.

Long because everything that differs between S3 and a folder is here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import obstore
from botocore.exceptions import ClientError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.exceptions import BaseError, PreconditionError
from obstore.store import S3Store

from etl.batch.aws import CONCURRENT_REQUESTS, Aws, aws_errors, code_of, field_of, file_refused, is_denied
from etl.batch.s3_upload import CHANGED, Upload
from etl.batch.storage import BLOCK_BYTES, Listed, Storage, Writer
from etl.errors import FileChangedError, SettingsError
from etl.threads import is_limited

if TYPE_CHECKING:
    from obstore import GetOptions

_NOT_FOR_OBSTORE = {"", ".", ".."}  # parts of a key that it drops or refuses, as if a key were a path
_BODY_ATTEMPTS = 3  # botocore retries a request, but not a body that breaks off
_CREDENTIALS_ASKED_AGAIN_AFTER = timedelta(minutes=1)  # boto3 renews those of a role in time


def open_s3_prefix(bucket: str, *, prefix: str, aws: Aws) -> Storage:
    """The objects of `bucket` under `prefix`. Sends no request: the first use shows whether there is such a bucket."""
    return S3Prefix(aws, bucket=bucket, prefix=prefix.removesuffix("/") + "/" if prefix else "")


class S3Prefix:
    """The objects of a bucket whose keys begin with `prefix`."""

    def __init__(self, aws: Aws, *, bucket: str, prefix: str) -> None:
        self._s3, self._bucket, self._prefix = aws.s3, bucket, prefix
        self._objects = _objects(aws, bucket)
        self.url = f"s3://{bucket}/{prefix}"
        self.concurrency = CONCURRENT_REQUESTS

    def listing(self) -> dict[str, Listed]:
        files: dict[str, Listed] = {}
        with aws_errors(f"list {self.url}"):
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix, Delimiter="/"
            )
            for page in pages:
                field_of(page, "Name")
                for entry in page.get("Contents", []):
                    if name := entry["Key"].removeprefix(self._prefix):  # none: the empty object that is the folder
                        files[name] = Listed(version=entry["ETag"], size_bytes=entry["Size"])
        return files

    def find(self, name: str) -> Listed:
        """By a LIST: a HEAD's refusal has neither code nor words, and asks for rights on the whole bucket."""
        key = self._prefix + name
        with aws_errors(f"look for {self.url_of(name)}"):
            answer = self._s3.list_objects_v2(Bucket=self._bucket, Prefix=key, MaxKeys=1)
            field_of(answer, "Name")
        for entry in answer.get("Contents", []):
            if entry["Key"] == key:
                return Listed(version=entry["ETag"], size_bytes=entry["Size"])
        raise FileChangedError(name)

    def read(self, name: str, *, version: str | None = None) -> bytes:
        return self._get(name, version=version)

    def read_range(self, name: str, *, start: int, length: int, version: str | None = None) -> Iterator[bytes]:
        for first in range(start, start + length, BLOCK_BYTES):
            behind = min(first + BLOCK_BYTES, start + length)
            block = self._get(name, version=version, span=(first, behind))
            if len(block) != behind - first:
                raise FileChangedError(name)
            yield block

    def write(self, name: str, *, lasting: bool = True) -> AbstractContextManager[Writer]:  # noqa: ARG002  all last
        return Upload(self._s3, bucket=self._bucket, name=name, place=self)

    def remove(self, beginning: str, *, unfinished: bool = False) -> None:
        place = self._prefix + beginning
        if unfinished:
            self.abort_uploads(place)
        with aws_errors(f"remove s3://{self._bucket}/{place}"):
            for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=place):
                found = [entry["Key"] for entry in page.get("Contents", [])]
                keys = [{"Key": key} for key in found if "/" in key[len(place) - 1 :]]  # a file may only begin so
                if keys:
                    answer = self._s3.delete_objects(Bucket=self._bucket, Delete={"Objects": keys, "Quiet": True})  # type: ignore[typeddict-item]
                    if errors := answer.get("Errors"):
                        raise ClientError({"Error": errors[0]}, "DeleteObjects")

    def remove_unfinished(self, names: str) -> None:
        """Nothing: an object of one request is whole or not there, and of a larger one the next upload ends the old."""

    def abort_uploads(self, prefix: str, *, exactly: bool = False, kept: str = "") -> None:
        """End the unfinished uploads of all keys with this prefix, or of `exactly` this key; but not the one `kept`."""
        with aws_errors(f"clear unfinished uploads of s3://{self._bucket}/{prefix}"):
            for uploads in self._s3.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=prefix
            ):
                for upload in uploads.get("Uploads", []):
                    key = upload["Key"]
                    if (key == prefix or not exactly) and upload["UploadId"] != kept:
                        self._abort(key, upload["UploadId"])

    def _abort(self, key: str, upload_id: str) -> None:
        try:
            self._s3.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload_id)
        except ClientError as error:
            if code_of(error) != "NoSuchUpload":  # it has ended by itself since it was listed
                raise

    def url_of(self, name: str) -> str:
        return self.url + name

    def key_of(self, name: str) -> str:
        return self._prefix + name

    def _get(self, name: str, *, version: str | None = None, span: tuple[int, int] | None = None) -> bytes:
        """An object, or `span` (first byte, one behind the last) of it, as of `version`.

        Read by obstore, at a quarter of the processor time that botocore takes; what obstore does not get is asked of
        boto3, whose retries and errors are the ones that count.
        """
        options: GetOptions = {}
        if version is not None:
            options["if_match"] = version
        if span is not None:
            options["range"] = span
        key = self._prefix + name
        if self._objects is not None and _is_safe() and not _NOT_FOR_OBSTORE.intersection(key.split("/")):
            try:
                return obstore.get(self._objects, key, options=options).bytes().to_bytes()
            except PreconditionError as error:
                raise FileChangedError(name) from error
            except (BaseError, OSError, ValueError):
                pass  # also a 404: boto3 distinguishes a missing object from a missing bucket
        return self._get_by_boto3(name, version=version, span=span)

    def _get_by_boto3(self, name: str, *, version: str | None, span: tuple[int, int] | None) -> bytes:
        condition = {} if version is None else {"IfMatch": version}
        if span is not None:
            condition["Range"] = f"bytes={span[0]}-{span[1] - 1}"
        action = f"read {self.url_of(name)}"
        with aws_errors(action):
            for attempt in range(_BODY_ATTEMPTS):
                try:
                    answer = self._s3.get_object(Bucket=self._bucket, Key=self._prefix + name, **condition)  # type: ignore[arg-type]
                    return answer["Body"].read()
                except ClientError as error:
                    if code_of(error) in CHANGED:
                        raise FileChangedError(name) from error
                    if is_denied(error) and version is None:
                        with suppress(SettingsError):
                            self.find(name)  # raises FileChangedError where it is just not there
                    if refused := file_refused(error, action):
                        raise refused from error
                    raise
                except (ResponseStreamingError, IncompleteReadError, ReadTimeoutError):
                    if attempt + 1 == _BODY_ATTEMPTS:
                        raise
        raise AssertionError("unreachable")


_first_reader: list[int] = []


def _is_safe() -> bool:
    """Whether obstore may read here.

    Its threads do not outlive a fork: a child of a process that has read with it would wait for ever. And where memory
    is limited, it ends the process when that runs out.
    """
    if not _first_reader:
        _first_reader.append(os.getpid())
    return _first_reader == [os.getpid()] and not is_limited()


def _objects(aws: Aws, bucket: str) -> S3Store | None:
    """The bucket for obstore, as boto3 sees it: same endpoint, region and credentials, no retries of its own.

    obstore also reads AWS_ names of its own from the environment, which boto3 does not know: those that could lead it
    elsewhere are set here, and None is returned when it cannot make sense of another, or boto3 has no credentials.
    """
    try:
        return S3Store(
            bucket,
            endpoint=aws.s3.meta.endpoint_url,
            aws_endpoint_url_s3=aws.s3.meta.endpoint_url,
            region=aws.s3.meta.region_name,
            credential_provider=Boto3CredentialProvider(aws.own_session, ttl=_CREDENTIALS_ASKED_AGAIN_AFTER),
            skip_signature=False,
            virtual_hosted_style_request=False,
            s3_express=False,
            client_options={"allow_http": True, "connect_timeout": "10s", "timeout": "60s"},
            retry_config={"max_retries": 0},
        )
    except (BaseError, ValueError, TypeError):
        return None
