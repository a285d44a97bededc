"""The long suite of `make test-faults`: faults put in by the hundred; the figures of a run are its last line."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.faults.figures import STASH, figures  # noqa: F401  a fixture of this folder
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

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skips this folder, and no other, where the long suite is not asked for."""
    if os.environ.get("MBD_FAULTS"):
        return
    skip = pytest.mark.skip(reason="the long suite of faults is run by `make test-faults`")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(skip)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Prints the figures as one line of JSON; MBD_FIGURES names a file that they are also written to."""
    done = config.stash.get(STASH, None)
    if done is None:
        return
    failed = sum(len(terminalreporter.getreports(outcome)) for outcome in ("failed", "error"))
    facts = {
        "day": f"{datetime.now(UTC):%Y-%m-%d}",
        "MBD_KILLS": os.environ.get("MBD_KILLS", ""),
        "tests_failed": failed,
        **dict(sorted(done.counts.items())),
        **dict(sorted(done.measured.items())),
    }
    terminalreporter.write_line(f"figures: {json.dumps(facts)}")
    if path := os.environ.get("MBD_FIGURES"):
        Path(path).write_text(json.dumps(facts, indent=1) + "\n")
