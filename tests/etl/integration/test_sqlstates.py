"""Errors of PostgreSQL are judged by their SQLSTATE: each class, raised by a trigger under a load."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import psycopg2
import pytest
from psycopg2 import errorcodes

import etl
from etl.errors import NoConnectionError, ServiceError, SettingsError
from etl.table.connection import database_errors
from etl.table.copying import copy_rows
from etl.table.database import QUERIES, connect
from etl.table.sqlstates import MEANINGS, meaning_of

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.commands import Command
    from tests.support.database import Database

Days = Callable[..., list[str]]
CODES = sorted({code for name, code in vars(errorcodes).items() if name.isupper() and len(str(code)) == 5})
CLASSES = sorted({code[:2] for code in CODES} - {"00"})  # successful completion is no error
# What a person expects of the errors that bug reports are about: the error, and a word of the next step.
EXPECTED = {
    "08006": (NoConnectionError, "connection was lost"),
    "23505": (SettingsError, "unique index"),
    "25006": (SettingsError, "primary server"),
    "25P03": (ServiceError, "timeout"),
    "25P04": (ServiceError, "timeout"),
    "40001": (ServiceError, "again"),
    "40P01": (ServiceError, "again"),
    "42501": (SettingsError, "Grant"),
    "42P01": (SettingsError, "init-db"),
    "53100": (ServiceError, "disk"),
    "53200": (ServiceError, "memory"),
    "53300": (ServiceError, "too many connections"),
    "53400": (ServiceError, "limit"),
    "54000": (ServiceError, "limit"),
    "55000": (SettingsError, "state"),
    "55006": (ServiceError, "somebody else"),
    "55P03": (ServiceError, "lock"),
    "57014": (ServiceError, "timeout"),
    "57P01": (NoConnectionError, "connection was lost"),
    "57P03": (NoConnectionError, "starting up"),
    "57P04": (SettingsError, "dropped"),
    "58030": (ServiceError, "disk"),
    "P0001": (SettingsError, "trigger"),
    "XX000": (ServiceError, "log"),
}


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that loads have made before another attempt."""
    pauses: list[float] = []
    load = sys.modules["etl.table.load"]
    monkeypatch.setattr(load, "_PAUSES_SECONDS", (0.0, 0.0, 0.0))
    connect = load.connect

    def counted(url: str, **options: float) -> object:
        pauses.append(0.0)
        return connect(url, **options)

    monkeypatch.setattr(load, "connect", counted)
    return pauses


def _raise_under_load(database: Database, code: str) -> None:
    database.execute(
        "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"RAISE 'the %% is on fire', TG_RELNAME USING ERRCODE = '{code}', HINT = 'call somebody'; END $$".replace(
            "%%", "%"
        )
    )
    database.execute(
        "CREATE OR REPLACE TRIGGER refuse BEFORE INSERT ON historical_stocks_data FOR EACH ROW "
        "WHEN (NEW.company_name = 'cc.us.csv') EXECUTE FUNCTION refuse()"
    )


def test_every_class_of_sqlstates_has_a_meaning_or_is_refused_as_unknown() -> None:
    assert {key[:2] for key in MEANINGS if key} <= set(CLASSES)
    assert {code: meaning_of(code).error for code in EXPECTED} == {code: error for code, (error, _) in EXPECTED.items()}
    assert meaning_of("ZZ999").error is SettingsError
    assert meaning_of(None).error is NoConnectionError


def test_sqlstate_raised_under_a_load_is_tried_again_only_where_it_can_pass(
    three: Files, database: Database, command: Command, attempts: list[float]
) -> None:
    for code in (*(f"{one}000" for one in CLASSES), *EXPECTED):
        _raise_under_load(database, code)
        attempts.clear()
        places = ("--source", three.source, "--company-index", three.index, "--output", three.output)
        answer = command("run", *places, "--database-url", database.url, "--quiet")
        expected, word = EXPECTED.get(code, (meaning_of(code).error, ""))
        assert answer.code == expected.exit_code, code
        assert answer.err.startswith("error: The database "), code
        assert answer.err.count("\n") == 1, answer.err
        assert "the historical_stocks_data is on fire" in answer.err
        assert word.lower() in answer.err.lower(), code
        assert len(attempts) == (4 if expected is NoConnectionError else 1), code
        assert ("connection was lost" in answer.err) is (expected is NoConnectionError), code
    assert database.count() == 0
    assert set(database.states()) == {"failed"}


def test_every_sqlstate_becomes_an_error_of_ours_on_one_line(database: Database) -> None:
    session = database.session()
    for code in CODES:
        if code == "00000":
            continue
        with pytest.raises(etl.EtlError) as caught, database_errors(), session.cursor() as cursor:
            cursor.execute(f"DO $$ BEGIN RAISE E'first\\nsecond' USING ERRCODE = '{code}'; END $$")
        session.rollback()
        assert type(caught.value) is (SettingsError if code == "22023" else meaning_of(code).error), code
        assert "first second" in str(caught.value), code
    session.close()


def test_published_table_without_a_replica_identity_is_a_setting_with_the_servers_hint(
    three: Files, database: Database, days: Days, attempts: list[float], capfd: pytest.CaptureFixture[str]
) -> None:
    three.load(database)
    database.execute("CREATE PUBLICATION prices FOR TABLE historical_stocks_data")
    three.put("cc.us.csv", days(20, price=31))
    table = database.table()
    with pytest.raises(etl.SettingsError, match=r"replica identity.*ALTER TABLE"):
        three.load(database)
    assert len(attempts) == 2  # one for each load
    assert database.table() == table
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("setting", ["transaction_timeout", "statement_timeout", "idle_in_transaction_session_timeout"])
def test_timeout_of_the_server_is_no_lost_connection(
    three: Files, database: Database, days: Days, attempts: list[float], capfd: pytest.CaptureFixture[str],
    setting: str,
) -> None:  # fmt: skip
    if setting == "transaction_timeout" and database.server.major < 17:
        pytest.skip("PostgreSQL has it from 17 on")
    three.load(database)
    attempts.clear()
    table = database.table()
    three.put("aa.us.csv", days(5, price=11))
    three.put("dd.us.csv", days(9))
    three.name("aa.us.csv", "bb.us.csv", "cc.us.csv", "dd.us.csv")

    def dawdle(*, done: int, total: int) -> None:
        if setting.startswith("idle") and done == 1:
            _wait_until_the_load_is_ended(database)

    with database.copy_stopped_at("2001-01-05"):
        database.execute(f"ALTER DATABASE {database.name} SET {setting} = '300ms'")
        with pytest.raises(etl.ServiceError, match="timeout") as caught:
            etl.run(three.job(), target=etl.Target(database.url), run=etl.Run.begin("test"), progress=dawdle)
    assert not isinstance(caught.value, NoConnectionError)
    assert len(attempts) == 1
    assert database.table() == table
    assert capfd.readouterr().err == ""


def test_copy_that_the_server_ends_while_rows_are_sent_raises_why_and_prints_nothing(
    database: Database, capfd: pytest.CaptureFixture[str]
) -> None:
    def rows() -> Iterator[bytes]:
        yield b"2001-01-01,,,,,,,,aa.us.csv\n"  # taken before the COPY begins; what follows, within it
        database.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'moving-big-data'"
        )
        for _ in range(1000):
            yield b"2001-01-01,,,,,,,,aa.us.csv\n" * 10_000

    with (
        pytest.raises(NoConnectionError, match="terminating connection due to administrator command"),
        connect(database.url) as connection,
        connection.cursor() as cursor,
    ):
        copy_rows(cursor, QUERIES["copy_rows"], rows())
    assert capfd.readouterr().err == ""


def _wait_until_the_load_is_ended(database: Database) -> None:
    deadline = time.monotonic() + 30
    while database.rows("SELECT FROM pg_stat_activity WHERE application_name = 'moving-big-data'"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_error_of_the_client_is_one_of_ours_too() -> None:
    with pytest.raises(etl.SettingsError, match="more specific"), database_errors():
        raise psycopg2.ProgrammingError("be more specific")
    with pytest.raises(NoConnectionError, match="closed the connection"), database_errors():
        raise psycopg2.OperationalError("server closed the connection unexpectedly\n\tThis probably means...")
