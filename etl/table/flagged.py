"""Records which rows of the table are flagged: those of the slices that a load has brought, and no others."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from etl.files.combined_file import CombinedFile
from etl.files.flags import FlaggedRow
from etl.files.row_lists import read_flagged
from etl.table.copying import copy_rows
from etl.table.database import QUERIES, query

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

FIRST_FLAGS = 100
"""So many flagged rows are in a receipt."""


def record_flagged(
    cursor: Cursor, combined: CombinedFile, *, held: Collection[str], load: int
) -> tuple[FlaggedRow, ...]:
    """Record the flags of a batch, save for companies that are `held` back; returns the first FIRST_FLAGS of all.

    A company's flags are those of its whole slice, so they are compared also where the slice is known: other rules may
    have made them. What is not flagged any more is kept for undo and for the past.
    """
    first: list[FlaggedRow] = []

    def blocks() -> Iterator[bytes]:
        for one in read_flagged(combined.manifest, combined.output):
            if len(first) < FIRST_FLAGS:
                first.append(one)
            yield csv_block([(one.file, one.date, one.line, one.column, one.value, one.rule)])

    query(cursor, "make_incoming_flags")
    copy_rows(cursor, QUERIES["copy_incoming_flags"], blocks())
    companies = [name for name in combined.manifest.companies if name not in held]
    query(cursor, "take_flags_back", companies=companies, load=load)
    query(cursor, "record_flags", companies=companies, load=load)
    return tuple(first)


def restore_flagged(cursor: Cursor, companies: Collection[str], *, load: int) -> None:
    """Take the flags of these companies back to before a load."""
    query(cursor, "forget_flags_since", load=load, companies=list(companies))
    query(cursor, "restore_flags", load=load, companies=list(companies))


def csv_block(rows: Iterable[tuple[object, ...]]) -> bytes:
    """Rows as COPY reads them in format csv; PostgreSQL takes no NUL."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue().replace("\0", "\ufffd").encode()
