"""Loads slices of the combined file into the table in one transaction, with ledger and run history.

The ledger decides for each company: a slice that is loaded already is not even read; of one that only grew, the new
rows are copied; of any other, the rows that differ are replaced (journal.py). Rows, ledger, journal and record are
committed together, so readers see the batch before or after. Long because it is one transaction, lock to commit.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Protocol

from etl.errors import EITHER_WHOLE, BatchError, EtlError, NoConnectionError
from etl.files.combined_file import CombinedFile
from etl.files.flags import FlaggedRow
from etl.files.manifest import Manifest, Slice
from etl.table.copying import copy_rows
from etl.table.database import QUERIES, connect, query
from etl.table.flagged import record_flagged
from etl.table.growth import Tail, forget_all_entries, forget_old_entries, hash_by_day, journal_added, last_day
from etl.table.journal import Consent, HeldCompany, Known, Replaced, check_counts, replace_companies
from etl.table.ledger import Ends, read_ledger, record_slices
from etl.table.outside_writes import OutsideWrites, find_outside_writes, forget_outside_writes
from etl.table.rejected import record_rejected
from etl.table.restatements import Restatement, record_restatements
from etl.table.runs import RunRecord, insert_record, last_receipt_hash
from etl.table.schema import check_columns, lock_table
from etl.table.verify import differing_entries

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

_PAUSES_SECONDS = (1.0, 4.0, 10.0)  # before the second, third and fourth attempt on a lost connection


@dataclass(frozen=True)
class Target:
    """Where and how to load: `database` is a URL that may hold a password and is never shown."""

    database: str
    reload: bool = False
    """Compare every company of the batch with the table, whatever the ledger says, and replace the rows that differ."""
    dry_run: bool = False
    """Report what would be done, write nothing to the database; outputs are written where the job says."""
    lock_timeout_seconds: float = 60
    table_index: bool = True
    """Build the traders' index where it is not there yet."""
    accept_shrunk: tuple[str, ...] = ()
    """Companies that are loaded although their new files lost days; `all` means every one."""
    journal_days: float | None = None
    """Let journal entries go that are older than this; None keeps them all."""

    def __repr__(self) -> str:
        return f"Target(reload={self.reload}, dry_run={self.dry_run})"


class Source(Protocol):
    """Where a load takes its slices from: a combined file, or the processing that is still writing it."""

    @property
    def companies(self) -> tuple[str, ...]: ...

    def slices(self, wanted: Callable[[Slice], bool]) -> Iterator[tuple[Slice, bytes]]:
        """At least the slices that are `wanted`, in the combined file's order, with their bytes."""

    def finish(self) -> CombinedFile:
        """The combined file, as soon as it is whole."""


@dataclass(frozen=True)
class Loaded:
    """What a load did, for the receipt. Row counts are PostgreSQL's own; of a dry run they are what they would be."""

    inserted: int
    deleted: int
    """A row that was changed is among the inserted and the deleted ones."""
    unchanged: int
    held: tuple[HeldCompany, ...]
    restatements: tuple[Restatement, ...]
    """The largest first."""
    new: Mapping[str, int]
    """Companies that were not there before, and their rows."""
    grown: Mapping[str, int]
    """Companies that got days behind their last one, and how many."""
    previous: str | None
    """SHA-256 of the receipt that was recorded last in this database."""
    elapsed_seconds: float
    outside_writes: OutsideWrites | None
    reloaded: bool
    """Whether every company of the batch was compared with the table."""
    changed_outside: Mapping[str, int]
    """Companies with another number of rows than were loaded, which this load leaves so: rows in the table after it."""
    not_compared: tuple[tuple[str, str, datetime], ...]
    """Writes of somebody else to the table, as in OutsideWrites, whose values this load has not compared everywhere."""
    same_as_run: str | None
    """The run that loaded the same content, where nothing changed."""
    earlier_attempt: tuple[int, int] | None
    """Rows that an earlier attempt of this run inserted and deleted, where that was committed."""
    last_success: tuple[str, int] | None
    """The last load that succeeded, and its accepted rows."""
    quarantined_before: Collection[str] | None
    """The files that it quarantined."""
    lacks_index: bool
    """The traders' index is not there, and this user may not build it."""
    flagged: tuple[FlaggedRow, ...]
    """The first flagged rows of the batch."""


def load_slices(source: Source, *, target: Target, run_id: str, record: Callable[[Manifest, Loaded], RunRecord]) -> str:
    """Load the slices of `source`, reading only what the ledger does not know. Returns the receipt that was committed.

    `record` makes the run's record of what was done; it is committed with the rows, and may raise to refuse the load.
    A lost connection is tried again three times; if it was lost during COMMIT, the record says whether it took effect.
    Raises BatchError (outputs do not fit together), SettingsError or ServiceError, each with the table as it was; or as
    this load has made it, where the COMMIT was not answered and the database cannot be asked.
    """
    attempt_id = str(uuid.uuid4())
    pauses = iter(_PAUSES_SECONDS)
    in_doubt = False  # whether a COMMIT was not answered
    while True:
        is_committing = False
        try:
            with connect(target.database, lock_timeout_seconds=target.lock_timeout_seconds) as connection:
                transaction = _Load(connection, target=target, companies=source.companies)
                if committed := query(transaction.cursor, "find_attempt", attempt_id=attempt_id):
                    return str(committed[0][0])
                in_doubt = False
                transaction.add(source.slices(transaction.may_add))
                combined = source.finish()
                transaction.add(combined.slices(transaction.may_add))  # what the source has taken over
                loaded = transaction.replace_rest(combined, run_id=run_id)
                made = replace(record(combined.manifest, loaded), attempt_id=attempt_id)
                is_committing = True
                transaction.commit(made, combined=combined)
                return made.receipt
        except NoConnectionError:
            in_doubt = in_doubt or is_committing
            source = source.finish()  # the outputs are wanted all the same, and the next attempt reads them
            pause = next(pauses, None)
            if pause is None:
                raise
            time.sleep(pause)
        except EtlError as error:
            if in_doubt:
                error.args = (str(error).replace("Nothing was loaded.", EITHER_WHOLE),)
            raise


class _Load:
    """One transaction, from the lock to the commit, and what it has counted."""

    def __init__(self, connection: Connection, *, target: Target, companies: Iterable[str]) -> None:
        self._begun = time.monotonic()
        self._connection, self._target = connection, target
        self.cursor = connection.cursor()
        lock_table(self.cursor, timeout_seconds=target.lock_timeout_seconds)
        check_columns(self.cursor)
        has_rows, has_ledger, is_watched = query(self.cursor, "table_state")[0]
        self._outside = find_outside_writes(
            self.cursor, has_rows=has_rows, has_ledger=has_ledger, is_watched=is_watched
        )
        names = list(companies)
        self._ledger = read_ledger(self.cursor, names)
        unknown = [name for name in names if name not in self._ledger] if has_rows else []
        # These have rows that no run loaded: they are replaced, or they would be there twice.
        self._foreign = {row[0] for row in query(self.cursor, "companies_in_table", companies=unknown)}
        self._number = query(self.cursor, "next_load")[0][0]
        self._looked_at: set[str] = set()
        self._new: dict[str, int] = {}
        self._tails: dict[str, Tail] = {}
        self._ends: dict[str, Ends] = {}
        self._inserted = 0
        self._changed: list[Slice] = []
        self._restatements: tuple[Restatement, ...] = ()
        self._as_loaded: set[str] = set()  # reloaded companies whose file has no other old days than were loaded
        self._proven: set[str] = set()  # companies that are surely as they were loaded
        self._mixed: set[str] = set()  # whose old rows, as the journal gets them, are not those that were loaded

    def may_add(self, entry: Slice) -> bool:
        """Could this slice be added without deleting anything: is its company new, or did its slice grow?"""
        if entry.company_name in self._looked_at:
            return False
        known = self._ledger.get(entry.company_name)
        if known is None:
            return entry.company_name not in self._foreign
        return entry.length > known.length and not self._target.reload

    def add(self, slices: Iterable[tuple[Slice, bytes]]) -> None:
        """Take every slice; copy at once what needs no delete before it: new companies, and new rows of grown ones."""

        def blocks() -> Iterator[bytes]:
            for entry, content in slices:
                name, known = entry.company_name, self._ledger.get(entry.company_name)
                may_add = self.may_add(entry)
                self._looked_at.add(name)
                if not may_add or (known and not known.is_beginning_of(content)):
                    continue
                added = content
                if known:
                    added = content[known.length :]
                    self._tails[name] = Tail.of(added)
                else:
                    self._new[name] = entry.rows
                self._ends[name] = _ends(entry, content)
                if self._target.dry_run:
                    self._inserted += entry.rows - (known.rows if known else 0)
                else:
                    yield added

        copied = copy_rows(self.cursor, QUERIES["copy_rows"], blocks())
        self._inserted += copied  # of a dry run 0: its blocks have counted

    def replace_rest(self, combined: CombinedFile, *, run_id: str) -> Loaded:
        """Replace the companies that changed and were not added, and sum up what was done."""
        manifest = combined.manifest
        changed = [entry for entry in manifest.slices if self._has_changed(entry)]
        replaced = {entry.company_name: entry.rows for entry in changed if not self._is_added(entry.company_name)}
        mixed = {name for name, _ in differing_entries(self.cursor, list(replaced))} if self._outside else set()
        done = self._replace(replaced, combined=combined)
        held = {one.company_name for one in done.held}
        self._mixed = mixed - held - self._as_loaded
        self._changed = [entry for entry in changed if entry.company_name not in held]
        self._restatements = done.restatements
        if self._outside and self._outside.is_new_start:
            query(self.cursor, "take_all_flags_back", load=self._number)
        flagged = record_flagged(self.cursor, combined, held=held, load=self._number)  # a dry run is rolled back
        has_index, may_build_index = query(self.cursor, "table_index")[0]
        if self._target.table_index and not self._target.dry_run and not has_index and may_build_index:
            query(self.cursor, "build_table_index")
        if not self._target.dry_run:
            self._journal_added()
        kept_names = set(manifest.companies) - set(replaced)
        kept = [entry for name, entry in self._ledger.items() if name in kept_names]
        nothing = not (self._inserted + done.inserted + done.deleted or held)
        newest = max(kept, key=lambda entry: entry.loaded_at) if kept and nothing else None
        earlier = query(self.cursor, "first_success", run_id=run_id) if newest and newest.run_id == run_id else []
        last = query(self.cursor, "last_success")
        changed_outside = self._changed_outside(corrected=set(replaced) - held, held=held)
        return Loaded(
            inserted=self._inserted + done.inserted,
            deleted=done.deleted,
            unchanged=sum(entry.rows for entry in kept) + done.kept,
            held=done.held,
            restatements=done.restatements,
            new=self._new,
            grown={name: tail.rows for name, tail in self._tails.items()} | dict(done.grown),
            previous=last_receipt_hash(self.cursor),
            elapsed_seconds=time.monotonic() - self._begun,
            outside_writes=self._outside,
            reloaded=self._target.reload,
            changed_outside=changed_outside,
            not_compared=self._not_compared(),
            same_as_run=newest.run_id if newest and newest.run_id != run_id else None,
            earlier_attempt=earlier[0] if earlier else None,
            last_success=last[0][:2] if last else None,
            quarantined_before=frozenset(last[0][2]) if last else None,
            lacks_index=self._target.table_index and not has_index and not may_build_index,
            flagged=flagged,
        )

    def commit(self, record: RunRecord, *, combined: CombinedFile) -> None:
        """Write ledger, journal and record, and commit all of it; nothing in a dry run."""
        if self._target.dry_run:
            return
        record_slices(self.cursor, self._changed, ends=self._ends, load=self._number, run_id=record.run_id)
        record_restatements(self.cursor, self._restatements, load=self._number)
        query(self.cursor, "record_mixed", load=self._number, companies=sorted(self._mixed))
        if self._outside and self._outside.is_new_start:
            forget_all_entries(self.cursor, load=self._number)
        if self._outside and (self._outside.is_new_start or self._target.reload):
            loaded = {entry.company_name for entry in self._changed}
            forget_outside_writes(self.cursor, self._outside, loaded=loaded | self._proven)
        if self._target.journal_days is not None:
            forget_old_entries(self.cursor, load=self._number, days=self._target.journal_days)
        insert_record(self.cursor, record)
        record_rejected(self.cursor, run_id=record.run_id, manifest=combined.manifest, output=combined.output)
        new_start = bool(self._outside and self._outside.is_new_start)
        query(self.cursor, "record_load", load=self._number, run_id=record.run_id, kind="load", new_start=new_start)
        self._connection.commit()

    def _changed_outside(self, *, corrected: set[str], held: set[str]) -> dict[str, int]:
        """Companies with another number of rows than were loaded, and how many this load leaves them with."""
        if not self._outside or self._outside.is_new_start:
            return {}
        left = {name: (rows, loaded) for name, rows, loaded in self._outside.differing if name not in corrected}
        # What no load can have written is gone from those that were compared and held back.
        counted = [name for name in left if name in held]
        here = dict(query(self.cursor, "count_companies", companies=counted)) if counted else {}
        left |= {name: (here.get(name, 0), left[name][1]) for name in counted}
        grown = {name: tail.rows for name, tail in self._tails.items()}
        return {name: rows + grown.get(name, 0) for name, (rows, loaded) in left.items() if rows != loaded}

    def _not_compared(self) -> tuple[tuple[str, str, datetime], ...]:
        """Noted writes of others, unless each company that was ever loaded was compared with its file or its hash."""
        if not self._outside or self._outside.is_new_start:
            return ()
        if self._target.reload:
            compared = [entry.company_name for entry in self._changed]
            others = [row[0] for row in query(self.cursor, "other_companies", companies=compared)]
            if not others or not list(differing_entries(self.cursor, others)):
                self._proven = {*compared, *others}
                return ()
        return self._outside.statements

    def _is_added(self, name: str) -> bool:
        return name in self._new or name in self._tails

    def _has_changed(self, entry: Slice) -> bool:
        known = self._ledger.get(entry.company_name)
        return self._target.reload or known is None or known.sha256 != entry.sha256

    def _replace(self, companies: dict[str, int], *, combined: CombinedFile) -> Replaced:
        """Replace the rows of these companies that differ from their slices."""
        since, reload = combined.manifest.since, self._target.reload
        if since and not reload:
            self._check_older_rows(list(companies), since=since)

        def contents(names: Collection[str]) -> Iterator[tuple[str, bytes]]:
            chosen = set(names)
            for entry, content in combined.slices(lambda entry: entry.company_name in chosen):
                self._ends[entry.company_name] = _ends(entry, content)
                yield entry.company_name, content

        return replace_companies(
            self.cursor,
            companies,
            load=self._number,
            fill=contents,
            known={name: Known(entry.rows, entry.last_day) for name, entry in self._ledger.items()},
            # Who reloads the rows since a day has the older ones deleted, and knows it.
            consent=Consent(to_all=True) if since and reload else Consent.of(self._target.accept_shrunk),
            is_suspect=reload or self._outside is not None or bool(self._foreign),
            dry_run=self._target.dry_run,
            loaded_until=self._loaded_until,
        )

    def _loaded_until(self, name: str, content: bytes) -> str | None:
        """Of a reloaded slice that is what was last loaded, or that and days behind it: the last of the loaded days."""
        known = self._ledger.get(name)
        if not self._target.reload or not known or not known.rows:
            return None
        loaded, added = content[: known.length], content[known.length :]
        if hashlib.sha256(loaded).hexdigest() != known.sha256:
            return None
        until = Tail.of(loaded).last_day
        if added and Tail.of(added).first_day <= until:
            return None
        self._as_loaded.add(name)
        return until

    def _check_older_rows(self, companies: list[str], *, since: date) -> None:
        """Refuse to lose history: who takes the rows since a day seldom wants the older ones deleted."""
        older, of = query(self.cursor, "rows_before_day", companies=companies, since=since.isoformat())[0]
        if older:
            raise BatchError(
                f"The table holds {older:,} rows of {of:,} companies from before {since}, and this load would replace "
                "those companies by their rows since then. Nothing was loaded. Load without since; or with reload, "
                "when the older rows are to go."
            )

    def _journal_added(self) -> None:
        """Count what was added where anything could have changed it, and journal it: one range a company."""
        if query(self.cursor, "has_foreign_code")[0][0]:
            grown = {name: tail.rows + self._ledger[name].rows for name, tail in self._tails.items()}
            check_counts(self.cursor, self._new | grown)
        journal_added(self.cursor, new=self._new, tails=self._tails, load=self._number)


def _ends(entry: Slice, content: bytes) -> Ends:
    if entry.in_day_order:
        return Ends(last_day(content))
    return Ends(Tail.of(content).last_day, hash_by_day(content))
