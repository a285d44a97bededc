"""insert_query.sql as a person runs it in psql, next to a combined file: inserts, updates, changes nothing twice."""

from __future__ import annotations

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import etl
from tests.support.batch_files import process
from tests.support.database import autocommit
from tests.support.paths import ROOT
from tests.support.postgres import postgres_binaries

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.database import Database

SCRIPT = ROOT / "etl" / "table" / "sql" / "insert_query.sql"


def run_script(folder: Path, database: Database) -> subprocess.CompletedProcess[str]:
    line: list[str | Path] = [postgres_binaries() / "psql", "--no-psqlrc", database.url, "-f", SCRIPT]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def changed(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What psql says of the statements that change the table."""
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith(("DELETE", "INSERT"))]


def rows(database: Database) -> list[str]:
    """The table as the combined file would spell it, sorted."""
    with autocommit(database.url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT * FROM historical_stocks_data")
        return sorted(",".join(value or "" for value in row) for row in cursor)


def test_combined_file_is_inserted_and_the_same_again_changes_nothing(sample: Files, database: Database) -> None:
    process(sample.job(), run=etl.Run.begin("file"))
    lines = sample.combined.decode().splitlines()
    assert changed(run_script(sample.output, database)) == ["DELETE 0", f"INSERT 0 {len(lines)}"]
    assert rows(database) == sorted(lines)
    assert changed(run_script(sample.output, database)) == ["DELETE 0", "INSERT 0 0"]


def test_statements_around_the_copy_run_in_a_query_tool_that_knows_no_psql(three: Files, database: Database) -> None:
    process(three.job(), run=etl.Run.begin("file"))
    with autocommit(database.url) as connection, connection.cursor() as cursor:
        for _ in range(2):
            before, after = SCRIPT.read_text().split("\n-- 2. The file")
            cursor.execute(before.replace("\\set ON_ERROR_STOP on\n", ""))
            with (three.output / "historical_stock_data.csv").open("rb") as file:
                cursor.copy_expert("COPY new_stock_prices FROM STDIN (FORMAT csv)", file)  # as pgAdmin imports it
            cursor.execute(after.partition("-- 3.")[2].partition("\n")[2])
    assert rows(database) == sorted(three.combined.decode().splitlines())


def test_corrected_file_replaces_what_differs_and_leaves_other_companies(three: Files, database: Database) -> None:
    process(three.job(), run=etl.Run.begin("file"))
    combined = three.output / "historical_stock_data.csv"
    before = combined.read_text().splitlines()
    run_script(three.output, database)
    day, _, *others = before[0].split(",")
    corrected = [",".join([day, "9.87", *others]), *before[1:-1]]
    last = before[-1].rpartition(",")[2]
    only_others = [line for line in corrected if not line.endswith(f",{last}")]
    combined.write_text("".join(f"{line}\n" for line in only_others))
    assert changed(run_script(three.output, database)) == ["DELETE 1", "INSERT 0 1"]
    assert rows(database) == sorted([*only_others, *(line for line in before if line.endswith(f",{last}"))])
    combined.write_text("".join(f"{line}\n" for line in corrected))
    assert changed(run_script(three.output, database)) == ["DELETE 1", "INSERT 0 0"]
    assert rows(database) == sorted(corrected)


def test_load_after_it_finds_every_row_and_doubles_none(three: Files, database: Database) -> None:
    process(three.job(), run=etl.Run.begin("file"))
    run_script(three.output, database)
    before = rows(database)
    three.load(database)
    assert rows(database) == before


@pytest.mark.parametrize("content", [None, "2026-11-25,1,2\n"], ids=["no file", "too few columns"])
def test_file_that_cannot_be_read_changes_nothing(content: str | None, tmp_path: Path, database: Database) -> None:
    if content:
        (tmp_path / "historical_stock_data.csv").write_text(content)
    done = run_script(tmp_path, database)
    assert (done.returncode, rows(database)) == (3, [])
    assert "DELETE" not in done.stdout


def test_script_waits_for_a_load_that_is_under_way(three: Files, database: Database) -> None:
    process(three.job(), run=etl.Run.begin("file"))
    waiting = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with closing(database.session()) as session, session.cursor() as cursor, ThreadPoolExecutor(1) as pool:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('historical_stocks_data'))")
        script = pool.submit(run_script, three.output, database)
        while not script.done() and not database.rows(waiting):
            time.sleep(0.01)
        assert not script.done()
        session.commit()
        assert changed(script.result(60)) == ["DELETE 0", "INSERT 0 35"]
