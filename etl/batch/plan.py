"""The plan of a run: the company files to move, with their versions, in shards. Gate writes it, process reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from etl.batch.policy import Choice
from etl.batch.storage import Listed, Storage
from etl.errors import BatchError, FileChangedError

Shard = Mapping[str, Listed]
"""Company files that follow each other in the plan, by name: what one task processes."""

_RUN_FOLDERS = "work/run-"  # whatever else is in `work` is somebody's own
_PLAN = "plan.json"


@dataclass(frozen=True)
class Plan:
    """What one run moves.

    `shards`: the company files as they were listed, in the company index's order. `repeated`: names that the index at
    `company_index` (a path or URL) holds more than once. `ignored`: how many CSV files of the source it does not name.
    `missing`: files that it names and the source does not have, by whose `consent`.
    """

    company_index: str
    shards: tuple[Shard, ...]
    repeated: tuple[str, ...] = ()
    ignored: int = 0
    missing: tuple[str, ...] = ()
    consent: Choice | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for shard in self.shards for name in shard)

    def describe(self) -> str:
        """What gate found, in a sentence or two."""
        sizes = [listed.size_bytes for shard in self.shards for listed in shard.values()]
        empty, listed = sum(not size for size in sizes), len(sizes) + len(self.missing)
        there = f"{len(sizes):,} of the {listed:,}" if self.missing else f"All {listed:,}"
        lines = [
            f"{there} company files that {self.company_index} names are there: {sum(sizes) / 1e6:,.1f} MB"
            + (f", {empty:,} of them empty." if empty else ".")
        ]
        if self.missing:
            lines.append(f"Missing, as it is allowed: {first(self.missing)}.")
        if self.ignored > 0:
            lines.append(f"It does not name {self.ignored:,} other CSV files of the source.")
        if len(self.shards) > 1:
            lines.append(f"They are divided into {len(self.shards)} shards.")
        return " ".join(lines)

    def to_json(self) -> bytes:
        facts = {
            "company_index": self.company_index,
            "shards": [
                {
                    name: [listed.version, listed.size_bytes, *filter(None, [listed.stored_as])]
                    for name, listed in shard.items()
                }
                for shard in self.shards
            ],
            "repeated": self.repeated,
            "ignored": self.ignored,
            "missing": self.missing,
            "consent": self.consent and vars(self.consent),
        }
        return json.dumps(facts).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Plan:
        facts = json.loads(content)
        shards = tuple({name: Listed(*listed) for name, listed in shard.items()} for shard in facts["shards"])
        consent = facts["consent"] and Choice(**facts["consent"])
        repeated, missing = tuple(facts["repeated"]), tuple(facts["missing"])
        return cls(facts["company_index"], shards, repeated, facts["ignored"], missing, consent)


def first(names: tuple[str, ...]) -> str:
    """The first five of the names, for a message."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def divide(files: Mapping[str, Listed], *, shards: int) -> tuple[Shard, ...]:
    """Consecutive ranges of the files, alike in bytes; one may be empty."""
    total = sum(listed.size_bytes + 1 for listed in files.values())
    divided: list[dict[str, Listed]] = [{} for _ in range(shards)]
    before = 0
    for name, listed in files.items():
        weight = listed.size_bytes + 1
        divided[(2 * before + weight) * shards // (2 * total)][name] = listed  # where the middle of the file lies
        before += weight
    return tuple(divided)


def write_plan(plan: Plan, *, output: Storage, run_id: str) -> None:
    """Keep the plan for the tasks of this run, and remove what other runs have left: an output serves one at a time."""
    output.remove(_RUN_FOLDERS, unfinished=True)
    with output.write(f"{work_folder(run_id)}/{_PLAN}", lasting=False) as file:
        file.write(plan.to_json())


def read_plan(*, output: Storage, run_id: str) -> Plan:
    """The plan that gate wrote for this run. Raises BatchError when it is not there any more."""
    try:
        return Plan.from_json(output.read(f"{work_folder(run_id)}/{_PLAN}"))
    except (FileChangedError, ValueError) as error:  # a power cut may leave an incomplete one
        raise work_is_gone(run_id) from error


def remove_work(*, output: Storage, run_id: str) -> None:
    """Remove the plan and the shards of a run that needs them no more."""
    output.remove(f"{work_folder(run_id)}/")


def work_folder(run_id: str) -> str:
    """Where the plan and the shards of a run are while it lasts, below its output."""
    return f"{_RUN_FOLDERS}{run_id}"


def work_is_gone(run_id: str) -> BatchError:
    return BatchError(
        f"The plan or a shard of run {run_id} is gone: they are removed when their run has succeeded or another has "
        "begun. The table is unchanged. Clear the whole run, from gate on, or put the marker again."
    )
