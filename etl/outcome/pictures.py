"""Draws the pictures of the report page: paths and rectangles, which its template puts into SVG."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from etl.table.months import CompanyMonths
from etl.table.overview import Closes, PastRun

_FULL_MONTH = 0.9  # of the days that most companies have in a month
_MOST_STROKES = 30_000  # of a calendar: some 250 kB
_LISTED_GAPS = 1_000
WIDTH, HEIGHT = 720, 150  # of a plot, in its own units
_CHART_HEIGHT = 60


@dataclass(frozen=True)
class Plot:
    """Prices of a company before and after a run, as paths, and what the second is of the first in percent."""

    company_name: str
    before: str
    after: str
    quotient: str
    marks: tuple[tuple[float, float, float], ...]
    """Single days that changed: x, and y before and after."""
    first_day: str
    last_day: str
    lowest: float
    highest: float
    least_quotient: float
    greatest_quotient: float
    """In percent."""


@dataclass(frozen=True)
class Gap:
    """Months (YYYY-MM) without a row between a company's first and last one."""

    company_name: str
    first: str
    last: str
    months: int


@dataclass(frozen=True)
class CalendarRow:
    """One company of the calendar, at the place `y`."""

    company_name: str
    y: int
    first: str
    last: str
    gaps: int


@dataclass(frozen=True)
class Calendar:
    """Companies by months: paths of whole months, of months with missing days, and of gaps; one unit is one month."""

    months: int
    rows: tuple[CalendarRow, ...]
    whole: str
    partial: str
    gap: str
    years: tuple[tuple[int, int], ...]
    """Where a year begins that is worth a label, and the year."""
    gaps: tuple[Gap, ...]
    """The longest first, as many as a page may list."""
    all_gaps: int
    left_out: int
    """Companies that are not drawn, as they would make the page too large."""


@dataclass(frozen=True)
class Bar:
    """One run of a chart: its place, the heights of its bars, and the run."""

    x: int
    seconds: float
    rows: float
    run: PastRun


def plot(closes: Closes) -> Plot | None:
    """The plot of a company, or None where there is nothing to draw."""
    prices = [price for price in (*closes.before, *closes.after) if price is not None]
    if not prices or len(closes.days) < 2:
        return None
    pairs = list(zip(closes.before, closes.after, strict=True))
    quotients = [_percent(before, after) for before, after in pairs]
    known = [one for one in quotients if one is not None] or [100.0]
    least, greatest = min(known), max(known)
    margin = 0.1 * (greatest - least) or 1.0
    xs = [round(WIDTH * place / (len(closes.days) - 1), 1) for place in range(len(closes.days))]
    scale = _Scale(min(prices), max(prices))
    changes = [
        (x, scale.y(before), scale.y(after))
        for x, (before, after) in zip(xs, pairs, strict=True)
        if before is not None and after is not None and before != after
    ]
    return Plot(
        closes.company_name,
        before=_line(xs, closes.before, scale),
        after=_line(xs, closes.after, scale),
        quotient=_line(xs, quotients, _Scale(least - margin, greatest + margin, height=50)),
        marks=tuple(changes) if len(changes) <= 20 else (),
        first_day=closes.days[0],
        last_day=closes.days[-1],
        lowest=min(prices),
        highest=max(prices),
        least_quotient=least,
        greatest_quotient=greatest,
    )


def _percent(before: float | None, after: float | None) -> float | None:
    if before is None or after is None or not before:
        return None
    return 100.0 if before == after else 100 * after / before


@dataclass(frozen=True)
class _Scale:
    least: float
    greatest: float
    height: float = HEIGHT

    def y(self, value: float) -> float:
        span = self.greatest - self.least
        return round(self.height * (1 - (value - self.least) / span), 1) if span else self.height / 2


def _line(xs: Sequence[float], values: Sequence[float | None], scale: _Scale) -> str:
    """A path that is interrupted where there is no value."""
    path, pen = [], "M"
    for x, value in zip(xs, values, strict=True):
        if value is None:
            pen = "M"
        else:
            path.append(f"{pen}{x:g} {scale.y(value):g}")
            pen = "L"
    return "".join(path)


def calendar(months: Mapping[str, CompanyMonths]) -> Calendar | None:
    """The calendar of companies, months and days; the company with the longest history is the first row."""
    numbers = {month: _month_number(month) for month in set[str]().union(*(one.days for one in months.values()))}
    days = {
        name: known
        for name, one in months.items()
        if (known := {number: count for month, count in one.days.items() if (number := numbers[month]) is not None})
    }
    usual = _usual_days(days.values())
    if not days:
        return None
    begin, end = min(usual), max(usual)
    strokes: dict[str, list[str]] = {"whole": [], "partial": [], "gap": []}
    rows: list[CalendarRow] = []
    gaps: list[tuple[int, str, int]] = []
    for name in sorted(days, key=lambda one: (min(days[one]), one)):
        known = days[name]
        runs = _runs(known, usual)
        found = [(-length, name, start) for kind, start, length in runs if kind == "gap"]
        gaps += found
        if sum(map(len, strokes.values())) + len(runs) <= _MOST_STROKES:
            y = len(rows)
            for kind, start, length in runs:
                strokes[kind].append(f"M{start - begin} {y}.5h{length}")
            rows.append(CalendarRow(name, y, _month(min(known)), _month(max(known)), len(found)))
    count = end - begin + 1
    every = next(step for step in (1, 2, 5, 10, 20, 50, 10_000) if count / 12 / step <= 12)
    years = range(-(-begin // 12), end // 12 + 1)
    return Calendar(
        months=count,
        rows=tuple(rows),
        **{kind: "".join(path) for kind, path in strokes.items()},
        years=tuple((12 * year - begin, year) for year in years if year % every == 0),
        gaps=tuple(
            Gap(name, _month(start), _month(start - less - 1), -less)
            for less, name, start in sorted(gaps)[:_LISTED_GAPS]
        ),
        all_gaps=len(gaps),
        left_out=len(days) - len(rows),
    )


def _usual_days(companies: Iterable[Mapping[int, int]]) -> dict[int, int]:
    """How many days most companies have in each month: a single one may have days on which nobody else trades."""
    counts: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for known in companies:
        for number, count in known.items():
            counts[number][count] += 1
    return {number: max(found, key=lambda count: (found[count], count)) for number, found in counts.items()}


def _runs(known: Mapping[int, int], usual: Mapping[int, int]) -> list[tuple[str, int, int]]:
    """Kind, start and length of months in a row that are alike. A company may begin and end in the midst of a month."""
    first, last = min(known), max(known)
    runs: list[tuple[str, int, int]] = []
    for number in range(first, last + 1):
        if number not in known:
            kind = "gap"
        elif known[number] >= _FULL_MONTH * usual[number] or number in (first, last):
            kind = "whole"
        else:
            kind = "partial"
        if runs and runs[-1][0] == kind:
            runs[-1] = (kind, runs[-1][1], runs[-1][2] + 1)
        else:
            runs.append((kind, number, 1))
    return runs


def _month_number(month: str | None) -> int | None:
    """Months since the year 0, or None for what is no month; somebody may have written anything to the table."""
    year, _, number = (month or "").partition("-")
    if not (year.isdecimal() and number.isdecimal() and len(year) == 4 and 1 <= int(number) <= 12):
        return None
    return 12 * int(year) + int(number) - 1


def _month(number: int) -> str:
    return f"{number // 12:04}-{number % 12 + 1:02}"


def bars(runs: Sequence[PastRun]) -> tuple[Bar, ...]:
    """A bar for each run, the oldest first: seconds, and on a scale of powers of ten the rows that it wrote."""
    oldest_first = list(reversed(runs))
    longest = max((run.elapsed_seconds for run in runs), default=0.0) or 1.0
    digits = [len(str(written(run))) if written(run) else 0 for run in oldest_first]
    most = max(digits, default=0) or 1
    return tuple(
        Bar(place, round(_CHART_HEIGHT * run.elapsed_seconds / longest, 1), round(_CHART_HEIGHT * count / most, 1), run)
        for place, (run, count) in enumerate(zip(oldest_first, digits, strict=True))
    )


def written(run: PastRun) -> int:
    """Rows that a run inserted or deleted."""
    return (run.inserted or 0) + (run.deleted or 0)
