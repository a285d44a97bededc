"""Batches that are larger than any that is planned for: memory stays flat, or what is too large is refused unread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.batch_files import Files
    from tests.support.database import Database
    from tests.support.figures import Figures

MANY = int(os.environ.get("MBD_FAULT_FILES", "10000"))
MORE_MEBIBYTES = 40  # for ten times the files: their names, slices and ledger entries, some kB each
# A process inherits the peak of the one that it is started from, so a small one stands between this and the measured.
MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


def measured(files: Files, database: Database) -> tuple[dict[str, Any], float, float]:
    """A whole run: its receipt, the most memory that it held in MiB, and its seconds."""
    begun = time.monotonic()
    places = ["--source", str(files.source), "--index", str(files.index), "--output", str(files.output)]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, sys.executable, "-m", "etl", "run", *places, "--json", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MBD_DATABASE_URL": database.url},
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), int(done.stderr.split()[-1]) / 1024, time.monotonic() - begun


def test_ten_times_the_files_take_hardly_more_memory_and_every_row_is_there(
    make_files: Callable[[str], Files], database: Database, days: Callable[..., list[str]], figures: Figures
) -> None:
    peaks = {}
    for number in (MANY // 10, MANY):
        files = make_files(f"many{number}")
        names = [f"c{count:06}.us.csv" for count in range(number)]
        for count, name in enumerate(names):
            files.put(name, days(20, price=5 + count % 900))
        files.name(*names)
        database.execute("TRUNCATE historical_stocks_data, loaded_companies, pipeline_runs")
        receipt, peaks[number], seconds = measured(files, database)
        assert receipt["files"]["accepted"] == number
        assert receipt["rows"]["inserted"] == database.count() == 20 * number
        figures.measured[f"seconds_for_{number}_files"] = round(seconds, 1)
        figures.measured[f"peak_mebibytes_for_{number}_files"] = round(peaks[number], 1)
    figures.check_truth(files, database)
    assert peaks[MANY] < peaks[MANY // 10] + MORE_MEBIBYTES, peaks


@pytest.mark.parametrize("gibibytes", [5])
def test_company_file_of_several_gb_is_refused_unread_and_the_rest_is_loaded(
    three: Files, database: Database, figures: Figures, gibibytes: int
) -> None:
    _, usual, _ = measured(three, database)
    with (three.source / "bb.us.csv").open("ab") as file:
        file.truncate(gibibytes << 30)  # sparse: it takes no room, but reading it would take minutes and memory
    receipt, peak, seconds = measured(three, database)
    (refused,) = receipt["quarantined"]
    assert refused["file"] == "bb.us.csv"
    assert "too large: 5,368,709,120 bytes, over the limit of 16,777,216" in refused["reason"]
    assert (receipt["files"]["accepted"], receipt["files"]["quarantined"]) == (2, 1)
    assert database.count() == 35, "what was loaded of it before is kept"
    assert peak < usual + 30, (peak, usual)
    assert seconds < 20
    figures.measured["peak_mebibytes_with_a_file_of_5_gib"] = round(peak, 1)
