"""Simulates days of the whole system: make simulate SEED=7 DAYS=100. A seed that fails prints its story, made short."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from functools import partial
from multiprocessing.util import Finalize
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tests.proof.simulator.results import Outcome, Results, Total, code_of, kept_total
from tests.proof.simulator.stage import Stage
from tests.support.paths import ROOT, folder_in_memory
from tests.support.proof import keep

if TYPE_CHECKING:
    from tests.proof.simulator.story import Event

_Event = TypeVar("_Event")
_SHORTENING_SECONDS = 300.0
_BYTES = 2 << 30  # what servers and buckets of all processes take at most


def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="simulate-", dir=folder_in_memory(needed_bytes=_BYTES))


# --- many seeds --------------------------------------------------------------------------------------------------

_stage: list[Stage] = []


def _begin_worker(directory: str) -> None:
    stage = Stage(Path(directory) / f"worker-{os.getpid()}").__enter__()
    _stage.append(stage)
    # Its servers have ended when the process has: their folder is removed then.
    Finalize(stage, stage.__exit__, args=(None, None, None), exitpriority=1)


def _play_seed(seed: int, days: int, bug: str = "") -> Outcome:
    """One seed, with a bug planted if one is named."""
    from tests.proof.simulator.planted import BUGS  # noqa: PLC0415  imports Airflow

    with BUGS[bug]() if bug else nullcontext():
        outcome = _stage[0].play_seed(seed, days)
    outcome.log = []
    return outcome


def _find_bug(bug: str, days: int, most_seeds: int) -> tuple[str, Outcome, int]:
    """Play seeds until the planted bug is found: its name, the last outcome, and the days that it took."""
    simulated = 0
    for seed in range(most_seeds):
        outcome = _play_seed(seed, days, bug)
        simulated += outcome.days
        if outcome.kind:
            break
    return bug, outcome, simulated


def _in_workers(jobs: int, calls: Sequence[Callable[[], Any]], *, seconds: float | None = None) -> Iterator[Any]:
    """What the calls give, as they are done, in processes that each have a stage; none begins after so many seconds."""
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    with (
        _folder() as directory,
        ProcessPoolExecutor(jobs, initializer=_begin_worker, initargs=(directory,)) as pool,
    ):
        futures = [pool.submit(call) for call in calls]
        try:
            for done in as_completed(futures):
                if time.monotonic() > deadline:
                    for one in futures:
                        one.cancel()
                if not done.cancelled():
                    yield done.result()
        finally:  # whoever ends the command waits for no further seed
            for one in futures:
                one.cancel()


def play_seeds(seeds: Sequence[int], days: int, *, jobs: int, seconds: float | None) -> Iterator[Outcome]:
    """Play seeds side by side."""
    yield from _in_workers(jobs, [partial(_play_seed, seed, days) for seed in seeds], seconds=seconds)


def find_bugs(*, days: int, most_seeds: int, jobs: int) -> Iterator[tuple[str, Outcome, int]]:
    """Plant each bug of planted.py, and look for it."""
    from tests.proof.simulator.planted import BUGS  # noqa: PLC0415  as above

    yield from _in_workers(jobs, [partial(_find_bug, bug, days, most_seeds) for bug in BUGS])


# --- a story that fails ------------------------------------------------------------------------------------------


def shorten(story: Sequence[_Event], fails: Callable[[Sequence[_Event]], bool], *, seconds: float) -> list[_Event]:
    """Leave out events as long as the story still fails: halves first, then smaller parts."""
    left, size = list(story), max(1, len(story) // 2)
    deadline = time.monotonic() + seconds
    while True:
        start, dropped = 0, False
        while start < len(left) and time.monotonic() < deadline:
            shorter = left[:start] + left[start + size :]
            if fails(shorter):
                left, dropped = shorter, True
            else:
                start += size
        if time.monotonic() >= deadline or (size == 1 and not dropped):
            return left
        size = max(1, size // 2)


def tell_short_story(seed: int, days: int, kind: str, bug: str = "") -> Iterator[str]:
    """The shortest story found in which the same promise is broken, and what happens in it."""
    with _folder() as directory, Stage(Path(directory)) as stage:
        from tests.proof.simulator.planted import BUGS  # noqa: PLC0415  as above
        from tests.proof.simulator.story import make_story  # noqa: PLC0415

        def play(story: Sequence[Event]) -> Outcome:
            with BUGS[bug]() if bug else nullcontext():
                return stage.play(seed, days, story)

        short = shorten(make_story(seed, days), lambda story: play(story).kind == kind, seconds=_SHORTENING_SECONDS)
        outcome = play(short)
        yield f"seed {seed}, day {outcome.days}: {outcome.detail}"
        yield f"{len(short)} events are enough for it:"
        yield from (f"  {event}" for event in short)
        yield "What happened, at the end:"
        yield from (f"  {line}" for line in outcome.log[-40:])


# --- the command -------------------------------------------------------------------------------------------------

_ROWS = {  # what the page says, by what was counted
    "batches": "batches sent: whole, late, twice, incomplete, replaced meanwhile, before their files",
    "events that came again": "markers whose event came several times",
    "faults: refuse": "calls to S3, SNS, PostgreSQL, Airflow or AWS that were refused",
    "faults: lose the answer": "calls whose effect happened and whose answer was lost",
    "faults: kill": "processes killed right before or after a call",
    "faults: hang": "calls that hung, up to an hour",
    "outages": "times that a service was down for everybody, or Airflow killed, or the instance stopped",
    "by people": "writes to the table, undos, reloads, consents, dry runs, cleared runs, redrives, pauses",
    "runs": "runs that ended",
    "loads": "loads that were committed, each held against plain Python",
    "calls of the watchdog": "calls of the watchdog, after each of which nobody may wait for a mail that is due",
    "mails": "mails",
}


def figures(total: Total, *, bugs: str) -> Mapping[str, int | float | str]:
    """What the page shows."""
    counts: Counter[str] = Counter()
    for name, number in total.counts.items():
        counts[_GROUPS.get(name, name)] += number
    rows: dict[str, int | float | str] = {
        "simulated days": total.days,
        "seeds": total.seeds,
        "of these days: by the newest code of this run, of product or simulator": total.newest_days,
        "of these days: with S3 as a moto server; otherwise it is a folder": counts["days on S3"],
        **{text: counts[name] for name, text in _ROWS.items()},
        "promises broken": total.broken,
        "days in a second of processor time, without PostgreSQL's": round(total.days / (total.seconds or 1), 1),
    }
    return rows | ({"planted bugs that it finds (planted.py)": bugs} if bugs else {})


_GROUPS = {"faults: kill before": "faults: kill", "faults: kill after": "faults: kill"}
"""What is counted apart and shown together."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.proof.simulator.simulate", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--days", type=int, default=100, help="of each seed")
    parser.add_argument("--seconds", type=float, help="begin no further seed after so many")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--story", action="store_true", help="print all that happens in the first seed")
    parser.add_argument("--planted", action="store_true", help="look for each planted bug first")
    parser.add_argument("--brief", action="store_true", help="print no story of a seed that fails")
    parser.add_argument("--keep", action="store_true", help="keep the figures for docs/guarantees.md")
    parser.add_argument("--add", action="store_true", help="go on after the seeds of the figures kept, and add to them")
    parser.add_argument("--results", type=Path, help="a file of seeds: those in it are not played again")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the processes are ended too
    if given.story:
        return _print_story(given.seed, given.days)
    before = kept_total(given.days) if given.add else None
    if before:
        given.seed = before.seed + before.seeds
    elif given.add:
        parser.error("The kept figures are of another --days. Without --add, a new count begins at --seed.")
    missed, found = [], 0
    if given.planted:
        for bug, outcome, days in find_bugs(days=30, most_seeds=12, jobs=given.jobs):
            print(f"planted: {bug}: {outcome.kind or 'NOT FOUND'}, after {days} days", flush=True)
            missed += [bug] if not outcome.kind else []
            found += bool(outcome.kind)
    seeds = range(given.seed, given.seed + given.seeds)
    results = Results(given.results, days=given.days) if given.results else None
    outcomes = [one for seed, one in results.outcomes.items() if seed in seeds] if results else []
    if outcomes:
        print(f"{len(outcomes)} seeds are in {given.results} already.", flush=True)
    left = [seed for seed in seeds if seed not in {outcome.seed for outcome in outcomes}]
    for outcome in play_seeds(left, given.days, jobs=given.jobs, seconds=given.seconds):
        outcomes.append(outcome)
        if results:
            results.add(outcome)
        how = f"FAILED on day {outcome.days}: {outcome.detail}" if outcome.kind else f"{outcome.days} days"
        print(f"seed {outcome.seed}: {how}, {outcome.seconds:.1f} s", flush=True)
    total = (before or Total(given.seed, given.days, code_of(ROOT))).add(outcomes)
    rows = figures(total, bugs=f"{found} of {found + len(missed)}" * given.planted)
    print(*(f"{figure:>12}  {what}" for what, figure in rows.items()), sep="\n")
    failed = sorted((outcome for outcome in outcomes if outcome.kind), key=lambda outcome: outcome.days)
    if failed and not given.brief:
        print(*tell_short_story(failed[0].seed, given.days, failed[0].kind), sep="\n")
    elif given.keep and not failed:
        options = [("SEED", total.seed), ("SEEDS", total.seeds), ("DAYS", total.asked)]
        named = " ".join(f"{name}={value}" for name, value in options if value)
        keep("simulator", f"make simulate {named}{' PLANTED=1' * given.planted}", rows, total=total.as_json())
    return bool(failed or missed)


def _print_story(seed: int, days: int) -> int:
    with _folder() as directory, Stage(Path(directory)) as stage:
        from tests.proof.simulator.story import make_story  # noqa: PLC0415  imports Airflow

        outcome = stage.play(seed, days, make_story(seed, days))
    print(*outcome.log, outcome.detail, sep="\n")
    return bool(outcome.kind)


if __name__ == "__main__":
    sys.exit(main())
