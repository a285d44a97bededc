"""Runs named queries of `sql/`, on connections to PostgreSQL."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etl.package_files import read_package_file

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection
    from psycopg2.extensions import cursor as Cursor

APPLICATION = "moving-big-data"
"""The name of our sessions, by which others find them in pg_stat_activity."""


def sql(name: str) -> str:
    """The text of `etl/table/sql/{name}.sql`."""
    return read_package_file(Path(__file__).parent / "sql" / f"{name}.sql").decode()


def _parse(text: str) -> dict[str, str]:
    names_and_queries = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(names_and_queries[::2], names_and_queries[1::2], strict=True))


QUERIES = {
    name: text
    for file in ("queries", "journal", "whole", "history", "lists", "report", "roles")
    for name, text in _parse(sql(file)).items()
}
"""Every query of queries.sql, journal.sql, whole.sql, history.sql, lists.sql, report.sql and roles.sql by its name."""


def query(cursor: Cursor, name: str, **values: object) -> list[tuple[Any, ...]]:
    """Run the named query; returns its rows, none for a statement that has none to return."""
    cursor.execute(QUERIES[name], values)
    return cursor.fetchall() if cursor.description else []


def connect(
    url: str, *, lock_timeout_seconds: float = 60, snapshot: bool = False
) -> AbstractContextManager[Connection]:
    """A connection in a transaction: committed by the caller, rolled back and closed when the block is left.

    `url` is a libpq URL or DSN and may hold a password: it is never shown; blanks around it do not matter. Names mean
    what is in the schema of the table that the search path finds. `snapshot`: all queries see the same moment, and may
    only read. Raises SettingsError (user, password, host, database, TLS, permission) or ServiceError (no answer,
    connection lost), for errors inside the block too.
    """
    from etl.table.connection import open_connection  # noqa: PLC0415  psycopg2: the processing script runs without it

    return open_connection(url, lock_timeout_seconds=lock_timeout_seconds, snapshot=snapshot)
