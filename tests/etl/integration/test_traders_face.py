"""What traders and hand-written SQL meet: the index, the read-only role, and the notice of writes beside the loads."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psycopg2
import pytest
from psycopg2 import errors

import etl
from etl.outcome.advice import next_steps
from etl.outcome.report import make_report
from etl.table.schema import make_tables
from tests.support.commands import Command
from tests.support.database import autocommit

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.database import Database

INDEX = "SELECT count(*) FROM pg_indexes WHERE tablename = 'historical_stocks_data'"


def _by_hand(receipt: etl.Receipt) -> list[str]:
    return [note for note in receipt.notes if "outside the pipeline" in note or "wrote to the table" in note]


def test_first_load_builds_the_index_and_a_dry_run_or_no_index_does_not(three: Files, database: Database) -> None:
    three.load(database, dry_run=True)
    three.load(database, table_index=False)
    assert database.rows(INDEX) == [(0,)]
    three.load(database)
    assert database.rows(INDEX) == [(1,)]
    assert three.load(database).rows.inserted == 0


@pytest.mark.parametrize(
    ("condition", "rows"), [("stock_date = date '2001-01-03'", 3), ("stock_date = '2001-01-08'", 2)], ids=str
)
def test_one_day_across_companies_is_found_by_an_index(
    three: Files, database: Database, condition: str, rows: int
) -> None:
    three.load(database)
    query = f"SELECT * FROM stock_prices WHERE {condition}"
    assert len(database.rows(query)) == rows
    plan = database.rows(f"SET enable_seqscan = off; EXPLAIN {query}")  # a table this small needs no index
    assert "historical_stocks_data_company_day" in str(plan)


def test_day_index_is_built_when_it_is_asked_for_and_there_are_rows(
    three: Files, database: Database, command: Command
) -> None:
    init_db = ("init-db", "--day-index", "--database-url", database.url)
    answer = command(*init_db)
    assert (answer.code, "after the first load" in answer.out) == (0, True)
    assert database.rows(INDEX) == [(0,)]
    three.load(database)
    for _ in range(2):
        assert command(*init_db).code == 0
    assert database.rows(INDEX) == [(2,)]
    query = "SELECT * FROM stock_prices WHERE stock_date = date '2001-01-03'"
    plan = database.rows(f"ANALYZE historical_stocks_data; SET enable_seqscan = off; EXPLAIN {query}")
    assert "historical_stocks_data_day" in str(plan)
    assert three.load(database).rows.inserted == 0


def test_init_db_replaces_view_and_index_of_an_older_version(three: Files, database: Database) -> None:
    three.load(database)
    rows = database.rows("SELECT * FROM stock_prices ORDER BY company_name, stock_date")
    [(now,)] = database.rows("SELECT pg_get_viewdef('stock_prices'::regclass)")
    database.execute(
        "DROP INDEX historical_stocks_data_company_day;"
        "CREATE INDEX historical_stocks_data_company_date ON historical_stocks_data (company_name, stock_date);"
        "CREATE OR REPLACE VIEW stock_prices AS " + re.sub(r"make_date\(.*\)", "stock_date::date", now)
    )
    make_tables(database.url)
    three.load(database)
    names = database.rows("SELECT indexname FROM pg_indexes WHERE tablename = 'historical_stocks_data' ORDER BY 1")
    assert names == [("historical_stocks_data_company_day",)]
    assert database.rows("SELECT pg_get_viewdef('stock_prices'::regclass)") == [(now,)]
    assert database.rows("SELECT * FROM stock_prices ORDER BY company_name, stock_date") == rows


def test_day_that_is_none_written_outside_the_pipeline_stops_no_load(three: Files, database: Database) -> None:
    names = "SELECT indexname FROM pg_indexes WHERE tablename = 'historical_stocks_data' ORDER BY 1"
    three.load(database, table_index=False)
    database.execute("INSERT INTO historical_stocks_data (stock_date, company_name) VALUES ('3.1.2001', 'zz.us.csv')")
    three.load(database)
    assert database.rows(names) == [("historical_stocks_data_company_date",)]
    database.execute("DELETE FROM historical_stocks_data WHERE company_name = 'zz.us.csv'")
    three.load(database)
    assert ("historical_stocks_data_company_day",) in database.rows(names)


def test_role_that_may_build_no_index_loads_without(three: Files, database: Database) -> None:
    [(grants,)] = database.rows(
        "SELECT string_agg(format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO clerk;', relname), '') "
        "FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
    )
    database.execute(f"DROP ROLE IF EXISTS clerk; CREATE ROLE clerk; {grants}")
    etl.run(three.job(), target=etl.Target(f"{database.url}?options=-c%20role%3Dclerk"), run=etl.Run.begin("test"))
    assert database.count() == 35
    assert database.rows(INDEX) == [(0,)]
    database.execute("DROP OWNED BY clerk; DROP ROLE clerk")


def test_reader_reads_the_view_and_nothing_else(three: Files, database: Database) -> None:
    three.load(database)
    connection = psycopg2.connect(database.url, options="-c role=stock_prices_reader")
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM stock_prices")
        assert cursor.fetchone() == (35,)
    for statement in (
        "SELECT 1 FROM historical_stocks_data",
        "DELETE FROM stock_prices",
        "SELECT 1 FROM pipeline_runs",
    ):
        with connection.cursor() as cursor, pytest.raises(errors.InsufficientPrivilege):
            cursor.execute(statement)
        connection.rollback()
    connection.close()


def test_values_changed_by_hand_are_noticed_although_the_counts_agree(three: Files, database: Database) -> None:
    three.load(database)
    table = database.table()
    database.execute("UPDATE historical_stocks_data SET open_value = '7' WHERE company_name = 'aa.us.csv'")
    for _ in range(2):
        [note] = _by_hand(three.load(database))
        assert "UPDATE by postgres at " in note
        assert "The row counts agree; --reload makes sure of the values." in note
    three.load(database, reload=True)
    assert database.table() == table
    assert _by_hand(three.load(database)) == []


def test_mail_and_page_are_about_the_table_where_values_were_changed_by_hand(three: Files, database: Database) -> None:
    three.load(database)
    database.execute("UPDATE historical_stocks_data SET open_value = '7' WHERE company_name = 'aa.us.csv'")
    for dry_run in (True, False):
        receipt = three.load(database, dry_run=dry_run)
        assert [one.partition(" at ")[0] for one in receipt.written_outside] == ["UPDATE by postgres"]
        [step] = [step for step in next_steps(receipt) if "outside" in step.text]
        assert step.command == ("" if dry_run else f"mbd load --output {three.output} --reload")
        assert b'class="state attention"' in make_report(receipt, output=None, database=database.url)
    assert etl.receipt_text(receipt).startswith("The table was changed outside the pipeline: ")
    assert "0 changes" not in etl.receipt_text(receipt)
    corrected = three.load(database, reload=True)
    assert corrected.written_outside == ()
    assert etl.receipt_text(corrected).startswith("Loaded 5 rows; 3 companies are up to date.")
    assert etl.receipt_text(three.load(database)).startswith("0 changes: ")


def test_reload_without_a_company_that_is_as_it_was_loaded_forgets_a_change_by_hand(
    three: Files, database: Database
) -> None:
    three.load(database)
    database.execute("UPDATE historical_stocks_data SET open_value = '7' WHERE company_name = 'aa.us.csv'")
    three.name("aa.us.csv", "bb.us.csv")
    assert three.load(database, reload=True).written_outside == ()
    assert _by_hand(three.load(database)) == []


def test_reload_of_other_companies_forgets_no_change_by_hand(three: Files, database: Database) -> None:
    three.load(database)
    database.execute("UPDATE historical_stocks_data SET open_value = '7' WHERE company_name = 'cc.us.csv'")
    three.name("aa.us.csv", "bb.us.csv")
    assert len(three.load(database, reload=True).written_outside) == 1
    assert len(_by_hand(three.load(database))) == 1
    three.name("aa.us.csv", "bb.us.csv", "cc.us.csv")
    three.load(database, reload=True)
    assert _by_hand(three.load(database)) == []


def test_change_by_hand_during_a_reload_is_not_forgotten_with_the_older_ones(three: Files, database: Database) -> None:
    three.load(database)
    database.execute("UPDATE historical_stocks_data SET open_value = '7' WHERE stock_date = '2001-01-20'")
    with ThreadPoolExecutor() as pool:
        with database.copy_stopped_at("2001-01-20") as stopped:
            load = pool.submit(three.load, database, reload=True)
            stopped()
            database.execute("INSERT INTO changes_by_hand VALUES ('joe', 'UPDATE')")  # as the trigger does for joe
        load.result()
    assert database.rows("SELECT changed_by FROM changes_by_hand") == [("joe",)]


def test_reload_that_holds_a_company_back_forgets_no_change_by_hand_of_it(
    three: Files, database: Database, days: Callable[..., list[str]]
) -> None:
    three.load(database)
    database.execute("UPDATE historical_stocks_data SET open_value = '7' WHERE company_name = 'cc.us.csv'")
    three.put("cc.us.csv", days(12, price=30))
    receipt = three.load(database, reload=True)
    assert [one.company_name for one in receipt.held] == ["cc.us.csv"]
    assert len(receipt.written_outside) == 1
    assert len(_by_hand(three.load(database))) == 1


def test_change_by_hand_is_noted_with_who_made_it_and_when_it_was_last_made(three: Files, database: Database) -> None:
    three.load(database)
    database.execute("CREATE ROLE clerk LOGIN PASSWORD 'his'; GRANT SELECT, UPDATE ON historical_stocks_data TO clerk")
    noted = []
    with autocommit(database.without_password(user="clerk", password="his")) as connection:
        for value in (7, 8):
            connection.cursor().execute("UPDATE historical_stocks_data SET open_value = %s", [value])
            noted += database.rows("SELECT changed_by, operation, changed_at FROM changes_by_hand")
    database.execute("DROP OWNED BY clerk; DROP ROLE clerk")
    (first, second) = noted
    assert first[:2] == second[:2] == ("clerk", "UPDATE")
    assert first[2] < second[2]


def test_table_emptied_together_with_the_ledger_is_a_new_start(three: Files, database: Database) -> None:
    three.load(database)
    database.execute("TRUNCATE historical_stocks_data, loaded_companies")
    assert [_by_hand(three.load(database)) for _ in range(2)] == [[], []]
    assert database.count() == 35


def test_loads_themselves_are_no_change_by_hand(
    three: Files, database: Database, days: Callable[..., list[str]]
) -> None:
    three.load(database)
    three.put("bb.us.csv", days(12, price=21))
    three.load(database)
    assert database.rows("SELECT * FROM changes_by_hand") == []
