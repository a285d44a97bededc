"""What readers ask of all companies: is today complete, since when is one not fresh, the latest rows, the returns."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pandas as pd
import pytest

import etl
from etl import audit
from etl.table.schema import make_tables
from tests.support.dictionary import read_dictionary

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.database import Database

BATCH = (
    "SELECT state, newest_day, companies, fresh, quiet + stale, quarantined, held_back, never_loaded, rows "
    "FROM stock_batch_status"
)
COMPANIES = "SELECT company_name, state, since, days_behind FROM stock_data_status ORDER BY 1"
DAY = date(2001, 1, 10)


@pytest.fixture
def even(make_files: Callable[[str], Files], days: Callable[..., list[str]]) -> Files:
    """Three companies of ten days."""
    files = make_files("even")
    for number, name in enumerate(("aa.us.csv", "bb.us.csv", "cc.us.csv"), start=1):
        files.put(name, days(10, price=10 * number))
    files.name("aa.us.csv", "bb.us.csv", "cc.us.csv")
    return files


def today() -> date:
    return datetime.now(UTC).date()


def test_database_without_a_load_is_empty(database: Database) -> None:
    assert database.rows(BATCH) == [("empty", None, 0, 0, 0, 0, 0, 0, 0)]
    assert database.rows(COMPANIES) == []
    assert len(etl.companies(database=database.url)) == 0


def test_batch_is_complete_when_every_company_has_the_newest_day(even: Files, database: Database) -> None:
    receipt = even.load(database)
    assert database.rows(BATCH) == [("complete", DAY, 3, 3, 0, 0, 0, 0, 30)]
    assert database.rows("SELECT run_id, error FROM stock_batch_status") == [(receipt.run_id, None)]
    found = etl.companies(database=database.url)
    assert found["state"].tolist() == ["fresh"] * 3
    assert found["rows"].tolist() == [10] * 3
    assert {str(day)[:10] for day in found["first_day"]} == {"2001-01-01"}
    assert str(found["loaded_at"].dtype).endswith("UTC]")


def test_company_without_the_newest_day_is_stale_since_the_day_after_its_last(
    even: Files, database: Database, days: Callable[..., list[str]]
) -> None:
    even.put("bb.us.csv", days(8))
    even.load(database)
    assert database.rows(BATCH)[0][:5] == ("incomplete", DAY, 3, 2, 1)
    assert database.rows(COMPANIES)[1] == ("bb.us.csv", "stale", date(2001, 1, 9), 2)


def test_share_that_is_seldom_traded_is_quiet_until_it_is_so_for_longer_than_is_usual_for_it(
    even: Files, database: Database, days: Callable[..., list[str]]
) -> None:
    every_fourth = days(40)[::4]  # until 2001-02-06, a Tuesday; it missed at most three weekdays in a row
    even.put("bb.us.csv", every_fourth)
    for newest, state in ((43, "quiet"), (45, "quiet"), (48, "stale")):
        for name in ("aa.us.csv", "cc.us.csv"):
            even.put(name, days(newest))
        even.load(database)
        assert [row[1] for row in database.rows(COMPANIES)] == ["fresh", state, "fresh"]
        assert database.rows("SELECT state FROM stock_batch_status") == [("complete",)]


def test_weekdays_are_counted_alike_in_a_time_zone_whose_clocks_skip_a_midnight(
    even: Files, database: Database, days: Callable[..., list[str]]
) -> None:
    skipped = date(2018, 11, 4)  # there was no 00:00 in Sao Paulo

    def around(numbers: range) -> list[str]:
        return [
            f"{skipped + timedelta(days=at)},{row.partition(',')[2]}"
            for at, row in zip(numbers, days(99), strict=False)
        ]

    even.put("bb.us.csv", around(range(-37, 0, 4)))
    states = []
    for newest in range(5, 14):
        for name in ("aa.us.csv", "cc.us.csv"):
            even.put(name, around(range(-37, newest)))
        even.load(database)
        in_utc = database.rows(COMPANIES)
        assert database.rows(f"SET TIME ZONE 'America/Sao_Paulo'; {COMPANIES}") == in_utc, newest
        states += [row[1] for row in in_utc]
    assert {"quiet", "stale"} <= set(states)


def test_share_that_is_traded_no_more_makes_the_batch_incomplete_for_a_week(
    even: Files, database: Database, days: Callable[..., list[str]]
) -> None:
    for newest, state in ((10, "complete"), (17, "incomplete"), (18, "complete")):
        for name in ("aa.us.csv", "cc.us.csv"):
            even.put(name, days(newest))
        even.load(database)
        assert database.rows("SELECT state FROM stock_batch_status") == [(state,)]
    assert database.rows(COMPANIES)[1] == ("bb.us.csv", "stale", date(2001, 1, 11), 8)


def test_company_is_quarantined_since_the_first_of_the_last_batches_in_a_row(
    even: Files, database: Database, days: Callable[..., list[str]]
) -> None:
    even.load(database)
    for day, rows in enumerate((None, days(11), None, None), start=2):
        even.put("bb.us.csv", rows)
        even.load(database)
        database.execute(
            "UPDATE pipeline_runs SET started_at = %s WHERE number = %s", datetime(2020, 1, day, tzinfo=UTC), day
        )
    assert database.rows(COMPANIES)[1] == ("bb.us.csv", "quarantined", date(2020, 1, 4), 0)
    [(reason, rows)] = database.rows("SELECT reason, rows FROM stock_data_status WHERE company_name = 'bb.us.csv'")
    assert "empty" in reason
    assert rows == 11
    even.put("bb.us.csv", days(11))
    even.load(database)
    assert {row[1] for row in database.rows(COMPANIES)} == {"stale", "fresh"}  # the others have ten days


def test_company_whose_file_was_usable_when_its_run_was_repeated_is_not_quarantined(
    even: Files, database: Database, days: Callable[..., list[str]]
) -> None:
    run = etl.Run.begin("repeated")
    for rows in (None, days(10, price=20)):
        even.put("bb.us.csv", rows)
        etl.run(even.job(), target=etl.Target(database.url), run=run)
    assert database.rows(BATCH) == [("complete", DAY, 3, 3, 0, 0, 0, 0, 30)]


def test_company_that_never_had_a_row_is_named_and_does_not_make_the_batch_incomplete(
    even: Files, database: Database
) -> None:
    even.put("dd.us.csv", None)
    even.name("aa.us.csv", "bb.us.csv", "cc.us.csv", "dd.us.csv")
    even.load(database)
    assert database.rows(BATCH) == [("complete", DAY, 3, 3, 0, 0, 0, 1, 30)]
    assert database.rows(COMPANIES)[3] == ("dd.us.csv", "quarantined", today(), None)


def test_company_whose_new_file_lost_days_is_held_back(
    even: Files, database: Database, days: Callable[..., list[str]]
) -> None:
    even.load(database)
    even.put("cc.us.csv", days(3, price=30))
    even.load(database)
    assert database.rows(BATCH)[0][0] == "incomplete"
    assert database.rows(COMPANIES)[2] == ("cc.us.csv", "held back", today(), 0)
    [(reason,)] = database.rows("SELECT reason FROM stock_data_status WHERE state = 'held back'")
    assert reason == "the new file has 3 rows, up to 2001-01-03"


def test_one_file_with_a_wrong_year_does_not_make_all_others_stale(
    make_files: Callable[[str], Files], days: Callable[..., list[str]], database: Database
) -> None:
    files = make_files("many")
    names = [f"c{number}.us.csv" for number in range(30)]
    for name in names:
        files.put(name, days(5))
    files.put("c7.us.csv", [row.replace("2001-01-05", "2031-01-05") for row in days(5)])
    files.name(*names)
    files.load(database)
    assert database.rows(BATCH)[0][:5] == ("complete", date(2001, 1, 5), 30, 30, 0)


def test_run_that_failed_is_said_until_one_succeeds(even: Files, database: Database) -> None:
    even.load(database)
    run = etl.Run.begin("test")
    target = etl.Target(database.url)
    etl.record_failure(etl.BatchError("Two files are missing."), job=even.job(), target=target, run=run)
    assert database.rows("SELECT state, fresh, error FROM stock_batch_status") == [
        ("failed", 3, "Two files are missing.")
    ]
    even.load(database)
    assert database.rows("SELECT state, error FROM stock_batch_status") == [("complete", None)]


def test_batch_is_late_after_a_long_weekend_without_a_load(even: Files, database: Database) -> None:
    even.load(database)
    for hours, state in ((95, "complete"), (97, "late")):
        database.execute("UPDATE loads SET loaded_at = now() - %s", timedelta(hours=hours))
        assert database.rows("SELECT state FROM stock_batch_status") == [(state,)]


def test_batch_that_was_undone_does_not_count(even: Files, database: Database, days: Callable[..., list[str]]) -> None:
    first = even.load(database)
    even.put("bb.us.csv", None)
    even.put("aa.us.csv", days(11))
    even.load(database)
    assert database.rows(BATCH)[0][0] == "incomplete"
    audit.undo(database.url, run=etl.Run.begin("undo"))
    assert database.rows(BATCH) == [("complete", DAY, 3, 3, 0, 0, 0, 0, 30)]
    assert database.rows("SELECT run_id FROM stock_batch_status") == [(first.run_id,)]


def test_latest_prices_are_the_last_row_of_each_company(sample: Files, database: Database) -> None:
    sample.load(database)
    columns = "stock_date, open_value, high_value, low_value, close_value, volume_traded, company_name"
    slow = f"SELECT DISTINCT ON (company_name) {columns} FROM stock_prices ORDER BY company_name, stock_date DESC"
    latest = database.rows(f"SELECT {columns} FROM stock_latest_prices ORDER BY company_name")
    assert len(latest) == 35
    assert latest == database.rows(slow)


def test_returns_from_close_to_close_are_those_of_pandas(sample: Files, database: Database) -> None:
    sample.load(database)
    prices = etl.read_prices(["GE", "smg", "blj"], database=database.url)
    prices["percent"] = prices.groupby("company_name")["close_value"].pct_change() * 100
    found = database.rows(
        "SELECT company_name, stock_date, close_percent_change::float8 FROM stock_returns "
        "WHERE company_name IN ('ge.us.csv', 'smg.us.csv', 'blj.us.csv') ORDER BY company_name, stock_date"
    )
    assert len(found) == len(prices)
    for (name, day, percent), company, stock_date, wanted in zip(
        found, prices["company_name"], prices["stock_date"], prices["percent"], strict=True
    ):
        assert (name, day) == (company, stock_date.date())
        assert (percent is None) == pd.isna(wanted)
        assert percent is None or abs(percent - wanted) < 1e-6


def test_return_after_a_close_of_0_is_null(even: Files, database: Database, days: Callable[..., list[str]]) -> None:
    rows = days(10)
    even.put("aa.us.csv", [*rows[:4], f"{rows[4][:10]},1,1,0,0,1004,0", *rows[5:]])
    even.load(database)
    returns = "SELECT close_percent_change FROM stock_returns WHERE company_name = 'aa.us.csv' ORDER BY stock_date"
    assert [number for number, (one,) in enumerate(database.rows(returns)) if one is None] == [0, 5]


def test_every_view_of_readers_is_in_the_dictionary_with_the_comments_of_the_database(database: Database) -> None:
    make_tables(database.url)  # again: it changes nothing
    granted = database.rows(
        "SELECT DISTINCT table_name::text FROM information_schema.role_table_grants "
        "WHERE grantee = 'stock_prices_reader'"
    )
    dictionary = {one.name: one for one in read_dictionary() if "(" not in one.name}
    assert set(dictionary) == {name for (name,) in granted}
    for name, one in dictionary.items():
        assert database.rows("SELECT obj_description(%s::regclass)", name) == [(one.description,)]
        columns = database.rows(
            "SELECT attname::text, col_description(attrelid, attnum) FROM pg_attribute "
            "WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum",
            name,
        )
        assert columns == list(one.columns.items())
