"""Lists, reads and writes files in a folder or under `s3://bucket/prefix`.

A written file appears under its name only when it is whole: in a folder by a rename, in S3 because an object is born
when its upload completes. What a killed writer left behind is removed by the next one. In a folder, a file that lasts
is on the disk before it gets its name, and its name is before the next file is written (docs/contracts.md, power cuts).

Long because what any place promises and how a folder keeps it are here; s3.py has the other place.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from etl.batch.aws import Aws
from etl.batch.disk import begin_sync, is_at, make_folder, sync_names
from etl.errors import FileChangedError, FileRefusedError, ServiceError, SettingsError

BLOCK_BYTES = 8 << 20  # one piece of a multipart upload (S3 wants at least 5 MiB), one request of a read in S3
_READ_BYTES = 1 << 18  # one block of a read in a folder: fresh memory for one of megabytes costs more than reading it
_PARTIAL = ".partial"  # a file of a folder is called so until it is whole


@dataclass(frozen=True)
class Listed:
    """One file as listed: `version` is S3's ETag, or time and size in a folder."""

    version: str
    size_bytes: int
    stored_as: str = ""
    """The file's own name, where it is not the company name: packed, or in another Unicode form."""


class Writer(Protocol):
    """A file being written; leaving its `with` block by an error leaves no file."""

    version: str
    """Of the file as it was written, once the block has ended well, whoever has replaced it since."""

    def write(self, content: bytes, /) -> object: ...

    def append(self, name: str, *, start: int = 0, length: int, version: str | None = None) -> None:
        """`length` bytes of a file of the same place, also of the last version of the one that is being written.

        Raises FileChangedError, here or at the end of the block, when they are not there, or not of this `version`.
        """


class Storage(Protocol):
    """A folder or an S3 prefix; `name` is always a plain file name or a relative path of ours."""

    url: str
    concurrency: int
    """Reads that are worth having in flight at once."""

    @abstractmethod
    def listing(self) -> dict[str, Listed]:
        """The files directly in this place, by name."""

    @abstractmethod
    def find(self, name: str) -> Listed:
        """One file as it is now. Raises FileChangedError when it is not there."""

    @abstractmethod
    def read(self, name: str, *, version: str | None = None) -> bytes:
        """A whole file. Raises FileChangedError when it is not the listed `version`, or is not there.

        Raises FileRefusedError where it is there, and this file cannot be read although others may be.
        """

    @abstractmethod
    def read_range(self, name: str, *, start: int, length: int, version: str | None = None) -> Iterator[bytes]:
        """`length` bytes from `start`, in blocks.

        Raises FileChangedError when they are not there, or not of this `version`.
        """

    @abstractmethod
    def write(self, name: str, *, lasting: bool = True) -> AbstractContextManager[Writer]:
        """A new file, streamed; it replaces the old one when the block ends well.

        After a power cut, one that is not `lasting` may be gone, empty or incomplete.
        """

    @abstractmethod
    def remove(self, beginning: str, *, unfinished: bool = False) -> None:
        """The folders whose path begins so, with all that is in them; `unfinished` files too.

        `work/run-` means the folders of all runs, `work/run-7/` that of one. None need be there.
        """

    @abstractmethod
    def remove_unfinished(self, names: str) -> None:
        """What killed writers have left of files of ours: of one, or of `receipts/*`, which need not be there."""

    @abstractmethod
    def url_of(self, name: str) -> str:
        """Where a person finds the file."""


def open_storage(url: str, *, aws: Aws | None = None, create: bool = False) -> Storage:
    """The place at `url`: `s3://bucket/prefix` or a folder, which `create` makes when it is absent.

    Raises SettingsError when the folder or the bucket does not exist, or the URL is neither.
    """
    check_url(url)
    if url.startswith("s3://"):
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
            raise SettingsError(f"{url!r} names no bucket. Write s3://bucket/prefix.")
        from etl.batch.s3 import open_s3_prefix  # noqa: PLC0415  boto3 costs a run on folders 0.3 s that it does not need

        return open_s3_prefix(bucket, prefix=prefix, aws=aws or Aws())
    if "://" in url or not url:
        raise SettingsError(f"{url!r} is neither a folder nor s3://bucket/prefix.")
    folder = Path(url)
    if create:
        try:
            with _file_errors(f"make the folder {url}"):
                make_folder(folder)
        except FileChangedError as error:  # although those above it are there: /proc takes none
            raise SettingsError(f"Cannot make the folder {url}: no folder can be made there.") from error
    try:
        is_folder = folder.is_dir()
    except OSError as error:  # no right to look, or a name that no file system takes
        raise SettingsError(f"Cannot find the folder {url}: {error.strerror}.") from error
    if not is_folder:
        raise SettingsError(f"No such folder: {url}")
    return _Folder(folder)


def full_url(url: str) -> str:
    """The place as it is recorded: a folder from the root on, as the next command may be called from another folder."""
    if not url or "://" in url:
        return url
    try:
        return str(Path(url).absolute())
    except OSError:  # the folder that a relative path begins at is gone
        return url


def check_url(url: str) -> None:
    """Raise SettingsError for a path that is not UTF-8, and for a key that begins with a slash or cannot be printed.

    Clients of S3 disagree about the slash: one drops it, another sends it. Outputs, receipts and mails are UTF-8.
    """
    try:
        url.encode()
    except UnicodeEncodeError as error:
        raise SettingsError(f"The path {url!a} is not UTF-8. Rename the folder, or name it by another.") from error
    if not url.startswith("s3://"):
        return
    _, _, key = url.removeprefix("s3://").partition("/")
    if key.startswith("/"):
        raise SettingsError(
            f"The key of {url!r} begins with a slash, which clients of S3 read in different ways. Remove it."
        )
    if not key.isprintable():
        raise SettingsError(f"The key of {url!r} has a sign that cannot be printed. Write it without.")


def read_file(url: str, *, aws: Aws | None = None) -> bytes:
    """One file by its path or `s3://` URL. Raises SettingsError when it is not there."""
    check_url(url)
    place, _, name = url.rpartition("/")
    if not name or place == "s3:/":
        raise SettingsError(f"{url!r} names a folder; a file was expected.")
    try:
        folder = f"{place}/" if place or url.startswith("/") else "."  # the slash keeps one before it, which S3 counts
        return open_storage(folder, aws=aws).read(name)
    except FileChangedError as error:
        raise SettingsError(f"No such file: {url}") from error


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = full_url(str(folder))
        self.concurrency = 1  # a local disk answers at once

    def listing(self) -> dict[str, Listed]:
        try:
            with _file_errors(f"list {self._folder}"), os.scandir(self._folder) as entries:
                return {entry.name: listed for entry in entries if (listed := _listed_entry(entry)) is not None}
        except FileChangedError as error:
            raise SettingsError(f"No such folder: {self._folder}") from error

    def find(self, name: str) -> Listed:
        with _file_errors(f"look for {self._folder / name}"):
            return _listed((self._folder / name).stat())

    def read(self, name: str, *, version: str | None = None) -> bytes:
        with _file_errors(f"read {self._folder / name}"), (self._folder / name).open("rb") as file:
            _check_version(file, version)  # before it is read: what was listed is known not to be too large
            content = file.read() if version is None else file.read(os.fstat(file.fileno()).st_size)
            _check_version(file, version)
            return content

    def read_range(self, name: str, *, start: int, length: int, version: str | None = None) -> Iterator[bytes]:
        with _file_errors(f"read {self._folder / name}"), (self._folder / name).open("rb") as file:
            _check_version(file, version)
            file.seek(start)
            while length:
                block = file.read(min(length, _READ_BYTES))
                if not block:
                    raise FileChangedError(name)
                length -= len(block)
                yield block

    def write(self, name: str, *, lasting: bool = True) -> AbstractContextManager[Writer]:
        return _PartialFile(self, name, lasting=lasting)

    def remove(self, beginning: str, *, unfinished: bool = False) -> None:  # noqa: ARG002  they are files too
        cut = beginning.rstrip("/").rfind("/") + 1
        parent = self._folder / beginning[:cut]
        with suppress(FileChangedError), _file_errors(f"remove {self._folder / beginning}"):
            for path in [*parent.iterdir()] if parent.is_dir() else []:
                if f"{path.name}/".startswith(beginning[cut:]) and path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
        if parent != self._folder:  # which is not ours to remove, also where it is empty
            with suppress(OSError):  # others are in it, or it is not there
                parent.rmdir()

    def remove_unfinished(self, names: str) -> None:
        for partial in self._folder.glob(names + _PARTIAL):
            with suppress(OSError), partial.open("ab") as file:  # it is gone by now, or not ours to remove
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody is writing it
                if is_at(partial, file):
                    partial.unlink()

    def url_of(self, name: str) -> str:
        return str(Path(self.url) / name)


class _PartialFile:
    """A file under another name until it is whole; locked, so that two runs cannot write it at once."""

    def __init__(self, folder: _Folder, name: str, *, lasting: bool) -> None:
        self._folder, self._path, self._lasting = folder, Path(folder.url_of(name)), lasting
        self._partial = self._path.with_name(self._path.name + _PARTIAL)
        self._begun, self.version = 0, ""

    def __enter__(self) -> Self:
        with _file_errors(f"write {self._path}"):
            make_folder(self._path.parent, lasting=self._lasting)
            self._file = self._partial.open("ab")
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # goes with the process, however that ends
                # Between opening and locking, another run may have finished: then this is its whole file.
                if not is_at(self._partial, self._file):
                    raise self._taken()
                self._file.truncate(0)  # what a killed writer left
            except BaseException as error:
                self._file.close()  # and unlock it: this run may write the file again, as its receipt
                if isinstance(error, BlockingIOError):
                    raise self._taken() from error
                raise
        return self

    def _taken(self) -> ServiceError:
        return ServiceError(f"Another run is writing {self._path}. Try again when it is done.")

    def write(self, content: bytes) -> None:
        with _file_errors(f"write {self._path}"):
            self._file.write(content)
            self._begun = begin_sync(self._file, since=self._begun) if self._lasting else 0

    def append(self, name: str, *, start: int = 0, length: int, version: str | None = None) -> None:
        for block in self._folder.read_range(name, start=start, length=length, version=version):
            self.write(block)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with _file_errors(f"write {self._path}"), self._file:
            try:
                if kind is None:
                    self._file.flush()
                    if self._lasting:
                        os.fsync(self._file.fileno())
                    self.version = _version_of(self._file)
                    self._partial.replace(self._path)
            except BaseException:
                kind = OSError
                raise
            finally:
                if kind is not None:
                    self._partial.unlink()
            if kind is None and self._lasting:
                sync_names(self._path.parent)


def _listed_entry(entry: os.DirEntry[str]) -> Listed | None:
    """A file of a folder; None for a folder, and for what went while it was listed or leads nowhere."""
    try:
        return _listed(entry.stat()) if entry.is_file() else None
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return None
        raise


def _version_of(file: BinaryIO) -> str:
    return _listed(os.fstat(file.fileno())).version


def _check_version(file: BinaryIO, version: str | None) -> None:
    if version is not None and _version_of(file) != version:
        raise FileChangedError(file.name)


def _listed(stat: os.stat_result) -> Listed:
    return Listed(version=f"{stat.st_mtime_ns}-{stat.st_size}", size_bytes=stat.st_size)


_OF_ONE_FILE = {errno.EACCES, errno.EPERM, errno.EIO, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.ENOTDIR}


@contextmanager
def _file_errors(action: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise FileChangedError(str(error.filename)) from error
    except OSError as error:
        if error.errno in (errno.ENOMEM, errno.EAGAIN):
            raise
        message = f"Cannot {action}: {error.strerror}."
        if error.errno in _OF_ONE_FILE:
            raise FileRefusedError(message, reason=str(error.strerror)) from error
        raise SettingsError(message) from error
