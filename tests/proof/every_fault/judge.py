"""Looks at what a run has left, and says everything that is not as it must be."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import chain, combinations
from typing import Any

from tests.proof.every_fault.batch import Truth
from tests.proof.every_fault.places import Stored
from tests.support.batch_files import of_any_run
from trigger.watchdog import has_mail

_CLAIMS = ("Nothing was loaded", "The table is unchanged")
_OUTPUTS = (
    "historical_stock_data.csv",
    "manifest.json",
    "rejected_rows.csv",
    "rejected_rows.jsonl",
    "flagged_rows.csv",
)


@dataclass(frozen=True)
class Call:
    """A call that was made: its name, and the kinds of fault that it may meet."""

    name: str
    kinds: tuple[str, ...]
    has_no_order: bool = False
    """Whether a thread made it: what others do at the same time comes before or after it."""

    @property
    def what(self) -> str:
        """The name without the step and the number."""
        return self.name.partition(": ")[2].partition(" #")[0]


@dataclass(frozen=True)
class Sight:
    """What is outside, at one moment."""

    outputs: dict[str, bytes]
    rest: list[str]
    stored: Stored
    is_trusted: bool
    """Whether the manifest describes the very files that are there."""


@dataclass
class Told:
    """One run of the batch: what it did, what it said, and what was there after it."""

    run_id: str
    number: int
    ended: str = ""
    """`success`, `failed`, or `killed` where nothing could be said any more."""
    calls: list[Call] = field(default_factory=list)
    struck: list[str] = field(default_factory=list)
    escaped: list[str] = field(default_factory=list)
    printed: str = ""
    mails: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Judge:
    """`old` and `new`: the two days by pandas, and `plain` what the tables hold that say what was loaded."""

    old: Truth
    new: Truth
    plain_old: dict[str, list[str]]
    plain_new: dict[str, list[str]]
    outputs: dict[str, bytes]
    """Of a run that nothing disturbed."""

    def judge(
        self, told: Told, *, before: Sight, after: Sight, way: str, faults: int, unread: Collection[str]
    ) -> list[str]:
        """What is wrong after a run of the second day, whatever it met; `unread`: companies whose file met a fault."""
        return [
            *self._of_table(after.stored, unread),
            *self._of_receipts(told, after, unread),
            *self._of_end(told, before=before, after=after, way=way, unread=unread),
            *_of_mail(told, after, faults=faults),
            *(f"a call that nobody counts: {call}" for call in told.escaped),
        ]

    def _batches(self, unread: Collection[str]) -> Iterator[list[tuple[str | None, ...]]]:
        """What the new batch may be: a file that cannot be read is quarantined, and its company stays as it is."""
        for kept in chain.from_iterable(combinations(sorted(unread), count) for count in range(len(unread) + 1)):
            of_new = {name: rows for name, rows in self.new.slices.items() if name not in kept}
            of_old = {name: rows for name, rows in self.old.slices.items() if name in kept}
            yield Truth(of_new | of_old).rows

    def _of_table(self, stored: Stored, unread: Collection[str]) -> list[str]:
        wrong = []
        if stored.table != self.old.rows and stored.table not in self._batches(unread):
            wrong.append(f"the table is neither batch: {len(stored.table)} rows")
        elif stored.plain not in (self.plain_old, self.plain_new) and not unread:  # else `mbd verify` is asked alone
            wanted = self.plain_new if stored.table == self.new.rows else self.plain_old
            differing = [name for name, rows in wanted.items() if stored.plain[name] != rows]
            wrong.append(f"{', '.join(differing)} do not fit the table")
        succeeded = [run_id for run_id, state, _ in stored.runs if state == "success"]
        if sorted(stored.loads) != sorted(succeeded):
            wrong.append(f"loads of {stored.loads}, receipts of {succeeded}")
        for run_id in succeeded[1:]:
            if stored.lists.get(run_id) != (1, 1) and not unread:
                wrong.append(f"rejected rows and quarantined files of {run_id}: {stored.lists.get(run_id)}")
        return wrong

    def _of_receipts(self, told: Told, after: Sight, unread: Collection[str]) -> list[str]:
        wrong = []
        found = [(f"pipeline_runs of {run_id}", receipt) for run_id, _, receipt in after.stored.runs]
        for name, content in after.outputs.items():
            if name.startswith("receipts/"):
                try:
                    found.append((name, json.loads(content)))
                except ValueError:
                    wrong.append(f"{name} is no receipt")
        for name, receipt in found:
            wrong += [f"{name}: {sum_}" for sum_ in _unbalanced(receipt)]
            if receipt["state"] == "success" and receipt["run_id"] == told.run_id:
                accepted, files = len(self.new.combined.splitlines()), len(self.new.slices)
                if (receipt["rows"]["accepted"], receipt["files"]["accepted"]) != (accepted, files) and not unread:
                    wrong.append(f"{name} accepts {receipt['rows']['accepted']} rows of {receipt['files']['accepted']}")
        recorded = {run_id for run_id, state, _ in after.stored.runs if state == "success"}
        for name, receipt in found:
            is_loaded = receipt["state"] == "success" and receipt["rows"].get("inserted") is not None
            if is_loaded and receipt["run_id"] not in recorded:
                wrong.append(f"{name} says that it was loaded, and no load is recorded")
        return wrong

    def _of_end(self, told: Told, *, before: Sight, after: Sight, way: str, unread: Collection[str]) -> list[str]:
        wrong = []
        if "Traceback" in told.printed:
            wrong.append(f"a traceback: {told.printed.strip().splitlines()[-1]}")
        recorded = [state for run_id, state, _ in after.stored.runs if run_id == told.run_id]
        is_new = after.stored.table in self._batches(unread)
        if told.ended == "success" and not (is_new and "success" in recorded):
            wrong.append("it says that it succeeded, and the table is not the new batch")
        receipt = _receipt(after, told.run_id)
        if way == "run" and recorded.count("success") > 1:
            wrong.append("one process has recorded its success twice")
        if told.ended == "failed":
            errors = [line for line in told.printed.splitlines() if line.startswith("error: ")]
            if way == "run" and len(errors) != 1:
                wrong.append(f"{len(errors)} lines of error: {told.printed!r}")
            if receipt.get("state") != "failed" and "failed" not in recorded:
                wrong.append("a run that failed has no receipt")
        mails = (*told.mails, *_notices(after, told.run_id))
        texts = [told.printed, str(receipt.get("error", "")), *(text for _, text in mails)]
        if before.stored.table != after.stored.table:
            last = told.printed if way == "run" else ""
            for claim in _CLAIMS:
                if any(claim in text for text in (last, *texts[1:])):
                    wrong.append(f"it says {claim!r}, and something was")
        return wrong

    def judge_end(self, told: Told, after: Sight) -> list[str]:
        """What is wrong after a run that met no fault: it is the whole second day, with nothing left over."""
        wrong = []
        if told.ended != "success":
            wrong.append(f"the run without a fault ended as {told.ended}: {told.printed.strip()[-300:]}")
        if after.stored.table != self.new.rows:
            wrong.append("the table is not what pandas says")
        if after.outputs.get("historical_stock_data.csv") != self.new.combined:
            wrong.append("the combined file is not what pandas says")
        for name in _OUTPUTS:
            if self.outputs and of_any_run(name, after.outputs.get(name, b"")) != self.outputs[name]:
                wrong.append(f"{name} is not that of an undisturbed run")
        left = after.rest + [name for name in after.outputs if name.startswith(("work/", "parts/"))]
        if left:
            wrong.append(f"left over: {left}")
        if [subject.rpartition("_")[2] for subject, _ in told.mails] != ["Success"]:
            wrong.append(f"mails: {told.mails}")
        for page in (f"reports/{told.run_id}.html", "reports/latest.html"):
            if not after.outputs.get(page):
                wrong.append(f"no {page}")
        if not after.is_trusted:
            wrong.append("the manifest does not describe the files that are there")
        return wrong


def plain_outputs(outputs: dict[str, bytes]) -> dict[str, bytes]:
    """Combined file, lists and manifest, without what differs from run to run."""
    return {name: of_any_run(name, outputs.get(name, b"")) for name in _OUTPUTS}


def _receipt(sight: Sight, run_id: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(sight.outputs.get(f"receipts/{run_id}.json", b"{}"))
    except ValueError:
        return {}
    return found


def _notices(sight: Sight, run_id: str) -> list[tuple[str, str]]:
    """Subject and text of the mail that was kept, if one was; both are empty where it cannot be read."""
    content = sight.outputs.get(f"notices/{run_id}.json")
    if content is None:
        return []
    try:
        notice = json.loads(content)
        return [(str(notice["Subject"]), str(notice["Message"]))]
    except (ValueError, KeyError, TypeError):
        return [("", "")]


def _of_mail(told: Told, after: Sight, *, faults: int) -> list[str]:
    """One mail or a kept notice; the receipt of a run that was killed, or could keep none, says that there is none."""
    wrong = []
    kept = _notices(after, told.run_id)
    said = len(told.mails) + len(kept)
    is_unanswered = any(": sns Publish" in name for name in told.struck)  # SNS may have done it, and nobody knows
    if said > 1 and not is_unanswered:
        wrong.append(f"{len(told.mails)} mails and {len(kept)} notices")
    if not said and told.ended != "killed" and not (is_unanswered and faults > 1):
        wrong.append("no mail and no notice")
    if not said and has_mail(_receipt(after, told.run_id)):
        wrong.append("no mail and no notice, and its receipt says that there is one")
    recorded = [state for run_id, state, _ in after.stored.runs if run_id == told.run_id]
    for subject, text in kept:
        if not subject.endswith(("_Success", "_Failure")) or told.run_id not in text:
            wrong.append(f"a notice that is no mail of the run: {subject!r}, {text[:200]!r}")
    for subject, text in (*told.mails, *kept):
        if subject.endswith("_Success") and ("success" not in recorded or told.ended == "failed"):
            wrong.append("a mail of success about a run that failed")
        if subject.endswith("_Failure") and told.ended == "success" and "succeeded" not in text:
            wrong.append(f"a mail of failure about a run that succeeded: {text[:200]}")
    return wrong


def _unbalanced(receipt: dict[str, Any]) -> list[str]:
    files, rows = receipt["files"], receipt["rows"]
    wrong = []
    if files["listed"] != files["accepted"] + files["quarantined"] + files["missing"]:
        wrong.append(f"files do not balance: {files}")
    if rows["read"] != rows["accepted"] + rows["rejected"]:
        wrong.append(f"rows do not balance: {rows}")
    loaded = rows.get("inserted", rows["accepted"]) + rows.get("unchanged", 0) + rows.get("held", 0)
    if rows["accepted"] != loaded:
        wrong.append(f"rows do not balance: {rows}")
    return wrong


_TIMES = {"started_at", "elapsed_seconds", "steps", "previous", "error", "combined_version", "list_versions", "Message"}


def fingerprint(sight: Sight, run_ids: list[str]) -> str:
    """What a later run could read, without what differs from run to run: equal where it would do the same."""
    files: dict[str, Any] = {}
    for name, content in sight.outputs.items():
        if name.endswith(".html"):
            files[name] = bool(content)  # nobody but a person reads it
        elif name.endswith(".json") and content.startswith(b"{"):
            files[name] = _timeless(json.loads(content))
        else:
            files[name] = content.decode(errors="backslashreplace")
    stored = sight.stored
    runs = [(run, state, _timeless(receipt)) for run, state, receipt in stored.runs]
    seen = [files, sight.rest, sight.is_trusted, stored.plain, stored.loads, runs, stored.lists]
    text = json.dumps(seen, sort_keys=True, default=str)
    for number, run_id in enumerate(run_ids, 1):
        text = text.replace(run_id, f"RUN{number}")
    return text


def _timeless(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: fact for name, fact in facts.items() if name not in _TIMES}
