"""Rows of somebody else that no load can have written: the next load removes them, and the past stays readable."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

import etl
from etl import audit

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.database import Database

Days = Callable[..., list[str]]
_INSERT = """
    INSERT INTO historical_stocks_data SELECT '{}', open_value, high_value, low_value, close_value, volume_traded,
    daily_percent_change, value_change, company_name FROM historical_stocks_data WHERE stock_date = '2001-01-03'"""
_VOLUME = "UPDATE historical_stocks_data SET volume_traded = '{}' WHERE stock_date = '2001-01-03'"
VOLUMES = ("1e30", "99999999999999999999", "9223372036854775807.5", "-9e999")
NO_DAYS = ("2001-01-32", "2001-02-30", "1900-02-29", "0000-01-01", "2001-13-01", "2001-01-00")
CASES = [
    *((value, _VOLUME.format(value), table_index) for value in VOLUMES for table_index in (False, True)),
    *((value, _INSERT.format(value), False) for value in NO_DAYS),  # the index has no place for them
]


@pytest.mark.parametrize("reload", [False, True])
@pytest.mark.parametrize(("value", "statement", "table_index"), CASES, ids=[f"{one[0]}-{one[2]}" for one in CASES])
def test_what_no_load_writes_is_removed_and_the_past_stays_readable(
    three: Files, database: Database, days: Days, value: str, statement: str, table_index: bool, reload: bool
) -> None:
    first = three.load(database, table_index=table_index)
    as_it_was = database.rows("SELECT * FROM stock_prices WHERE company_name <> 'cc.us.csv' ORDER BY 9, 1")
    database.execute(statement)
    three.put("cc.us.csv", days(20, price=31))
    three.load(database, table_index=table_index, reload=reload)
    three.load(database, table_index=table_index, reload=True)
    assert all(value not in row for row in database.table())
    assert database.companies() == {"aa.us.csv": 5, "bb.us.csv": 10, "cc.us.csv": 20}
    assert list(audit.verify(database.url)) == []
    database.rows("SELECT * FROM stock_price_changes")
    [(at,)] = database.rows("SELECT loaded_at FROM loads WHERE load = 1")
    past = database.rows("SELECT * FROM stock_prices_as_of(%s) WHERE company_name <> 'cc.us.csv' ORDER BY 9, 1", at)
    assert past == as_it_was
    assert etl.read_prices(as_of=first.run_id, database=database.url)["volume_traded"].dtype == "Int64"


@pytest.mark.parametrize("value", ["2000-02-29", "0001-01-01", "9999-12-31", "2001-12-31"])
def test_day_that_a_load_could_have_written_is_compared_and_journalled(
    three: Files, database: Database, days: Days, value: str
) -> None:
    three.load(database)
    database.execute(_INSERT.format(value))
    three.put("aa.us.csv", days(5, price=11))
    three.load(database)
    assert database.rows("SELECT change FROM price_changes WHERE stock_date = %s", value) == [("removed",)]


@pytest.mark.parametrize("value", ["9223372036854775807", "9.2e18", "0", "0.0", "9223372036854775807.4"])
def test_volume_that_a_load_could_have_written_is_compared_and_journalled(
    three: Files, database: Database, days: Days, value: str
) -> None:
    three.load(database)
    database.execute(_VOLUME.format(value))
    three.put("aa.us.csv", days(5, price=11))
    three.load(database)
    old = "SELECT volume_traded FROM price_changes WHERE company_name = 'aa.us.csv' AND stock_date = '2001-01-03'"
    assert database.rows(old) == [(value,)]


def test_no_day_behind_the_last_one_is_named_with_the_load_that_removes_it(
    three: Files, database: Database, days: Days
) -> None:
    three.put("aa.us.csv", days(29))
    three.load(database, table_index=False)
    database.execute(_INSERT.format("2001-01-32"))
    three.put("aa.us.csv", days(36))
    with pytest.raises(etl.SettingsError, match=r"2001-01-32\. Nothing was loaded\..* load with --reload"):
        three.load(database, table_index=False)
    three.load(database, reload=True)
    assert database.companies()["aa.us.csv"] == 36


def test_second_row_of_a_day_goes_and_the_first_stays_without_a_journal(
    three: Files, database: Database, days: Days
) -> None:
    three.load(database)
    database.execute(_INSERT.format("2001-01-03").replace("open_value", "'7'"))
    rows = days(20, price=30)
    three.put("cc.us.csv", [*rows[:4], rows[4].replace(",1004,", ",7,"), *rows[5:]])
    three.load(database)
    changed = "SELECT company_name, stock_date FROM price_changes WHERE change <> 'new'"
    assert database.rows(changed) == [("cc.us.csv", "2001-01-05")]


def test_company_of_which_only_such_rows_were_there_is_new(three: Files, database: Database) -> None:
    database.execute("INSERT INTO historical_stocks_data (stock_date, company_name) VALUES ('no day', 'aa.us.csv')")
    three.load(database)
    assert database.rows("SELECT change, rows FROM price_changes WHERE company_name = 'aa.us.csv'") == [("new", 5)]
