"""Makes the tables; locks and checks the target table before a load."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl.errors import ServiceError, SettingsError
from etl.table.database import APPLICATION, connect, query, sql

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

COLUMNS = (
    "stock_date", "open_value", "high_value", "low_value", "close_value", "volume_traded", "daily_percent_change",
    "value_change", "company_name",
)  # fmt: skip
"""The table's contract, in this order; each is VARCHAR(56)."""

SCHEMA_SECONDS = 60
"""How long what makes things waits for a load."""

_SECONDS_BETWEEN_TRIES = 0.2
_TABLE_KINDS = ("r", "p")  # pg_class.relkind
_OTHER_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}


@dataclass(frozen=True)
class TablePlace:
    """Where the tables are."""

    schema: str
    database: str
    others: tuple[str, ...]
    """Other schemas that have a table of the same name."""


def make_tables(url: str) -> TablePlace:
    """Make tables, views, functions and the reader's role where they are not there yet, or are of an older version.

    Waits for a load or another call of it: what it does races with itself, CREATE ... IF NOT EXISTS too. Raises
    SettingsError when a new table would hide one that is there, or something else has its name; and, where somebody
    reads, as close_schemas does.
    """
    with connect(url) as connection, connection.cursor() as cursor:
        lock_table(cursor, timeout_seconds=SCHEMA_SECONDS)
        if query(cursor, "has_readers")[0][0]:
            close_schemas(cursor)
        _refuse_to_hide(cursor)
        cursor.execute(sql("schema"))
        cursor.execute(sql("journal_schema"))
        cursor.execute(sql("lists_schema"))
        cursor.execute(sql("readers_schema"))
        if query(cursor, "table_state")[0][0]:  # into an empty table the first load copies faster without it
            build_missing_index(cursor)
        schema, _, database, others = query(cursor, "place_of_table")[0]
        connection.commit()
    return TablePlace(schema, database, tuple(others))


def build_missing_index(cursor: Cursor) -> None:
    """Build the traders' index where it is missing and this user may."""
    has_index, may_build = query(cursor, "table_index")[0]
    if not has_index and may_build:
        query(cursor, "build_table_index")


def close_schemas(cursor: Cursor) -> None:
    """Let only some make functions where the loader would call them with its rights: in the schemas of the search path.

    Raises SettingsError when everybody still may, or somebody else has made one with a name of PostgreSQL's own.
    """
    query(cursor, "close_schemas")
    if found := query(cursor, "open_schemas"):
        place = found[0][0]
        raise SettingsError(
            f"Everybody may make functions in schema {place}, where the loader would call them with its rights. "
            "Nothing was made. Take the schema out of the search_path, or run as its owner: "
            f"REVOKE CREATE ON SCHEMA {place} FROM PUBLIC"
        )
    if foreign := [row[0] for row in query(cursor, "foreign_functions")]:
        raise SettingsError(
            "Somebody else has made what the loader could take for PostgreSQL's own, and would call with its rights: "
            f"{', '.join(foreign[:3])}{', ...' if len(foreign) > 3 else ''}. Nothing was made. Drop it, move it to a "
            "schema that is not in the search_path, or give it to the table's owner: ALTER FUNCTION ... OWNER TO."
        )


def _refuse_to_hide(cursor: Cursor) -> None:
    """Raise SettingsError when this user's new table would be found instead of one that is there."""
    found, kind, _, _ = query(cursor, "place_of_table")[0]
    query(cursor, "forget_found_schema")
    new, path = query(cursor, "schema_for_new")[0]
    if found is None:
        return
    if found != new:
        raise SettingsError(
            f"The table historical_stocks_data is in schema {found}, and a new one in schema {new} would hide it from "
            f"this user, whose search_path is {path}. Nothing was made. Set the search_path to {found} alone to bring "
            f"that table up to date, or to {new} alone to have a second one: ?options=-csearch_path%3D{found} in the "
            "database URL, or ALTER ROLE ... SET search_path."
        )
    if kind not in _TABLE_KINDS:
        raise SettingsError(
            f"historical_stocks_data in schema {found} is no table but {_OTHER_KINDS.get(kind, 'something else')}. "
            "Nothing was made. Rename it, or name another schema by the search_path."
        )
    check_columns(cursor)
    owner, user, is_owner = query(cursor, "owner_of_table")[0]
    if not is_owner:
        raise SettingsError(
            f"The table historical_stocks_data belongs to {owner}, and {user} may not change it. Nothing was made. "
            f"Run init-db as {owner}; with --loader {user} it also gives {user} what a load needs."
        )


def make_day_index(url: str) -> bool:
    """Make the second index, by day, where it is not there yet. Returns False, and makes none, for an empty table.

    A first load would take twice as long with it. Waits for a load.
    """
    with connect(url) as connection, connection.cursor() as cursor:
        lock_table(cursor, timeout_seconds=SCHEMA_SECONDS)
        has_rows = bool(query(cursor, "table_state")[0][0])
        if has_rows:
            query(cursor, "build_day_index")
        connection.commit()
    return has_rows


def lock_table(cursor: Cursor, *, timeout_seconds: float) -> None:
    """Take the load's lock until the transaction ends. Raises ServiceError, naming the holder, when it stays taken."""
    deadline = time.monotonic() + timeout_seconds
    while not query(cursor, "lock")[0][0]:
        if time.monotonic() >= deadline:
            raise _held_table(query(cursor, "lock_holder"), timeout_seconds=timeout_seconds)
        time.sleep(_SECONDS_BETWEEN_TRIES)


def _held_table(holders: list[tuple[Any, ...]], *, timeout_seconds: float) -> ServiceError:
    """The error for a lock that these sessions hold: pid, application name, user, and since when if that is known."""
    holder = "; ".join(
        f"{name or 'a session'} of {user}, pid {pid}{f', since {start}' if start else ''}"
        for pid, name, user, start in holders
    )
    who, advice = "Another load", "Try again when it is done."
    if strangers := [pid for pid, name, *_ in holders if name != APPLICATION]:
        who = "A session that is no load"
        advice = f"Ask whose it is, or let an administrator end it: SELECT pg_terminate_backend({strangers[0]})."
    return ServiceError(
        f"{who} holds the table for more than {timeout_seconds:g} s ({holder or 'it has just ended'}). "
        f"Nothing was loaded. {advice}"
    )


def check_columns(cursor: Cursor) -> None:
    """Raise SettingsError, with the difference, unless the table is the nine columns of the contract in their order."""
    columns = [row[0] for row in query(cursor, "columns_of_table")]
    wanted = [f"{name} character varying(56)" for name in COLUMNS]
    if not columns:
        _, _, _, others = query(cursor, "place_of_table")[0]
        if others:
            _, path = query(cursor, "schema_for_new")[0]
            raise SettingsError(
                f"The table historical_stocks_data is in schema {' and '.join(others)}, where this user, whose "
                f"search_path is {path}, does not look. Put {others[0]} into the search_path: "
                f"?options=-csearch_path%3D{others[0]} in the database URL, or ALTER ROLE ... SET search_path."
            )
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
