"""A database and outputs that version 0.1.0 left: this version goes on from them, and takes the options of then."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

import etl
from etl.batch.storage import open_storage
from etl.outcome.receipt import read_receipt
from tests.support.paths import VERSION_0_1
from trigger import watchdog

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.commands import Command
    from tests.support.database import Database

RECEIPTS = sorted(path.stem for path in (VERSION_0_1 / "Output" / "receipts").iterdir())
STATES = ["success", "success", "failed", "success"]  # of pipeline_runs; a run that was killed has no row there


@pytest.fixture
def old(make_files: Callable[[str], Files]) -> Files:
    """A copy of the batch and its outputs."""
    files = make_files("old")
    shutil.copytree(VERSION_0_1, files.root, dirs_exist_ok=True)
    return files


@pytest.fixture
def restored(empty_database: Database) -> Database:
    """The database as version 0.1.0 left it, after this version's init-db, and once more."""
    role = "CREATE ROLE stock_prices_reader"  # of the server, so it is not in the dump of a database
    empty_database.execute(f"DO $$ BEGIN {role}; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    dump = (VERSION_0_1 / "database.sql").read_text()
    empty_database.execute(dump.replace("SET transaction_timeout = 0;\n", ""))  # which servers have from 17 on
    etl.make_tables(empty_database.url)
    etl.make_tables(empty_database.url)
    return empty_database


@pytest.fixture
def run(old: Files, restored: Database, command: Command) -> Callable[..., dict[str, Any]]:
    """`python -m etl run` on the batch; gives its receipt."""

    def call(*options: str) -> dict[str, Any]:
        places = ("--source", old.source, "--index", old.index, "--output", old.output, "--database-url", restored.url)
        answer = command("run", *places, "--quiet", "--json", *options)
        assert answer.code == 0, answer.err
        receipt: dict[str, Any] = json.loads(answer.out)
        return receipt

    return call


def numbers(rows: list[tuple[str | None, ...]]) -> list[tuple[Any, ...]]:
    """Rows with their derived columns as numbers: version 0.1.0 wrote -4 where it is now -4.0."""
    return [(*row[:6], *(value and float(value) for value in row[6:8]), row[8]) for row in rows]


def rows_of(combined: bytes) -> dict[str, list[str]]:
    """Lines of a combined file by company."""
    rows: dict[str, list[str]] = {}
    for line in combined.decode().splitlines():
        rows.setdefault(line.rpartition(",")[2], []).append(line)
    return rows


def test_batch_that_version_0_1_loaded_is_loaded_again_only_where_a_number_is_spelled_anew(
    old: Files, restored: Database, run: Callable[..., dict[str, Any]]
) -> None:
    table, places, before = restored.table(), restored.places(), rows_of(old.combined)
    first = run()["rows"]
    after = rows_of(old.combined)
    respelled = {name for name, rows in after.items() if rows != before[name]}
    spelled_anew = sum(len(set(after[name]) - set(before[name])) for name in respelled)
    assert first["inserted"] == first["deleted"] == spelled_anew > 0
    assert restored.rows("SELECT count(*) FROM price_changes") == [(0,)]
    assert numbers(restored.table()) == numbers(table)
    assert {name for name, place in restored.places().items() if place != places[name]} == respelled
    assert "ge.us.csv" not in respelled, "which is quarantined"
    again = run()
    assert (again["rows"]["inserted"], again["rows"]["deleted"], again["rows"]["unchanged"]) == (0, 0, 167)
    assert restored.states() == [*STATES, "success", "success"]


def test_past_before_this_version_is_refused_and_later_it_is_known(
    old: Files, restored: Database, run: Callable[..., dict[str, Any]]
) -> None:
    [(upgraded,)] = restored.rows("SELECT loaded_at FROM loads")
    days = restored.rows("SELECT company_name, last_day FROM loaded_companies ORDER BY 1")
    last = "SELECT company_name, max(stock_date) FROM historical_stocks_data GROUP BY 1 ORDER BY 1"
    assert days == restored.rows(last)
    with pytest.raises(etl.SettingsError, match="the journal begins at"):
        etl.read_prices(database=restored.url, as_of=upgraded - timedelta(days=1))
    before = len(restored.table())
    with (old.source / "acrs.us.csv").open("a") as file:
        file.write("2016-03-02,50,51.5,49.25,51,1000,0\n")
    run()
    assert len(etl.read_prices(database=restored.url, as_of=upgraded)) == before == len(restored.table()) - 1


def test_file_that_has_grown_since_version_0_1_adds_its_new_rows_alone(
    old: Files, restored: Database, run: Callable[..., dict[str, Any]]
) -> None:
    before = restored.places()
    with (old.source / "acrs.us.csv").open("a") as file:  # none of its rows is spelled in another way now
        file.write("2016-03-02,50,51.5,49.25,51,1000,0\n2016-03-03,51,52,50,50.5,2000,0\n")
    run()
    after = restored.places()
    assert after["acrs.us.csv"] > before["acrs.us.csv"]
    assert len(after["acrs.us.csv"]) == 40


def test_company_that_was_corrected_since_version_0_1_holds_the_corrected_rows(
    old: Files, restored: Database, run: Callable[..., dict[str, Any]]
) -> None:
    path = old.source / "mnga.us.csv"
    lines = path.read_text().splitlines(keepends=True)
    del lines[5]
    path.write_text("".join(lines))
    run()
    assert restored.companies() == {
        "acrs.us.csv": 38, "chd.us.csv": 40, "ge.us.csv": 40, "juno.us.csv": 46, "mnga.us.csv": 42
    }  # fmt: skip
    in_batch = [row for row in restored.table() if row[-1] != "ge.us.csv"]  # which is quarantined
    assert sorted(in_batch) == sorted(tuple(line.split(",")) for line in old.combined.decode().splitlines())


def test_outputs_of_version_0_1_are_loaded(old: Files, restored: Database, command: Command) -> None:
    before = restored.table()
    restored.execute("TRUNCATE historical_stocks_data, loaded_companies")
    answer = command("load", "--output", old.output, "--database-url", restored.url, "--quiet", "--no-index", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["rows"]["inserted"] == 167
    assert restored.table() == [row for row in before if row[-1] != "ge.us.csv"]


def test_what_a_killed_run_of_version_0_1_left_is_removed_by_the_next_run(
    old: Files, restored: Database, run: Callable[..., dict[str, Any]]
) -> None:
    left = [old.output / "receipts" / "killed.json.partial", old.output / "notices" / "killed.json.partial"]
    for path in left:
        path.write_bytes(b"{")
    assert (old.output / "parts").is_dir()
    receipts = set(old.receipts())
    run_id = run()["run_id"]
    assert [path for path in (*left, old.output / "parts", old.output / "work") if path.exists()] == []
    assert set(old.receipts()) == {*receipts, run_id}
    assert (old.output / "notices" / "s3__0123456789abcdef.json").is_file()


def test_history_shows_the_runs_of_version_0_1(restored: Database, command: Command) -> None:
    answer = command("history", "--database-url", restored.url)
    assert answer.code == 0
    shown = [line.split() for line in answer.out.splitlines() if line.startswith("2026-")]
    assert [line[2] for line in shown] == STATES[::-1]
    assert shown[0][-1] == "s3__fedcba9876543210"
    assert "gone.us.csv" in answer.out
    as_json = command("history", "--database-url", restored.url, "--json")
    assert [receipt["state"] for receipt in json.loads(as_json.out)] == STATES[::-1]


@pytest.mark.parametrize("run_id", RECEIPTS)
def test_receipt_of_version_0_1_is_read_by_etl_and_by_the_watchdog(old: Files, run_id: str) -> None:
    receipt = read_receipt(run_id, output=open_storage(str(old.output)))
    facts = json.loads((old.output / "receipts" / f"{run_id}.json").read_bytes())
    assert receipt is not None
    assert (receipt.run_id, receipt.state, receipt.mail) == (run_id, facts["state"], facts["mail"])
    assert facts["error"] is None or facts["error"] in etl.receipt_text(receipt)
    again = json.loads(receipt.to_json())
    for key, fact in facts.items():
        assert (again[key] | fact if isinstance(fact, dict) else fact) == again[key]
    assert watchdog.has_mail(facts) is (facts["mail"] is not None)


def test_nobody_may_call_what_runs_with_the_owners_rights(restored: Database) -> None:
    who = "SELECT proname, has_function_privilege('stock_prices_reader', oid, 'EXECUTE') FROM pg_proc WHERE prosecdef"
    assert restored.rows(who) == [("note_change_by_hand", False)]


def test_options_of_version_0_1_are_taken(
    old: Files, restored: Database, run: Callable[..., dict[str, Any]], command: Command
) -> None:
    assert run("--no-index", "--since", "1900-01-01")["rows"]["accepted"] == 167
    answer = command("check", "--source", old.source, "--index", old.index, "--database-url", restored.url)
    assert answer.code == 0, answer.out
