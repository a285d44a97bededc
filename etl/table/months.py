"""Counts the days that each company has in each month, and keeps the counts: a day costs what was added to it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from etl.table.database import query

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor


@dataclass(frozen=True)
class CompanyMonths:
    """A company's days by month (YYYY-MM), as of the slice with this hash and last day."""

    sha256: str
    last_day: str | None
    days: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadedSlice:
    """What the ledger says of a company."""

    sha256: str
    rows: int
    last_day: str | None


def read_months(
    cursor: Cursor, loaded: Mapping[str, LoadedSlice], *, known: Mapping[str, CompanyMonths], rewritten: Iterable[str]
) -> dict[str, CompanyMonths]:
    """The months of every loaded company; only what is not `known` is counted in the table.

    `rewritten`: companies that lost or gained days in the past since then.
    """
    query(cursor, "enough_memory")
    found = {name: known[name] for name, one in loaded.items() if name in known and known[name].sha256 == one.sha256}
    again = set(rewritten)
    grown = []
    if query(cursor, "table_index")[0][0]:  # without one, counting all again is quicker than looking for new days
        grown = [name for name in loaded.keys() & known.keys() - found.keys() - again if known[name].last_day]
    days_known = [known[name].last_day for name in grown]
    added = _by_company(query(cursor, "report_new_months", companies=grown, last_days=days_known) if grown else ())
    for name in grown:
        days = {**known[name].days}
        for month, count in added.get(name, {}).items():
            days[month] = days.get(month, 0) + count
        if sum(days.values()) == loaded[name].rows:
            found[name] = CompanyMonths(loaded[name].sha256, loaded[name].last_day, days)
    rest = [name for name in loaded if name not in found]
    for name, days in _by_company(query(cursor, "report_months", companies=rest) if rest else ()).items():
        found[name] = CompanyMonths(loaded[name].sha256, loaded[name].last_day, days)
    return found


def _by_company(rows: Iterable[tuple[str, str, int]]) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for company, month, days in rows:
        counts.setdefault(company, {})[month] = days
    return counts


def months_to_json(months: Mapping[str, CompanyMonths]) -> bytes:
    """The counts as a file keeps them."""
    return json.dumps({name: [*vars(one).values()] for name, one in months.items()}, separators=(",", ":")).encode()


def months_of_json(content: bytes) -> dict[str, CompanyMonths]:
    """The counts of such a file. Raises ValueError when it is none."""
    try:
        return {name: CompanyMonths(*one) for name, one in json.loads(content).items()}
    except (TypeError, AttributeError) as error:
        raise ValueError(f"no counts of months: {error}") from error
