"""Run after run in one process and one table: nothing grows, neither in the process nor in what it leaves behind."""

from __future__ import annotations

import gc
import os
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.aws_places import Bucket
    from tests.support.batch_files import Files
    from tests.support.commands import Command
    from tests.support.database import Database
    from tests.support.figures import Figures

RUNS = int(os.environ.get("MBD_FAULT_RUNS", "100"))
GROWTH_MEBIBYTES = 12  # over the last two thirds of the runs


def memory() -> float:
    """Of this process, in MiB, resident now."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.usefixtures("aws_environment")
def test_hundred_runs_in_a_row_grow_nothing(
    three: Files,
    bucket: Bucket,
    database: Database,
    command: Command,
    days: Callable[..., list[str]],
    tmp_path: Path,
    figures: Figures,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    bucket.upload(three)
    job = bucket.job()
    places = (
        "--source",
        job.source,
        "--index",
        job.company_index,
        "--output",
        job.output,
        "--database-url",
        database.url,
    )
    before: tuple[float, int, int] = (0, 0, 0)
    for number in range(RUNS):
        three.put("cc.us.csv", days(20, price=30 + number % 50))
        bucket.put("Stocks/cc.us.csv", (three.source / "cc.us.csv").read_bytes())
        answer = command("run", *places, "--quiet", "--json")
        assert answer.code == 0, answer.err
        if number == RUNS // 3:
            before = memory(), descriptors(), threading.active_count()
    grown = memory() - before[0]
    assert grown < GROWTH_MEBIBYTES, f"{grown:.1f} MiB"
    # A pool of boto3 is closed when Python comes to it; two runs' are what may be open meanwhile.
    assert descriptors() <= before[1] + 8
    assert threading.active_count() <= before[2] + 1
    assert database.rows("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'moving-big-data'") == [(0,)]
    assert list(temporary.iterdir()) == []
    assert bucket.unfinished_uploads() == []
    receipts = bucket.s3.list_objects_v2(Bucket=bucket.name, Prefix="Output/receipts/")["Contents"]
    assert len(receipts) == RUNS
    others = {key.removeprefix("Output/") for key in bucket.keys("Output/") - {entry["Key"] for entry in receipts}}
    reports = {key for key in others if key.startswith("reports/")}
    assert len(reports) == RUNS + 2  # the latest, and what the calendar counted
    lists = {"rejected_rows.csv", "rejected_rows.jsonl", "flagged_rows.csv"}
    assert others - reports == {"historical_stock_data.csv", "manifest.json", *lists}
    assert database.count() == 35
    assert database.states() == ["success"] * RUNS
    figures.counts["runs_in_a_row"] += RUNS
    figures.measured["mebibytes_grown_in_the_last_two_thirds"] = round(grown, 1)


def test_table_that_is_changed_over_and_over_stays_within_what_vacuum_frees(
    sample: Files, database: Database, figures: Figures
) -> None:
    batches = 30
    sample.load(database)
    size = "SELECT pg_total_relation_size('historical_stocks_data')"
    ((first,),) = database.rows(size)
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    contents = {path: path.read_bytes() for path in sample.source.iterdir()}
    largest = 0
    for number in range(batches):
        for path, content in contents.items():
            path.write_bytes(re.sub(rb",(\d+),0(?=\r?$)", b",\\g<1>%d,0" % (number % 3), content, flags=re.MULTILINE))
        sample.load(database)
        # A snapshot of before, such as of autovacuum's ANALYZE, would keep VACUUM from the rows that this load deleted.
        while database.rows(f"SELECT 1 FROM pg_stat_activity WHERE {others} AND backend_xmin IS NOT NULL"):
            time.sleep(0.1)
        database.execute("VACUUM historical_stocks_data")  # as autovacuum does a minute after
        largest = max(largest, database.rows(size)[0][0])
    ((dead,),) = database.rows("SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'historical_stocks_data'")
    assert dead < 10_000
    # The old rows stay until the new ones are committed, so twice the table is what a changed batch needs.
    assert largest < 2.6 * first, f"{largest / first:.2f} times the first load"
    figures.check_truth(sample, database)
    figures.measured["table_size_after_30_changed_batches_to_the_first"] = round(largest / first, 2)
