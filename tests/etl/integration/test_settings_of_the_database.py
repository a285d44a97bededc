"""What a database or a role sets for its sessions changes nothing of what is loaded, journalled, read and undone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

import etl
from etl import audit
from etl.table.database import QUERIES, connect
from etl.table.database import sql as sql_text
from tests.support.batch_files import process

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.database import Database

Days = Callable[..., list[str]]
HOSTILE = {
    "array_nulls": "off",
    "backslash_quote": "off",
    "bytea_output": "escape",
    "client_encoding": "LATIN1",
    "DateStyle": "SQL, DMY",
    "default_transaction_isolation": "serializable",
    "escape_string_warning": "on",
    "extra_float_digits": "-15",
    "IntervalStyle": "sql_standard",
    "lc_messages": "C",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    "quote_all_identifiers": "on",
    "row_security": "off",
    "search_path": "",
    "standard_conforming_strings": "off",
    "synchronous_commit": "off",
    "TimeZone": "Asia/Tokyo",
    "transform_null_equals": "on",
    "xmloption": "document",
}


def make_hostile(database: Database) -> None:
    for name, value in HOSTILE.items():
        setting = "public" if name == "search_path" else f"'{value}'"
        database.execute(f"ALTER DATABASE {database.name} SET {name} = {setting}")


def play(files: Files, database: Database, days: Days) -> list[Any]:
    """Loads, a dividend, somebody else's writes, reloads and an undo: what all of it says, and what is there then."""
    files.put("aa.us.csv", [*days(5, price=10), "2001-02-01,0,1,0,1,5,0", "2001-02-02,a\\'b,1,0,1,5,0"])
    files.put("dd.us.csv", days(40, price=15))
    (files.source / "ee.us.csv").write_text("Date,\\'Open\n")
    files.name("aa.us.csv", "bb.us.csv", "cc.us.csv", "dd.us.csv", "ee.us.csv")
    first = files.load(database)
    files.put("dd.us.csv", [_scaled(row) for row in days(40, price=15)])
    second = files.load(database)
    files.put("cc.us.csv", days(5, price=30))
    files.put("bb.us.csv", days(12, price=20))
    strange = "UPDATE historical_stocks_data SET open_value = 'x' WHERE company_name = %s AND stock_date = '2001-01-03'"
    database.execute(strange, "aa.us.csv")
    third = files.load(database, reload=True)
    files.put("cc.us.csv", days(20, price=30))
    fourth = files.load(database, reload=True)
    past = [len(etl.read_prices(database=database.url, as_of=one.run_id)) for one in (first, second, third)]
    changed = audit.diff(database.url, second.run_id, rows=True)
    undo = audit.undo(database.url, run=etl.Run.begin("undo")).undone
    wrong = list(audit.verify(database.url, output=str(files.output)))
    prices = etl.read_prices(database=database.url).to_csv()
    database.execute(f"ALTER DATABASE {database.name} RESET ALL")
    said = [
        (one.rows, one.held, one.restatements, one.new, one.grown, one.quarantined)
        for one in (first, second, third, fourth)
    ]
    tables = {
        name: database.rows(f"SELECT {columns} FROM {name} ORDER BY {columns}")
        for name, columns in {
            "price_changes": "load, company_name, change, stock_date, last_date, rows, close_value",
            "restatements": "load, company_name, kind, rows, factor::text, volume_factor::text",
            "rejected_rows": "file, line, value, reason",
            "quarantined_files": "file, reason",
            "loaded_companies": "company_name, sha256, length, rows, last_day",
        }.items()
    }
    return [said, past, changed, undo and (undo.inserted, undo.deleted), wrong, prices, database.table(), tables]


def _scaled(row: str) -> str:
    day, *prices, volume, _ = row.split(",")
    return f"{day},{','.join(f'{float(price) * 0.9975:.4f}' for price in prices)},{volume},0"


def test_batch_is_loaded_reloaded_and_undone_alike_whatever_the_database_sets(
    make_files: Callable[[str], Files], three: Files, database: Database, empty_database: Database, days: Days
) -> None:
    other = make_files("other")
    shutil.copytree(three.root, other.root, dirs_exist_ok=True)
    usual = play(three, database, days)
    assert [len(held) for _, held, *_ in usual[0]] == [0, 0, 1, 0]
    make_hostile(empty_database)
    etl.make_tables(empty_database.url)
    assert play(other, empty_database, days) == usual


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_load_that_waited_for_another_sees_its_rows_whatever_the_isolation(
    three: Files, database: Database, isolation: str
) -> None:
    database.execute(f"ALTER DATABASE {database.name} SET default_transaction_isolation = '{isolation}'")
    process(three.job())

    def load() -> etl.Receipt:
        return etl.load(three.job(), target=etl.Target(database.url), run=etl.Run.begin("test"))

    with ThreadPoolExecutor(2) as pool:
        with database.copy_stopped_at("2001-01-02") as stopped:
            first = pool.submit(load)
            stopped()
            second = pool.submit(load)
            database.wait_for_session("query LIKE '%%advisory%%'")
        one, two = first.result(10), second.result(10)
    assert (one.rows.inserted, two.rows.inserted, two.rows.unchanged) == (35, 0, 35)


def test_session_says_what_is_written_and_read_and_commits_to_the_disk(database: Database) -> None:
    make_hostile(database)
    with connect(database.url, lock_timeout_seconds=7) as connection, connection.cursor() as cursor:
        for name, value in {
            "lock_timeout": "7s",
            "DateStyle": "ISO, DMY",
            "TimeZone": "UTC",
            "extra_float_digits": "1",
            "transaction_isolation": "read committed",
            "synchronous_commit": "local",
        }.items():
            cursor.execute(f"SHOW {name}")
            assert (name, cursor.fetchone()) == (name, (value,))


@pytest.mark.parametrize("text", [*QUERIES, "schema", "journal_schema", "lists_schema", "readers_schema"])
def test_statement_has_no_backslash_that_a_setting_could_read_otherwise(text: str) -> None:
    assert "\\" not in (QUERIES.get(text) or sql_text(text))
