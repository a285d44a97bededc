"""Plays the second day of a batch, with faults, until a run has met none: the unit that this proof counts."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from operator import itemgetter
from pathlib import Path
from typing import Any

from etl import audit
from etl.table.schema import make_tables
from tests.proof.every_fault.batch import first_day, second_day
from tests.proof.every_fault.judge import Call, Judge, Sight, Told, fingerprint, plain_outputs
from tests.proof.every_fault.nursery import RETRY, SHARDS, Nursery, Order
from tests.proof.every_fault.places import Bucket, Database, Folder, Place, Topic, start_moto
from tests.support.batch_files import Files
from tests.support.moto import aws_environment
from tests.support.process import HOST, free_port

PLACES = ("folder", "s3")
WAYS = {"run": "the command `mbd run`, one process", "tasks": "the DAG's tasks with two shards, each a process"}
_TRIES = 3  # of a task, as the DAG has it
_MOST_RUNS = 4


@dataclass(frozen=True)
class Case:
    """Where and how the batch is moved, and the faults that it meets: the kind by the name of the call."""

    place: str
    way: str
    faults: tuple[tuple[str, str], ...] = ()

    @property
    def command(self) -> str:
        """How to run this one alone."""
        faults = " ".join(f"--fault '{name}={kind}'" for name, kind in self.faults)
        return f"python -m tests.proof.every_fault --place {self.place} --way {self.way} {faults}".rstrip()


@dataclass
class Outcome:
    """What became of a case."""

    case: Case
    wrong: list[str] = field(default_factory=list)
    calls: list[list[Call]] = field(default_factory=list)
    """Of each run, in an order that is the same every time."""
    struck: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    """What each run has left, as a hash: equal where a later run would find the same."""
    ended: list[str] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)
    mails: int = 0
    notices: int = 0
    killed: int = 0
    is_single: bool = False
    """Whether one fault of two ended the run before the other could come."""
    seconds: float = 0.0


class World:
    """Everything that one worker needs: its nursery, its servers, its database and the two places."""

    def __init__(self, folder: Path, databases: Mapping[str, str]) -> None:
        port, self._closed_port = free_port(), free_port()
        for name in [name for name in os.environ if name.startswith(("MBD_", "AWS_", "PG"))]:
            del os.environ[name]
        os.environ.update(aws_environment(f"http://{HOST}:{port}"))
        self._nursery = Nursery()
        self._url = start_moto(port)
        self._folder = folder
        self._topic = Topic(self._url)
        self._worlds: dict[str, _Prepared] = {}
        self._databases = databases
        self._count = 0
        self._repeated: set[tuple[str, str, str]] = set()
        """Places, ways and states from which a run without a fault was played and judged."""

    def play(self, case: Case) -> Outcome:
        """Play one case from the first day's state on."""
        prepared = self._worlds.get(case.place) or self._prepare(case.place)
        prepared.place.restore()
        prepared.database.restore()
        return self._play(case, prepared)

    def _prepare(self, name: str) -> _Prepared:
        files = Files(self._folder / name)
        old = first_day(files)
        place: Place = Folder(files, self._folder / f"{name}-kept") if name == "folder" else Bucket(self._url)
        place.publish(files)
        make_tables(self._databases[name])
        prepared = _Prepared(str(files.root), place, Database(self._databases[name]))
        told = self._run(Case(name, "run"), prepared, 0, {})
        assert told.ended == "success", told.printed
        prepared.database.wait_for_sessions()
        place.keep()
        prepared.database.keep()
        new = second_day(files)
        place.publish(files)
        before = _look(prepared)
        judge = Judge(old, new, before.stored.plain, {}, {})
        self._topic.taken()
        told = self._run(Case(name, "run"), prepared, 1, {})
        prepared.database.wait_for_sessions()
        after = _look(prepared)
        whole = Judge(old, new, before.stored.plain, after.stored.plain, plain_outputs(after.outputs))
        wrong = judge.judge_end(told, after) + _deep(prepared) + _past(prepared, old.rows)
        assert not wrong, wrong
        prepared.judge = whole
        self._worlds[name] = prepared
        return prepared

    def _play(self, case: Case, prepared: _Prepared) -> Outcome:
        begun, judge = time.monotonic(), prepared.judge
        assert judge
        outcome, waiting, run_ids = Outcome(case), dict(case.faults), []
        before = _look(prepared)
        for number in range(1, _MOST_RUNS + 1):
            mine = {name: kind for name, kind in waiting.items() if name.startswith(f"{number} ")}
            told = self._run(case, prepared, number, mine)
            run_ids.append(told.run_id)
            prepared.database.wait_for_sessions()
            after = _look(prepared)
            outcome.calls.append(told.calls)
            outcome.struck += told.struck
            outcome.ended.append(told.ended)
            outcome.printed.append(told.printed)
            outcome.mails += len(told.mails)
            outcome.notices += f"notices/{told.run_id}.json" in after.outputs
            outcome.killed += sum(mine[name] == "killed" for name in told.struck)
            unread = {found[1] for name in outcome.struck if (found := re.search(r" Stocks/(\S+)", name))}
            wrong = judge.judge(told, before=before, after=after, way=case.way, faults=len(case.faults), unread=unread)
            for name in told.struck:
                del waiting[name]
            is_clean = not mine and (number > 1 or not case.faults)
            if is_clean:
                wrong += judge.judge_end(told, after)
                wrong += _deep(prepared, ignored=run_ids) + _past(prepared, judge.old.rows)
            outcome.wrong += [f"after run {number}: {one}" for one in wrong]
            outcome.states.append(hashlib.sha256(fingerprint(after, run_ids).encode()).hexdigest()[:16])
            if wrong or (is_clean and not waiting and number > 1):
                break
            if case.faults and not waiting:  # the rest is a run without a fault, from what is there now
                start = (case.place, case.way, outcome.states[-1])
                if start in self._repeated:
                    break
                self._repeated.add(start)
            before = after
        if waiting and not outcome.wrong:
            struck = [call for calls in outcome.calls for call in calls if call.name in outcome.struck]
            if any(call.has_no_order for call in struck):  # it came first, and has ended the run
                outcome.is_single = True
            else:
                outcome.wrong.append(f"not reached: {list(waiting)}")
        outcome.seconds = time.monotonic() - begun
        return outcome

    def _run(self, case: Case, prepared: _Prepared, number: int, faults: Mapping[str, str]) -> Told:
        """One run of the batch, as the command or as Airflow would have it."""
        self._count += 1
        told = Told(f"marker_run{self._count}_x", number)
        if case.way == "run":
            code = self._process("run", 1, told, prepared, faults)
            told.ended = "killed" if code < 0 else "failed" if code else "success"
        else:
            self._tasks(told, prepared, faults)
        told.mails = self._topic.taken()
        return told

    def _tasks(self, told: Told, prepared: _Prepared, faults: Mapping[str, str]) -> None:
        tasks = ["gate", *(f"process {shard}" for shard in range(SHARDS)), "load"]
        succeeded = True
        for task in tasks:
            for attempt in range(1, _TRIES + 1):
                code = self._process(task, attempt, told, prepared, faults)
                if code == 0 or not (code < 0 or code == RETRY):
                    break
            if code:
                succeeded = False
                break
        reason = "success" if succeeded else "task_failure"
        code = self._process("mail", 1, told, prepared, faults, reason=reason)
        told.ended = "killed" if code < 0 else "success" if succeeded else "failed"

    def _process(
        self, step: str, attempt: int, told: Told, prepared: _Prepared, faults: Mapping[str, str], reason: str = ""
    ) -> int:
        log, printed = self._folder / "calls", self._folder / "printed"
        log.unlink(missing_ok=True)
        printed.unlink(missing_ok=True)
        name = f"{told.number} {step}" + (f" try {attempt}" if attempt > 1 else "")
        order = Order(
            step, name, told.run_id, prepared.root, prepared.place.source, prepared.place.company_index,
            prepared.place.output, prepared.database.url, self._topic.arn, str(log), str(printed), self._closed_port,
            reason=reason, faults={call: kind for call, kind in faults.items() if call.startswith(f"{name}: ")},
        )  # fmt: skip
        code = self._nursery.do(order)
        threads: dict[str, list[Call]] = {"": []}
        for line in log.read_text().splitlines() if log.exists() else ():
            facts = json.loads(line)
            if "call" in facts:
                call = Call(facts["call"], tuple(facts["kinds"]), has_no_order=bool(facts["thread"]))
                threads.setdefault(facts["thread"], []).append(call)
            elif "struck" in facts:
                told.struck.append(facts["struck"])
            else:
                told.escaped.append(facts["escaped"])
        for _, calls in sorted(threads.items()):  # what threads do at the same time has no order: theirs come last
            told.calls += calls
        told.printed += printed.read_text(errors="replace") if printed.exists() else ""
        return code


@dataclass
class _Prepared:
    """A place whose first day is kept, and whose source is that of the second."""

    root: str
    place: Place
    database: Database
    judge: Judge | None = None


def _look(prepared: _Prepared) -> Sight:
    outputs = prepared.place.look()
    is_trusted = False
    try:
        manifest = json.loads(outputs.get("manifest.json", b"{}"))
        wanted = {"historical_stock_data.csv": manifest["combined_version"], **manifest["list_versions"]}
        found = prepared.place.versions()
        is_trusted = wanted == {name: found.get(name) for name in wanted}
    except (ValueError, KeyError):
        pass
    return Sight(outputs, prepared.place.rest(), prepared.database.look(), is_trusted)


def _deep(prepared: _Prepared, ignored: list[str] | None = None) -> list[str]:
    """What `mbd verify` finds; that a run which was disturbed has no receipt, or another one, is judged elsewhere."""
    output = prepared.place.output if isinstance(prepared.place, Folder) else None  # S3's is compared whole elsewhere
    found = audit.verify(prepared.database.url, output=output)
    told = [one for one in found if not (one.place == "receipts" and one.name in (ignored or ())[:-1])]
    return [f"verify: {one.place} {one.name}: {one.detail}" for one in told]


def _past(prepared: _Prepared, rows: list[tuple[str | None, ...]]) -> list[str]:
    """Whether the journal gives back what the table held after the first day, value for value."""
    then = prepared.database.rows("SELECT min(loaded_at) FROM loads")[0][0]
    found = prepared.database.rows("SELECT * FROM stock_prices_as_of(%s)", then)
    past, wanted = ([*sorted(map(_numbers, ones), key=itemgetter(-1, 0))] for ones in (found, rows))
    if past == wanted:
        return []
    differing = [one for one in (*past, *wanted) if past.count(one) != wanted.count(one)]
    counts = f"{len(past)} rows, not {len(wanted)}"
    return [f"as of the first day there are {counts}; the first that differs: {differing[0]}"]


def _numbers(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row of the table, or of `stock_prices_as_of`, whose numbers are compared by their value."""
    day, *values, name = row
    return str(day), *(None if value is None else Decimal(value) for value in values), name
