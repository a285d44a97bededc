"""Makes the story of a simulation: what happens on each day, and does it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import etl
from etl import audit
from tests.proof.simulator.amazon import Put
from tests.proof.simulator.oracle import Oracle
from tests.proof.simulator.world import Hit, World
from tests.support.company_editions import CHANGES, Row, Vendor

_HEADER = "Date,Open,High,Low,Close,Volume,OpenInt"
_MOST_COMPANIES = 6
_ROLES = {"gate": 12, "process": 25, "load": 60, "mail": 8, "trigger": 6, "watchdog": 8, "report": 4}
"""Who is hit by faults, and at which of their calls to the outside at the latest."""
_DELICATE = {
    "gate": ("write",),
    "process": ("write",),
    "load": ("COMMIT", "COMMIT", "COPY", "connect", "write"),
    "mail": ("publish", "write"),
    "trigger": ("dagRuns", "token", "start-instances"),
    "watchdog": ("publish", "cp", "delete-object"),
    "report": ("publish", "cp", "send-message"),
}
"""Calls after and before which a fault does most harm."""
_WEIGHTS = {"load": 4, "mail": 2, "trigger": 2, "watchdog": 2}
_FAULTS_A_DAY = (4, 1, 0, 1)
"""Of the seeds in turn: some have bad luck, and one has none of this kind, so that nothing hides behind faults."""
_KINDS = ("refuse", "lose the answer", "kill before", "kill after", "hang")
_SERVICES = ("storage", "database", "sns", "airflow", "aws")
_WRITES = (
    "UPDATE historical_stocks_data SET close_value = '7.77' WHERE company_name = %s AND stock_date = %s",
    "DELETE FROM historical_stocks_data WHERE company_name = %s AND stock_date = %s",
    """
    INSERT INTO historical_stocks_data
    SELECT '1999-01-04', open_value, high_value, low_value, close_value, volume_traded, daily_percent_change,
           value_change, company_name
    FROM historical_stocks_data row
    WHERE company_name = %s AND stock_date = %s AND NOT EXISTS (
        SELECT FROM historical_stocks_data o WHERE o.company_name = row.company_name AND o.stock_date = '1999-01-04'
    )
    """,
)


@dataclass(frozen=True)
class Event:
    """One thing that happens: on a day (from 0), so many seconds after midnight UTC; `seed` decides the rest."""

    day: int
    second: int
    what: str
    seed: int

    @property
    def is_alone(self) -> bool:
        """Whether it waits until nothing else is under way: who writes to the table would wait for its locks."""
        return self.what in ("undo", "write", "redrive", "redrive a marker", "clear the last failed run")

    def __str__(self) -> str:
        return f"day {self.day} {self.second // 3600:02}:{self.second // 60 % 60:02} {self.what} ({self.seed})"


def make_story(seed: int, days: int) -> list[Event]:
    """All that happens, in its order."""
    events: list[Event] = []
    for day in range(days):
        dice = random.Random(f"{seed} {day}")
        is_weekday = day % 7 < 5  # the first day is a Monday
        begin = dice.randint(14 * 3600, 16 * 3600)

        def add(chance: float, what: str, second: int) -> None:
            if dice.random() < chance:  # noqa: B023  called at once
                events.append(Event(day, max(0, min(86_399, second)), what, dice.getrandbits(32)))  # noqa: B023

        add(0.88 if is_weekday else 0.12, "batch", begin)
        add(0.04, "batch", dice.randint(0, 86_000))
        near = begin + dice.randint(-120, 400)
        for _ in range(_FAULTS_A_DAY[seed % len(_FAULTS_A_DAY)]):
            add(0.40, "fault", near)
            add(0.20, "fault", begin + dice.randint(-60, 900))
        add(0.15, "outage", near)
        add(0.03, "outage", dice.randint(0, 86_000))
        add(0.05, "Airflow is killed", begin + dice.randint(0, 120))
        add(0.03, "the instance is stopped", begin + dice.randint(-600, 300))
        add(0.02, "the DAG is paused", begin + dice.randint(-7200, 300))
        add(0.08, "undo", begin + dice.randint(3600, 30_000))
        add(0.04, "write", dice.randint(0, 86_000))
        add(0.05, "reload", begin + dice.randint(3600, 20_000))
        add(0.06, "accept shrunk companies", begin + dice.randint(3600, 20_000))
        add(0.03, "dry run", begin + dice.randint(-9000, 9000))
        add(0.05, "clear the last failed run", begin + dice.randint(3600, 20_000))
        add(0.08, "redrive", dice.randint(0, 86_000))
        add(0.03, "redrive a marker", begin + dice.randint(3600, 20_000))
    return sorted(events, key=lambda event: (event.day, event.second))


class Players:
    """The vendor, the people, and bad luck."""

    def __init__(self, world: World, oracle: Oracle, *, seed: int) -> None:
        self._world, self._oracle = world, oracle
        self._vendor = Vendor(seed)
        self._batches = self._manual = 0

    def play(self, event: Event) -> None:
        dice = random.Random(event.seed)
        acts: dict[str, Callable[[random.Random], None]] = {
            "batch": self._batch,
            "fault": self._fault,
            "outage": self._outage,
            "Airflow is killed": lambda dice: self._world.kill_airflow(dice.choice((20, 60, 600, 7200))),
            "the instance is stopped": self._stop_instance,
            "the DAG is paused": self._pause,
            "undo": self._undo,
            "write": self._write,
            "reload": lambda _: self._ask({"reload": True}),
            "accept shrunk companies": lambda _: self._ask({"accept_shrunk": "all"}),
            "dry run": lambda _: self._ask({"dry_run": True}),
            "clear the last failed run": self._clear,
            "redrive": self._redrive,
            "redrive a marker": self._redrive_marker,
        }
        acts[event.what](dice)

    # --- the vendor ---------------------------------------------------------------------------------------------

    def _batch(self, dice: random.Random) -> None:
        self._batches += 1
        if dice.random() < 0.9:
            self._change(dice)
        names = sorted(self._vendor.companies)
        way = dice.choice(["whole"] * 6 + ["marker first", "late files", "replaced meanwhile", "incomplete", "twice"])
        self._world.say(f"batch {self._batches}: {way}, {', '.join(self._vendor.steps[-3:])}")
        self._world.count("batches")
        key = dice.choice([f"batch {self._batches}+x.SUCCESS", f"day/{self._batches}.SUCCESS", "batch.SUCCESS"])
        late = names if way == "marker first" else dice.sample(names, k=1) if way == "late files" else []
        for name in names:
            if name not in late:
                self._send(name)
        if late:
            self._world.clock.after(dice.choice((5, 100, 250, 900)), lambda: self._send_all(late))
        listed = [*names, f"gone{self._batches}.us.csv"] if way == "incomplete" else names
        self._send_index(listed)
        self._put(key, dice)
        if way == "twice":
            again = dice.choice((0.2, 1, 30, 4000))
            self._world.clock.after(again, lambda: self._put(dice.choice([key, f"again {key}"]), dice))
        if way == "replaced meanwhile":
            self._world.clock.after(dice.uniform(1, 12), lambda: self._replace(dice))

    def _put(self, key: str, dice: random.Random) -> None:
        deliveries = [dice.uniform(0.5, 20)]
        if dice.random() < 0.2:
            deliveries += [dice.choice((0.6, 3, 60, 5000, 20_000)) for _ in range(dice.randint(1, 2))]
            self._world.count("events that came again")
        self._world.put_marker(key, deliveries=deliveries, is_lost=dice.random() < 0.02 and key != "batch.SUCCESS")

    def _change(self, dice: random.Random) -> None:
        """The next edition of the batch."""
        vendor = self._vendor
        vendor._random = dice
        vendor.broken.clear()
        for _ in range(dice.randint(1, 3)):
            change = dice.choice(CHANGES)
            if change is Vendor._appear and len(vendor.companies) + len(vendor.away) >= _MOST_COMPANIES:
                change = Vendor._grow
            vendor.steps.append(change.__name__)
            change(vendor)

    def _replace(self, dice: random.Random) -> None:
        self._change(dice)
        self._world.say("some files are replaced meanwhile")
        for name in sorted(self._vendor.companies):
            if dice.random() < 0.6:
                self._send(name)

    def _send_all(self, names: Sequence[str]) -> None:
        for name in names:
            self._send(name)

    def _send(self, name: str) -> None:
        rows: Sequence[Row] | None = None
        if name in self._vendor.companies and name not in self._vendor.broken:
            rows = list(self._vendor.companies[name])
        elif name not in self._vendor.companies:
            return
        text = "" if rows is None else "\n".join([_HEADER, *(",".join((*row, "0")) for row in rows)]) + "\n"
        self._world.bucket.write(f"Stocks/{name}", text.encode())
        self._oracle.sent(name, rows)

    def _send_index(self, names: Sequence[str]) -> None:
        text = ", ".join(f"'{name}'" for name in names)
        self._world.bucket.write("CompanyNames/top_companies.txt", text.encode())
        self._oracle.indexed(names)

    # --- bad luck -----------------------------------------------------------------------------------------------

    def _fault(self, dice: random.Random) -> None:
        role = dice.choice([role for role in _ROLES for _ in range(_WEIGHTS.get(role, 1))])
        what, count = "", dice.randint(1, _ROLES[role])
        if dice.random() < 0.5:
            what, count = dice.choice(_DELICATE[role]), dice.randint(1, 2)
        seconds = dice.choice((5, 100, 4000))
        self._world.hits.append(Hit(role, what, count, dice.choice(_KINDS), self._world.clock.now, seconds))

    def _outage(self, dice: random.Random) -> None:
        self._world.take_down(dice.choice(_SERVICES), dice.choice((10, 60, 300, 2000, 9000)))

    def _stop_instance(self, dice: random.Random) -> None:
        if self._world.instance.state != "running":
            return
        self._world.count("outages")
        self._world.say("somebody stops the instance")
        self._world.instance.stop()
        self._world.clock.after(dice.choice((600, 9000, 40_000)), self._world.instance.start)

    def _pause(self, dice: random.Random) -> None:
        self._somebody("pauses the DAG")
        self._world.airflow.is_paused = True
        self._world.clock.after(dice.choice((300, 9000, 30_000)), self._world.airflow.unpause, alone=True)

    # --- people -------------------------------------------------------------------------------------------------

    def _ask(self, conf: dict[str, object]) -> None:
        """Start a run by the form, where Airflow is there."""
        if self._world.airflow.is_up and self._oracle.indexes:
            self._manual += 1
            self._somebody(f"starts a run with {conf}")
            self._world.ask(f"manual__{self._manual}", dict(conf))

    def _undo(self, _: random.Random) -> None:
        self._manual += 1
        run = etl.Run(run_id=f"undo__{self._manual}", started_at=self._world.clock.now)
        try:
            receipt = audit.undo(self._world.database.url, run=run)
        except etl.SettingsError as error:
            self._world.say(f"an undo is refused: {error}")
            self._oracle.undone(refusal=str(error))
        else:
            self._somebody(f"undoes {receipt.undone and receipt.undone.runs}")
            self._oracle.undone()

    def _write(self, dice: random.Random) -> None:
        """Change, delete or add one row of the table."""
        rows = self._world.rows("SELECT company_name, stock_date FROM historical_stocks_data ORDER BY 1, 2, open_value")
        if not rows:
            return
        name, day = dice.choice(rows)
        statement = dice.choice(_WRITES)
        self._world.rows(statement, name, day)
        self._somebody(f"writes to the table: {statement.split()[0]} {name} {day}")
        self._oracle.written()

    def _clear(self, dice: random.Random) -> None:
        failed = [run for run in self._world.airflow.runs.values() if run.state == "failed"]
        if failed and self._world.airflow.is_up:
            whole = dice.random() < 0.6
            self._somebody(f"clears {failed[-1].run_id}, {'from gate on' if whole else 'what failed'}")
            self._world.airflow.clear(failed[-1], whole=whole)

    def _redrive(self, _: random.Random) -> None:
        self._somebody("redrives the kept events")
        self._world.redrive()

    def _redrive_marker(self, dice: random.Random) -> None:
        if self._world.amazon.puts:
            key = dice.choice(sorted(self._world.amazon.puts))
            self._somebody(f"redrives {key!r}")
            self._world.redrive({"marker": key})

    def _somebody(self, does: str) -> None:
        self._world.count("by people")
        self._world.say(f"somebody {does}")

    # --- the end ------------------------------------------------------------------------------------------------

    def calm_down(self) -> Put:
        """All works again, and somebody does what the mails ask for; gives the marker of a last batch, a whole one."""
        world = self._world
        world.say("all is well again")
        world.down.clear()
        world.hits.clear()
        world.airflow.unpause()
        world.instance.start()
        world.clock.run(world.clock.now + timedelta(hours=3))
        world.instance.start()
        world.clock.run(world.clock.now + timedelta(minutes=5))
        world.redrive()
        world.clock.run(world.clock.now + timedelta(hours=8))
        self._vendor.broken.clear()
        names = sorted(self._vendor.companies)
        self._send_all(names)
        self._send_index(names)
        put = world.put_marker("last.SUCCESS", deliveries=[1.0])
        world.clock.run(world.clock.now + timedelta(hours=1))
        return put
