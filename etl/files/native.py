"""Checks plain company files by the native checker, where it was built: plain_rows.cpp, called through ctypes.

hatch_build.py compiles it while the package is built. Without it everything works, by the row rules in Python.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent
_LIBRARY, _SOURCE = _FOLDER / "_plain_rows.so", _FOLDER / "plain_rows.cpp"
_OTHER_COLUMN = 0xFF
_SHORTEST_ROW = 20  # bytes: a day, five numbers of one digit, five commas
_MORE_IN_A_ROW = 52  # bytes of a row of the slice besides those of its source and the company: plain_rows.cpp
_LOOK_CLOSER = -2
MOST_SUSPECTS = 64  # plain_rows.cpp


@dataclass(frozen=True, slots=True)
class Checked:
    """A plain company file whose rows were all accepted: `read` of them, besides those before `since`."""

    content: bytes
    """The slice: what format_rows gives for the same rows."""
    read: int
    before_since: int
    suspects: Sequence[int]
    """Rows of the slice, from 0, that look wrong by themselves or whose price jumps (flags.py); all, where many do."""

    @classmethod
    def of(cls, content: bytes, counts: ctypes.Array[ctypes.c_int64]) -> Checked:
        """What the library found, by what it counted."""
        read, before_since, suspects = counts[:3]
        numbers = tuple(counts[3 : 3 + suspects]) if suspects <= MOST_SUSPECTS else range(read)
        return cls(content, read, before_since, numbers)


def check_plain(
    body: bytes, *, width: int, positions: Sequence[int], company_name: str, since: date | None = None
) -> Checked | None:
    """Check what follows a header of `width` columns; `positions`: where each of COLUMNS is. Releases the GIL.

    None: this file needs a closer look by the row rules, or there is no native checker. Nothing was done then.
    """
    library = _usable()
    if isinstance(library, str):
        return None
    columns = bytearray([_OTHER_COLUMN]) * width
    for number, position in enumerate(positions):
        columns[position] = number
    name = company_name.encode()
    lines = min(library.mbd_count_lines(body, len(body)), len(body) // _SHORTEST_ROW) + 1  # most may be empty
    capacity = len(body) + lines * (len(name) + _MORE_IN_A_ROW)
    out = bytearray(capacity)
    counts = (ctypes.c_int64 * (3 + MOST_SUSPECTS))()
    first_day = since.year * 10000 + since.month * 100 + since.day if since else 0
    place = ctypes.byref(ctypes.c_char.from_buffer(out))
    length = library.mbd_check_plain(
        body, len(body), bytes(columns), width, first_day, name, len(name), place, capacity, counts
    )
    if length == _LOOK_CLOSER:
        return None
    if length < 0:
        raise AssertionError(f"the native checker has no room in {capacity} bytes for {len(body)}")
    with memoryview(out) as written:
        return Checked.of(bytes(written[:length]), counts)


def count_lines(content: bytes) -> int:
    """How many line feeds there are."""
    library = _usable()
    if isinstance(library, str):
        return content.count(b"\n")
    lines: int = library.mbd_count_lines(content, len(content))
    return lines


def available() -> bool:
    """Whether plain files are checked by the native checker; not where MBD_NATIVE=off."""
    return not isinstance(_usable(), str)


def describe() -> str:
    """One line for people: whether there is a native checker, and how to get it."""
    usable = _usable()
    return f"native checker: no, {usable}" if isinstance(usable, str) else "native checker: yes"


def load(path: Path) -> ctypes.CDLL:
    """The library at `path`. Raises OSError when it is none for this machine, AttributeError when it is another."""
    library = ctypes.CDLL(str(path))
    library.mbd_source.restype = ctypes.c_char_p
    check = library.mbd_check_plain
    size, text = ctypes.c_int64, ctypes.c_char_p
    check.restype = library.mbd_count_lines.restype = size
    library.mbd_count_lines.argtypes = (text, size)
    check.argtypes = [
        *(text, size),  # body
        *(text, ctypes.c_int32),  # columns
        ctypes.c_int32,  # since
        *(text, size),  # name
        *(ctypes.c_void_p, size),  # out
        ctypes.POINTER(size),  # counts
    ]
    return library


def _usable() -> ctypes.CDLL | str:
    """The library, or why it is not used and what to do."""
    return "MBD_NATIVE=off is set" if os.environ.get("MBD_NATIVE") == "off" else _loaded()


@cache
def _loaded() -> ctypes.CDLL | str:
    if not _LIBRARY.exists():
        return (
            "so checking takes longer: no C++ compiler was there when etl was installed. Install one "
            "(Debian, Ubuntu: apt install g++; macOS: xcode-select --install), then etl again (make -B setup)."
        )
    again = "Install etl again (make -B setup)."
    try:
        library = load(_LIBRARY)
        source: bytes = library.mbd_source()
    except (OSError, AttributeError) as error:
        return f"its library cannot be loaded ({error}). {again}"
    if source.decode() != hashlib.sha256(_SOURCE.read_bytes()).hexdigest():
        return f"its library was built from another version of {_SOURCE.name}. {again}"
    return library
