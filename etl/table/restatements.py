"""Names what a load did to a company's history: one factor up to a day, corrections, rows removed or added."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from etl.table.database import QUERIES, query
from etl.table.factors import FEWEST_FOR_FACTOR, FITTING_SHARE, ChangedRow, Span, explained_days, find_spans

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

_COVERED_SHARE = 0.5
"""Of the rows up to the last one with the factor that must have changed: a dividend moves all of them, but a small one
leaves prices of few digits as they were."""
_SAME_PRICES = 1e-6
"""A factor nearer to 1 than this is rounding: something else than the prices was changed."""
_SPLIT_TOLERANCE = 0.02
"""By how much prices times volumes may change in a split."""
_MOST_CORRECTIONS = 20
_CORRECTED_SHARE = 0.01
"""A vendor corrects single days. More rows than both of these, with no factor, fit no pattern."""
_FIELDS = ("open", "high", "low", "close", "volume")


class Kind(StrEnum):
    """What a load did to a company's history."""

    FACTOR = "factor"
    """Prices up to a day were multiplied by one factor: a dividend or a split."""
    SPLIT = "split"
    """Prices up to a day were multiplied by one factor, and volumes divided by it."""
    FACTORS = "factors"
    """Prices were multiplied by several factors, each over a span of days: dividends or splits."""
    CORRECTED = "corrected"
    """Single rows have other values."""
    REWRITTEN = "rewritten"
    """Many rows have other values, and no pattern fits."""
    REMOVED = "removed"
    """Days are not there any more."""
    ADDED = "added"
    """Days were added before the last known one."""
    RESPELLED = "respelled"
    """The same numbers are written in another way; the journal does not have them."""


@dataclass(frozen=True)
class Restatement:
    """One thing that a load did to one company's history. Days are ISO dates."""

    company_name: str
    kind: Kind
    rows: int
    first_day: str
    last_day: str
    factor: float | None = None
    """New prices are the old ones times this; None where there is no one factor."""
    volume_factor: float | None = None
    """The same of volumes; None where they did not change, or not by one factor."""
    whole: bool = False
    """Of a factor: are these all rows up to the last day?"""
    examples: tuple[tuple[str, str, str, str], ...] = ()
    """Of corrections the first ones: day, field, value before, value after."""
    spans: tuple[tuple[str, float, float | None], ...] = ()
    """Of several factors, the newest first: the last day of each, factor of prices and factor of volumes."""

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Restatement:
        """A restatement from the object that its JSON holds."""
        examples = tuple((day, field, before, after) for day, field, before, after in facts["examples"])
        spans = tuple((day, price, volume) for day, price, volume in facts.get("spans", ()))
        return cls(**{**facts, "kind": Kind(facts["kind"]), "examples": examples, "spans": spans})


@dataclass(frozen=True)
class Differences:
    """Of one company and one kind of change: rows, first and last day, and how many follow the last known day."""

    rows: int
    first_day: str
    last_day: str
    grown: int


def name_restatements(
    cursor: Cursor, differences: Mapping[str, Mapping[str, Differences]], *, known_rows: Mapping[str, int]
) -> list[Restatement]:
    """Name what the temporary table `differences` holds, before it is applied: the largest first.

    `differences` sums it up by company and kind of change; `known_rows` is how many rows each company has.
    """
    changed = {name: kinds["changed"] for name, kinds in differences.items() if "changed" in kinds}
    factors = _factors(cursor) if any(one.rows >= FEWEST_FOR_FACTOR for one in changed.values()) else {}
    factors = {name: one for name, one in factors.items() if name in changed and one.is_likely(changed[name].rows)}
    named = _one_factor(cursor, factors, changed)
    left = {name: one.rows - (named[name].rows if name in named else 0) for name, one in changed.items()}
    others = {name: (factors[name].first_other, factors[name].last_other) for name in named}
    unnamed = {name: changed[name] for name, rows in left.items() if rows >= FEWEST_FOR_FACTOR}
    several = _several_factors(cursor, unnamed)
    named |= {name: one for name, (one, _) in several.items()}
    others |= {name: (days[0], days[-1]) for name, (_, days) in several.items() if days}
    found = list(named.values())
    for name, one in changed.items():
        if rows := one.rows - (named[name].rows if name in named else 0):
            few = rows <= max(_MOST_CORRECTIONS, _CORRECTED_SHARE * known_rows.get(name, 0))
            kind = Kind.CORRECTED if few else Kind.REWRITTEN
            found.append(Restatement(name, kind, rows, *others.get(name, (one.first_day, one.last_day))))
    for name, kinds in differences.items():
        for change in (Kind.REMOVED, Kind.ADDED, Kind.RESPELLED):
            if (other := kinds.get(change)) and other.rows > other.grown and name in known_rows:
                rows = other.rows - other.grown
                found.append(Restatement(name, change, rows, other.first_day, other.last_day))
    return sorted(_with_examples(cursor, found), key=lambda one: (-one.rows, one.company_name, one.kind))


def record_restatements(cursor: Cursor, found: Iterable[Restatement], *, load: int) -> None:
    """Put them into the caller's transaction."""
    facts = [asdict(one) for one in found]
    if facts:
        query(cursor, "record_restatements", load=load, restatements=json.dumps(facts))


@dataclass(frozen=True)
class Factor:
    """One factor for a company's changed rows, and how many it fits."""

    price: float
    volume: float | None
    rows: int
    fitting: int
    volume_fitting: int
    same_volume: int
    first_day: str
    """The first day of the rows that it fits, and the last one; None in the query's answer where there is none."""
    last_day: str
    first_other: str
    """The same of the rows that it does not fit."""
    last_other: str

    def is_likely(self, changed: int) -> bool:
        return (
            changed >= FEWEST_FOR_FACTOR
            and self.fitting >= FITTING_SHARE * self.rows
            and abs(self.price - 1) > _SAME_PRICES
        )

    def restatement(self, name: str, *, covered: int) -> Restatement:
        volume = None
        if self.volume and self.same_volume < FITTING_SHARE * self.rows <= self.volume_fitting:
            volume = self.volume
        is_split = volume is not None and abs(self.price * volume - 1) < _SPLIT_TOLERANCE
        return Restatement(
            name,
            Kind.SPLIT if is_split else Kind.FACTOR,
            self.fitting,
            self.first_day,
            self.last_day,
            factor=_rounded(self.price),
            volume_factor=volume and _rounded(volume),
            whole=covered == self.fitting,
        )


def _rounded(factor: float) -> float:
    """To what does not depend on the order in which rows are summed."""
    return float(f"{factor:.10g}")


def _factors(cursor: Cursor) -> dict[str, Factor]:
    return {name: Factor(*facts) for name, *facts in query(cursor, "factors")}


def _one_factor(
    cursor: Cursor, factors: Mapping[str, Factor], changed: Mapping[str, Differences]
) -> dict[str, Restatement]:
    """Companies whose whole history up to a day was multiplied by one factor."""
    covered = _covered_rows(cursor, {name: one.last_day for name, one in factors.items()})
    return {
        name: one.restatement(name, covered=covered.get(name, 0))
        for name, one in factors.items()
        if changed[name].rows >= _COVERED_SHARE * covered.get(name, 0)
    }


def _several_factors(
    cursor: Cursor, changed: Mapping[str, Differences]
) -> dict[str, tuple[Restatement, Sequence[str]]]:
    """Companies whose history up to a day was multiplied by several factors, each over a span of days.

    Each with the days that no factor explains, in their order.
    """
    covered = _covered_rows(cursor, {name: one.last_day for name, one in changed.items()})
    likely = [name for name, one in changed.items() if one.rows >= _COVERED_SHARE * covered.get(name, 0)]
    found: dict[str, tuple[Span, ...]] = {}
    others: dict[str, list[str]] = {}
    if likely:
        cursor.execute(QUERIES["changed_rows"], {"companies": likely})  # one row after another: they may be many
        for name, rows in groupby(cursor, key=itemgetter(0)):
            days: list[str] = []
            plausible: list[ChangedRow] = []
            for _, day, *values, is_plausible in rows:
                days.append(day)
                if is_plausible:
                    plausible.append(ChangedRow.of(day, values[:5], values[5:]))
            spans = find_spans(plausible)
            if len(spans) > 1:
                found[name] = tuple(spans)
                explained = explained_days(spans, plausible)
                others[name] = [day for day in days if day not in explained]
    covered = _covered_rows(cursor, {name: spans[0].last_day for name, spans in found.items()})
    return {
        name: (_restatement_of(name, spans, covered=covered.get(name, 0)), others[name])
        for name, spans in found.items()
    }


def _restatement_of(name: str, spans: Sequence[Span], *, covered: int) -> Restatement:
    rows = sum(one.rows for one in spans)
    return Restatement(
        name,
        Kind.FACTORS,
        rows,
        spans[-1].first_day,
        spans[0].last_day,
        whole=rows == covered,
        spans=tuple((one.last_day, one.factor, one.volume_factor) for one in spans),
    )


def _covered_rows(cursor: Cursor, last_days: Mapping[str, str | None]) -> dict[str, int]:
    """How many rows each of these companies has up to a day."""
    if not last_days:
        return {}
    return dict(query(cursor, "count_days_until", companies=list(last_days), days=list(last_days.values())))


def _with_examples(cursor: Cursor, found: list[Restatement]) -> list[Restatement]:
    multiplied = {
        one.company_name for one in found if one.factor is not None or one.spans
    }  # whose first rows are no corrections
    corrected = [one.company_name for one in found if one.kind == Kind.CORRECTED and one.company_name not in multiplied]
    examples: dict[str, list[tuple[str, str, str, str]]] = {}
    for name, day, before, after in query(cursor, "examples", companies=corrected) if corrected else []:
        examples.setdefault(name, []).extend(_changed_fields(day, before, after))
    return [
        Restatement(**{**vars(one), "examples": tuple(examples.get(one.company_name, ())[:3])})
        if one.kind == Kind.CORRECTED
        else one
        for one in found
    ]


def _changed_fields(day: str, before: list[Any], after: list[Any]) -> Iterable[tuple[str, str, str, str]]:
    for field, old, new in zip(_FIELDS, before, after, strict=True):
        if old != new:
            yield day, field, str(old), str(new)
