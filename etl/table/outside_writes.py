"""Finds out who wrote to the table outside the pipeline, and which companies differ from what was loaded."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from etl.table.database import query

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor


@dataclass(frozen=True)
class OutsideWrites:
    """Manual changes to the table, as far as they can be found out."""

    statements: tuple[tuple[str, str, datetime], ...]
    """Who did what when, such as ("joe", "UPDATE", 2026-11-22 10:15 UTC)."""
    differing: tuple[tuple[str, int, int], ...]
    """Companies with another number of rows than were loaded: name, rows in the table, rows loaded."""
    is_new_start: bool
    """The table was emptied together with the ledger: nothing to report."""
    is_watched: bool
    """The table has the trigger that notes such statements."""


def find_outside_writes(cursor: Cursor, *, has_rows: bool, has_ledger: bool, is_watched: bool) -> OutsideWrites | None:
    """What was written to the table outside the pipeline.

    Rows are counted only when there is a reason: a noted statement, an empty table that the ledger says to be full (one
    that was made again, say), or no trigger that would note anything. What was found without a note gets one.
    """
    statements = query(cursor, "outside_writes")
    if is_watched and not statements and (has_rows or not has_ledger):
        return None
    differing = query(cursor, "differing_companies")
    if differing and not statements:
        query(cursor, "note_outside_write")
        statements = query(cursor, "outside_writes")
    is_new_start = not differing and not has_rows
    return OutsideWrites(tuple(statements), tuple(differing), is_new_start=is_new_start, is_watched=is_watched)


def forget_outside_writes(cursor: Cursor, writes: OutsideWrites, *, loaded: set[str]) -> None:
    """Drop the notes of what a load of these companies has corrected: of all that was noted, or of nothing."""
    if query(cursor, "differing_companies"):
        return
    users, operations, times = zip(*writes.statements, strict=True) if writes.statements else ([], [], [])
    query(
        cursor,
        "forget_outside_writes",
        users=list(users),
        operations=list(operations),
        times=list(times),
        companies=list(loaded),
    )
