"""`python -m etl run`, `process` and `load` killed at random moments: the next run gives the same table and file."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.paths import ROOT, SAMPLE

if TYPE_CHECKING:
    from tests.support.database import Database
    from tests.support.figures import Figures

KILLS = int(os.environ.get("MBD_KILLS", "3"))  # of each command; CI has more


def _start(command: str, output: Path, database: Database) -> subprocess.Popen[bytes]:
    source = ["--source", str(SAMPLE / "Stocks"), "--index", str(SAMPLE / "CompanyNames" / "top_companies.txt")]
    options = [*([] if command == "load" else source), "--output", str(output), "--quiet"]
    return subprocess.Popen(
        [sys.executable, "-m", "etl", command, *options],
        stdout=subprocess.DEVNULL,
        env={**os.environ, "MBD_DATABASE_URL": database.url},
        cwd=ROOT,
    )


def _finish(command: str, output: Path, database: Database) -> float:
    """Run it to its end; returns how long that took."""
    begun = time.monotonic()
    assert _start(command, output, database).wait(60) == 0
    return time.monotonic() - begun


def _table(database: Database) -> str:
    rows = database.rows("SELECT count(*), sum(hashtextextended(t::text, 0)) FROM historical_stocks_data t")
    return str(rows)


def _combined(output: Path) -> str:
    return hashlib.sha256((output / "historical_stock_data.csv").read_bytes()).hexdigest()


@pytest.mark.parametrize("command", ["run", "process", "load"])
def test_run_after_a_kill_at_any_moment_gives_the_same_table_and_file(
    tmp_path: Path,
    database: Database,
    figures: Figures,
    command: str,
) -> None:
    whole, output = tmp_path / "whole", tmp_path / "Output"
    _finish("run", whole, database)
    table, combined = _table(database), _combined(whole)
    moments, killed, takes = random.Random(20171110), 0, 0.0
    for number in range(KILLS + 1):
        database.execute("TRUNCATE historical_stocks_data, loaded_companies, pipeline_runs")
        if command == "load":
            _finish("process", output, database)
        if not number:  # the first is left alone, to see how long this command takes
            takes = _finish(command, output, database)
            continue
        child = _start(command, output, database)
        time.sleep(moments.uniform(0.2, 0.9) * takes)
        child.send_signal(signal.SIGKILL)
        killed += child.wait() == -signal.SIGKILL  # else it had ended before
        assert _table(database) in {table, "[(0, None)]"}, "half a batch is visible"
        _finish("run", output, database)
        assert (_table(database), _combined(output)) == (table, combined)
        assert [path.name for path in output.rglob("*.partial")] == []
    assert killed >= KILLS / 2
    figures.counts["commands_killed"] += killed
