"""Bodies of company files, plain ones and nearly plain ones, and what the row rules in Python make of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from etl.files.company_file import UnusableFile, _check_rows, _Opened
from etl.files.header import Header
from etl.files.native import MOST_SUSPECTS, Checked
from etl.files.rules import QuarantineReason
from tests.support.paths import SAMPLE

COMPANY = "österreich.us.csv"


@dataclass(frozen=True)
class Body:
    """What follows a header of `width` columns; `positions`: where each of COLUMNS is."""

    content: bytes
    width: int = 7
    positions: tuple[int, ...] = (0, 1, 2, 3, 4, 5)
    since: date | None = None


def by_rules(body: Body, *, company_name: str = COMPANY) -> Checked | None:
    """Checked row by row in Python; None when any row is rejected or the file is no text."""
    opened = _Opened(b"header\n" + body.content, len(b"header\n"), Header(body.width, list(body.positions), ()))
    checked = _check_rows(opened, company_name=company_name, since=body.since)
    if isinstance(checked, UnusableFile):
        return Checked(b"", 0, 0, ()) if checked.reason == QuarantineReason.NO_ROWS else None
    if checked.rejected:
        return None
    suspects: Sequence[int] = _suspects(checked.content)
    if len(suspects) > MOST_SUSPECTS:
        suspects = range(checked.content.count(b"\n"))
    return Checked(checked.content, checked.read, checked.before_since, suspects)


def _suspects(content: bytes) -> tuple[int, ...]:
    """Rows of a slice that look wrong by themselves, or whose price is seven times another than the day before."""
    prices = [tuple(map(float, line.split(b",")[1:5])) for line in content.splitlines()]
    suspects = []
    for number, (before, (opened, high, low, closed)) in enumerate(zip([None, *prices], prices, strict=False)):
        wrong = not (low <= opened <= high and low <= closed <= high) or low == 0
        pairs = zip(before or (), (opened, high, low, closed), strict=False)
        if wrong or any(new > 7 * old or 7 * new < old for old, new in pairs):
            suspects.append(number)
    return tuple(suspects)


# --- real rows, changed by chance ----------------------------------------------------------------------------------

_NUMBERS = (
    *("0", "0.0", "00", "007", "5.", ".5", ".", "", "-", "-0", "-1", "+1", "1e5", "1E-5", "1.2.3", "1_0", "NaN", "inf"),
    *("0.0001", "0.00009999999999999999", "0.00001", "1" * 15, "1" * 16, "1" * 17, "1" * 19, "1" * 20, "1" * 56),
    *("9007199254740991", "9007199254740992", "9007199254740993", "9999999999999998", "10000000000000000", "1" * 57),
    *("0." + "0" * 18 + "1", "0." + "0" * 19 + "1", "0." + "3" * 17, "0" * 18 + "1", "0" * 20 + "1", "2.5000000000"),
    *(str(2**63 - 1), str(2**63), "18446744073709551616", "18446744073709551617", "100.0", " 1", "1 ", '"1"', "1;2"),
    *("9007199254.740992", "9007199254.740993", "0.1", "0.2", "0.3", "1.1", "2.2", "3.3", "12.3450002670288", "\u0661"),
)
_DAYS = (
    *("0000-01-01", "0001-01-01", "9999-12-31", "10000-01-01", "2000-02-29", "1900-02-29", "2020-02-30", "2020-04-31"),
    *("2020-1-3", "20200103", "2020-00-10", "2020-13-10", "2020-10-00", "2020-10-32", "2020/10/10", "2020-01-03 "),
    *("-020-01-03", "2020-01-0", "2O20-01-03", "", "2020-01-03T", "\u0662020-01-03"),
)
_OTHERS = ("0", "", " ", "x", "OpenInt", "1e5", "-", "a b", "~", '"', '""', "\t", "\x00", "\x7f", "\x1c", "é", "\x85")
_SINCE = (None, None, None, date(1, 1, 1), date(1990, 1, 1), date(2010, 6, 15), date(9999, 12, 31))
_BYTES = b"0123456789.,-\n\r\"' eE+\x00\xff\xe2\x80\xa8\x1c"
_HEADS = [
    [line.split(",")[:6] for line in path.read_text().splitlines()[1:60]]
    for path in sorted((SAMPLE / "Stocks").iterdir())
    if path.stat().st_size
]


def changed_body(chance: random.Random) -> Body:
    """Some rows of a real file in any layout, with up to a few changes: of fields, rows, line ends or bytes."""
    head = chance.choice(_HEADS)
    begin = chance.randrange(len(head))
    rows = [list(row) for row in head[begin : begin + chance.choice((1, 2, 3, 8, 40))]]
    for _ in range(chance.choice((0, 0, 0, 1, 1, 2, 4))):
        _change_rows(rows, chance)
    width = 6 + chance.choice((0, 1, 1, 1, 2, 5))
    positions = list(range(width))
    if chance.random() < 0.5:
        chance.shuffle(positions)
    odd = chance.random() < 0.2
    lines = []
    for row in rows:
        others = [chance.choice(_OTHERS) if odd else "0" for _ in range(width - 6)]
        placed = dict(zip(positions, [*row[:6], *others], strict=True))
        cells = [*(placed[number] for number in range(width)), *row[6:]]
        if chance.random() < 0.005:
            cells.pop(chance.randrange(len(cells)))
        lines.append(",".join(cells))
    end = chance.choice(("\n", "\n", "\n", "\r\n", "\r\n", "\r"))
    mixed = chance.random() < 0.1
    ends = [chance.choice(("\n", "\r\n", "\r", "\n\n", "\r\r\n")) if mixed else end for _ in lines]
    content = bytearray("".join(map(str.__add__, lines, ends)).encode("utf-8", "surrogatepass"))
    if chance.random() < 0.3:
        del content[len(content) - chance.choice((1, 1, 2, 5, 20)) :]
    for _ in range(chance.choice((0, 0, 0, 0, 0, 1, 2))):
        _change_bytes(content, chance)
    return Body(bytes(content), width, tuple(positions[:6]), chance.choice(_SINCE))


def _change_rows(rows: list[list[str]], chance: random.Random) -> None:
    at = chance.randrange(len(rows))
    row = rows[at]
    column = chance.randrange(1, 6)
    match chance.randrange(10):
        case 0 | 1 | 2:
            row[column] = chance.choice(_NUMBERS)
        case 3:
            row[chance.randrange(1, 5)] = f"{chance.randrange(10 ** chance.randrange(1, 18))}"
        case 4:
            digits = str(chance.randrange(10 ** chance.randrange(1, 18)))
            row[column] = f"{chance.choice((0, 1, 12, 12345))}.{digits.zfill(chance.randrange(1, 19))}"
        case 5:
            row[0] = chance.choice(_DAYS)
        case 6:
            other = chance.randrange(6)
            row[column], row[other] = row[other], row[column]
        case 7:
            rows.insert(chance.randrange(len(rows) + 1), list(row))
        case 8:
            other = chance.randrange(len(rows))
            rows[at], rows[other] = rows[other], rows[at]
        case 9:
            row.append("0")


def _change_bytes(content: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(content) + 1)
    end = min(len(content), at + chance.choice((1, 1, 2, 8, 64)))
    match chance.randrange(5):
        case 0:
            content[at:at] = bytes([chance.choice(_BYTES)])
        case 1:
            del content[at:end]
        case 2:
            content[at:at] = content[at:end]
        case 3:
            content[at:end] = chance.randbytes(end - at)
        case 4 if at < len(content):
            content[at] ^= 1 << chance.randrange(8)
