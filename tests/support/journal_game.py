"""Plays random editions of a batch on PostgreSQL; holds table, past, journal and held companies against pandas."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pandas as pd

import etl
from etl import audit
from tests.support.batch_files import Files, process
from tests.support.company_editions import Vendor
from tests.support.database import Database

Table = dict[tuple[str, str], tuple[float | None, ...]]
"""Rows by company and day: four prices, volume, percent change, value change."""

NAMES = ["Date", "Open", "High", "Low", "Close", "Volume"]
_COLUMNS = (
    "company_name, stock_date, open_value, high_value, low_value, close_value, volume_traded, daily_percent_change, "
    "value_change"
)
_NUMBERS = "open_value, high_value, low_value, close_value, volume_traded, daily_percent_change, value_change"
_WRITES = (
    "UPDATE historical_stocks_data SET open_value = '7' WHERE company_name = %s AND stock_date >= %s",
    "DELETE FROM historical_stocks_data WHERE company_name = %s AND stock_date >= %s",
    "DELETE FROM historical_stocks_data WHERE company_name = %s AND %s <> ''",
    "UPDATE historical_stocks_data SET stock_date = '1999-01-04' WHERE company_name = %s AND stock_date = %s",
    *(
        f"INSERT INTO historical_stocks_data SELECT '{day}', {_NUMBERS}, company_name FROM historical_stocks_data "
        "WHERE company_name = %s AND stock_date = %s"
        for day in ("1999-01-04", "2019-01-04")
    ),
)


class InterruptedByTest(BaseException):
    """What a test raises in the middle of a run, as a signal does."""


def pandas_table(files: Files, name: str) -> Table:
    """A company file as plain pandas reads it."""
    frame = pd.read_csv(files.source / name, usecols=NAMES)
    frame["percent"] = ((frame.Close - frame.Open) / frame.Open) * 100
    frame["change"] = frame.Close - frame.Open
    return {(name, str(row[0])): tuple(float(cell) for cell in row[1:]) for row in frame.itertuples(index=False)}


def _typed(rows: list[tuple[Any, ...]]) -> Table:
    table = {(row[0], str(row[1])): tuple(None if cell is None else float(cell) for cell in row[2:]) for row in rows}
    assert len(table) == len(rows), "a day is there twice"
    return table


@dataclass
class Game:
    """One random sequence of runs, and what each left."""

    files: Files
    database: Database
    seed: int
    states: list[tuple[str, Table]] = field(default_factory=list)
    """Each run that was committed and not undone, with the table as it was dumped after it."""
    outputs_are_loaded: bool = False
    played: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._vendor = Vendor(self.seed)

    def table(self) -> Table:
        return _typed(self.database.rows(f"SELECT {_COLUMNS} FROM historical_stocks_data"))

    @property
    def last(self) -> Table:
        return self.states[-1][1] if self.states else {}

    def play(self, runs: int) -> None:
        """Play so many runs; one that fails prints all that was played."""
        for _ in range(runs):
            try:
                self._play_run()
            except BaseException:
                print(f"seed {self.seed}:", *self.played, sep="\n  ")
                raise

    def _play_run(self) -> None:
        """Make an edition, move it in some way, and check everything."""
        self._vendor.step()
        self._write()
        way = self._random.choice(
            [
                self._load,
                self._load,
                self._load,
                self._load,
                self._killed,
                self._interrupted,
                self._since,
                self._dry_run,
                self._undo,
                self._put_right,
            ]
        )
        self.played.append(f"{way.__name__} after {self._vendor.steps[-3:]}")
        way()
        self.check()

    def _write(self) -> None:
        for name, rows in self._vendor.companies.items():
            self.files.put(name, None if name in self._vendor.broken else [",".join((*row, "0")) for row in rows])
        self.files.name(*self._vendor.companies)

    def _expected(self, receipt: etl.Receipt, *, consent: bool, since: str = "") -> Table:
        """The table by plain pandas over the accepted files. Which companies are held back is computed here too."""
        held = {one.company_name for one in receipt.held}
        expected = dict(self.last)
        for name in self._vendor.companies:
            if name in self._vendor.broken:
                continue
            new = {key: row for key, row in pandas_table(self.files, name).items() if key[1] >= since}
            old = {key: row for key, row in self.last.items() if key[0] == name}
            lost = len(old.keys() - new.keys())
            is_shrunk = (
                bool(old) and lost > 0 and (lost > 0.1 * len(old) or max(new, default=("", ""))[1] < max(old)[1])
            )
            if is_shrunk and not consent:
                assert name in held, (name, len(old), len(new))
                continue
            assert name not in held, (name, len(old), len(new))
            expected = {key: row for key, row in expected.items() if key[0] != name} | new
        return expected

    def _committed(self, receipt: etl.Receipt, *, consent: bool = False, since: str = "") -> None:
        expected, found = self._expected(receipt, consent=consent, since=since), self.table()
        assert found == expected
        self._check_journal(found)
        self.states.append((receipt.run_id, found))
        self.outputs_are_loaded = True

    def _load(self, **options: Any) -> None:  # noqa: ANN401
        consent, reload = self._random.random() < 0.3, self._random.random() < 0.2
        target = {"accept_shrunk": ("all",) if consent else (), "reload": reload, **options}
        if self._random.random() < 0.5:
            receipt = self.files.load(self.database, **target)
        else:
            run = etl.Run.begin("test")
            process(self.files.job(), run=run)
            receipt = etl.load(self.files.job(), target=etl.Target(self.database.url, **target), run=run)
        self._committed(receipt, consent=consent)

    def _at(self, act: Callable[[], object]) -> Callable[..., None]:
        at = self._random.randint(1, len(self._vendor.companies))

        def progress(*, done: int, total: int) -> None:
            if done == at:
                act()

        return progress

    def _killed(self) -> None:
        """The session is killed in the middle; the load is repeated."""

        def kill() -> None:
            self.database.kill(self.database.wait_for_session("state IN ('active', 'idle in transaction')"))

        run = etl.Run.begin("test")
        receipt = etl.run(self.files.job(), target=etl.Target(self.database.url), run=run, progress=self._at(kill))
        self._committed(receipt)

    def _interrupted(self) -> None:
        def stop() -> None:
            raise InterruptedByTest

        with suppress(InterruptedByTest):
            etl.run(
                self.files.job(),
                target=etl.Target(self.database.url),
                run=etl.Run.begin("test"),
                progress=self._at(stop),
            )
        assert self.table() == self.last

    def _since(self) -> None:
        """Refused where it would delete older rows, unless with reload."""
        day, reload = f"2001-01-{self._random.randint(1, 20):02}", self._random.random() < 0.5
        job = self.files.job(since=date.fromisoformat(day))
        try:
            receipt = self.files.load(self.database, job=job, reload=reload)
        except etl.BatchError:
            self.outputs_are_loaded = False
            assert self.table() == self.last
            return
        self._committed(receipt, consent=reload, since=day)

    def _dry_run(self) -> None:
        with suppress(etl.BatchError):
            self.files.load(self.database, job=self.files.job(output=str(self.files.root / "dry")), dry_run=True)
        assert self.table() == self.last

    def _put_right(self) -> None:
        """Somebody else writes to companies that are as their files are, some grow, and a reload leaves no trace."""
        self._load()
        as_loaded = [name for name in self._vendor.companies if name not in self._vendor.broken and self._is_last(name)]
        for name in self._random.sample(as_loaded, k=min(2, len(as_loaded))):
            statement = self._random.choice(_WRITES)
            self.played.append(f"  {' '.join(statement.split()[:3])} ... {name}")
            days = [day for company, day in self.last if company == name]
            self.database.execute(statement, name, self._random.choice(days))
        if self._random.random() < 0.5:
            Vendor._grow(self._vendor)
            self._write()
        self._committed(self.files.load(self.database, reload=True))
        self.database.execute("DELETE FROM changes_by_hand")  # companies that left the batch were not looked at

    def _is_last(self, name: str) -> bool:
        return pandas_table(self.files, name) == {key: row for key, row in self.last.items() if key[0] == name}

    def _undo(self) -> None:
        tables = [{}, *(table for _, table in self.states)]
        changed = [number for number in range(1, len(tables)) if tables[number] != tables[number - 1]]
        if not changed:
            return
        first = self._random.choice(changed) if self._random.random() < 0.3 else changed[-1]
        # Behind another one, a run may have spelled numbers in another way: then it has to be named.
        run_id = None if first == len(self.states) else self.states[first - 1][0]
        audit.undo(self.database.url, run=etl.Run.begin("undo"), run_id=run_id)
        assert self.table() == tables[first - 1]
        del self.states[first - 1 :]

    def _check_journal(self, found: Table) -> None:
        """The journal of the last load is the difference, no less and no more."""
        journal: dict[tuple[str, str], tuple[float | None, ...] | None] = {}
        for name, first, until, change, *old in self.database.rows(
            "SELECT company_name, stock_date, last_date, change, open_value, high_value, low_value, close_value, "
            "volume_traded, daily_percent_change, value_change FROM price_changes "
            "WHERE load = (SELECT max(load) FROM loads)"
        ):
            if change in ("new", "grew"):
                days = [key for key in found if key[0] == name and (first or "") <= key[1] <= (until or "9999")]
                journal |= dict.fromkeys(days)
            else:
                kept = tuple(None if cell is None else float(cell) for cell in old)
                journal[name, first] = None if change == "added" else kept
        difference = {
            key: self.last.get(key) for key in self.last.keys() | found.keys() if self.last.get(key) != found.get(key)
        }
        assert journal == difference

    def check(self) -> None:
        """The past is as it was dumped, and nothing disagrees."""
        for run_id, dump in self.states:
            at = self.database.rows("SELECT max(loaded_at) FROM loads WHERE run_id = %s", run_id)[0][0]
            assert _typed(self.database.rows(f"SELECT {_COLUMNS} FROM stock_prices_as_of(%s)", at)) == dump
        output = str(self.files.output) if self.outputs_are_loaded else None
        assert list(audit.verify(self.database.url, output=output)) == []
