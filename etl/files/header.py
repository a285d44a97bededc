"""Finds the columns of a company file by the names in its header, or says what is there instead. Guesses nothing."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from unicodedata import normalize

from etl.errors import SettingsError
from etl.files.rules import COLUMNS, QuarantineReason

SETTING = "MBD_COLUMN_ALIASES"
Aliases = tuple[tuple[str, tuple[str, ...]], ...]
"""Other names of some of COLUMNS, as `parse_aliases` gives them: they come before a column's own name."""

BYTES_LOOKED_AT = 10_000
"""So much of what is below the first line is enough for `find_columns`."""

_MOST_COLUMNS = 1_000  # of one file; a file may be millions of commas, each a name in memory
_USUAL_HEADER_BYTES = 1_000
_LINES_LOOKED_AT = 10  # for a header that is further down
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars", " ": "blanks"}
_LIKE = 0.5  # from here on a name is like a column's, as difflib counts
_SHOWN, _NAMES_SHOWN = 60, 3  # characters of a line, names of columns
_OPEN_INTEREST = "openint"  # the dataset's own further column, which is like 'Open'


@dataclass(frozen=True, slots=True)
class Header:
    """A usable header: its names, the position of each of COLUMNS, and the names that are none of them."""

    width: int
    positions: list[int]
    extra_columns: tuple[str, ...]


def parse_aliases(text: str) -> Aliases:
    """Read `Close=Adj Close, Date=Datum`. Raises SettingsError, which says what is wrong with it.

    A column may be there more than once: of its names the first that a file has is taken. A name with a comma is
    quoted, as in CSV.
    """
    own = {name.lower(): name for name in COLUMNS}
    aliases: dict[str, tuple[str, ...]] = {}
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise SettingsError(f"{SETTING} (or column_aliases) is not UTF-8: {text[:_SHOWN]!a}.") from error
    for pair in _pairs(text):
        if not pair.strip():
            continue
        column, equals, name = pair.partition("=")
        known = own.get(column.strip().lower())
        if not equals or not known or not name.strip():
            raise SettingsError(
                f"{SETTING} (or column_aliases) holds {pair.strip()!r}. Write 'Close=Adj Close', with one of "
                f"{', '.join(COLUMNS)} before the equals sign, and commas between pairs."
            )
        folded = _folded(name)
        if folded in own or folded in (one for names in aliases.values() for one in names):
            raise SettingsError(f"{SETTING} (or column_aliases) gives the name {name.strip()!r} to two columns.")
        aliases[known] = (*aliases.get(known, ()), folded)
    return tuple(aliases.items())


def _pairs(text: str) -> list[str]:
    """What is between commas or in a line of its own."""
    try:
        return next(csv.reader([re.sub(r"\r\n|\n|\r", ",", text)], skipinitialspace=True), [])
    except csv.Error as error:
        raise SettingsError(
            f"{SETTING} (or column_aliases) cannot be read ({error}). Write 'Close=Adj Close', commas between pairs."
        ) from error


def find_columns(head: bytes, *, number: int, below: bytes, aliases: Aliases) -> Header | str:
    """The columns by the file's first line, or why it has no usable header.

    `number`: the line's own, from 1, as blank lines may be before it; `below`: the bytes behind it.
    """
    find = _find_cached if len(head) <= _USUAL_HEADER_BYTES else _find
    found = find(head, aliases)
    return found if found is not None else _what_is_there(head.decode(), number=number, below=below, aliases=aliases)


def _find(head: bytes, aliases: Aliases) -> Header | str | None:
    """The columns, or what is wrong with the header; None where columns are missing."""
    if head.count(b",") >= _MOST_COLUMNS:
        return QuarantineReason.TOO_MANY_COLUMNS.format(limit=_MOST_COLUMNS)
    try:
        names = _cells(head.decode("utf-8"))
    except UnicodeDecodeError:
        return QuarantineReason.NOT_CSV
    found = [_folded(name) for name in names]
    spelled = [next((name for name in own if name in found), "") for own in _wanted(aliases)]
    if not all(spelled):
        return None
    twice = [column for column, name in zip(COLUMNS, spelled, strict=True) if found.count(name) > 1]
    if twice:
        return QuarantineReason.COLUMN_TWICE.format(columns=", ".join(twice))
    positions = [found.index(name) for name in spelled]
    return Header(len(names), positions, tuple(name for at, name in enumerate(names) if at not in positions))


_find_cached = lru_cache(maxsize=64)(_find)  # nearly all files of a batch have the same header


def _wanted(aliases: Aliases) -> list[tuple[str, ...]]:
    """For each of COLUMNS, the names that it may have, the first before the others."""
    given = dict(aliases)
    return [(*given.get(column, ()), column.lower()) for column in COLUMNS]


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error:  # broken quoting
        return []


def _folded(name: str) -> str:
    """As names are compared: case and blanks around do not matter, nor does the Unicode form."""
    return normalize("NFC", name.strip()).lower()


def _what_is_there(line: str, *, number: int, below: bytes, aliases: Aliases) -> str:
    """Why columns are missing, by what the file has in their place."""
    names, wanted = _cells(line), dict(zip(COLUMNS, map(set, _wanted(aliases)), strict=True))
    shown, known = line[:_SHOWN], {name for own in wanted.values() for name in own}
    missing = [column for column in COLUMNS if not wanted[column].intersection(map(_folded, names))]
    others = [column for column in COLUMNS if column not in missing]
    lower = list(_lines_below(below, first=number + 1))
    if others:
        for at, cells in lower:
            column = next((column for column in missing if wanted[column] & cells), None)
            if column:
                return QuarantineReason.HEADER_OF_SEVERAL_LINES.format(
                    column=column, number=at, others=", ".join(others), first=number
                )
        extra = [
            name.strip() for name in names if _is_like_a_name(name) and _folded(name) not in known | {_OPEN_INTEREST}
        ]
        return _renamed(missing, extra) if extra else QuarantineReason.MISSING_COLUMN.format(columns=", ".join(missing))
    for separator, its_name in _SEPARATORS.items():
        between = {_folded(cell.strip("'\" ")) for cell in line.split(separator)}
        if sum(bool(own & between) for own in wanted.values()) > 1:
            return QuarantineReason.OTHER_SEPARATOR.format(separator=its_name, line=shown)
    for at, cells in lower:
        if all(own & cells for own in wanted.values()):
            return QuarantineReason.HEADER_BELOW.format(line=shown, number=at)
    if len(names) >= len(COLUMNS) and all(map(_is_like_a_name, names)):
        return QuarantineReason.OTHER_NAMES.format(columns=",".join(COLUMNS), line=shown, setting=SETTING)
    return QuarantineReason.NO_HEADER.format(line=shown, columns=",".join(COLUMNS))


def _is_like_a_name(text: str) -> bool:
    """Begins with a letter and has no digit nor a sign of JSON, HTML and the like: no value, no other kind of file."""
    return text.isprintable() and re.fullmatch(r"[^\W\d_][^\d{}\[\]<>\"=:;]*", text.strip()) is not None


def _renamed(missing: list[str], extra: list[str]) -> str:
    """Names of the file that may be those of missing columns: those that are like them, or else the first few."""
    likeness = {(column, name): _likeness(column, name) for column in missing for name in extra}
    column, name = max(likeness, key=lambda pair: likeness[pair])
    alike = [one for one in extra if any(likeness[other, one] >= _LIKE for other in missing)]
    pair = f'"{column}={name}"' if "," in name else f"{column}={name}"
    can_be_copied = len(name) <= _SHOWN and "\\" not in repr(pair)
    return QuarantineReason.RENAMED_COLUMN.format(
        columns=", ".join(missing),
        others=", ".join(repr(one[:_SHOWN]) for one in (alike or extra)[:_NAMES_SHOWN]),
        setting=f"{SETTING}={pair!r}" if can_be_copied else SETTING,
    )


def _likeness(column: str, name: str) -> float:
    """0 to 1; the best of the words of a name, so that 'Closing price' is like 'Close'."""
    whole = _folded(name)[:_SHOWN]
    return max(SequenceMatcher(None, column.lower(), word).ratio() for word in (whole, *whole.split()))


def _lines_below(below: bytes, *, first: int) -> Iterator[tuple[int, set[str]]]:
    """The next lines, each with its number and its cells."""
    text = below[:BYTES_LOOKED_AT].decode("utf-8", errors="replace")
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text)[:_LINES_LOOKED_AT], start=first):
        yield number, {_folded(cell) for cell in _cells(line)}
