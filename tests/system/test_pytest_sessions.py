"""pytest's sessions: what several workers have counted is added up, and CI prints what everyone sees."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.paths import ROOT

SUITE = """
def test_counts_two(figures):
    figures.counts["faults_injected"] += 2
    figures.measured[f"seconds_of_{__file__[-4]}"] = 1.5
"""
LARGE = """
def test_compares_what_is_large():
    assert b"-" * 40_000 == b"-" * 7 + b"." + b"-" * 40_000
"""


def test_figures_of_all_workers_are_added_up(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    for name in ("test_a.py", "test_b.py", "test_c.py"):
        (tmp_path / name).write_text(SUITE)
    options = ["-p", "xdist", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", "-v"]
    done = _run_pytest([*options, f"--rootdir={tmp_path}", "--import-mode=importlib", str(tmp_path)])
    assert done.returncode == 0, done.stdout + done.stderr
    [line] = re.findall("^figures: (.*)$", done.stdout, re.MULTILINE)
    counted = json.loads(line)
    assert counted["faults_injected"] == 6
    assert {"seconds_of_a", "seconds_of_b", "seconds_of_c"} <= set(counted)
    assert set(re.findall(r"\[(gw\d)\] .*PASSED", done.stdout)) == {"gw0", "gw1"}
    assert re.search("^=+ 3 passed in ", done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", ["CI", "BUILD_NUMBER"])
def test_difference_of_large_values_is_cut_in_ci_too(tmp_path: Path, name: str) -> None:
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    (tmp_path / "test_large.py").write_text(LARGE)
    done = _run_pytest(["-c", str(ROOT / "pyproject.toml"), f"--rootdir={tmp_path}", str(tmp_path)], **{name: "true"})
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search("^=+ 1 failed in ", done.stdout.splitlines()[-1])
    assert "At index 7 diff: b'-' != b'.'" in done.stdout
    assert len(done.stdout) < 20_000


def _run_pytest(options: Sequence[str], **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options],
        cwd=ROOT, env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **settings}, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
