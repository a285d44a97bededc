"""What holds for all tests: signals, CI, several workers, and the long suite of `make test-faults` with its figures."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.support.figures import STASH, Figures

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController

# A shell that starts pytest in the background has it ignore Ctrl-C, and its children with it; tests send it to these.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Property tests take the same examples everywhere, however long a busy machine needs for one.
settings.register_profile(
    "same everywhere", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("same everywhere")

_TEMPORARY = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Gives each session a folder of its own for temporary files, and has CI see what everyone sees.

    pytest closes the folder that its sessions share by default, and with it a running session's PostgreSQL, which
    belongs to another account, loses its data. Where it knows that it runs in CI, it writes differences whole: hours,
    where a test compares files of many megabytes.
    """
    for name in ("CI", "BUILD_NUMBER"):
        os.environ.pop(name, None)
    if config.option.basetemp is None:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = config.stash[_TEMPORARY] = tempfile.mkdtemp(prefix="mbd-tests-")


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Removes the temporary files, unless a test failed: then a person may want to see them. A worker hands over."""
    done = session.config.stash.get(STASH, None)
    if done is not None and hasattr(session.config, "workeroutput"):
        session.config.workeroutput["figures"] = (dict(done.counts), done.measured)
    folder = session.config.stash.get(_TEMPORARY, None)
    if folder and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: WorkerController) -> None:
    """Adds what a worker has counted to the figures of the session."""
    counts, measured = getattr(node, "workeroutput", {}).get("figures", ({}, {}))
    if counts or measured:
        done = node.config.stash.setdefault(STASH, Figures())
        done.counts.update(counts)
        done.measured.update(measured)


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Figures:
    """What the long suite has counted so far."""
    return pytestconfig.stash.setdefault(STASH, Figures())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip the long suite of faults unless it is asked for; where a PostgreSQL is named, leave out what needs none."""
    if os.environ.get("MBD_POSTGRES"):
        others = [item for item in items if "postgres_server" not in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]
    if os.environ.get("MBD_FAULTS"):
        return
    skip = pytest.mark.skip(reason="the long suite of faults is run by `make test-faults`")
    for item in items:
        if "faults" in item.path.parts:
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
