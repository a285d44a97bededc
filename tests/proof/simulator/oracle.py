"""Says what must hold: the table, by plain Python over what the vendor sent, and who must have heard of what by mail.

It shares no code with etl and trigger, but for `etl.audit.verify`, which is asked in addition.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar
from zoneinfo import ZoneInfo

from etl import audit
from tests.proof.simulator.airflow_rules import DagRun
from tests.proof.simulator.amazon import MONITORED, Put
from tests.proof.simulator.world import Mail, Process, PromiseBrokenError, World

if TYPE_CHECKING:
    import random

    from tests.support.company_editions import Row

Values = tuple[float, ...]
Company = dict[str, Values]
"""Four prices, volume, percent change and value change, by day."""
Lines = tuple[str, ...]
_Sent = TypeVar("_Sent")

PATIENCE = timedelta(hours=2)
_LOOKS_BACK = timedelta(days=2)
EXPECTED_AT, EXPECTED_ZONE = time(18, 30), ZoneInfo("Europe/Berlin")
EXPECT_BY = "18:30 Mon-Fri Europe/Berlin"
_COLUMNS = (
    "company_name, stock_date, open_value, high_value, low_value, close_value, volume_traded, daily_percent_change, "
    "value_change"
)
_TEXTS = ", ".join(f"{column}::text" for column in _COLUMNS.split(", "))


@lru_cache(maxsize=200_000)
def values_of(row: tuple[str, ...]) -> tuple[Values, str]:
    """What the table must hold of a row of a company file: as numbers, and as the written line without the company."""
    opened, high, low, closed = (float(price) for price in row[1:5])
    percent, change = ((closed - opened) / opened) * 100, closed - opened
    return (opened, high, low, closed, float(row[5]), percent, change), ",".join([*row, repr(percent), repr(change)])


@lru_cache(maxsize=200_000)  # a table is read again and again
def _numbers(row: tuple[str, ...]) -> Values:
    return tuple(float(cell) for cell in row)


@dataclass(frozen=True)
class Edition:
    """A company file as it was sent; `rows` of none is a file of 0 bytes."""

    at: datetime
    company: Company | None
    sha256: str = ""


@dataclass
class State:
    """What the table held after one load, but for rows that people wrote."""

    load: int
    loaded_at: datetime
    table: dict[str, Company]
    moved: bool
    """Whether the load changed the table's text: a number may be spelled in another way."""
    unsure: set[str] = field(default_factory=set)
    """Companies that people wrote to, then or later."""


class Oracle:
    """What was sent, and what was seen of the table so far."""

    def __init__(self, world: World, *, expects: bool) -> None:
        self.world, self._expects = world, expects
        self.editions: dict[str, list[Edition]] = {}
        self.indexes: list[tuple[datetime, tuple[str, ...]]] = []
        self._lines: dict[str, Lines] = {}
        """Of each slice that a file makes, by its SHA-256: its lines, by day."""
        self.states: list[State] = []
        self.table: dict[str, Company] = {}
        self._slices: dict[str, Company] = {}
        """What the ledger knows of each company."""
        self.touched: set[str] = set()
        """Companies that somebody has written to, and no load has corrected."""
        self._is_written_to = False
        self._text: dict[str, list[str]] = {}
        self._last_load = 0
        self._reported: dict[Put, list[Mail]] = {}
        self._concluded: set[str] = set()
        """Runs whose callbacks met no fault: their receipts know of their mails."""
        world.rows(f"PREPARE past AS SELECT {_TEXTS} FROM stock_prices_as_of($1)")  # planned once: it costs most
        world.committed, world.loaded = self.after_commit, self.after_load
        world.passed, world.stopped = self.after_task, self.after_failure
        world.concluded, world.watched, world.reported = self.after_callback, self.after_watchdog, self.after_report

    # --- what was sent ------------------------------------------------------------------------------------------

    def sent(self, name: str, rows: Sequence[Row] | None) -> None:
        edition = Edition(self.world.clock.now, None)
        if rows is not None:
            made = [(row[0], *values_of(row)) for row in rows]
            lines = [f"{line},{name}\n" for _, _, line in made]
            sha256 = hashlib.sha256("".join(lines).encode()).hexdigest()
            self._lines[sha256] = tuple(sorted(lines))
            edition = Edition(self.world.clock.now, {day: values for day, values, _ in made}, sha256)
        self.editions.setdefault(name, []).append(edition)

    def indexed(self, names: Sequence[str]) -> None:
        self.indexes.append((self.world.clock.now, tuple(names)))

    def _indexes_of(self, run: DagRun) -> list[tuple[str, ...]]:
        """Those that the run may have read."""
        return [names for _, names in _since(run, self.indexes)]

    def _editions_of(self, name: str, run: DagRun) -> list[Edition]:
        """Those of a company, likewise."""
        return [edition for _, edition in _since(run, [(one.at, one) for one in self.editions.get(name, [])])]

    # --- the table ----------------------------------------------------------------------------------------------

    def _read(self) -> tuple[dict[str, Company], dict[str, list[str]]]:
        """The table by company: as numbers, and as lines by day."""
        table: dict[str, Company] = {}
        lines: dict[str, list[str]] = {}
        for name, day, *cells in self.world.rows(
            f'SELECT {_COLUMNS} FROM historical_stocks_data ORDER BY stock_date COLLATE "C"'
        ):
            company = table.setdefault(name, {})
            if day in company:
                raise PromiseBrokenError("a row is there twice", f"{name} {day}")
            company[day] = _numbers(tuple(cells))
            lines.setdefault(name, []).append(",".join((day, *cells, name)) + "\n")
        return table, lines

    def after_commit(self) -> None:
        """What readers see changes only with the record of a load."""
        if self.world.rows("SELECT coalesce(max(load), 0) FROM loads") == [(self._last_load,)]:
            self._expect_table(self._read()[0], self.table, "rows were committed without their load")

    def after_load(self, run: DagRun, how: str) -> None:
        """After each try of a load, however it ended: the table is as before, or the whole batch is in it."""
        found, lines = self._read()
        loads = self.world.rows(
            "SELECT load, run_id, kind, loaded_at FROM loads WHERE load > %s ORDER BY load", self._last_load
        )
        if not loads:
            self._expect_table(found, self.table, "nothing was committed, and the table is another")
            if how == "success" and not run.conf.get("dry_run"):
                raise PromiseBrokenError("success without a load", run.run_id)
            return
        if [(run_id, kind) for _, run_id, kind, _ in loads] != [(run.run_id, "load")]:
            raise PromiseBrokenError("other loads than that of the run", f"{loads} in {run.run_id}")
        if run.conf.get("dry_run"):
            raise PromiseBrokenError("a dry run was committed", run.run_id)
        if how == "refused":
            raise PromiseBrokenError("a load was committed and said that it would never be", run.run_id)
        [(self._last_load, _, _, loaded_at)] = loads
        before, self.table = self.table, found
        touched_before = set(self.touched)
        for name in {*before, *found, *self.editions}:
            self._expect_company(name, before.get(name, {}), found.get(name, {}), run=run)
        self._expect_journal(before, found, without=touched_before | self.touched)
        # Rows that people wrote belong to no load: a load that puts them right has changed nothing.
        loaded = found | {name: self._slices[name] for name in self.touched if name in self._slices}
        self.states.append(
            State(self._last_load, loaded_at, loaded, moved=lines != self._text, unsure=set(self.touched))
        )
        self._text = lines
        self.world.count("loads")

    def _expect_company(self, name: str, old: Company, found: Company, *, run: DagRun) -> None:
        """The company is one of those that the files in the source, at the time of the run, allow."""
        indexes, editions = self._indexes_of(run), self._editions_of(name, run)
        consent = run.conf.get("accept_shrunk") == "all"
        allowed: list[Company] = []
        is_named = [name in names for names in indexes]
        if not all(is_named) or len(editions) != 1:
            allowed.append(old)
        known = self._slices.get(name, {})
        for edition in editions if any(is_named) else []:
            new = edition.company
            if new is None or (_is_shrunk(old, new) and not consent):
                allowed.append(old)
            if new is not None and (consent or not _is_shrunk(old, new)):
                allowed.append(new)
            # What somebody else has written is no loss when it goes.
            if name in self.touched and new is not None and not _is_shrunk(known, new):
                allowed.append(new)
            # Whether a load compares a company that people wrote to is the ledger's to say, but for a reload.
            if name in self.touched and not run.conf.get("reload"):
                tail = {day: values for day, values in (new or {}).items() if day not in known}
                behind = {day: values for day, values in tail.items() if day > max(old, default="")}
                allowed += [old, old | tail, old | behind, *([new] if new else [])]
                if new and found in (old | tail, old | behind) and found != old:
                    self._slices[name] = new
        if found not in allowed:
            nearest = min(allowed, key=lambda one: len(found.items() ^ one.items()), default={})
            raise PromiseBrokenError("the table is not that of the batch", f"{name}: {_difference(found, nearest)}")
        made = next((one.company for one in editions if one.company == found), None)
        if made is not None:
            self._slices[name] = made
            if found != old or run.conf.get("reload"):
                self.touched.discard(name)

    def _expect_table(self, found: dict[str, Company], expected: dict[str, Company], kind: str) -> None:
        if found != expected:
            wrong = next(name for name in {*found, *expected} if found.get(name) != expected.get(name))
            detail = _difference(found.get(wrong, {}), expected.get(wrong, {}))
            raise PromiseBrokenError(kind, f"{wrong}: {detail}")

    def _expect_journal(self, before: dict[str, Company], found: dict[str, Company], *, without: set[str]) -> None:
        """The journal of the last load is the difference, no less and no more."""
        journal: dict[tuple[str, str], Values | None] = {}
        for name, first, until, change, *old in self.world.rows(
            "SELECT company_name, stock_date, last_date, change, open_value, high_value, low_value, close_value, "
            "volume_traded, daily_percent_change, value_change FROM price_changes WHERE load = %s",
            self._last_load,
        ):
            if change in ("new", "grew"):
                days = [day for day in found.get(name, ()) if (first or "") <= day <= (until or "9999")]
                journal |= dict.fromkeys((name, day) for day in days)
            else:
                journal[name, first] = None if change == "added" else _numbers(tuple(old))
        difference = {
            (name, day): before.get(name, {}).get(day)
            for name in {*before, *found}
            for day in {*before.get(name, ()), *found.get(name, ())}
            if before.get(name, {}).get(day) != found.get(name, {}).get(day)
        }
        wrong = {key for key in {*journal, *difference} if key[0] not in without}
        if any(journal.get(key, ()) != difference.get(key, ()) for key in wrong):
            raise PromiseBrokenError("the journal is not the difference", f"load {self._last_load}")

    # --- people -------------------------------------------------------------------------------------------------

    def written(self) -> None:
        """Somebody wrote to the table: it is as they left it."""
        found, self._text = self._read()
        changed = {name for name in {*found, *self.table} if found.get(name) != self.table.get(name)}
        self.touched |= changed
        self._is_written_to = True
        self.table = found
        for state in self.states:
            state.unsure |= changed

    def undone(self, *, refusal: str = "") -> None:
        """Somebody undid the last run that changed something, or was refused."""
        found, self._text = self._read()
        tables = [{}, *(state.table for state in self.states)]
        newest = max((number for number in range(1, len(tables)) if tables[number] != tables[number - 1]), default=0)
        respelled = any(state.moved for state in self.states[newest:])
        if refusal:
            self._expect_table(found, self.table, "an undo was refused, and the table is another")
            if newest and not self._is_written_to and not respelled:
                raise PromiseBrokenError("an undo was refused though nobody had written to the table", refusal)
            return
        if respelled and not self._is_written_to:
            raise PromiseBrokenError("an undo of more than the last run", "a later one had spelled numbers otherwise")
        run_id = self.world.rows("SELECT run_id FROM loads ORDER BY load DESC LIMIT 1")[0][0]
        [(first,)] = self.world.rows("SELECT min(load) FROM loads WHERE undone_by = %s", run_id)
        last = [0, *(state.load for state in self.states)][newest]
        if first != last:
            raise PromiseBrokenError("an undo of another run", f"of load {first}, and load {last} changed something")
        for name in {*found, *tables[newest - 1]} - self.touched:
            if found.get(name, {}) != tables[newest - 1].get(name, {}):
                detail = _difference(found.get(name, {}), tables[newest - 1].get(name, {}))
                raise PromiseBrokenError("an undo left another table", f"{name}: {detail}")
        del self.states[newest - 1 :]
        self.table = found
        self._slices = {name: company for name, company in found.items() if name not in self.touched}
        self._last_load = int(self.world.rows("SELECT max(load) FROM loads")[0][0])

    # --- each day -----------------------------------------------------------------------------------------------

    def check_day(self, dice: random.Random) -> None:
        """Table, ledger, past and mails, at the end of a day."""
        found, lines = self._read()
        self._expect_table(found, self.table, "the table changed by itself")
        self._check_ledger(lines)
        older = self.states[:-1]
        for state in [*self.states[-1:], *dice.sample(older, k=min(2, len(older)))]:
            self._check_past(state)
        for wrong in audit.verify(self.world.database.url):
            if wrong.name not in self.touched:
                raise PromiseBrokenError("verify finds something", f"{wrong.place} {wrong.name}: {wrong.detail}")
        self._check_mails()
        self._check_runs()

    def _check_ledger(self, lines: dict[str, list[str]]) -> None:
        """Each entry's hash is that of the company's lines: in the order of a file that was sent, or by day."""
        ledger = {
            name: (sha256, rows)
            for name, sha256, rows in self.world.rows(
                "SELECT company_name, sha256, rows FROM loaded_companies WHERE rows > 0"
            )
        }
        if unknown := {*lines} - {*ledger} - self.touched:
            raise PromiseBrokenError("the ledger lacks a company", str(sorted(unknown)))
        for name, (sha256, rows) in ledger.items():
            if name in self.touched:
                continue
            here = lines.get(name, [])
            by_day = hashlib.sha256("".join(here).encode()).hexdigest()
            if len(here) != rows or (sha256 != by_day and self._lines.get(sha256, ()) != tuple(sorted(here))):
                raise PromiseBrokenError(
                    "ledger and table differ", f"{name}: {rows} rows in the ledger, {len(here)} there"
                )

    def _check_past(self, state: State) -> None:
        past: dict[str, Company] = {}
        for name, day, *cells in self.world.rows("EXECUTE past (%s)", state.loaded_at):
            past.setdefault(name, {})[day] = _numbers(tuple(cells))
        for name in {*past, *state.table} - state.unsure:
            if past.get(name, {}) != state.table.get(name, {}):
                detail = _difference(past.get(name, {}), state.table.get(name, {}))
                raise PromiseBrokenError("the past is another", f"load {state.load}, {name}: {detail}")

    # --- mails --------------------------------------------------------------------------------------------------

    def after_task(self, run: DagRun, process: Process) -> None:
        """Whoever looks while a run is under way finds its receipt."""
        folder = "Output/dry-run" if run.conf.get("dry_run") else "Output"
        if not process.hit and not self.world.bucket.read(f"{folder}/receipts/{run.run_id}.json"):
            raise PromiseBrokenError("a run without a receipt", f"{run.run_id}, after {process.role}")

    def after_failure(self, run: DagRun, process: Process) -> None:
        """A task that nothing happened to fails only for want of files, of any that can be used, or of its own plan."""
        if process.hit:
            return
        late = self.world.clock.now - timedelta(minutes=1)  # the gate looks again and again
        here = {name for name, editions in self.editions.items() if editions[0].at < late}
        lacks_files = any(name not in here for names in self._indexes_of(run) for name in names)
        empty = {name for name in here if any(one.company is None for one in self._editions_of(name, run))}
        lacks_usable = any(empty.issuperset(names) for names in self._indexes_of(run))
        since = run.planned_since
        assert since
        later = [one for one in self.world.airflow.runs.values() if one.planned_since and one.planned_since > since]
        lacks_plan = run.begun > 1 and later
        if not (lacks_files if process.role == "gate" else lacks_plan or lacks_usable):
            raise PromiseBrokenError("it failed without a reason", f"{process.role}: {process.error}")

    def after_callback(self, run: DagRun, process: Process) -> None:
        """A callback that nothing happened to has sent the one mail of its run, and the receipt says so."""
        if process.hit:
            return
        self._check_receipt(run)
        self._concluded.add(run.run_id)
        mails = [mail for mail in self.world.mails if mail.process is process]
        if [run_of(mail) for mail in mails] != [run.run_id]:
            raise PromiseBrokenError("a run without its one mail", f"{run.run_id}: {len(mails)} mails")
        wanted = "Success" if run.state == "success" else "Failure"
        if not mails[0].subject.endswith(f"_Pipeline_{wanted}"):
            raise PromiseBrokenError("a mail says something else than the run", f"{run.run_id}: {mails[0].subject}")
        for told in (run.error, run.conf.get("marker", {}).get("key", "")):
            if told not in mails[0].text:
                raise PromiseBrokenError("a mail does not say what it must", f"{run.run_id}: {told}")

    def _check_receipt(self, run: DagRun) -> None:
        """The receipt of a run that has ended says how, and that its mail was sent; each row is somewhere."""
        folder = "Output/dry-run" if run.conf.get("dry_run") else "Output"
        receipt = json.loads(self.world.bucket.read(f"{folder}/receipts/{run.run_id}.json") or b"{}")
        state = "dry_run" if run.conf.get("dry_run") and run.state == "success" else run.state
        if (receipt.get("state"), receipt.get("mail")) != (state, "sent"):
            said = f"{receipt.get('state')}, mail {receipt.get('mail')}"
            raise PromiseBrokenError("a receipt says something else than the run", f"{run.run_id}: {said}")
        files, rows = receipt["files"], receipt["rows"]
        sums = [
            (files["listed"], files["accepted"] + files["quarantined"] + files["missing"]),
            (rows["read"], rows["accepted"] + rows["rejected"]),
        ]
        if run.state == "success":
            sums.append((rows["accepted"], rows["inserted"] + rows["unchanged"] + rows.get("held", 0)))
        if any(total != parts for total, parts in sums):
            raise PromiseBrokenError("a receipt that does not balance", f"{run.run_id}: {files} {rows}")

    def after_watchdog(self, process: Process) -> None:
        """Where the watchdog ended well, nobody waits for a mail any more that is due."""
        now = self.world.clock.now
        for put in list(self.world.amazon.puts.values()):
            # What was put or became due while it was at work, it may have missed.
            is_due = now - _LOOKS_BACK + PATIENCE < put.listed_at < now - PATIENCE - timedelta(minutes=5)
            if is_due and not any(self._is_about(mail, put) for mail in reversed(self.world.mails)):
                raise PromiseBrokenError("a silent marker", f"{put.key!r}, put {put.at:%a %H:%M:%S}")
        if self._expects:
            self._check_expectation(now)

    def _check_expectation(self, now: datetime) -> None:
        today = now.astimezone(EXPECTED_ZONE).date()
        for day in (today, today - timedelta(days=1)):
            by = datetime.combine(day, EXPECTED_AT, EXPECTED_ZONE).astimezone(UTC)
            since = min(datetime.combine(day, time(0), EXPECTED_ZONE).astimezone(UTC), by - timedelta(hours=12))
            begun = now - timedelta(minutes=5)
            if not by + timedelta(minutes=5) <= now < by + timedelta(hours=12):
                continue
            words = f"for {day:%A}, {day}"
            mails = [mail for mail in self.world.mails if words in mail.text]
            puts = [put for put in self.world.puts if put.listed_at >= since]
            if day.weekday() < 5 and not puts and not mails:
                raise PromiseBrokenError("nobody heard that no marker came", str(day))
            early = [put for put in puts if put.at < begun]
            if mails and (day.weekday() >= 5 or any(put.at < mails[0].at - timedelta(minutes=5) for put in early)):
                raise PromiseBrokenError("a mail about a marker that came or was not due", str(day))
            if len(mails) > 1 and not mails[0].process.hit:
                raise PromiseBrokenError("a doubled mail", f"about {day}")

    def _is_about(self, mail: Mail, put: Put) -> bool:
        run_id = run_of(mail)
        if run_id:
            run = self.world.airflow.runs.get(run_id)
            marker = run.conf.get("marker", {}) if run else {}
            is_after = run and run.planned_since and run.planned_since > put.at  # it has what was there at the put
            is_of_put = run_id in put.run_ids or _time_of(run_id) >= put.listed_at
            return marker.get("key") == put.key and bool(is_of_put or is_after)
        if f"no run was started for {put.key!r} in bucket" in mail.text:
            return mail.at >= put.at
        return f"the marker {put.key!r} in bucket {MONITORED}, put {put.listed_at:%Y-%m-%d %H:%M:%S} UTC" in mail.text

    def _check_mails(self) -> None:
        """No run and no marker has more mails than it may have, and nobody was alarmed without need."""
        by_run: dict[str, list[Mail]] = {}
        alarms: dict[str, list[Mail]] = {}
        for mail in self.world.mails:
            if run_id := run_of(mail):
                by_run.setdefault(run_id, []).append(mail)
            elif found := re.match(r"FAILED: the marker .* UTC,", mail.text):
                alarms.setdefault(found[0], []).append(mail)
        for run_id, mails in by_run.items():
            run = self.world.airflow.runs[run_id]
            if len(mails) > run.callbacks and not any(mail.process.hit for mail in mails):
                raise PromiseBrokenError("a doubled mail", f"{len(mails)} of {run_id}, {run.callbacks} callbacks")
        for what, mails in alarms.items():
            if len(mails) > 1 and not any(mail.process.hit for mail in mails[:-1]):
                raise PromiseBrokenError("a doubled alarm", what)
            for put in self.world.puts:
                if self._is_about(mails[0], put) and (of_run := self._clean_mail(put, before=mails[0])):
                    raise PromiseBrokenError("a false alarm", f"{what} {run_of(of_run)} had its mail")

    def after_report(self, put: Put, process: Process, begun: Sequence[str]) -> None:
        """Whoever is mailed that no run was started has none; `begun`: runs that had a receipt before."""
        of_others = {run_id for other in self.world.puts if other is not put for run_id in other.run_ids}
        of_put = [one for one in begun if _time_of(one) == put.finished_at.replace(microsecond=0)]
        of_put = [one for one in of_put if one not in of_others]  # two puts in one second
        told = [mail for mail in self.world.mails if mail.process is process]
        if of_put and told:
            raise PromiseBrokenError("a false alarm", f"no run was started for {put.key!r}, but {of_put[0]}")
        # An event that came twice may fail twice at the same moment: each then finds no mail of the other.
        before = [mail for mail in self._reported.get(put, ()) if process.began and mail.at < process.began]
        if told and before and not any(mail.process.hit for mail in before):
            raise PromiseBrokenError("a doubled alarm", f"no run was started for {put.key!r}")
        self._reported.setdefault(put, []).extend(told)

    def _clean_mail(self, put: Put, *, before: Mail) -> Mail | None:
        for mail in self.world.mails:
            if mail is before:
                return None
            run_id = run_of(mail)
            if run_id in put.run_ids & self._concluded and self.world.airflow.runs[run_id].begun == 1:
                return mail
        return None

    def _check_runs(self) -> None:
        """Each put has at most one run, and no run has two."""
        owners: dict[str, Put] = {}
        for put in self.world.puts:
            if len(put.run_ids) > 1:
                raise PromiseBrokenError("one put, several runs", f"{put.key!r}: {sorted(put.run_ids)}")
            for run_id in put.run_ids:
                if run_id not in self.world.airflow.runs:
                    raise PromiseBrokenError("a run that nobody knows", run_id)
                if run_id in owners:
                    raise PromiseBrokenError("two puts, one run", f"{put.key!r} and {owners[run_id].key!r}: {run_id}")
                owners[run_id] = put

    def check_end(self, last: Put) -> None:
        """At the end, when all works again and time has passed: nothing is left, everybody was heard, batches load."""
        if not any(self.world.airflow.runs[run_id].state == "success" for run_id in last.run_ids):
            raise PromiseBrokenError("a whole batch is not loaded", f"{last.key!r}, put when all was well")
        open_runs = [run.run_id for run in self.world.airflow.runs.values() if run.state not in ("success", "failed")]
        if open_runs:
            raise PromiseBrokenError("a run that never ends", str(open_runs))
        if self.world.amazon.kept:
            raise PromiseBrokenError("a kept event that stays", self.world.amazon.kept[0][:200])
        for put in self.world.puts:
            is_heard = put.run_ids or any(self._is_about(mail, put) for mail in self.world.mails)
            if not put.is_lost and not is_heard:
                raise PromiseBrokenError("a silent marker", f"{put.key!r}, put {put.at:%a %H:%M:%S}")


def _since(run: DagRun, sent: Sequence[tuple[datetime, _Sent]]) -> list[tuple[datetime, _Sent]]:
    """What was there when the gate of the run began, and what was sent later."""
    since = run.planned_since
    assert since
    return [one for one in sent if one[0] < since][-1:] + [one for one in sent if one[0] >= since]


def run_of(mail: Mail) -> str:
    """The run whose mail it is; empty for one of the trigger's own."""
    return _run_in(mail.text)


@lru_cache(maxsize=20_000)
def _run_in(text: str) -> str:
    found = re.search(r"^run +(\S+)$", text, re.MULTILINE)
    return found[1] if found else ""


@lru_cache(maxsize=20_000)
def _time_of(run_id: str) -> datetime:
    found = re.match(r"marker_([^_]+)Z_", run_id)
    return datetime.fromisoformat(found[1]).replace(tzinfo=UTC) if found else datetime.min.replace(tzinfo=UTC)


def _is_shrunk(old: Company, new: Company) -> bool:
    lost = len(old.keys() - new.keys())
    return bool(old) and lost > 0 and (lost > 0.1 * len(old) or max(new, default="") < max(old))


def _difference(found: Company, expected: Company) -> str:
    def parts() -> Iterator[str]:
        for day in sorted({*found, *expected}):
            one, other = found.get(day), expected.get(day)
            if one != other:
                what = "is missing" if one is None else "is too much" if other is None else "has other values"
                yield f"{day} {what}"

    some = list(parts())
    return f"{len(found)} rows for {len(expected)}: {', '.join(some[:3])}" + (", ..." if len(some) > 3 else "")
