"""Plants bugs that a reviewer would fear, one at a time, and shows that the tests named by each patch find it.

python -m tests.proof.planted_bugs                    every bug, two at a time
python -m tests.proof.planted_bugs --only 07 31       these
python -m tests.proof.planted_bugs --share 0.3        three in ten of them, other ones each day
python -m tests.proof.planted_bugs --keep             and keeps the figures that docs/guarantees.md shows

A bug is planted in a copy of the tree, never in the tree itself. The tests run on a copy without a bug first,
where they must pass. Ends with 1 when a bug was not found, or a patch does not apply any more.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

from tests.proof.planted_bugs.bugs import FOLDER, Bug, read_bugs
from tests.support import proof
from tests.support.paths import ROOT

_BUILT = ("etl/files/_plain_rows.so", "trigger/.build")  # not tracked, and what the tests need
_SECONDS = 300  # for the tests of one bug; a bug may make them wait for ever


@dataclass(frozen=True)
class Outcome:
    """What became of one bug."""

    bug: Bug
    found_by: str
    """The tests that failed; empty where one of them did not."""
    trouble: str
    """Why it was not found, with what pytest printed."""
    seconds: float


def main(arguments: Sequence[str] = (), *, folder: Path = FOLDER) -> int:
    options = _parser().parse_args(arguments)
    bugs = _chosen(read_bugs(folder), options)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="planted-bugs-", ignore_cleanup_errors=True) as place:
        sound = _copy_tree(Path(place) / "sound")
        if trouble := _run_without_a_bug(sound, bugs, at_once=options.at_once):
            print(f"The tests must pass where no bug is planted:\n{trouble}")
            return 1
        print(f"Without a bug the tests of {len(bugs)} bugs pass ({time.monotonic() - begun:.0f} s).", flush=True)
        with ThreadPoolExecutor(options.at_once) as pool:
            outcomes = [_report(one) for one in pool.map(lambda bug: _plant(bug, sound), bugs)]
    found = sum(bool(one.found_by) for one in outcomes)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = round(used.ru_utime + used.ru_stime)  # says more than a clock where others are at work
    print(f"{len(outcomes)} planted, {found} found, {time.monotonic() - begun:.0f} s, of processors {seconds} s")
    if options.keep:
        figures = {"bugs planted": len(outcomes), "of these: found": found, "seconds of processors": seconds}
        proof.keep("planted_bugs", _command(options), figures)
    return int(found < len(outcomes) or not outcomes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.proof.planted_bugs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="NUMBER", help="plant these: the beginnings of names")
    parser.add_argument(
        "--share", type=proof.share, default=1.0, help="plant this share of them (0.1: a tenth), other ones each day"
    )
    parser.add_argument("--at-once", type=int, default=2, help="how many to try at once")
    parser.add_argument("--keep", action="store_true", help="keep the figures for docs/guarantees.md")
    return parser


def _chosen(bugs: Sequence[Bug], options: argparse.Namespace) -> list[Bug]:
    if options.only:
        return [bug for bug in bugs if bug.name.startswith(tuple(options.only))]
    turns = enumerate(bugs, datetime.now(UTC).toordinal())
    return [bug for turn, bug in turns if int((turn + 1) * options.share) > int(turn * options.share)]


def _command(options: argparse.Namespace) -> str:
    """How to do the same."""
    if options.only:
        return f"python -m tests.proof.planted_bugs --only {' '.join(options.only)}"
    return "make planted-bugs" + (f" SHARE={options.share:g}" if options.share < 1 else "")


def _copy_tree(copy: Path) -> Path:
    """The files as they are now, but for what git ignores, and what is built from them."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)
    for name in _BUILT:
        if (ROOT / name).exists():
            (copy / name).symlink_to((ROOT / name).resolve())
    return copy


def _run_without_a_bug(sound: Path, bugs: Sequence[Bug], *, at_once: int) -> str:
    """What pytest printed where a test failed; empty when all passed. Tests of one file stay together."""
    by_file: dict[str, list[str]] = {}
    for test in sorted({test for bug in bugs for test in bug.tests}):
        by_file.setdefault(test.partition("::")[0], []).append(test)
    files = sorted(by_file.values(), key=lambda tests: tests[0].split("/")[1:3])
    size = -(-len(files) // at_once)
    groups = [list(chain(*files[start : start + size])) for start in range(0, len(files), size)]
    with ThreadPoolExecutor(at_once) as pool:
        runs = list(pool.map(lambda tests: _run_tests(sound, tests, seconds=_SECONDS * 4), groups))
    return "\n".join(printed for code, printed in runs if code)


def _plant(bug: Bug, sound: Path) -> Outcome:
    """Run the bug's tests in a copy that has it. Found: each of them failed, and pytest could run."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(dir=sound.parent, prefix=f"{bug.name}-", ignore_cleanup_errors=True) as place:
        copy = Path(place) / "tree"
        shutil.copytree(sound, copy, symlinks=True, copy_function=os.link)  # git replaces the files that it patches
        applied = subprocess.run(
            ["git", "apply", str(bug.patch)],
            cwd=copy,
            env={**os.environ, "GIT_CEILING_DIRECTORIES": place},
            check=False,
            capture_output=True,
            text=True,
        )
        if applied.returncode:
            trouble = f"The patch does not apply any more: renew it.\n{applied.stderr}"
            return Outcome(bug, "", trouble, time.monotonic() - begun)
        code, printed = _run_tests(copy, bug.tests, seconds=_SECONDS)
    failed = re.findall(r"^FAILED (\S+)", printed, flags=re.MULTILINE)
    named = [test for test in bug.tests if any(one.startswith(test.partition(" ")[0]) for one in failed)]
    silent = [test for test in bug.tests if test not in named]
    trouble = f"No failure of {', '.join(silent)} (pytest ended with {code}).\n{printed[-3000:]}"
    found_by = ", ".join(named) if code == 1 and not silent else ""
    return Outcome(bug, found_by, "" if found_by else trouble, time.monotonic() - begun)


def _run_tests(tree: Path, tests: Sequence[str], *, seconds: float) -> tuple[int, str]:
    """Exit code and output of pytest on these tests of a tree."""
    temporary = Path(tempfile.mkdtemp(dir=tree.parent, prefix="tmp-"))
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(
            [*command, f"--basetemp={temporary / 'pytest'}", *tests],
            cwd=tree,
            env=_environment(tree, temporary),
            check=False,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return -1, f"The tests were not over after {seconds:.0f} s."
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return done.returncode, done.stdout + done.stderr


def _environment(tree: Path, temporary: Path) -> Mapping[str, str]:
    """Imports come from this tree, temporary files go into a folder of their own; plugins would cost a second a run."""
    ours = {"PYTHONPATH": str(tree), "TMPDIR": str(temporary), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return {**os.environ, **ours}


def _report(outcome: Outcome) -> Outcome:
    word = "found    " if outcome.found_by else "NOT FOUND"
    print(f"{word} {outcome.bug.name:<34} {outcome.seconds:>5.1f} s  {outcome.found_by or outcome.trouble}", flush=True)
    return outcome


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
