"""Finds the factors that a company's prices were multiplied by: one for each span of days, the newest span first.

Each dividend or split since the last edition adds a factor to all days before it, so the history falls into spans.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

FEWEST_FOR_FACTOR = 5
"""Changed rows: of fewer, one factor may fit by chance, and each can be looked at."""
FITTING_SHARE = 0.95
"""Of the changed rows that factors must explain. Chance corrections fit a factor in a few rows, a factor in all but
those that the vendor corrected in the same edition."""
_MOST_SPANS = 12
"""A company that pays each month has as many dividends in a year; more spans than that explain anything."""
_SMALLEST_STEP = 2e-4
"""Factors nearer to each other than this are one: that much lies within the rounding of two prices of five digits."""
_FIVE_DIGITS = 1e-4
"""Half a unit of the fifth significant digit of both prices, at the most."""
_LAST_DIGIT, _ROUGHEST = 0.51, 0.01
"""Half a unit of the last written digit of both prices, and a little; but not more than this share of the price."""
_VOLUME_TOLERANCE = 0.001


@dataclass(frozen=True, slots=True)
class ChangedRow:
    """A day's values as they are written, before and after; `prices` are open, high, low and close."""

    day: str
    prices: Sequence[str]
    volume: str
    new_prices: Sequence[str]
    new_volume: str

    @classmethod
    def of(cls, day: str, before: Sequence[str], after: Sequence[str]) -> ChangedRow:
        """A row of four prices and a volume before and after."""
        return cls(day, before[:4], before[4], after[:4], after[4])


@dataclass(frozen=True)
class Span:
    """Days whose prices were multiplied by one factor (ISO dates), and how many rows it fits."""

    first_day: str
    last_day: str
    rows: int
    factor: float
    volume_factor: float | None
    """None where volumes did not change, or not by one factor."""


def find_spans(changed: Sequence[ChangedRow]) -> list[Span]:
    """The spans of these rows, which are in the order of their days; nothing where factors do not explain them."""
    rows = [_Row(one) for one in reversed(changed)]
    starts = _starts(rows)
    if not 0 < len(starts) <= 3 * _MOST_SPANS:  # some may be blocks of corrections
        return []
    starts = _without_corrections(rows, starts)
    factors = [_factor(piece) for piece in _pieces(rows, starts)]
    if min(factors) <= 0:  # prices became 0
        return []
    borders = [_border(rows, start, end, *two) for (start, end), two in _borders(starts, factors, len(rows))]
    starts = starts[:1]
    for border in borders:
        if starts[-1] < border < len(rows):  # else nothing is left between two borders
            starts.append(border)
    spans = [_span(piece) for piece in _pieces(rows, starts)]
    explained = sum(one.rows for one in spans)
    if len(spans) > _MOST_SPANS or explained < FITTING_SHARE * len(rows):
        return []
    return spans if all(one.rows >= FEWEST_FOR_FACTOR for one in spans) else []


def explained_days(spans: Sequence[Span], changed: Sequence[ChangedRow]) -> set[str]:
    """The days of these rows that the factor of their span explains."""
    days: set[str] = set()
    for one in spans:
        rows = (_Row(row) for row in changed if one.first_day <= row.day <= one.last_day)
        days.update(row.day for row in rows if row.fits(one.factor))
    return days


def find_factor(rows: Sequence[ChangedRow]) -> tuple[float, float] | None:
    """The factors of prices and volumes that explain every one of these rows, and change it."""
    found = [_Row(one) for one in rows]
    least, most = max(row.least for row in found), min(row.most for row in found)
    if least > most or most == math.inf or any(row.old == row.new for row in found):
        return None
    volume = sum(row.volume for row in found)
    return (least + most) / 2, sum(row.new_volume for row in found) / volume if volume else 1.0


class _Row:
    """A row's closes, opens and volumes, and the factors that rounding allows for it: `least` to `most`."""

    __slots__ = ("day", "least", "most", "new", "new_volume", "old", "volume")

    def __init__(self, row: ChangedRow) -> None:
        self.day = row.day
        self.old, self.new = _price_bounds(row.prices), _price_bounds(row.new_prices)
        self.volume, self.new_volume = float(row.volume), float(row.new_volume)
        self.least, self.most = 0.0, math.inf
        ratio = self.new[1] / self.old[1] if self.old[1] else 1.0
        rough = min(_ROUGHEST * self.new[1], _LAST_DIGIT * (_unit(row.new_prices) + ratio * _unit(row.prices)))
        for old, new in zip(self.old, self.new, strict=True):
            tolerance = max(_FIVE_DIGITS * new, rough)
            if old:
                self.least = max(self.least, (new - tolerance) / old)
                self.most = min(self.most, (new + tolerance) / old)
            elif new:
                self.least = math.inf  # 0 times nothing is that

    @property
    def ratio(self) -> float:
        """The best guess of its factor."""
        return sum(self.new) / sum(self.old) if sum(self.old) else 1.0

    def fits(self, factor: float) -> bool:
        return self.least <= factor <= self.most


def _price_bounds(prices: Sequence[str]) -> tuple[float, float]:
    return float(prices[0]), float(prices[3])


def _unit(prices: Sequence[str]) -> float:
    """Of the last digit: that of the longest price, because 12.50 is written 12.5."""
    return 10.0 ** -max(len(price.partition(".")[2]) for price in prices)


def _starts(rows: Sequence[_Row]) -> list[int]:
    """Where spans begin: at the first of so many rows that one factor fits, and the factors of the span before do not.

    A row that fits both says nothing.
    """
    starts: list[int] = []
    least, most = math.inf, -math.inf  # of the span
    first, others, low, high = 0, 0, 0.0, math.inf  # rows that may begin the next one
    for number, row in enumerate(rows):
        fits_next = others > 0 and max(low, row.least) <= min(high, row.most)
        if max(least, row.least) <= min(most, row.most):
            if fits_next:
                continue
            others = 0
            least, most = max(least, row.least), min(most, row.most)
        elif fits_next:
            others += 1
            low, high = max(low, row.least), min(high, row.most)
        else:
            first, others, low, high = number, 1, row.least, row.most
        if others == FEWEST_FOR_FACTOR:
            starts.append(first)
            least, most, others = low, high, 0
    return starts


def _without_corrections(rows: Sequence[_Row], starts: list[int]) -> list[int]:
    """Few rows between two spans of the same factor are corrections; neighbours of the same factor are one span."""
    few = (1 - FITTING_SHARE) * len(rows)
    kept: list[tuple[int, float]] = []
    for start, piece in zip(starts, _pieces(rows, starts), strict=True):
        factor = _factor(piece)
        while len(kept) > 1 and _is_same(kept[-2][1], factor) and start - kept[-1][0] <= few:
            kept.pop()
        if not kept or not _is_same(kept[-1][1], factor):
            kept.append((start, factor))
    return [start for start, _ in kept]


def _is_same(one: float, other: float) -> bool:
    return abs(one - other) < _SMALLEST_STEP * other


def _pieces(rows: Sequence[_Row], starts: Sequence[int]) -> Iterator[Sequence[_Row]]:
    for start, end in pairwise([*starts, len(rows)]):
        yield rows[start:end]


def _factor(rows: Sequence[_Row]) -> float:
    """A ratio of sums over the rows near the median, because the ratio of two rounded prices is rough."""
    ratios = sorted(row.ratio for row in rows)
    median = ratios[len(ratios) // 2]
    near = [row for row in rows if abs(row.ratio - median) <= 0.01 * median]
    return sum(sum(row.new) for row in near) / (sum(sum(row.old) for row in near) or 1.0)


def _borders(
    starts: Sequence[int], factors: Sequence[float], rows: int
) -> Iterator[tuple[tuple[int, int], tuple[float, float]]]:
    """Of each two neighbours: from where to where their border may lie, and their factors."""
    for number, two in enumerate(pairwise(factors)):
        yield (starts[number], starts[number + 2] if number + 2 < len(starts) else rows), two


def _border(rows: Sequence[_Row], start: int, end: int, newer: float, older: float) -> int:
    """Where the older of two spans begins: where the prices are nearest to both factors."""
    errors = [(abs(row.ratio / newer - 1), abs(row.ratio / older - 1)) for row in rows[start:end]]
    before = accumulate((error for error, _ in errors), initial=0.0)
    behind = list(accumulate((error for _, error in reversed(errors)), initial=0.0))[::-1]
    costs = [one + other for one, other in zip(before, behind, strict=True)]
    return start + costs.index(min(costs))


def _span(rows: Sequence[_Row]) -> Span:
    factor = _factor(rows)
    fitting = [row for row in rows if row.fits(factor)]
    return Span(rows[-1].day, rows[0].day, len(fitting), factor, _volume_factor(fitting))


def _volume_factor(rows: Sequence[_Row]) -> float | None:
    enough = FITTING_SHARE * len(rows)
    total = sum(row.volume for row in rows)
    factor = sum(row.new_volume for row in rows) / total if total else 1.0
    same, fitting = (sum(_is_volume(row, times) for row in rows) for times in (1.0, factor))
    return factor if same < enough <= fitting else None


def _is_volume(row: _Row, factor: float) -> bool:
    return abs(row.new_volume - factor * row.volume) <= max(1.0, _VOLUME_TOLERANCE * row.new_volume)
