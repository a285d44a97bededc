"""The history of runs in the database: one row of `pipeline_runs` for each attempt, with its receipt."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from etl.table.database import connect, query

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor


@dataclass(frozen=True)
class RunRecord:
    """One attempt. `receipt`: its JSON text (outcome/receipt.py). `attempt_id` distinguishes the attempts of a run."""

    run_id: str
    state: str
    started_at: datetime
    elapsed_seconds: float
    receipt: str
    attempt_id: str = field(default_factory=lambda: str(uuid.uuid4()))


def insert_record(cursor: Cursor, record: RunRecord) -> None:
    """Put the record into the caller's transaction."""
    query(cursor, "record_run", **vars(record))


def record_run(url: str, record: RunRecord) -> None:
    """Record a run in a transaction of its own."""
    with connect(url) as connection, connection.cursor() as cursor:
        insert_record(cursor, record)
        connection.commit()


def last_receipts(url: str, *, limit: int) -> list[dict[str, Any]]:
    """The newest receipts, newest first, as their JSON objects."""
    with connect(url) as connection, connection.cursor() as cursor:
        return [row[0] for row in query(cursor, "last_runs", limit=limit)]
