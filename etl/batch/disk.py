"""Makes folders and puts names of files onto the disk, so that they survive a power cut."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import BinaryIO

_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EACCES)  # the file system cannot do that for a folder, or we may not
_MUCH_BYTES = 4 << 20


def make_folder(folder: Path, *, lasting: bool = True) -> None:
    """Make a folder and those above it, where they are not there. One that is not `lasting` may go by a power cut."""
    if not folder.is_dir():
        make_folder(folder.parent, lasting=lasting)
        folder.mkdir(exist_ok=True)
        if lasting:
            sync_names(folder.parent)


def sync_names(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where that can be done."""
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise


def begin_sync(file: BinaryIO, *, since: int) -> int:
    """Let the disk begin with what was written to a file since this byte, where that is much; nothing waits for it.

    Returns the byte up to which it has begun. What an fsync then waits for at the end is the rest.
    """
    end = os.fstat(file.fileno()).st_size
    if end - since < _MUCH_BYTES or not hasattr(os, "posix_fadvise"):
        return since
    os.posix_fadvise(file.fileno(), since, end - since, os.POSIX_FADV_DONTNEED)  # Linux starts to write what is dirty
    return end


def is_at(path: Path, file: BinaryIO) -> bool:
    """Whether an open file is the one that has this path now."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
