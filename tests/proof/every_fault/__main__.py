"""Lets every call that a small batch makes to the outside meet every kind of fault.

With --pairs two calls meet one each, as many pairs as time allows.

python -m tests.proof.every_fault                          single faults, of both places and both ways
python -m tests.proof.every_fault --share 0.1              a tenth of them
python -m tests.proof.every_fault --pairs --minutes 30     all of them, then pairs, until 30 minutes are over
python -m tests.proof.every_fault --place s3 --way run --list                           the calls, numbered
python -m tests.proof.every_fault --place s3 --way run --at 30 --kind lost              the call of this number alone
python -m tests.proof.every_fault --place s3 --way run --fault '1 run: commit=lost'     the same by the call's name
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.proof.every_fault.calls import FILE_CALLS, KINDS, S3_CALLS, SNS_CALLS, SQL_CALLS
from tests.proof.every_fault.judge import Call
from tests.proof.every_fault.players import players
from tests.proof.every_fault.scenario import PLACES, WAYS, Case, Outcome
from tests.support.proof import PAIRS, PAIRS_OF_ONE, PAIRS_THAT_DIFFER, WRONG_FAULTS, keep, share

SHOWN_FAILURES = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Play what is asked for; 1 where something was not as it must be."""
    options = _options(arguments)
    begun = time.monotonic()
    until = begun + options.minutes * 60 if options.minutes else None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was begun is ended
    places = [options.place] if options.place else list(PLACES)
    ways = [options.way] if options.way else list(WAYS)
    with players(options.workers) as play:
        undisturbed = {one.case: one for one in play(Case(place, way) for place in places for way in ways)}
        count = Counted()
        for outcome in undisturbed.values():
            if outcome.wrong:
                return _fail([outcome])
        if options.list:
            for case, outcome in undisturbed.items():
                for number, call in enumerate(outcome.calls[0], 1):
                    print(f"{case.place} {case.way} {number:>4}  {call.name}  ({', '.join(call.kinds)})")
            return 0
        if options.fault or options.at:
            cases = [Case(places[0], ways[0], _given(options, undisturbed[Case(places[0], ways[0])]))]
        else:
            cases = [case for outcome in undisturbed.values() for case in _singles(outcome)]
            random.Random(options.seed).shuffle(cases)
            of = len(cases)
            count.singles = of
            cases = cases[: round(of * options.share)]
            print(f"{of:,} single faults" + (f", of which {len(cases):,} are played" if len(cases) < of else ""))
        single = count.all(play(cases, until=None if options.pairs else until), of=len(cases), what="single faults")
        if options.fault or options.at:
            for outcome in single:
                _describe(outcome)
        pairs: list[Outcome] = []
        if options.pairs and not count.failed:
            two, of, same = _pairs(single)
            random.Random(options.seed).shuffle(two)
            two = _new_kinds_first(two)
            count.pairs, count.kinds = (len(two), of), len({_kind_of_pair(case) for case in two})
            print(f"{of:,} pairs; {same:,} of them begin as another one does, and {len(two):,} are to be played:")
            print(f"first one of each of {count.kinds:,} kinds")
            pairs = count.all(play(two, until=until), of=len(two), what="pairs")
    seconds = round(time.monotonic() - begun)
    print(count.table(undisturbed, single, pairs, seconds=seconds))
    if options.keep and not count.failed:
        part = options.share if options.share < 1 else None
        given = {"PAIRS": options.pairs and 1, "SHARE": part, "MINUTES": options.minutes, "SEED": options.seed}
        command = " ".join(
            [
                "make test-every-fault",
                *(
                    f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
                    for name, value in given.items()
                    if value
                ),
            ]
        )
        name = "pairs_of_faults" if options.pairs else "every_fault"
        print(f"kept in {keep(name, command, count.figures(undisturbed, single, pairs, seconds=seconds))}")
    return _fail(count.failed) if count.failed else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.proof.every_fault",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--place", choices=PLACES, help="only there")
    parser.add_argument("--way", choices=WAYS, help="; ".join(f"{name}: {text}" for name, text in WAYS.items()))
    parser.add_argument("--at", type=int, metavar="N", help="only the call of this number; --list shows them")
    parser.add_argument("--kind", choices=KINDS, default="error", help="; ".join(f"{k}: {t}" for k, t in KINDS.items()))
    parser.add_argument("--fault", action="append", metavar="CALL=KIND", help="only this one, or these together")
    parser.add_argument("--list", action="store_true", help="list the calls, and play nothing")
    parser.add_argument("--share", type=share, default=1.0, help="play this share of the single faults (0.1: a tenth)")
    parser.add_argument("--pairs", action="store_true", help="then play two faults, in one run or in its repetition")
    parser.add_argument("--minutes", type=float, help="play as many as fit into so many minutes")
    parser.add_argument("--seed", default="1", help="which come first (1)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that play")
    parser.add_argument("--keep", action="store_true", help="keep the figures for docs/guarantees.md")
    return parser.parse_args(arguments)


# --- what is played ------------------------------------------------------------------------------------------------


def _singles(undisturbed: Outcome) -> Iterator[Case]:
    """Every call of an undisturbed run with every kind of fault that it may meet."""
    case = undisturbed.case
    for call in undisturbed.calls[0]:
        for kind in call.kinds:
            yield Case(case.place, case.way, ((call.name, kind),))


def _pairs(single: Iterable[Outcome]) -> tuple[list[Case], int, int]:
    """Each single fault with every fault of what comes after it: in the same run, or in the repetition.

    Where two single faults are followed by the same calls and leave the same behind, what comes after is the same, and
    it is played for one of them. Returns the pairs, how many there are, and how many of these are the same as another.
    """
    pairs: list[Case] = []
    total = 0
    seen: set[tuple[Any, ...]] = set()
    ordered = sorted(single, key=lambda one: (-len(one.calls), one.case.faults))  # those first that were repeated
    repetition: dict[tuple[str, str, str], list[Call]] = {}
    for outcome in ordered:
        case = outcome.case
        (name, _), *_ = case.faults
        first, *later = outcome.calls
        at = next(number for number, call in enumerate(first) if call.name == name)
        state = (case.place, case.way, outcome.states[0])
        if later:
            repetition.setdefault(state, later[0])
        for part, calls in (("same run", first[at + 1 :]), ("repetition", repetition.get(state, []))):
            faults = [(call.name, kind) for call in calls for kind in call.kinds]
            total += len(faults)
            key = (*state, part, outcome.ended[0], tuple(faults) if part == "same run" else ())
            if key not in seen:
                seen.add(key)
                pairs += [Case(case.place, case.way, (*case.faults, fault)) for fault in faults]
    return pairs, total, total - len(pairs)


def _new_kinds_first(pairs: Iterable[Case]) -> list[Case]:
    """The same pairs, and before all others one of each kind."""
    seen: set[tuple[str, ...]] = set()
    first: list[Case] = []
    rest: list[Case] = []
    for case in pairs:
        kind = _kind_of_pair(case)
        (rest if kind in seen else first).append(case)
        seen.add(kind)
    return [*first, *rest]


def _kind_of_pair(case: Case) -> tuple[str, ...]:
    """What the two calls are, and what they meet: an UploadPart whose answer is lost, and a commit that is refused."""
    return tuple(part for name, kind in case.faults for part in (_kind_of(Call(name, ()).what), kind))


def _given(options: argparse.Namespace, undisturbed: Outcome) -> tuple[tuple[str, str], ...]:
    if options.fault:
        return tuple((name, kind) for name, _, kind in (one.rpartition("=") for one in options.fault))
    return ((undisturbed.calls[0][options.at - 1].name, options.kind),)


# --- what is said --------------------------------------------------------------------------------------------------


@dataclass
class Counted:
    """What was played, and what went wrong."""

    failed: list[Outcome] = field(default_factory=list)
    singles: int = 0
    """How many there are."""
    pairs: tuple[int, int] = (0, 0)
    """How many there are, the same ones counted once, and all of them."""
    kinds: int = 0
    """Of how many kinds the pairs are."""

    def all(self, outcomes: Iterable[Outcome], *, of: int, what: str) -> list[Outcome]:
        """Wait for all of them, and say now and then how far it is."""
        done: list[Outcome] = []
        said = time.monotonic()
        for outcome in outcomes:
            done.append(outcome)
            if outcome.wrong:
                self.failed.append(outcome)
                if len(self.failed) <= SHOWN_FAILURES:
                    _describe(outcome)
            if time.monotonic() - said > 10 or len(done) == of:
                said = time.monotonic()
                print(f"{len(done):,} of {of:,} {what}, {len(self.failed)} of them wrong", flush=True)
        return done

    def figures(
        self, undisturbed: dict[Case, Outcome], single: list[Outcome], pairs: list[Outcome], *, seconds: int
    ) -> dict[str, int | float | str]:
        """The figures of the page."""
        kinds = Counter(kind for one in single for _, kind in one.case.faults)
        played = [*single, *pairs]
        rows: dict[str, int | float | str] = {
            f"calls of a batch: {case.place}, {WAYS[case.way]}": len(one.calls[0]) for case, one in undisturbed.items()
        }
        rows["single faults that there are"] = self.singles or len(single)
        rows["single faults played"] = len(single)
        rows |= {f"of these: {kind} ({KINDS[kind]})": kinds[kind] for kind in KINDS}
        if pairs:
            kinds_played = {_kind_of_pair(one.case) for one in pairs if not one.is_single}
            rows[PAIRS] = len(pairs)
            rows[PAIRS_OF_ONE] = sum(one.is_single for one in pairs)
            rows["kinds of pairs: what the two calls are (such as a commit), and what each meets"] = self.kinds
            rows["kinds of pairs of which one or more was played"] = len(kinds_played)
            rows[PAIRS_THAT_DIFFER] = self.pairs[0]
            rows["pairs that there are in all"] = self.pairs[1]
        rows["processes killed"] = sum(one.killed for one in played)
        rows[WRONG_FAULTS] = len(self.failed)
        rows["seconds"] = seconds
        return rows

    def table(
        self, undisturbed: dict[Case, Outcome], single: list[Outcome], pairs: list[Outcome], *, seconds: int
    ) -> str:
        """The figures, the calls by their kind, and what was reached by nothing."""
        lines = ["", "calls by kind, and the faults that they met"]
        reached: Counter[str] = Counter()
        met: Counter[str] = Counter()
        for outcome in (*undisturbed.values(), *single):
            for calls in outcome.calls:
                reached.update(_kind_of(call.what) for call in calls)
        for outcome in (*single, *pairs):
            met.update(_kind_of(Call(name, ()).what) for name in outcome.struck)
        for kind in _ALL:
            if met[kind]:
                lines.append(f"  {kind:<32} {met[kind]:>6,}")
        never = [kind for kind in _ALL if not reached[kind]]
        unmet = [kind for kind in _ALL if reached[kind] and not met[kind]]
        lines += [f"made by no run: {', '.join(never) or 'none'}", f"met by no fault: {', '.join(unmet) or 'none'}", ""]
        rows = self.figures(undisturbed, single, pairs, seconds=seconds)
        return "\n".join([*lines, *(f"{what}: {figure}" for what, figure in rows.items())])


_ALL = (
    *(f"file {name}" for name in FILE_CALLS),
    *(f"s3 {name}" for name in S3_CALLS),
    *(f"sns {name}" for name in SNS_CALLS),
    *(f"sql {name}" for name in SQL_CALLS),
    "end of a process",
)


def _kind_of(what: str) -> str:
    first, _, rest = what.partition(" ")
    if what == "end":
        return "end of a process"
    if first in ("s3", "sns"):
        return f"{first} {rest.split(' ')[0]}"
    if what.startswith("GetObject by obstore"):
        return "s3 GetObject by obstore"
    return f"sql {first}" if first in SQL_CALLS else f"file {first}"


def _describe(outcome: Outcome) -> None:
    print(f"\n{'; '.join(f'{kind} at {name!r}' for name, kind in outcome.case.faults)}")
    print(f"  runs ended as {', '.join(outcome.ended)}; {outcome.mails} mails, {outcome.notices} notices")
    for number, printed in enumerate(outcome.printed, 1):
        print(*(f"  run {number} printed: {line}" for line in printed.splitlines()[-12:]), sep="\n")
    for one in outcome.wrong:
        print(f"  WRONG {one}")
    print(f"  alone: {outcome.case.command}", flush=True)


def _fail(failed: Sequence[Outcome]) -> int:
    print(f"{len(failed)} cases are not as they must be", file=sys.stderr)
    for outcome in failed[:SHOWN_FAILURES]:
        _describe(outcome)
    return 1


if __name__ == "__main__":
    sys.exit(main())
