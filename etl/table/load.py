"""Loads slices of the combined file into the table in one transaction, with ledger and run history.

The ledger decides for each company: a slice that is loaded already is not even read; of one that only grew, the new
rows are copied; any other replaces the company's old rows. Rows, ledger and record are committed together, so readers
see the batch before or after.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import date, datetime
from itertools import chain
from typing import TYPE_CHECKING, Protocol

from etl.errors import BatchError, NoConnectionError
from etl.files.combined_file import CombinedFile
from etl.files.manifest import Manifest, Slice
from etl.signals import defer_signals
from etl.table.database import connect, query, sql
from etl.table.outside_writes import OutsideWrites, find_outside_writes, forget_outside_writes
from etl.table.runs import RunRecord, insert_record
from etl.table.schema import check_columns, lock_table

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

_PAUSES_SECONDS = (1.0, 4.0, 10.0)  # before the second, third and fourth attempt on a lost connection
_COPY_BLOCK_BYTES = 1 << 18


@dataclass(frozen=True)
class Target:
    """Where and how to load: `database` is a URL that may hold a password and is never shown."""

    database: str
    reload: bool = False
    """Replace every company of the batch, whatever the ledger says."""
    dry_run: bool = False
    """Report what would be done, write nothing to the database; outputs are written where the job says."""
    lock_timeout_seconds: float = 60
    table_index: bool = True
    """Build the traders' indexes where they are not there yet."""

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
    unchanged: int
    elapsed_seconds: float
    outside_writes: OutsideWrites | None
    same_as_run: str | None
    """The run that loaded the same content, where nothing changed."""
    earlier_attempt: tuple[int, int] | None
    """Rows that an earlier attempt of this run inserted and deleted, where that was committed."""
    last_success: tuple[str, int] | None
    """The last run that succeeded, and its accepted rows."""


def load_slices(source: Source, *, target: Target, run_id: str, record: Callable[[Manifest, Loaded], RunRecord]) -> str:
    """Load the slices of `source`, reading only what the ledger does not know. Returns the receipt that was committed.

    `record` makes the run's record of what was done; it is committed with the rows, and may raise to refuse the load.
    A lost connection is tried again three times; if it was lost during COMMIT, the record says whether it took effect.
    Raises BatchError (outputs do not fit together), SettingsError or ServiceError, each with the table as it was.
    """
    attempt_id = str(uuid.uuid4())
    pauses = iter(_PAUSES_SECONDS)
    while True:
        try:
            with connect(target.database, lock_timeout_seconds=target.lock_timeout_seconds) as connection:
                transaction = _Load(connection, target=target, companies=source.companies)
                if committed := query(transaction.cursor, "find_attempt", attempt_id=attempt_id):
                    return str(committed[0][0])
                transaction.add(source.slices(transaction.may_add))
                combined = source.finish()
                transaction.add(combined.slices(transaction.may_add))  # what the source has taken over
                loaded = transaction.replace_rest(combined, run_id=run_id)
                made = replace(record(combined.manifest, loaded), attempt_id=attempt_id)
                transaction.commit(combined.manifest, made)
                return made.receipt
        except NoConnectionError:
            source = source.finish()  # the outputs are wanted all the same, and the next attempt reads them
            pause = next(pauses, None)
            if pause is None:
                raise
            time.sleep(pause)


@dataclass(frozen=True)
class _LedgerEntry:
    """The slice last loaded for a company."""

    sha256: str
    length: int
    rows: int
    run_id: str
    loaded_at: datetime

    def is_beginning_of(self, content: bytes) -> bool:
        beginning = memoryview(content)[: self.length]
        return len(content) > self.length and hashlib.sha256(beginning).hexdigest() == self.sha256


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
        entries = query(self.cursor, "ledger_entries", companies=names)
        self._ledger = {name: _LedgerEntry(*entry) for name, *entry in entries}
        unknown = [name for name in names if name not in self._ledger] if has_rows else []
        found = query(self.cursor, "companies_in_table", companies=unknown) if unknown else []
        # These have rows that no run loaded: they are replaced, or they would be there twice.
        self._foreign = {row[0] for row in found}
        self._looked_at: set[str] = set()
        self._added: set[str] = set()
        self._inserted = 0

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
                known = self._ledger.get(entry.company_name)
                may_add = self.may_add(entry)
                self._looked_at.add(entry.company_name)
                if not may_add or (known and not known.is_beginning_of(content)):
                    continue
                self._added.add(entry.company_name)
                if self._target.dry_run:
                    self._inserted += entry.rows - (known.rows if known else 0)
                else:
                    yield content[known.length :] if known else content

        self._copy(blocks())

    def replace_rest(self, combined: CombinedFile, *, run_id: str) -> Loaded:
        """Replace the companies that changed and were not added, and sum up what was done."""
        manifest = combined.manifest
        replaced = [entry for entry in self._changed(manifest) if entry.company_name not in self._added]
        deleted = self._replace(replaced, combined=combined)
        if self._target.table_index and not self._target.dry_run and not query(self.cursor, "has_table_index")[0][0]:
            query(self.cursor, "build_table_index")
        kept_names = set(manifest.companies) - {entry.company_name for entry in replaced}
        kept = [entry for name, entry in self._ledger.items() if name in kept_names]
        newest = max(kept, key=lambda entry: entry.loaded_at) if kept and not self._inserted + deleted else None
        earlier = query(self.cursor, "first_success", run_id=run_id) if newest and newest.run_id == run_id else []
        last = query(self.cursor, "last_success")
        return Loaded(
            inserted=self._inserted,
            deleted=deleted,
            unchanged=sum(entry.rows for entry in kept),
            elapsed_seconds=time.monotonic() - self._begun,
            outside_writes=self._outside,
            same_as_run=newest.run_id if newest and newest.run_id != run_id else None,
            earlier_attempt=earlier[0] if earlier else None,
            last_success=last[0] if last else None,
        )

    def commit(self, manifest: Manifest, record: RunRecord) -> None:
        """Write ledger and record, and commit all of it; nothing in a dry run."""
        if self._target.dry_run:
            return
        changed = self._changed(manifest)
        query(
            self.cursor,
            "record_in_ledger",
            run_id=record.run_id,
            companies=[entry.company_name for entry in changed],
            sha256=[entry.sha256 for entry in changed],
            lengths=[entry.length for entry in changed],
            rows=[entry.rows for entry in changed],
        )
        insert_record(self.cursor, record)
        if self._outside and (self._outside.is_new_start or self._target.reload):
            forget_outside_writes(self.cursor, self._outside, loaded=set(manifest.companies))
        self._connection.commit()

    def _changed(self, manifest: Manifest) -> list[Slice]:
        return [
            entry
            for entry in manifest.slices
            if self._target.reload
            or (known := self._ledger.get(entry.company_name)) is None
            or known.sha256 != entry.sha256
        ]

    def _replace(self, slices: list[Slice], *, combined: CombinedFile) -> int:
        """Delete the companies' old rows and copy their slices; returns how many rows were deleted."""
        if not slices:
            return 0
        companies = [entry.company_name for entry in slices]
        if combined.manifest.since and not self._target.reload:
            self._check_older_rows(companies, since=combined.manifest.since)
        if self._target.dry_run:
            self._inserted += sum(entry.rows for entry in slices)
            return sum(self._ledger[name].rows for name in companies if name in self._ledger)
        query(self.cursor, "delete_companies", companies=companies)
        deleted = self.cursor.rowcount
        chosen = set(companies)
        self._copy(content for _, content in combined.slices(lambda entry: entry.company_name in chosen))
        return deleted

    def _check_older_rows(self, companies: list[str], *, since: date) -> None:
        """Refuse to lose history: who takes the rows since a day seldom wants the older ones deleted."""
        older, of = query(self.cursor, "rows_before_day", companies=companies, since=since.isoformat())[0]
        if older:
            raise BatchError(
                f"The table holds {older:,} rows of {of:,} companies from before {since}, and this load would replace "
                "those companies by their rows since then. Nothing was loaded. Load without since; or with reload, "
                "when the older rows are to go."
            )

    def _copy(self, blocks: Iterator[bytes]) -> None:
        """Stream blocks, if there are any, into the table; what is counted as inserted is PostgreSQL's own count."""
        first = next(blocks, None)
        if first is None:
            return
        blocks = chain([first], blocks)
        with defer_signals() as hear_signals:
            source = _CopySource(blocks, hear_signals=hear_signals)
            try:
                self.cursor.copy_expert(sql("insert_query"), source, size=_COPY_BLOCK_BYTES)  # type: ignore[arg-type]
            except Exception:
                if source.error:
                    raise source.error from None
                raise
        self._inserted += self.cursor.rowcount


class _CopySource:
    """What psycopg2 reads a COPY from; it keeps the error that stopped the source, which psycopg2 would only quote.

    Signals are handled while a block is made, which may wait for S3, and not inside psycopg2.
    """

    def __init__(self, blocks: Iterator[bytes], *, hear_signals: Callable[[], AbstractContextManager[None]]) -> None:
        self._blocks, self._hear_signals = blocks, hear_signals
        self._block = b""
        self._position = 0
        self.error: BaseException | None = None

    def read(self, size: int) -> bytes:
        while self._position >= len(self._block):
            try:
                with self._hear_signals():
                    following = next(self._blocks, None)
            except BaseException as error:
                self.error = error
                raise
            if following is None:
                return b""
            self._block, self._position = following, 0
        start = self._position
        self._position += size
        return self._block[start : self._position]
