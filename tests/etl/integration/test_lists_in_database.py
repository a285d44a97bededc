"""Rejected rows, quarantined files and flags in the database: written with the rows, asked for, replaced and undone."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

import etl
from etl.audit import undo, verify
from etl.batch.policy import Choice, Policy
from etl.outcome.receipt import Run
from tests.support.batch_files import process

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.commands import Command
    from tests.support.database import Database

Days = Callable[..., list[str]]
BAD = "2001-13-01,1,2,1,1,1,0"
REJECTED = "SELECT file, line, column_name, value, reason, raw_line FROM rejected_rows ORDER BY file, line"
FLAGS = "SELECT company_name, stock_date, line, column_name, value FROM flagged_rows ORDER BY 1, 2"


def spoilt(rows: list[str], number: int, *, factor: float = 10) -> list[str]:
    """These rows with one open that has a digit too many."""
    day, opened, *rest = rows[number].split(",")
    return [*rows[:number], ",".join([day, f"{float(opened) * factor:g}", *rest]), *rows[number + 1 :]]


def flag(rows: list[str], number: int, *, name: str = "cc.us.csv") -> tuple[str, str, int, str, str]:
    """The flag that the spoilt row has."""
    day, opened, *_ = spoilt(rows, number)[number].split(",")
    return (name, day, number + 2, "Open", opened)


def respelt(rows: list[str]) -> list[str]:
    """The same numbers, with a digit that says nothing behind those that have a point."""
    return [re.sub(r"(\.\d+)(?=,)", r"\g<1>0", row) for row in rows]


@pytest.fixture
def flagged(three: Files, days: Days) -> Files:
    """The three companies; the third has a flagged row."""
    three.put("cc.us.csv", spoilt(days(20, price=30), 7))
    return three


def agree(database: Database, files: Files) -> list[Any]:
    return list(verify(database.url, output=str(files.output)))


# --- rejected rows and quarantined files -----------------------------------------------------------------------------


def test_rejected_rows_and_quarantined_files_of_all_runs_are_recorded_with_their_rows(
    three: Files, database: Database, days: Days, command: Command
) -> None:
    three.put("aa.us.csv", [*days(5), BAD, '"2001-02-01",=1+1,2,1,1,1,0', "x\ty"])
    three.put("bb.us.csv", None)
    first = three.load(database)
    rows = database.rows(REJECTED)
    assert rows == [
        ("aa.us.csv", 7, "Date", "2001-13-01", "no such day", BAD),
        ("aa.us.csv", 8, "Open", "=1+1", "not a number", '"2001-02-01",=1+1,2,1,1,1,0'),
        ("aa.us.csv", 9, "", "x\ty", "1 fields where the header has 7", "x\ty"),
    ]
    assert database.rows("SELECT run_id, file, reason FROM quarantined_files") == [
        (first.run_id, "bb.us.csv", "empty: 0 bytes")
    ]
    second = three.load(database)  # every file is as it was
    assert database.rows("SELECT run_id, count(*) FROM rejected_rows GROUP BY 1 ORDER BY min(recorded_at)") == [
        (first.run_id, 3), (second.run_id, 3)
    ]  # fmt: skip
    answer = command("rejected", "--database-url", database.url)
    assert answer.out.splitlines()[:3] == [
        f"run {second.run_id}: 3 of 28 rows rejected (10.7143 %), 1 of 3 files quarantined",
        "bb.us.csv: empty: 0 bytes",
        "aa.us.csv:7: Date '2001-13-01': no such day",
    ]
    assert "x?y" in answer.out
    facts = json.loads(command("rejected", first.run_id, "--json", "--database-url", database.url).out)
    assert (facts["run_id"], facts["rows_rejected"], facts["rejected"][0]["raw_line"]) == (first.run_id, 3, BAD)
    nobody = command("rejected", "nobody", "--database-url", database.url)
    assert (nobody.code, "No run 'nobody' is recorded" in nobody.err) == (2, True)


def test_attempt_that_is_repeated_records_its_rows_once(three: Files, database: Database, days: Days) -> None:
    three.put("aa.us.csv", [*days(5), BAD])
    three.put("bb.us.csv", None)
    process(three.job())
    run = Run.begin("test")
    for _ in range(2):
        etl.load(three.job(), target=etl.Target(database.url), run=run)
    assert len(database.rows(REJECTED)) == 1
    assert database.rows("SELECT file FROM quarantined_files") == [("bb.us.csv",)]


def test_what_old_runs_have_rejected_goes_with_the_journal(three: Files, database: Database, days: Days) -> None:
    three.put("aa.us.csv", [*days(5), BAD])
    three.put("bb.us.csv", None)
    three.load(database)
    receipt = three.load(database, journal_days=0)
    assert database.rows("SELECT run_id FROM rejected_rows") == [(receipt.run_id,)]
    assert database.rows("SELECT run_id FROM quarantined_files") == [(receipt.run_id,)]


def test_what_an_old_run_has_rejected_goes_also_where_no_load_is_that_old(
    three: Files, database: Database, days: Days
) -> None:
    three.put("aa.us.csv", [*days(5), BAD])
    three.put("bb.us.csv", None)
    three.load(database)
    for table in ("rejected_rows", "quarantined_files"):  # of a run that failed
        database.execute(f"UPDATE {table} SET run_id = 'failed', recorded_at = recorded_at - interval '31 days'")
    receipt = three.load(database, journal_days=30)
    for table in ("rejected_rows", "quarantined_files"):
        assert database.rows(f"SELECT run_id FROM {table}") == [(receipt.run_id,)]


def test_rejected_rows_after_an_undo_are_those_of_the_last_run_that_read_files(
    three: Files, database: Database, days: Days, command: Command
) -> None:
    three.put("aa.us.csv", [*days(5), BAD])
    run = three.load(database).run_id
    undo(database.url, run=Run.begin("undo"))
    answer = command("rejected", "--database-url", database.url)
    assert answer.out.startswith(f"run {run}: 1 of 36 rows rejected")


def test_hostile_bytes_of_rejected_rows_are_recorded(three: Files, database: Database, days: Days) -> None:
    lines = ["a\0b", "\\.", "\\N", '"', "=cmd|' /C calc'!A0", "\u202e", "'", "é" * 3000, "2001-02-01," + "9" * 9999]
    three.put("aa.us.csv", [*days(5), *lines])
    three.load(database)
    found = [row[5] for row in database.rows(REJECTED)]
    assert found == [line[:500].replace("\0", "\ufffd") for line in lines]


def test_of_a_file_with_very_many_rejected_rows_the_first_are_recorded(
    three: Files, database: Database, days: Days, command: Command
) -> None:
    three.put("aa.us.csv", [*days(5), *["bad"] * 3000])
    receipt = three.load(database)
    assert receipt.rows.rejected == 3000
    assert len(database.rows(REJECTED)) == 1000
    answer = command("rejected", "--database-url", database.url)
    assert f"2,000 more are not recorded; {receipt.output.rstrip('/')}/rejected_rows.csv" in answer.out


def test_load_that_fails_records_nothing_and_a_dry_run_neither(three: Files, database: Database, days: Days) -> None:
    three.put("aa.us.csv", [*spoilt(days(9), 3), BAD])
    three.load(database, dry_run=True)
    assert (database.rows(REJECTED), database.rows(FLAGS), database.count()) == ([], [], 0)


def test_batch_with_too_many_rejected_rows_leaves_the_table_and_is_recorded(
    three: Files, database: Database, days: Days, command: Command
) -> None:
    three.load(database)
    before = database.places()
    three.put("aa.us.csv", [*days(9), BAD])
    places = ("--source", three.source, "--index", three.index, "--output", three.output)
    answer = command("run", *places, "--database-url", database.url, "--max-rejected", "1%", "--quiet", "--json")
    facts = json.loads(answer.out)
    assert (answer.code, facts["state"], facts["rows"]["rejected"], facts["rejected_percent"]) == (1, "failed", 1, 2.5)
    assert database.places() == before
    assert database.states() == ["success", "failed"]
    [(run_id,)] = database.rows("SELECT run_id FROM rejected_rows")
    assert run_id == facts["run_id"]
    again = command("load", "--output", three.output, "--database-url", database.url, "--max-rejected", "0", "--quiet")
    assert again.code == 1
    assert database.places() == before
    consented = command("load", "--output", three.output, "--database-url", database.url, "--json", "--quiet")
    assert json.loads(consented.out)["rows"]["inserted"] == 4


def test_companies_whose_files_are_missing_keep_their_rows(three: Files, database: Database, days: Days) -> None:
    three.load(database)
    before = database.places()
    (three.source / "bb.us.csv").unlink()
    three.put("aa.us.csv", days(6))
    receipt = three.load(database, job=three.job(policy=Policy(allow_missing=Choice("1", "a test"))))
    assert (receipt.missing, receipt.files.missing, receipt.rows.inserted) == (("bb.us.csv",), 1, 1)
    assert database.places()["bb.us.csv"] == before["bb.us.csv"]
    [(facts,)] = database.rows("SELECT receipt FROM pipeline_runs WHERE run_id = %s", receipt.run_id)
    assert facts["policy"]["allow_missing"] == {"value": "1", "set_by": "a test"}
    assert agree(database, three) == []


# --- flags -----------------------------------------------------------------------------------------------------------


def test_flagged_rows_are_listed_recorded_and_left_out_on_request(
    flagged: Files, database: Database, days: Days
) -> None:
    receipt = flagged.load(database)
    expected = flag(days(20, price=30), 7)
    assert database.rows(FLAGS) == [expected]
    assert (flagged.output / "flagged_rows.csv").read_text().splitlines() == [
        "file,line,date,column,value,rule",
        f"cc.us.csv,9,{expected[1]},Open,{expected[4]},likely digit error: about 10 times the rows before and after",
    ]
    assert [vars(one)["value"] for one in receipt.flagged] == [expected[4]]
    assert receipt.rows.flagged == 1
    assert database.count() == 35
    assert database.rows("SELECT count(*) FROM stock_prices_unflagged") == [(34,)]
    everything = etl.read_prices(database=database.url)
    clean = etl.read_prices(database=database.url, flagged=False)
    assert (len(everything), len(clean)) == (35, 34)
    assert expected[1] not in set(clean[clean.company_name == "cc.us.csv"].stock_date.dt.strftime("%Y-%m-%d"))


def test_flagged_value_is_recorded_as_it_was_written(three: Files, database: Database, days: Days) -> None:
    rows = spoilt(days(20, price=30), 7)
    day, opened, rest = rows[7].split(",", 2)
    three.put("cc.us.csv", [*rows[:7], f"{day},+{opened},{rest}", *rows[8:]])
    receipt = three.load(database)
    assert database.rows(FLAGS) == [("cc.us.csv", day, 9, "Open", f"+{opened}")]
    assert [one.value for one in receipt.flagged] == [f"+{opened}"]


def test_flags_of_kept_loads_stay_where_the_loads_before_them_are_forgotten(
    flagged: Files, database: Database, days: Days
) -> None:
    flagged.load(database)
    flagged.load(database)
    database.execute("UPDATE loads SET loaded_at = loaded_at - interval '40 days' WHERE load = 1")
    flagged.put("cc.us.csv", days(20, price=30))
    flagged.load(database, journal_days=30)  # takes the flag back
    as_of = "SELECT count(*) FROM stock_price_flags_as_of((SELECT loaded_at FROM loads WHERE load = %s))"
    assert [database.rows(as_of, load) for load in (2, 3)] == [[(1,)], [(0,)]]


def test_flags_that_were_taken_back_go_with_the_journal(flagged: Files, database: Database, days: Days) -> None:
    flagged.load(database)
    flagged.put("cc.us.csv", days(20, price=30))
    flagged.load(database)
    assert len(database.rows("SELECT * FROM flag_changes")) == 1
    database.execute("UPDATE loads SET loaded_at = loaded_at - interval '40 days'")
    flagged.load(database, journal_days=30)
    assert database.rows("SELECT * FROM flag_changes") == []


def test_reader_sees_flags_and_not_what_was_rejected(flagged: Files, database: Database) -> None:
    flagged.load(database)
    for relation in ("stock_price_flags", "stock_price_flag_changes", "stock_prices_unflagged"):
        database.execute(f"SET ROLE stock_prices_reader; SELECT * FROM {relation}")
    assert database.rows("SET ROLE stock_prices_reader; SELECT count(*) FROM stock_price_flags_as_of(now())") == [(1,)]
    for relation in ("rejected_rows", "quarantined_files", "flagged_rows"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            database.execute(f"SET ROLE stock_prices_reader; SELECT * FROM {relation}")


def test_new_row_that_shows_an_error_flags_the_row_before_it(flagged: Files, database: Database, days: Days) -> None:
    rows = days(21, price=30)
    flagged.put("cc.us.csv", spoilt(rows[:20], 19))
    flagged.load(database)
    day = rows[19].split(",")[0]
    assert [(row[1], row[3]) for row in database.rows(FLAGS)] == [(day, "Open")]  # outside low..high, as yet
    flagged.put("cc.us.csv", spoilt(rows, 19))
    receipt = flagged.load(database)
    assert (receipt.rows.inserted, receipt.rows.deleted) == (1, 0)
    assert database.rows("SELECT rule LIKE 'likely digit%%', load FROM flagged_rows") == [(True, 2)]
    assert agree(database, flagged) == []


def test_restated_company_replaces_its_flags_and_undo_brings_them_back(
    flagged: Files, database: Database, days: Days
) -> None:
    rows = days(20, price=30)
    first = flagged.load(database)
    flagged.put("cc.us.csv", spoilt(rows, 12))
    second = flagged.load(database)
    assert database.rows(FLAGS) == [flag(rows, 12)]
    assert agree(database, flagged) == []
    for run, number in ((first, 7), (second, 12)):
        clean = etl.read_prices("cc.us.csv", database=database.url, as_of=run.run_id, flagged=False)
        everything = etl.read_prices("cc.us.csv", database=database.url, as_of=run.run_id)
        assert set(everything.stock_date) - set(clean.stock_date) == {everything.stock_date[number]}
    undo(database.url, run=Run.begin("undo"))
    assert database.rows(FLAGS) == [flag(rows, 7)]
    assert database.rows("SELECT * FROM flag_changes") == []
    assert list(verify(database.url)) == []
    flagged.load(database)
    assert database.rows(FLAGS) == [flag(rows, 12)]
    undo(database.url, run=Run.begin("undo"), run_id=first.run_id)
    assert (database.rows(FLAGS), database.count()) == ([], 0)


def test_flag_of_a_high_that_an_undo_brings_back_has_its_value(three: Files, database: Database, days: Days) -> None:
    rows = days(20, price=30)
    three.put("cc.us.csv", [*rows[:7], f"{rows[7][:10]},30,29,31,30,1007,0", *rows[8:]])
    three.load(database)
    before = database.rows(FLAGS)
    assert before == [("cc.us.csv", rows[7][:10], 9, "High", "29")]
    three.put("cc.us.csv", rows)
    three.load(database)
    undo(database.url, run=Run.begin("undo"))
    assert database.rows(FLAGS) == before


def test_flag_that_an_undo_brings_back_has_the_spelling_that_its_row_keeps(
    flagged: Files, database: Database, days: Days
) -> None:
    rows = spoilt(days(21, price=30), 7, factor=10.01)
    flagged.put("cc.us.csv", rows[:20])
    flagged.load(database)
    before = database.rows(FLAGS)
    flagged.put("cc.us.csv", respelt(rows))
    flagged.load(database)
    respelled = database.rows(FLAGS)
    undo(database.url, run=Run.begin("undo"))
    assert list(verify(database.url)) == []
    assert database.rows(FLAGS) == respelled != before


def test_company_that_is_held_back_or_missing_or_quarantined_keeps_its_flags(
    flagged: Files, database: Database, days: Days
) -> None:
    rows = days(20, price=30)
    flagged.load(database)
    flagged.put("cc.us.csv", spoilt(rows[:10], 4))
    assert [one.company_name for one in flagged.load(database).held] == ["cc.us.csv"]
    assert database.rows(FLAGS) == [flag(rows, 7)]
    flagged.put("cc.us.csv", None)
    flagged.load(database)
    assert database.rows(FLAGS) == [flag(rows, 7)]
    (flagged.source / "cc.us.csv").unlink()
    flagged.load(database, job=flagged.job(policy=Policy(allow_missing=Choice("1", "a test"))))
    assert database.rows(FLAGS) == [flag(rows, 7)]
    assert list(verify(database.url)) == []


def test_flags_of_a_table_that_was_emptied_are_gone(flagged: Files, database: Database) -> None:
    flagged.load(database)
    database.execute("TRUNCATE historical_stocks_data; DELETE FROM loaded_companies")
    flagged.name("aa.us.csv")
    flagged.load(database)
    assert database.rows(FLAGS) == []
    assert list(verify(database.url)) == []


def test_flags_follow_the_file_also_where_its_rows_are_known(flagged: Files, database: Database, days: Days) -> None:
    flagged.load(database)
    database.execute("DELETE FROM flagged_rows")  # as in a database that another version has loaded
    flagged.load(database)
    assert database.rows(FLAGS) == [flag(days(20, price=30), 7)]


def test_verify_names_flags_that_do_not_fit(flagged: Files, database: Database) -> None:
    flagged.load(database)
    database.execute("UPDATE flagged_rows SET value = '1'")
    [found] = agree(database, flagged)
    assert (found.place, found.name) == ("flagged rows", "cc.us.csv")
    assert "1 of its flags are of rows that the table does not have" in found.detail
    database.execute("DELETE FROM flagged_rows")
    [found] = agree(database, flagged)
    assert found.detail == "0 are recorded, 1 are in its slice"


def test_flags_since_a_day_are_those_of_the_rows_that_are_loaded(
    flagged: Files, database: Database, days: Days
) -> None:
    rows = days(20, price=30)
    job = flagged.job(since=date.fromisoformat(rows[6][:10]))
    flagged.load(database, job=job)
    assert database.rows(FLAGS) == [flag(rows, 7)]


def test_random_days_leave_the_flags_of_a_database_that_is_loaded_at_once(
    three: Files, database: Database, empty_database: Database, days: Days
) -> None:
    chance = random.Random(20171110)
    etl.make_tables(empty_database.url)
    names = ("aa.us.csv", "bb.us.csv", "cc.us.csv")
    length = 20
    for number in range(12):
        length += chance.randint(0, 2)
        for name in chance.sample(names, chance.randint(1, 3)):
            rows = days(length, price=30)
            for _ in range(chance.randint(0, 3)):
                rows = spoilt(rows, chance.randrange(length), factor=chance.choice([10, 100, 0.1]))
            rows = respelt(rows) if chance.random() < 0.5 else rows
            three.put(name, [*rows, BAD] if chance.random() < 0.3 else rows)
        if chance.random() < 0.3 and number:
            undo(database.url, run=Run.begin("undo"))
            assert list(verify(database.url)) == []
        three.load(database, job=three.job(output=f"{three.output}-1"))
        empty_database.execute("TRUNCATE historical_stocks_data, loaded_companies")
        three.load(empty_database, job=three.job(output=f"{three.output}-2", reread=True))
        assert database.rows(FLAGS) == empty_database.rows(FLAGS)
    assert database.rows(FLAGS)


def test_loader_of_an_older_version_may_write_the_new_tables(database: Database) -> None:
    role = "a_loader_of_0_1"
    database.execute(f"DO $$ BEGIN CREATE ROLE {role}; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    database.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON loaded_companies TO {role}")
    database.execute("DROP TABLE rejected_rows, quarantined_files, flagged_rows, flag_changes CASCADE")
    etl.make_tables(database.url)
    tables = ["rejected_rows", "quarantined_files", "flagged_rows", "flag_changes"]
    rights = "SELECT has_table_privilege(%s, name, 'INSERT') FROM unnest(%s) AS name"
    assert database.rows(rights, role, tables) == [(True,)] * 4
    database.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
