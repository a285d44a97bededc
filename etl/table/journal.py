"""Replaces companies that changed: finds the rows that differ, journals their old values, and touches no other row."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from etl.batch.company_index import company_name
from etl.errors import SettingsError
from etl.table.copying import copy_rows
from etl.table.database import QUERIES, query
from etl.table.restatements import Differences, Restatement, name_restatements
from etl.table.whole import replace_whole

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

LARGEST_LOSS = 0.1
"""The share of a company's loaded days that a new file may lack. A vendor takes single wrong days out; a file that
lacks a tenth of the days, or the last one, was cut off."""

_ROWS_AT_ONCE = 100_000  # compared by one statement: some 30 MB of text, which a sort or a hash holds in memory


@dataclass(frozen=True)
class HeldCompany:
    """A company whose new file lost days that are loaded. It keeps its rows until somebody consents."""

    company_name: str
    rows: int
    """Rows of the new file, which were not loaded."""
    last_day: str | None
    loaded_rows: int
    loaded_last_day: str | None


@dataclass(frozen=True)
class Known:
    """What the ledger says of a company: rows, and the last day (ISO)."""

    rows: int
    last_day: str | None


@dataclass(frozen=True)
class Replaced:
    """What became of companies that changed. Row counts are PostgreSQL's own, or, of a dry run, what they would be."""

    inserted: int = 0
    deleted: int = 0
    kept: int = 0
    """Rows of these companies that did not differ, those that are held back left out."""
    held: tuple[HeldCompany, ...] = ()
    restatements: tuple[Restatement, ...] = ()
    """The largest first."""
    grown: Mapping[str, int] = field(default_factory=dict)
    """Companies that got days behind their last one, and how many."""

    def plus(self, other: Replaced) -> Replaced:
        return Replaced(
            self.inserted + other.inserted,
            self.deleted + other.deleted,
            self.kept + other.kept,
            self.held + other.held,
            self.restatements + other.restatements,
            {**self.grown, **other.grown},
        )


@dataclass(frozen=True)
class Consent:
    """Which shrunk companies are to be loaded all the same: those named, or all of them."""

    to_all: bool
    names: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def of(cls, names: Sequence[str]) -> Consent:
        """Consent as a person writes it: company names, or `all`."""
        return cls("all" in names, frozenset(map(company_name, names)))

    def __contains__(self, name: str) -> bool:
        return self.to_all or name in self.names


def replace_companies(
    cursor: Cursor,
    companies: Mapping[str, int],
    *,
    load: int,
    fill: Callable[[Collection[str]], Iterator[tuple[str, bytes]]] | None,
    wanted: int | None = None,
    known: Mapping[str, Known],
    consent: Consent,
    is_suspect: bool,
    dry_run: bool = False,
    journalled: bool = True,
    loaded_until: Callable[[str, bytes], str | None] = lambda _name, _slice: None,
) -> Replaced:
    """Make the rows of `companies` those that `fill` yields for them, or, without it, those of the load `wanted`.

    `companies`: about how many rows each has. PostgreSQL computes the difference. Only rows that differ are touched;
    with `journalled` their old values are kept. `is_suspect`: somebody else may have written to the table, so rows that
    no load can have written are removed first. `loaded_until`: where a company's slice is what was last loaded, or that
    and days behind it, the last of the loaded days (ISO). Whatever else differs, and each row behind that day, was
    written by somebody else, and is put right without a journal, as no load has done it. Raises SettingsError when
    the table takes other rows than it was given.
    """
    if not companies:
        return Replaced()
    done = Replaced()
    if is_suspect:  # in a dry run too, which is rolled back
        query(cursor, "remove_foreign_rows", companies=list(companies))
        done = Replaced(deleted=cursor.rowcount)
    query(cursor, "enough_memory")
    query(cursor, "make_incoming")
    query(cursor, "make_differences")
    may_be_whole = not (is_suspect or dry_run or query(cursor, "has_foreign_code")[0][0])
    for names in _groups(companies):
        as_loaded: dict[str, str] = {}
        if fill is None:
            query(cursor, "copy_incoming_as_of", wanted=wanted, companies=names)
        else:
            contents = dict(fill(names))
            for one in replace_whole(cursor, contents, load=load) if may_be_whole else ():
                grown = {one.company_name: one.after - one.before} if one.after > one.before else {}
                done = done.plus(Replaced(one.after, one.before, restatements=one.restatements, grown=grown))
                del contents[one.company_name]
            names = list(contents)  # noqa: PLW2901
            copy_rows(cursor, QUERIES["copy_incoming"], iter(contents.values()))
            days = {name: loaded_until(name, content) for name, content in contents.items()}
            as_loaded = {name: day for name, day in days.items() if day is not None}
        if as_loaded:  # a new day that somebody else wrote is not there before the file's own
            behind = {"companies": list(as_loaded), "last_days": list(as_loaded.values())}
            query(cursor, "remove_rows_behind", **behind)
            done = done.plus(Replaced(deleted=cursor.rowcount))
        group = _replace_group(
            cursor,
            names,
            load=load,
            known=known,
            as_loaded=as_loaded,
            consent=consent,
            dry_run=dry_run,
            journalled=journalled,
        )
        done = done.plus(group)
        query(cursor, "forget_differences")
    largest = sorted(done.restatements, key=lambda one: (-one.rows, one.company_name, one.kind))
    return replace(done, restatements=tuple(largest))


def _groups(companies: Mapping[str, int]) -> Iterator[list[str]]:
    """Companies in groups of so many rows that what is done with one fits into memory."""
    group: list[str] = []
    rows = 0
    for name, count in companies.items():
        if group and rows + count > _ROWS_AT_ONCE:
            yield group
            group, rows = [], 0
        group.append(name)
        rows += count
    yield group


def _replace_group(
    cursor: Cursor,
    names: list[str],
    *,
    load: int,
    known: Mapping[str, Known],
    as_loaded: Mapping[str, str],
    consent: Consent,
    dry_run: bool,
    journalled: bool,
) -> Replaced:
    there = {name: Known(rows, day) for name, rows, day in query(cursor, "known_companies", companies=names)}
    query(cursor, "find_differences", companies=names)
    last_days: dict[str, str | None] = {name: one.last_day for name, one in there.items()}
    last_days |= as_loaded
    days = {"companies": list(last_days), "last_days": list(last_days.values())}
    sums = _sum_differences(cursor, days)
    restated = {name: kinds for name, kinds in sums.items() if name not in as_loaded}
    held = _held_companies(cursor, restated, known=known, consent=consent)
    if held:
        kept_names = [one.company_name for one in held]
        query(cursor, "hold_back", companies=kept_names)
        sums = {name: kinds for name, kinds in sums.items() if name not in kept_names}
        restated = {name: kinds for name, kinds in restated.items() if name not in kept_names}
        names = [name for name in names if name not in kept_names]
    restatements = name_restatements(cursor, restated, known_rows={name: one.rows for name, one in there.items()})
    added = {name: kinds["added"].grown for name, kinds in sums.items() if "added" in kinds}
    grown = {name: rows for name, rows in added.items() if rows}
    inserted = sum(one.rows for kinds in sums.values() for kind, one in kinds.items() if kind != "removed")
    deleted = sum(one.rows for kinds in sums.values() for kind, one in kinds.items() if kind != "added")
    if not dry_run:
        if journalled:
            query(cursor, "journal_differences", load=load, as_loaded=list(as_loaded), **days)
        given = {name: rows for name, rows, _ in query(cursor, "incoming_companies")}
        query(cursor, "delete_differing")
        removed = cursor.rowcount
        query(cursor, "insert_differing")
        if (removed, cursor.rowcount) != (deleted, inserted):  # counted below too, but both may have been kept back
            raise _table_without_changes(wanted=inserted + deleted, done=removed + cursor.rowcount)
        check_counts(cursor, {name: given.get(name, 0) for name in names})
    kept = sum(there[name].rows for name in names if name in there) - deleted
    return Replaced(inserted, deleted, kept, tuple(held), tuple(restatements), grown)


def check_counts(cursor: Cursor, companies: Mapping[str, int]) -> None:
    """Count the rows that the table holds of these companies. Raises SettingsError when it is another number."""
    found = dict(query(cursor, "count_companies", companies=list(companies))) if companies else {}
    wrong = {name: rows for name, rows in companies.items() if found.get(name, 0) != rows}
    if wrong:
        raise unfit_table({name: (found.get(name, 0), rows) for name, rows in wrong.items()})


def unfit_table(wrong: Mapping[str, tuple[int, int]]) -> SettingsError:
    """The error for companies of which the table holds another number of rows than it was given."""
    name, (found, given) = next(iter(wrong.items()))
    return SettingsError(
        f"The table does not hold what it was given, of {len(wrong):,} companies ({name}: {found:,} rows, {given:,} "
        "given). Nothing was loaded. Look for a trigger or rule on historical_stocks_data that keeps or renames rows, "
        "and for somebody who writes to it now; if there is neither, load with --reload."
    )


def _table_without_changes(*, wanted: int, done: int) -> SettingsError:
    return SettingsError(
        f"The table does not hold what it was given: it took {done:,} of {wanted:,} deletions and insertions. Nothing "
        "was loaded. Look for a trigger, rule or policy on historical_stocks_data that keeps rows."
    )


def _sum_differences(cursor: Cursor, days: Mapping[str, object]) -> dict[str, dict[str, Differences]]:
    sums: dict[str, dict[str, Differences]] = {}
    for name, change, *facts in query(cursor, "sum_differences", **days):
        sums.setdefault(name, {})[change] = Differences(*facts)
    return sums


def _held_companies(
    cursor: Cursor,
    sums: Mapping[str, Mapping[str, Differences]],
    *,
    known: Mapping[str, Known],
    consent: Consent,
) -> list[HeldCompany]:
    """Companies that lost days. Measured by the ledger, so that rows of somebody else are no loss when they go."""
    shrunk = [name for name, kinds in sums.items() if "removed" in kinds and name in known and name not in consent]
    if not shrunk:
        return []
    incoming = {name: Known(rows, day) for name, rows, day in query(cursor, "incoming_companies")}
    held = []
    for name in shrunk:
        new, old = incoming.get(name, Known(0, None)), known[name]
        added = sums[name]["added"].rows if "added" in sums[name] else 0
        lost = min(sums[name]["removed"].rows, old.rows - (new.rows - added))
        ends_earlier = old.last_day is not None and (new.last_day or "") < old.last_day
        if ends_earlier or lost > LARGEST_LOSS * old.rows:
            held.append(HeldCompany(name, new.rows, new.last_day, old.rows, old.last_day))
    return held
