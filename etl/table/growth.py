"""Journals new companies, and days that follow the last one, as ranges; and lets old entries of the journal go."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from etl.table.database import query
from etl.table.journal import unfit_table

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

_DAY = len("2001-01-01")  # what each row of a slice begins with


@dataclass(frozen=True)
class Tail:
    """Rows behind the slice that is loaded: how many, and their first and last day (ISO)."""

    rows: int
    first_day: str
    last_day: str

    @classmethod
    def of(cls, content: bytes) -> Tail:
        days = [line[:_DAY] for line in content.splitlines()]
        return cls(len(days), min(days).decode(), max(days).decode())


def last_day(content: bytes) -> str | None:
    """The last day of a slice that is in the order of its days: that of its last row."""
    start = content.rfind(b"\n", 0, -1) + 1
    return content[start : start + _DAY].decode() or None


def hash_by_day(content: bytes) -> str | None:
    """SHA-256 of a slice's rows in the order of their days; None where that is their order already."""
    rows = content.splitlines(keepends=True)
    ordered = sorted(rows)
    return None if ordered == rows else hashlib.sha256(b"".join(ordered)).hexdigest()


def journal_added(cursor: Cursor, *, new: Mapping[str, int], tails: Mapping[str, Tail], load: int) -> None:
    """Journal new and grown companies, a range each. Raises SettingsError when the table did not take the rows."""
    _journal_ranges(cursor, "new", {name: Tail(rows, "", "") for name, rows in new.items()}, load=load)
    if not tails:
        return
    columns = _columns(tails)
    counts = {name: (ours, rows) for name, ours, rows in query(cursor, "count_tails", **columns)}
    wrong = {name: (counts[name][0], tail.rows) for name, tail in tails.items() if counts[name][0] != tail.rows}
    if wrong:
        raise unfit_table(wrong)
    scattered = [name for name, tail in tails.items() if counts[name][1] != tail.rows]
    ranges = {name: tail for name, tail in tails.items() if name not in scattered}
    _journal_ranges(cursor, "grew", ranges, load=load)
    if scattered:
        query(cursor, "journal_scattered_days", companies=scattered, load=load)


def forget_old_entries(cursor: Cursor, *, load: int, days: float) -> None:
    """Delete what the journal has of loads that are older than so many days."""
    forgotten = [row[0] for row in query(cursor, "forget_old_loads", load=load, days=days)]
    if forgotten:
        query(cursor, "forget_old_changes", load=max(forgotten))
    query(cursor, "forget_old_rejected", days=days)


def forget_all_entries(cursor: Cursor, *, load: int) -> None:
    """Say that the journal of all earlier loads is of no use: the table was emptied since."""
    query(cursor, "forget_journal", load=load)
    query(cursor, "forget_old_changes", load=load - 1)


def _journal_ranges(cursor: Cursor, change: str, ranges: Mapping[str, Tail], *, load: int) -> None:
    if ranges:
        rows = [one.rows for one in ranges.values()]
        query(cursor, "journal_ranges", change=change, load=load, rows=rows, **_columns(ranges))


def _columns(tails: Mapping[str, Tail]) -> dict[str, Sequence[str | None]]:
    return {
        "companies": list(tails),
        "first_days": [one.first_day or None for one in tails.values()],
        "last_days": [one.last_day or None for one in tails.values()],
    }
