"""Checks a history of loads and reads: each read saw one committed batch that was current while it was asked.

A history is lines of JSON, one where an operation begins and one where it has ended, in the order in which that
happened. It has no times, so no clock has a say.

    {"op": 7, "who": "reader 2", "does": "table"}
    {"op": 7, "saw": [{"kind": "rows", "companies": {"a.us.csv": "5d41402a"}}]}

What a read saw are signatures of companies, of one kind or of several that must fit the same batch. With `as_of`, the
number of a load, it asked for what the table held after that load. A load ends with its `number` in the order of the
commits and the signatures of its `batch`; an undo with its number, and the first load that it took back as `undid`; one
that committed nothing, with the reason as `nothing`.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Signatures = Mapping[str, Mapping[str, str]]
"""Of each company, its signature of each kind."""

_NEVER = 1 << 62


@dataclass(frozen=True)
class Verdict:
    """What a history had, and everything that is wrong with it."""

    reads: Counter[str]
    """How many of each kind."""
    writes: Counter[str]
    began_during: Counter[str]
    """How many reads began while a write of this kind was under way; of `any`, while one of any kind was."""
    batches: int
    """How many were committed."""
    anomalies: tuple[str, ...]


@dataclass(frozen=True)
class _Operation:
    begun: int
    ended: int
    """Numbers of lines."""
    facts: Mapping[str, Any]

    def __str__(self) -> str:
        return f"operation {self.facts['op']}, {self.facts['does']} by {self.facts['who']}"


@dataclass(frozen=True)
class _Batch:
    """The table after a commit. It cannot have been current before line `since`, nor behind line `until`."""

    companies: Signatures
    since: int = -1
    until: int = _NEVER
    undid: int | None = None


@dataclass
class _Checking:
    batches: Sequence[_Batch]
    undos: Sequence[tuple[int, int]]
    """Number of an undo, and of the first load that it took back."""
    expected: dict[tuple[int, str], dict[str, str]] = field(default_factory=dict)

    def fits(self, read: _Operation, number: int) -> bool:
        """Could this read have seen this when batch `number` was current?"""
        return all(self._of(self._asked(look, number), look["kind"]) == look["companies"] for look in read.facts["saw"])

    def _asked(self, look: Mapping[str, Any], number: int) -> int:
        """The batch that counts as of a load, when batch `number` is current: what was undone by then does not."""
        wanted = int(min(look.get("as_of", number), number))
        for undo, first in reversed(self.undos):
            if undo <= number and first <= wanted < undo:
                wanted = first - 1
        return wanted

    def _of(self, number: int, kind: str) -> dict[str, str]:
        if (number, kind) not in self.expected:
            of_all = self.batches[number].companies
            self.expected[number, kind] = {name: signatures[kind] for name, signatures in of_all.items()}
        return self.expected[number, kind]

    def explain(self, read: _Operation, *, before: int) -> str:
        """Why no batch fits that was current while the read lasted; some read had seen `before` already."""
        fitting = [number for number in range(len(self.batches)) if self.fits(read, number)]
        if not fitting:
            return f"{read} saw no committed batch: {self._nearest(read)}"
        batches = f"batch {' or '.join(map(str, fitting[-3:]))}"
        if any(self._may_see(read, number) for number in fitting):
            return f"{read} saw {batches}, and batch {before} had been seen before it began"
        return f"{read} saw {batches}, which was not current while it lasted"

    def _may_see(self, read: _Operation, number: int) -> bool:
        return self.batches[number].since < read.ended and self.batches[number].until > read.begun

    def _nearest(self, read: _Operation) -> str:
        look = read.facts["saw"][0]

        def differing(number: int) -> list[str]:
            wanted, seen = self._of(number, look["kind"]), look["companies"]
            return sorted(name for name in {*wanted, *seen} if wanted.get(name) != seen.get(name))

        nearest = min(reversed(range(len(self.batches))), key=lambda number: len(differing(number)))
        names = ", ".join(differing(nearest)[:3]) or "what its queries saw are different batches"
        return f"batch {nearest} but for {names}"


def check(lines: Iterable[str]) -> Verdict:
    """Check a history. Every reader sees one order: what anybody has seen, nobody who asks later sees undone."""
    operations, began_during, anomalies = _pair(lines)
    writes = [one for one in operations if "saw" not in one.facts and "failed" not in one.facts]
    reads = sorted((one for one in operations if "saw" in one.facts), key=lambda one: one.ended)
    anomalies += [f"{one} failed: {one.facts['failed']}" for one in operations if "failed" in one.facts]
    batches, missing = _batches([one for one in writes if "number" in one.facts])
    anomalies += missing
    undos = [(number, one.undid) for number, one in enumerate(batches) if one.undid is not None]
    checking = _Checking(batches, undos)
    last_lines = [one.until for one in batches]
    ends: list[int] = []  # of the reads so far, and the newest batch that any of them must have seen
    newest: list[int] = []
    for read in reads:
        done = bisect_right(ends, read.begun)
        before = newest[done - 1] if done else 0
        seen = None
        for number in range(max(before, bisect_right(last_lines, read.begun)), len(batches)):
            if batches[number].since > read.ended:
                break
            if checking.fits(read, number):
                seen = number  # the oldest that it can be binds later reads the least
                break
        if seen is None:
            anomalies.append(checking.explain(read, before=before))
        ends.append(read.ended)
        newest.append(max(newest[-1] if newest else 0, seen or 0))
    return Verdict(
        reads=Counter(read.facts["does"] for read in reads),
        writes=Counter(write.facts["does"] for write in writes),
        began_during=began_during,
        batches=len(batches) - 1,
        anomalies=tuple(anomalies),
    )


def _pair(lines: Iterable[str]) -> tuple[list[_Operation], Counter[str], list[str]]:
    """The operations, how many reads began during writes of each kind, and what has not ended."""
    begun: dict[int, tuple[int, dict[str, Any]]] = {}
    operations: list[_Operation] = []
    began: list[tuple[str, int]] = []  # of operations under way when another began: what it does, and that one
    for place, line in enumerate(lines):
        event = json.loads(line)
        if "does" in event:
            began += [(other["does"], event["op"]) for _, other in begun.values()]
            begun[event["op"]] = place, event
        else:
            first, facts = begun.pop(event["op"])
            operations.append(_Operation(first, place, facts | event))
    reads = {one.facts["op"] for one in operations if "saw" in one.facts}
    writes = {one.facts["does"] for one in operations if "saw" not in one.facts}
    fallen = {(does, op) for does, op in began if op in reads and does in writes}
    during = Counter(does for does, _ in fallen) + Counter({"any": len({op for _, op in fallen})})
    unended = [f"operation {op}, {facts['does']} by {facts['who']}, never ended" for op, (_, facts) in begun.items()]
    return operations, during, unended


def _batches(writes: Sequence[_Operation]) -> tuple[list[_Batch], list[str]]:
    """The table after each commit, by its number, from 0 before the first; and which commits nobody has recorded."""
    in_order = sorted(writes, key=lambda one: one.facts["number"])
    numbers = [one.facts["number"] for one in in_order]
    if numbers != list(range(1, len(numbers) + 1)):
        return [_Batch({})], [f"the commits are numbered {numbers}: one is missing or there twice"]
    states: list[Signatures] = [{}]
    since = [-1]
    for write in in_order:
        undid = write.facts.get("undid")
        states.append(states[undid - 1] if undid else {**states[-1], **write.facts["batch"]})
        since.append(max(since[-1], write.begun))
    until = [_NEVER] * len(states)
    for number in range(len(in_order) - 1, -1, -1):
        until[number] = min(until[number + 1], in_order[number].ended)
    undids = [None, *(write.facts.get("undid") for write in in_order)]
    return [_Batch(*one) for one in zip(states, since, until, undids, strict=True)], []
