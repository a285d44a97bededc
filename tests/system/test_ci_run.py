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
    if [ "$(grep -cx "$1" "$NOTES")" -gt "$TIMES" ]; then exit 0; fi
    if [ -n "$BREAKS_ENGINE" ]; then rm "$STANDIN/is-up"; fi
    exit 2 ;;
"$WAITS")
    trap 'echo "interrupted $1" >>"$NOTES"; exit 130' INT
    for i in $(seq 600); do sleep 0.1; done ;;
esac
"""
# An engine that is up while there is a file, and what brings it up.
DOCKER = """#!/bin/sh
[ -e "$STANDIN/is-up" ]
"""
START = """echo "starts an engine" >>"$NOTES"
mkdir -p "$STANDIN" && cd "$STANDIN" && touch is-up env && echo 999999999 >dockerd.pid
"""
INSTALLED = ("npx", "s3fs", "pgbouncer", "chromium")
CiRun = Callable[..., tuple[int, list[str], list[str]]]


@pytest.fixture
def ci_run(tmp_path: Path) -> CiRun:
    """Runs it; returns its exit code, the lines that it printed, and what make was asked for and met."""
    (tmp_path / "clone" / ".ci").mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", tmp_path / "clone" / ".ci")
    (tmp_path / "bin").mkdir()
    commands = {"make": MAKE, "docker": DOCKER, **dict.fromkeys(INSTALLED, "#!/bin/sh\n")}
    for name, text in commands.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "shared" / "standin").mkdir(parents=True)
    (tmp_path / "shared" / "standin" / "standin.sh").write_text(START)
    notes = tmp_path / "notes"

    def call(
        *, fails: str = "none", waits: str = "none", after: str = "", times: int = 99, breaks_engine: bool = False
    ) -> tuple[int, list[str], list[str]]:
        environment = {"FAILS": fails, "WAITS": waits, "AFTER": after, "NOTES": str(notes), "TMPDIR": str(tmp_path)}
        environment |= {"TIMES": str(times), "BREAKS_ENGINE": "yes" * breaks_engine}
        environment["STANDIN"] = str(tmp_path / "engine")
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
    assert names[:2] == ["Docker engine", "check"]
    assert asked.pop(0) == "starts an engine"
    del names[0]
    assert sorted(names) == sorted(line.split()[0] for line in asked)
    assert [line for line in asked if line.startswith("simulate PLANTED=1 ")], "the simulator finds its planted bugs"
    assert [printed[printed.index(f"output of {name}") - 1].split()[1] for name in names] == names
    assert {path.name for path in tmp_path.iterdir()} == {"shared", "clone", "bin", "notes", "engine"}


def test_first_that_fails_ends_it_and_is_named_last(ci_run: CiRun) -> None:
    code, printed, asked = ci_run(fails="test")
    assert (code, asked[1:]) == (1, ["check", "test"])
    assert steps(printed)[1:] == ["check", "test", "FAILED: make test"]


@pytest.mark.parametrize(("fails", "waits"), [("test-trigger", "test-compose"), ("test-compose", "test-trigger")])
def test_failure_in_one_row_interrupts_the_other_and_is_named_last(ci_run: CiRun, fails: str, waits: str) -> None:
    code, printed, asked = ci_run(fails=fails, waits=waits, after=waits)
    assert code == 1
    assert steps(printed)[-1] == f"FAILED: make {fails}"
    assert printed[-1].startswith("== FAILED")
    assert asked[-1] == f"interrupted {waits}"
    assert {f"output of {fails}", f"output of {waits}"} <= set(printed)
    assert not {"test-infra", "demo"} & set(steps(printed)), "none begins after it"


def test_suite_whose_engine_died_is_run_again_with_a_new_one(ci_run: CiRun) -> None:
    code, printed, asked = ci_run(fails="test-compose", times=1, breaks_engine=True)
    assert code == 0
    assert asked.count("starts an engine") == 2
    assert asked.count("test-compose") == 2
    assert "Docker engine, which has died" in steps(printed)
    assert "demo" in asked


@pytest.mark.parametrize("breaks_engine", [False, True])
def test_suite_that_fails_with_its_engine_alive_or_twice_has_failed(ci_run: CiRun, *, breaks_engine: bool) -> None:
    code, printed, asked = ci_run(fails="test-compose", breaks_engine=breaks_engine)
    assert code == 1
    assert steps(printed)[-1] == "FAILED: make test-compose"
    assert asked.count("test-compose") == 1 + breaks_engine
    assert "demo" not in asked
