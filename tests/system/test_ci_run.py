"""`.ci/run` with a stand-in for make: the order of the suites, two rows of them at once, and the first that fails."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.paths import ROOT

# It ends at once, but for the target that the test says: that fails, or waits to be interrupted.
MAKE = """#!/bin/sh
echo "$*" >>"$NOTES"
echo "output of $1"
case $1 in
"$FAILS")
    if [ -n "$AFTER" ]; then until grep -qx "$AFTER" "$NOTES"; do sleep 0.05; done; fi
    exit 2 ;;
"$WAITS")
    trap 'echo "interrupted $1" >>"$NOTES"; exit 130' INT
    for i in $(seq 600); do sleep 0.1; done ;;
esac
"""
INSTALLED = ("npx", "s3fs", "pgbouncer", "chromium", "docker")
CiRun = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def ci_run(tmp_path: Path) -> CiRun:
    """Runs it; returns its exit code, the lines that it printed, and what make was asked for and met."""
    (tmp_path / "clone" / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", tmp_path / "clone" / ".ci")
    (tmp_path / "bin").mkdir()
    for name, text in {"make": MAKE, **dict.fromkeys(INSTALLED, "#!/bin/sh\n")}.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    notes = tmp_path / "notes"

    def call(*, fails: str = "none", waits: str = "none", after: str = "") -> tuple[int, list[str], list[str]]:
        environment = {"FAILS": fails, "WAITS": waits, "AFTER": after, "NOTES": str(notes), "TMPDIR": str(tmp_path)}
        environment["PATH"] = f"{tmp_path / 'bin'}:/usr/bin:/bin"
        done = subprocess.run(
            [tmp_path / "clone" / ".ci" / "run"],
            env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout.splitlines(), notes.read_text().splitlines()

    return call


def steps(printed: list[str]) -> list[str]:
    return [re.sub(r" \(\d\d:\d\d:\d\d\)$", "", line.removeprefix("== ")) for line in printed if line.startswith("== ")]


def test_all_suites_run_and_each_ones_output_is_below_its_name(ci_run: CiRun, tmp_path: Path) -> None:
    code, printed, asked = ci_run()
    assert code == 0
    *names, last = steps(printed)
    assert last == "done"
    assert names[0] == "check"
    assert sorted(names) == sorted(line.split()[0] for line in asked)
    assert [printed[printed.index(f"output of {name}") - 1].split()[1] for name in names] == names
    assert {path.name for path in tmp_path.iterdir()} == {"clone", "bin", "notes"}


def test_first_that_fails_ends_it_and_is_named_last(ci_run: CiRun) -> None:
    code, printed, asked = ci_run(fails="test")
    assert (code, asked) == (1, ["check", "test"])
    assert steps(printed) == ["check", "test", "FAILED: make test"]


@pytest.mark.parametrize(("fails", "waits"), [("test-trigger", "test-compose"), ("test-compose", "test-trigger")])
def test_failure_in_one_row_interrupts_the_other_and_is_named_last(ci_run: CiRun, fails: str, waits: str) -> None:
    code, printed, asked = ci_run(fails=fails, waits=waits, after=waits)
    assert code == 1
    assert steps(printed)[-1] == f"FAILED: make {fails}"
    assert printed[-1].startswith("== FAILED")
    assert asked[-1] == f"interrupted {waits}"
    assert {f"output of {fails}", f"output of {waits}"} <= set(printed)
    assert not {"test-infra", "demo"} & set(steps(printed)), "none begins after it"
