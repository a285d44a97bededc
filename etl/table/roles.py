"""Makes the role that the pipeline loads as, and the logins of people who read; each with its rights only."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from psycopg2 import extensions, sql

from etl.errors import SettingsError
from etl.table.database import connect, query
from etl.table.database import sql as sql_text
from etl.table.schema import SCHEMA_SECONDS, build_missing_index, close_schemas, lock_table

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

_NAME_OF_LOGIN = re.compile(r"[a-z_][a-z0-9_]{0,62}")  # what needs no quotes anywhere; 63 is PostgreSQL's limit


def make_loader(url: str, *, name: str, password: str) -> None:
    """Make the role, or give it this password and its rights again. `url` is the login of the tables' owner.

    Only the owner of a table may build an index, so the traders' index is built here and not by the first load. Raises
    SettingsError (no right to make roles) or ServiceError.
    """
    with connect(url) as connection, connection.cursor() as cursor:
        lock_table(cursor, timeout_seconds=SCHEMA_SECONDS)
        build_missing_index(cursor)
        schema, _, database, _ = query(cursor, "place_of_table")[0]
        verifier = _verifier(connection, name=name, password=password)
        cursor.execute(
            sql.SQL(sql_text("loader")).format(
                name=sql.Literal(name),
                role=sql.Identifier(name),
                password=sql.Literal(verifier),
                schema=sql.Identifier(schema),
                database=sql.Identifier(database),
            )
        )
        connection.commit()


def has_reader(url: str, *, name: str) -> bool:
    """Is there this login of make_reader? `url` is the login of the tables' owner.

    Raises SettingsError for a name that cannot be one, or is that of another role, which keeps its password and rights.
    """
    if not _NAME_OF_LOGIN.fullmatch(name):
        raise SettingsError(f"{name!r} is no name for a login. Use small letters, digits and _, such as ada.")
    with connect(url) as connection, connection.cursor() as cursor:
        is_there, is_ours, is_prepared = query(cursor, "reader_state", login=name)[0]
        schema, *_ = query(cursor, "place_of_table")[0]
    if schema is None:
        raise SettingsError("The database has no table historical_stocks_data. Run init-db first.")
    if not is_prepared:
        raise SettingsError("There is no role stock_prices_reader. Run init-db as a user that may make roles.")
    if is_there and not is_ours:
        raise SettingsError(
            f"The role {name} exists, and grant-reader did not make it. Take another name; or, if this role is to read "
            f"the prices, run: GRANT stock_prices_reader TO {name}"
        )
    return bool(is_there)


def make_reader(url: str, *, name: str, password: str | None) -> None:
    """Make a login that may read the views and nothing else, or give it its rights and this password again.

    `url` is the login of the tables' owner; None leaves the password as it is. Call has_reader first. Raises
    SettingsError as close_schemas does.
    """
    with connect(url) as connection, connection.cursor() as cursor:
        verifier = None if password is None else _verifier(connection, name=name, password=password)
        close_schemas(cursor)
        schema, _, database, _ = query(cursor, "place_of_table")[0]
        cursor.execute(
            sql.SQL(sql_text("reader")).format(
                name=sql.Literal(name),
                role=sql.Identifier(name),
                schema=sql.Identifier(schema),
                database=sql.Identifier(database),
                password=sql.SQL(" PASSWORD {}").format(sql.Literal(verifier)) if verifier else sql.SQL(""),
            )
        )
        connection.commit()


def remove_reader(url: str, *, name: str) -> None:
    """Take such a login away, and end its sessions. Call has_reader first."""
    with connect(url) as connection, connection.cursor() as cursor:
        values = {"name": sql.Literal(name), "role": sql.Identifier(name)}
        cursor.execute(sql.SQL(sql_text("remove_reader")).format(**values))
        connection.commit()


def _verifier(connection: Connection, *, name: str, password: str) -> str:
    """What PostgreSQL keeps of a password: so that no log of the server has the password itself."""
    return str(extensions.encrypt_password(password, name, scope=connection, algorithm="scram-sha-256"))
