"""Counts what the long suite has done, and makes the table of docs/guarantees.md that says it.

MBD_FIGURES=tests/data/figures.json make test-faults
python -m tests.support.docs --write         # writes the table of that file into the page
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.support.paths import ROOT

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.database import Database

FILE = ROOT / "tests" / "data" / "figures.json"
STASH = pytest.StashKey["Figures"]()
ROWS = {  # what the page says, by what the suite calls it
    "faults_injected": "faults put between the pipeline and PostgreSQL, S3, SNS and the disk",
    "rows_checked": "rows checked after them, one by one",
    "rows_lost": "of these: lost",
    "rows_doubled": "of these: doubled",
    "commands_killed": "kills (SIGKILL) of `run`, `process` and `load` at random moments of their work",
    "conclusions_killed": "kills of the process that sends the mail, at random moments",
    "tasks_killed": "kills of the tasks gate, process and load of a real Airflow, at random moments",
    "servers_killed": "kills of PostgreSQL in the middle of a COPY",
    "terminations": "commands that got SIGTERM at random moments",
    "events_at_once": "events at once before a real Airflow, each marker's twice",
    "runs_in_a_row": "runs in a row",
    "random_runs": "runs of random batches, after each of which table, past and journal were as pandas says",
    "planted_changes_found": "changes planted behind the pipeline's back, each of them found by `mbd verify`",
    "tests_failed": "tests of the suite that failed",
}


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
    """The table of the page, of the figures of one run."""
    rows = "\n".join(f"| {what} | {facts[name]:,} |" for name, what in ROWS.items() if name in facts)
    return f"\nOf {facts['day']}, with `MBD_KILLS={facts['MBD_KILLS']}`.\n\n| what | figure |\n|---|---|\n{rows}\n\n"
