"""Reads what the report page says of the table and of earlier runs. No query changes anything or may take long."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from etl.errors import EtlError
from etl.table.database import connect, query
from etl.table.history import find_run
from etl.table.months import CompanyMonths, LoadedSlice, read_months
from etl.table.restatements import Kind, Restatement

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

_Found = TypeVar("_Found")
_RUNS = 30
_PLOTS = 12  # restated companies whose prices are drawn
_POINTS = 240  # of a plot
_SECONDS_IN_ALL = 10.0  # for all queries together
_SECONDS_AT_LEAST = 0.5  # for each of them, when the others were slow


@dataclass(frozen=True)
class PastRun:
    """One attempted run, as a list of runs shows it; counts are None where it did not come so far."""

    run_id: str
    state: str
    started_at: datetime
    elapsed_seconds: float
    accepted: int | None
    inserted: int | None
    deleted: int | None
    rejected: int | None
    quarantined: int | None
    restated: int


@dataclass(frozen=True)
class LoadedCompany:
    """What is loaded of a company; the last day (ISO) is None where no load of this version saw it."""

    company_name: str
    rows: int
    last_day: str | None
    loaded_at: datetime
    run_id: str
    sha256: str


@dataclass(frozen=True)
class Move:
    """A company's open and close of one day, and the close of the trading day before, in USD; days are ISO dates."""

    company_name: str
    open: float
    close: float
    close_before: float | None

    @property
    def factor(self) -> float | None:
        """Today's close as a multiple of the last one; None where there is none, or it was 0."""
        return self.close / self.close_before if self.close_before else None


@dataclass(frozen=True)
class Closes:
    """A company's closing prices before and after a run, by day (ISO); None where there was no row."""

    company_name: str
    days: tuple[str, ...]
    before: tuple[float | None, ...]
    after: tuple[float | None, ...]


@dataclass(frozen=True)
class Overview:
    """What the database says; what could not be read is empty, and `problems` says why."""

    runs: tuple[PastRun, ...] = ()
    companies: tuple[LoadedCompany, ...] = ()
    day: str | None = None
    """The last day of most companies."""
    moves: tuple[Move, ...] = ()
    closes: tuple[Closes, ...] = ()
    """Of the largest restatements of the run."""
    months: Mapping[str, CompanyMonths] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def read_overview(
    database: str,
    *,
    run_id: str,
    restatements: Sequence[Restatement],
    months: Mapping[str, CompanyMonths] | None = None,
) -> Overview:
    """Everything that the database adds to a run's receipt; `months` as they were before it, where that is known.

    Raises EtlError only where the database cannot be reached at all.
    """
    problems: list[str] = []
    deadline = time.monotonic() + _SECONDS_IN_ALL
    with connect(database) as connection, connection.cursor() as cursor:

        def read(what: str, section: Callable[[Cursor], tuple[_Found, ...]]) -> tuple[_Found, ...]:
            from etl.table.connection import database_errors  # noqa: PLC0415  psycopg2, as database.connect says

            seconds = max(_SECONDS_AT_LEAST, deadline - time.monotonic())
            connection.rollback()  # a new transaction, before its first query
            try:
                with database_errors():
                    query(cursor, "one_snapshot")
                    query(cursor, "session", milliseconds=str(int(seconds * 1000)))  # of each transaction
                    query(cursor, "report_timeout", milliseconds=str(int(seconds * 1000)))
                    return section(cursor)
            except EtlError as error:
                problems.append(f"{what} could not be read. {str(error).replace(' Nothing was loaded.', '')}")
                return ()

        runs = read("Earlier runs", _read_runs)
        companies = read("What is loaded", _read_companies)
        days = Counter(one.last_day for one in companies if one.last_day)
        day = max(days, key=lambda one: (days[one], one), default=None)
        moves = read("The last day's prices", lambda cursor: _read_moves(cursor, day))
        spans = _spans(restatements)
        closes = read("Prices before and after", lambda cursor: _read_closes(cursor, run_id, spans)) if spans else ()
        loaded = {one.company_name: LoadedSlice(one.sha256, one.rows, one.last_day) for one in companies}
        moved = [one.company_name for one in restatements if one.kind in (Kind.ADDED, Kind.REMOVED)]
        counted = read(
            "The calendar",
            lambda cursor: tuple(read_months(cursor, loaded, known=months or {}, rewritten=moved).items()),
        )
    return Overview(runs, companies, day, moves, closes, dict(counted), tuple(problems))


def _read_runs(cursor: Cursor) -> tuple[PastRun, ...]:
    return tuple(PastRun(*facts) for facts in query(cursor, "report_runs", limit=_RUNS))


def _read_companies(cursor: Cursor) -> tuple[LoadedCompany, ...]:
    return tuple(LoadedCompany(*facts) for facts in query(cursor, "report_companies"))


def _read_moves(cursor: Cursor, day: str | None) -> tuple[Move, ...]:
    return tuple(Move(*facts) for facts in query(cursor, "report_moves", day=day)) if day else ()


def _read_closes(cursor: Cursor, run_id: str, spans: Mapping[str, tuple[str, str]]) -> tuple[Closes, ...]:
    """The prices as they are, and back from them, change by change, those after the run's last load and before it."""
    load = find_run(cursor, run_id).last
    first_days, last_days = zip(*spans.values(), strict=True)
    days = {"companies": list(spans), "first_days": list(first_days), "last_days": list(last_days)}
    now: dict[str, dict[str, float | None]] = {name: {} for name in spans}
    for name, day, price in query(cursor, "report_closes", **days):
        now[name][day] = price
    changes = query(cursor, "report_closes_before", load=load, **days)
    _take_back(now, [change for change in changes if change[1] > load])
    before = {name: dict(prices) for name, prices in now.items()}
    _take_back(before, [change for change in changes if change[1] == load])
    found = (_closes(name, before[name], now[name]) for name in spans)
    return tuple(one for one in found if one.days)


def _take_back(prices: Mapping[str, dict[str, float | None]], changes: Iterable[tuple[Any, ...]]) -> None:
    """Undo changes of the journal, the newest first, in prices by company and day."""
    for name, _, change, day, last_day, price in changes:
        days = prices[name]
        if change in ("changed", "removed"):
            days[day] = price
        elif change == "added":
            days.pop(day, None)
        else:  # a range, or of a new company all days
            for one in [one for one in days if (day or "") <= one <= (last_day or "9999")]:
                del days[one]


def _closes(name: str, before: Mapping[str, float | None], after: Mapping[str, float | None]) -> Closes:
    """Both prices of each day; of a long span every n-th day's, and those of each that changed, where these are few."""
    days = sorted(before.keys() | after.keys())
    changed = {day for day in days if before.get(day) != after.get(day)}
    if len(days) > _POINTS:
        every = days[:: -(-len(days) // _POINTS)]
        days = sorted({*every, days[-1], *(changed if len(changed) <= _POINTS else ())})
    return Closes(name, tuple(days), tuple(map(before.get, days)), tuple(map(after.get, days)))


def _spans(restatements: Sequence[Restatement]) -> dict[str, tuple[str, str]]:
    """From which day to which the prices of restated companies are drawn, so that what changed can be seen."""
    spans: dict[str, tuple[str, str]] = {}
    for one in restatements:
        if one.company_name in spans or one.kind == Kind.RESPELLED:
            continue
        if one.kind in (Kind.FACTOR, Kind.SPLIT):  # one factor up to a day: the year before it, and what follows
            spans[one.company_name] = _days_from(one.last_day, -365), _days_from(one.last_day, 90)
        else:
            spans[one.company_name] = _days_from(one.first_day, -60), _days_from(one.last_day, 60)
        if len(spans) == _PLOTS:
            break
    return spans


def _days_from(day: str, days: int) -> str:
    try:
        return (date.fromisoformat(day) + timedelta(days=days)).isoformat()
    except (ValueError, OverflowError):
        return day
