"""Replaces companies whose whole history was multiplied by one factor, as the day after a dividend or a split.

All of their rows change, so there is no difference to look for: the new rows are copied behind the old ones, compared
with them in one pass, and the old ones go to the journal as they are deleted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etl.table.copying import copy_rows
from etl.table.database import QUERIES, query
from etl.table.factors import FEWEST_FOR_FACTOR, ChangedRow, find_factor
from etl.table.restatements import Factor, Kind, Restatement

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

_PLAUSIBLE_FACTORS = 1e-100, 1e100  # what plausible prices can be multiplied by (journal.sql, `differences`)
_SAMPLE_ROWS = 32
"""Of a company, looked at before it is copied: a wrong guess costs time, as its rows are removed again."""


@dataclass(frozen=True)
class Whole:
    """What became of one company: the rows before and after, and from when to when it grew."""

    company_name: str
    before: int
    after: int
    first_new_day: str | None
    last_new_day: str | None
    restatements: tuple[Restatement, ...]


def replace_whole(cursor: Cursor, contents: Mapping[str, bytes], *, load: int) -> list[Whole]:
    """Replace and journal those of these companies, each with its slice, whose every old row changed by one factor.

    The others, and those that lost a day or got one before the last, are as they were. No row of them was written by
    this transaction before, and nothing of somebody else acts on the table.
    """
    factors = dict(_guess_factors(cursor, contents))
    if not factors:
        return []
    copy_rows(cursor, QUERIES["copy_rows"], (content for name, content in contents.items() if name in factors))
    done = list(_compare(cursor, factors))
    names = [one.company_name for one in done]
    if others := sorted(factors.keys() - set(names)):
        query(cursor, "take_back", companies=others)
    if names:
        query(cursor, "journal_whole", companies=names, load=load)
        grown = [one for one in done if one.after > one.before]
        query(
            cursor,
            "journal_ranges",
            change="grew",
            load=load,
            companies=[one.company_name for one in grown],
            rows=[one.after - one.before for one in grown],
            first_days=[one.first_new_day for one in grown],
            last_days=[one.last_new_day for one in grown],
        )
    return done


def _guess_factors(cursor: Cursor, contents: Mapping[str, bytes]) -> Iterator[tuple[str, tuple[float, float]]]:
    """By a few rows of each company: the factors of prices and volumes, where every row changed by one factor."""
    samples = {name: _sample(content) for name, content in contents.items() if content}
    wanted = [(name, day) for name, rows in samples.items() for day in rows]
    if not wanted:
        return
    companies, days = zip(*wanted, strict=True)
    found: dict[str, list[ChangedRow]] = {}
    for name, day, *old in query(cursor, "rows_of_days", companies=list(companies), days=list(days)):
        found.setdefault(name, []).append(ChangedRow.of(day, old, samples[name][day]))
    for name, rows in found.items():
        with suppress(ValueError):  # somebody wrote what is no number
            factor = find_factor(rows) if len(rows) >= FEWEST_FOR_FACTOR else None
            least, most = _PLAUSIBLE_FACTORS
            if factor and least < factor[0] < most:
                yield name, factor


def _sample(content: bytes) -> dict[str, list[str]]:
    """Rows at even distances: prices and volume by day."""
    rows = {}
    for number in range(_SAMPLE_ROWS):
        start = content.rfind(b"\n", 0, len(content) * number // _SAMPLE_ROWS) + 1
        day, *fields = content[start : content.index(b"\n", start)].decode().split(",")
        rows[day] = fields[:5]
    return rows


def _compare(cursor: Cursor, factors: Mapping[str, tuple[float, float]]) -> Iterator[Whole]:
    """Of companies whose new rows were copied behind their old ones, those of which every row changed by the factor."""
    found = query(
        cursor,
        "compare_whole",
        companies=list(factors),
        prices=[price for price, _ in factors.values()],
        volumes=[volume for _, volume in factors.values()],
    )
    for name, before, after, changed, last_day, first_new, last_new, price, volume, fits, *rest in found:
        factor = Factor(price, volume, changed, fits, *rest)
        left = before - fits
        is_tail = before == changed and (first_new is None or first_new > last_day)
        if is_tail and factor.is_likely(changed) and left < FEWEST_FOR_FACTOR:
            named = [factor.restatement(name, covered=before)]
            if left:
                named.append(Restatement(name, Kind.CORRECTED, left, factor.first_other, factor.last_other))
            yield Whole(name, before, after, first_new, last_new, tuple(named))
