"""The table as a load finds it: a transaction goes in; the load's lock, or what is wrong with the table, comes out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from etl.errors import ServiceError, SettingsError
from etl.table.database import sql

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

COLUMNS = (
    "stock_date", "open_value", "high_value", "low_value", "close_value", "volume_traded", "daily_percent_change",
    "value_change", "company_name",
)  # fmt: skip
"""The table's contract, in this order; each is VARCHAR(56)."""

_SECONDS_BETWEEN_TRIES = 0.2


def lock_table(cursor: Cursor, *, timeout_seconds: float) -> None:
    """Take the load's lock until the transaction ends. Raises ServiceError, naming the holder, when it stays taken."""
    deadline = time.monotonic() + timeout_seconds
    while not query(cursor, "lock")[0][0]:
        if time.monotonic() >= deadline:
            holders = query(cursor, "lock_holder")
            told = "; ".join(
                f"{name or 'a session'} of {user}, pid {pid}, since {start}" for pid, name, user, start in holders
            )
            raise ServiceError(
                f"Another load holds the table for more than {timeout_seconds:g} s "
                f"({told or 'it has just ended'}). Nothing was loaded. Try again when it is done."
            )
        time.sleep(_SECONDS_BETWEEN_TRIES)


def check_columns(cursor: Cursor) -> None:
    """Raise SettingsError, with the difference, unless the table is the nine columns of the contract in their order."""
    columns = [row[0] for row in query(cursor, "columns")]
    wanted = [f"{name} character varying(56)" for name in COLUMNS]
    if not columns:
        raise SettingsError("The database has no table historical_stocks_data. Run init-db first.")
    if columns == wanted:
        return
    absent = ", ".join(column for column in wanted if column not in columns) or "none"
    foreign = ", ".join(column for column in columns if column not in wanted) or "none"
    difference = f"missing: {absent}; not ours: {foreign}"
    if set(columns) == set(wanted):
        difference = "the order of its columns is " + ", ".join(column.partition(" ")[0] for column in columns)
    raise SettingsError(
        f"The table historical_stocks_data was altered ({difference}). Nothing was loaded. "
        "Put the nine columns back as etl/table/sql/schema.sql has them."
    )


@dataclass(frozen=True)
class ChangesByHand:
    """What somebody did to the table beside the loads, as far as it can be told."""

    statements: tuple[tuple[str, str, datetime], ...]
    """Who did what when, such as ("joe", "UPDATE", 2026-11-22 10:15 UTC)."""
    differing: tuple[tuple[str, int, int], ...]
    """Companies with another number of rows than were loaded: name, rows in the table, rows loaded."""

    fresh: bool
    """The table was emptied together with the ledger: a new start, nothing to report."""
    watched: bool
    """The table has the trigger that notes such statements."""

    def note(self) -> str | None:
        if self.fresh:
            return None
        told = "; ".join(
            f"{operation} by {user} at {at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
            for user, operation, at in self.statements[:3]
        )
        if not self.watched:
            told += "; " * bool(told) + "the table's trigger that notes who writes is gone: init-db puts it back"
        if not self.differing:
            subject = "Somebody wrote to the table" if self.statements else "Somebody may have written to the table"
            return f"{subject} ({told}). The row counts agree; --reload makes sure of the values."
        named = ", ".join(
            f"{name}: {table:,} in the table, {loaded:,} loaded" for name, table, loaded in self.differing[:3]
        )
        more = ", ..." if len(self.differing) > 3 else ""
        return (
            f"Rows of {len(self.differing)} companies were changed by hand since they were loaded ({named}{more}; "
            f"{told}). --reload puts the companies of the batch right."
        )


def find_changes_by_hand(cursor: Cursor, *, has_rows: bool, has_ledger: bool, watched: bool) -> ChangesByHand | None:
    """What was written to the table beside the loads.

    Rows are counted only when there is a reason: a noted statement, an empty table that the ledger says to be full (one
    that was made anew, say), or no trigger that would note anything. What was found without a note gets one.
    """
    statements = query(cursor, "changes_by_hand")
    if watched and not statements and (has_rows or not has_ledger):
        return None
    differing = query(cursor, "changed_by_hand")
    if differing and not statements:
        cursor.execute(sql("note_change"))
        statements = query(cursor, "changes_by_hand")
    fresh = not differing and not has_rows
    return ChangesByHand(tuple(statements), tuple(differing), fresh=fresh, watched=watched)


def query(cursor: Cursor, name: str, **values: object) -> list[tuple[Any, ...]]:
    """The rows of `etl/table/sql/{name}.sql`."""
    cursor.execute(sql(name), values)
    return cursor.fetchall()
