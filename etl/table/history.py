"""Reads the journal: which load a run or a time means, and what changed between two loads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from etl.errors import SettingsError
from etl.table.database import query

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor


@dataclass(frozen=True)
class RunLoads:
    """The loads of one run: their numbers, and when the last one became visible."""

    numbers: tuple[int, ...]
    loaded_at: datetime

    @property
    def last(self) -> int:
        return self.numbers[-1]


@dataclass(frozen=True)
class CompanyDiff:
    """How many of a company's rows differ between two loads, and from which day to which (ISO)."""

    company_name: str
    changed: int
    removed: int
    added: int
    first_day: str
    last_day: str


@dataclass(frozen=True)
class RowDiff:
    """One row that differs: four prices, volume and the two derived values, before and after, as text."""

    company_name: str
    stock_date: str
    before: tuple[str | None, ...] | None
    after: tuple[str | None, ...] | None


def find_run(cursor: Cursor, run_id: str) -> RunLoads:
    """The loads of a run. Raises SettingsError when it committed none, or was undone."""
    loads = query(cursor, "loads_of_run", run_id=run_id)
    if not loads:
        where = "`mbd history` and the view stock_price_loads list them."
        raise SettingsError(f"No load of a run {run_id!r} is recorded. {where}")
    kept = [(number, at) for number, at, undone_by in loads if undone_by is None]
    if not kept:
        raise SettingsError(f"Run {run_id} was undone by run {loads[-1][2]}: it counts as if it had never been.")
    return RunLoads(tuple(number for number, _ in kept), kept[-1][1])


def find_spans(cursor: Cursor, run_id: str) -> list[tuple[int, int]]:
    """The load before and the last load of each time that a run loaded: of several, where it was repeated later.

    Loads between which no other run loaded are one. Raises SettingsError as `find_run` does.
    """
    numbers = find_run(cursor, run_id).numbers
    others = [row[0] for row in query(cursor, "loads_of_others", run_id=run_id, first=numbers[0], last=numbers[-1])]
    spans: list[tuple[int, int]] = []
    for number in numbers:
        if spans and not any(spans[-1][1] < other < number for other in others):
            spans[-1] = (spans[-1][0], number)
        else:
            spans.append((number - 1, number))
    return spans


def check_kept(cursor: Cursor, *, after: int) -> None:
    """Raise SettingsError unless the journal of all loads behind this one is there."""
    begins = query(cursor, "journal_gap", after=after)[0][0]
    if begins is not None:
        raise SettingsError(
            f"The journal begins at {begins:%Y-%m-%d %H:%M} UTC: what was before is not known any more."
        )


def diff_companies(cursor: Cursor, *, after: int, until: int) -> list[CompanyDiff]:
    """What differs between the table after one load and after a later one, by company; most rows first."""
    check_kept(cursor, after=after)
    found, others = [], []
    for name, is_range, rows, first_day, last_day in query(cursor, "touched_companies", after=after, until=until):
        if is_range and first_day:
            found.append(CompanyDiff(name, 0, 0, rows, first_day, last_day))
        else:
            others.append(name)
    for facts in query(cursor, "diff_by_company", companies=others, after=after, until=until) if others else []:
        found.append(CompanyDiff(*facts))
    return add_up(found)


def add_up(diffs: Iterable[CompanyDiff]) -> list[CompanyDiff]:
    """One diff for each company, with the changes of all of its diffs; most rows first."""
    found: dict[str, CompanyDiff] = {}
    for one in diffs:
        other = found.get(one.company_name)
        found[one.company_name] = (
            one
            if other is None
            else CompanyDiff(
                one.company_name,
                one.changed + other.changed,
                one.removed + other.removed,
                one.added + other.added,
                min(one.first_day, other.first_day),
                max(one.last_day, other.last_day),
            )
        )
    return sorted(found.values(), key=lambda one: (-(one.changed + one.removed + one.added), one.company_name))


def diff_rows(cursor: Cursor, *, after: int, until: int) -> Iterator[RowDiff]:
    """Each row that differs between the table after one load and after a later one, by company and day."""
    check_kept(cursor, after=after)
    names = [row[0] for row in query(cursor, "touched_companies", after=after, until=until)]
    for name, day, before, after_ in query(cursor, "diff_by_row", companies=names, after=after, until=until):
        yield RowDiff(name, day, before and tuple(before), after_ and tuple(after_))


@dataclass(frozen=True)
class JournalSize:
    """How much the journal holds: changes, loads that it covers, bytes on disk, and since when it is whole."""

    changes: int
    loads: int
    size_bytes: int
    since: datetime | None


def read_journal_size(cursor: Cursor) -> JournalSize:
    return JournalSize(*query(cursor, "journal_size")[0])


def real_changes(changes: Iterable[tuple[Any, ...]], *, is_there: bool) -> Iterator[tuple[Any, ...]]:
    """Those of the changes of a day, the newest first, that brought or changed its row.

    A company that was new, or grew, is journalled as a range of days, also of days that have no row. `is_there`:
    whether the table has the row now.
    """
    for change, *facts in changes:
        if is_there or change not in ("new", "grew"):
            yield change, *facts
        is_there = change in ("changed", "removed")
