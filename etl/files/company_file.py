"""Checks one company file, `wex.us.csv`: finds its columns, sorts accepted and rejected rows, makes its slice."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import chain, islice, pairwise

from etl.files.flags import FlaggedRow, find_flags, rows_near
from etl.files.header import BYTES_LOOKED_AT, Aliases, Header, find_columns
from etl.files.native import check_plain
from etl.files.packed import UnpackingError, unpack
from etl.files.row_format import format_rows
from etl.files.rules import QuarantineReason, RejectedRow, check_row, rejected_duplicates, rejected_text

_LINE_END = re.compile(r"\r\n|\n|\r")
_KEPT_LINE = 500  # characters of the raw line of a rejected row
_MOST_LINES_OF_A_ROW = 10  # a note may have a few lines; the next quote may be far away, and of another row
_MOST_REJECTED = 10_000  # rows of one file; a company's forty years of trading days are no more
_MOST_REPEATED = 10 * _MOST_REJECTED  # rows of days that the file has had already: it may be there ten times over


@dataclass(frozen=True, slots=True)
class CompanyFile:
    """A checked company file: `read` rows were looked at, each of them is in the slice or in `rejected`."""

    content: bytes
    """The accepted rows, in the file's order, as the slice of the combined file (row_format.py)."""
    read: int
    flags: tuple[FlaggedRow, ...] = ()
    """Rows of the slice that a FlagRule is true of, in their order."""
    rejected: tuple[RejectedRow, ...] = ()
    before_since: int = 0
    """Rows older than `since`: not part of the batch, so neither read nor rejected."""
    extra_columns: tuple[str, ...] = ()
    in_day_order: bool = True
    """Whether each row of the slice is of a later day than the one before, as the native checker wants it."""

    @property
    def flagged(self) -> int:
        return len(self.flags)


@dataclass(frozen=True, slots=True)
class UnusableFile:
    """A company file that cannot be used at all; of its rows, those in `rejected` alone count as read."""

    reason: str
    rejected: tuple[RejectedRow, ...] = ()

    @property
    def read(self) -> int:
        return len(self.rejected)


def check_company_file(
    content: bytes, *, company_name: str, since: date | None = None, aliases: Aliases = ()
) -> CompanyFile | UnusableFile:
    """Check a company file. Nothing in it raises: what cannot be used is an UnusableFile or a RejectedRow.

    It is unpacked first, where it is compressed. Columns are found by their header in any order and case, also by the
    other names that `aliases` gives them. Rules of a row: the day is an ISO date that exists; prices
    and volume are finite decimal numbers, not negative; the volume is whole; no field is over 56 characters; a day
    occurs once (of identical rows the first is kept, of conflicting ones none). A plain file is checked by the native
    checker, any other and every file where that was not built row by row: with the same result.
    """
    try:
        content = unpack(content)
    except UnpackingError as error:
        return UnusableFile(str(error))
    opened = _open(content, aliases)
    if isinstance(opened, UnusableFile):
        return opened
    plain = check_plain(
        opened.body,
        width=opened.header.width,
        positions=opened.header.positions,
        company_name=company_name,
        since=since,
    )
    if plain is None:
        return _check_rows(opened, company_name=company_name, since=since)
    if plain.read + plain.before_since == 0:
        return UnusableFile(QuarantineReason.NO_ROWS)
    flags: tuple[FlaggedRow, ...] = ()
    if plain.suspects:
        lines = plain.content.decode().split("\n")[:-1]
        first = 1 + len(_LINE_END.findall(opened.head)) + plain.before_since  # a plain file has no blank lines
        for some in rows_near(plain.suspects, of=len(lines)):
            rows = [lines[number].split(",")[:6] for number in some]
            numbers = range(first + some.start, first + some.stop)
            flags += find_flags(rows, lines=numbers, company_name=company_name)
    return CompanyFile(
        plain.content,
        plain.read,
        flags,
        before_since=plain.before_since,
        extra_columns=opened.header.extra_columns,
    )


def find_row(
    content: bytes, row: Sequence[str | None], *, aliases: Aliases = ()
) -> tuple[int, str] | UnusableFile | None:
    """Number and raw line of the first row with these six fields, or else of the first row of that day, `row[0]`.

    Only rows that keep the rules of a row are looked at; None where there is none of that day.
    """
    try:
        opened = _open(unpack(content), aliases)
    except UnpackingError as error:
        return UnusableFile(str(error))
    if isinstance(opened, UnusableFile):
        return opened
    day, header, first = row[0] or "", opened.header, None
    for number, line, begun in _data_lines(opened.content.decode(errors="replace"), width=header.width):
        if begun or day not in line:
            continue
        fields = check_row(number, line, width=header.width, positions=header.positions, since=None)
        if not isinstance(fields, tuple) or fields[0] != day:
            continue
        if fields == tuple(row):
            return number, line
        first = first or (number, line)
    return first


@dataclass(frozen=True)
class _Opened:
    """A company file with a usable header, and where its body begins."""

    content: bytes
    start: int
    """Of the body."""
    header: Header

    @property
    def body(self) -> bytes:
        return self.content[self.start :]

    @property
    def head(self) -> str:
        """What is before the body: the header with its line end, and blank lines before it."""
        return self.content[: self.start].decode()


def _open(content: bytes, aliases: Aliases) -> _Opened | UnusableFile:
    content = content.removeprefix(b"\xef\xbb\xbf")
    if not content.strip():
        return UnusableFile(QuarantineReason.BLANK if content else QuarantineReason.EMPTY)
    head, number, start = _header_line(content)
    below = content[start : start + BYTES_LOOKED_AT]
    header = find_columns(head, number=number, below=below, aliases=aliases)
    return UnusableFile(header) if isinstance(header, str) else _Opened(content, start, header)


def _header_line(content: bytes) -> tuple[bytes, int, int]:
    """The first line that is not blank, its number, and where the line after it starts."""
    start = len(content) - len(content.lstrip())
    end = re.search(rb"\r\n|\n|\r", content[start:])
    stop = start + end.start() if end else len(content)
    number = 1 + len(re.findall(rb"\r\n|\n|\r", content[:start])) if start else 1
    return content[start:stop], number, start + end.end() if end else len(content)


def _check_rows(opened: _Opened, *, company_name: str, since: date | None) -> CompanyFile | UnusableFile:
    """Check row by row: slower, and exact about line, column and reason."""
    content, header = opened.content, opened.header
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        return UnusableFile(QuarantineReason.NOT_UTF_8.format(position=error.start, byte=content[error.start]))
    read = before_since = repeated = 0
    given_up_at: int | None = None
    rejected: list[RejectedRow] = []
    accepted: dict[str, list[tuple[int, tuple[str, ...]]]] = {}
    for line, row, begun in _data_lines(text, width=header.width):
        checked = check_row(line, row, width=header.width, positions=header.positions, since=since)
        if begun and not isinstance(checked, RejectedRow):
            checked = rejected_text(line, row, begun=begun)
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
        return UnusableFile(reason, _with_lines(rejected, text))
    if read + before_since == 0:
        return UnusableFile(QuarantineReason.NO_ROWS)
    if rejected and not kept:
        first = rejected[0]
        reason = QuarantineReason.NO_USABLE_ROW.format(read=read, line=first.line, reason=first.reason)
        return UnusableFile(reason, _with_lines(rejected, text))
    lines, rows = [line for line, _ in kept], [fields for _, fields in kept]
    flags = find_flags(rows, lines=lines, company_name=company_name)
    slice_content = format_rows(rows, company_name=company_name)
    return CompanyFile(
        slice_content,
        read,
        flags,
        _with_lines(rejected, text),
        before_since,
        header.extra_columns,
        in_day_order=all(one[0] < next_one[0] for one, next_one in pairwise(rows)),
    )


def _with_lines(rejected: Sequence[RejectedRow], text: str) -> tuple[RejectedRow, ...]:
    """Rejected rows, in the order of their lines, with these lines."""
    rows = iter(rejected)
    found: list[RejectedRow] = []
    row = next(rows, None)
    for number, line in enumerate(_lines(text), start=1) if row else ():
        while row and row.line == number:
            found.append(replace(row, raw=line[:_KEPT_LINE]))
            row = next(rows, None)
        if row is None:
            break
    return tuple(found)


def _data_lines(text: str, *, width: int) -> Iterator[tuple[int, str, int]]:
    """Lines behind the header that are not blank, with their number.

    The third is the number of the line that has begun the quoted field that this one is inside of, or 0. A quote that
    no line nearby closes, so that the lines make one row of `width` fields, takes no other line with it.
    """
    lines = ((number, line) for number, line in enumerate(_lines(text), start=1) if line.strip())
    next(lines)
    ahead: deque[tuple[int, str]] = deque()
    begun = end = 0
    while found := ahead.popleft() if ahead else next(lines, None):
        number, line = found
        yield number, line, begun if number <= end else 0
        if number > end and line.count('"') % 2:
            ahead.extend(islice(lines, _MOST_LINES_OF_A_ROW - 1 - len(ahead)))
            begun, end = number, number
            if more := _lines_more(line, (text for _, text in ahead), width=width):
                end = ahead[more - 1][0]


def _lines_more(line: str, ahead: Iterable[str], *, width: int) -> int:
    """How many of the next lines make one row of `width` fields with this one, by quotes that are closed there."""
    reader = csv.reader(chain([line], ahead), strict=True)
    try:
        return reader.line_num - 1 if len(next(reader)) == width else 0
    except csv.Error:
        return 0


def _lines(text: str) -> Iterator[str]:
    """One at a time: a file may be millions of short lines."""
    start = 0
    for end in _LINE_END.finditer(text):
        yield text[start : end.start()]
        start = end.end()
    yield text[start:]
