"""Company file: the bytes of one `wex.us.csv` go in; its accepted rows, rejected rows and counts come out.

The rules stand in `_check_row`, one row at a time. A file that holds nothing but digits, signs and commas is checked
by column in Arrow instead, which is some 20 times faster; wherever a column holds anything that the rules might refuse,
the file goes through `_check_row`, so both ways give the same rows (a property test compares them).
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import accumulate

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from etl.files.arrow_values import float_array, string_array, string_scalar

COLUMNS = ("Date", "Open", "High", "Low", "Close", "Volume")
"""What a company file must have: the day (ISO), four prices in USD, the volume in shares."""

LONGEST_FIELD = 56  # characters; the width of every column of historical_stocks_data
_LARGEST_VOLUME = 2**63 - 1  # shares; bigint in the view stock_prices
_NUMBER = re.compile(r"(?P<digits>[+-]?(\d+\.?\d*|\.\d+))([eE][+-]?(?P<exponent>\d+))?\Z", re.ASCII)
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}\Z", re.ASCII)
_LINE_END = re.compile(r"\r\n|\n|\r")
_FIRST_DAY = (date.min - date(1970, 1, 1)).days  # Arrow knows a year 0, Python and ISO dates here do not
_MOST_COLUMNS = 1_000  # of one file; a file may be millions of commas, each a name in memory
_MOST_REJECTED = 10_000  # rows of one file; a company's forty years of trading days are no more
_MOST_REPEATED = 10 * _MOST_REJECTED  # rows of days that the file has had already: it may be there ten times over
_QUOTED_VALUE = 200  # characters of a bad value that are kept in the rejected rows


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that breaks a rule. `line` counts from 1 as an editor does; `column` is empty when it is the row itself."""

    line: int
    column: str
    value: str
    reason: str


@dataclass(frozen=True)
class Rows:
    """Accepted rows, in the file's order, none with a null.

    `text`: the six source fields as they were written, one string array for each of COLUMNS, no longer than 56
    characters; blanks around a field are not part of it. `open`, `high`, `low`, `close`: the prices as float64, USD.
    """

    text: tuple[pa.StringArray, ...]
    open: pa.DoubleArray
    high: pa.DoubleArray
    low: pa.DoubleArray
    close: pa.DoubleArray


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
class QuarantinedFile:
    """A company file that cannot be used at all; of its rows, those in `rejected` alone count as read."""

    reason: str
    rejected: tuple[RejectedRow, ...] = ()


def parse_company_file(content: bytes, *, since: date | None = None) -> CompanyFile | QuarantinedFile:
    """Check a company file. Nothing in it raises: what cannot be used is a QuarantinedFile or a RejectedRow.

    Columns are found by their header in any order and case. Rules of a row: the day is an ISO date that exists; prices
    and volume are finite decimal numbers, not negative; the volume is whole; no field is over 56 characters; a day
    occurs once (of identical rows the first is kept, of conflicting ones none).
    """
    return parse_company_files([content], since=since)[0]


def parse_company_files(contents: Sequence[bytes], *, since: date | None = None) -> list[CompanyFile | QuarantinedFile]:
    """Check some company files, each as parse_company_file does; together, plain ones take a third less time."""
    opened = [_open(content) for content in contents]
    groups: dict[tuple[int, ...], list[int]] = {}
    bodies: dict[int, tuple[bytes, int]] = {}
    for number, one in enumerate(opened):
        if isinstance(one, _Opened) and (count := _count_plain_rows(one.body)):
            groups.setdefault((one.width, *one.positions), []).append(number)
            bodies[number] = one.body, count
    checked: dict[int, _Checked] = {}
    for (width, *positions), numbers in groups.items():
        plain = [bodies[number] for number in numbers]
        together = _check_columns(plain, width=width, positions=positions, since=since)
        if together is None and len(plain) > 1:  # one of them needs a closer look: find out which
            for number, body in zip(numbers, plain, strict=True):
                alone = _check_columns([body], width=width, positions=positions, since=since)
                checked |= {number: alone[0]} if alone else {}
        checked |= dict(zip(numbers, together, strict=True)) if together else {}
    return [
        one
        if isinstance(one, QuarantinedFile)
        else _conclude(one, checked.get(number) or _check_rows(one, since=since))
        for number, one in enumerate(opened)
    ]


_WANTED = {name.lower() for name in COLUMNS}
_Checked = tuple[int, Rows, tuple[RejectedRow, ...], int]


@dataclass(frozen=True)
class _Opened:
    """A company file with a usable header: where each of COLUMNS stands, and the `body` behind the header."""

    content: bytes
    body: bytes
    width: int
    positions: list[int]
    extra_columns: tuple[str, ...]


def _open(content: bytes) -> _Opened | QuarantinedFile:
    content = content.removeprefix(b"\xef\xbb\xbf")
    if not content.strip():
        return QuarantinedFile("empty: 0 bytes" if not content else "empty: nothing but blanks")
    head, start = _header_line(content)
    columns = _find_columns(head)
    if isinstance(columns, str):
        return QuarantinedFile(columns)
    names, positions = columns
    extra = tuple(name for name in names if name.strip().lower() not in _WANTED)
    return _Opened(content, content[start:], len(names), positions, extra)


def _conclude(opened: _Opened, checked: _Checked | QuarantinedFile) -> CompanyFile | QuarantinedFile:
    if isinstance(checked, QuarantinedFile):
        return checked
    read, rows, rejected, before_since = checked
    if read + before_since == 0:
        return QuarantinedFile("no rows: the file has a header only")
    if rejected and len(rows.open) == 0:
        first = rejected[0]
        reason = f"no usable row: {read} of {read} rejected (first: line {first.line}, {first.reason})"
        return QuarantinedFile(reason, rejected)
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
        return f"no company file: the first line has more than {_MOST_COLUMNS:,} columns"
    try:
        line = head.decode("utf-8")
    except UnicodeDecodeError:
        return "not CSV: the first line is no UTF-8 text"
    try:
        names = next(csv.reader([line], strict=True), [])
    except csv.Error:  # broken quoting
        names = []
    found = [name.strip().lower() for name in names]
    missing = [name for name in COLUMNS if name.lower() not in found]
    if len(missing) == len(COLUMNS):
        return f"no header: the first line is {line[:60]!r}, not {','.join(COLUMNS)}"
    if missing:
        return f"missing column {', '.join(missing)}"
    twice = [name for name in COLUMNS if found.count(name.lower()) > 1]
    if twice:
        return f"column {', '.join(twice)} stands in the header twice"
    return names, [found.index(name.lower()) for name in COLUMNS]


def _count_plain_rows(body: bytes) -> int | None:
    """The rows of a body that holds nothing but digits, signs, commas and one kind of line end; None for any other.

    A blank line counts too; Arrow passes over it, and so the sums differ.
    """
    line_ends = body.translate(None, b"0123456789.,-")
    count = line_ends.count(b"\n")
    if not body or line_ends not in (b"\n" * count, b"\r\n" * count):
        return None
    return count + (not body.endswith(b"\n"))


def _check_columns(
    bodies: list[tuple[bytes, int]], *, width: int, positions: list[int], since: date | None
) -> list[_Checked] | None:
    """Accept plain bodies of one layout, each with its count of rows, or None when any row needs a closer look."""
    ended = [body if body.endswith(b"\n") else body + b"\n" for body, _ in bodies]
    counts = [count for _, count in bodies]
    text = _read_text(b"".join(ended), width=width, positions=positions)
    try:
        days = text[0].cast(pa.date32())
        numbers = [column.cast(pa.float64()) for column in text[1:]]
        text[5].cast(pa.int64())  # whole, and no more than a bigint holds
    except (pa.ArrowInvalid, IndexError):
        return None
    if len(days) != sum(counts):
        return None
    starts = list(accumulate(counts, initial=0))
    since_epoch = days.cast(pa.int32())
    falling = pc.indices_nonzero(pc.greater_equal(since_epoch[:-1], since_epoch[1:])).to_pylist()
    if not {row + 1 for row in falling} <= set(starts):
        return None  # a file is not in order of days: there may be duplicates
    ranges = [pc.min_max(column).as_py() for column in (since_epoch, *numbers)]
    if ranges[0]["min"] < _FIRST_DAY or any(one["min"] < 0 or one["max"] == math.inf for one in ranges[1:]):
        return None
    if max(pc.max(pc.binary_length(column)).as_py() for column in text) > LONGEST_FIELD:
        return None
    checked: list[_Checked] = []
    for start, count in zip(starts, counts, strict=False):
        before = 0
        if since is not None:
            old = pc.less(days[start : start + count], string_scalar(since.isoformat()).cast(pa.date32()))
            before = pc.sum(old).as_py()
        first, length = start + before, count - before
        prices = [column.slice(first, length) for column in numbers[:4]]
        checked.append((length, Rows(tuple(column.slice(first, length) for column in text), *prices), (), before))
    return checked


def _read_text(body: bytes, *, width: int, positions: list[int]) -> list[pa.StringArray]:
    """The fields of plain rows as they were written, a string array for each of COLUMNS; none where rows are odd."""
    fields = [f"f{position}" for position in range(width)]
    wanted = [fields[position] for position in positions]
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(body),
            read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=len(body) + 1, column_names=fields),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(wanted, pa.string()), include_columns=wanted
            ),
        )
    except pa.ArrowInvalid:
        return []
    return [table[name].chunk(0) for name in wanted]


def _check_rows(opened: _Opened, *, since: date | None) -> _Checked | QuarantinedFile:
    """Check row by row: slower, and exact about line, column and reason."""
    content = opened.content
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        return QuarantinedFile(f"not UTF-8 text: byte {error.start} is {content[error.start]:#04x}")
    read = before_since = repeated = 0
    given_up_at: int | None = None
    rejected: list[RejectedRow] = []
    accepted: dict[str, list[tuple[int, tuple[str, ...]]]] = {}
    for line, row in _data_lines(text):
        checked = _check_row(line, row, width=opened.width, positions=opened.positions, since=since)
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
        duplicates = _rejected_duplicates(day, group)
        rejected += duplicates
        if len(duplicates) < len(group):
            kept.append(group[0])
    kept.sort()
    rejected.sort(key=lambda row: row.line)
    if given_up_at is not None:
        count = f"{len(rejected):,} rows rejected by line {given_up_at}"
        return QuarantinedFile(f"no company file: {count}, the rest was not looked at", tuple(rejected))
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


def _check_row(
    line: int, row: str, *, width: int, positions: list[int], since: date | None
) -> tuple[str, ...] | RejectedRow | None:
    """The six fields of a row that keeps the rules; the first broken rule; or None when it is older than `since`."""

    def reject(column: str, value: str, reason: str) -> RejectedRow:
        return RejectedRow(line, column, value[:_QUOTED_VALUE], reason)

    try:
        cells = next(csv.reader([row], strict=True)) if '"' in row else row.split(",")
    except csv.Error:
        limit = csv.field_size_limit()
        long = f", or a quoted field over {limit:,} characters" if len(row) > limit else ""
        return reject("", row, f"broken quoting{long}")
    if len(cells) != width:
        return reject("", row, f"{len(cells)} fields where the header has {width}")
    fields = tuple(cells[position].strip() for position in positions)
    day = fields[0]
    try:
        if not _ISO_DATE.match(day):
            return reject("Date", day, "not an ISO date (YYYY-MM-DD)")
        if since is not None and date.fromisoformat(day) < since:
            return None
        date.fromisoformat(day)
    except ValueError:
        return reject("Date", day, "no such day")
    for column, value in zip(COLUMNS[1:], fields[1:], strict=True):
        reason = _number_fault(value, whole=column == "Volume")
        if reason:
            return reject(column, value, reason)
    return fields


def _number_fault(value: str, *, whole: bool) -> str | None:
    """The rule that a price, or a `whole` volume, breaks."""
    if len(value) > LONGEST_FIELD:
        return f"longer than {LONGEST_FIELD} characters"
    if not value:
        return "empty"
    number = _NUMBER.match(value)
    if not number:
        return "not a number"
    is_zero = not number["digits"].strip("+-0.")
    if value.startswith("-") and not is_zero:
        return "negative"
    # The text goes to the table and the float64 into the formulas: where one is 0, so must be the other. And the view's
    # cast to numeric takes no exponent of many digits, not even of 0, as which float64 would take it.
    if len(number["exponent"] or "") > 3:
        return "an exponent of more than three digits"
    if math.isinf(float(value)):
        return "too large for a float64"
    if float(value) == 0 and not is_zero:
        return "too small for a float64"
    if whole and Decimal(value) != Decimal(value).to_integral_value():
        return "not a whole number of shares"
    if whole and Decimal(value) > _LARGEST_VOLUME:
        return "more shares than a bigint holds"
    return None


def _rejected_duplicates(day: str, group: list[tuple[int, tuple[str, ...]]]) -> list[RejectedRow]:
    """Which rows of one day go: all but the first when they are identical, all when they conflict."""
    if len(group) == 1:
        return []
    first = group[0]
    if all(fields == first[1] for _, fields in group):
        return [RejectedRow(line, "Date", day, f"duplicate of line {first[0]}") for line, _ in group[1:]]
    lines = ", ".join(str(line) for line, _ in group)
    return [RejectedRow(line, "Date", day, f"conflicting rows for one day on lines {lines[:120]}") for line, _ in group]
