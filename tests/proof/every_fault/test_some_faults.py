"""Some faults of `make test-every-fault` as a test, which the planted bugs name."""

from __future__ import annotations

import sys
from subprocess import run

import pytest

from tests.support.paths import ROOT

FAULTS = {
    "ledger-refused": ("folder", "run", "1 run: execute record_in_ledger=error"),
    "killed-at-commit": ("folder", "run", "1 run: commit=killed"),
    "commit-unanswered": ("folder", "run", "1 run: commit=lost"),
    "mail-refused": ("folder", "run", "1 run: sns Publish=error"),
    "upload-begun-twice": ("s3", "run", "1 run: s3 CreateMultipartUpload Output/historical_stock_data.csv=repeated"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_batch_is_whole_or_not_there_whatever_it_meets(fault: str) -> None:
    place, way, call = FAULTS[fault]
    program = [sys.executable, "-m", "tests.proof.every_fault", "--workers=1"]
    given = [f"--place={place}", f"--way={way}", f"--fault={call}"]
    played = run([*program, *given], cwd=ROOT, check=False, capture_output=True, text=True)
    assert played.returncode == 0, played.stdout + played.stderr
    assert "single faults played: 1\n" in played.stdout
