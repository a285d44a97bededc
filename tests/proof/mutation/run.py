"""Changes the modules that guard the data, one small change at a time, and counts the changes that no test notices.

python -m tests.proof.mutation.run                                  every change that has no result yet
python -m tests.proof.mutation.run --only etl/table/load.py         those of a module
python -m tests.proof.mutation.run --sample 20                      so many of each module
python -m tests.proof.mutation.run --keep                           and keeps the figures that docs/guarantees.md shows

Each mutant meets the tests near its module that enter the changed function: those that noticed another change first,
then the quick ones. A change that is noticed by none survives: survivors.toml has to name it with a reason.
Works in copies of the tree, and keeps what it found in a file, so that it can be stopped and called again: a result
counts until the function changes. Remove the file to try all of them again.

Long because the mutants, the order of their tests, the work and the figures belong to one program.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import pandas  # noqa: F401  imported once, for all children
import psycopg2  # noqa: F401

from tests.proof.mutation.near import Outcome, Servers, Session, run_anew, servers
from tests.proof.mutation.results import hash_of_function, read_results
from tests.proof.mutation.survivors import Key, read_survivors
from tests.support import proof
from tests.support.paths import ROOT

_UNIT, _WHOLE = "tests/etl/unit", "tests/etl/integration"
_TRIGGER = "tests/trigger"
NEAR: dict[str, tuple[str, ...]] = {
    "etl/batch/gate.py": (
        f"{_UNIT}/test_gate.py", f"{_UNIT}/test_policy.py", f"{_UNIT}/test_process_folder.py",
        f"{_UNIT}/test_packed.py",
    ),
    "etl/outcome/receipt.py": (
        f"{_UNIT}/test_receipt.py", f"{_UNIT}/test_contracts.py", f"{_UNIT}/test_policy.py",
        f"{_UNIT}/test_process_folder.py", f"{_WHOLE}/test_loading_batches.py", f"{_WHOLE}/test_journal.py",
        f"{_WHOLE}/test_report_of_runs.py", f"{_WHOLE}/test_lists_in_database.py", f"{_UNIT}/test_header.py",
    ),
    "etl/files/process.py": (
        f"{_UNIT}/test_process_folder.py", f"{_UNIT}/test_taken_over.py", f"{_UNIT}/test_shards.py",
        f"{_UNIT}/test_packed.py", f"{_UNIT}/test_policy.py", f"{_UNIT}/test_header.py",
        f"{_WHOLE}/test_unreadable_files.py",
    ),
    "etl/table/load.py": (
        f"{_WHOLE}/test_loading_batches.py", f"{_WHOLE}/test_journal.py", f"{_WHOLE}/test_lost_connections.py",
        f"{_WHOLE}/test_foreign_code_on_the_table.py", f"{_WHOLE}/test_database_faults.py",
        f"{_WHOLE}/test_lists_in_database.py", f"{_WHOLE}/test_making_tables.py", f"{_WHOLE}/test_report_of_runs.py",
        f"{_UNIT}/test_public_face.py",
    ),
    "etl/table/journal.py": (
        f"{_WHOLE}/test_journal.py", f"{_WHOLE}/test_loading_batches.py", f"{_UNIT}/test_gate.py",
        f"{_WHOLE}/test_foreign_code_on_the_table.py",
    ),
    "trigger/handler.py": (
        f"{_TRIGGER}/unit/test_handler.py", f"{_TRIGGER}/unit/test_contracts.py",
        f"{_TRIGGER}/integration/test_secret.py", f"{_TRIGGER}/integration/test_instance.py",
        f"{_TRIGGER}/integration/test_ssm_transport.py",
    ),
    "trigger/watchdog.py": (
        f"{_TRIGGER}/unit/test_watchdog.py", f"{_TRIGGER}/unit/test_contracts.py",
        f"{_TRIGGER}/integration/test_watchdog.py",
    ),
    "trigger/receipts.py": (f"{_TRIGGER}/unit/test_watchdog.py", f"{_TRIGGER}/integration/test_watchdog.py"),
}  # fmt: skip
_COLUMNS = ("mutants", "tried", "found", "left", "score")
_MOST_LEFT_OUT = 3
_MOST_SECONDS = 120.0  # of tests that one mutant meets, at the speed of the run that changed nothing


@dataclass(frozen=True)
class Mutant:
    """A module with one small change."""

    module: str
    operator: str
    function: str
    line: int
    old: str
    new: str
    source: str
    number: int = 0
    """Among the same changes of the same text in one function."""
    within: str = ""
    """The hash of the function as it is."""

    @property
    def key(self) -> Key:
        return self.module, self.function, self.old, self.new

    @property
    def name(self) -> str:
        """The same for the same change of the same lines, whatever else changes in the module."""
        return hashlib.sha256("\0".join([*self.key, str(self.number)]).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Baseline:
    """The tests on the code as it is: their seconds, and which entered a function (`file:qualified name`)."""

    seconds: Mapping[str, float]
    entering: Mapping[str, frozenset[str]]

    def near(self, mutant: Mutant, *, noticed: Counter[tuple[str, str]]) -> list[str]:
        """The tests that a mutant meets, in order. What runs at import meets all tests near the module."""
        place = f"{mutant.module}:{mutant.function}"
        files = tuple(f"{file}::" for file in NEAR[mutant.module])
        of_module = [test for test in self.seconds if test.startswith(files)]
        entering = self.entering.get(place, frozenset()) if mutant.function else frozenset(of_module)
        chosen = sorted(
            (test for test in of_module if test in entering),
            key=lambda test: (-noticed[place, test], -noticed["", test], self.seconds[test]),
        )
        total = 0.0
        order: list[str] = []
        for test in chosen:
            total += self.seconds[test]
            if total > _MOST_SECONDS and order:
                break
            order.append(test)
        return order


def make_mutants(python: str, modules: Sequence[str]) -> list[Mutant]:
    """All mutants of the modules."""
    program = ROOT / "tests" / "proof" / "mutation" / "mutants.py"
    done = subprocess.run([python, str(program), *modules], cwd=ROOT, capture_output=True, text=True, check=True)
    sources = {module: (ROOT / module).read_text(encoding="utf-8") for module in modules}
    seen: Counter[Key] = Counter()
    made = []
    for one in sorted((Mutant(**json.loads(line)) for line in done.stdout.splitlines()), key=lambda one: one.line):
        within = hash_of_function(sources[one.module], one.function)
        made.append(replace(one, number=seen[one.key], within=within))
        seen[one.key] += 1
    return made


def sampled(mutants: Sequence[Mutant], *, count: int, seed: str) -> list[Mutant]:
    """So many mutants of each module (0: all), in an order that the seed chooses, one of each module in turn."""
    of_module: dict[str, list[Mutant]] = defaultdict(list)
    for one in sorted(mutants, key=lambda one: hashlib.sha256(f"{seed}{one.name}".encode()).digest()):
        of_module[one.module].append(one)
    rounds = zip_longest(*(ones[: count or None] for ones in of_module.values()))
    return [one for ones in rounds for one in ones if one]


def copy_tree(place: Path) -> Path:
    """The files that git knows or would take, and what is built and ignored, in a folder of their own."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in [*listed.stdout.split("\0"), "etl/files/_plain_rows.so"]:
        if name and (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, place / name)
    (place / "trigger" / ".build").symlink_to((ROOT / "trigger" / ".build").resolve())
    return place


def measure(session: Session, modules: Sequence[str], *, found: Servers, folder: Path) -> Baseline:
    """Run all tests on the code as it is; those that need the AWS CLI itself fail, and are left out."""
    outcome = session.run(found=found, folder=folder, watched=modules)
    if outcome.exit_code not in (0, 1) or len(outcome.failed) > _MOST_LEFT_OUT:
        print((folder / "output.txt").read_text()[-5000:])
        raise SystemExit(f"Tests fail on the code as it is: {', '.join(outcome.failed) or outcome.exit_code}.")
    for test in outcome.failed:
        print(f"left out: {test}")
    entering: dict[str, set[str]] = defaultdict(set)
    for test, places in outcome.entered.items():
        for place in places:
            entering[place].add(test)
    seconds = {test: taken for test, taken in outcome.seconds.items() if test not in outcome.failed}
    return Baseline(seconds, {place: frozenset(tests) for place, tests in entering.items()})


def try_mutant(
    mutant: Mutant, order: Sequence[str], *, session: Session, baseline: Baseline, found: Servers, folder: Path
) -> Outcome:
    """Run these tests before the mutant, which is in the tree meanwhile, for tests that start a process."""
    if not order:
        return Outcome(0)
    file = session.tree / mutant.module
    original = file.read_text(encoding="utf-8")
    file.write_text(mutant.source, encoding="utf-8")
    os.utime(file, (mutant.line, mutant.line))  # never the time of a file that is compiled already
    try:
        if mutant.function:
            change = (mutant.module, mutant.function, mutant.source)
            return session.run(order, found=found, folder=folder, change=change, usual=baseline.seconds)
        return run_anew(session.tree, order, found=found, folder=folder, usual=baseline.seconds)
    finally:
        file.write_text(original, encoding="utf-8")


def is_found(outcome: Outcome) -> bool | None:
    """Whether a test failed or did not end; None where the tests could not be run, which says nothing of a mutant."""
    return {0: False, 1: True, -signal.SIGALRM: True}.get(outcome.exit_code)


def try_mutants(
    mutants: Sequence[Mutant], *, session: Session, baseline: Baseline, found: Servers, folder: Path, results: Path
) -> bool:
    """Try one after the other, and add a line to the results for each. False where the tests could not be run."""
    noticed: Counter[tuple[str, str]] = Counter()
    for mutant in mutants:
        order = baseline.near(mutant, noticed=noticed)
        started = time.monotonic()
        outcome = try_mutant(mutant, order, session=session, baseline=baseline, found=found, folder=folder)
        if (killed := is_found(outcome)) is None:
            print((folder / "output.txt").read_text(errors="replace")[-5000:])
            print(f"The tests of this mutant could not be run (exit code {outcome.exit_code}). It is not counted:")
            print(f"{mutant.module}:{mutant.line} {mutant.function}\n  - {mutant.old}\n  + {mutant.new}", flush=True)
            return False
        for test in outcome.failed[:1]:
            noticed[f"{mutant.module}:{mutant.function}", test] += 1
            noticed["", test] += 1
        by = (outcome.failed or ["import" if outcome.exit_code == 1 else "stopped"])[0] if killed else ""
        facts = {
            "name": mutant.name, "module": mutant.module, "line": mutant.line, "operator": mutant.operator,
            "function": mutant.function, "old": mutant.old, "new": mutant.new, "killed": killed, "by": by,
            "tests": len(order), "seconds": round(time.monotonic() - started, 2), "within": mutant.within,
        }  # fmt: skip
        with results.open("a") as into:
            into.write(json.dumps(facts) + "\n")
    return True


def _work(mutants: Sequence[Mutant], *, workers: int, results: Path) -> None:
    """Measure once, then share the mutants among processes, each with servers of its own."""
    modules = list(dict.fromkeys(one.module for one in mutants))
    with tempfile.TemporaryDirectory(prefix="mbd-mutation-") as root:
        Path(root).chmod(0o755)
        os.environ["TMPDIR"], tempfile.tempdir = root, None
        places = [Path(root) / str(number) for number in range(workers)]
        trees = [copy_tree(place / "tree") for place in places]
        pids = []
        for number, (place, tree) in enumerate(zip(places, trees, strict=True)):
            if not (pid := os.fork()):
                code = 1

                def work(session: Session, number: int = number, place: Path = place) -> None:
                    nonlocal code
                    with servers(place) as found:
                        started = time.monotonic()
                        measured = Path(root) / "baseline.pickle"
                        if number == 0:
                            baseline = measure(session, modules, found=found, folder=place)
                            (place / "baseline").write_bytes(pickle.dumps((baseline.seconds, baseline.entering)))
                            (place / "baseline").rename(measured)
                            taken = time.monotonic() - started
                            print(f"{len(baseline.seconds)} tests on the code as it is: {taken:.0f} s", flush=True)
                        while not measured.exists():
                            time.sleep(0.2)
                        baseline = Baseline(*pickle.loads(measured.read_bytes()))
                        is_done = try_mutants(
                            mutants[number::workers], session=session, baseline=baseline, found=found, folder=place,
                            results=results,
                        )  # fmt: skip
                    code = 0 if is_done else 1

                try:
                    files = sorted({file for module in modules for file in NEAR[module]})
                    Session(tree, files, work=work).start(place)
                finally:
                    os._exit(code)
            pids.append(pid)
        if any([os.waitpid(pid, 0)[1] for pid in pids]):  # noqa: C419  all are waited for
            raise SystemExit("A worker ended early, for the reason above; what was found before is kept.")


def figures(
    mutants: Sequence[Mutant], results: Mapping[str, Mapping[str, object]], *, all_of: Mapping[str, int]
) -> dict[str, list[str]]:
    """The row of each module, and of all: how many mutants there are, were tried, found and left, and the score."""
    rows = {}
    for module in [*(one for one in NEAR if one in all_of), "all"]:
        of_module = [results[one.name] for one in mutants if module in (one.module, "all")]
        found, tried = sum(bool(one["killed"]) for one in of_module), len(of_module)
        made = sum(all_of.values()) if module == "all" else all_of[module]
        counts = [f"{count:,}" for count in (made, tried, found, tried - found)]
        rows[module] = [*counts, f"{100 * found / tried:.1f} %" if tried else ""]
    return rows


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.proof.mutation.run",
        description=(__doc__ or "").partition("\n\nLong because")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--mutants-python", default=str(ROOT / ".venv-mutation" / "bin" / "python"), metavar="PYTHON",
        help="the Python that has cosmic-ray, which makes the mutants (.venv-mutation's)",
    )  # fmt: skip
    parser.add_argument(
        "--only", nargs="+", default=list(NEAR), choices=list(NEAR), metavar="MODULE", help="mutants of these modules"
    )
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="so many mutants of each module; 0: all")
    parser.add_argument("--seed", default="1", help="which mutants a sample takes, and which come first (1)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes that try them")
    parser.add_argument(
        "--results", type=Path, default=ROOT / ".mutation.jsonl", metavar="FILE",
        help="where the results are kept and looked for (.mutation.jsonl)",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="only count the mutants")
    parser.add_argument("--report", action="store_true", help="try nothing: report what is known")
    parser.add_argument("--keep", action="store_true", help="keep the figures for docs/guarantees.md")
    return parser


def command(options: argparse.Namespace) -> str:
    """How `make` does the same."""
    given = [*(["--only", *options.only] if options.only != list(NEAR) else [])]
    given += ["--sample", str(options.sample), "--seed", options.seed] if options.sample else []
    given += ["--report"] if options.report else []
    return f"make mutation OPTIONS='{shlex.join(given)}'" if given else "make mutation"


def main() -> int:
    options = _parser().parse_args()

    everything = make_mutants(options.mutants_python, options.only)
    all_of = Counter(one.module for one in everything)
    if options.list:
        for module, count in all_of.items():
            print(f"{module}: {count}")
        return 0
    mutants = sampled(everything, count=options.sample, seed=options.seed)
    within = {one.name: one.within for one in everything}
    known = read_results(options.results, within=within)
    if options.report:
        mutants = [one for one in mutants if one.name in known]
    left = [] if options.report else [one for one in mutants if not known.get(one.name, {}).get("killed")]
    excused = read_survivors()
    # Those with a reason have been thought about; they are tried again only in a run that began with nothing.
    left = [one for one in left if one.name not in known or one.key not in excused]
    print(f"{len(mutants)} mutants, {len(left)} to try", flush=True)
    if left:
        _work(left, workers=min(options.workers, len(left)), results=options.results)
    results = read_results(options.results, within=within)
    survivors = [one for one in mutants if not results[one.name]["killed"]]
    unexplained = [one for one in survivors if one.key not in excused]
    for one in unexplained:
        tests = results[one.name]["tests"]
        print(f"{one.module}:{one.line} {one.function} [{one.operator}, {tests} tests]\n  - {one.old}\n  + {one.new}")
    rows = figures(mutants, results, all_of=all_of)
    for module, row in rows.items():
        print(f"{module}: {', '.join(f'{count} {what}' for what, count in zip(_COLUMNS, row, strict=True))}")
    if options.keep and not unexplained:
        proof.keep("mutation", command(options), rows, columns=("module", *_COLUMNS))
    return bool(unexplained)


if __name__ == "__main__":
    sys.exit(main())
