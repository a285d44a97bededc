"""Connections that are refused, in any language and by whatever listens there: what is said and tried again."""

from __future__ import annotations

import errno
import socket
import traceback
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg2
import psycopg2.errorcodes
import pytest

import etl
from etl.errors import NoConnectionError, ServiceError, SettingsError
from etl.table.database import connect
from etl.table.refusals import explain_refusal
from etl.table.sqlstates import meaning_of
from tests.support.stub_database import refusal, stub_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.commands import Command
    from tests.support.database import Database

SECRET = "s3cr-et/pa@ss:wörd %41"
URL = f"postgresql://trader:{quote(SECRET, safe='')}@127.0.0.1"


def refused(url: str) -> etl.EtlError:
    with pytest.raises(etl.EtlError) as caught, connect(url):
        pass
    told = "".join(traceback.format_exception(caught.value))
    for part in (SECRET, quote(SECRET, safe=""), quote(SECRET), "s3cr-et", "wörd"):
        assert part not in told
    assert "\n" not in str(caught.value)
    return caught.value


GERMAN = "Passwort-Authentifizierung für Benutzer »trader« fehlgeschlagen"
# SQLSTATE, severity, sentence, encoding; then whether another attempt may succeed, and what the message advises
SPOKEN = {
    "English password": (
        "28P01", "FATAL", 'password authentication failed for user "trader"', "utf-8", False, "Check both",
    ),
    "German password": ("28P01", "FATAL", GERMAN, "utf-8", False, "Check both"),
    "German password in Latin-1": ("28P01", "FATAL", GERMAN, "latin-1", False, "Check both"),
    "French database": (
        "3D000", "FATAL", "la base de données « stocks » n'existe pas", "utf-8", False, "there is no such database",
    ),
    "Russian start": (
        "57P03", "ВАЖНО", "система баз данных запускается", "utf-8", True, "starting up",
    ),
    "Chinese crowd": ("53300", "致命错误", "对不起, 已经有太多的客户", "utf-8", True, "too many connections"),
    "PAM": ("28000", "FATAL", 'PAM authentication failed for user "trader"', "utf-8", False, "pg_hba.conf"),
    "LDAP": ("28000", "FATAL", 'LDAP authentication failed for user "trader"', "utf-8", False, "pg_hba.conf"),
    "closed database": (
        "55000", "FATAL", 'database "stocks" is not currently accepting connections', "utf-8", False, "state",
    ),
    "pooler without the database": (
        "08P01", "FATAL", "no such database: stocks", "utf-8", False, "no such database. Check",
    ),
    "pooler that takes no option": (
        "08P01", "FATAL", "unsupported startup parameter: options", "utf-8", False, "ignore_startup_parameters",
    ),
    "pooler with another password": ("08P01", "FATAL", "SASL authentication failed", "utf-8", False, "Check both"),
    "pooler that is full": (
        "08P01", "FATAL", "no more connections allowed (max_client_conn)", "utf-8", True, "the pooler",
    ),
    "a state of no class": ("ZZ123", "FATAL", "the moon is in the wrong house", "utf-8", False, ""),
}  # fmt: skip


@pytest.mark.parametrize("spoken", SPOKEN)
def test_refusal_is_judged_by_its_sqlstate_and_quoted_in_any_language(spoken: str) -> None:
    sqlstate, severity, sentence, encoding, may_pass, advice = SPOKEN[spoken]
    answer = refusal(sentence, sqlstate=sqlstate, severity=severity, encoding=encoding)
    with stub_database(answer) as port:
        error = refused(f"{URL}:{port}/stocks")
    assert isinstance(error, NoConnectionError if may_pass else SettingsError)
    assert f"The server says: {sentence}." in str(error) or f"the server says: {sentence}." in str(error)
    assert advice in str(error)
    assert "no answer" not in str(error)


def test_every_sqlstate_of_a_refusal_is_tried_again_only_where_it_can_pass() -> None:
    codes = {code for name, code in vars(psycopg2.errorcodes).items() if name.isupper() and len(str(code)) == 5}
    assert len(codes) > 200
    for code in sorted(codes)[::7]:
        with stub_database(refusal("ainsi soit-il", sqlstate=code)) as port:
            error = refused(f"{URL}:{port}/stocks")
        assert "ainsi soit-il" in str(error), code
        assert isinstance(error, NoConnectionError) is issubclass(meaning_of(code).error, ServiceError), code


@pytest.mark.parametrize("sslmode", ["disable", "prefer", "require"])
@pytest.mark.parametrize("page", [b"HTTP/1.1 400 Bad Request\r\n\r\n<html>", b"220 mail.example ESMTP\r\n"])
def test_server_of_something_else_is_not_called_silent(page: bytes, sslmode: str) -> None:
    with stub_database(page, speaks_postgres=False) as port:
        error = refused(f"{URL}:{port}/stocks?sslmode={sslmode}")
    assert isinstance(error, SettingsError)
    assert "something other than PostgreSQL answers there. Check host and port." in str(error)


def test_server_that_hangs_up_without_a_word_may_be_better_later() -> None:
    with stub_database(b"") as port:
        error = refused(f"{URL}:{port}/stocks")
    assert isinstance(error, NoConnectionError)
    assert "Is it running?" in str(error)


@contextmanager
def _deaf_port() -> Iterator[int]:
    """A port that takes no connection and refuses none: its queue is full."""
    with socket.socket() as listener, closing(socket.socket()) as first:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        first.connect(listener.getsockname())
        yield int(listener.getsockname()[1])


def test_only_what_cannot_be_reached_gives_no_answer(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    error = refused(f"{URL}:{closed_port}/stocks")
    assert "no answer, connection refused. Is it running and reachable?" in str(error)
    monkeypatch.setattr("etl.table.connection._PARAMETERS", {"connect_timeout": 2})
    monkeypatch.setattr("etl.table.refusals._SECONDS", 0.5)
    with _deaf_port() as port:
        error = refused(f"{URL}:{port}/stocks")
    assert "no answer, timed out. Is it running and reachable?" in str(error)
    error = refused("host=/nowhere/at/all dbname=stocks")
    assert "no answer, no such socket. Is it running and reachable?" in str(error)
    assert isinstance(error, NoConnectionError)


def test_every_errno_of_a_socket_is_no_answer_that_may_come_later(monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in errno.errorcode.items():

        def refuse(*_: object, number: int = number, **__: object) -> None:
            raise OSError(number, "Verbindungsaufbau abgelehnt")

        monkeypatch.setattr("socket.create_connection", refuse)
        error = explain_refusal(f"{URL}:5432/stocks", psycopg2.OperationalError("Verbindungsaufbau abgelehnt"))
        assert isinstance(error, NoConnectionError), name
        assert "127.0.0.1:5432: no answer, " in str(error), name


@pytest.mark.parametrize(
    ("answer", "expected", "message"),
    [
        (socket.gaierror(socket.EAI_NONAME, "?"), SettingsError, "no such host. Check the host name."),
        (socket.gaierror(socket.EAI_AGAIN, "?"), NoConnectionError, "no name server answers."),
        (UnicodeError("label too long"), SettingsError, "no such host. Check the host name."),
    ],
)
def test_name_that_no_server_knows_is_a_setting_and_a_silent_name_server_passes(
    answer: Exception, expected: type[etl.EtlError], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise answer

    monkeypatch.setattr("socket.create_connection", refuse)
    error = explain_refusal(f"{URL}:5432/stocks", psycopg2.OperationalError("?"))
    assert isinstance(error, expected)
    assert message in str(error)


def test_words_of_a_refusal_that_holds_a_part_of_the_password_are_blotted_out() -> None:
    sentence = f"no entry for wörd in {SECRET} or {quote(SECRET, safe='')}"
    with stub_database(refusal(sentence, sqlstate="28000")) as port:
        error = refused(f"{URL}:{port}/stocks")
    assert "The server says: no entry for *** in *** or ***." in str(error)


def test_refusal_of_many_lines_is_quoted_on_one() -> None:
    with stub_database(refusal("one\ntwo\r\n\tthree" + " and more" * 1000, sqlstate="28000")) as port:
        error = refused(f"{URL}:{port}/stocks")
    assert len(str(error)) < 800


@pytest.mark.parametrize("around", ["{}\n", "\n{}", "  {}  ", "{}\r\n", "\t{}\n\n"])
def test_blanks_around_the_url_do_not_matter(database: Database, around: str) -> None:
    with connect(around.format(database.url)) as connection:
        assert connection.info.dbname == database.name


def test_database_that_allows_no_connections_is_quoted(database: Database, command: Command) -> None:
    other = f"closed_{database.name}"
    database.execute(f"CREATE DATABASE {other} ALLOW_CONNECTIONS false")
    try:
        answer = command(
            "history", "--database-url", database.without_password(password=database.server.password, dbname=other)
        )
    finally:
        database.execute(f"DROP DATABASE {other}")
    assert answer.code == 2
    assert f'The server says: database "{other}" is not currently accepting connections.' in answer.err
