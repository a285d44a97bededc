"""Writes a history: loaders move batches and undo them at full speed, while readers ask for the table in many ways."""

from __future__ import annotations

import copy
import hashlib
import json
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2

import etl
from etl.audit import undo
from etl.batch.policy import Choice

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

    from tests.support.batch_files import Files
    from tests.support.database import Database

_COLUMNS = (
    "stock_date, open_value, high_value, low_value, close_value, volume_traded, daily_percent_change, value_change, "
    "company_name"
)
_MOST_COMPANIES, _MOST_ROWS, _FIRST_ROWS = 12, 60, 30
_LEAST_UNDOABLE = 3  # loads that an undo must leave: one that took back all of them would begin a new journal
WRITES = ("new", "grown", "restated", "corrected", "mixed", "undo", "removed", "reload", "same", "refused", "dry run")
"""What loaders do: each of them once, in this order from another one on for each loader, then by chance."""


class History:
    """A file that lines are added to, each before its operation begins or after it has ended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._changed = threading.Condition()
        self._count = 0
        self._reads = 0

    def begin(self, who: str, does: str) -> int:
        with self._changed:
            self._count += 1
            self._add({"op": self._count, "who": who, "does": does})
            return self._count

    def end(self, op: int, **facts: object) -> None:
        with self._changed:
            self._add({"op": op, **facts})
            self._reads += "saw" in facts
            self._changed.notify_all()

    def wait_for_reads(self, count: int) -> None:
        """Wait until so many reads have ended."""
        with self._changed:
            wanted = self._reads + count
            assert self._changed.wait_for(lambda: self._reads >= wanted, timeout=30)

    def _add(self, facts: dict[str, object]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(facts) + "\n")


def record(
    history: History, *, database: Database, batches: Sequence[Files], loads: int, sessions: int, seed: int = 0
) -> None:
    """Do `loads` writes, by a loader for each of `batches`, while so many sessions read. Raises what goes wrong."""
    over = threading.Event()
    undoable = _Undoable()
    with ThreadPoolExecutor(len(batches) + sessions) as pool:
        readers = [
            pool.submit(_Reader(history, database, f"reader {number}", random.Random(f"{seed}r{number}")).ask, over)
            for number in range(1, sessions + 1)
        ]
        try:
            history.wait_for_reads(sessions)
            shares = [loads // len(batches) + (number < loads % len(batches)) for number in range(len(batches))]
            loaders = [
                pool.submit(_Loader(history, database, files, number, undoable, seed).write, share)
                for number, (files, share) in enumerate(zip(batches, shares, strict=True), start=1)
            ]
            for loader in loaders:
                loader.result()
            history.wait_for_reads(sessions)
        finally:
            over.set()
    for reader in readers:
        reader.result()


# --- readers -----------------------------------------------------------------------------------------------------


@dataclass
class _Reader:
    history: History
    database: Database
    name: str
    chance: random.Random

    def ask(self, over: threading.Event) -> None:
        # A reader that waits for a lock at all gets an error, which the checker reports.
        session = psycopg2.connect(self.database.url, options="-c lock_timeout=1ms")
        session.autocommit = True
        ways = (
            self._table,
            self._view,
            self._read_prices,
            self._as_of,
            self._read_as_of,
            self._status,
            self._transaction,
        )
        try:
            while not over.is_set():
                way = self.chance.choice(ways)
                load = self._some_load(session) if "as_of" in way.__name__ else None
                if load is None and "as_of" in way.__name__:
                    continue
                op = self.history.begin(self.name, way.__name__.strip("_").replace("_", " "))
                try:
                    saw = way(session, *(load or ()))
                except (psycopg2.Error, etl.EtlError) as error:
                    self.history.end(op, failed=str(error))
                    session.rollback()
                else:
                    self.history.end(op, saw=saw)
        finally:
            session.close()

    def _some_load(self, session: Connection) -> tuple[int, datetime] | None:
        loads = _rows(session, "SELECT load, loaded_at FROM stock_price_loads ORDER BY load DESC LIMIT 8")
        return self.chance.choice(loads) if loads else None

    def _table(self, session: Connection) -> list[dict[str, Any]]:
        return [_seen_rows(_rows(session, f"SELECT {_COLUMNS} FROM historical_stocks_data"))]

    def _view(self, session: Connection) -> list[dict[str, Any]]:
        return [_seen_rows(_rows(session, f"SELECT {_COLUMNS} FROM stock_prices"))]

    def _read_prices(self, session: Connection) -> list[dict[str, Any]]:
        prices = etl.read_prices(database=self.database.url)
        return [_seen_rows(prices.itertuples(index=False, name=None))]

    def _as_of(self, session: Connection, load: int, loaded_at: datetime) -> list[dict[str, Any]]:
        rows = _rows(session, f"SELECT {_COLUMNS} FROM stock_prices_as_of(%s)", loaded_at)
        return [{**_seen_rows(rows), "as_of": load}]

    def _read_as_of(self, session: Connection, load: int, loaded_at: datetime) -> list[dict[str, Any]]:
        prices = etl.read_prices(as_of=loaded_at, database=self.database.url)
        return [{**_seen_rows(prices.itertuples(index=False, name=None)), "as_of": load}]

    def _status(self, session: Connection) -> list[dict[str, Any]]:
        rows = _rows(session, "SELECT company_name, rows, first_day, last_day FROM stock_data_status WHERE rows > 0")
        return [{"kind": "span", "companies": {name: _span(*facts) for name, *facts in rows}}]

    def _transaction(self, session: Connection) -> list[dict[str, Any]]:
        """Three queries in one REPEATABLE READ transaction: all of the same batch."""
        session.set_session(isolation_level="REPEATABLE READ", readonly=True, autocommit=False)
        try:
            return [*self._table(session), *self._status(session), *self._view(session)]
        finally:
            session.rollback()
            session.set_session(isolation_level="DEFAULT", readonly=False, autocommit=True)


def _rows(session: Connection, query: str, *values: object) -> list[tuple[Any, ...]]:
    with session.cursor() as cursor:
        cursor.execute(query, values or None)
        return cursor.fetchall()


def _seen_rows(rows: Iterable[Sequence[Any]]) -> dict[str, Any]:
    return {"kind": "rows", "companies": _signatures(rows)}


def _signatures(rows: Iterable[Sequence[Any]]) -> dict[str, str]:
    """The same for the same days and numbers of a company, whether they come as text, as numbers or in a DataFrame."""
    of_company: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for day, *numbers, name in rows:
        of_company[str(name)].append((str(day)[:10], *map(_number, numbers)))
    return {name: hashlib.sha256(repr(sorted(found)).encode()).hexdigest()[:12] for name, found in of_company.items()}


def _number(value: Any) -> float | None:  # noqa: ANN401  text, Decimal, int or float
    return None if value is None or value != value else float(value)


def _span(rows: int, first: object, last: object) -> str:
    return f"{rows} {first} {last}"


# --- loaders -----------------------------------------------------------------------------------------------------


@dataclass
class _Undoable:
    """How many loads could be undone, whoever made them."""

    loads: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass
class _Row:
    day: date
    prices: tuple[float, ...]
    """Open, high, low, close."""
    volume: int

    @property
    def as_written(self) -> str:
        return f"{self.day},{','.join(f'{price:.4f}' for price in self.prices)},{self.volume},0"

    def in_table(self, name: str) -> tuple[Any, ...]:
        """The row as plain arithmetic makes it of what is written."""
        opened, high, low, closed = (float(f"{price:.4f}") for price in self.prices)
        return self.day, opened, high, low, closed, self.volume, (closed - opened) / opened * 100, closed - opened, name


class _Loader:
    """Changes a batch as the exporting application would, and moves it, again and again."""

    def __init__(
        self, history: History, database: Database, files: Files, number: int, undoable: _Undoable, seed: int
    ) -> None:
        self._history, self._database, self._files, self._undoable = history, database, files, undoable
        self._who, self._letter = f"loader {number}", "abcdefgh"[number - 1]
        self._chance, self._first = random.Random(f"{seed}l{number}"), 4 * (number - 1)
        self._companies: dict[str, list[_Row]] = {}

    def write(self, count: int) -> None:
        for turn in range(count):
            does = WRITES[(turn + self._first) % len(WRITES)] if turn < len(WRITES) else self._chance.choice(WRITES)
            if does == "undo":
                with self._undoable.lock:
                    if self._undoable.loads > _LEAST_UNDOABLE:
                        self._undo()
                        continue
                does = "mixed"
            self._load(does)

    def _load(self, does: str) -> None:
        before = copy.deepcopy(self._companies)
        self._change(does)
        self._put(spoiled=does == "refused")
        job = self._files.job(report=False)
        if does == "refused":
            job = self._files.job(report=False, policy=etl.Policy(max_rejected=Choice("0", "the test")))
        if does == "dry run":
            job = self._files.job(report=False, output=str(self._files.output / "dry-run"))
        target = etl.Target(
            self._database.url, reload=does == "reload", dry_run=does == "dry run", accept_shrunk=("all",)
        )
        run = etl.Run.begin("history")
        op = self._history.begin(self._who, does)
        try:
            receipt = etl.run(job, target=target, run=run)
        except etl.BatchError as error:
            self._history.end(op, nothing=str(error))
        else:
            committed = self._database.rows("SELECT load FROM loads WHERE run_id = %s", run.run_id)
            if committed:
                self._history.end(op, number=committed[0][0], batch=self._batch())
            else:
                self._history.end(op, nothing=receipt.state)
            if committed and (receipt.rows.inserted or receipt.rows.deleted):
                with self._undoable.lock:
                    self._undoable.loads += 1
        if does in ("refused", "dry run"):
            self._companies = before

    def _undo(self) -> None:
        run = etl.Run.begin("undo")
        op = self._history.begin(self._who, "undo")
        while not self._is_undone(run):
            pass  # it looks again, as the other loader has loaded meanwhile
        [(number, undid)] = self._database.rows(
            "SELECT load, (SELECT min(load) FROM loads WHERE undone_by = %s) FROM loads WHERE run_id = %s",
            run.run_id,
            run.run_id,
        )
        self._history.end(op, number=number, undid=undid)
        self._undoable.loads -= 1

    def _is_undone(self, run: etl.Run) -> bool:
        try:
            undo(self._database.url, run=run)
        except etl.SettingsError as refused:
            if "another run was loaded or undone meanwhile" not in str(refused):
                raise
            return False
        return True

    def _batch(self) -> dict[str, dict[str, str]]:
        rows = [row.in_table(name) for name, rows in self._companies.items() for row in rows]
        spans = {name: _span(len(rows), rows[0].day, rows[-1].day) for name, rows in self._companies.items()}
        return {name: {"rows": seen, "span": spans[name]} for name, seen in _signatures(rows).items()}

    def _put(self, *, spoiled: bool) -> None:
        for name, rows in self._companies.items():
            lines = [row.as_written for row in rows]
            self._files.put(name, [*lines, "2001-99-99,1,1,1,1,1,0"] if spoiled else lines)
        self._files.name(*self._companies)

    # How a batch differs from the one before.

    def _change(self, does: str) -> None:
        if not self._companies:
            for _ in range(_MOST_COMPANIES // 2):
                self._new()
            return
        change: dict[str, Callable[[], None]] = {
            "new": self._new,
            "grown": self._grow_all,
            "restated": self._restate,
            "corrected": self._correct,
            "removed": self._remove,
        }
        if does in change:
            change[does]()
        elif does != "same":
            for one in (self._new, self._grow_some, self._restate, self._correct, self._remove):
                one()

    def _some(self) -> list[_Row]:
        return self._companies[self._chance.choice(list(self._companies))]

    def _new(self) -> None:
        if len(self._companies) == _MOST_COMPANIES:
            self._grow_some()
            return
        rows: list[_Row] = []
        self._companies[f"{self._letter}{len(self._companies)}.us.csv"] = rows
        self._grow(rows, _FIRST_ROWS)

    def _grow_all(self) -> None:
        for rows in self._companies.values():
            self._grow(rows, 1)

    def _grow_some(self) -> None:
        self._grow(self._some(), self._chance.randint(1, 3))

    def _grow(self, rows: list[_Row], count: int) -> None:
        if len(rows) > _MOST_ROWS:
            del rows[_FIRST_ROWS:]
        for _ in range(count):
            day = rows[-1].day + timedelta(1) if rows else date(2001, 1, 1)
            opened, closed = (self._chance.randint(1000, 2000) / 100 for _ in range(2))
            prices = opened, max(opened, closed) + 1, min(opened, closed) - 1, closed
            rows.append(_Row(day, prices, self._chance.randint(1, 1_000_000)))

    def _restate(self) -> None:
        rows = self._some()
        factor = (
            2.0 if rows[0].prices[0] < 4 else 0.5 if rows[0].prices[0] > 400 else self._chance.choice([0.5, 0.8, 2])
        )
        until = self._chance.choice([len(rows), len(rows) // 2])
        for row in rows[:until]:
            row.prices = tuple(price * factor for price in row.prices)

    def _correct(self) -> None:
        rows = self._some()
        row = self._chance.choice(rows)
        row.volume += 1

    def _remove(self) -> None:
        rows = self._some()
        if len(rows) > _FIRST_ROWS // 2:
            del rows[len(rows) // 2]
