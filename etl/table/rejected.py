"""Records the rejected rows and quarantined files of a run, and reads them back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from etl.batch.storage import Storage
from etl.errors import SettingsError
from etl.files.manifest import Manifest, QuarantinedFile
from etl.files.row_lists import read_rejected
from etl.table.copying import copy_rows
from etl.table.database import QUERIES, connect, query
from etl.table.flagged import csv_block

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

MOST_RECORDED = 100_000
"""Rejected rows of one run that are recorded, some 30 MB; rejected_rows.csv has all of the last run."""


@dataclass(frozen=True)
class RecordedRow:
    """A rejected row as it was; `raw_line`: the line of the company file, as far as it is kept."""

    file: str
    line: int
    column: str
    value: str
    reason: str
    raw_line: str


@dataclass(frozen=True)
class Rejected:
    """What is recorded of a run: its rejected rows, of each file the first ones, and its quarantined files."""

    run_id: str
    rejected: tuple[RecordedRow, ...]
    quarantined: tuple[QuarantinedFile, ...]


def record_rejected(cursor: Cursor, *, run_id: str, manifest: Manifest, output: Storage) -> None:
    """Record what a batch has rejected, in the caller's transaction. Raises BatchError when the list is another's."""

    def blocks() -> Iterator[bytes]:
        for row in islice(read_rejected(manifest, output), MOST_RECORDED):
            yield csv_block([(run_id, *row)])

    record_quarantined(cursor, manifest.quarantined, run_id=run_id)
    copy_rows(cursor, QUERIES["copy_rejected"], blocks())


def record_quarantined(cursor: Cursor, quarantined: Sequence[QuarantinedFile], *, run_id: str) -> None:
    """Record quarantined files alone, in place of all that an earlier attempt of the run has recorded."""
    query(cursor, "forget_rejected_of_run", run_id=run_id)
    if quarantined:
        files, reasons = [one.file for one in quarantined], [one.reason for one in quarantined]
        query(cursor, "record_quarantined", run_id=run_id, files=files, reasons=reasons)


def read_recorded(database: str, run_id: str | None = None) -> tuple[Rejected, dict[str, object]]:
    """What is recorded of a run, the last one where none is named, and its receipt's JSON object.

    Raises SettingsError when there is no such run.
    """
    with connect(database) as connection, connection.cursor() as cursor:
        if run_id is None:
            last = query(cursor, "last_run_with_files")
            if not last:
                raise SettingsError("No run is recorded yet.")
            run_id = str(last[0][0])
        receipts = query(cursor, "receipt_of_run", run_id=run_id)
        if not receipts:
            raise SettingsError(f"No run {run_id!r} is recorded. `mbd history` lists the runs.")
        rows = tuple(RecordedRow(*row) for row in query(cursor, "rejected_of_run", run_id=run_id))
        files = tuple(QuarantinedFile(*row) for row in query(cursor, "quarantined_of_run", run_id=run_id))
    return Rejected(run_id, rows, files), receipts[0][0]
