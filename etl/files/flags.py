"""Finds the rows of a company that are kept but look wrong. It looks at what was accepted, and changes nothing.

plain_rows.cpp only names the rows of a plain file that may be flagged: `JUMP` is what both look for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from etl.files.rules import COLUMNS, FlagRule

FACTORS = {10.0: "10 times", 100.0: "100 times", 0.1: "1/10 of", 0.01: "1/100 of"}
"""What a digit too many or too few, or a misplaced point, makes of a price."""
NEAR = 1.25
"""A price may differ by this factor from what the error would have made of its neighbours: few shares move by more in
a day, and it keeps the factors 8 to 12.5 and 80 to 125 apart from a share that really doubled or halved."""
LONGEST_ERROR = 5
"""Rows that may be wrong one behind the other: a week of trading. What stays for longer is the price."""
JUMP = 7.0
"""No error of a digit is a smaller factor between two rows, so a file without such a jump has none (10 / NEAR is 8)."""


@dataclass(frozen=True)
class FlaggedRow:
    """A row that is kept and looks wrong: the column, its value as it was written, and the FlagRule."""

    file: str
    line: int
    date: str
    column: str
    value: str
    rule: str


def rows_near(suspects: Iterable[int], *, of: int) -> Iterator[range]:
    """Of so many rows, in the order of their days, those that find_flags has to see to judge the `suspects`.

    These are the row before a suspect, the rows that may be wrong with it, and the one that shows it.
    """
    near: range | None = None
    for number in suspects:
        begin, end = max(number - 1, 0), min(number + LONGEST_ERROR + 1, of)
        if near and begin > near.stop:
            yield near
            near = None
        near = range(near.start if near else begin, end)
    if near:
        yield near


def find_flags(rows: Sequence[Sequence[str]], *, lines: Sequence[int], company_name: str) -> tuple[FlaggedRow, ...]:
    """The flagged rows among accepted rows, in their order, each once, by the first rule that is true of it.

    `rows`: the six fields of COLUMNS as they were written, each day once; `lines`: where each is in its file.
    """
    prices = [tuple(map(float, row[1:5])) for row in rows]
    by_day = sorted(range(len(rows)), key=lambda number: rows[number][0])
    found: dict[int, tuple[int, str]] = {}
    for column in range(4):
        for position, rule in _digit_errors([prices[number][column] for number in by_day]):
            found.setdefault(by_day[position], (column, rule))
    for number, row in enumerate(prices):
        if number not in found and (fault := _fault_of_a_day(*row)):
            found[number] = fault
    return tuple(
        FlaggedRow(company_name, lines[number], rows[number][0], COLUMNS[1 + column], rows[number][1 + column], rule)
        for number, (column, rule) in sorted(found.items())
    )


def _fault_of_a_day(open_price: float, high: float, low: float, close: float) -> tuple[int, str] | None:
    """The column and the rule of a row that looks wrong by itself.

    An open of 0 is a price of 0, so every row with an undefined percent change is flagged, save for overflow.
    """
    if low <= open_price <= high and low <= close <= high and low:  # then none is 0
        return None
    prices = (open_price, high, low, close)
    if 0 in prices:
        return prices.index(0), str(FlagRule.PRICE_OF_ZERO)
    if high < low:
        return 1, str(FlagRule.HIGH_BELOW_LOW)
    if not low <= open_price <= high:
        return 0, str(FlagRule.OPEN_OUTSIDE)
    return 3, str(FlagRule.CLOSE_OUTSIDE)


def _digit_errors(prices: Sequence[float]) -> Iterator[tuple[int, str]]:
    """Rows whose price is near a factor of FACTORS times the price before them, until it comes back."""
    if not any(price > JUMP * before or JUMP * price < before for before, price in pairwise(prices)):
        return
    base, begin, level = prices[0], 0, 0.0  # the last price that was right; where the error begins; what it makes of it
    rule = ""
    for position, price in enumerate(prices):
        if level and _are_near(price, base):
            for wrong in range(begin, position):
                yield wrong, rule
            level = 0.0
        elif level and not (_are_near(price, level) and position - begin < LONGEST_ERROR):
            base, level = prices[position - 1], 0.0  # it did not come back
        if level:
            continue
        for factor, name in FACTORS.items():
            if base and price and _are_near(price, base * factor):
                begin, level, rule = position, base * factor, FlagRule.DIGIT_ERROR.format(factor=name)
        if not level:
            base = price


def _are_near(one: float, other: float) -> bool:
    return one <= other * NEAR and other <= one * NEAR
