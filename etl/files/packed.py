"""Unpacks a company file that is compressed by gzip or Zstandard: known by its first bytes, not by its name."""

from __future__ import annotations

import gzip
import sys
import zlib
from contextlib import closing
from io import BytesIO
from typing import BinaryIO

from etl.errors import SettingsError
from etl.files.rules import LARGEST_FILE_BYTES, QuarantineReason

_GZIP, _ZSTANDARD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_STEP_BYTES = 1 << 20
_LARGEST_WINDOW_LOG = 24  # 16 MiB of memory, as much as a company file may have; `zstd --ultra` could ask for 2 GiB


class UnpackingError(Exception):
    """The content cannot be unpacked; its text is the reason of a quarantined file."""


def unpack(content: bytes) -> bytes:
    """The content as it was before it was compressed, or as it is. Never more than LARGEST_FILE_BYTES are unpacked.

    Raises UnpackingError for what is broken or too large, SettingsError where the library for Zstandard is missing.
    """
    if content.startswith(_GZIP):
        return _read_all(gzip.GzipFile(fileobj=BytesIO(content)), kind="gzip")  # type: ignore[arg-type]
    if content.startswith(_ZSTANDARD):
        return _unpack_zstandard(content)
    return content


def _unpack_zstandard(content: bytes) -> bytes:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd  # noqa: PLC0415  few batches need it
        else:
            from backports import zstd  # noqa: PLC0415
    except ImportError as error:
        raise SettingsError(
            "A company file is compressed by Zstandard, which needs a library. pip install backports.zstd"
        ) from error
    options = {zstd.DecompressionParameter.window_log_max: _LARGEST_WINDOW_LOG}
    try:
        return _read_all(zstd.ZstdFile(BytesIO(content), options=options), kind="Zstandard")  # type: ignore[arg-type]
    except zstd.ZstdError as error:
        raise UnpackingError(QuarantineReason.BROKEN_PACKING.format(kind="Zstandard", error=error)) from error


def _read_all(file: BinaryIO, *, kind: str) -> bytes:
    unpacked = bytearray()
    try:
        with closing(file):
            while block := file.read(_STEP_BYTES):
                unpacked += block
                if len(unpacked) > LARGEST_FILE_BYTES:
                    raise UnpackingError(QuarantineReason.UNPACKED_TOO_LARGE.format(limit_bytes=LARGEST_FILE_BYTES))
    except (EOFError, OSError, zlib.error) as error:
        raise UnpackingError(QuarantineReason.BROKEN_PACKING.format(kind=kind, error=error)) from error
    return bytes(unpacked)
