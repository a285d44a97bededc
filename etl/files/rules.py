"""The rules: why a company file is quarantined, why a row is rejected, and why a row is kept but flagged (flags.py)."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum

COLUMNS = ("Date", "Open", "High", "Low", "Close", "Volume")
"""What a company file must have: the day (ISO), four prices in USD, the volume in shares."""

LARGEST_FILE_BYTES = 16 << 20
"""A company file is held in memory while it is checked; a batch's files are under 1 MB, so more is a mistake."""

LONGEST_FIELD = 56  # characters; the width of every column of historical_stocks_data
_LARGEST_VOLUME = 2**63 - 1  # shares; bigint in the view stock_prices
_NUMBER = re.compile(r"(?P<digits>[+-]?(\d+\.?\d*|\.\d+))([eE][+-]?(?P<exponent>\d+))?\Z", re.ASCII)
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}\Z", re.ASCII)
_PLAIN_FIELDS = re.compile(r"[\d-]{10}(,\d{1,15}(\.\d{0,15})?){4},\d{1,18}\Z", re.ASCII)
_QUOTED_VALUE = 200  # characters of a bad value that are kept in the rejected rows


class QuarantineReason(StrEnum):
    """Why a company file cannot be used at all, as the receipt says it; braces are filled in."""

    EMPTY = "empty: 0 bytes"
    BLANK = "empty: nothing but blanks"
    NO_ROWS = "no rows: the file has a header only"
    NO_USABLE_ROW = "no usable row: {read} of {read} rejected (first: line {line}, {reason})"
    NO_HEADER = "no header: the first line is {line!r}, not {columns}"
    HEADER_BELOW = "no header in the first line, {line!r}: it is line {number}"
    HEADER_OF_SEVERAL_LINES = "a header of several lines: {column} is in line {number}, {others} in line {first}"
    OTHER_SEPARATOR = "separated by {separator}, not by commas: the first line is {line!r}"
    OTHER_NAMES = "no column is called {columns}: the first line is {line!r}; if these are their names, set {setting}"
    MISSING_COLUMN = "missing column {columns}"
    RENAMED_COLUMN = "missing column {columns}; the file has {others}: if that is it, set {setting}"
    COLUMN_TWICE = "column {columns} is in the header twice"
    NOT_CSV = "not CSV: the first line is not UTF-8 text"
    NOT_UTF_8 = "not UTF-8 text: byte {position} is {byte:#04x}"
    TOO_MANY_COLUMNS = "not a company file: the first line has more than {limit:,} columns"
    TOO_MANY_REJECTED = "not a company file: {count:,} rows rejected by line {line}, the rest was not looked at"
    TOO_LARGE = "too large: {size_bytes:,} bytes, over the limit of {limit_bytes:,} for one company file"
    UNPACKED_TOO_LARGE = "too large: unpacked, over the limit of {limit_bytes:,} bytes for one company file"
    BROKEN_PACKING = "cannot be unpacked: not a whole {kind} file ({error})"
    UNREADABLE = "cannot be read: {reason}"
    CHANGED = "replaced or removed while it was read, twice"


class RowRule(StrEnum):
    """The rule that a rejected row breaks, as the rejected rows say it; braces are filled in."""

    BROKEN_QUOTING = "broken quoting"
    IN_QUOTED_FIELD = "inside the quoted field that begins on line {line}"
    LONG_QUOTED_FIELD = "broken quoting, or a quoted field over {limit:,} characters"
    FIELD_COUNT = "{found} fields where the header has {wanted}"
    NOT_ISO = "not an ISO date (YYYY-MM-DD)"
    NO_SUCH_DAY = "no such day"
    DUPLICATE = "duplicate of line {line}"
    CONFLICT = "conflicting rows for one day on lines {lines}"
    TOO_LONG = f"longer than {LONGEST_FIELD} characters"
    EMPTY = "empty"
    NOT_A_NUMBER = "not a number"
    NEGATIVE = "negative"
    LONG_EXPONENT = "an exponent of more than three digits"
    TOO_LARGE = "too large for a float64"
    TOO_SMALL = "too small for a float64"
    NOT_WHOLE = "not a whole number of shares"
    TOO_MANY_SHARES = "more shares than a bigint holds"


class FlagRule(StrEnum):
    """Why a row is kept but looks wrong: the source says so."""

    DIGIT_ERROR = "likely digit error: about {factor} the rows before and after"
    PRICE_OF_ZERO = "a price of 0"
    HIGH_BELOW_LOW = "high below low"
    OPEN_OUTSIDE = "open outside low..high"
    CLOSE_OUTSIDE = "close outside low..high"


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that breaks a rule. `line` counts from 1 as an editor does; `column` is empty when it is the row itself."""

    line: int
    column: str
    value: str
    reason: str
    raw: str = field(default="", compare=False)
    """The line as it is in the file, as far as it is kept."""


def check_row(
    line: int, row: str, *, width: int, positions: list[int], since: date | None
) -> tuple[str, ...] | RejectedRow | None:
    """The six fields of a row that keeps the rules; the first broken rule; or None when it is older than `since`."""

    def reject(column: str, value: str, reason: str) -> RejectedRow:
        return RejectedRow(line, column, value[:_QUOTED_VALUE], str(reason))

    try:
        cells = next(csv.reader([row], strict=True)) if '"' in row else row.split(",")
    except csv.Error:
        limit = csv.field_size_limit()
        is_long = len(row) > limit
        return reject("", row, RowRule.LONG_QUOTED_FIELD.format(limit=limit) if is_long else RowRule.BROKEN_QUOTING)
    if len(cells) != width:
        return reject("", row, RowRule.FIELD_COUNT.format(found=len(cells), wanted=width))
    fields = tuple(cells[position].strip() for position in positions)
    day = fields[0]
    try:
        if not _ISO_DATE.match(day):
            return reject("Date", day, RowRule.NOT_ISO)
        if since is not None and date.fromisoformat(day) < since:
            return None
        date.fromisoformat(day)
    except ValueError:
        return reject("Date", day, RowRule.NO_SUCH_DAY)
    if _PLAIN_FIELDS.match(",".join(fields)):
        return fields  # nearly every row; asking for each number's fault takes several times as long
    for column, value in zip(COLUMNS[1:], fields[1:], strict=True):
        reason = _number_fault(value, whole=column == "Volume")
        if reason:
            return reject(column, value, reason)
    return fields


def _number_fault(value: str, *, whole: bool) -> RowRule | None:
    """The rule that a price, or a `whole` volume, breaks."""
    if len(value) > LONGEST_FIELD:
        return RowRule.TOO_LONG
    if not value:
        return RowRule.EMPTY
    number = _NUMBER.match(value)
    if not number:
        return RowRule.NOT_A_NUMBER
    is_zero = not number["digits"].strip("+-0.")
    if value.startswith("-") and not is_zero:
        return RowRule.NEGATIVE
    # The text goes to the table and the float64 into the formulas: where one is 0, so must be the other. And the view's
    # cast to numeric takes no exponent of many digits, not even of 0, as which float64 would take it.
    if len(number["exponent"] or "") > 3:
        return RowRule.LONG_EXPONENT
    if math.isinf(float(value)):
        return RowRule.TOO_LARGE
    if float(value) == 0 and not is_zero:
        return RowRule.TOO_SMALL
    if whole and Decimal(value) != Decimal(value).to_integral_value():
        return RowRule.NOT_WHOLE
    if whole and Decimal(value) > _LARGEST_VOLUME:
        return RowRule.TOO_MANY_SHARES
    return None


def rejected_text(line: int, row: str, *, begun: int) -> RejectedRow:
    """What a line is that reads like a row and is inside the quoted field that line `begun` has begun."""
    return RejectedRow(line, "", row[:_QUOTED_VALUE], RowRule.IN_QUOTED_FIELD.format(line=begun))


def rejected_duplicates(day: str, group: list[tuple[int, tuple[str, ...]]]) -> list[RejectedRow]:
    """Which rows of one day go: all but the first when they are identical, all when they conflict."""
    if len(group) == 1:
        return []
    first = group[0]
    if all(fields == first[1] for _, fields in group):
        return [RejectedRow(line, "Date", day, RowRule.DUPLICATE.format(line=first[0])) for line, _ in group[1:]]
    lines = ", ".join(str(line) for line, _ in group)
    reason = RowRule.CONFLICT.format(lines=lines[:120])
    return [RejectedRow(line, "Date", day, reason) for line, _ in group]
