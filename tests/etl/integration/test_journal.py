"""The journal: what a load did to history is named, kept with its old values, readable as of any run, and undone."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

import etl
from etl import audit
from etl.outcome.report import make_report
from etl.table.database import connect
from etl.table.journal import _groups
from etl.table.runs import RunRecord, receipt_hash, record_run
from etl.table.verify import verify_receipts
from tests.support.batch_files import days_of, process

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.aws_places import Bucket, Topic
    from tests.support.batch_files import Files
    from tests.support.commands import Command
    from tests.support.database import Database

Days = Callable[..., list[str]]
Change = tuple[str, str, str | None, str | None, str | None]
AS_OF = "SELECT * FROM stock_prices_as_of(%s) ORDER BY company_name, stock_date"
NOW = "SELECT * FROM stock_prices ORDER BY company_name, stock_date"


def changes(database: Database) -> list[Change]:
    return database.rows(
        "SELECT company_name, change, stock_date, last_date, close_value FROM price_changes "
        "WHERE load = (SELECT max(load) FROM loads) ORDER BY company_name, stock_date"
    )


def scaled(rows: Sequence[str], factor: float, *, volumes: float = 1) -> list[str]:
    """These rows as a vendor restates them, rounded to four digits behind the point."""
    made = []
    for row in rows:
        day, *prices, volume, _ = row.split(",")
        made.append(
            f"{day},{','.join(f'{float(price) * factor:.4f}' for price in prices)},{int(volume) * volumes:.0f},0"
        )
    return made


def test_first_load_journals_one_row_a_company(three: Files, database: Database) -> None:
    three.load(database)
    assert changes(database) == [(name, "new", None, None, None) for name in ("aa.us.csv", "bb.us.csv", "cc.us.csv")]


def test_company_that_was_processed_before_and_never_loaded_is_new(three: Files, database: Database) -> None:
    process(three.job())
    receipt = three.load(database)
    assert receipt.files.taken_over == 3
    assert receipt.new == {"aa.us.csv": 5, "bb.us.csv": 10, "cc.us.csv": 20}
    assert [change[1] for change in changes(database)] == ["new"] * 3


def test_growth_at_the_end_is_one_range(three: Files, database: Database, days: Days) -> None:
    three.load(database)
    three.put("cc.us.csv", days(24, price=30))
    receipt = three.load(database)
    assert changes(database) == [("cc.us.csv", "grew", "2001-01-21", "2001-01-24", None)]
    assert receipt.restatements == ()


def test_corrected_row_is_the_only_one_touched_and_is_named_with_both_values(
    three: Files, database: Database, days: Days
) -> None:
    three.load(database)
    before = database.places()["cc.us.csv"]
    rows = days(20, price=30)
    day, *_ = fields = rows[7].split(",")
    three.put("cc.us.csv", [*rows[:7], ",".join([*fields[:4], "30.5", *fields[5:]]), *rows[8:]])
    receipt = three.load(database)
    assert (receipt.rows.inserted, receipt.rows.deleted, receipt.rows.unchanged) == (1, 1, 34)
    assert len(before & database.places()["cc.us.csv"]) == 19
    assert changes(database) == [("cc.us.csv", "changed", day, None, fields[4])]
    assert f"  cc.us.csv: 1 row corrected: {day}, close {fields[4]} → 30.5" in etl.receipt_text(receipt).splitlines()


def test_of_several_corrected_rows_the_first_are_shown(three: Files, database: Database, days: Days) -> None:
    three.load(database)
    rows = days(20, price=30)
    three.put("cc.us.csv", [row.replace(",10", ",9910") if number % 3 == 2 else row for number, row in enumerate(rows)])
    [one] = three.load(database).restatements
    assert (one.kind, one.rows) == ("corrected", 6)
    assert [example[0] for example in one.examples] == [rows[number][:10] for number in (2, 5, 8)]


@pytest.mark.parametrize("factor", [0.9975, 0.5, 0.987])
def test_dividend_is_named_by_its_factor(three: Files, database: Database, days: Days, factor: float) -> None:
    rows = scaled(days(400, price=30), 1)
    three.put("cc.us.csv", rows)
    three.load(database)
    three.put("cc.us.csv", [*scaled(rows[:300], factor), *rows[300:]])
    [one] = three.load(database).restatements
    assert (one.company_name, one.kind, one.rows, one.whole) == ("cc.us.csv", "factor", 300, True)
    assert one.last_day == rows[299][:10]
    assert one.factor == pytest.approx(factor, rel=1e-5)


def test_several_dividends_are_named_each_with_its_day(three: Files, database: Database, days: Days) -> None:
    rows = scaled(days(400, price=30), 1)
    three.put("cc.us.csv", rows)
    three.load(database)
    edition = [*scaled(rows[:300], 0.9975), *rows[300:]]
    three.put("cc.us.csv", [*scaled(edition[:240], 0.99), *edition[240:]])
    receipt = three.load(database)
    [one] = receipt.restatements
    assert (one.kind, one.rows, one.whole, len(one.spans)) == ("factors", 300, True, 2)
    newer, older = rows[299][:10], rows[239][:10]
    line = f"  cc.us.csv: all 300 rows up to {newer} × 0.9975, up to {older} × 0.9875 (2 dividends or splits)"
    assert line in etl.receipt_text(receipt).splitlines()
    [(kind, spans)] = database.rows("SELECT kind, spans FROM restatements")
    assert (kind, [span[0] for span in spans]) == ("factors", [newer, older])
    assert etl.Receipt.from_json(receipt.to_json()) == receipt


def test_several_dividends_of_two_companies_are_named_each_with_its_own_days(
    three: Files, database: Database, days: Days
) -> None:
    rows = scaled(days(400, price=30), 1)
    until = {"bb.us.csv": (310, 250), "cc.us.csv": (300, 240)}
    for name in until:
        three.put(name, rows)
    three.load(database)
    for name, (newer, older) in until.items():
        edition = [*scaled(rows[:newer], 0.9975), *rows[newer:]]
        three.put(name, [*scaled(edition[:older], 0.99), *edition[older:]])
    found = {one.company_name: [span[0] for span in one.spans] for one in three.load(database).restatements}
    assert found == {name: [rows[number - 1][:10] for number in numbers] for name, numbers in until.items()}


@pytest.mark.parametrize("grown", [0, 2])
def test_history_that_is_multiplied_whole_is_replaced_whole_and_named(
    three: Files, database: Database, days: Days, grown: int
) -> None:
    rows = scaled(days(400 + grown, price=30), 1)
    three.put("cc.us.csv", rows[:400])
    three.load(database)
    before, places = database.rows(NOW), database.places()
    three.put("cc.us.csv", [*scaled(rows[:400], 0.9975), *rows[400:]])
    receipt = three.load(database)
    assert (receipt.rows.inserted, receipt.rows.deleted, receipt.rows.unchanged) == (400 + grown, 400, 15)
    assert receipt.grown == ({"cc.us.csv": grown} if grown else {})
    [one] = receipt.restatements
    assert (one.kind, one.rows, one.whole, one.last_day) == ("factor", 400, True, rows[399][:10])
    assert one.factor == pytest.approx(0.9975, rel=1e-5)
    after = ("cc.us.csv", "grew", rows[400][:10], rows[401][:10], None) if grown else None
    assert [change for change in changes(database) if change[1] != "changed"] == ([after] if after else [])
    [at] = database.rows("SELECT min(loaded_at) FROM loads")[0]
    assert database.rows(AS_OF, at) == before
    assert database.places()["bb.us.csv"] == places["bb.us.csv"]


def test_dry_run_writes_no_row_where_a_history_is_multiplied_whole(
    three: Files, database: Database, days: Days
) -> None:
    rows = scaled(days(400, price=30), 1)
    three.put("cc.us.csv", rows)
    three.load(database)
    size = "SELECT pg_relation_size('historical_stocks_data')"
    [before] = database.rows(size)
    three.put("cc.us.csv", scaled(rows, 0.9975))
    tried = three.load(database, dry_run=True)
    assert (tried.rows.inserted, tried.rows.deleted) == (400, 400)
    assert database.rows(size) == [before]


@pytest.mark.parametrize("spoilt", ["kept", "respelled", "removed", "inserted", "corrected"])
def test_history_that_is_multiplied_but_for_some_rows_is_compared_row_by_row(
    three: Files, database: Database, days: Days, spoilt: str
) -> None:
    rows = scaled(days(400, price=30), 1)
    first = rows[:205] + rows[206:210] + rows[211:]
    three.put("cc.us.csv", first)
    three.load(database)
    before = database.table(), database.rows(NOW)
    edition = scaled(first, 0.9975)
    if spoilt == "kept":
        edition[201] = rows[201]
    elif spoilt == "respelled":
        edition[201] = re.sub(r",(\d+\.\d+)", r",\g<1>0", rows[201])
    elif spoilt == "removed":
        del edition[201]
    elif spoilt == "inserted":
        edition = scaled(rows, 0.9975)
    else:
        edition[201:207] = scaled(edition[201:207], 1.5)
    three.put("cc.us.csv", edition)
    receipt = three.load(database)
    found = [change for _, change, *_ in changes(database)]
    assert found.count("changed") == 398 - (spoilt in ("kept", "respelled", "removed"))
    assert found.count("added") == (2 if spoilt == "inserted" else 0)
    assert receipt.rows.deleted == 398 - (spoilt == "kept")
    [at] = database.rows("SELECT min(loaded_at) FROM loads")[0]
    assert database.rows(AS_OF, at) == before[1]
    audit.undo(database.url, run=etl.Run.begin("undo"))
    assert spoilt == "respelled" or database.table() == before[0]
    assert list(audit.verify(database.url)) == []


_TINY, _HUGE = "5e-324", "1.7976931348623157E308"


def _penny(count: int, factor: float = 1) -> list[str]:
    """Rows of a share of less than a dollar, of six digits."""
    rows = []
    for row in days_of(count, price=4):
        day, *prices, volume, last = row.split(",")
        rows.append(",".join([day, *(f"{float(price) / 10 * factor:.6g}" for price in prices), volume, last]))
    return rows


def _with_prices(rows: Sequence[str], number: int, *prices: str) -> list[str]:
    day, *_, volume, last = rows[number].split(",")
    return [*rows[:number], ",".join([day, *prices, volume, last]), *rows[number + 1 :]]


@pytest.mark.parametrize(("last", "factor"), [(100, 1.5), (90, 0.9975)])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, _HUGE),
        (_HUGE, None),
        (None, _TINY),
        (_TINY, None),
        (_TINY, _HUGE),
        (_HUGE, _TINY),
        ("1e-200", "1e200"),
        ("1e200", "1e-200"),
        ("0", _HUGE),
        (_HUGE, "0"),
        (_HUGE, "1.79e308"),
        (_TINY, "1e-323"),
    ],
)
def test_absurd_price_in_a_restated_history_is_a_correction_and_sinks_no_batch(
    three: Files, database: Database, days: Days, before: str | None, after: str | None, last: int, factor: float
) -> None:
    old, new = _penny(100), [*_penny(last, factor), *_penny(100)[last:]]
    if before is not None:
        old = _with_prices(old, 20, *[before] * 4)
    if after is not None:
        new = _with_prices(new, 20, *[after] * 4)
    three.put("cc.us.csv", old)
    three.load(database)
    first = database.table(), database.rows(NOW)
    three.put("cc.us.csv", new)
    three.put("bb.us.csv", days(11, price=20))
    receipt = three.load(database)
    assert receipt.grown == {"bb.us.csv": 1}
    multiplied, corrected = receipt.restatements
    assert (multiplied.kind, multiplied.rows, corrected.kind, corrected.rows) == ("factor", last - 1, "corrected", 1)
    assert multiplied.factor == pytest.approx(factor, rel=1e-4)
    [(at,)] = database.rows("SELECT min(loaded_at) FROM loads")
    assert database.rows(AS_OF, at) == first[1]
    for view in ("stock_returns", "stock_latest_prices", "stock_price_changes", "stock_prices_unflagged"):
        assert database.rows(f"SELECT * FROM {view} WHERE company_name = 'cc.us.csv'")
    for view in ("stock_data_status", "stock_batch_status"):
        assert database.rows(f"SELECT * FROM {view}")
    assert len(etl.read_prices("cc.us.csv", database=database.url)) == 100
    companies = audit.diff(database.url, receipt.run_id).companies
    assert {one.company_name for one in companies} == {"bb.us.csv", "cc.us.csv"}
    page = make_report(receipt, output=None, database=database.url)
    assert b"could not be" not in page
    assert list(audit.verify(database.url)) == []
    audit.undo(database.url, run=etl.Run.begin("undo"))
    assert database.table() == first[0]


@pytest.mark.parametrize(("before", "after"), [("1e-200", "1e200"), (_HUGE, "0.4"), ("0.4", _HUGE), (_TINY, _HUGE)])
def test_history_of_absurd_prices_is_restated_like_any_other(
    three: Files, database: Database, before: str, after: str
) -> None:
    for price in (before, after):
        rows = _penny(60)
        for number in range(40):
            rows = _with_prices(rows, number, *[price] * 4)
        three.put("cc.us.csv", rows)
        receipt = three.load(database)
    assert [(one.kind, one.rows) for one in receipt.restatements] == [("rewritten", 40)]
    audit.undo(database.url, run=etl.Run.begin("undo"))
    assert list(audit.verify(database.url)) == []


@pytest.mark.parametrize("corrected", [[0], [120], [120, 150], [189]])
@pytest.mark.parametrize("editions", ["all rows", "all but the last ten", "two dividends"])
def test_correction_that_comes_with_a_dividend_is_named_with_its_own_days(
    three: Files, database: Database, days: Days, editions: str, corrected: list[int]
) -> None:
    rows = scaled(days(200, price=30), 1)
    three.put("cc.us.csv", rows)
    three.load(database)
    until = 200 if editions == "all rows" else 190
    new = [*scaled(rows[:until], 0.99), *rows[until:]]
    if editions == "two dividends":
        new = [*scaled(new[:100], 0.95), *new[100:]]
    for number in corrected:
        [new[number]] = scaled([new[number]], 1.02)
    three.put("cc.us.csv", new)
    receipt = three.load(database)
    multiplied, other = receipt.restatements
    assert multiplied.kind == ("factors" if editions == "two dividends" else "factor")
    assert (multiplied.rows, other.kind, other.rows) == (until - len(corrected), "corrected", len(corrected))
    first, last = rows[corrected[0]][:10], rows[corrected[-1]][:10]
    assert (other.first_day, other.last_day) == (first, last)
    named = f"1 row corrected: {first}" if len(corrected) == 1 else f"2 rows corrected from {first} to {last}"
    assert f"  cc.us.csv: {named}" in etl.receipt_text(receipt).splitlines()
    recorded = "SELECT first_day, last_day FROM restatements WHERE kind = 'corrected'"
    assert database.rows(recorded) == [(first, last)]
    if editions != "two dividends":
        assert multiplied.first_day == rows[1 if corrected == [0] else 0][:10]


def test_split_is_recognised_by_its_volumes(three: Files, database: Database, days: Days) -> None:
    rows = scaled(days(400, price=30), 1)
    three.put("cc.us.csv", rows)
    three.load(database)
    three.put("cc.us.csv", [*scaled(rows[:300], 0.5, volumes=2), *rows[300:]])
    receipt = three.load(database)
    text = f"cc.us.csv: all 300 rows up to {rows[299][:10]} × 0.5, volumes × 2 (a split)"
    assert text in etl.receipt_text(receipt)
    assert database.rows("SELECT kind, factor, volume_factor FROM restatements") == [("split", 0.5, 2)]


def test_scattered_corrections_are_no_factor(three: Files, database: Database, days: Days) -> None:
    rows = scaled(days(400, price=30), 1)
    three.put("cc.us.csv", rows)
    three.load(database)
    spoilt = [scaled([row], 1 + number / 50)[0] if number % 40 == 3 else row for number, row in enumerate(rows)]
    three.put("cc.us.csv", spoilt)
    [one] = three.load(database).restatements
    assert (one.kind, one.rows) == ("corrected", 10)


def test_rewritten_history_without_a_pattern_is_called_so(three: Files, database: Database, days: Days) -> None:
    rows = scaled(days(400, price=30), 1)
    three.put("cc.us.csv", rows)
    three.load(database)
    three.put("cc.us.csv", [scaled([row], 1 + number % 17 / 30)[0] for number, row in enumerate(rows)])
    receipt = three.load(database)
    assert [one.kind for one in receipt.restatements] == ["rewritten"]
    assert "in no pattern that is known" in etl.receipt_text(receipt)


def test_respelled_numbers_replace_the_text_and_fill_no_journal(three: Files, database: Database, days: Days) -> None:
    three.load(database)
    typed = database.rows(NOW)
    rows = _respelled(days(20, price=30))
    three.put("cc.us.csv", rows)
    receipt = three.load(database)
    assert [(one.kind, one.company_name) for one in receipt.restatements] == [("respelled", "cc.us.csv")]
    assert changes(database) == []
    assert database.rows(NOW) == typed
    [(spelled,)] = database.rows(
        "SELECT open_value FROM historical_stocks_data WHERE company_name = 'cc.us.csv' AND stock_date = '2001-01-02'"
    )
    assert spelled == rows[1].split(",")[1]


def test_respelled_row_without_a_percent_change_is_no_correction(three: Files, database: Database, days: Days) -> None:
    rows = days(5, price=10)
    three.put("aa.us.csv", [*rows, "2001-02-01,0,1,0,1,5,0"])  # no percent change of an open of 0
    three.load(database)
    three.put("aa.us.csv", [*rows, "2001-02-01,0.0,1,0,1,5,0"])
    assert [one.kind for one in three.load(database).restatements] == ["respelled"]
    assert changes(database) == []


def test_removed_and_inserted_days_are_named(three: Files, database: Database, days: Days) -> None:
    rows = days(40, price=30)
    three.put("cc.us.csv", rows[:9] + rows[12:])
    three.load(database)
    three.put("cc.us.csv", rows[:20] + rows[22:])
    text = etl.receipt_text(three.load(database))
    assert "cc.us.csv: 3 rows added before the last known day, 2001-01-10 to 2001-01-12" in text
    assert "cc.us.csv: 2 rows removed, 2001-01-21 to 2001-01-22" in text


@pytest.mark.parametrize("reload", [False, True])
def test_unsorted_tail_is_journalled_by_day(three: Files, database: Database, days: Days, reload: bool) -> None:
    rows = days(20, price=30)
    three.put("cc.us.csv", rows[:5] + rows[10:])
    first = three.load(database)
    three.put("cc.us.csv", rows[:5] + rows[10:] + rows[5:10] + days(1, first=20, price=30))
    three.load(database, reload=reload)
    assert [(change, day) for _, change, day, *_ in changes(database)][:2] == [
        ("added", "2001-01-06"),
        ("added", "2001-01-07"),
    ]
    assert len(etl.read_prices("cc.us.csv", database=database.url, as_of=first.run_id)) == 15


def test_table_is_readable_as_of_every_run(three: Files, database: Database, days: Days) -> None:
    rows = days(20, price=30)
    dumps: dict[str, list[tuple[Any, ...]]] = {}
    times: list[tuple[datetime, list[tuple[Any, ...]]]] = [(datetime.now(UTC), [])]
    grown = rows + days(3, first=20, price=31)
    for edition in (rows, scaled(rows, 0.5), [*rows[:4], *rows[6:]], [*rows[:18], rows[19]], grown, rows[:3]):
        three.put("cc.us.csv", edition)
        receipt = three.load(database, accept_shrunk=("all",))
        dumps[receipt.run_id] = database.rows(NOW)
        times.append((datetime.now(UTC), dumps[receipt.run_id]))
    assert len({str(dump) for dump in dumps.values()}) == 6
    for at, dump in times:
        assert database.rows(AS_OF, at) == dump
    for run_id, dump in dumps.items():
        found = etl.read_prices(database=database.url, as_of=run_id)
        assert [(float(row[4]), row[-1]) for row in dump] == list(
            zip(found.close_value, found.company_name, strict=True)
        )


def test_as_of_of_an_unknown_run_or_without_a_zone_is_refused(three: Files, database: Database) -> None:
    three.load(database)
    with pytest.raises(etl.SettingsError, match=r"No load of a run 'nobody' is recorded.*\bstock_price_loads\b"):
        etl.read_prices(database=database.url, as_of="nobody")
    with pytest.raises(etl.SettingsError, match="of no time zone"):
        etl.read_prices(database=database.url, as_of="2026-11-25T18:00")


def test_reader_reads_changes_and_the_past_and_no_table(three: Files, database: Database) -> None:
    three.load(database)
    connection = psycopg2.connect(database.url, options="-c role=stock_prices_reader")
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM stock_prices_as_of(now())")
        assert cursor.fetchone() == (35,)
        cursor.execute("SELECT run_id, change, rows FROM stock_price_changes WHERE company_name = 'aa.us.csv'")
        assert [row[1:] for row in cursor.fetchall()] == [("new", 5)]
    for statement in ("SELECT 1 FROM price_changes", "SELECT 1 FROM loads", "SELECT * FROM rows_as_of_load(0)"):
        with connection.cursor() as cursor, pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute(statement)
        connection.rollback()
    connection.close()


def test_old_journal_is_let_go_and_as_of_before_it_says_so(three: Files, database: Database, days: Days) -> None:
    first = three.load(database)
    database.execute("UPDATE loads SET loaded_at = loaded_at - interval '40 days'")
    three.put("cc.us.csv", days(22, price=30))
    three.load(database, journal_days=30)
    assert [change for _, change, *_ in database.rows("SELECT load, change FROM price_changes")] == ["grew"]
    assert len(etl.read_prices(database=database.url, as_of=first.run_id)) == 35
    with pytest.raises(psycopg2.errors.InvalidParameterValue, match="the journal begins at"):
        database.rows(AS_OF, datetime.now(UTC) - timedelta(days=41))


def test_journal_of_every_load_older_than_the_days_is_let_go_and_of_no_other(
    three: Files, database: Database, days: Days
) -> None:
    for count in (20, 21, 22):
        three.put("cc.us.csv", days(count, price=30))
        three.load(database)
    age = "CASE WHEN load < 3 THEN interval '31 days' ELSE interval '29 days' END"
    database.execute(f"UPDATE loads SET loaded_at = loaded_at - {age}")
    three.load(database, journal_days=30)
    assert database.rows("SELECT journal_kept FROM loads ORDER BY load") == [(False,), (False,), (True,), (True,)]
    assert database.rows("SELECT DISTINCT load FROM price_changes") == [(3,)]


def test_table_is_readable_as_of_each_run_although_the_clock_was_set_back(
    three: Files, database: Database, days: Days
) -> None:
    [first] = _load_prices(three, database, days, 30)
    database.execute("UPDATE loads SET loaded_at = loaded_at + interval '1 hour'")
    [second] = _load_prices(three, database, days, 31)
    found = [etl.read_prices("cc.us.csv", database=database.url, as_of=run).open_value[0] for run in (first, second)]
    assert found == [30, 31]


def test_undo_takes_the_last_change_back_and_the_same_batch_loads_again(
    three: Files, database: Database, days: Days, command: Command
) -> None:
    three.load(database)
    before = database.table(), database.ledger(), changes(database)
    three.put("cc.us.csv", scaled(days(25, price=30), 0.5))
    three.put("dd.us.csv", days(3))
    three.name("aa.us.csv", "bb.us.csv", "cc.us.csv", "dd.us.csv")
    second = three.load(database)
    three.load(database)  # changes nothing
    after = database.table()
    shown = command("undo", "--database-url", database.url, "--dry-run")
    assert (shown.code, database.table()) == (0, after)
    assert f"This would undo 2 runs: back to before {second.run_id}." in shown.out
    answer = command("undo", "--database-url", database.url, "--yes", "--output", three.output)
    assert answer.code == 0, answer.err
    assert (database.table(), database.ledger()) == before[:2]
    assert database.rows("SELECT count(*) FROM price_changes") == [(3,)]
    assert database.rows("SELECT * FROM restatements") == []
    with pytest.raises(etl.SettingsError, match=f"Run {second.run_id} was undone by run undo__"):
        etl.read_prices(database=database.url, as_of=second.run_id)
    assert command("verify", "--database-url", database.url, "--output", three.output).out.startswith("Table, ledger")
    again = three.load(database)
    assert database.table() == after
    assert again.rows.inserted == second.rows.inserted


def test_undo_of_a_run_takes_all_later_ones_back_too(three: Files, database: Database, days: Days) -> None:
    first = three.load(database)
    for price in (31, 32, 33):
        three.put("cc.us.csv", days(20, price=price))
        run = three.load(database).run_id
    audit.undo(database.url, run=etl.Run.begin("undo"), run_id=run)
    assert next(row[1] for row in database.table() if row[8] == "cc.us.csv") == "32"
    receipt = audit.undo(database.url, run=etl.Run.begin("undo"), run_id=first.run_id)
    assert receipt.undone
    assert len(receipt.undone.runs) == 3
    assert (database.table(), database.ledger()) == ([], [])
    with pytest.raises(etl.SettingsError, match="nothing to undo"):
        audit.undo(database.url, run=etl.Run.begin("undo"))


def test_undo_of_growth_brings_back_old_rows_that_were_corrected_later(
    three: Files, database: Database, days: Days
) -> None:
    three.load(database)
    before = database.table(), database.ledger()
    three.put("cc.us.csv", days(23, price=30))
    grown = three.load(database)
    three.put("cc.us.csv", [row.replace("2001-01-02,30", "2001-01-02,29") for row in days(23, price=30)])
    assert three.load(database).restated == 1
    audit.undo(database.url, run=etl.Run.begin("undo"), run_id=grown.run_id)
    assert (database.table(), database.ledger()) == before


def test_undo_forgets_a_company_of_which_no_row_was_loaded(three: Files, database: Database) -> None:
    three.load(database, job=three.job(since=date(2001, 1, 8)))
    assert database.rows("SELECT rows FROM loaded_companies WHERE company_name = 'aa.us.csv'") == [(0,)]
    audit.undo(database.url, run=etl.Run.begin("undo"))
    assert database.ledger() == []


@pytest.mark.parametrize("dry_run", [True, False])
def test_undo_of_an_altered_table_is_refused_with_the_difference(
    three: Files, database: Database, dry_run: bool
) -> None:
    three.load(database)
    database.execute("ALTER TABLE historical_stocks_data ADD COLUMN remark text")
    with pytest.raises(etl.SettingsError, match="not ours: remark text"):
        audit.undo(database.url, run=etl.Run.begin("undo"), dry_run=dry_run)
    assert database.count() == 35


class Person:
    """Somebody at the terminal, who lets `meanwhile` happen before they answer yes."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self._meanwhile = meanwhile

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        self._meanwhile()
        return "yes\n"


def _load_prices(three: Files, database: Database, days: Days, *prices: int) -> list[str]:
    """Load the batch once for each price of a company; returns the runs."""
    runs = []
    for price in prices:
        three.put("cc.us.csv", days(20, price=price))
        runs.append(three.load(database).run_id)
    return runs


@pytest.mark.parametrize("named", [False, True])
def test_undo_refuses_where_a_load_was_committed_after_it_was_shown(
    three: Files,
    database: Database,
    days: Days,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    named: bool,
) -> None:
    *_, last = _load_prices(three, database, days, 30, 31)
    undo = ("undo", "--database-url", database.url, *([last] if named else []))
    later: list[str] = []
    monkeypatch.setattr("sys.stdin", Person(lambda: later.extend(_load_prices(three, database, days, 32))))
    answer = command(*undo)
    assert answer.code == 2
    assert "Nothing was undone: another run was loaded or undone meanwhile, and this would now undo" in answer.err
    assert later[0] in answer.err.splitlines()[-1]
    assert database.rows("SELECT DISTINCT undone_by FROM loads") == [(None,)]
    assert next(row[1] for row in database.table() if row[8] == "cc.us.csv") == "32"
    monkeypatch.setattr("sys.stdin", Person(lambda: None))
    assert command(*undo).code == 0
    assert next(row[1] for row in database.table() if row[8] == "cc.us.csv") == ("30" if named else "31")


def test_of_two_undos_at_once_the_second_takes_no_other_run_back(three: Files, database: Database, days: Days) -> None:
    runs = _load_prices(three, database, days, 30, 31, 32)
    holder = database.session()
    with holder.cursor() as cursor, ThreadPoolExecutor(2) as pool:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('historical_stocks_data'))")
        undos = [pool.submit(audit.undo, database.url, run=etl.Run.begin("undo")) for _ in range(2)]
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_try_advisory%' AND pid <> pg_backend_pid()"
        )
        while database.rows(waiting) != [(2,)]:
            time.sleep(0.01)
        holder.rollback()
        failures = [one.exception(30) for one in undos]
    holder.close()
    [refused] = [str(one) for one in failures if one]
    assert "another run was loaded or undone meanwhile" in refused
    undone = database.rows("SELECT run_id FROM loads WHERE undone_by IS NOT NULL")
    assert undone == [(runs[-1],)]


@pytest.mark.usefixtures("aws_environment")
def test_undo_whose_receipt_cannot_be_written_says_that_it_was_done_and_is_mailed(
    three: Files,
    database: Database,
    days: Days,
    command: Command,
    tmp_path: Path,
    topic: Topic,
) -> None:
    _load_prices(three, database, days, 30, 31)
    (tmp_path / "Output").mkdir()
    (tmp_path / "Output" / "receipts").write_text("a file: no receipt can be written, as on a full disk")
    mail = ("--topic-arn", topic.arn, "--first-name", "Ada", "--last-name", "Lovelace")
    answer = command("undo", "--yes", "--database-url", database.url, "--output", tmp_path / "Output", *mail)
    assert answer.code == 3
    assert "error: The undo was committed, but its receipt could not be written: " in answer.err
    assert "Repeated, it would undo one more run." in answer.err
    assert next(row[1] for row in database.table() if row[8] == "cc.us.csv") == "30"
    [mailed] = topic.mails()
    assert "The undo was committed, but its receipt could not be written" in mailed.text


@pytest.mark.usefixtures("aws_environment")
def test_dry_run_of_an_undo_sends_no_mail_and_writes_nothing(
    three: Files,
    database: Database,
    days: Days,
    command: Command,
    tmp_path: Path,
    topic: Topic,
) -> None:
    *_, last = _load_prices(three, database, days, 30, 31)
    mail = ("--topic-arn", topic.arn, "--first-name", "Ada", "--last-name", "Lovelace")
    places = ("--database-url", database.url, "--output", tmp_path / "Output")
    answer = command("undo", "--yes", "--dry-run", *places, *mail)
    assert (answer.code, answer.err) == (0, "")
    assert f"This would undo 1 run: back to before {last}." in answer.out
    assert topic.mails() == []
    assert not (tmp_path / "Output").exists()
    assert database.rows("SELECT DISTINCT undone_by FROM loads") == [(None,)]


@pytest.mark.parametrize("is_watched", [True, False])
def test_undo_refuses_where_rows_were_changed_outside_the_pipeline(
    three: Files, database: Database, days: Days, command: Command, is_watched: bool
) -> None:
    three.load(database)
    as_it_was = database.table()
    three.put("cc.us.csv", days(20, price=31))
    three.load(database)
    if not is_watched:
        database.execute("ALTER TABLE historical_stocks_data DISABLE TRIGGER note_change_by_hand")
    database.execute("UPDATE historical_stocks_data SET open_value = '7' WHERE stock_date = '2001-01-03'")
    before = database.table()
    answer = command("undo", "--database-url", database.url, "--yes")
    assert answer.code == 2
    assert "Rows were changed outside the pipeline" in answer.err
    assert database.table() == before
    advice = re.search(r"with --reload, which corrects them, then undo (\S+)\.$", answer.err, re.MULTILINE)
    assert advice, answer.err
    three.load(database, reload=True)
    assert command("undo", "--database-url", database.url, "--yes", advice[1]).code == 0
    assert database.table() == as_it_was


def test_undo_refuses_where_rows_of_a_company_that_it_leaves_were_changed_outside(
    three: Files, database: Database, days: Days
) -> None:
    _load_prices(three, database, days, 30, 31)
    database.execute("UPDATE historical_stocks_data SET open_value = '7' WHERE company_name = 'aa.us.csv'")
    with pytest.raises(etl.SettingsError, match="Rows were changed outside the pipeline: an undo"):
        audit.undo(database.url, run=etl.Run.begin("undo"))


VALUES = "open_value, high_value, low_value, close_value, volume_traded, daily_percent_change, value_change"
BY_HAND = {
    "values": "UPDATE historical_stocks_data SET open_value = '7' WHERE stock_date IN ('2001-01-02', '2001-01-20')",
    "days gone": "DELETE FROM historical_stocks_data WHERE stock_date >= '2001-01-04'",
    "a day between": f"""INSERT INTO historical_stocks_data SELECT '1999-01-04', {VALUES}, company_name
        FROM historical_stocks_data WHERE stock_date = '2001-01-01'""",
    "a day behind": f"""INSERT INTO historical_stocks_data SELECT '2009-01-05', {VALUES}, company_name
        FROM historical_stocks_data WHERE stock_date = '2001-01-01'""",
    "the next day, as the file will have it": f"""INSERT INTO historical_stocks_data
        VALUES ('2001-01-21', '30.75', '31', '30.3', '30.55', '1020',
        '{(30.55 - 30.75) / 30.75 * 100!r}', '{30.55 - 30.75!r}', 'cc.us.csv')""",
    "the next days": f"""INSERT INTO historical_stocks_data SELECT day, {VALUES}, company_name
        FROM historical_stocks_data, unnest(ARRAY['2001-01-21', '2001-01-22', '2001-01-25']) AS day
        WHERE stock_date = '2001-01-20' AND company_name = 'cc.us.csv'""",
    "a day moved": "UPDATE historical_stocks_data SET stock_date = '2000-12-31' WHERE stock_date = '2001-01-02'",
    "all gone": "TRUNCATE historical_stocks_data",
}


def _as_of(database: Database, run: etl.Receipt) -> list[tuple[Any, ...]]:
    [(at,)] = database.rows("SELECT loaded_at FROM loads WHERE run_id = %s", run.run_id)
    return database.rows(AS_OF, at)


@pytest.mark.parametrize("grows", [False, True])
@pytest.mark.parametrize("is_sorted", [True, False])
@pytest.mark.parametrize("by_hand", BY_HAND.values(), ids=BY_HAND)
def test_what_others_wrote_and_a_reload_puts_right_is_no_history(
    three: Files, database: Database, days: Days, by_hand: str, is_sorted: bool, grows: bool
) -> None:
    if not is_sorted:
        three.put("bb.us.csv", days(10, price=20)[::-1])
    before = three.load(database)
    three.put("aa.us.csv", days(5, price=11))
    first = database.rows(NOW)
    loaded = three.load(database)
    second = database.rows(NOW)
    database.execute(by_hand)
    if grows:
        three.put("cc.us.csv", days(23, price=30))
    reloaded = three.load(database, reload=True)
    assert _as_of(database, before) == first
    assert _as_of(database, loaded) == second
    assert _as_of(database, reloaded) == database.rows(NOW)
    assert changes(database) == ([("cc.us.csv", "grew", "2001-01-21", "2001-01-23", None)] if grows else [])
    assert (reloaded.restatements, reloaded.held) == ((), ())
    assert reloaded.grown == ({"cc.us.csv": 3} if grows else {})
    assert not list(audit.verify(database.url))
    named = None if grows else loaded.run_id  # the reload alone, which is not journalled, cannot be undone
    undone = audit.undo(database.url, run=etl.Run.begin("undo"), run_id=named).undone
    assert undone
    assert undone.deleted == (3 if grows else 5)
    assert database.rows(NOW) == (second if grows else first)


def test_dry_run_of_a_reload_counts_the_days_of_others_as_the_reload_does(
    three: Files, database: Database, days: Days
) -> None:
    three.load(database)
    database.execute(BY_HAND["the next days"])
    three.put("cc.us.csv", days(23, price=30))
    tried = three.load(database, reload=True, dry_run=True)
    assert database.count() == 38
    loaded = three.load(database, reload=True)
    assert (loaded.rows.inserted, loaded.rows.deleted, loaded.rows.unchanged) == (3, 3, 35)
    assert (tried.rows, tried.grown) == (loaded.rows, loaded.grown)
    text = etl.receipt_text(loaded)
    assert "1 company grew by 3 rows (cc.us.csv)" in text


def test_reload_that_holds_a_company_back_leaves_its_rows(three: Files, database: Database, days: Days) -> None:
    three.load(database)
    database.execute(BY_HAND["the next days"])
    three.put("cc.us.csv", days(12, price=30))
    before = [row for row in database.table() if row[8] == "cc.us.csv"]
    assert [one.company_name for one in three.load(database, reload=True).held] == ["cc.us.csv"]
    assert [row for row in database.table() if row[8] == "cc.us.csv"] == before


def _respelled(rows: list[str]) -> list[str]:
    return [re.sub(r",(\d+\.\d+)", r",\g<1>0", row) for row in rows]


@pytest.mark.parametrize("is_respelled", [False, True])
@pytest.mark.parametrize("by_hand", ["values", "days gone", "a day between", "a day behind", "the company gone"])
def test_undo_refuses_to_bring_back_what_others_had_written_before_the_run(
    three: Files, database: Database, days: Days, by_hand: str, is_respelled: bool
) -> None:
    gone = "DELETE FROM historical_stocks_data WHERE company_name = 'cc.us.csv'"
    three.load(database)
    database.execute((BY_HAND | {"the company gone": gone})[by_hand])
    rows = days(20, price=30)
    corrected = [*(_respelled(rows[:10]) if is_respelled else rows[:10]), *scaled(rows[10:12], 0.5), *rows[12:]]
    three.put("cc.us.csv", corrected)
    run = three.load(database)
    three.load(database, reload=True)
    before = database.table(), database.ledger(), changes(database), database.rows("SELECT * FROM loads")
    for dry_run in (True, False):
        with pytest.raises(etl.SettingsError, match=rf"when run {run.run_id} .* rows of cc.us.csv had been changed"):
            audit.undo(database.url, run=etl.Run.begin("undo"), run_id=run.run_id, dry_run=dry_run)
    assert (database.table(), database.ledger(), changes(database), database.rows("SELECT * FROM loads")) == before
    assert not list(audit.verify(database.url))


def test_undo_is_not_refused_for_a_company_that_was_held_back_with_what_others_had_written(
    three: Files, database: Database, days: Days
) -> None:
    three.load(database)
    before = database.table()
    database.execute("UPDATE historical_stocks_data SET open_value = '7' WHERE company_name = 'cc.us.csv'")
    three.put("bb.us.csv", days(10, price=21))
    three.put("cc.us.csv", days(3, price=30))
    run = three.load(database)
    assert [one.company_name for one in run.held] == ["cc.us.csv"]
    three.put("cc.us.csv", days(20, price=30))
    three.load(database, reload=True)
    audit.undo(database.url, run=etl.Run.begin("undo"), run_id=run.run_id)
    assert database.table() == before


def test_undo_gives_companies_whose_rows_it_leaves_the_ledger_entries_of_before(
    three: Files, database: Database, days: Days
) -> None:
    three.load(database)
    before = database.table(), database.ledger()
    three.put("cc.us.csv", days(23, price=30))
    three.put("bb.us.csv", days(10, price=20)[::-1])  # no row is another
    three.load(database, reload=True)
    assert [entry[4] for entry in database.ledger()] != [entry[4] for entry in before[1]]
    audit.undo(database.url, run=etl.Run.begin("undo"))
    assert (sorted(database.table()), database.ledger()) == (sorted(before[0]), before[1])
    assert not list(audit.verify(database.url))


def test_undo_leaves_a_company_that_was_respelled_and_its_ledger_entry(
    three: Files, database: Database, days: Days
) -> None:
    three.load(database)
    three.put("cc.us.csv", _respelled(days(20, price=30)))
    three.put("bb.us.csv", days(10, price=21))
    three.load(database)
    respelled = [row for row in database.table() if row[8] == "cc.us.csv"], database.ledger()[2]
    audit.undo(database.url, run=etl.Run.begin("undo"))
    assert ([row for row in database.table() if row[8] == "cc.us.csv"], database.ledger()[2]) == respelled
    assert list(audit.verify(database.url)) == []


def test_table_agrees_after_an_undo_with_files_that_are_in_no_order_and_keep_a_spelling(
    three: Files, database: Database, days: Days
) -> None:
    rows = days(20, price=30)[::-1]
    three.put("cc.us.csv", rows)
    three.load(database)
    three.put("cc.us.csv", [*_respelled(rows[:10]), *scaled(rows[10:12], 0.5), *rows[12:]])
    three.load(database)
    audit.undo(database.url, run=etl.Run.begin("undo"))
    assert list(audit.verify(database.url)) == []


def _undo(database: Database, run_id: str | None = None) -> tuple[str, ...]:
    """Undo the last run or a named one; returns the runs that were taken back."""
    undone = audit.undo(database.url, run=etl.Run.begin("undo"), run_id=run_id).undone
    return undone.runs if undone else ()


def test_undo_refuses_to_pass_over_a_run_that_only_respelled_numbers(
    three: Files, database: Database, days: Days
) -> None:
    first, second = _load_prices(three, database, days, 30, 31)
    three.put("cc.us.csv", _respelled(days(20, price=31)))
    last = three.load(database).run_id
    before = database.table()
    with pytest.raises(etl.SettingsError, match=f"Nothing was undone.* {last}, only spelled .*: mbd undo {second}$"):
        audit.undo(database.url, run=etl.Run.begin("undo"))
    assert database.table() == before
    assert _undo(database, second) == (second, last)
    assert next(row[1] for row in database.table() if row[8] == "cc.us.csv") == "30"
    assert [row[0] for row in database.rows("SELECT run_id FROM loads WHERE undone_by IS NULL AND kind = 'load'")] == [
        first
    ]


def test_undo_refuses_to_pass_over_a_reload_that_put_rows_right(three: Files, database: Database, days: Days) -> None:
    [first] = _load_prices(three, database, days, 30)
    database.execute(
        "DELETE FROM historical_stocks_data WHERE company_name = 'cc.us.csv' AND stock_date = '2001-01-02'"
    )
    assert three.load(database, reload=True).rows.inserted == 1
    with pytest.raises(etl.SettingsError, match=f"put rows right that somebody else had written.*: mbd undo {first}$"):
        audit.undo(database.url, run=etl.Run.begin("undo"))
    assert database.count() == 35


def test_undo_passes_over_later_runs_that_changed_no_row(three: Files, database: Database, days: Days) -> None:
    run = etl.Run.begin("repeated")
    _load_prices(three, database, days, 30)
    three.put("cc.us.csv", days(20, price=31))
    etl.run(three.job(), target=etl.Target(database.url), run=run)
    three.put("bb.us.csv", days(10, price=21))
    last = three.load(database).run_id
    etl.run(three.job(), target=etl.Target(database.url), run=run)  # repeated, with nothing to do
    three.load(database)
    assert _undo(database)[0] == last
    assert next(row[1] for row in database.table() if row[8] == "cc.us.csv") == "31"


def test_history_says_how_much_journal_there_is_for_the_loads_that_count(
    three: Files, database: Database, days: Days
) -> None:
    _load_prices(three, database, days, 30, 31)
    audit.undo(database.url, run=etl.Run.begin("undo"))
    size = audit.journal_size(database.url)
    assert (size.changes, size.loads) == (3, 2)
    on_disk = "SELECT pg_total_relation_size('price_changes') + pg_total_relation_size('ledger_changes')"
    assert [(size.size_bytes,)] == database.rows(on_disk)


def test_diff_of_a_run_that_was_repeated_shows_what_it_changed_itself(
    three: Files, database: Database, days: Days, command: Command
) -> None:
    def load(run: etl.Run) -> str:
        return etl.run(three.job(), target=etl.Target(database.url), run=run).run_id

    load(etl.Run.begin("first"))
    repeated = etl.Run.begin("repeated")
    three.put("aa.us.csv", days(6, price=10))
    load(repeated)
    three.put("bb.us.csv", days(10, price=21))
    load(etl.Run.begin("other"))
    load(repeated)
    shown = command("diff", repeated.run_id, "--rows", "--database-url", database.url).out
    assert re.search(r"aa.us.csv +0 +0 +1  2001-01-06  2001-01-06", shown)
    assert "bb.us.csv" not in shown
    three.put("aa.us.csv", [*days(3, price=11), *days(6, price=10)[3:]])
    load(repeated)
    [one] = audit.diff(database.url, repeated.run_id).companies
    assert (one.company_name, one.changed, one.added) == ("aa.us.csv", 3, 1)
    assert (one.first_day, one.last_day) == ("2001-01-01", "2001-01-06")
    three.put("aa.us.csv", [*days(3, price=11), *days(8, price=10)[3:]])
    load(repeated)
    [one] = audit.diff(database.url, repeated.run_id).companies
    assert (one.added, one.first_day, one.last_day) == (3, "2001-01-01", "2001-01-08")


def test_diff_of_a_run_that_loaded_twice_in_a_row_shows_what_came_of_it(
    three: Files, database: Database, days: Days
) -> None:
    three.load(database)
    run = etl.Run.begin("repeated")
    for price in (31, 30):
        three.put("cc.us.csv", days(20, price=price))
        etl.run(three.job(), target=etl.Target(database.url), run=run)
    assert audit.diff(database.url, run.run_id).companies == ()


def test_diff_of_a_run_that_was_repeated_behind_one_that_was_undone_shows_what_came_of_it(
    three: Files, database: Database, days: Days
) -> None:
    three.load(database)
    repeated = etl.Run.begin("repeated")
    for price, run in ((31, repeated), (32, etl.Run.begin("other")), (30, repeated)):
        three.put("cc.us.csv", days(20, price=price))
        etl.run(three.job(), target=etl.Target(database.url), run=run)
        if run != repeated:
            audit.undo(database.url, run=etl.Run.begin("undo"))
    assert audit.diff(database.url, repeated.run_id).companies == ()


def test_diff_shows_a_run_and_what_changed_between_two(
    three: Files, database: Database, days: Days, command: Command
) -> None:
    first = three.load(database)
    rows = days(20, price=30)
    three.put("cc.us.csv", [*rows[:3], rows[3].replace(",1003,", ",7,"), *rows[4:]])
    three.put("bb.us.csv", days(12, price=20))
    second = three.load(database)
    three.put("cc.us.csv", rows)
    third = three.load(database)
    shown = command("diff", second.run_id, "--rows", "--database-url", database.url).out
    assert re.search(r"bb.us.csv +0 +0 +2  2001-01-11  2001-01-12", shown)
    assert re.search(r"cc.us.csv +1 +0 +0  2001-01-04  2001-01-04", shown)
    assert "cc.us.csv  2001-01-04  volume 1003 → 7" in shown
    between = command("diff", first.run_id, third.run_id, "--database-url", database.url).out
    assert "cc.us.csv" not in between
    assert "bb.us.csv" in between
    assert command("diff", third.run_id, first.run_id, "--database-url", database.url).out == between


def test_trace_prints_line_file_run_and_earlier_values(
    three: Files, database: Database, days: Days, command: Command
) -> None:
    first = three.load(database)
    three.put("cc.us.csv", days(20, price=31))
    second = three.load(database)
    out = command("trace", "cc.us.csv", "2001-01-04", "--database-url", database.url).out
    assert out.startswith("row        stock_date 2001-01-04, open_value 31.38, ")
    assert f"line       5: {days(20, price=31)[3]}" in out
    assert f"run        {second.run_id}" in out
    assert re.search(rf"before +open 30\.38, .* by run {second.run_id} \(changed\)", out)
    assert "before     no such row, until" in out
    assert first.run_id in out
    (three.source / "cc.us.csv").unlink()
    assert "file       not known" in command("trace", "cc.us.csv", "2001-01-04", "--database-url", database.url).out


def test_trace_takes_a_ticker_and_names_the_nearest_company_of_a_wrong_one(
    three: Files, database: Database, command: Command
) -> None:
    three.load(database)
    by_name = command("trace", "cc.us.csv", "2001-01-04", "--database-url", database.url)
    assert command("trace", "CC", "2001-01-04", "--database-url", database.url).out == by_name.out
    wrong = command("trace", "ccc", "2001-01-04", "--database-url", database.url)
    assert wrong.code == 2
    assert "There is no company 'ccc' (did you mean cc.us.csv?)" in wrong.err


@pytest.mark.parametrize("day", ["2000-12-31", "2001-01-21", "1900-01-01", "2030-01-01"])
def test_trace_of_a_day_without_a_row_names_no_run(
    three: Files, database: Database, days: Days, command: Command, day: str
) -> None:
    three.load(database)
    three.put("cc.us.csv", [*days(20, price=30), *days(23, price=30)[21:]])
    three.load(database)
    answer = command("trace", "cc.us.csv", day, "--database-url", database.url)
    assert (answer.code, answer.out) == (2, "")
    assert f"There is no row of cc.us.csv on {day}, and no run that is journalled had one." in answer.err


def test_trace_of_a_day_that_came_later_names_the_run_that_brought_it(
    three: Files, database: Database, days: Days, command: Command
) -> None:
    first = three.load(database)
    three.put("cc.us.csv", days(21, price=30))
    grown = three.load(database)
    three.put("cc.us.csv", [*days(5, price=30), *days(21, price=30)[6:]])
    removed = three.load(database)
    three.put("cc.us.csv", days(21, price=30))
    added = three.load(database)

    def earlier(day: str) -> list[tuple[str, str]]:
        return [(one.replaced_by, one.change) for one in audit.trace(database.url, "cc.us.csv", day).earlier]

    assert earlier("2001-01-21") == [(grown.run_id, "grew")]
    assert earlier("2001-01-06") == [
        (added.run_id, "added"),
        (removed.run_id, "removed"),
        (first.run_id, "new"),
    ]


@pytest.mark.usefixtures("aws_environment")
def test_trace_names_the_key_of_the_receipt_in_s3(
    three: Files, bucket: Bucket, database: Database, command: Command
) -> None:
    bucket.upload(three)
    receipt = etl.run(bucket.job(), target=etl.Target(database.url), run=etl.Run.begin("test"))
    [key] = bucket.keys("Output/receipts/")
    out = command("trace", "cc.us.csv", "2001-01-04", "--database-url", database.url).out
    assert f"receipt    s3://{bucket.name}/{key}\n" in out
    assert key.endswith(f"/{receipt.run_id}.json")


def test_trace_says_whether_the_file_is_the_version_that_was_loaded(
    three: Files, database: Database, days: Days, command: Command
) -> None:
    def file_line() -> str:
        out = command("trace", "cc.us.csv", "2001-01-04", "--database-url", database.url).out
        return next(line for line in out.splitlines() if line.startswith("file "))

    three.load(database)
    assert "(the version that was loaded)" in file_line()
    three.put("cc.us.csv", days(21, price=30))
    assert "(another version than was loaded)" in file_line()
    process(three.job())  # the manifest describes what is not loaded yet
    assert "(as it is now)" in file_line()
    three.load(database)
    assert "(the version that was loaded)" in file_line()


@pytest.mark.parametrize(
    ("lines", "number"),
    [
        pytest.param(["DATE,x,y", "2001-01-02,8,9,7,n/a,100,x", "ROW"], 3, id="behind a rejected row of the day"),
        pytest.param(["DATE,x,y", "2001-01-01,8,9,7,8,100,a\u2028b", "ROW"], 3, id="behind a line separator"),
        pytest.param(["", "NOTE", "a,2001-01-01,8,9,7,8,100", "a,ROW"], 4, id="behind a blank line, the day not first"),
        pytest.param(["NOTE", "2001-01-02,2001-01-01,8,9,7,8,100", "a,ROW"], 3, id="behind another column's day"),
    ],
)
def test_trace_names_the_line_whose_values_are_in_the_table(
    three: Files, database: Database, command: Command, lines: list[str], number: int
) -> None:
    columns = "Date,Open,High,Low,Close,Volume"
    row = "2001-01-02,8.25,9,7,8.5,100"
    text = "\n".join(lines).replace("DATE,x,y", f"{columns},Note").replace("NOTE", f"Note,{columns}")
    wanted = lines[number - 1].replace("ROW", row if lines[number - 1] != "ROW" else f"{row},z")
    (three.source / "aa.us.csv").write_text(text.replace(lines[number - 1], wanted) + "\n")
    three.load(database)
    answer = command("trace", "aa.us.csv", "2001-01-02", "--database-url", database.url)
    assert f"\nline       {number}: {wanted}\n" in answer.out
    assert "(the version that was loaded)" in answer.out


def test_trace_of_a_day_that_was_removed_names_the_run_that_had_loaded_it(
    three: Files, database: Database, days: Days, command: Command
) -> None:
    first = three.load(database)
    rows = days(20, price=30)
    three.put("cc.us.csv", [*rows[:3], *rows[4:]])
    second = three.load(database)
    out = command("trace", "cc.us.csv", "2001-01-04", "--database-url", database.url).out
    assert out.startswith("row        not in the table: cc.us.csv 2001-01-04\n")
    assert f"\nrun        {first.run_id}\n" in out
    assert f"by run {second.run_id} (removed)" in out


def test_trace_says_that_the_file_has_the_day_in_rejected_rows_only(
    three: Files, database: Database, days: Days, command: Command
) -> None:
    three.load(database)
    rows = days(20, price=30)
    three.put("cc.us.csv", [*rows[:3], rows[3].replace(",1003,", ",n/a,"), *rows[4:]])
    out = command("trace", "cc.us.csv", "2001-01-04", "--database-url", database.url).out
    assert "file       not known: the file has no row of 2001-01-04 that keeps the rules now" in out


def test_times_are_printed_in_utc_whatever_the_time_zone_of_the_database(
    three: Files, database: Database, days: Days, command: Command
) -> None:
    database.execute(f"ALTER DATABASE {database.name} SET timezone = 'Asia/Tokyo'")
    begun = datetime.now(UTC)
    three.load(database)
    three.put("cc.us.csv", days(20, price=31))
    three.load(database)
    times = {f"{begun + timedelta(minutes=more):%Y-%m-%d %H:%M}" for more in range(3)}
    history = command("history", "--database-url", database.url).out
    traced = command("trace", "cc.us.csv", "2001-01-04", "--database-url", database.url).out
    for found in (re.search("since (.{16}) UTC", history), re.search("until (.{16}):.. UTC by run", traced)):
        assert found
        assert found[1] in times


ONE = "WHERE company_name = 'bb.us.csv' AND stock_date = '2001-01-05'"
PLANTED = {
    "a value, the trigger off": f"UPDATE historical_stocks_data SET high_value = '99' {ONE}",
    "a row gone": f"DELETE FROM historical_stocks_data {ONE}",
    "a row twice": f"INSERT INTO historical_stocks_data SELECT * FROM historical_stocks_data {ONE}",
    "the ledger": "UPDATE loaded_companies SET sha256 = repeat('0', 64) WHERE company_name = 'bb.us.csv'",
    "a receipt": "UPDATE pipeline_runs SET receipt = jsonb_set(receipt, '{rows,accepted}', '1')",
    "no receipt": "DELETE FROM pipeline_runs WHERE number = (SELECT min(number) FROM pipeline_runs)",
    "a company": "INSERT INTO historical_stocks_data (stock_date, company_name) VALUES ('2001-01-01', 'x.us.csv')",
}


@pytest.mark.parametrize("planted", PLANTED)
@pytest.mark.parametrize("with_output", [True, False])
def test_verify_finds_what_was_planted(
    three: Files, database: Database, days: Days, command: Command, planted: str, with_output: bool
) -> None:
    three.load(database)
    three.put("cc.us.csv", days(22, price=30))
    three.load(database)
    options = ("--output", three.output) if with_output else ()
    assert command("verify", "--database-url", database.url, *options).code == 0
    database.execute("ALTER TABLE historical_stocks_data DISABLE TRIGGER note_change_by_hand")
    database.execute(PLANTED[planted])
    answer = command("verify", "--database-url", database.url, *options)
    assert answer.code == 1
    assert (
        "receipts:" if "receipt" in planted else "x.us.csv" if planted == "a company" else "bb.us.csv"
    ) in answer.out
    if planted.startswith("a value") and with_output:
        assert "table: bb.us.csv: the rows of 2001-01-05 are not those that were loaded" in answer.out


@pytest.mark.parametrize("with_output", [True, False])
def test_verify_finds_an_empty_text_where_nothing_was_loaded(
    three: Files, database: Database, days: Days, command: Command, with_output: bool
) -> None:
    three.put("aa.us.csv", [*days(5, price=10), "2001-02-01,0,1,0,1,5,0"])  # no percent change of an open of 0
    three.load(database)
    database.execute("ALTER TABLE historical_stocks_data DISABLE TRIGGER note_change_by_hand")
    empty = "UPDATE historical_stocks_data SET daily_percent_change = '' WHERE daily_percent_change IS NULL"
    assert database.execute(empty) == 1
    with pytest.raises(psycopg2.errors.InvalidTextRepresentation):
        database.rows("SELECT * FROM stock_prices")
    answer = command("verify", "--database-url", database.url, *(("--output", three.output) if with_output else ()))
    assert answer.code == 1
    rows = "the rows of 2001-02-01 are not those that were" if with_output else "its 6 rows are not those that"
    assert f"table: aa.us.csv: {rows}" in answer.out
    three.load(database, reload=True)
    assert command("verify", "--database-url", database.url).code == 0


def test_verify_reads_all_companies_however_many_it_reads_at_once(
    three: Files, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    three.load(database)
    monkeypatch.setattr("etl.table.verify._COMPANIES_AT_ONCE", 2)
    assert list(audit.verify(database.url)) == []
    database.execute("UPDATE historical_stocks_data SET open_value = '7' WHERE company_name = 'cc.us.csv'")
    [found] = audit.verify(database.url)
    assert (found.name, found.detail) == (
        "cc.us.csv", "its 20 rows are not those that the ledger says were loaded"
    )  # fmt: skip


@pytest.mark.parametrize("rows_more", [0, 1])
def test_verify_without_outputs_proves_files_that_are_not_in_the_order_of_their_days(
    three: Files, database: Database, days: Days, rows_more: int
) -> None:
    rows = days(20, price=30)[::-1]
    three.put("cc.us.csv", rows)
    three.load(database)
    if rows_more:
        three.put("cc.us.csv", rows + days(1, first=20, price=30))
        three.load(database)
    database.execute(
        "CLUSTER historical_stocks_data USING historical_stocks_data_company_day"
    )  # another order of places
    assert list(audit.verify(database.url)) == []
    database.execute("UPDATE historical_stocks_data SET open_value = '7' WHERE stock_date = '2001-01-20'")
    assert [one.name for one in audit.verify(database.url)] == ["cc.us.csv"]


@pytest.mark.parametrize("name", ["historical_stock_data.csv", "receipts"])
def test_verify_finds_a_changed_output(three: Files, database: Database, command: Command, name: str) -> None:
    receipt = three.load(database)
    path = three.output / name if name != "receipts" else three.output / "receipts" / f"{receipt.run_id}.json"
    path.write_bytes(
        path.read_bytes().replace(b"2001-01-04", b"2001-01-05").replace(b'"accepted": 35', b'"accepted": 34')
    )
    answer = command("verify", "--database-url", database.url, "--output", three.output)
    assert answer.code == 1


def test_verify_takes_a_company_that_the_last_load_held_back_for_no_disagreement(
    three: Files, database: Database, days: Days
) -> None:
    three.load(database)
    three.put("cc.us.csv", days(3, price=30))
    assert three.load(database).held
    assert list(audit.verify(database.url, output=str(three.output))) == []


@pytest.mark.parametrize("place", ["relative", "with a slash", "linked", "moved"])
@pytest.mark.parametrize("harm", ["changed", "removed"])
def test_verify_compares_receipts_however_the_output_is_named(
    three: Files, database: Database, command: Command, monkeypatch: pytest.MonkeyPatch, place: str, harm: str
) -> None:
    receipt = three.load(database)
    monkeypatch.chdir(three.root)
    (three.root / "link").symlink_to(three.output)
    output = {"relative": "Output", "with a slash": f"{three.output}/", "linked": "link", "moved": "Moved"}[place]
    if place == "moved":
        three.output.rename("Moved")
    verify = ("verify", "--database-url", database.url, "--output", output)
    assert command(*verify).code == 0
    path = three.root / output / "receipts" / f"{receipt.run_id}.json"
    if harm == "changed":
        path.write_text(path.read_text().replace('"accepted": 35', '"accepted": 34'))
    else:
        path.unlink()
    answer = command(*verify)
    assert ("receipts: " in answer.out) == (answer.code == 1) == ((place, harm) != ("moved", "removed"))


@pytest.mark.usefixtures("aws_environment")
@pytest.mark.parametrize("slash", ["", "/"])
def test_verify_compares_the_receipt_of_a_run_that_failed_in_s3(
    three: Files, bucket: Bucket, database: Database, command: Command, slash: str
) -> None:
    bucket.upload(three)
    job, target = bucket.job(output=f"s3://{bucket.name}/Output{slash}"), etl.Target(database.url)
    etl.run(job, target=target, run=etl.Run.begin("test"))
    failed = etl.record_failure(etl.BatchError("no"), job=job, target=target, run=etl.Run.begin("test"))
    assert failed.output == f"s3://{bucket.name}/Output/"
    key = f"Output/receipts/{failed.run_id}.json"
    verify = ("verify", "--database-url", database.url, "--output", f"s3://{bucket.name}/Output")
    assert command(*verify).code == 0
    bucket.put(key, bucket.get(key).replace(b'"error": "no"', b'"error": "yes"'))
    assert f"receipts: {failed.run_id}: s3://{bucket.name}/{key} is not what was recorded" in command(*verify).out
    bucket.s3.delete_object(Bucket=bucket.name, Key=key)
    assert f"receipts: {failed.run_id}: s3://{bucket.name}/Output/receipts has no receipt" in command(*verify).out


def test_verify_knows_what_was_added_to_a_receipt_after_it_was_recorded(
    three: Files, database: Database, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MBD_CHANNELS", "nothing://that.apprise.knows")
    places = ("--source", three.source, "--index", three.index, "--output", three.output)
    ran = command("run", *places, "--database-url", database.url, "--quiet")
    assert "warning: The channel nothing did not get the message" in ran.err
    [(run, facts)] = three.receipts().items()
    path = three.output / "receipts" / f"{run}.json"
    verify = ("verify", "--database-url", database.url, "--output", three.output)

    def verified(**changed: object) -> int:
        path.write_text(json.dumps({**facts, **changed}))
        return command(*verify).code

    unsent = ["The metrics were not sent: no network"]
    assert facts["channels"]
    assert (verified(), verified(notes=[*facts["notes"], *unsent]), verified(mail="sent")) == (0, 0, 0)
    assert verified(notes=[*facts["notes"], "All is well."]) == 1
    assert verified(rows={**facts["rows"], "accepted": 34}) == 1
    database.execute("UPDATE pipeline_runs SET receipt = receipt - 'channels'")  # of a version that had none
    recorded = receipt_hash(database.rows("SELECT receipt FROM pipeline_runs")[0][0])
    database.execute("UPDATE pipeline_runs SET sha256 = %s", recorded)
    assert verified() == 0


@pytest.mark.parametrize(
    "number", [1e16, 1.2345678912e20, 1e23, -1e300, -0.0, 0.0, 1.0, 1e-7, 5e-324, 9999999999999998.0, 10**17, 0.1]
)
def test_hash_of_a_receipt_is_that_of_the_one_that_the_database_gives_back(database: Database, number: float) -> None:
    receipt = {"restatements": [{"factor": number}], "mail": "sent"}
    [(recorded,)] = database.rows("SELECT %s::jsonb", json.dumps(receipt))
    assert receipt_hash(recorded) == receipt_hash(receipt)


def test_dry_run_names_restatements_and_held_companies(three: Files, database: Database, days: Days) -> None:
    three.load(database)
    three.put("cc.us.csv", scaled(days(20, price=30), 0.5))
    three.put("bb.us.csv", days(3, price=20))
    tried = three.load(database, dry_run=True)
    real = three.load(database)
    assert (tried.rows, tried.restatements, tried.held) == (real.rows, real.restatements, real.held)


def test_process_alone_notes_a_file_that_was_cut_off(three: Files, days: Days) -> None:
    process(three.job())
    three.put("cc.us.csv", days(3, price=30))
    [note] = process(three.job()).notes
    assert note.startswith("cc.us.csv has 3 rows, 20 in the outputs before.")


def test_init_db_called_eight_times_at_once_makes_the_tables_once(empty_database: Database) -> None:
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(etl.make_tables, empty_database.url) for _ in range(8)]:
            done.result(30)
    assert empty_database.rows("SELECT * FROM stock_prices") == []


def test_settings_of_a_load_end_with_its_transaction(database: Database) -> None:
    with connect(database.url, lock_timeout_seconds=7) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW lock_timeout")
        assert cursor.fetchone() == ("7s",)
        connection.commit()  # behind a pooler, the session is somebody else's now
        cursor.execute("SELECT current_setting('lock_timeout'), current_setting('moving_big_data.loading', true)")
        assert cursor.fetchone() == ("0", "")


def test_receipts_are_a_chain_through_loads_failures_and_undos(
    three: Files, database: Database, days: Days, command: Command
) -> None:
    three.load(database)
    three.name("aa.us.csv", "gone.us.csv")
    places = ("--source", three.source, "--index", three.index, "--output", three.output)
    assert command("run", *places, "--database-url", database.url, "--quiet").code == 1
    three.name("aa.us.csv", "bb.us.csv", "cc.us.csv")
    three.put("cc.us.csv", days(22, price=30))
    three.load(database)
    assert command("undo", "--yes", "--database-url", database.url, "--output", three.output).code == 0
    receipts = [row[0] for row in database.rows("SELECT receipt FROM pipeline_runs ORDER BY number")]
    assert [receipt["state"] for receipt in receipts] == ["success", "failed", "success", "success"]
    hashes = [receipt_hash(receipt) for receipt in receipts]
    assert [receipt["previous"] for receipt in receipts] == [None, *hashes[:-1]]
    assert receipt_hash(three.receipts()[receipts[1]["run_id"]]) == hashes[1]
    database.execute("DELETE FROM pipeline_runs WHERE run_id = %s", receipts[1]["run_id"])
    answer = command("verify", "--database-url", database.url)
    assert answer.out == f"receipts: {receipts[2]['run_id']}: the receipt before it is missing\n"


def test_receipt_that_was_changed_is_named_and_not_the_one_behind_it(three: Files, database: Database) -> None:
    runs = [three.load(database).run_id for _ in range(3)]
    database.execute(
        "UPDATE pipeline_runs SET receipt = jsonb_set(receipt, '{rows,accepted}', '1') WHERE run_id = %s", runs[1]
    )
    assert [(one.name, one.detail) for one in audit.verify(database.url)] == [(runs[1], "its receipt was changed")]


def test_of_two_receipts_at_once_the_second_holds_the_hash_of_the_first(database: Database) -> None:
    def record(run_id: str, previous: str | None) -> RunRecord:
        receipt = json.dumps({"run_id": run_id, "previous": previous})
        return RunRecord(run_id, "failed", datetime.now(UTC), 0, receipt)

    def record_slowly(previous: str | None) -> RunRecord:
        others.append(pool.submit(record_run, database.url, partial(record, "second"), also=lambda _: None))
        while not others[0].done() and database.rows(waiting) == [(0,)]:
            time.sleep(0.01)
        return record("first", previous)

    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    others: list[Future[RunRecord]] = []
    with ThreadPoolExecutor(1) as pool:
        record_run(database.url, record_slowly, also=lambda _: None)
        others[0].result(10)
    with connect(database.url) as connection, connection.cursor() as cursor:
        assert list(verify_receipts(cursor)) == []


def test_run_of_a_clock_that_was_ahead_is_not_the_last_one_for_a_year(
    three: Files, database: Database, command: Command
) -> None:
    ahead = etl.Run("ahead", started_at=datetime.now(UTC) + timedelta(days=365))
    etl.run(three.job(), target=etl.Target(database.url), run=ahead)
    three.put("cc.us.csv", None)
    first = three.load(database)
    second = three.load(database)
    assert (first.newly_quarantined, second.newly_quarantined) == (("cc.us.csv",), ())
    [last] = etl.read_history(database.url, last=1)
    assert last.run_id == second.run_id
    assert second.run_id in command("history", "--last", "1", "--database-url", database.url).out


def test_loads_in_steps_and_at_once_write_the_same_journal(three: Files, database: Database, days: Days) -> None:
    three.load(database)
    three.put("cc.us.csv", days(22, price=31))
    run = etl.Run.begin("steps")
    process(three.job(), run=run)
    etl.load(three.job(), target=etl.Target(database.url), run=run)
    assert [change for _, change, *_ in changes(database)] == ["changed"] * 20 + ["grew"]


def test_companies_are_compared_in_groups_that_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etl.table.journal._ROWS_AT_ONCE", 100)
    companies = {"a": 60, "b": 40, "c": 1, "d": 200, "e": 5, "f": 95, "g": 1}
    assert [*_groups(companies)] == [["a", "b"], ["c"], ["d"], ["e", "f"], ["g"]]


def test_load_in_several_groups_changes_what_a_load_in_one_does(
    three: Files, database: Database, days: Days, monkeypatch: pytest.MonkeyPatch
) -> None:
    three.load(database)
    monkeypatch.setattr("etl.table.journal._ROWS_AT_ONCE", 12)
    for name, count, price in (("aa", 5, 11), ("bb", 11, 20.5), ("cc", 19, 31)):
        three.put(f"{name}.us.csv", days(count, price=price))
    receipt = three.load(database, accept_shrunk=("all",))
    assert (receipt.rows.inserted, receipt.rows.deleted, receipt.rows.unchanged) == (35, 35, 0)
    assert receipt.grown == {"bb.us.csv": 1}
    rows = [one.rows for one in receipt.restatements]
    assert rows == sorted(rows, reverse=True)
    assert rows[0] > rows[-1]
    assert database.companies() == {"aa.us.csv": 5, "bb.us.csv": 11, "cc.us.csv": 19}
    assert sorted(",".join(cell or "" for cell in row) for row in database.table()) == sorted(
        three.combined.decode().splitlines()
    )


def test_journal_begins_again_where_table_and_ledger_were_emptied(three: Files, database: Database, days: Days) -> None:
    lost = three.load(database)
    database.execute("TRUNCATE historical_stocks_data")
    database.execute("DELETE FROM loaded_companies")
    began = three.load(database)
    with pytest.raises(etl.SettingsError, match="the journal begins at"):
        etl.read_prices(as_of=lost.run_id, database=database.url)
    three.put("aa.us.csv", days(6, price=10))
    three.load(database)
    assert len(etl.read_prices(as_of=began.run_id, database=database.url)) == 35
    assert len(etl.read_prices(database=database.url)) == 36
    assert database.rows("SELECT DISTINCT load FROM price_changes ORDER BY load") == [(2,), (3,)]
