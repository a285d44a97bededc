"""Writes one object to S3: whole, or in parts of which some are copied from other objects."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import suppress
from itertools import pairwise
from types import TracebackType
from typing import TYPE_CHECKING, Self

from botocore.exceptions import ClientError

from etl.batch.aws import CONCURRENT_REQUESTS, aws_errors, code_of, field_of
from etl.batch.storage import BLOCK_BYTES
from etl.errors import EtlError, FileChangedError
from etl.threads import Pool

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from etl.batch.s3 import S3Prefix

CHANGED = {"PreconditionFailed", "412", "NoSuchKey", "404", "InvalidRange"}
"""How S3 says that an object is not there, or not the one that was meant."""

_LEAST_PART_BYTES = 5 << 20  # S3 takes no smaller part of a multipart upload but the last
_COPIED_PART_BYTES = 16 << 20


class Upload:
    """A multipart upload, one part on its way while the next is filled; a small file is put whole."""

    def __init__(self, s3: S3Client, *, bucket: str, name: str, place: S3Prefix) -> None:
        self._s3, self._bucket, self._key, self._place = s3, bucket, place.key_of(name), place
        self._content_type = "text/html; charset=utf-8" if name.endswith(".html") else "binary/octet-stream"
        self.version = ""
        self._buffer = bytearray()
        self._upload_id: str | None = None
        self._parts: list[tuple[Pool, Future[str]]] = []
        self._sent: list[Future[str]] = []  # those of the parts that take memory
        self._pools: dict[str, Pool] = {}

    def __enter__(self) -> Self:
        return self

    def write(self, content: bytes) -> None:
        self._buffer += content
        while len(self._buffer) >= BLOCK_BYTES:
            self._send(bytes(self._buffer[:BLOCK_BYTES]))
            del self._buffer[:BLOCK_BYTES]

    def append(self, name: str, *, start: int = 0, length: int, version: str | None = None) -> None:
        """S3 copies what is long enough for parts; the head that fills up the last part, and a short file, are read."""
        head = min(length, max(0, _LEAST_PART_BYTES - len(self._buffer))) if self._buffer else 0
        if length - head <= _LEAST_PART_BYTES:
            head = length
        for block in self._place.read_range(name, start=start, length=head, version=version):
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
            self._copy(name, start=begin, stop=stop, version=version)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._complete()
                self._upload_id = None
        finally:
            for pool in self._pools.values():
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
            sender = self._pool("upload", 1)
            if len(self._sent) > 1:
                sender.result_of(self._sent[-2])  # at most two parts wait in memory
            self._sent.append(sender.submit(self._send_part, part, number, upload_id))
            self._parts.append((sender, self._sent[-1]))

    def _copy(self, name: str, *, start: int, stop: int, version: str | None) -> None:
        with aws_errors(f"write {self._url}"):
            number, upload_id = self._next_part()
            copier = self._pool("copy", CONCURRENT_REQUESTS)
            self._parts.append(
                (copier, copier.submit(self._copy_part, name, (start, stop), version, number, upload_id))
            )

    def _pool(self, name: str, threads: int) -> Pool:
        if name not in self._pools:
            self._pools[name] = Pool(threads, name=name)
        return self._pools[name]

    def _next_part(self) -> tuple[int, str]:
        if self._upload_id is None:
            self._place.abort_uploads(self._key, exactly=True)  # what a killed writer left
            answer = self._s3.create_multipart_upload(
                Bucket=self._bucket, Key=self._key, ContentType=self._content_type
            )
            self._upload_id = str(field_of(answer, "UploadId"))
            if answer["ResponseMetadata"].get("RetryAttempts"):  # S3 may have begun one of which no answer came
                self._place.abort_uploads(self._key, exactly=True, kept=self._upload_id)
        return len(self._parts) + 1, self._upload_id

    def _send_part(self, part: bytes, number: int, upload_id: str) -> str:
        answer = self._s3.upload_part(
            Bucket=self._bucket, Key=self._key, Body=part, PartNumber=number, UploadId=upload_id
        )
        return str(field_of(answer, "ETag"))

    def _copy_part(self, name: str, span: tuple[int, int], version: str | None, number: int, upload_id: str) -> str:
        condition = {} if version is None else {"CopySourceIfMatch": version}
        try:
            answer = self._s3.upload_part_copy(
                Bucket=self._bucket,
                Key=self._key,
                CopySource={"Bucket": self._bucket, "Key": self._place.key_of(name)},
                CopySourceRange=f"bytes={span[0]}-{span[1] - 1}",
                PartNumber=number,
                UploadId=upload_id,
                **condition,  # type: ignore[arg-type]
            )
        except ClientError as error:
            if code_of(error) in CHANGED:
                raise FileChangedError(name) from error
            raise
        return str(field_of(field_of(answer, "CopyPartResult"), "ETag"))

    def _complete(self) -> None:
        if self._upload_id is None:
            with aws_errors(f"write {self._url}"):
                answer = self._s3.put_object(
                    Bucket=self._bucket, Key=self._key, Body=bytes(self._buffer), ContentType=self._content_type
                )
                self.version = str(field_of(answer, "ETag"))
            return
        if self._buffer:
            self._send(bytes(self._buffer))
        with aws_errors(f"write {self._url}"):
            tags = [pool.result_of(part) for pool, part in self._parts]
            parts = [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, start=1)]
            done = self._s3.complete_multipart_upload(
                Bucket=self._bucket,
                Key=self._key,
                UploadId=self._upload_id,
                MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]
            )
            self.version = str(field_of(done, "ETag"))
