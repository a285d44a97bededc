"""The ledger: for each company the slice that was last loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from etl.files.manifest import Slice
from etl.table.database import query

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor


@dataclass(frozen=True)
class LedgerEntry:
    """The slice last loaded for a company."""

    sha256: str
    length: int
    rows: int
    run_id: str
    loaded_at: datetime
    last_day: str | None
    """The last of its days (ISO), wherever in the file it is."""
    sha256_by_day: str | None
    """Of its rows in the order of their days, where that is known not to be the order of the file."""

    def is_beginning_of(self, content: bytes) -> bool:
        beginning = memoryview(content)[: self.length]
        return len(content) > self.length and hashlib.sha256(beginning).hexdigest() == self.sha256


@dataclass(frozen=True)
class Ends:
    """What the ledger needs to know of a slice's rows: the last day, and LedgerEntry.sha256_by_day."""

    last_day: str | None = None
    sha256_by_day: str | None = None


def read_ledger(cursor: Cursor, companies: Sequence[str]) -> dict[str, LedgerEntry]:
    """The entries of these companies, by name."""
    return {name: LedgerEntry(*entry) for name, *entry in query(cursor, "ledger_entries", companies=companies)}


def record_slices(cursor: Cursor, slices: Sequence[Slice], *, ends: Mapping[str, Ends], load: int, run_id: str) -> None:
    """Put the slices of a load into the ledger, and the entries that they replace into its journal."""
    of_slices = [ends.get(entry.company_name, Ends()) for entry in slices]
    query(
        cursor,
        "record_in_ledger",
        load=load,
        run_id=run_id,
        companies=[entry.company_name for entry in slices],
        sha256=[entry.sha256 for entry in slices],
        lengths=[entry.length for entry in slices],
        rows=[entry.rows for entry in slices],
        last_days=[one.last_day for one in of_slices],
        by_day=[one.sha256_by_day for one in of_slices],
    )
