"""A batch of 10,000 company files: memory is that of the files in flight, not of the batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT

ROWS = "".join(f"2020-{month:02}-{day:02},10,12,9,11,1000\n" for month in range(1, 13) for day in range(1, 5))
CONTENT = b"Date,Open,High,Low,Close,Volume\n" + ROWS.encode()
MOST_GROWTH_MB = 45  # measured: 22; what is kept of each file is its slice in the manifest


def process(count: int, root: Path) -> tuple[int, dict[str, int]]:
    """Peak memory in MB of `python -m etl process` on so many files, and the receipt's counts of rows."""
    source = root / "Stocks"
    source.mkdir(parents=True)
    names = [f"{number:05}.us.csv" for number in range(count)]
    for name in names:
        (source / name).write_bytes(CONTENT)
    (root / "index.txt").write_text(", ".join(f"'{name}'" for name in names))
    places = ["--source", str(source), "--index", str(root / "index.txt"), "--output", str(root / "Output")]
    command = [sys.executable, "-m", "etl", "process", *places, "--json", "--quiet"]
    with (root / "told.json").open("wb") as told, subprocess.Popen(command, cwd=ROOT, stdout=told) as child:
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0
    return usage.ru_maxrss // 1024, json.loads((root / "told.json").read_bytes())["rows"]


def test_memory_does_not_grow_with_the_number_of_files(tmp_path: Path) -> None:
    few, _ = process(1_000, tmp_path / "few")
    many, rows = process(10_000, tmp_path / "many")
    assert rows == {"read": 480_000, "accepted": 480_000, "rejected": 0, "flagged": 0}
    assert many - few < MOST_GROWTH_MB, f"{few} MB for 1,000 files, {many} MB for 10,000"
