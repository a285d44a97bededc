"""`make flakes`: a suite with a planted flaky test, run several times next to busy processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import flakes

# Each run counts itself in the file `runs`.
SUITE = """
import os
from pathlib import Path

import pytest

RUNS = Path(__file__).with_name("runs")
run = len(RUNS.read_text()) if RUNS.exists() else 0
RUNS.write_text("x" * (run + 1))


def test_green():
    pass


@pytest.mark.skip(reason="always")
def test_always_skipped():
    pass


if {planted}:
    def test_red_in_each_second_run():
        assert run % 2 == 0


    def test_skipped_in_the_last_run():
        if run == 3:
            pytest.skip("sometimes")


    @pytest.fixture
    def server():
        yield
        assert run != 1, "did not stop"


    def test_teardown_fails_once(server):
        pass


    if run != 2:
        def test_there_in_all_runs_but_one():
            pass
"""
Count = Callable[..., tuple[int, str]]


@pytest.fixture
def count(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Count:
    """Counts the flakes of a suite of one file; returns the exit code and what was printed."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # the suite needs none, and starts sooner

    def call(suite: str, *options: str) -> tuple[int, str]:
        path = tmp_path / "test_planted.py"
        path.write_text(suite)
        code = flakes.main([*options, "-p", "no:cacheprovider", f"--rootdir={tmp_path}", str(path)])
        return code, capsys.readouterr().out

    return call


def test_each_test_that_was_not_always_green_is_named_with_its_counts(count: Count, tmp_path: Path) -> None:
    code, printed = count(SUITE.format(planted=True), "--runs", "4", "--load", "1")
    assert code == 1
    assert "4 runs of 6 tests, next to 1 busy processes:" in printed
    findings = {}
    for line in printed.splitlines():
        counts, found, name = line.strip().partition(": test_planted.py::")
        if found:
            findings[name] = counts
    assert findings == {
        "test_red_in_each_second_run": "2 passed, 2 failed",
        "test_skipped_in_the_last_run": "3 passed, 1 skipped",
        "test_teardown_fails_once": "3 passed, 1 error",
        "test_there_in_all_runs_but_one": "3 passed, 1 not run",
    }
    logs = [Path(line.split(": ")[1]) for line in printed.splitlines() if "a run ended with 1" in line]
    assert len(logs) == 2
    assert all("test_red_in_each_second_run" in log.read_text() for log in logs)


def test_suite_that_is_always_green_is_said_to_be_and_leaves_nothing(count: Count, tmp_path: Path) -> None:
    code, printed = count(SUITE.format(planted=False), "--runs", "2", "--load", "0")
    assert (code, "all were green each time" in printed) == (0, True)
    assert printed.startswith("run 1 of 2: 1 passed, 1 skipped in ")
    assert not list(tmp_path.glob("mbd-flakes-*"))


def test_run_that_does_not_end_is_interrupted_and_counted(count: Count) -> None:
    suite = "import time\ndef test_green(): pass\ndef test_hangs(): time.sleep(600)\n"
    code, printed = count(suite, "--runs", "1", "--load", "0", "--minutes", "0.05")
    assert code == 1
    assert "a run took too long: " in printed


def test_suite_without_a_test_is_no_green_one(count: Count) -> None:
    code, printed = count("", "--runs", "1", "--load", "0")
    assert (code, "all were green" in printed) == (1, False)
    assert "a run ended with 5: " in printed


def test_busy_processes_use_the_processors_and_end_with_the_block() -> None:
    with flakes.busy(2, seconds=60) as pids:
        stats = [Path(f"/proc/{pid}/stat") for pid in pids]
        deadline = time.monotonic() + 30
        while not all(int(stat.read_text().split()[13]) > 5 for stat in stats):  # hundredths of a second of its own
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert not any(stat.exists() for stat in stats)
