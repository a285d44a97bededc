"""Names what a load did to a company's history: one factor up to a day, corrections, rows removed or added."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from etl.table.database import query

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

_FITTING_SHARE = 0.95
"""Of the changed rows that one factor must explain. Chance corrections fit a factor in a few rows, a factor in all but
those that the vendor corrected in the same edition."""
_FEWEST_FOR_FACTOR = 5
"""Changed rows: of fewer, one factor may fit by chance, and each can be looked at."""
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

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Restatement:
        """A restatement from the object that its JSON holds."""
        examples = tuple((day, field, before, after) for day, field, before, after in facts["examples"])
        return cls(**{**facts, "kind": Kind(facts["kind"]), "examples": examples})


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
    factors = _factors(cursor) if any(one.rows >= _FEWEST_FOR_FACTOR for one in changed.values()) else {}
    factors = {name: one for name, one in factors.items() if one.is_likely(changed[name].rows)}
    covered = _covered_rows(cursor, factors)
    found: list[Restatement] = []
    for name, one in changed.items():
        factor = factors.get(name)
        if factor and one.rows >= _COVERED_SHARE * covered.get(name, 0):
            found.append(factor.restatement(name, first_day=one.first_day, covered=covered.get(name, 0)))
            one = Differences(one.rows - factor.fitting, one.first_day, one.last_day, 0)  # noqa: PLW2901
        if one.rows:
            few = one.rows <= max(_MOST_CORRECTIONS, _CORRECTED_SHARE * known_rows.get(name, 0))
            kind = Kind.CORRECTED if few else Kind.REWRITTEN
            found.append(Restatement(name, kind, one.rows, one.first_day, one.last_day))
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
class _Factor:
    """One factor for a company's changed rows, and how many it fits."""

    price: float
    volume: float | None
    rows: int
    fitting: int
    last_day: str | None
    volume_fitting: int
    same_volume: int

    def is_likely(self, changed: int) -> bool:
        return (
            changed >= _FEWEST_FOR_FACTOR
            and self.fitting >= _FITTING_SHARE * self.rows
            and abs(self.price - 1) > _SAME_PRICES
        )

    def restatement(self, name: str, *, first_day: str, covered: int) -> Restatement:
        volume = None
        if self.volume and self.same_volume < _FITTING_SHARE * self.rows <= self.volume_fitting:
            volume = self.volume
        is_split = volume is not None and abs(self.price * volume - 1) < _SPLIT_TOLERANCE
        return Restatement(
            name,
            Kind.SPLIT if is_split else Kind.FACTOR,
            self.fitting,
            first_day,
            self.last_day or first_day,
            factor=self.price,
            volume_factor=volume,
            whole=covered == self.fitting,
        )


def _factors(cursor: Cursor) -> dict[str, _Factor]:
    return {name: _Factor(*facts) for name, *facts in query(cursor, "factors")}


def _covered_rows(cursor: Cursor, factors: Mapping[str, _Factor]) -> dict[str, int]:
    if not factors:
        return {}
    days = [one.last_day for one in factors.values()]
    return dict(query(cursor, "count_days_until", companies=list(factors), days=days))


def _with_examples(cursor: Cursor, found: list[Restatement]) -> list[Restatement]:
    multiplied = {one.company_name for one in found if one.factor is not None}  # whose first rows are no corrections
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
