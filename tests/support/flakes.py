"""Counts flakes: runs a suite again and again next to busy processes, and prints each test that was not always green.

    python -m tests.support.flakes --runs 10 --load 2 tests/etl/integration/test_mail.py

Whatever else is given is pytest's. `make flakes` gives it what `make test` gives it. Exit code 0 means that every run
was green, 1 that one was not, or that there was no test.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

_GREEN = ({"passed"}, {"skipped"})  # whatever else a test did in all runs together is a finding
_LOOP = """
import os, sys, time
until, parent = time.monotonic() + float(sys.argv[1]), os.getppid()
while time.monotonic() < until and os.getppid() == parent:
    pass
"""


@dataclass(frozen=True)
class Run:
    """One run of the suite: what each test did, pytest's exit code (None when it took too long), its last line."""

    outcomes: dict[str, str]
    code: int | None
    closing: str
    seconds: float
    log: Path


def main(arguments: Sequence[str] | None = None) -> int:
    options, for_pytest = _options(arguments)
    folder = Path(tempfile.mkdtemp(prefix="mbd-flakes-"))
    limit = options.minutes * 60
    runs = []
    for number in range(1, options.runs + 1):
        with busy(options.load, seconds=limit):
            runs.append(run_once(for_pytest, folder / f"run-{number}.log", seconds=limit))
        print(f"run {number} of {options.runs}: {runs[-1].closing} [{runs[-1].seconds:.0f} s]", flush=True)
    findings = not_always_green(runs)
    tests = {name for run in runs for name in run.outcomes}
    print(f"\n{len(runs)} runs of {len(tests):,} tests, next to {options.load} busy processes:")
    for name, counts in findings.items():
        print(f"  {', '.join(f'{times} {outcome}' for outcome, times in counts.most_common())}: {name}")
    red = [run for run in runs if run.code != 0]
    for run in red:
        ended = "took too long" if run.code is None else f"ended with {run.code}"
        print(f"  a run {ended}: {run.log}")
    if not findings and not red:
        print("  all were green each time")
        shutil.rmtree(folder)
    return 1 if findings or red else 0


def run_once(for_pytest: Sequence[str], log: Path, *, seconds: float) -> Run:
    """Runs pytest once, for at most so many seconds; its output goes to `log`."""
    report = log.with_suffix(".xml")
    command = [
        sys.executable,
        "-m",
        "pytest",
        *for_pytest,
        f"--junitxml={report}",
        "--override-ini=junit_family=xunit1",
    ]
    begun = time.monotonic()
    with log.open("wb") as output:
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        code: int | None = None
        try:
            code = child.wait(seconds)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGINT)
        finally:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(60)  # it stops its servers
            child.kill()
            child.wait()
    lines = log.read_text(errors="replace").split("\n")
    closing = next((line.strip("= ") for line in reversed(lines) if line.strip()), "it printed nothing")
    return Run(_outcomes(report), code, closing, time.monotonic() - begun, log)


def not_always_green(runs: Sequence[Run]) -> dict[str, Counter[str]]:
    """What each test did how often, of those that did not pass in each run; a test that is always skipped is green."""
    names = sorted({name for run in runs for name in run.outcomes})
    done = {name: Counter(run.outcomes.get(name, "not run") for run in runs) for name in names}
    return {name: counts for name, counts in done.items() if set(counts) not in _GREEN}


@contextlib.contextmanager
def busy(count: int, *, seconds: float) -> Iterator[list[int]]:
    """So many processes that only count time, until the block ends, or `seconds` have passed, or we have died."""
    children = [subprocess.Popen([sys.executable, "-S", "-c", _LOOP, str(seconds)]) for _ in range(count)]
    try:
        yield [child.pid for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()


def _outcomes(report: Path) -> dict[str, str]:
    """What each test did, by its node id; nothing when pytest wrote no report."""
    if not report.exists():
        return {}
    words = {"error": "error", "failure": "failed", "skipped": "skipped"}
    outcomes = {}
    for case in ElementTree.parse(report).iter("testcase"):
        found = {child.tag for child in case}
        name = f"{case.get('file') or case.get('classname')}::{case.get('name')}"
        outcomes[name] = next((word for kind, word in words.items() if kind in found), "passed")
    return outcomes


def _options(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m tests.support.flakes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--runs", type=int, default=10, help="how often the suite is run")
    parser.add_argument("--load", type=int, default=2, help="how many busy processes run next to it")
    parser.add_argument("--minutes", type=float, default=60, help="how long one run may take")
    return parser.parse_known_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
