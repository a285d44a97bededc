"""What a load does to the table: first, again, changed, shrunk, quarantined, reloaded, only tried, by both ways."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING

import pytest

import etl
from etl.table.overview import read_overview
from etl.table.schema import make_tables
from tests.support.batch_files import process
from tests.support.commands import counts

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.commands import Command
    from tests.support.database import Database


def _in_steps(files: Files, database: Database, *, reload: bool = False) -> etl.Receipt:
    run = etl.Run.begin("steps")
    process(files.job(), run=run)
    return etl.load(files.job(), target=etl.Target(database.url, reload=reload), run=run)


def _at_once(files: Files, database: Database, *, reload: bool = False) -> etl.Receipt:
    return files.load(database, reload=reload)


both_ways = pytest.mark.parametrize("move", [_in_steps, _at_once])
Move = Callable[["Files", "Database"], etl.Receipt]
Days = Callable[..., list[str]]


def _rows(database: Database) -> list[str]:
    """The table as the combined file has it."""
    return sorted(",".join(cell or "" for cell in row) for row in database.table())


def _counts(receipt: etl.Receipt) -> tuple[int | None, int | None, int | None]:
    return receipt.rows.inserted, receipt.rows.deleted, receipt.rows.unchanged


@both_ways
def test_first_load_inserts_every_accepted_row(sample: Files, database: Database, move: Move) -> None:
    receipt = move(sample, database)
    assert receipt.state == "success"
    assert all(0 <= seconds < 600 for seconds in receipt.steps.values())
    assert counts(receipt) == (40, 35, 5, 0)
    assert _counts(receipt) == (receipt.rows.accepted, 0, 0)
    assert database.count() == receipt.rows.accepted == receipt.rows.read == sample.combined.count(b"\n")
    assert receipt.rows.accepted == sum(len(path.read_text().splitlines()[1:]) for path in sample.source.iterdir())
    assert {entry.file for entry in receipt.quarantined} == {
        f"{name}.us.csv" for name in ("znwaa", "sail", "jt", "stnl", "bxg")
    }
    assert {entry.reason for entry in receipt.quarantined} == {"empty: 0 bytes"}
    assert not any("index" in note for note in receipt.notes)  # this load has built it
    assert database.states() == ["success"]


def test_both_ways_give_the_same_table_ledger_and_combined_file(
    sample: Files, database: Database, empty_database: Database, command: Command
) -> None:
    assert command("init-db", "--database-url", empty_database.url).code == 0
    _in_steps(sample, database)
    in_steps = sample.outputs()
    _at_once(sample, empty_database)
    assert sample.outputs() == in_steps
    assert empty_database.table() == database.table()
    assert [entry[:4] for entry in empty_database.ledger()] == [entry[:4] for entry in database.ledger()]


def test_manifest_and_ledger_describe_the_combined_file(sample: Files, database: Database) -> None:
    sample.load(database)
    combined, end = sample.combined, 0
    ledger = {name: facts for name, *facts in database.ledger()}
    for part in sample.manifest["slices"]:
        content = combined[part["offset"] : part["offset"] + part["length"]]
        assert part["offset"] == end
        end += part["length"]
        assert hashlib.sha256(content).hexdigest() == part["sha256"]
        assert content.count(b"\n") == part["rows"]
        assert {line.rpartition(b",")[2].decode() for line in content.splitlines()} == {part["company_name"]}
        assert ledger[part["company_name"]][:3] == [part["sha256"], part["length"], part["rows"]]
    assert end == len(combined)
    assert len(ledger) == len(sample.manifest["slices"]) == 35


@both_ways
def test_same_batch_again_changes_nothing_and_names_the_earlier_run(
    sample: Files, database: Database, move: Move
) -> None:
    first = move(sample, database)
    places, combined = database.places(), sample.combined
    second = move(sample, database)
    assert _counts(second) == (0, 0, first.rows.accepted)
    assert second.state == "success"
    assert f"Same content as run {first.run_id}." in second.notes
    assert "0 changes" in etl.receipt_text(second)
    assert database.places() == places
    assert sample.combined == combined


def test_same_content_note_names_the_run_that_loaded_this_content(three: Files, database: Database) -> None:
    three.name("aa.us.csv", "bb.us.csv")
    first = three.load(database)
    three.name("cc.us.csv")
    three.load(database)
    three.name("aa.us.csv", "bb.us.csv")
    again = three.load(database)
    assert _counts(again) == (0, 0, 15)
    assert f"Same content as run {first.run_id}." in again.notes


def test_same_content_note_names_the_last_of_the_runs_that_loaded_it(
    three: Files, database: Database, days: Days
) -> None:
    three.load(database)
    three.put("cc.us.csv", days(20, price=31))
    second = three.load(database)
    assert f"Same content as run {second.run_id}." in three.load(database).notes


def test_same_content_under_a_new_timestamp_is_recognised(three: Files, database: Database) -> None:
    three.load(database)
    for path in three.source.iterdir():
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert _counts(three.load(database)) == (0, 0, 35)


@both_ways
def test_only_the_changed_company_is_touched(three: Files, database: Database, days: Days, move: Move) -> None:
    move(three, database)
    before = database.places()
    three.put("bb.us.csv", days(10, price=21))
    receipt = move(three, database)
    after = database.places()
    assert _counts(receipt) == (10, 10, 25)
    assert not any("Same content" in note for note in receipt.notes)
    assert (after["aa.us.csv"], after["cc.us.csv"]) == (before["aa.us.csv"], before["cc.us.csv"])
    assert after["bb.us.csv"].isdisjoint(before["bb.us.csv"])
    assert database.companies() == {"aa.us.csv": 5, "bb.us.csv": 10, "cc.us.csv": 20}
    assert sorted(database.rows("SELECT stock_date, open_value FROM stock_prices WHERE company_name = 'bb.us.csv'"))[
        0
    ] == (date(2001, 1, 1), 21)
    runs = {name: run_id for name, _, _, _, run_id, _ in database.ledger()}
    assert runs["bb.us.csv"] == receipt.run_id != runs["aa.us.csv"] == runs["cc.us.csv"]


@both_ways
def test_file_that_grew_at_its_end_gets_only_its_new_rows(
    three: Files, database: Database, days: Days, move: Move
) -> None:
    move(three, database)
    before = database.places()
    three.put("cc.us.csv", days(22, price=30))
    receipt = move(three, database)
    assert database.companies() == {"aa.us.csv": 5, "bb.us.csv": 10, "cc.us.csv": 22}
    assert _counts(receipt) == (2, 0, 35)
    assert before["cc.us.csv"] < database.places()["cc.us.csv"]
    assert _rows(database) == sorted(three.combined.decode().splitlines())
    assert _counts(move(three, database)) == (0, 0, 37)


@both_ways
def test_ledger_describes_the_whole_slice_of_a_file_that_grew_twice(
    three: Files, database: Database, days: Days, move: Move
) -> None:
    move(three, database)
    for count in (22, 25):
        three.put("cc.us.csv", days(count, price=30))
        move(three, database)
    slices = {
        entry["company_name"]: (entry["sha256"], entry["length"], entry["rows"]) for entry in three.manifest["slices"]
    }
    assert {name: facts for name, *facts, _, _ in database.ledger()} == {
        name: [*facts] for name, facts in slices.items()
    }
    assert database.rows("SELECT stock_date, last_date FROM price_changes WHERE change = 'grew' ORDER BY load") == [
        ("2001-01-21", "2001-01-22"),
        ("2001-01-23", "2001-01-25"),
    ]


@both_ways
def test_file_that_grew_by_good_rows_and_a_bad_one_gets_only_the_good_ones(
    three: Files, database: Database, days: Days, move: Move
) -> None:
    move(three, database)
    before = database.places()
    rows = days(22, price=30)
    rows.insert(21, "2001-01-21,x,2,1,1.5,100,0")
    three.put("cc.us.csv", rows)
    receipt = move(three, database)
    assert _counts(receipt) == (2, 0, 35)
    assert receipt.rows.rejected == 1
    assert before["cc.us.csv"] < database.places()["cc.us.csv"]


@both_ways
def test_row_inserted_in_the_middle_of_a_file_is_loaded_once(
    three: Files, database: Database, days: Days, move: Move
) -> None:
    rows = days(20, price=30)
    three.put("cc.us.csv", rows[:7] + rows[8:])
    move(three, database)
    three.put("cc.us.csv", rows)
    receipt = move(three, database)
    assert _counts(receipt) == (1, 0, 34)
    loaded = database.rows("SELECT stock_date FROM historical_stocks_data WHERE company_name = 'cc.us.csv' ORDER BY 1")
    assert [day for (day,) in loaded] == [row.partition(",")[0] for row in rows]


@both_ways
def test_shrunk_file_is_held_back_and_its_company_keeps_its_rows(
    three: Files, database: Database, days: Days, move: Move
) -> None:
    move(three, database)
    before, ledger = database.places(), database.ledger()
    three.put("cc.us.csv", days(3, price=30))
    receipt = move(three, database)
    assert (*_counts(receipt), receipt.rows.held) == (0, 0, 15, 3)
    [held] = receipt.held
    assert vars(held) == {
        "company_name": "cc.us.csv",
        "rows": 3,
        "last_day": "2001-01-03",
        "loaded_rows": 20,
        "loaded_last_day": "2001-01-20",
    }
    assert (database.places(), database.ledger()) == (before, ledger)
    text = etl.receipt_text(receipt)
    assert "18 accepted = 0 inserted + 15 unchanged + 3 held back" in text
    assert "cc.us.csv: 3 rows up to 2001-01-03 in the file, 20 rows up to 2001-01-20 loaded" in text
    assert "--accept-shrunk cc.us.csv" in text
    assert not [note for note in receipt.notes if "Same content" in note]


@pytest.mark.parametrize("names", [("cc.us.csv",), ("all",), ("bb.us.csv", "cc.us.csv"), ("cc.us.csv.gz",)])
def test_shrunk_file_takes_its_rows_out_of_the_table_with_consent(
    three: Files, database: Database, days: Days, names: tuple[str, ...]
) -> None:
    three.load(database)
    three.put("cc.us.csv", days(3, price=30))
    receipt = three.load(database, accept_shrunk=names)
    assert _counts(receipt) == (0, 17, 18)
    assert database.companies() == {"aa.us.csv": 5, "bb.us.csv": 10, "cc.us.csv": 3}


def _shuffled(rows: list[str]) -> list[str]:
    return [*rows[1::3], *rows[::3], *rows[2::3]]


ORDERS: dict[str, Callable[[list[str]], list[str]]] = {
    "oldest first": list,
    "newest first": lambda rows: rows[::-1],
    "no order": _shuffled,
}


@pytest.mark.parametrize("then", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize("first", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize(("without", "is_held"), [({3}, False), ({3, 9}, False), ({3, 9, 12}, True), ({19}, True)])
def test_file_that_lacks_its_last_day_or_over_a_tenth_of_its_days_is_held_back(
    three: Files,
    database: Database,
    days: Days,
    without: set[int],
    is_held: bool,
    first: Callable[[list[str]], list[str]],
    then: Callable[[list[str]], list[str]],
) -> None:
    three.put("cc.us.csv", first(days(20, price=30)))
    three.load(database)
    three.put("cc.us.csv", then([row for number, row in enumerate(days(20, price=30)) if number not in without]))
    receipt = three.load(database, dry_run=True)
    assert bool(receipt.held) == is_held
    receipt = three.load(database)
    assert bool(receipt.held) == is_held
    assert database.companies()["cc.us.csv"] == (20 if is_held else 20 - len(without))


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_last_day_of_the_ledger_and_the_page_is_the_last_one_wherever_it_is_in_the_file(
    three: Files, database: Database, days: Days, order: Callable[[list[str]], list[str]]
) -> None:
    three.put("cc.us.csv", order(days(20, price=30)))
    receipt = three.load(database)
    last_day = "SELECT last_day FROM loaded_companies WHERE company_name = 'cc.us.csv'"
    assert database.rows(last_day) == [("2001-01-20",)]
    overview = read_overview(database.url, run_id=receipt.run_id, restatements=())
    assert {one.company_name: one.last_day for one in overview.companies}["cc.us.csv"] == "2001-01-20"
    database.execute("UPDATE loaded_companies SET last_day = '2001-01-03' WHERE sha256_by_day IS NOT NULL")
    make_tables(database.url)  # as it does after an update of the code, which once wrote the day of the last row
    assert database.rows(last_day) == [("2001-01-20",)]


def test_new_days_do_not_make_up_for_days_that_a_file_lacks(three: Files, database: Database, days: Days) -> None:
    three.load(database)
    three.put("cc.us.csv", [row for number, row in enumerate(days(22, price=30)) if number not in {3, 9, 12}])
    [held] = three.load(database).held
    assert (held.company_name, held.rows, held.loaded_rows) == ("cc.us.csv", 19, 20)
    assert database.companies()["cc.us.csv"] == 20


@pytest.mark.parametrize("volume", ["volume_traded", "NULL"], ids=["another day", "no row of a load"])
def test_row_of_somebody_else_that_goes_is_no_day_that_the_file_lacks(
    three: Files, database: Database, days: Days, volume: str
) -> None:
    three.load(database)
    prices = "open_value, high_value, low_value, close_value, daily_percent_change, value_change, company_name"
    database.execute(
        f"INSERT INTO historical_stocks_data (stock_date, volume_traded, {prices}) "
        f"SELECT '1999-12-31', {volume}, {prices} "
        "FROM historical_stocks_data WHERE (company_name, stock_date) = ('cc.us.csv', '2001-01-01')"
    )
    three.put("cc.us.csv", [row for number, row in enumerate(days(20, price=30)) if number not in {3, 9}])
    receipt = three.load(database)
    assert (receipt.held, receipt.rows.deleted, receipt.rows.inserted) == ((), 3, 0)
    assert database.companies()["cc.us.csv"] == 18


def test_row_of_somebody_else_does_not_make_up_for_the_last_day_that_a_file_lacks(
    three: Files, database: Database, days: Days
) -> None:
    """Somebody added a day of the past by hand; the vendor adds it too, in a file that was cut off."""
    rows = days(20, price=30)
    three.put("cc.us.csv", rows[1:])
    three.load(database)
    prices = "open_value, high_value, low_value, close_value, daily_percent_change, value_change, company_name"
    database.execute(
        f"INSERT INTO historical_stocks_data (stock_date, volume_traded, {prices}) SELECT '2001-01-01', '1', {prices} "
        "FROM historical_stocks_data WHERE (company_name, stock_date) = ('cc.us.csv', '2001-01-02')"
    )
    three.put("cc.us.csv", rows[:19])
    [held] = three.load(database).held
    assert (held.company_name, held.last_day, held.loaded_last_day) == ("cc.us.csv", "2001-01-19", "2001-01-20")


@pytest.mark.parametrize(("since", "reload"), [(None, True), (date(2001, 1, 1), False)])
def test_neither_reload_nor_since_alone_is_consent_to_a_shrunk_file(
    three: Files, database: Database, days: Days, since: date | None, reload: bool
) -> None:
    three.load(database)
    three.put("cc.us.csv", days(3, price=30))
    receipt = three.load(database, job=three.job(since=since), reload=reload)
    assert [held.company_name for held in receipt.held] == ["cc.us.csv"]
    assert database.companies()["cc.us.csv"] == 20


def test_file_without_a_row_since_the_day_is_held_back(three: Files, database: Database, days: Days) -> None:
    job = three.job(since=date(2001, 1, 4))
    three.load(database, job=job)
    three.put("cc.us.csv", days(3, price=30))
    [held] = three.load(database, job=job).held
    assert (held.company_name, held.rows, held.last_day, held.loaded_rows) == ("cc.us.csv", 0, None, 17)
    assert database.companies()["cc.us.csv"] == 17


def test_company_that_was_corrected_is_held_back_as_any_other_when_it_loses_its_last_day(
    three: Files, database: Database, days: Days
) -> None:
    three.load(database)
    for count in (20, 19):
        three.put("cc.us.csv", days(count, price=31))
        receipt = three.load(database)
    [held] = receipt.held
    assert (held.loaded_rows, held.loaded_last_day, held.last_day) == (20, "2001-01-20", "2001-01-19")


@both_ways
def test_company_that_the_index_no_longer_names_stays(three: Files, database: Database, move: Move) -> None:
    move(three, database)
    before = database.places()
    three.name("bb.us.csv", "aa.us.csv")
    receipt = move(three, database)
    assert _counts(receipt) == (0, 0, 15)
    assert database.places() == before
    assert [entry[0] for entry in database.ledger()] == ["aa.us.csv", "bb.us.csv", "cc.us.csv"]


@both_ways
def test_quarantined_company_keeps_its_earlier_rows(three: Files, database: Database, move: Move) -> None:
    move(three, database)
    before = database.places()
    three.put("bb.us.csv", None)
    receipt = move(three, database)
    assert [(entry.file, entry.reason) for entry in receipt.quarantined] == [("bb.us.csv", "empty: 0 bytes")]
    assert counts(receipt) == (3, 2, 1, 0)
    assert _counts(receipt) == (0, 0, 25)
    assert database.places() == before


@both_ways
def test_company_that_comes_back_from_quarantine_is_loaded_once(
    three: Files, database: Database, days: Days, move: Move
) -> None:
    three.put("bb.us.csv", None)
    move(three, database)
    three.put("bb.us.csv", days(10, price=20))
    assert _counts(move(three, database)) == (10, 0, 25)
    assert database.companies() == {"aa.us.csv": 5, "bb.us.csv": 10, "cc.us.csv": 20}


def test_reload_compares_the_companies_of_the_batch_and_touches_what_differs(three: Files, database: Database) -> None:
    three.load(database)
    before, table = database.places(), database.table()
    three.name("aa.us.csv", "bb.us.csv")
    assert _counts(three.load(database, reload=True)) == (0, 0, 15)
    assert database.places() == before
    change = "UPDATE historical_stocks_data SET open_value = '7' WHERE stock_date = '2001-01-02'"
    database.execute(change)
    receipt = three.load(database, reload=True)
    assert _counts(receipt) == (2, 2, 13)
    assert [row for row in database.table() if row[-1] != "cc.us.csv"] == [
        row for row in table if row[-1] != "cc.us.csv"
    ]


@both_ways
def test_reload_corrects_a_company_that_also_grew_and_forgets_the_note(
    three: Files, database: Database, days: Days, move: Callable[..., etl.Receipt]
) -> None:
    move(three, database)
    database.execute("UPDATE historical_stocks_data SET open_value = '7' WHERE stock_date = '2001-01-02'")
    three.put("cc.us.csv", days(22, price=30))
    move(three, database, reload=True)
    assert _rows(database) == sorted(three.combined.decode().splitlines())
    assert database.rows("SELECT count(*) FROM changes_by_hand") == [(0,)]


def test_dry_run_tells_the_counts_and_leaves_table_and_outputs_alone(
    three: Files, database: Database, days: Days, command: Command
) -> None:
    three.load(database)
    places, ledger, outputs = database.places(), database.ledger(), three.outputs()
    three.put("aa.us.csv", days(7, price=11))
    three.put("bb.us.csv", None)
    three.put("cc.us.csv", days(22, price=30))
    three.put("dd.us.csv", days(4))
    three.name("aa.us.csv", "bb.us.csv", "cc.us.csv", "dd.us.csv")
    places_named = ("--source", three.source, "--index", three.index, "--output", three.output)
    answer = command("run", *places_named, "--database-url", database.url, "--dry-run", "--json")
    assert answer.code == 0
    receipt = etl.Receipt.from_json(answer.out)
    assert receipt.state == "dry_run"
    assert counts(receipt) == (4, 3, 1, 0)
    assert _counts(receipt) == (13, 5, 20)
    assert (database.places(), database.ledger(), database.states()) == (places, ledger, ["success"])
    assert three.outputs() == outputs
    assert len(three.receipts()) == 1
    real = three.load(database)
    assert (_counts(real), counts(real)) == (_counts(receipt), counts(receipt))


def test_history_prints_the_counts_of_each_run_under_their_names(
    three: Files, database: Database, days: Days, command: Command
) -> None:
    three.load(database)
    three.put("bb.us.csv", days(12, price=20))
    receipt = three.load(database)
    header, newest, *_ = command("history", "--database-url", database.url).out.splitlines()
    assert header.split()[2:] == ["state", "seconds", "files", "inserted", "unchanged", "run"]
    assert (newest.split()[2], newest.split()[4:]) == ("success", ["3", "2", "35", receipt.run_id])


def test_receipt_of_a_run_says_how_long_gate_took_and_how_long_the_rest(three: Files, database: Database) -> None:
    receipt = three.load(database)
    assert list(receipt.steps) == ["gate", "process and load"]


def test_run_leaves_no_plan_behind_whether_it_succeeds_or_fails(three: Files, database: Database) -> None:
    three.load(database)
    assert not (three.output / "work").exists()
    with pytest.raises(etl.ServiceError):
        etl.run(three.job(), target=etl.Target("postgresql://127.0.0.1:1/x"), run=etl.Run.begin("test"))
    assert not (three.output / "work").exists()


def test_dry_run_by_command_line_writes_its_receipt_and_nothing_else(
    three: Files, database: Database, command: Command
) -> None:
    places = ("--source", three.source, "--index", three.index, "--output", three.output)
    answer = command("run", *places, "--database-url", database.url, "--dry-run", "--json")
    assert answer.code == 0
    receipt = json.loads(answer.out)
    assert (receipt["state"], receipt["rows"]["inserted"]) == ("dry_run", 35)
    assert (database.count(), database.states()) == (0, [])
    assert three.outputs() == {}


def test_load_as_a_dry_run_looks_at_the_outputs_of_process(three: Files, database: Database, command: Command) -> None:
    process(three.job(), run=etl.Run.begin("test"))
    answer = command("load", "--output", three.output, "--database-url", database.url, "--dry-run", "--json")
    assert (answer.code, answer.err) == (0, "")
    assert json.loads(answer.out)["rows"]["inserted"] == 35
    assert (database.count(), database.states()) == (0, [])


def test_failed_run_into_a_folder_called_dry_run_is_no_dry_run(
    three: Files, database: Database, command: Command
) -> None:
    three.name("aa.us.csv", "gone.us.csv")
    output = three.root / "dry-run"
    places = ("--source", three.source, "--company-index", three.index, "--output", output)
    answer = command("run", *places, "--database-url", database.url, "--json")
    assert answer.code == 1
    assert json.loads(answer.out)["dry_run"] is False
    assert database.rows("SELECT receipt->>'dry_run' FROM pipeline_runs") == [("false",)]
    assert command("run", *places, "--database-url", database.url, "--dry-run").code == 1
    [failed] = (output / "dry-run" / "receipts").glob("*.json")
    assert json.loads(failed.read_text())["dry_run"] is True


def test_failed_dry_run_writes_nothing_to_the_database(three: Files, database: Database, command: Command) -> None:
    three.name("aa.us.csv", "not-there.us.csv")
    places = ("--source", three.source, "--index", three.index, "--output", three.output)
    assert command("run", *places, "--database-url", database.url, "--dry-run").code == 1
    assert database.states() == []


@both_ways
def test_rows_before_since_are_neither_read_nor_loaded(three: Files, database: Database, move: Move) -> None:
    job = three.job(since=date(2001, 1, 4))
    run = etl.Run.begin("test")
    if move is _in_steps:
        process(job, run=run)
        receipt = etl.load(job, target=etl.Target(database.url), run=run)
    else:
        receipt = three.load(database, job=job)
    assert (receipt.rows.read, receipt.rows.rejected, receipt.rows.inserted) == (2 + 7 + 17, 0, 2 + 7 + 17)
    assert database.companies() == {"aa.us.csv": 2, "bb.us.csv": 7, "cc.us.csv": 17}
    assert database.rows("SELECT min(stock_date) FROM historical_stocks_data") == [("2001-01-04",)]
    assert "Only rows dated 2001-01-04 or later were taken; 9 older rows were left out." in receipt.notes


@pytest.mark.parametrize("dry_run", [False, True])
def test_load_since_a_day_that_would_remove_older_rows_is_refused_without_reload(
    three: Files, database: Database, dry_run: bool
) -> None:
    three.load(database)
    before = database.places(), database.ledger()
    job = three.job(since=date(2001, 1, 4))
    with pytest.raises(etl.BatchError, match="9 rows of 3 companies from before 2001-01-04") as caught:
        three.load(database, job=job, dry_run=dry_run)
    assert "Load without since; or with reload" in str(caught.value)
    assert (database.places(), database.ledger()) == before
    receipt = three.load(database, job=job, reload=True)
    assert (receipt.rows.deleted, receipt.rows.inserted, receipt.rows.unchanged) == (9, 0, 26)


def test_load_since_the_same_day_takes_corrected_and_new_rows(three: Files, database: Database, days: Days) -> None:
    job = three.job(since=date(2001, 1, 4))
    three.load(database, job=job)
    three.put("aa.us.csv", days(4, price=11))
    three.put("bb.us.csv", days(12, price=20))
    receipt = three.load(database, job=job, accept_shrunk=("all",))
    assert (receipt.rows.deleted, receipt.rows.inserted) == (2, 1 + 2)


def test_second_attempt_of_a_run_that_was_committed_says_so(three: Files, database: Database) -> None:
    run = etl.Run.begin("test")
    process(three.job(), run=run)
    first, second, third = (etl.load(three.job(), target=etl.Target(database.url), run=run) for _ in range(3))
    assert first.rows.inserted == 35
    for later in (second, third):
        assert (later.rows.inserted, later.rows.unchanged) == (0, 35)
        assert "An earlier attempt of this run was committed: 35 rows inserted, 0 old ones deleted." in later.notes
    other = three.load(database)
    assert f"Same content as run {run.run_id}." in other.notes


def test_second_attempt_of_a_run_that_replaced_rows_says_how_many(three: Files, database: Database, days: Days) -> None:
    three.load(database)
    three.put("cc.us.csv", days(24, price=31))
    run = etl.Run.begin("test")
    process(three.job(), run=run)
    first, second = (etl.load(three.job(), target=etl.Target(database.url), run=run) for _ in range(2))
    assert (first.rows.inserted, first.rows.deleted) == (24, 20)
    assert "An earlier attempt of this run was committed: 24 rows inserted, 20 old ones deleted." in second.notes


def test_since_beyond_the_last_day_stops_the_batch(three: Files, database: Database) -> None:
    three.load(database)
    before = database.places(), three.outputs()
    with pytest.raises(etl.BatchError, match="No row is dated 2031-01-01 or later"):
        three.load(database, job=three.job(since=date(2031, 1, 1)))
    assert (database.places(), three.outputs()) == before


def test_far_fewer_rows_than_last_time_are_said(three: Files, database: Database, days: Days) -> None:
    first = three.load(database)
    three.put("cc.us.csv", days(1, price=30))
    three.put("bb.us.csv", days(1, price=20))
    receipt = three.load(database)
    assert any(note.startswith("Far fewer rows than last time") and first.run_id in note for note in receipt.notes)


def test_batch_without_a_usable_file_leaves_table_and_outputs(three: Files, database: Database) -> None:
    three.load(database)
    before = database.places(), three.outputs(), database.states()
    for name in ("aa.us.csv", "bb.us.csv", "cc.us.csv"):
        (three.source / name).write_text("day;price\n2001-01-01;3\n")
    with pytest.raises(etl.BatchError, match="No company file of the batch is usable"):
        three.load(database)
    assert (database.places(), three.outputs(), database.states()) == before


def test_missing_file_stops_the_batch_before_anything_is_written(three: Files, database: Database) -> None:
    three.name("aa.us.csv", "gone.us.csv")
    with pytest.raises(etl.BatchError, match=r"1 of 2 company files .* \(gone\.us\.csv\)"):
        three.load(database)
    assert database.count() == 0
    assert not (three.output / "historical_stock_data.csv").exists()


def test_receipt_on_disk_in_the_database_and_on_stdout_are_the_same(
    three: Files, database: Database, command: Command
) -> None:
    places = ("--source", three.source, "--index", three.index, "--output", three.output)
    answer = command("run", *places, "--database-url", database.url, "--json", "--quiet")
    assert (answer.code, answer.err) == (0, "")
    printed = json.loads(answer.out)
    assert three.receipts() == {printed["run_id"]: printed}
    assert database.rows("SELECT receipt, run_id, state FROM pipeline_runs") == [
        (printed, printed["run_id"], "success")
    ]
    assert {"started_at", "elapsed_seconds", "files", "rows", "quarantined"} <= printed.keys()


def test_receipt_of_process_alone_leaves_out_what_only_a_load_knows(three: Files, command: Command) -> None:
    answer = command(
        "process", "--source", three.source, "--index", three.index, "--output", three.output, "--json", "--quiet"
    )
    assert json.loads(answer.out)["rows"] == {"read": 35, "accepted": 35, "rejected": 0, "flagged": 0}


def test_row_count_in_the_manifest_that_is_wrong_fails_the_load(three: Files, database: Database, days: Days) -> None:
    three.load(database)
    three.put("bb.us.csv", days(12, price=21))
    process(three.job(), run=etl.Run.begin("test"))
    facts = three.manifest
    facts["slices"][1]["rows"] += 1
    facts["rows_read"] += 1  # so that only PostgreSQL's own count can tell
    three.write_manifest(facts)
    before = database.places(), database.ledger(), database.states()
    with pytest.raises(
        etl.BatchError, match=r"does not balance: rows\.accepted is 38, but inserted \+ unchanged is 37"
    ):
        etl.load(three.job(), target=etl.Target(database.url), run=etl.Run.begin("test"))
    assert (database.places(), database.ledger(), database.states()) == before


@pytest.mark.parametrize("fact", ["listed", "rows_read", "rows_rejected"])
def test_total_in_the_manifest_that_is_wrong_fails_the_load(three: Files, database: Database, fact: str) -> None:
    process(three.job(), run=etl.Run.begin("test"))
    three.write_manifest({**three.manifest, fact: three.manifest[fact] + 1})
    with pytest.raises(etl.BatchError, match="does not balance"):
        etl.load(three.job(), target=etl.Target(database.url), run=etl.Run.begin("test"))
    assert (database.count(), database.ledger(), database.states()) == (0, [], [])


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 7}', "\x00\x01", '{"version": 1, "slices": [3]}'])
def test_manifest_that_is_not_ours_fails_the_load(three: Files, database: Database, content: str) -> None:
    process(three.job(), run=etl.Run.begin("test"))
    (three.output / "manifest.json").write_text(content)
    with pytest.raises(etl.BatchError, match="is not a manifest of this version"):
        etl.load(three.job(), target=etl.Target(database.url), run=etl.Run.begin("test"))
    assert database.count() == 0


@pytest.mark.parametrize("tamper", ["one digit", "cut short", "another line"])
def test_combined_file_that_the_manifest_does_not_describe_fails_the_load(
    three: Files, database: Database, days: Days, tamper: str
) -> None:
    three.load(database)
    three.put("aa.us.csv", days(6, price=12))
    process(three.job(), run=etl.Run.begin("test"))
    combined = three.combined
    changed = {
        "one digit": combined.replace(b"2001-01-02", b"2001-01-03", 1),
        "cut short": combined[:100],
        "another line": b"1999-01-01,1,1,1,1,1,0,0,aa.us.csv\n" + combined,
    }[tamper]
    (three.output / "historical_stock_data.csv").write_bytes(changed)
    before = database.places(), database.ledger(), database.states()
    with pytest.raises(etl.BatchError, match="The combined file is not the one that the manifest describes"):
        etl.load(three.job(), target=etl.Target(database.url), run=etl.Run.begin("test"))
    assert (database.places(), database.ledger(), database.states()) == before


def test_load_before_any_process_says_what_to_run_first(three: Files, database: Database, command: Command) -> None:
    answer = command("load", "--output", three.output, "--database-url", database.url)
    assert answer.code == 2
    assert "Run process first." in answer.err


def test_two_processes_into_one_output_at_once_never_mix_their_files(three: Files, days: Days) -> None:
    three.put("aa.us.csv", days(4000, price=10))
    inner: list[BaseException] = []
    other = three.job(since=date(2002, 1, 1))

    def meanwhile(*, done: int, total: int) -> None:
        if done == 2:
            try:
                process(other, run=etl.Run.begin("second"))
            except etl.EtlError as error:
                inner.append(error)

    try:
        process(three.job(), run=etl.Run.begin("first"), progress=meanwhile)
    except etl.EtlError as error:
        inner.append(error)
    assert len(inner) < 2
    combined = three.combined
    for part in three.manifest["slices"]:
        content = combined[part["offset"] : part["offset"] + part["length"]]
        assert hashlib.sha256(content).hexdigest() == part["sha256"]


def test_receipt_that_cannot_be_written_after_the_commit_says_that_the_load_stands(
    three: Files, database: Database, command: Command
) -> None:
    three.output.mkdir()
    (three.output / "receipts").write_text("a file where the folder should be")
    places = ("--source", three.source, "--index", three.index, "--output", three.output)
    answer = command("run", *places, "--database-url", database.url)
    assert database.count() == 35
    assert "success" in database.states()
    assert answer.code == 0 or "committed" in answer.err
    assert "failed" not in database.states() or "committed" in str(
        database.rows("SELECT receipt ->> 'error' FROM pipeline_runs WHERE state = 'failed'")
    )


@both_ways
def test_company_names_of_other_scripts_and_signs_are_loaded_as_they_are(
    three: Files, database: Database, days: Days, move: Move
) -> None:
    names = ["österreich.us.csv", "株式会社.csv", "brk.a_1-x=y+z&b@c~d^e.csv", "a b.csv"]
    for name in names:
        three.put(name, days(3))
    three.name(*names)
    receipt = move(three, database)
    assert _counts(receipt) == (12, 0, 0)
    assert database.companies() == dict.fromkeys(names, 3)
    assert etl.read_prices(names[1], database=database.url)["company_name"].tolist() == [names[1]] * 3
    assert _counts(move(three, database)) == (0, 0, 12)


ODD = {
    "control character in the header": (
        "Date,Open,High,Low,Close,Volume,Open\x00Int\n2001-01-01,1,1,1,1,5,0\n",
        (3, 3, 0, 0),
    ),
    "volume with an endless exponent": (
        "Date,Open,High,Low,Close,Volume\n2001-01-01,1,1,1,1,0e9999999999999999999\n2001-01-02,1,1,1,1,5\n",
        (3, 3, 0, 0),
    ),
    "price with an endless exponent": (
        "Date,Open,High,Low,Close,Volume\n2001-01-01,1,1,0e99999999999,1,5\n2001-01-02,1,1,1e-99999,1,5\n"
        "2001-01-03,1,1,1,1,5\n",
        (3, 3, 0, 0),
    ),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_file_neither_sinks_the_batch_nor_breaks_the_view(three: Files, database: Database, case: str) -> None:
    content, files = ODD[case]
    (three.source / "bb.us.csv").write_text(content)
    receipt = three.load(database)
    assert counts(receipt) == files
    assert {"aa.us.csv", "bb.us.csv", "cc.us.csv"} == set(database.companies())
    assert len(database.rows("SELECT * FROM stock_prices")) == database.count()
