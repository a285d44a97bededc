"""The history of runs in the database: one row of `pipeline_runs` for each attempt, with its receipt.

Receipts are a chain: each holds the hash of the one that was recorded before it.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
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
    query(cursor, "record_run", **vars(record), sha256=receipt_hash(json.loads(record.receipt)))


def record_run(url: str, record: Callable[[str | None], RunRecord], *, also: Callable[[Cursor], object]) -> RunRecord:
    """Record a run in a transaction of its own; `record` makes it, given the hash of the last receipt.

    `also` records what else there is to say, with it.
    """
    with connect(url) as connection, connection.cursor() as cursor:
        made = record(last_receipt_hash(cursor))
        insert_record(cursor, made)
        also(cursor)
        connection.commit()
    return made


def receipt_hash(facts: Mapping[str, Any]) -> str:
    """SHA-256 of a receipt's JSON, of its keys in their order and without `mail`, which is known only later.

    So are `channels` and their notes, but databases hold hashes with them: outcome.channels.without_deliveries.
    """
    text = json.dumps({name: fact for name, fact in facts.items() if name != "mail"}, sort_keys=True)
    text = json.dumps(json.loads(text, parse_float=_number_in_jsonb))
    return hashlib.sha256(text.encode()).hexdigest()


def _number_in_jsonb(text: str) -> float:
    """PostgreSQL gives back 1e+16 as an integer, and -0.0 without its sign."""
    return int(Decimal(text)) if "e+" in text else float(text) + 0.0


def last_receipt_hash(cursor: Cursor) -> str | None:
    """The hash of the receipt that was recorded last; until the transaction ends, nobody else records one."""
    query(cursor, "lock_runs")
    last = query(cursor, "last_recorded")
    return receipt_hash(last[0][0]) if last else None


def last_receipts(url: str, *, limit: int) -> list[dict[str, Any]]:
    """The newest receipts, newest first, as their JSON objects."""
    with connect(url) as connection, connection.cursor() as cursor:
        return [row[0] for row in query(cursor, "last_runs", limit=limit)]
