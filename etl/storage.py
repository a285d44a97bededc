"""Places that hold files: a folder or `s3://bucket/prefix` goes in, something that lists, reads and writes comes out.

A written file appears under its name only when it is whole: in a folder by a rename, in S3 because an object is born
when its upload completes. What a killed writer left behind is cleared by the next one.
"""

from __future__ import annotations

import os
import re
from abc import abstractmethod
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from botocore.exceptions import ClientError, IncompleteReadError, ReadTimeoutError, ResponseStreamingError

from etl.aws import CONCURRENT_REQUESTS, Aws, aws_errors
from etl.errors import EtlError, SettingsError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_BLOCK_BYTES = 8 << 20  # one part of a multipart upload (S3 wants at least 5 MiB), one block of a read

_BODY_ATTEMPTS = 3  # botocore retries a request, but not a body that breaks off
_CHANGED = {"PreconditionFailed", "412", "NoSuchKey", "404", "InvalidRange"}


class FileChanged(Exception):
    """A file is no longer what was listed: it was replaced or removed meanwhile."""


@dataclass(frozen=True)
class Listed:
    """One file as listed: `version` is S3's ETag, or time and size in a folder."""

    version: str
    size_bytes: int


class Writer(Protocol):
    """A file being written; leaving its `with` block by an error leaves no file."""

    def write(self, content: bytes, /) -> object: ...


class Storage(Protocol):
    """A folder or an S3 prefix; `name` is always a plain file name or a relative path of ours."""

    url: str
    concurrency: int
    """Reads that are worth having in flight at once."""

    @abstractmethod
    def listing(self) -> dict[str, Listed]:
        """The files directly in this place, by name."""

    @abstractmethod
    def read(self, name: str, *, version: str | None = None) -> bytes:
        """A whole file. Raises FileChanged when it is not the listed `version`, or is not there."""

    @abstractmethod
    def read_range(self, name: str, *, start: int, length: int) -> Iterator[bytes]:
        """`length` bytes from `start`, in blocks. Raises FileChanged when they are not there."""

    @abstractmethod
    def write(self, name: str) -> AbstractContextManager[Writer]:
        """A new file, streamed; it replaces the old one when the block ends well."""

    @abstractmethod
    def url_of(self, name: str) -> str:
        """Where a person finds the file."""


def open_storage(url: str, *, aws: Aws | None = None, create: bool = False) -> Storage:
    """The place at `url`: `s3://bucket/prefix` or a folder, which `create` makes when it is absent.

    Raises SettingsError when the folder or the bucket does not exist, or the URL is neither.
    """
    if url.startswith("s3://"):
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
            raise SettingsError(f"{url!r} names no bucket. Write s3://bucket/prefix.")
        s3 = (aws or Aws()).s3()
        with aws_errors(f"find the bucket s3://{bucket}"):
            s3.head_bucket(Bucket=bucket)
        return _S3Prefix(s3, bucket=bucket, prefix=prefix.rstrip("/") + "/" if prefix.strip("/") else "")
    if "://" in url:
        raise SettingsError(f"{url!r} is neither a folder nor s3://bucket/prefix.")
    folder = Path(url)
    if create:
        with _file_errors(f"make the folder {url}"):
            folder.mkdir(parents=True, exist_ok=True)
    if not folder.is_dir():
        raise SettingsError(f"No such folder: {url}")
    return _Folder(folder)


def read_file(url: str, *, aws: Aws | None = None) -> bytes:
    """One file by its path or `s3://` URL. Raises SettingsError when it is not there."""
    place, _, name = url.rpartition("/")
    if not name:
        raise SettingsError(f"{url!r} names a folder; a file was expected.")
    try:
        return open_storage(place or ("/" if url.startswith("/") else "."), aws=aws).read(name)
    except FileChanged as error:
        raise SettingsError(f"No such file: {url}") from error


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = str(folder)
        self.concurrency = os.cpu_count() or 1

    def listing(self) -> dict[str, Listed]:
        with _file_errors(f"list {self._folder}"), os.scandir(self._folder) as entries:
            return {entry.name: _listed(entry.stat()) for entry in entries if entry.is_file()}

    def read(self, name: str, *, version: str | None = None) -> bytes:
        with _file_errors(f"read {self._folder / name}"), (self._folder / name).open("rb") as file:
            content = file.read()
            if version is not None and _listed(os.fstat(file.fileno())).version != version:
                raise FileChanged(name)
            return content

    def read_range(self, name: str, *, start: int, length: int) -> Iterator[bytes]:
        with _file_errors(f"read {self._folder / name}"), (self._folder / name).open("rb") as file:
            file.seek(start)
            while length:
                block = file.read(min(length, _BLOCK_BYTES))
                if not block:
                    raise FileChanged(name)
                length -= len(block)
                yield block

    @contextmanager
    def write(self, name: str) -> Iterator[Writer]:
        path = self._folder / name
        partial = path.with_name(path.name + ".partial")
        with _file_errors(f"write {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with partial.open("wb") as file:
                    yield file
                partial.replace(path)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise

    def url_of(self, name: str) -> str:
        return str(self._folder / name)


def _listed(stat: os.stat_result) -> Listed:
    return Listed(version=f"{stat.st_mtime_ns}-{stat.st_size}", size_bytes=stat.st_size)


@contextmanager
def _file_errors(action: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise FileChanged(str(error.filename)) from error
    except OSError as error:
        raise SettingsError(f"Cannot {action}: {error.strerror}.") from error


class _S3Prefix:
    def __init__(self, s3: S3Client, *, bucket: str, prefix: str) -> None:
        self._s3, self._bucket, self._prefix = s3, bucket, prefix
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
                    name = entry["Key"].removeprefix(self._prefix)
                    files[name] = Listed(version=entry["ETag"], size_bytes=entry["Size"])
        return files

    def read(self, name: str, *, version: str | None = None) -> bytes:
        return self._get(name, **({} if version is None else {"IfMatch": version}))

    def read_range(self, name: str, *, start: int, length: int) -> Iterator[bytes]:
        for first in range(start, start + length, _BLOCK_BYTES):
            last = min(first + _BLOCK_BYTES, start + length) - 1
            block = self._get(name, Range=f"bytes={first}-{last}")
            if len(block) != last - first + 1:
                raise FileChanged(name)
            yield block

    def write(self, name: str) -> AbstractContextManager[Writer]:
        return _Upload(self._s3, bucket=self._bucket, key=self._prefix + name)

    def url_of(self, name: str) -> str:
        return self.url + name

    def _get(self, name: str, **condition: str) -> bytes:
        with aws_errors(f"read {self.url_of(name)}"):
            for attempt in range(_BODY_ATTEMPTS):
                try:
                    answer = self._s3.get_object(Bucket=self._bucket, Key=self._prefix + name, **condition)  # type: ignore[arg-type]
                    return answer["Body"].read()
                except ClientError as error:
                    if error.response["Error"]["Code"] in _CHANGED:
                        raise FileChanged(name) from error
                    raise
                except (ResponseStreamingError, IncompleteReadError, ReadTimeoutError):
                    if attempt + 1 == _BODY_ATTEMPTS:
                        raise
        raise AssertionError("unreachable")


class _Upload:
    """A multipart upload, one part on its way while the next is filled; a small file is put whole."""

    def __init__(self, s3: S3Client, *, bucket: str, key: str) -> None:
        self._s3, self._bucket, self._key = s3, bucket, key
        self._buffer = bytearray()
        self._upload_id: str | None = None
        self._parts: list[Future[str]] = []
        self._sender = ThreadPoolExecutor(1, thread_name_prefix="upload")

    def __enter__(self) -> Self:
        with aws_errors(f"clear unfinished uploads of {self._url}"):
            stale = self._s3.list_multipart_uploads(Bucket=self._bucket, Prefix=self._key).get("Uploads", [])
            for upload in stale:
                if upload["Key"] == self._key:
                    self._s3.abort_multipart_upload(Bucket=self._bucket, Key=self._key, UploadId=upload["UploadId"])
        return self

    def write(self, content: bytes) -> None:
        self._buffer += content
        while len(self._buffer) >= _BLOCK_BYTES:
            self._send(bytes(self._buffer[:_BLOCK_BYTES]))
            del self._buffer[:_BLOCK_BYTES]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._complete()
                self._upload_id = None
        finally:
            self._sender.shutdown(wait=True, cancel_futures=True)
            if self._upload_id:
                with suppress(EtlError), aws_errors(f"give up {self._url}"):  # the next writer clears what is left
                    self._s3.abort_multipart_upload(Bucket=self._bucket, Key=self._key, UploadId=self._upload_id)

    @property
    def _url(self) -> str:
        return f"s3://{self._bucket}/{self._key}"

    def _send(self, part: bytes) -> None:
        with aws_errors(f"write {self._url}"):
            if self._upload_id is None:
                self._upload_id = self._s3.create_multipart_upload(Bucket=self._bucket, Key=self._key)["UploadId"]
            if len(self._parts) > 1:
                self._parts[-2].result()  # at most two parts wait in memory
            number = len(self._parts) + 1
            self._parts.append(self._sender.submit(self._send_part, part, number, self._upload_id))

    def _send_part(self, part: bytes, number: int, upload_id: str) -> str:
        return self._s3.upload_part(
            Bucket=self._bucket, Key=self._key, Body=part, PartNumber=number, UploadId=upload_id
        )["ETag"]

    def _complete(self) -> None:
        if self._upload_id is None:
            with aws_errors(f"write {self._url}"):
                self._s3.put_object(Bucket=self._bucket, Key=self._key, Body=bytes(self._buffer))
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
