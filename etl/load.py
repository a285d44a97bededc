"""Load: slices of the combined file go into the table in one transaction; a balanced receipt comes out.

The ledger decides for each company: the same slice as last time is not even read, a new one is copied, a changed one
replaces the old rows. Rows, ledger and receipt are committed together, so readers see the batch before or after.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from psycopg2 import errors

from etl.combined_file import NAME as COMBINED_FILE
from etl.combined_file import Slice
from etl.database import NoConnection, connect, sql
from etl.errors import BatchError, ServiceError, SettingsError
from etl.manifest import Manifest
from etl.process import Processing
from etl.receipt import Receipt, RowCounts, Run
from etl.storage import FileChanged, Storage

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

_PAUSES_SECONDS = (1.0, 4.0, 10.0)  # before the second, third and fourth attempt on a lost connection
_COPY_BLOCK_BYTES = 1 << 18
_DROP_WARNING = 0.5  # of the last run's rows

COLUMNS = (
    "stock_date", "open_value", "high_value", "low_value", "close_value", "volume_traded", "daily_percent_change",
    "value_change", "company_name",
)  # fmt: skip
"""The table's contract, in this order; each is VARCHAR(56)."""


@dataclass(frozen=True)
class Target:
    """Where and how to load: `database` is a URL that may hold a password and is never shown."""

    database: str
    reload: bool = False
    """Replace every company of the batch, whatever the ledger says."""
    dry_run: bool = False
    """Tell what would be done, write nothing."""
    lock_timeout_seconds: float = 60

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
                load.copy_new(slices)
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
                committed = load.find_attempt(attempt_id)
                return committed or load.finish(manifest, output=output, run=run, attempt_id=attempt_id)
        except NoConnection:
            pause = next(pauses, None)
            if pause is None:
                raise
            time.sleep(pause)


@dataclass(frozen=True)
class _Loaded:
    sha256: str
    rows: int
    run_id: str


class _Load:
    """One transaction, from the lock to the commit, and what it has counted."""

    def __init__(self, connection: Connection, *, target: Target, companies: Iterable[str]) -> None:
        self._begun = time.monotonic()
        self._connection, self._target = connection, target
        self._cursor = connection.cursor()
        self._lock()
        self._check_columns()
        self._companies = list(companies)
        self._by_hand = self._rows_changed_by_hand()
        self._ledger = self._read_ledger()
        self._to_clear = set(self._ledger) | self._unknown_in_table()
        self._copied: set[str] = set()
        self._inserted = 0

    def find_attempt(self, attempt_id: str) -> Receipt | None:
        """The receipt of this attempt, when it was committed before its connection was lost."""
        found = self._rows("find_attempt", attempt_id=attempt_id)
        return Receipt.from_facts(found[0][0]) if found else None

    def copy_new(self, slices: Iterator[tuple[Slice, bytes]]) -> None:
        """Take every slice; copy at once those of companies that have no rows in the table."""

        def blocks() -> Iterator[bytes]:
            for part, content in slices:
                if part.company_name not in self._to_clear and not self._target.dry_run:
                    self._copied.add(part.company_name)
                    yield content

        self._inserted += self._copy(blocks())

    def finish(self, manifest: Manifest, *, output: Storage, run: Run, attempt_id: str, step: str = "load") -> Receipt:
        """Load what is left of the batch, balance the receipt, commit."""
        left = [part for part in manifest.slices if part.company_name not in self._copied]
        unchanged = [part for part in left if self._is_loaded(part)]
        pending = [part for part in left if not self._is_loaded(part)]
        to_delete = [part.company_name for part in pending if part.company_name in self._to_clear]
        if self._target.dry_run:
            deleted = sum(self._ledger[name].rows for name in to_delete if name in self._ledger)
            inserted = sum(part.rows for part in pending)
        else:
            deleted = self._execute("delete_companies", companies=to_delete) if to_delete else 0
            self._inserted += self._copy(_read_slices(output, pending)) if pending else 0
            inserted = self._inserted
        rows_unchanged = sum(self._ledger[part.company_name].rows for part in unchanged)
        receipt = Receipt.of_manifest(manifest, run=run, output=output.url)
        counts = replace(receipt.rows, inserted=inserted, deleted=deleted, unchanged=rows_unchanged)
        receipt = replace(
            receipt,
            state="dry_run" if self._target.dry_run else "success",
            rows=counts,
            notes=(*receipt.notes, *self._by_hand, *self._compared_with_last(counts)),
        ).timed(**{step: time.monotonic() - self._begun})
        receipt.check_balance()
        if not self._target.dry_run:
            self._record([part for part in manifest.slices if not self._is_loaded(part)], receipt, attempt_id)
            self._connection.commit()
        return receipt

    def _is_loaded(self, part: Slice) -> bool:
        known = self._ledger.get(part.company_name)
        return known is not None and known.sha256 == part.sha256 and not self._target.reload

    def _lock(self) -> None:
        try:
            self._cursor.execute(sql("lock"))
        except errors.LockNotAvailable as error:
            self._connection.rollback()
            holders = self._rows("lock_holder")
            told = "; ".join(
                f"{name or 'a session'} of {user}, pid {pid}, since {start}" for pid, name, user, start in holders
            )
            raise ServiceError(
                f"Another load holds the table for more than {self._target.lock_timeout_seconds:g} s "
                f"({told or 'it has just ended'}). Nothing was loaded. Try again when it is done."
            ) from error

    def _check_columns(self) -> None:
        columns = [row[0] for row in self._rows("columns")]
        wanted = [f"{name} character varying(56)" for name in COLUMNS]
        if not columns:
            raise SettingsError("The database has no table historical_stocks_data. Run init-db first.")
        if columns != wanted:
            absent = [column for column in wanted if column not in columns]
            foreign = [column for column in columns if column not in wanted]
            difference = f"missing: {', '.join(absent) or 'none'}; not ours: {', '.join(foreign) or 'none'}"
            raise SettingsError(
                f"The table historical_stocks_data was altered ({difference}; the order counts). Nothing was loaded. "
                "Put the nine columns back as etl/sql/schema.sql has them."
            )

    def _rows_changed_by_hand(self) -> list[str]:
        in_table, in_ledger = self._rows("row_totals")[0]
        if in_table == in_ledger:
            return []
        differing = self._rows("changed_by_hand")
        named = ", ".join(f"{name}: {table:,} in the table, {ledger:,} loaded" for name, table, ledger in differing[:3])
        return [
            f"Rows of {len(differing)} companies were changed by hand since they were loaded ({named}"
            f"{', ...' if len(differing) > 3 else ''}). --reload puts the companies of the batch right."
        ]

    def _read_ledger(self) -> dict[str, _Loaded]:
        return {name: _Loaded(*known) for name, *known in self._rows("ledger", companies=self._companies)}

    def _unknown_in_table(self) -> set[str]:
        """Companies that have rows which no run of ours loaded: to be replaced, or they would be there twice."""
        if not self._by_hand:
            return set()
        return {row[0] for row in self._rows("companies_in_table", companies=self._companies)}

    def _compared_with_last(self, rows: RowCounts) -> Iterator[str]:
        found = self._rows("last_success")
        if not found:
            return
        last = Receipt.from_facts(found[0][0])
        if not rows.inserted and not rows.deleted:
            yield f"Same content as run {last.run_id}."
        if rows.accepted < _DROP_WARNING * last.rows.accepted:
            yield (
                f"Far fewer rows than last time: {rows.accepted:,} after {last.rows.accepted:,} in run {last.run_id}. "
                "Is the export complete?"
            )

    def _copy(self, blocks: Iterator[bytes]) -> int:
        """Stream blocks into the table; the count is PostgreSQL's own."""
        source = _CopySource(blocks)
        try:
            self._cursor.copy_expert(sql("insert_query"), source, size=_COPY_BLOCK_BYTES)  # type: ignore[arg-type]
        except Exception:
            if source.error:
                raise source.error from None
            raise
        return self._cursor.rowcount

    def _record(self, slices: list[Slice], receipt: Receipt, attempt_id: str) -> None:
        self._execute(
            "record_companies",
            run_id=receipt.run_id,
            companies=[part.company_name for part in slices],
            sha256=[part.sha256 for part in slices],
            lengths=[part.length for part in slices],
            rows=[part.rows for part in slices],
        )
        record_run(self._connection, receipt, attempt_id=attempt_id)

    def _execute(self, name: str, **values: object) -> int:
        self._cursor.execute(sql(name), values)
        return self._cursor.rowcount

    def _rows(self, name: str, **values: object) -> list[tuple[Any, ...]]:
        self._cursor.execute(sql(name), values)
        return self._cursor.fetchall()


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


def _read_slices(output: Storage, slices: list[Slice]) -> Iterator[bytes]:
    """The slices' bytes out of the combined file, neighbours in one read, each held against its sha256."""
    start = 0
    while start < len(slices):
        stop = start + 1
        while stop < len(slices) and slices[stop].offset == slices[stop - 1].end:
            stop += 1
        yield from _read_neighbours(output, slices[start:stop])
        start = stop


def _read_neighbours(output: Storage, slices: list[Slice]) -> Iterator[bytes]:
    length = slices[-1].end - slices[0].offset
    if not length:
        return
    unfit = BatchError("The combined file is not the one that the manifest describes. Run process again, then load.")
    waiting = iter(slices)
    current, left, digest = next(waiting), 0, hashlib.sha256()
    left = current.length
    try:
        for block in output.read_range(COMBINED_FILE, start=slices[0].offset, length=length):
            view = memoryview(block)
            while view:
                taken, view = view[:left], view[left:]
                digest.update(taken)
                left -= len(taken)
                while not left:
                    if digest.hexdigest() != current.sha256:
                        raise unfit
                    following = next(waiting, None)
                    if following is None:
                        break
                    current, left, digest = following, following.length, hashlib.sha256()
            yield block
    except FileChanged as error:
        raise unfit from error


class _CopySource:
    """What psycopg2 reads a COPY from; it keeps the error that stopped the source, which psycopg2 would only quote."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._block = b""
        self._position = 0
        self.error: BaseException | None = None

    def read(self, size: int) -> bytes:
        while self._position >= len(self._block):
            try:
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
