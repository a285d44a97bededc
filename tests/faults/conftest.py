"""The long suite of `make test-faults`: faults put in by the hundred; the figures of a run are its last line."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.conftest import (  # noqa: F401  fixtures of this folder too
    _quiet_environment,
    aws,
    aws_environment,
    bucket,
    clients,
    command,
    database,
    days,
    hurried,
    make_files,
    moto_server,
    new_session,
    postgres_server,
    sample,
    stack_directory,
    three,
    topic,
)

if TYPE_CHECKING:
    from tests.integration.conftest import Database, Files

HERE = Path(__file__).parent
_FIGURES = pytest.StashKey["Figures"]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips this folder, and no other, where the long suite is not asked for."""
    if os.environ.get("MBD_FAULTS"):
        return
    skip = pytest.mark.skip(reason="the long suite of faults is run by `make test-faults`")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(skip)


@dataclass
class Figures:
    """What the suite has done so far, and whether a row was lost or doubled by it."""

    counts: Counter[str] = field(default_factory=Counter)
    measured: dict[str, float] = field(default_factory=dict)

    def check_truth(self, files: Files, database: Database) -> None:  # noqa: F811  the fixture's value
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


def check_ledger(database: Database) -> None:  # noqa: F811  the fixture's value
    """The ledger knows each company of the table with as many rows as are there."""
    assert {name: rows for name, _, _, rows, _, _ in database.ledger()} == database.companies()


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Figures:
    return pytestconfig.stash.setdefault(_FIGURES, Figures())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints the figures as one line of JSON; MBD_FIGURES names a file that they are also written to."""
    figures = config.stash.get(_FIGURES, None)
    if figures is None:
        return
    line = json.dumps({**dict(sorted(figures.counts.items())), **dict(sorted(figures.measured.items()))})
    terminalreporter.write_line(f"figures: {line}")
    if path := os.environ.get("MBD_FIGURES"):
        Path(path).write_text(line + "\n")
