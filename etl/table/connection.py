"""Connections to PostgreSQL: psycopg2's, which swallow no signal, and whose errors say what to do next."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2 import errorcodes, extensions

from etl.errors import NoConnectionError, SettingsError
from etl.signals import defer_signals, open_connections
from etl.table.database import APPLICATION, query
from etl.table.refusals import REFUSALS, explain_refusal, last_words, name_sqlstates, without_secrets
from etl.table.sqlstates import Meaning, meaning_of

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

_UNREADABLE = "The database URL cannot be read. Write postgresql://user:password@host:5432/name, with %-encoded signs."
# Dead peers are noticed in about a minute rather than in two hours, and so is, after two, one that takes no more of
# what is sent; COPY may itself take as long as it needs.
_PARAMETERS: dict[str, Any] = {
    "application_name": APPLICATION,
    "connect_timeout": 10,
    "client_encoding": "UTF8",
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 4,
    "tcp_user_timeout": 120_000,  # milliseconds
}


@contextmanager
def open_connection(url: str, *, lock_timeout_seconds: float = 60, snapshot: bool = False) -> Iterator[Connection]:
    """What `database.connect` describes."""
    dsn = _readable_dsn(url)
    try:
        with defer_signals():
            connection = psycopg2.connect(dsn, connection_factory=_Connection, cursor_factory=_Cursor)
    except REFUSALS as error:
        raise explain_refusal(dsn, error) from None  # which may quote a part of the password
    open_connections.add(connection)
    try:
        name_sqlstates(connection)
        # Whatever is the default here: what waited for the load's lock has to see what that load has committed.
        connection.isolation_level = extensions.ISOLATION_LEVEL_READ_COMMITTED
        with database_errors(dsn, connection=connection):
            with connection.cursor() as cursor:
                if snapshot:
                    query(cursor, "one_snapshot")
                query(cursor, "session", milliseconds=str(max(1, int(lock_timeout_seconds * 1000))))
            yield connection
            connection.rollback()  # of what was only read: a pooler ends the session of a client that leaves before it
    finally:
        with suppress(psycopg2.Error):
            connection.close()


@contextmanager
def database_errors(dsn: str = "", *, connection: Connection | None = None) -> Iterator[None]:
    """Translate PostgreSQL's errors by their SQLSTATE (sqlstates.py); of the password in `dsn` they show nothing."""
    try:
        yield
    except psycopg2.Error as error:
        sqlstate, line = error.pgcode, _server_line(error)
        if not sqlstate and connection and connection.closed:
            sqlstate, last_line = last_words(connection)
            line = last_line if sqlstate else line
        is_ours = isinstance(error, (psycopg2.ProgrammingError, psycopg2.NotSupportedError)) and not sqlstate
        meaning = Meaning(SettingsError) if is_ours else meaning_of(sqlstate)
        line = without_secrets(line, extensions.parse_dsn(dsn)).rstrip(".")
        if sqlstate == errorcodes.INVALID_PARAMETER_VALUE:  # what our own functions raise: no load failed
            raise SettingsError(f"The database answers: {line}.") from error
        if meaning.error is NoConnectionError:
            raise NoConnectionError(f"The database connection was lost: {line}. {meaning.advice}".rstrip()) from error
        text = f"The database {meaning.verb}: {line}. Nothing was loaded. {meaning.advice}"
        raise meaning.error(text.rstrip()) from error


class _Connection(extensions.connection):
    """A connection whose COMMIT and ROLLBACK swallow no signal."""

    def commit(self) -> None:
        with defer_signals():
            super().commit()

    def rollback(self) -> None:
        with defer_signals():
            super().rollback()


class _Cursor(extensions.cursor):
    """A cursor whose statements swallow no signal, and whose COPY prints nothing."""

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:  # noqa: ANN401  as the base class has it
        with _silent_psycopg2():
            super().copy_expert(sql, file, size)

    def execute(self, query: Any, vars: Any = None) -> None:  # noqa: ANN401  as the base class has it
        with defer_signals():
            super().execute(query, vars)


@contextmanager
def _silent_psycopg2() -> Iterator[None]:
    """Print nothing where an error ends a COPY and its connection: psycopg2 prints the first error, raises the last."""
    before = sys.excepthook

    def keep_quiet(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not isinstance(error.__cause__, psycopg2.Error):
            before(kind, error, trace)

    sys.excepthook = keep_quiet
    try:
        yield
    finally:
        sys.excepthook = before


def _readable_dsn(url: str) -> str:
    """The URL as a DSN, with our parameters. Raises SettingsError, which shows no part of it."""
    try:
        dsn = extensions.make_dsn(url.strip(), **_PARAMETERS)
        where = extensions.parse_dsn(dsn)
    except psycopg2.ProgrammingError:
        raise SettingsError(_UNREADABLE) from None  # the original text may quote a part of the password
    # A password with a sign that is not %-encoded: what follows it was taken for host, port or name.
    if "@" in where.get("host", "") + where.get("dbname", "") or not _are_ports(where.get("port", "")):
        raise SettingsError(_UNREADABLE)
    return dsn


def _are_ports(text: str) -> bool:
    return all(port == "" or (port.isascii() and port.isdigit() and int(port) < 1 << 16) for port in text.split(","))


def _server_line(error: psycopg2.Error) -> str:
    """What the server says, with its own hint, which is the next step where we know none; else libpq's sentence."""
    first = error.diag.message_primary or str(error).strip().partition("\n")[0] or type(error).__name__
    hint = (error.diag.message_hint or "").rstrip(".")
    return f"{first.rstrip('.')} ({hint})" if hint else first
