"""Load: slices of the combined file go into the table in one transaction; a balanced receipt comes out.

The ledger decides for each company: the same slice as last time is not even read; of one that only grew, the new rows
are copied; any other replaces the company's old rows. Rows, ledger and receipt are committed together, so readers see
the batch before or after.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TYPE_CHECKING

from etl.batch.storage import Storage
from etl.errors import BatchError
from etl.files.combined_file import Slice, read_slices
from etl.files.manifest import Manifest
from etl.files.process import Processing
from etl.outcome.receipt import Receipt, RowCounts, Run
from etl.signals import Released, held_signals
from etl.table.database import NoConnection, connect, sql
from etl.table.schema import ChangesByHand, check_columns, find_changes_by_hand, lock_table, query

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

_PAUSES_SECONDS = (1.0, 4.0, 10.0)  # before the second, third and fourth attempt on a lost connection
_COPY_BLOCK_BYTES = 1 << 18
_DROP_WARNING = 0.5  # of the last run's rows


@dataclass(frozen=True)
class Target:
    """Where and how to load: `database` is a URL that may hold a password and is never shown."""

    database: str
    reload: bool = False
    """Replace every company of the batch, whatever the ledger says."""
    dry_run: bool = False
    """Tell what would be done, write nothing to the database; outputs are written where the job says."""
    lock_timeout_seconds: float = 60
    index: bool = True
    """Build the traders' index where it is not there yet."""

    def __repr__(self) -> str:
        return f"Target(reload={self.reload}, dry_run={self.dry_run})"


def load(manifest: Manifest, *, output: Storage, target: Target, run: Run) -> Receipt:
    """Load the combined file that `manifest` describes; read only what the ledger does not know.

    A lost connection is tried again three times; if it was lost during COMMIT, the run's row tells whether it took
    effect. Raises BatchError (outputs do not fit together, unbalanced), SettingsError or ServiceError, each with the
    table as it was.
    """
    return _persistently(manifest, output=output, target=target, run=run, attempt_id=str(uuid.uuid4()))


def load_while_processing(processing: Processing, *, output: Storage, target: Target, run: Run) -> Receipt:
    """Process a batch, and copy the companies that the table does not have yet while they are being processed.

    Changed companies follow from the combined file. Same result and errors as processing first and loading then.
    """
    attempt_id = str(uuid.uuid4())
    with closing(iter(processing)) as slices:
        try:
            with connect(target.database, lock_timeout_seconds=target.lock_timeout_seconds) as connection:
                load = _Load(connection, target=target, companies=processing.companies)
                load.add(slices)
                return load.finish(
                    processing.manifest, output=output, run=run, attempt_id=attempt_id, step="process and load"
                )
        except NoConnection:
            for _ in slices:
                pass  # the outputs are wanted all the same, and the load goes on from them
    return _persistently(processing.manifest, output=output, target=target, run=run, attempt_id=attempt_id)


def _persistently(manifest: Manifest, *, output: Storage, target: Target, run: Run, attempt_id: str) -> Receipt:
    pauses = iter(_PAUSES_SECONDS)
    companies = [part.company_name for part in manifest.slices]
    while True:
        try:
            with connect(target.database, lock_timeout_seconds=target.lock_timeout_seconds) as connection:
                load = _Load(connection, target=target, companies=companies)
                if committed := load.find_attempt(attempt_id):
                    return committed
                load.add(read_slices(output, [part for part in manifest.slices if load.may_add(part)]))
                return load.finish(manifest, output=output, run=run, attempt_id=attempt_id)
        except NoConnection:
            pause = next(pauses, None)
            if pause is None:
                raise
            time.sleep(pause)


@dataclass(frozen=True)
class _Loaded:
    """An entry of the ledger: the slice last loaded for a company."""

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
        self._cursor = connection.cursor()
        lock_table(self._cursor, timeout_seconds=target.lock_timeout_seconds)
        check_columns(self._cursor)
        has_rows, has_ledger, watched = query(self._cursor, "table_state")[0]
        self._by_hand = find_changes_by_hand(self._cursor, has_rows=has_rows, has_ledger=has_ledger, watched=watched)
        names = list(companies)
        self._ledger = {name: _Loaded(*known) for name, *known in query(self._cursor, "ledger", companies=names)}
        unknown = [name for name in names if name not in self._ledger] if has_rows else []
        found = query(self._cursor, "companies_in_table", companies=unknown) if unknown else []
        # These have rows that no run loaded: they are replaced, or they would be there twice.
        self._foreign = {row[0] for row in found}
        self._added: set[str] = set()
        self._inserted = 0

    def find_attempt(self, attempt_id: str) -> Receipt | None:
        """The receipt of this attempt, when it was committed before its connection was lost."""
        found = query(self._cursor, "find_attempt", attempt_id=attempt_id)
        return Receipt.from_facts(found[0][0]) if found else None

    def may_add(self, part: Slice) -> bool:
        """Could this slice be added without deleting anything: is its company new, or did its slice grow?"""
        known = self._ledger.get(part.company_name)
        if known is None:
            return part.company_name not in self._foreign
        return part.length > known.length and not self._target.reload

    def add(self, slices: Iterable[tuple[Slice, bytes]]) -> None:
        """Take every slice; copy at once what needs no delete before it: new companies, and new rows of grown ones."""

        def blocks() -> Iterator[bytes]:
            for part, content in slices:
                known = self._ledger.get(part.company_name)
                if not self.may_add(part) or (known and not known.is_beginning_of(content)):
                    continue
                self._added.add(part.company_name)
                if self._target.dry_run:
                    self._inserted += part.rows - (known.rows if known else 0)
                else:
                    yield content[known.length :] if known else content

        self._copy(blocks())

    def finish(self, manifest: Manifest, *, output: Storage, run: Run, attempt_id: str, step: str = "load") -> Receipt:
        """Replace what is left of the batch, balance the receipt, commit."""
        listed = {part.company_name for part in manifest.slices}
        changed = [part for part in manifest.slices if not self._is_loaded(part)]
        replaced = [part for part in changed if part.company_name not in self._added]
        deleted = self._replace(replaced, output=output, since=manifest.since)
        if self._target.index and not self._target.dry_run and not query(self._cursor, "has_index")[0][0]:
            self._cursor.execute(sql("index"))
        gone = {part.company_name for part in replaced}
        kept = [known for name, known in self._ledger.items() if name in listed - gone]
        receipt = Receipt.of_manifest(manifest, run=run, output=output.url)
        rows = replace(
            receipt.rows, inserted=self._inserted, deleted=deleted, unchanged=sum(known.rows for known in kept)
        )
        receipt = replace(
            receipt,
            state="dry_run" if self._target.dry_run else "success",
            rows=rows,
            notes=(*receipt.notes, *self._compared_with_earlier(rows, kept=kept, run=run)),
        ).timed(**{step: time.monotonic() - self._begun})
        receipt.check_balance()
        if not self._target.dry_run:
            self._record(changed, receipt, attempt_id)
            if self._by_hand and (self._by_hand.fresh or self._target.reload):
                self._forget(self._by_hand, listed=listed)
            self._connection.commit()
        return receipt

    def _is_loaded(self, part: Slice) -> bool:
        known = self._ledger.get(part.company_name)
        return known is not None and known.sha256 == part.sha256 and not self._target.reload

    def _replace(self, slices: list[Slice], *, output: Storage, since: date | None) -> int:
        """Delete the companies' old rows and copy their slices; returns how many rows were deleted."""
        if not slices:
            return 0
        if since and not self._target.reload:
            self._check_older_rows(slices, since=since)
        if self._target.dry_run:
            self._inserted += sum(part.rows for part in slices)
            return sum(self._ledger[part.company_name].rows for part in slices if part.company_name in self._ledger)
        self._cursor.execute(sql("delete_companies"), {"companies": [part.company_name for part in slices]})
        deleted = self._cursor.rowcount
        self._copy(content for _, content in read_slices(output, slices))
        return deleted

    def _check_older_rows(self, slices: list[Slice], *, since: date) -> None:
        """Refuse to lose history: who takes the rows since a day seldom wants the older ones deleted."""
        companies = [part.company_name for part in slices]
        older, of = query(self._cursor, "rows_before", companies=companies, since=since.isoformat())[0]
        if older:
            raise BatchError(
                f"The table holds {older:,} rows of {of:,} companies from before {since}, and this load would replace "
                "those companies by their rows since then. Nothing was loaded. Load without since; or with reload, "
                "when the older rows are to go."
            )

    def _compared_with_earlier(self, rows: RowCounts, *, kept: list[_Loaded], run: Run) -> Iterator[str]:
        if self._by_hand and (note := self._by_hand.note()):
            yield note
        if kept and not rows.inserted and not rows.deleted:
            newest = max(kept, key=lambda known: known.loaded_at)
            if newest.run_id != run.run_id:
                yield f"Same content as run {newest.run_id}."
            elif first := query(self._cursor, "first_success", run_id=run.run_id):
                moved = Receipt.from_facts(first[0][0]).rows
                yield (
                    f"An earlier attempt of this run was committed: {moved.inserted:,} rows inserted, "
                    f"{moved.deleted:,} old ones deleted."
                )
        found = query(self._cursor, "last_success")
        last = Receipt.from_facts(found[0][0]) if found else None
        if last and rows.accepted < _DROP_WARNING * last.rows.accepted:
            yield (
                f"Far fewer rows than last time: {rows.accepted:,} after {last.rows.accepted:,} in run {last.run_id}. "
                "Is the export complete?"
            )

    def _copy(self, blocks: Iterator[bytes]) -> None:
        """Stream blocks into the table; what is counted as inserted is PostgreSQL's own count."""
        with held_signals() as released:
            source = _CopySource(blocks, released=released)
            try:
                self._cursor.copy_expert(sql("insert_query"), source, size=_COPY_BLOCK_BYTES)  # type: ignore[arg-type]
            except Exception:
                if source.error:
                    raise source.error from None
                raise
        self._inserted += self._cursor.rowcount

    def _record(self, slices: list[Slice], receipt: Receipt, attempt_id: str) -> None:
        values = {
            "run_id": receipt.run_id,
            "companies": [part.company_name for part in slices],
            "sha256": [part.sha256 for part in slices],
            "lengths": [part.length for part in slices],
            "rows": [part.rows for part in slices],
        }
        self._cursor.execute(sql("record_companies"), values)
        record_run(self._connection, receipt, attempt_id=attempt_id)

    def _forget(self, changes: ChangesByHand, *, listed: set[str]) -> None:
        """Drop the notes of what this load has put right: of all that was noted, or of nothing."""
        if query(self._cursor, "changed_by_hand"):
            return
        users, operations, times = zip(*changes.statements, strict=True) if changes.statements else ([], [], [])
        values = {"users": list(users), "operations": list(operations), "times": list(times), "companies": list(listed)}
        self._cursor.execute(sql("forget_changes"), values)


def record_run(connection: Connection, receipt: Receipt, *, attempt_id: str) -> None:
    """Put a receipt into pipeline_runs; the caller commits."""
    values = {
        "attempt_id": attempt_id,
        "run_id": receipt.run_id,
        "state": receipt.state,
        "started_at": receipt.started_at,
        "elapsed_seconds": receipt.elapsed_seconds,
        "receipt": receipt.to_json(),
    }
    with connection.cursor() as cursor:
        cursor.execute(sql("record_run"), values)


class _CopySource:
    """What psycopg2 reads a COPY from; it keeps the error that stopped the source, which psycopg2 would only quote.

    Signals are heard while a block is made, which may wait for S3, and not on the way to there.
    """

    def __init__(self, blocks: Iterator[bytes], *, released: Released) -> None:
        self._blocks, self._released = blocks, released
        self._block = b""
        self._position = 0
        self.error: BaseException | None = None

    def read(self, size: int) -> bytes:
        while self._position >= len(self._block):
            try:
                with self._released():
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
