"""A database that is not there, refuses, was altered, or is in use: the message, the exit code, the table as it was."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING

import psycopg2
import pytest

import etl
from etl.table.database import connect
from etl.table.schema import make_tables
from tests.support.batch_files import process

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.commands import Answer, Command
    from tests.support.database import Database

Days = Callable[..., list[str]]
MARKED = "hunter2-do-not-print"
NO_HOST = "x" * 64 + ".invalid"  # longer than a name may be, so that no name server is asked


DROP_VIEWS = "DROP VIEW stock_prices, stock_prices_as_written CASCADE; DROP FUNCTION rows_as_of_load;"


def _move(files: Files, url: str, command: Command, *options: object) -> Answer:
    places = ("--source", files.source, "--index", files.index, "--output", files.output)
    return command("run", *places, "--database-url", url, *options)


CONNECT_FAULTS: dict[str, tuple[Callable[[Database, int], str], int, str]] = {
    "password": (
        lambda database, _: database.without_password(password=MARKED),
        2,
        "the server refuses the user name or the password",
    ),
    "user": (
        lambda database, _: database.without_password(password=MARKED, user="nobody_here"),
        2,
        "the server refuses the user name or the password",
    ),
    "no password": (lambda database, _: database.without_password(), 2, "the server wants a password"),
    "host": (
        lambda database, _: database.without_password(password=MARKED, host=NO_HOST),
        2,
        "no such host. Check the host name",
    ),
    "database": (
        lambda database, _: database.without_password(password=database.server.password, dbname="no_such_database"),
        2,
        "there is no such database",
    ),
    "port": (
        lambda database, closed: database.without_password(password=MARKED, port=str(closed)),
        3,
        "no answer, connection refused. Is it running and reachable?",
    ),
    "tls": (
        lambda database, _: database.without_password(password=MARKED, sslmode="require"),
        2,
        "the server does not speak TLS, which sslmode asks for",
    ),
    "url": (lambda database, _: f"postgresql://postgres:{MARKED}@[127.0.0.1/stocks", 2, "cannot be read"),
    "password with @": (lambda database, _: f"postgresql://postgres:a@{MARKED}@127.0.0.1:1/stocks", 2, "cannot be"),
    "password with /": (lambda database, _: f"postgresql://localhost:1/{MARKED}@127.0.0.1/stocks", 2, "cannot be"),
    "password for a port": (lambda database, _: f"postgresql://postgres:{MARKED}/x@127.0.0.1/stocks", 2, "cannot be"),
    "sqlalchemy's url": (lambda database, _: f"postgresql+psycopg2://postgres:{MARKED}@127.0.0.1/x", 2, "cannot be"),
}


@pytest.mark.parametrize("fault", CONNECT_FAULTS)
@pytest.mark.parametrize("name", ["run", "init-db", "history"])
@pytest.mark.usefixtures("hurried")
def test_connection_that_cannot_be_made_says_why_in_one_line_and_never_the_password(
    three: Files, database: Database, command: Command, closed_port: int, fault: str, name: str
) -> None:
    make_url, code, message = CONNECT_FAULTS[fault]
    url = make_url(database, closed_port)
    if name == "run":
        answer = _move(three, url, command, "--quiet", "--json")
        receipt = json.loads(answer.out)
        assert (receipt["state"], message in receipt["error"]) == ("failed", True)
        assert three.receipts() == {receipt["run_id"]: receipt}
    else:
        answer = command(name, "--database-url", url)
    assert (answer.code, message in answer.err) == (code, True), answer.err
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    for told in (answer.out, answer.err, str(three.receipts())):
        assert MARKED not in told
        assert database.server.password not in told


@pytest.mark.parametrize("fault", [name for name, (_, _, told) in CONNECT_FAULTS.items() if told.startswith("cannot")])
def test_url_that_cannot_be_read_shows_no_part_of_the_password_in_a_traceback_either(
    database: Database, closed_port: int, fault: str
) -> None:
    url = CONNECT_FAULTS[fault][0](database, closed_port)
    with pytest.raises(etl.SettingsError) as caught, connect(url):
        pass
    assert MARKED not in "".join(traceback.format_exception(caught.value))


def test_faults_of_a_connection_have_messages_of_their_own() -> None:
    messages = {name: message for name, (_, _, message) in CONNECT_FAULTS.items()}
    four = {messages[name] for name in ("password", "host", "database", "tls")}
    assert len(four) == 4


def test_server_whose_connections_are_all_taken_is_a_fault_that_passes(database: Database, command: Command) -> None:
    with ExitStack() as stack:
        with suppress(psycopg2.OperationalError):
            while True:
                stack.enter_context(closing(database.session()))
        answer = command("history", "--database-url", database.url)
    assert (answer.code, "too many connections" in answer.err) == (3, True), answer.err


def test_user_who_may_not_connect_is_not_told_that_the_database_is_missing(
    database: Database, command: Command
) -> None:
    database.execute(f"REVOKE CONNECT ON DATABASE {database.name} FROM public")
    role = f"outsider_{database.name}"
    database.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{MARKED}'")
    try:
        answer = command("history", "--database-url", database.without_password(user=role, password=MARKED))
    finally:
        database.execute(f"DROP ROLE {role}")
    assert answer.code == 2
    assert "no such database" not in answer.err
    assert "permission" in answer.err or "not allowed" in answer.err


def test_too_many_connections_are_a_fault_that_passes(database: Database, command: Command) -> None:
    role = f"crowd_{database.name}"
    database.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 0 PASSWORD '{MARKED}'")
    try:
        answer = command("history", "--database-url", database.without_password(user=role, password=MARKED))
    finally:
        database.execute(f"DROP ROLE {role}")
    assert answer.code == 3
    assert "too many connections" in answer.err
    assert "no such user" not in answer.err


def test_role_that_may_not_log_in_is_told_so(database: Database, command: Command) -> None:
    role = f"idle_{database.name}"
    database.execute(f"CREATE ROLE {role} NOLOGIN PASSWORD '{MARKED}'")
    try:
        answer = command("history", "--database-url", database.without_password(user=role, password=MARKED))
    finally:
        database.execute(f"DROP ROLE {role}")
    assert answer.code == 2
    assert "no such user" not in answer.err


def test_database_that_nobody_named_is_a_setting(three: Files, command: Command) -> None:
    places = ("--source", three.source, "--index", three.index, "--output", three.output)
    answer = command("run", *places)
    assert answer.code == 2
    assert "MBD_DATABASE_URL" in answer.err


@pytest.mark.parametrize("missing", ["historical_stocks_data", "loaded_companies", "pipeline_runs"])
def test_table_that_is_missing_names_itself_and_init_db(
    three: Files, database: Database, command: Command, missing: str
) -> None:
    database.execute(f"DROP TABLE {missing} CASCADE")
    answer = _move(three, database.url, command, "--quiet")
    assert answer.code == 2
    assert missing in answer.err
    assert "init-db" in answer.err
    if missing != "historical_stocks_data":
        assert database.count() == 0


ALTERATIONS = {
    "renamed": (
        "ALTER TABLE historical_stocks_data RENAME COLUMN volume_traded TO volume",
        ["missing: volume_traded", "not ours: volume "],
    ),
    "missing": (
        "ALTER TABLE historical_stocks_data DROP COLUMN value_change CASCADE",
        ["missing: value_change", "not ours: none"],
    ),
    "another": (
        "ALTER TABLE historical_stocks_data ADD COLUMN index_name text",
        ["missing: none", "not ours: index_name text"],
    ),
    "wider": (
        f"{DROP_VIEWS} ALTER TABLE historical_stocks_data ALTER COLUMN open_value TYPE varchar(80)",
        ["missing: open_value character varying(56)", "not ours: open_value character varying(80)"],
    ),
    "typed": (
        f"{DROP_VIEWS} DROP INDEX historical_stocks_data_company_day; "
        "ALTER TABLE historical_stocks_data ALTER COLUMN stock_date TYPE date USING stock_date::date",
        ["missing: stock_date character varying(56)", "not ours: stock_date date"],
    ),
    "reordered": (
        f"{DROP_VIEWS} ALTER TABLE historical_stocks_data DROP COLUMN stock_date; "
        "ALTER TABLE historical_stocks_data ADD COLUMN stock_date varchar(56)",
        ["order", "stock_date"],
    ),
}


@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_altered_table_is_refused_with_the_difference(
    three: Files, database: Database, command: Command, alteration: str
) -> None:
    statement, told = ALTERATIONS[alteration]
    three.load(database)
    database.execute(statement)
    ledger, table = database.ledger(), database.places()
    answer = _move(three, database.url, command, "--quiet", "--reload")
    assert answer.code == 2
    assert "was altered" in answer.err
    assert all(text in answer.err for text in told), answer.err
    assert (database.ledger(), database.places()) == (ledger, table)
    assert database.states() == ["success", "failed"]


def test_rows_deleted_by_hand_are_reported_and_reload_puts_them_right(three: Files, database: Database) -> None:
    three.load(database)
    table = database.table()
    database.execute(
        "DELETE FROM historical_stocks_data WHERE company_name = 'bb.us.csv' AND stock_date < '2001-01-04'"
    )
    noticed = three.load(database)
    assert any("bb.us.csv: 7 in the table, 10 loaded" in note and "--reload" in note for note in noticed.notes)
    assert database.count() == 32
    repaired = three.load(database, reload=True)
    assert (repaired.rows.inserted, repaired.rows.deleted, repaired.rows.unchanged) == (3, 0, 32)
    assert database.table() == table
    after = three.load(database)
    assert [note for note in after.notes if "outside the pipeline" in note] == []


def test_check_tells_the_rows_of_the_table_and_those_that_the_ledger_knows(
    three: Files, database: Database, command: Command
) -> None:
    three.load(database)
    database.execute("DELETE FROM historical_stocks_data WHERE company_name = 'aa.us.csv'")
    assert "30 rows in the table, 35 in the ledger" in command("check", "--database-url", database.url).out


def test_table_made_anew_is_reported_as_emptied_until_reload_fills_it(
    three: Files, database: Database, days: Days
) -> None:
    three.load(database)
    table = database.table()
    database.execute("DROP TABLE historical_stocks_data CASCADE")
    make_tables(database.url)
    three.put("aa.us.csv", days(5, price=12))
    noticed = three.load(database)
    assert any("Rows of 3 companies were changed outside the pipeline" in note for note in noticed.notes)
    assert database.companies() == {"aa.us.csv": 5}
    again = three.load(database)
    assert any("Rows of 2 companies were changed outside the pipeline" in note for note in again.notes)
    three.put("aa.us.csv", days(5, price=10))
    assert three.load(database, reload=True).rows.inserted == 35
    assert database.table() == table
    assert three.load(database).notes[-1].startswith("Same content as run")


@pytest.mark.parametrize("without", ["DROP TRIGGER note_change_by_hand ON", "ALTER TABLE"])
def test_table_whose_trigger_is_gone_is_counted_at_each_load_and_said(
    three: Files, database: Database, without: str
) -> None:
    three.load(database)
    disable = " DISABLE TRIGGER note_change_by_hand" if without == "ALTER TABLE" else ""
    database.execute(f"{without} historical_stocks_data{disable}")
    assert any("Somebody may have written to the table" in note for note in three.load(database).notes)
    database.execute("DELETE FROM historical_stocks_data WHERE company_name = 'bb.us.csv'")
    [note] = [note for note in three.load(database).notes if "outside the pipeline" in note]
    assert "bb.us.csv: 0 in the table, 10 loaded" in note
    assert "init-db puts it back" in note
    make_tables(database.url)
    [note] = [note for note in three.load(database).notes if "outside the pipeline" in note]
    assert "init-db" not in note


def test_table_emptied_by_hand_is_reported_and_reload_fills_it(three: Files, database: Database) -> None:
    three.load(database)
    table = database.table()
    database.execute("TRUNCATE historical_stocks_data")
    noticed = three.load(database)
    assert any("Rows of 3 companies were changed outside the pipeline" in note for note in noticed.notes)
    assert [one.partition(" at ")[0] for one in noticed.written_outside] == ["TRUNCATE by postgres"]
    assert three.load(database, reload=True).rows.inserted == 35
    assert database.table() == table


@pytest.mark.parametrize("reload", [False, True])
def test_rows_of_a_company_that_no_run_loaded_are_replaced_not_doubled(
    three: Files, database: Database, days: Days, reload: bool
) -> None:
    three.load(database)
    add = "INSERT INTO historical_stocks_data (stock_date, open_value, company_name) VALUES ('2001-01-01', '3', %s)"
    database.execute(add, "dd.us.csv")
    database.execute(add, "foreign.us.csv")
    three.put("dd.us.csv", days(4))
    three.name("aa.us.csv", "bb.us.csv", "cc.us.csv", "dd.us.csv")
    receipt = three.load(database, reload=reload)
    assert database.companies() == {
        "aa.us.csv": 5,
        "bb.us.csv": 10,
        "cc.us.csv": 20,
        "dd.us.csv": 4,
        "foreign.us.csv": 1,
    }
    assert any("dd.us.csv: 1 in the table, 0 loaded" in note for note in receipt.notes)
    for _ in range(2):  # as long as the rows of a company that is in no batch are there
        notes = three.load(database, reload=reload).notes
        assert any("foreign.us.csv: 1 in the table, 0 loaded" in note for note in notes)


def test_rows_added_by_hand_are_not_doubled_when_as_many_others_were_deleted(
    three: Files, database: Database, days: Days
) -> None:
    three.load(database)
    database.execute("UPDATE historical_stocks_data SET company_name = 'dd.us.csv' WHERE company_name = 'aa.us.csv'")
    three.put("dd.us.csv", days(5, price=10))
    three.name("bb.us.csv", "cc.us.csv", "dd.us.csv")
    three.load(database)
    assert database.companies()["dd.us.csv"] == 5


def test_changed_company_with_rows_added_by_hand_comes_out_right_and_balanced(
    three: Files, database: Database, days: Days
) -> None:
    three.load(database)
    database.execute("INSERT INTO historical_stocks_data SELECT * FROM historical_stocks_data WHERE open_value > '30'")
    three.put("cc.us.csv", days(20, price=33))
    receipt = three.load(database)
    assert database.companies()["cc.us.csv"] == 20
    assert receipt.rows.inserted == 20
    assert receipt.rows.deleted is not None
    assert receipt.rows.deleted > 20


def test_second_load_waits_for_the_first_and_then_finds_nothing_to_do(three: Files, database: Database) -> None:
    process(three.job(), run=etl.Run.begin("test"))

    def load() -> etl.Receipt:
        return etl.load(three.job(), target=etl.Target(database.url), run=etl.Run.begin("test"))

    with ThreadPoolExecutor(2) as pool:
        with database.copy_stopped_at("2001-01-02") as stopped:
            first = pool.submit(load)
            stopped()
            second = pool.submit(load)
            database.wait_for_session("query LIKE '%%advisory%%'")
            time.sleep(0.3)
            assert not second.done()
        one, two = first.result(10), second.result(10)
    assert (one.rows.inserted, two.rows.inserted, two.rows.unchanged) == (35, 0, 35)
    assert database.count() == 35
    assert database.states() == ["success", "success"]


@pytest.mark.parametrize("name", ["run", "load"])
def test_second_load_that_waited_in_vain_names_the_holder(
    three: Files, database: Database, command: Command, name: str
) -> None:
    process(three.job(), run=etl.Run.begin("test"))
    with ThreadPoolExecutor(1) as pool:
        with database.copy_stopped_at("2001-01-02") as stopped:
            first = pool.submit(three.load, database)
            holder = stopped()
            begun = time.monotonic()
            options = ("--quiet", "--lock-timeout", "0.3", "--output", three.output, "--database-url", database.url)
            places = ("--source", three.source, "--index", three.index) if name == "run" else ()
            answer = command(name, *options, *places)
            waited = time.monotonic() - begun
        first.result(10)
    assert answer.code == 3
    assert f"pid {holder}" in answer.err
    assert "moving-big-data of postgres" in answer.err
    assert 0.3 <= waited < 30  # without the option it waits for 60 s
    assert database.count() == 35
    assert sorted(database.states()) == ["failed", "success"]


def test_load_that_waited_in_vain_names_no_session_of_another_database(three: Files, database: Database) -> None:
    with ExitStack() as stack:
        pids = []
        for url in (database.url, database.server.url("postgres")):
            session = stack.enter_context(closing(psycopg2.connect(url)))
            session.cursor().execute("SELECT pg_advisory_xact_lock(hashtext('historical_stocks_data'))")
            pids.append(session.info.backend_pid)
        with pytest.raises(etl.ServiceError) as refused:
            three.load(database, lock_timeout_seconds=0.1)
    assert [f"pid {pid}" in str(refused.value) for pid in pids] == [True, False]


def test_lock_timeout_of_0_does_not_wait_for_ever(three: Files, database: Database, command: Command) -> None:
    with ThreadPoolExecutor(2) as pool:
        with database.copy_stopped_at("2001-01-02") as stopped:
            first = pool.submit(three.load, database)
            stopped()
            second = pool.submit(three.load, database, lock_timeout_seconds=0)
            deadline = time.monotonic() + 30
            while not second.done() and time.monotonic() < deadline:
                time.sleep(0.02)
            gave_up = second.done()
        first.result(10)
        error = second.exception(10)
    assert gave_up
    assert isinstance(error, etl.ServiceError)


@pytest.mark.usefixtures("hurried")
def test_lock_timeout_below_0_is_a_usage_error(three: Files, database: Database, command: Command) -> None:
    try:
        code = _move(three, database.url, command, "--lock-timeout", "-1").code
    except SystemExit as refused:  # by argparse
        code = int(refused.code or 0)
    assert code == 2


def test_each_statement_of_a_load_waits_as_long_as_the_option_says(
    three: Files, database: Database, command: Command
) -> None:
    database.execute(
        "CREATE TABLE seen (waits text); "
        "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ "
        "BEGIN INSERT INTO public.seen VALUES (current_setting('lock_timeout')); RETURN NEW; END $$; "
        "CREATE TRIGGER see BEFORE INSERT ON loads FOR EACH ROW EXECUTE FUNCTION see()"
    )
    assert _move(three, database.url, command, "--quiet", "--lock-timeout", "7").code == 0
    assert database.rows("SELECT waits FROM seen") == [("7s",)]


def test_table_locked_by_somebody_else_gives_up_and_says_so(
    three: Files, database: Database, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.table.overview._SECONDS_IN_ALL", 0.2)  # the report page asks the same table
    three.load(database)
    session = database.session()
    with session.cursor() as cursor:
        cursor.execute("LOCK TABLE loaded_companies IN ACCESS EXCLUSIVE MODE")
        answer = _move(three, database.url, command, "--quiet", "--lock-timeout", "0.2")
    session.close()
    assert answer.code == 3
    assert "lock timeout" in answer.err
    assert database.count() == 35


def test_statement_timeout_names_the_cause_and_leaves_the_old_rows(
    three: Files, database: Database, days: Days, command: Command
) -> None:
    three.load(database)
    table = database.table()
    database.execute(f"ALTER DATABASE {database.name} SET statement_timeout = '300ms'")
    three.put("bb.us.csv", days(10, price=21))
    with database.copy_stopped_at("2001-01-08"):
        answer = _move(three, database.url, command, "--quiet")
    assert answer.code == 3
    assert "statement timeout" in answer.err
    assert database.table() == table


def test_read_only_database_names_the_cause_and_leaves_the_old_rows(
    three: Files, database: Database, days: Days, command: Command
) -> None:
    three.load(database)
    table = database.table()
    database.execute(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    three.put("bb.us.csv", days(9, price=21))
    answer = _move(three, database.url, command, "--quiet")
    assert answer.code == 2
    assert "read-only transaction" in answer.err
    assert database.table() == table


def test_user_without_the_right_to_insert_is_told_which_table(
    three: Files, database: Database, command: Command
) -> None:
    role = f"reader_{database.name}"
    database.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{MARKED}'")
    database.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
    try:
        answer = _move(three, database.without_password(user=role, password=MARKED), command, "--quiet")
    finally:
        database.execute(f"DROP OWNED BY {role}")
        database.execute(f"DROP ROLE {role}")
    assert answer.code == 2
    assert "permission denied for table historical_stocks_data" in answer.err
    assert MARKED not in answer.err
    assert database.count() == 0


@pytest.mark.parametrize("condition", ["disk_full", "deadlock_detected", "io_error", "out_of_memory"])
def test_failed_load_is_recorded_and_the_next_one_needs_nothing_special(
    three: Files, database: Database, command: Command, condition: str
) -> None:
    database.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'disk on fire' "
        f"USING ERRCODE = '{condition}'; END $$"
    )
    database.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON historical_stocks_data FOR EACH ROW "
        "WHEN (NEW.company_name = 'cc.us.csv') EXECUTE FUNCTION refuse()"
    )
    answer = _move(three, database.url, command, "--quiet")
    assert answer.code == 3
    assert "The database gave up: disk on fire. Nothing was loaded." in answer.err
    assert (database.count(), database.states()) == (0, ["failed"])
    history = command("history", "--database-url", database.url)
    assert "failed" in history.out
    assert "disk on fire" in history.out
    database.execute("DROP TRIGGER refuse ON historical_stocks_data")
    assert three.load(database).rows.inserted == 35
    assert database.states() == ["failed", "success"]


@pytest.mark.parametrize("table", ["loaded_companies", "price_changes", "pipeline_runs", "loads"])
def test_rows_are_committed_with_ledger_journal_and_receipt_or_not_at_all(
    three: Files, database: Database, days: Callable[..., list[str]], table: str
) -> None:
    three.load(database)
    before = database.table(), database.ledger(), database.states(), three.receipts()
    three.put("bb.us.csv", days(10, price=21))
    three.put("cc.us.csv", days(22, price=30))
    database.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'disk on fire'; END $$"
    )
    database.execute(f"CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()")
    with pytest.raises(etl.EtlError, match="disk on fire"):
        three.load(database)
    assert (database.table(), database.ledger(), database.states(), three.receipts()) == before
    database.execute(f"DROP TRIGGER refuse ON {table}")
    assert (three.load(database).rows.inserted, database.count()) == (12, 37)
