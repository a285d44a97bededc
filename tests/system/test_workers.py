"""Tests by several workers: what each has counted is in the figures of the session."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT

SUITE = """
def test_counts_two(figures):
    figures.counts["faults_injected"] += 2
    figures.measured[f"seconds_of_{__file__[-4]}"] = 1.5
"""


def test_figures_of_all_workers_are_added_up(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    for name in ("test_a.py", "test_b.py", "test_c.py"):
        (tmp_path / name).write_text(SUITE)
    options = ["-p", "xdist", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", "-v"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, f"--rootdir={tmp_path}", "--import-mode=importlib", tmp_path],
        cwd=ROOT, env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    [line] = re.findall("^figures: (.*)$", done.stdout, re.MULTILINE)
    counted = json.loads(line)
    assert counted["faults_injected"] == 6
    assert {"seconds_of_a", "seconds_of_b", "seconds_of_c"} <= set(counted)
    assert set(re.findall(r"\[(gw\d)\] .*PASSED", done.stdout)) == {"gw0", "gw1"}
    assert re.search("^=+ 3 passed in ", done.stdout.splitlines()[-1])
