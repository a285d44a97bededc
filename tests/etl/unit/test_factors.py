"""Factors that a vendor multiplied real histories by are found, each with its days; corrections are no factors."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import prod

import pytest

from etl.table.factors import ChangedRow, Span, find_spans
from tests.support.paths import SAMPLE

_LEAST_ROWS = 70
Row = tuple[str, ...]
"""Day, open, high, low, close, volume."""


def histories() -> Iterator[tuple[str, list[Row]]]:
    for path in sorted((SAMPLE / "Stocks").iterdir()):
        rows = [tuple(line.split(",")[:6]) for line in path.read_text().splitlines()[1:]]
        if len(rows) >= _LEAST_ROWS:
            yield path.name, rows


HISTORIES = dict(histories())
LONG = [name for name, rows in HISTORIES.items() if len(rows) > 300]


def restated(row: Row, factor: float, *, volumes: float = 1.0) -> Row:
    """As the vendor restates a row: prices in five significant digits."""
    day, *prices, volume = row
    return (
        day,
        *(f"{float(f'{float(price) * factor:.5g}'):.10f}".rstrip("0") for price in prices),
        f"{int(volume) * volumes:.0f}",
    )


def changed(before: Sequence[Row], after: Sequence[Row]) -> list[ChangedRow]:
    """The rows that a load would compare: those whose numbers are other ones."""
    pairs = zip(before, after, strict=True)
    return [
        ChangedRow.of(one[0], one[1:], two[1:])
        for one, two in pairs
        if [float(cell) for cell in one[1:]] != [float(cell) for cell in two[1:]]
    ]


def edition(rows: Sequence[Row], until: Sequence[int], factors: Sequence[float]) -> list[Row]:
    """The history as the vendor restates it, who multiplies a row by the factors of all dividends after its day."""
    made = []
    for number, row in enumerate(rows):
        factor = prod(one for end, one in zip(until, factors, strict=True) if number < end)
        made.append(row if factor == 1 else restated(row, factor))
    return made


def dividends(rows: Sequence[Row], *, count: int) -> list[int]:
    """How many rows are before each of the last dividends: one a quarter, or more often in a short history."""
    return [len(rows) - min(20, len(rows) // 10) - min(63, len(rows) // 6) * number for number in range(count)]


def spans_of(rows: Sequence[Row], until: Sequence[int], factors: Sequence[float]) -> list[Span]:
    return find_spans(changed(rows, edition(rows, until, factors)))


def test_real_histories_are_as_many_as_the_promise_says() -> None:
    assert len(HISTORIES) == 33


@pytest.mark.parametrize("factors", [(0.9975, 0.9975), (0.987, 0.9925), (0.5, 0.99), (0.995, 0.99, 0.985)])
@pytest.mark.parametrize("name", HISTORIES)
def test_each_dividend_since_the_last_edition_is_found_with_its_day(name: str, factors: tuple[float, ...]) -> None:
    rows = HISTORIES[name]
    until = dividends(rows, count=len(factors))
    found = spans_of(rows, until, factors)
    assert [one.last_day for one in found] == [rows[number - 1][0] for number in until]
    product = 1.0
    for one, factor in zip(found, factors, strict=True):
        product *= factor
        assert one.factor == pytest.approx(product, rel=2e-4)
    assert all(newer.first_day > older.last_day for newer, older in pairwise(found))
    assert sum(one.rows for one in found) >= 0.999 * until[0]


@pytest.mark.parametrize("factor", [0.9975, 0.5, 0.98765, 3.0])
@pytest.mark.parametrize("name", HISTORIES)
def test_one_dividend_is_one_span(name: str, factor: float) -> None:
    rows = HISTORIES[name]
    [one] = spans_of(rows, [len(rows) - 5], [factor])
    assert one.last_day == rows[-6][0]
    assert one.factor == pytest.approx(factor, rel=1e-4)


@pytest.mark.parametrize("name", HISTORIES)
def test_split_between_dividends_is_found_by_its_volumes(name: str) -> None:
    rows = HISTORIES[name]
    until, split = dividends(rows, count=2)
    after = [restated(row, 0.9975) for row in rows[:until]] + rows[until:]
    after[:split] = [restated(row, 0.5, volumes=2) for row in after[:split]]
    newer, older = find_spans(changed(rows, after))
    assert newer.volume_factor is None
    assert older.volume_factor == pytest.approx(2, rel=1e-3)
    assert (newer.last_day, older.last_day) == (rows[until - 1][0], rows[split - 1][0])


@pytest.mark.parametrize("share", [0.01, 0.2, 1.0])
@pytest.mark.parametrize("name", HISTORIES)
def test_corrections_are_no_factors(name: str, share: float) -> None:
    rows, dice = HISTORIES[name], random.Random(name)
    after = [restated(row, dice.uniform(0.9, 1.1)) if dice.random() < share else row for row in rows]
    assert find_spans(changed(rows, after)) == []


@pytest.mark.parametrize("name", LONG)
def test_corrections_among_restated_rows_make_no_span_of_their_own(name: str) -> None:
    rows, dice = HISTORIES[name], random.Random(name)
    until = dividends(rows, count=2)
    after = edition(rows, until, (0.9975, 0.99))
    for number in dice.sample(range(until[1]), k=3):
        after[number] = restated(after[number], 1.3)
    week = dice.randrange(until[1] - 50)
    after[week : week + 6] = [restated(row, 2) for row in after[week : week + 6]]
    assert [one.last_day for one in find_spans(changed(rows, after))] == [rows[number - 1][0] for number in until]


@pytest.mark.parametrize("digits", [0, 1, 2, 4])
def test_rough_prices_of_few_rows_have_spans_that_follow_each_other_or_none(digits: int) -> None:
    found = 0
    for seed in range(1500):
        dice = random.Random(seed)
        count, factors = dice.randint(5, 30), dice.choices((0.1, 0.5, 0.9, 0.99, 0.999, 1.001, 1.01, 2), k=4)
        rows = []
        for number in range(count):
            factor = factors[number * 4 // count] if dice.random() < 0.9 else dice.choice(factors)
            opened = round(dice.uniform(0.1, 40), digits)
            before = [f"{one:.{digits}f}" for one in (opened, opened, opened, opened * dice.uniform(0.9, 1.1))]
            after = [f"{float(one) * factor:.{digits}f}" for one in before]
            rows.append(ChangedRow(f"2001-01-{number + 1:02}", before, "100", after, "100"))
        spans = find_spans(rows)
        assert all(one.first_day > other.last_day for one, other in pairwise(spans))
        assert sum(one.rows for one in spans) <= count
        found += len(spans) > 1
    assert found > 10
