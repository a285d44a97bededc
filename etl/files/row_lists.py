"""The lists of rows next to the combined file: rejected rows for people and for the database, and flagged rows.

Each holds the lines of one company file behind those of the one before, in the order of the plan.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from etl.batch.storage import BLOCK_BYTES, Storage
from etl.errors import BatchError, EtlError, FileChangedError
from etl.files.company_file import CompanyFile, UnusableFile
from etl.files.flags import FlaggedRow
from etl.files.manifest import Manifest

REJECTED_ROWS, REJECTED_LINES, FLAGGED_ROWS = "rejected_rows.csv", "rejected_rows.jsonl", "flagged_rows.csv"
HEADERS = {
    REJECTED_ROWS: b"file,line,column,value,reason\n",
    REJECTED_LINES: b"",
    FLAGGED_ROWS: b"file,line,date,column,value,rule\n",
}
"""Each list and what it begins with, in the order of FileRecord.list_bytes."""

_MOST_LINES = 1_000  # of one file in REJECTED_LINES: who has seen a thousand knows what is wrong with the file
_LOOKED_AT_BYTES = 4 << 20
_FORMULA_SIGNS = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")


def list_entries(company_name: str, checked: CompanyFile | UnusableFile) -> tuple[bytes, ...]:
    """The lines of a company file in each list."""
    rows = checked.rejected
    for_people = ((company_name, row.line, row.column, _safe(row.value), row.reason) for row in rows)
    exact = (
        json.dumps([company_name, row.line, row.column, row.value, row.reason, row.raw])
        for row in islice(rows, _MOST_LINES)
    )
    flags = checked.flags if isinstance(checked, CompanyFile) else ()
    flagged = ((one.file, one.line, one.date, one.column, _safe(one.value), one.rule) for one in flags)
    return _csv_lines(for_people), "".join(f"{line}\n" for line in exact).encode(), _csv_lines(flagged)


def read_rejected(manifest: Manifest, output: Storage) -> Iterator[tuple[str, int, str, str, str, str]]:
    """The rejected rows as they were: file, line, column, value, reason and raw line; of each file the first ones."""
    for line in _read(REJECTED_LINES, manifest=manifest, output=output):
        yield tuple(json.loads(line))


def read_flagged(manifest: Manifest, output: Storage) -> Iterator[FlaggedRow]:
    """The flagged rows."""
    lines = (line.decode() for line in _read(FLAGGED_ROWS, manifest=manifest, output=output))
    for file, line, day, column, value, rule in csv.reader(lines):
        yield FlaggedRow(file, int(line), day, column, value.removeprefix("'"), rule)


def _read(name: str, *, manifest: Manifest, output: Storage) -> Iterator[bytes]:
    """The lines of a list. Raises BatchError when it is not the one that the manifest describes."""
    number = list(HEADERS).index(name)
    length = sum(record.list_bytes[number] for record in manifest.files.values())
    if not length:
        return
    unfit = BatchError(f"{name} is not the one that the manifest describes. Run process again, then load.")
    try:
        rest = b""
        for block in _blocks(output, name, version=manifest.list_versions[name], length=length):
            *lines, rest = (rest + block).split(b"\n")
            yield from lines
    except (FileChangedError, KeyError) as error:
        raise unfit from error


def _blocks(output: Storage, name: str, *, version: str, length: int) -> Iterable[bytes]:
    """What is behind the header of this version of a list, in one request where it is small."""
    start = len(HEADERS[name])
    if length <= BLOCK_BYTES:
        return [output.read(name, version=version)[start:]]
    if output.find(name).version != version:
        raise FileChangedError
    return output.read_range(name, start=start, length=length)


@dataclass(frozen=True)
class RowList:
    """A list as it is read by anybody: its columns, and its rows as text; of a very long one the first."""

    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    where: str = ""
    """A sentence that says where all of them are."""


def read_list(name: str, *, output: Storage) -> RowList:
    """The list of this name in an output, whichever run wrote it; an empty one where it cannot be read."""
    content = bytearray()
    with suppress(EtlError, FileChangedError):
        length = min(_LOOKED_AT_BYTES, output.find(name).size_bytes)
        for block in output.read_range(name, start=0, length=length):
            content += block
    whole_lines = content[: content.rfind(b"\n") + 1].decode(errors="replace")
    rows: list[tuple[str, ...]] = []
    with suppress(csv.Error):
        rows += map(tuple, csv.reader(io.StringIO(whole_lines, newline="")))
    if not rows:
        return RowList()
    where = f"All are in {output.url_of(name)}, until the next run."
    return RowList(rows[0], tuple(row for row in rows[1:] if len(row) == len(rows[0])), where)


def _csv_lines(rows: Iterable[tuple[object, ...]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _safe(value: str) -> str:
    """An apostrophe keeps a spreadsheet from running a value as a formula (OWASP, CSV injection).

    A semicolon or tab begins a cell too, in the spreadsheets of countries that write numbers with a comma.
    """
    value = "".join(map(_safe_cell, re.split("([;\t])", value)))
    return "'" + value if value.startswith(("\t", "\r")) else value


def _safe_cell(text: str) -> str:
    """Signs count in full width too, and after blanks and invisible characters, which some spreadsheets drop."""
    first = next((sign for sign in text if sign.isprintable() and not sign.isspace()), None)
    return "'" + text if first in _FORMULA_SIGNS else text
