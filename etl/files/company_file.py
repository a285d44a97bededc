"""Checks one company file, `wex.us.csv`: finds its columns and sorts its rows into accepted and rejected ones."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from etl.files.arrow_values import float_array, string_array
from etl.files.plain_rows import Checked, check_columns, count_plain_rows
from etl.files.rules import COLUMNS, QuarantineReason, RejectedRow, Rows, check_row, rejected_duplicates

_LINE_END = re.compile(r"\r\n|\n|\r")
_MOST_COLUMNS = 1_000  # of one file; a file may be millions of commas, each a name in memory
_MOST_REJECTED = 10_000  # rows of one file; a company's forty years of trading days are no more
_MOST_REPEATED = 10 * _MOST_REJECTED  # rows of days that the file has had already: it may be there ten times over


@dataclass(frozen=True)
class CompanyFile:
    """A checked company file: `read` rows were looked at, each of them is in `rows` or in `rejected`."""

    read: int
    rows: Rows
    rejected: tuple[RejectedRow, ...] = ()
    before_since: int = 0
    """Rows older than `since`: not part of the batch, so neither read nor rejected."""
    extra_columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class UnusableFile:
    """A company file that cannot be used at all; of its rows, those in `rejected` alone count as read."""

    reason: str
    rejected: tuple[RejectedRow, ...] = ()

    @property
    def read(self) -> int:
        return len(self.rejected)


def parse_company_file(content: bytes, *, since: date | None = None) -> CompanyFile | UnusableFile:
    """Check a company file. Nothing in it raises: what cannot be used is an UnusableFile or a RejectedRow.

    Columns are found by their header in any order and case. Rules of a row: the day is an ISO date that exists; prices
    and volume are finite decimal numbers, not negative; the volume is whole; no field is over 56 characters; a day
    occurs once (of identical rows the first is kept, of conflicting ones none).
    """
    return parse_company_files([content], since=since)[0]


def parse_company_files(contents: Sequence[bytes], *, since: date | None = None) -> list[CompanyFile | UnusableFile]:
    """Check some company files, each as parse_company_file does; together, plain ones take a third less time."""
    opened = [_open(content) for content in contents]
    groups: dict[tuple[int, ...], list[int]] = {}
    bodies: dict[int, tuple[bytes, int]] = {}
    for number, one in enumerate(opened):
        if isinstance(one, _Opened) and (count := count_plain_rows(one.body)):
            groups.setdefault((one.width, *one.positions), []).append(number)
            bodies[number] = one.body, count
    checked: dict[int, Checked] = {}
    for (width, *positions), numbers in groups.items():
        plain = [bodies[number] for number in numbers]
        together = check_columns(plain, width=width, positions=positions, since=since)
        if together is None and len(plain) > 1:  # one of them needs a closer look: find out which
            for number, body in zip(numbers, plain, strict=True):
                alone = check_columns([body], width=width, positions=positions, since=since)
                checked |= {number: alone[0]} if alone else {}
        checked |= dict(zip(numbers, together, strict=True)) if together else {}
    return [
        one if isinstance(one, UnusableFile) else _summary(one, checked.get(number) or _check_rows(one, since=since))
        for number, one in enumerate(opened)
    ]


_WANTED = {name.lower() for name in COLUMNS}


@dataclass(frozen=True)
class _Opened:
    """A company file with a usable header: the position of each of COLUMNS, and the `body` behind the header."""

    content: bytes
    body: bytes
    width: int
    positions: list[int]
    extra_columns: tuple[str, ...]


def _open(content: bytes) -> _Opened | UnusableFile:
    content = content.removeprefix(b"\xef\xbb\xbf")
    if not content.strip():
        return UnusableFile(QuarantineReason.BLANK if content else QuarantineReason.EMPTY)
    head, start = _header_line(content)
    columns = _find_columns(head)
    if isinstance(columns, str):
        return UnusableFile(columns)
    names, positions = columns
    extra = tuple(name for name in names if name.strip().lower() not in _WANTED)
    return _Opened(content, content[start:], len(names), positions, extra)


def _summary(opened: _Opened, checked: Checked | UnusableFile) -> CompanyFile | UnusableFile:
    if isinstance(checked, UnusableFile):
        return checked
    read, rows, rejected, before_since = checked
    if read + before_since == 0:
        return UnusableFile(QuarantineReason.NO_ROWS)
    if rejected and len(rows.open) == 0:
        first = rejected[0]
        reason = QuarantineReason.NO_USABLE_ROW.format(read=read, line=first.line, reason=first.reason)
        return UnusableFile(reason, rejected)
    return CompanyFile(read, rows, rejected, before_since, opened.extra_columns)


def _header_line(content: bytes) -> tuple[bytes, int]:
    """The first line that is not blank, and where the line after it starts."""
    start = len(content) - len(content.lstrip())
    end = re.search(rb"\r\n|\n|\r", content[start:])
    stop = start + end.start() if end else len(content)
    return content[start:stop], start + end.end() if end else len(content)


def _find_columns(head: bytes) -> tuple[list[str], list[int]] | str:
    """The header's names and the position of each of COLUMNS, or why the file has no usable header."""
    if head.count(b",") >= _MOST_COLUMNS:
        return QuarantineReason.TOO_MANY_COLUMNS.format(limit=_MOST_COLUMNS)
    try:
        line = head.decode("utf-8")
    except UnicodeDecodeError:
        return QuarantineReason.NOT_CSV
    try:
        names = next(csv.reader([line], strict=True), [])
    except csv.Error:  # broken quoting
        names = []
    found = [name.strip().lower() for name in names]
    missing = [name for name in COLUMNS if name.lower() not in found]
    if len(missing) == len(COLUMNS):
        return QuarantineReason.NO_HEADER.format(line=line[:60], columns=",".join(COLUMNS))
    if missing:
        return QuarantineReason.MISSING_COLUMN.format(columns=", ".join(missing))
    twice = [name for name in COLUMNS if found.count(name.lower()) > 1]
    if twice:
        return QuarantineReason.COLUMN_TWICE.format(columns=", ".join(twice))
    return names, [found.index(name.lower()) for name in COLUMNS]


def _check_rows(opened: _Opened, *, since: date | None) -> Checked | UnusableFile:
    """Check row by row: slower, and exact about line, column and reason."""
    content = opened.content
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        return UnusableFile(QuarantineReason.NOT_UTF_8.format(position=error.start, byte=content[error.start]))
    read = before_since = repeated = 0
    given_up_at: int | None = None
    rejected: list[RejectedRow] = []
    accepted: dict[str, list[tuple[int, tuple[str, ...]]]] = {}
    for line, row in _data_lines(text):
        checked = check_row(line, row, width=opened.width, positions=opened.positions, since=since)
        if checked is None:
            before_since += 1
            continue
        read += 1
        if isinstance(checked, RejectedRow):
            rejected.append(checked)
        else:
            group = accepted.setdefault(checked[0], [])
            group.append((line, checked))
            repeated += len(group) > 1
        if len(rejected) >= _MOST_REJECTED or repeated >= _MOST_REPEATED:
            given_up_at = line
            break
    kept: list[tuple[int, tuple[str, ...]]] = []
    for day, group in accepted.items():
        duplicates = rejected_duplicates(day, group)
        rejected += duplicates
        if len(duplicates) < len(group):
            kept.append(group[0])
    kept.sort()
    rejected.sort(key=lambda row: row.line)
    if given_up_at is not None:
        reason = QuarantineReason.TOO_MANY_REJECTED.format(count=len(rejected), line=given_up_at)
        return UnusableFile(reason, tuple(rejected))
    columns = [[fields[position] for _, fields in kept] for position in range(len(COLUMNS))]
    rows = Rows(tuple(map(string_array, columns)), *(float_array(map(float, column)) for column in columns[1:5]))
    return read, rows, tuple(rejected), before_since


def _data_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines behind the header that are not blank, with their number."""
    lines = ((number, line) for number, line in enumerate(_lines(text), start=1) if line.strip())
    next(lines)
    return lines


def _lines(text: str) -> Iterator[str]:
    """One at a time: a file may be millions of short lines."""
    start = 0
    for end in _LINE_END.finditer(text):
        yield text[start : end.start()]
        start = end.end()
    yield text[start:]
