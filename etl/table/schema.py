"""Makes the tables; locks and checks the target table before a load."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from etl.errors import ServiceError, SettingsError
from etl.table.database import connect, query, sql

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

COLUMNS = (
    "stock_date", "open_value", "high_value", "low_value", "close_value", "volume_traded", "daily_percent_change",
    "value_change", "company_name",
)  # fmt: skip
"""The table's contract, in this order; each is VARCHAR(56)."""

_SECONDS_BETWEEN_TRIES = 0.2
_SCHEMA_SECONDS = 60  # that it waits for a load


def make_tables(url: str) -> None:
    """Make tables, views, functions and the reader's role where they are not there yet, or are of an older version.

    Waits for a load or another call of it: what it does races with itself, CREATE ... IF NOT EXISTS too.
    """
    with connect(url) as connection, connection.cursor() as cursor:
        lock_table(cursor, timeout_seconds=_SCHEMA_SECONDS)
        cursor.execute(sql("schema"))
        cursor.execute(sql("journal_schema"))
        cursor.execute(sql("lists_schema"))
        connection.commit()


def lock_table(cursor: Cursor, *, timeout_seconds: float) -> None:
    """Take the load's lock until the transaction ends. Raises ServiceError, naming the holder, when it stays taken."""
    deadline = time.monotonic() + timeout_seconds
    while not query(cursor, "lock")[0][0]:
        if time.monotonic() >= deadline:
            holders = query(cursor, "lock_holder")
            holder = "; ".join(
                f"{name or 'a session'} of {user}, pid {pid}, since {start}" for pid, name, user, start in holders
            )
            raise ServiceError(
                f"Another load holds the table for more than {timeout_seconds:g} s "
                f"({holder or 'it has just ended'}). Nothing was loaded. Try again when it is done."
            )
        time.sleep(_SECONDS_BETWEEN_TRIES)


def check_columns(cursor: Cursor) -> None:
    """Raise SettingsError, with the difference, unless the table is the nine columns of the contract in their order."""
    columns = [row[0] for row in query(cursor, "columns_of_table")]
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
