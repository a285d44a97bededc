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
    from psycopg2.extensions import cursor as Cursor

_NAME_OF_LOGIN = re.compile(r"[a-z_][a-z0-9_]{0,62}")  # what needs no quotes anywhere; 63 is PostgreSQL's limit


def make_loader(url: str, *, name: str, password: str) -> None:
    """Make the role, or give it this password and its rights again. `url` is the login of the tables' owner.

    Only the owner of a table may build an index, so the traders' index is built here and not by the first load. Raises
    SettingsError (no right to make roles, or the name is that of another role, which is left as it is) or ServiceError.
    """
    with connect(url) as connection, connection.cursor() as cursor:
        lock_table(cursor, timeout_seconds=SCHEMA_SECONDS)
        _refuse_other_role(cursor, name)
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


def _refuse_other_role(cursor: Cursor, name: str) -> None:
    """Raise SettingsError unless this is, or can be, a role that loads and does nothing else."""
    found = query(cursor, "loader_state", login=name)
    if not found:
        _check_name(name)
        return
    may_more, reads, is_ours = found[0]
    if is_ours and not (may_more or reads):
        return
    if may_more:
        why = "it may do more than load"
    else:
        why = "it is a login of somebody who reads" if reads else "init-db did not make it"
    advice = f"COMMENT ON ROLE {name} IS 'A loader of mbd init-db.'"
    raise SettingsError(
        f"The role {name} exists, and {why}. It was left as it is: init-db --loader would give it another password. "
        + ("Take another name." if may_more or reads else f"Take another name; or, if it is to load, run: {advice}")
    )


def _check_name(name: str) -> None:
    if not _NAME_OF_LOGIN.fullmatch(name):
        raise SettingsError(f"{name!r} is no name for a login. Use small letters, digits and _, such as ada.")


def has_reader(url: str, *, name: str) -> bool:
    """Is there this login of make_reader? `url` is the login of the tables' owner.

    Raises SettingsError for a name that cannot be one, or is that of another role, which keeps its password and rights.
    """
    _check_name(name)
    with connect(url) as connection, connection.cursor() as cursor:
        is_there, is_ours, is_prepared, may_write = query(cursor, "reader_state", login=name)[0]
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
    if may_write:
        raise SettingsError(
            f"The login {name} may also write to the table historical_stocks_data, so it is more than a reader's. Take "
            f"another name, or take its rights away first: REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {name}"
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
