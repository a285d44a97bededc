"""Proves that the table holds what the ledger says, row for row, and names the companies and rows that differ."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from etl.errors import BatchError, FileChangedError
from etl.files.combined_file import NAME as COMBINED
from etl.files.combined_file import CombinedFile
from etl.table.database import QUERIES, query
from etl.table.runs import receipt_hash

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

_NAMED_ROWS = 3  # of a company
_COMPANIES_AT_ONCE = 50  # read by one query, whose answer is held in memory


@dataclass(frozen=True)
class Disagreement:
    """What does not agree: the place (table, ledger, combined file, receipts), the company or run, and how."""

    place: str
    name: str
    detail: str


@dataclass
class TableSlice:
    """What the table holds of a company, in the order of its days, as the combined file would."""

    company_name: str
    content: bytes = field(repr=False)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def length(self) -> int:
        return len(self.content)

    @property
    def rows(self) -> int:
        return self.content.count(b"\n")


def read_slices(cursor: Cursor, companies: Sequence[str], *, order: str = "stock_date") -> Iterator[TableSlice]:
    """What the table holds of these companies: each that has rows, some at a time in memory."""
    from psycopg2 import sql as composed  # noqa: PLC0415  the processing script runs without psycopg2

    for start in range(0, len(companies), _COMPANIES_AT_ONCE):
        some = list(companies[start : start + _COMPANIES_AT_ONCE])
        answer = io.BytesIO()
        statement = composed.SQL(QUERIES["read_rows"])
        values = {"companies": composed.Literal(some), "order": composed.Identifier(order)}
        cursor.copy_expert(statement.format(**values), answer)
        wanted = {name.encode(): name for name in some}
        found: dict[bytes, list[bytes]] = {}
        for line in answer.getvalue().splitlines(keepends=True):
            found.setdefault(line[line.rfind(b",") + 1 : -1], []).append(line)
        for name, lines in found.items():
            yield TableSlice(wanted[name], b"".join(lines))


def differing_entries(
    cursor: Cursor, companies: Sequence[str] | None = None, *, progress: Callable[[int, int], object] | None = None
) -> Iterator[tuple[str, TableSlice | None]]:
    """Companies whose rows are not those of the ledger's slice, with their rows, if they have any.

    A slice is in the order of its file. So where no hash is that of the rows by day, their order in the table counts.
    """
    ledger = {name: (sha256, length, rows) for name, sha256, length, rows, _ in query(cursor, "whole_ledger")}
    by_day = {name: (by_day, *ledger[name][1:]) for name, *_, by_day in query(cursor, "whole_ledger") if by_day}
    names = list(ledger) if companies is None else [name for name in companies if name in ledger]
    empty = {name for name in names if not ledger[name][2]}
    seen: set[str] = set()
    wrong: dict[str, TableSlice] = {}
    for done, found in enumerate(read_slices(cursor, names), start=1):
        seen.add(found.company_name)
        if (found.sha256, found.length, found.rows) != by_day.get(found.company_name, ledger[found.company_name]):
            wrong[found.company_name] = found
        if progress:
            progress(done, len(names))
    unknown_order = [name for name in wrong if name not in by_day]
    for found in read_slices(cursor, unknown_order, order="ctid"):
        if (found.sha256, found.length, found.rows) == ledger[found.company_name]:
            del wrong[found.company_name]
    yield from wrong.items()
    for name in names:
        if name not in seen and name not in empty:
            yield name, None


def verify_table(
    cursor: Cursor, *, combined: CombinedFile | None, progress: Callable[[int, int], object] | None = None
) -> Iterator[Disagreement]:
    """Where table and ledger do not agree; a slice of the combined file that the ledger knows names the rows."""
    ledger = {name: tuple(facts) for name, *facts in query(cursor, "whole_ledger")}
    slices = {one.company_name: one for one in combined.manifest.slices} if combined else {}
    for name, found in differing_entries(cursor, progress=progress):
        if found is None:
            yield Disagreement("table", name, "no row is there, though it was loaded")
            continue
        entry = slices.get(name)
        unknown = f"its {found.rows:,} rows are not those that the ledger says were loaded"
        if combined and entry and entry.sha256 == ledger[name][0]:
            loaded = _slice_of(combined, name)
            rows = _differing_rows(found.content, loaded) if loaded else unknown
            if rows:
                yield Disagreement("table", name, rows)
            elif ledger[name][1:] not in ((entry.length, entry.rows, None), (entry.length, entry.rows, found.sha256)):
                yield Disagreement("ledger", name, "its entry is not that of the slice that was loaded")
        else:
            yield Disagreement("table", name, unknown)
    for name, in_table, in_ledger in query(cursor, "differing_companies"):
        if name not in ledger:
            yield Disagreement(
                "table", name, f"{in_table:,} rows are there that no run loaded, {in_ledger:,} by the ledger"
            )


def verify_flags(cursor: Cursor, *, combined: CombinedFile | None) -> Iterator[Disagreement]:
    """Where flags are not of rows that the table has, or not as many as those of the slice that was loaded."""
    wrong = dict(query(cursor, "flags_without_rows"))
    for name, count in wrong.items():
        yield Disagreement("flagged rows", name, f"{count:,} of its flags are of rows that the table does not have")
    if combined is None or not combined.manifest.files:  # of version 0.1, which listed no flags
        return
    found = dict(query(cursor, "flags_by_company"))
    ledger = {name: sha256 for name, sha256, *_ in query(cursor, "whole_ledger")}
    for entry in combined.manifest.slices:
        name, count = entry.company_name, found.get(entry.company_name, 0)
        if name not in wrong and ledger.get(name) == entry.sha256 and count != entry.flagged:
            yield Disagreement("flagged rows", name, f"{count:,} are recorded, {entry.flagged:,} are in its slice")


def verify_receipts(cursor: Cursor) -> Iterator[Disagreement]:
    """Where the chain of receipts is broken: each receipt that was changed, and each place where one is missing."""
    before: str | None = None
    is_first = True
    for run_id, receipt, recorded in query(cursor, "all_receipts"):
        found = receipt_hash(receipt)
        if recorded is not None and recorded != found:
            yield Disagreement("receipts", run_id, "its receipt was changed")
        if "previous" in receipt and receipt["previous"] != before:  # those of version 0.1 are no chain
            yield Disagreement("receipts", run_id, f"the receipt before it is missing{' (it is the first)' * is_first}")
        before, is_first = recorded or found, False
    for (run_id,) in query(cursor, "loads_without_run"):
        yield Disagreement("receipts", run_id, "the run loaded something, and its receipt is missing")


def verify_combined(cursor: Cursor, *, combined: CombinedFile, held: set[str]) -> Iterator[Disagreement]:
    """Where the combined file is not the one that was loaded; companies that are `held` back may differ."""
    ledger = {name: sha256 for name, sha256, *_ in query(cursor, "whole_ledger")}
    kind = query(cursor, "last_load")
    if kind and kind[0][0] == "undo":
        return  # the combined file is that of the batch that was undone
    for entry in combined.manifest.slices:
        name = entry.company_name
        if name not in held and ledger.get(name) != entry.sha256:
            yield Disagreement(
                "combined file", name, "its slice is not the one that was loaded: load it, or process again"
            )


def verify_slices(combined: CombinedFile) -> Iterator[Disagreement]:
    """Where the bytes of the combined file are not those that the manifest describes, slice by slice."""
    blocks = combined.output.read_range(COMBINED, start=0, length=combined.manifest.combined_bytes)
    buffer = bytearray()
    for entry in combined.manifest.slices:
        try:
            while len(buffer) < entry.length:
                buffer += next(blocks)
        except (FileChangedError, StopIteration):
            yield Disagreement("combined file", entry.company_name, "the file ends before its slice does")
            return
        content = bytes(buffer[: entry.length])
        del buffer[: entry.length]
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            yield Disagreement(
                "combined file", entry.company_name, "its bytes are not those that the manifest describes"
            )


def _slice_of(combined: CombinedFile, name: str) -> bytes | None:
    """A company's bytes in the combined file, if they are those that the manifest describes."""
    try:
        return next(content for _, content in combined.slices(lambda one: one.company_name == name))
    except (BatchError, StopIteration):
        return None


def _differing_rows(table: bytes, loaded: bytes) -> str:
    """Which rows differ, the first few by name; nothing where they are the same in another order."""
    in_table, in_file = set(table.splitlines()), set(loaded.splitlines())
    days = sorted({line[:10].decode(errors="replace") for line in in_table ^ in_file})
    if not days:
        twice = table.count(b"\n") - len(in_table)
        return f"{twice:,} rows are there twice" if twice else ""
    more = f" and {len(days) - _NAMED_ROWS:,} more" if len(days) > _NAMED_ROWS else ""
    return f"the rows of {', '.join(days[:_NAMED_ROWS])}{more} are not those that were loaded"
