"""Explains why a connection to PostgreSQL could not be made, whatever language the server speaks.

psycopg2 keeps no error code of a refused connection. So two more questions are asked: does anything listen there (a
socket says so, by its errno), and which SQLSTATE does the server refuse with (libpq writes it when it is asked to).
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import select
import socket
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from typing import Any
from urllib.parse import quote, quote_plus, unquote

import psycopg2
from psycopg2 import _psycopg, errorcodes, extensions

from etl.errors import EtlError, NoConnectionError, ServiceError, SettingsError
from etl.table.sqlstates import meaning_of

_SECONDS = 10.0  # for each of the two questions
_SPOKEN = ":  "  # behind the severity, in whatever language: a server refuses, and not libpq
_VERBOSE = 2  # PQERRORS_VERBOSE of libpq-fe.h
_REACHED_NOTHING = {
    errno.ECONNREFUSED: "connection refused",
    errno.ETIMEDOUT: "timed out",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.ENOENT: "no such socket",
}
# Sentences of libpq itself, which no server translates: what stays as it is, and then what may pass.
_LIBPQ_REFUSES = (
    ("no password supplied", "The server wants a password. Put it into the database URL."),
    ("does not support SSL", "The server does not speak TLS, which sslmode asks for. Check sslmode."),
    ("certificate", "The server's TLS certificate is not trusted. Check sslmode and sslrootcert."),
    (
        "received invalid response|expected authentication request|invalid .* length|unsupported frontend protocol",
        "Something other than PostgreSQL answers there. Check host and port.",
    ),
)
# And of pgbouncer, which speaks English only, and until 1.19 has one SQLSTATE, 08P01, for all that it refuses.
_POOLER_REFUSES = (
    ("no such user|authentication failed|auth failed|login rejected", meaning_of("28P01").advice),
    ("no such database|does not exist", meaning_of("3D000").advice),
    (
        "unsupported startup parameter",
        "A pooler refuses a parameter of the URL. Remove it, or name it in pgbouncer's ignore_startup_parameters.",
    ),
)
_LIBPQ_LOST = "closed the connection|could not (send|receive)|SYSCALL|timeout expired|lost synchronization"
_LONGEST_QUOTE = 400
_SHORTEST_SECRET = 4  # of the parts of a password; a shorter one hides nothing and spoils the sentence


REFUSALS = (psycopg2.Error, UnicodeDecodeError)
"""What `psycopg2.connect` raises; the second, where the server speaks in another encoding than UTF-8."""


def explain_refusal(dsn: str, error: psycopg2.Error | UnicodeDecodeError) -> EtlError:
    """The error that says what to do, for one that `psycopg2.connect(dsn)` raised. It holds no part of a password."""
    where = extensions.parse_dsn(dsn)
    server = f"{where.get('host', 'the local socket')}:{where.get('port', 5432)}"
    text = _text_of(error)
    if found := _find_nothing_there(where, text=text):
        return found if isinstance(found, EtlError) else _no_answer(server, found)
    if _SPOKEN in text:
        text = _ask_again(dsn) or text
    sqlstate, line = _last_refusal(text)
    name = f"database {where.get('dbname', '')!r} at {server} as user {where.get('user', '')!r}"
    quoted = without_secrets(line, where)
    if sqlstate:
        meaning = meaning_of(sqlstate)
        kind = NoConnectionError if issubclass(meaning.error, ServiceError) else SettingsError
        advice = meaning.advice
        if sqlstate == errorcodes.PROTOCOL_VIOLATION:
            pooler = next((advice for sign, advice in _POOLER_REFUSES if re.search(sign, line)), None)
            kind, advice = (SettingsError, pooler) if pooler else (kind, advice)
        return kind(_sentences(name, advice, f"The server says: {quoted}"))
    for sign, advice in _LIBPQ_REFUSES:
        if re.search(sign, text):
            return SettingsError(_sentences(name, advice, f"libpq says: {quoted}"))
    if re.search(_LIBPQ_LOST, text):
        advice = "Something listens there and gives no answer that PostgreSQL would. Is it running?"
        return NoConnectionError(_sentences(name, advice, f"libpq says: {quoted}"))
    return SettingsError(_sentences(name, "", f"libpq says: {quoted}"))


def without_secrets(text: str, where: Mapping[str, str]) -> str:
    """The text on one line, bounded, and without the passwords of a DSN, also where only a part of one is quoted."""
    secrets: set[str] = set()
    for password in filter(None, (where.get("password"), where.get("sslpassword"))):
        for form in (password, unquote(password)):
            parts = re.split(r"[^\w.~-]", form)
            secrets |= {form, quote(form, safe=""), quote(form), quote_plus(form)}
            secrets |= {part for part in parts if len(part) >= _SHORTEST_SECRET}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_QUOTE else line[:_LONGEST_QUOTE] + "..."


def _find_nothing_there(where: Mapping[str, str], *, text: str) -> str | EtlError | None:
    """Why no server is reached, by errno; the error where no host is found; None where something listens."""
    hosts = (where.get("hostaddr") or where.get("host") or os.environ.get("PGHOST") or "").split(",")
    ports = (where.get("port") or os.environ.get("PGPORT") or "5432").split(",")
    reason: str | EtlError | None = None
    for number, host in enumerate(hosts):
        port = ports[min(number, len(ports) - 1)] or "5432"
        if not host:  # libpq's default, which it alone knows
            return _last_refusal(text)[1] if "Is the server running" in text else None
        try:
            if host.startswith("/"):
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.settimeout(_SECONDS)
                    probe.connect(f"{host}/.s.PGSQL.{port}")
            else:
                socket.create_connection((host, int(port)), timeout=_SECONDS).close()
            return None
        except socket.gaierror as error:
            if error.errno == socket.EAI_AGAIN:
                reason = NoConnectionError(f"Cannot connect to the database at {host}: no name server answers.")
            else:
                reason = _no_such_host(host)
        except UnicodeError:  # a part of the name that is longer than one may be
            reason = _no_such_host(host)
        except TimeoutError:
            reason = "timed out"
        except OSError as error:
            reason = _REACHED_NOTHING.get(error.errno or 0, os.strerror(error.errno or 0))
    return reason


def _no_such_host(host: str) -> SettingsError:
    return SettingsError(f"Cannot connect to the database at {host}: no such host. Check the host name.")


def _no_answer(server: str, reason: str) -> NoConnectionError:
    return NoConnectionError(
        f"Cannot connect to the database at {server}: no answer, {reason}. Is it running and reachable?"
    )


def _ask_again(dsn: str) -> str:
    """What libpq says of another attempt, with the SQLSTATE; empty where that cannot be found out, or it succeeds."""
    deadline = time.monotonic() + _SECONDS
    try:
        with closing(psycopg2.connect(dsn, async_=True)) as connection:
            name_sqlstates(connection)
            _finish_connecting(connection, deadline=deadline)
    except REFUSALS as error:
        return _text_of(error)
    return ""


def name_sqlstates(connection: extensions.connection) -> None:
    """Let libpq write the SQLSTATE into the text of errors and notices of this connection, where it can be asked to.

    psycopg2 has no call for that; its documentation of `pgconn_ptr` shows how libpq is called.
    """
    with suppress(AttributeError, OSError):  # a libpq that is linked in another way
        set_verbosity = ctypes.PyDLL(_psycopg.__file__).PQsetErrorVerbosity
        set_verbosity.argtypes = [ctypes.c_void_p, ctypes.c_int]
        set_verbosity(connection.pgconn_ptr, _VERBOSE)


def last_words(connection: extensions.connection) -> tuple[str | None, str]:
    """SQLSTATE and sentence with which the server ended this connection, where psycopg2 raises only that it is gone."""
    return _last_refusal(connection.info.error_message or "")


def _text_of(error: psycopg2.Error | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return error.object.decode("latin-1")
    return str(error)


def _finish_connecting(connection: Any, *, deadline: float) -> None:  # noqa: ANN401  psycopg2's, of no public class
    while (state := connection.poll()) != extensions.POLL_OK:
        reads, writes = ([connection] if state == way else [] for way in (extensions.POLL_READ, extensions.POLL_WRITE))
        if not any(select.select(reads, writes, [], max(0.0, deadline - time.monotonic()))):
            return


def _last_refusal(text: str) -> tuple[str | None, str]:
    """The SQLSTATE and the sentence of the server's last refusal; without one, libpq's last sentence."""
    coded = re.findall(r":  ([0-9A-Z]{5}): (.+)$", text, flags=re.MULTILINE)
    if coded:
        return coded[-1]
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("\t")]
    last = next((line for line in reversed(lines) if " failed: " in line), lines[0] if lines else "no reason")
    return None, last.rpartition(" failed: ")[2]


def _sentences(name: str, advice: str, quotation: str) -> str:
    parts = [part if part.endswith((".", "?")) else f"{part}." for part in (advice, quotation) if part]
    first = parts[0]
    return f"Cannot connect to {name}: {' '.join([first[0].lower() + first[1:], *parts[1:]])}"
