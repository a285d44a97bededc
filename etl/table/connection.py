"""Connections to PostgreSQL: psycopg2's, which swallow no signal, and whose errors say what to do next."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import psycopg2
from psycopg2 import errors, extensions

from etl.errors import EtlError, NoConnectionError, ServiceError, SettingsError
from etl.signals import defer_signals, open_connections
from etl.table.database import query

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

# What a connection attempt answers has no error code, only text; each wants another action of the reader.
_CONNECT_FAULTS = (
    ("permission denied for database", "permission denied. Grant this user CONNECT on the database."),
    ("not permitted to log in", "this user may not log in. Grant it LOGIN."),
    ("password authentication failed", "the server refuses the user name or the password. Check both."),
    ("no password supplied", "the server wants a password. Put it into the database URL."),
    (r'role ".*" does not exist', "there is no such user. Check the user name."),
    (r'database ".*" does not exist', "there is no such database. Check its name, or create it."),
    ("could not translate host name", "no such host. Check the host name."),
    (
        r"pg_hba\.conf",
        "the server does not accept this user from here, or not without TLS. Try sslmode=require.",
    ),
    ("does not support SSL", "the server does not speak TLS, which sslmode asks for. Check sslmode."),
    ("certificate", "the server's TLS certificate is not trusted. Check sslmode and sslrootcert."),
)
_PASSING_FAULTS = {
    "too many connections": "too many connections",  # of this user or database
    "too many clients": "too many connections",
    "connection slots are reserved": "too many connections",
    "starting up": "starting up",
    "shutting down": "shutting down",
    "connection refused": "connection refused",
}
_GAVE_UP = (
    errors.DeadlockDetected,
    errors.DiskFull,
    errors.IoError,
    errors.LockNotAvailable,
    errors.OutOfMemory,
    errors.QueryCanceled,
)
_UNACKNOWLEDGED_MILLISECONDS = 120_000
_UNREADABLE = "The database URL cannot be read. Write postgresql://user:password@host:5432/name, with %-encoded signs."


@contextmanager
def open_connection(url: str, *, lock_timeout_seconds: float = 60) -> Iterator[Connection]:
    """A connection in a transaction: committed by the caller, rolled back and closed when the block is left.

    `url` is a libpq URL or DSN and may hold a password: it is never shown. Raises SettingsError (user, password, host,
    database, TLS, permission) or ServiceError (no answer, connection lost), for errors inside the block too.
    """
    # Dead peers are noticed in about a minute rather than in two hours, and so is, after two, one that takes no more of
    # what is sent; COPY may itself take as long as it needs.
    try:
        with defer_signals():
            connection = psycopg2.connect(
                url,
                connection_factory=_Connection,
                cursor_factory=_Cursor,
                application_name="moving-big-data",
                connect_timeout=10,
                client_encoding="UTF8",
                keepalives_idle=20,
                keepalives_interval=10,
                keepalives_count=4,
                tcp_user_timeout=_UNACKNOWLEDGED_MILLISECONDS,
            )
    except psycopg2.ProgrammingError:
        raise SettingsError(_UNREADABLE) from None  # the original text may quote a part of the password
    except psycopg2.OperationalError as error:
        where = extensions.parse_dsn(url)
        # A password with a sign that is not %-encoded: what follows it was taken for host, port or name.
        if "connection option" in str(error) or "@" in where.get("host", "") + where.get("dbname", ""):
            raise SettingsError(_UNREADABLE) from None
        raise _connect_error(where, str(error)) from error
    open_connections.add(connection)
    try:
        with database_errors():
            with connection.cursor() as cursor:
                query(cursor, "session", milliseconds=str(max(1, int(lock_timeout_seconds * 1000))))
            yield connection
    finally:
        with suppress(psycopg2.Error):
            connection.close()


@contextmanager
def database_errors() -> Iterator[None]:
    """Translate PostgreSQL's errors: lost connections and full disks may pass, the rest wants a person."""
    try:
        yield
    except (errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction, errors.UndefinedTable) as error:
        hint = " Run init-db first." if isinstance(error, errors.UndefinedTable) else ""
        raise SettingsError(f"The database refuses: {_first_line(error)}. Nothing was loaded.{hint}") from error
    except errors.InvalidParameterValue as error:  # what our own functions raise
        raise SettingsError(f"The database answers: {_first_line(error)}.") from error
    except _GAVE_UP as error:
        raise ServiceError(f"The database gave up: {_first_line(error)}. Nothing was loaded.") from error
    except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
        raise NoConnectionError(f"The database connection was lost: {_first_line(error)}.") from error
    except psycopg2.Error as error:
        raise SettingsError(f"The database refuses: {_first_line(error)}. Nothing was loaded.") from error


class _Connection(extensions.connection):
    """A connection whose COMMIT swallows no signal."""

    def commit(self) -> None:
        with defer_signals():
            super().commit()


class _Cursor(extensions.cursor):
    """A cursor whose statements swallow no signal."""

    def execute(self, query: Any, vars: Any = None) -> None:  # noqa: ANN401  as the base class has it
        with defer_signals():
            super().execute(query, vars)


def _connect_error(where: Mapping[str, str], text: str) -> EtlError:
    server = f"{where.get('host', 'the local socket')}:{where.get('port', 5432)}"
    for sign, advice in _CONNECT_FAULTS:
        if re.search(sign, text):
            name = f"database {where.get('dbname', '')!r} at {server} as user {where.get('user', '')!r}"
            return SettingsError(f"Cannot connect to {name}: {advice}")
    reason = next((reason for sign, reason in _PASSING_FAULTS.items() if sign in text.lower()), "no answer")
    return NoConnectionError(f"Cannot connect to the database at {server}: {reason}. Is it running and reachable?")


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
