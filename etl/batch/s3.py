"""Reads and writes objects under an S3 prefix: whole ones, byte ranges, and streamed multipart uploads.

Long because everything that differs between S3 and a folder is here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from itertools import pairwise
from types import TracebackType
from typing import TYPE_CHECKING, Self

import obstore
from botocore.exceptions import ClientError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError
from obstore.auth.boto3 import Boto3CredentialProvider
from obstore.exceptions import BaseError, PreconditionError
from obstore.store import S3Store

from etl.batch.aws import CONCURRENT_REQUESTS, Aws, aws_errors
from etl.batch.storage import BLOCK_BYTES, Listed, Storage, Writer
from etl.errors import EtlError, FileChangedError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from obstore import GetOptions

_LEAST_PART_BYTES = 5 << 20  # S3 takes no smaller part of a multipart upload but the last
_COPIED_PART_BYTES = 16 << 20
_BODY_ATTEMPTS = 3  # botocore retries a request, but not a body that breaks off
_CREDENTIALS_ASKED_AGAIN_AFTER = timedelta(minutes=1)  # boto3 renews those of a role in time
_CHANGED = {"PreconditionFailed", "412", "NoSuchKey", "404", "InvalidRange"}


def open_s3_prefix(bucket: str, *, prefix: str, aws: Aws) -> Storage:
    """The objects of `bucket` under `prefix`. Sends no request: the first use shows whether there is such a bucket."""
    return _S3Prefix(aws, bucket=bucket, prefix=prefix.rstrip("/") + "/" if prefix.strip("/") else "")


class _S3Prefix:
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
                for entry in page.get("Contents", []):
                    if name := entry["Key"].removeprefix(self._prefix):  # none: the empty object that is the folder
                        files[name] = Listed(version=entry["ETag"], size_bytes=entry["Size"])
        return files

    def find(self, name: str) -> Listed:
        with aws_errors(f"look for {self.url_of(name)}"):
            try:
                answer = self._s3.head_object(Bucket=self._bucket, Key=self._prefix + name)
            except ClientError as error:
                if error.response["Error"]["Code"] in _CHANGED:
                    raise FileChangedError(name) from error
                raise
        return Listed(version=answer["ETag"], size_bytes=answer["ContentLength"])

    def read(self, name: str, *, version: str | None = None) -> bytes:
        return self._get(name, version=version)

    def read_range(self, name: str, *, start: int, length: int) -> Iterator[bytes]:
        for first in range(start, start + length, BLOCK_BYTES):
            behind = min(first + BLOCK_BYTES, start + length)
            block = self._get(name, span=(first, behind))
            if len(block) != behind - first:
                raise FileChangedError(name)
            yield block

    def write(self, name: str) -> AbstractContextManager[Writer]:
        return _Upload(self._s3, bucket=self._bucket, name=name, place=self)

    def remove(self, folder: str, *, unfinished: bool = False) -> None:
        place = f"{self._prefix}{folder}/"
        if unfinished:
            self.abort_uploads(place)
        with aws_errors(f"remove s3://{self._bucket}/{place}"):
            for page in self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=place):
                keys = [{"Key": entry["Key"]} for entry in page.get("Contents", [])]
                if keys:
                    answer = self._s3.delete_objects(Bucket=self._bucket, Delete={"Objects": keys, "Quiet": True})  # type: ignore[typeddict-item]
                    if errors := answer.get("Errors"):
                        raise ClientError({"Error": {"Code": errors[0].get("Code", "")}}, "DeleteObjects")

    def remove_unfinished(self, folder: str) -> None:
        """Nothing: an object of one request is there whole or not at all."""

    def abort_uploads(self, prefix: str, *, exactly: bool = False) -> None:
        """End the unfinished uploads of all keys with this prefix, or of `exactly` this key."""
        with aws_errors(f"clear unfinished uploads of s3://{self._bucket}/{prefix}"):
            for uploads in self._s3.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=prefix
            ):
                for upload in uploads.get("Uploads", []):
                    key = upload["Key"]
                    if key == prefix or not exactly:
                        self._s3.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload["UploadId"])

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
        if self._objects is not None and _is_safe_after_fork():
            try:
                return obstore.get(self._objects, self._prefix + name, options=options).bytes().to_bytes()
            except PreconditionError as error:
                raise FileChangedError(name) from error
            except (BaseError, OSError, ValueError):
                pass  # also a 404: boto3 distinguishes a missing object from a missing bucket
        return self._get_by_boto3(name, version=version, span=span)

    def _get_by_boto3(self, name: str, *, version: str | None, span: tuple[int, int] | None) -> bytes:
        condition = {} if version is None else {"IfMatch": version}
        if span is not None:
            condition["Range"] = f"bytes={span[0]}-{span[1] - 1}"
        with aws_errors(f"read {self.url_of(name)}"):
            for attempt in range(_BODY_ATTEMPTS):
                try:
                    answer = self._s3.get_object(Bucket=self._bucket, Key=self._prefix + name, **condition)  # type: ignore[arg-type]
                    return answer["Body"].read()
                except ClientError as error:
                    if error.response["Error"]["Code"] in _CHANGED:
                        raise FileChangedError(name) from error
                    raise
                except (ResponseStreamingError, IncompleteReadError, ReadTimeoutError):
                    if attempt + 1 == _BODY_ATTEMPTS:
                        raise
        raise AssertionError("unreachable")


_first_reader: list[int] = []


def _is_safe_after_fork() -> bool:
    """obstore's threads do not outlive a fork: a child of a process that has read with it would wait for ever."""
    if not _first_reader:
        _first_reader.append(os.getpid())
    return _first_reader == [os.getpid()]


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


class _Upload:
    """A multipart upload, one part on its way while the next is filled; a small file is put whole."""

    def __init__(self, s3: S3Client, *, bucket: str, name: str, place: _S3Prefix) -> None:
        self._s3, self._bucket, self._key, self._place = s3, bucket, place.key_of(name), place
        self._content_type = "text/html; charset=utf-8" if name.endswith(".html") else "binary/octet-stream"
        self._buffer = bytearray()
        self._upload_id: str | None = None
        self._parts: list[Future[str]] = []
        self._sent: list[Future[str]] = []  # those of the parts that take memory
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="upload")
        self._copier = ThreadPoolExecutor(CONCURRENT_REQUESTS, thread_name_prefix="copy")

    def __enter__(self) -> Self:
        return self

    def write(self, content: bytes) -> None:
        self._buffer += content
        while len(self._buffer) >= BLOCK_BYTES:
            self._send(bytes(self._buffer[:BLOCK_BYTES]))
            del self._buffer[:BLOCK_BYTES]

    def append(self, name: str, *, start: int = 0, length: int) -> None:
        """S3 copies what is long enough for parts; the head that fills up the last part, and a short file, are read."""
        head = min(length, max(0, _LEAST_PART_BYTES - len(self._buffer))) if self._buffer else 0
        if length - head <= _LEAST_PART_BYTES:
            head = length
        for block in self._place.read_range(name, start=start, length=head):
            self.write(block)
        if head == length:
            return
        if self._buffer:
            self._send(bytes(self._buffer))
            self._buffer.clear()
        rest = length - head
        count = -(-rest // _COPIED_PART_BYTES)
        first = start + head
        stops = [first + rest * number // count for number in range(count + 1)]  # all alike, so that none is too small
        for begin, stop in pairwise(stops):
            self._copy(name, start=begin, stop=stop)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._complete()
                self._upload_id = None
        finally:
            for pool in (self._sender, self._copier):
                pool.shutdown(wait=True, cancel_futures=True)
            if self._upload_id:
                with suppress(EtlError), aws_errors(f"give up {self._url}"):  # the next writer clears what is left
                    self._s3.abort_multipart_upload(Bucket=self._bucket, Key=self._key, UploadId=self._upload_id)

    @property
    def _url(self) -> str:
        return f"s3://{self._bucket}/{self._key}"

    def _send(self, part: bytes) -> None:
        with aws_errors(f"write {self._url}"):
            number, upload_id = self._next_part()
            if len(self._sent) > 1:
                self._sent[-2].result()  # at most two parts wait in memory
            self._sent.append(self._sender.submit(self._send_part, part, number, upload_id))
            self._parts.append(self._sent[-1])

    def _copy(self, name: str, *, start: int, stop: int) -> None:
        with aws_errors(f"write {self._url}"):
            number, upload_id = self._next_part()
            self._parts.append(self._copier.submit(self._copy_part, name, start, stop, number, upload_id))

    def _next_part(self) -> tuple[int, str]:
        if self._upload_id is None:
            self._place.abort_uploads(self._key, exactly=True)  # what a killed writer left
            begun = self._s3.create_multipart_upload(Bucket=self._bucket, Key=self._key, ContentType=self._content_type)
            self._upload_id = begun["UploadId"]
        return len(self._parts) + 1, self._upload_id

    def _send_part(self, part: bytes, number: int, upload_id: str) -> str:
        return self._s3.upload_part(
            Bucket=self._bucket, Key=self._key, Body=part, PartNumber=number, UploadId=upload_id
        )["ETag"]

    def _copy_part(self, name: str, start: int, stop: int, number: int, upload_id: str) -> str:
        try:
            answer = self._s3.upload_part_copy(
                Bucket=self._bucket,
                Key=self._key,
                CopySource={"Bucket": self._bucket, "Key": self._place.key_of(name)},
                CopySourceRange=f"bytes={start}-{stop - 1}",
                PartNumber=number,
                UploadId=upload_id,
            )
        except ClientError as error:
            if error.response["Error"]["Code"] in _CHANGED:
                raise FileChangedError(name) from error
            raise
        return answer["CopyPartResult"]["ETag"]

    def _complete(self) -> None:
        if self._upload_id is None:
            with aws_errors(f"write {self._url}"):
                self._s3.put_object(
                    Bucket=self._bucket, Key=self._key, Body=bytes(self._buffer), ContentType=self._content_type
                )
            return
        if self._buffer:
            self._send(bytes(self._buffer))
        with aws_errors(f"write {self._url}"):
            parts = [{"PartNumber": n, "ETag": part.result()} for n, part in enumerate(self._parts, start=1)]
            self._s3.complete_multipart_upload(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=self._upload_id,
                MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
            )
