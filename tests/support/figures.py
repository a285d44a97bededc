"""Figures: what the long suite has done goes in; the block of docs/guarantees.md that tells it comes out.

MBD_FIGURES=tests/data/figures.json make test-faults
python -m tests.support.figures              # writes the block of that file into the page
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.paths import ROOT

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.database import Database

PAGE = ROOT / "docs" / "guarantees.md"
FILE = ROOT / "tests" / "data" / "figures.json"
STASH = pytest.StashKey["Figures"]()
ROWS = {  # what the page tells, by what the suite calls it
    "faults_injected": "faults put between the pipeline and PostgreSQL, S3, SNS and the disk",
    "rows_checked": "rows checked after them, one by one",
    "rows_lost": "of these: lost",
    "rows_doubled": "of these: doubled",
    "commands_killed": "kills (SIGKILL) of `run`, `process` and `load` at random moments of their work",
    "conclusions_killed": "kills of the process that sends the mail, at random moments",
    "tasks_killed": "kills of the tasks gate, process and load of a real Airflow, at random moments",
    "servers_killed": "kills of PostgreSQL in the middle of a COPY",
    "terminations": "commands told to end (SIGTERM) at random moments",
    "events_at_once": "events at once before a real Airflow, each marker's twice",
    "runs_in_a_row": "runs in a row",
    "tests_failed": "tests of the suite that failed",
}
_BEGIN, _END = "<!-- figures -->", "<!-- end of figures -->"


@dataclass
class Figures:
    """What the suite has done so far, and whether a row was lost or doubled by it."""

    counts: Counter[str] = field(default_factory=Counter)
    measured: dict[str, float] = field(default_factory=dict)

    def check_truth(self, files: Files, database: Database) -> None:
        """The table is the combined file, row by row and no row twice, and the ledger says the same."""
        expected = Counter(
            tuple(cell or None for cell in line.split(",")) for line in files.combined.decode().splitlines()
        )
        found = Counter(database.table())
        self.counts["rows_checked"] += expected.total()
        self.counts["rows_lost"] += (expected - found).total()
        self.counts["rows_doubled"] += (found - expected).total()
        assert found == expected
        check_ledger(database)


def check_ledger(database: Database) -> None:
    """The ledger knows each company of the table with as many rows as are there."""
    assert {name: rows for name, _, _, rows, _, _ in database.ledger()} == database.companies()


def block(facts: Mapping[str, int | float | str]) -> str:
    """The marked part of the page, of the figures of one run."""
    rows = "\n".join(f"| {what} | {facts.get(name, 0):,} |" for name, what in ROWS.items())
    return (
        f"{_BEGIN}\n\nOf {facts['day']}, with `MBD_KILLS={facts['MBD_KILLS']}`; "
        f"written by `python -m tests.support.figures`.\n\n| what | figure |\n|---|---|\n{rows}\n\n{_END}"
    )


def block_of_page(page: str) -> str:
    """The marked part as it stands on the page."""
    found = re.findall(f"{_BEGIN}.*?{_END}", page, re.DOTALL)
    assert len(found) == 1, "the page has one pair of marks"
    return str(found[0])


def main(file: Path = FILE) -> None:
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(page.replace(block_of_page(page), block(json.loads(file.read_text()))), encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
