"""Some days of the simulator as a test, which the planted bugs name: `make simulate` plays many more."""

from __future__ import annotations

import sys
from subprocess import run

import pytest

from tests.support.paths import ROOT


@pytest.mark.parametrize(("seed", "days"), [(0, 6), (1, 8), (2, 15), (3, 76)])
def test_no_promise_is_broken_in_days_of_a_seed(seed: int, days: int) -> None:
    """In a process of its own, as it imports Airflow and replaces parts of the library."""
    program = [sys.executable, "-m", "tests.proof.simulator.simulate", "--brief", "--jobs", "1"]
    played = run([*program, f"--seed={seed}", f"--days={days}"], cwd=ROOT, check=False, capture_output=True, text=True)
    assert played.returncode == 0, played.stdout + played.stderr
    assert f"seed {seed}: {days} days" in played.stdout
