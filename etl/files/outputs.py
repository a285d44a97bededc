"""Writes what processing leaves in the output: combined file, rejected rows and, last, the manifest."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from etl.batch.storage import Storage, Writer
from etl.files import combined_file, manifest
from etl.files.manifest import Manifest
from etl.files.rules import RejectedRow

REJECTED_ROWS = "rejected_rows.csv"
_FORMULA_SIGNS = frozenset("=+-@\uff1d\uff0b\uff0d\uff20")


@contextmanager
def write_outputs(output: Storage) -> Iterator[tuple[Writer, Writer]]:
    """The new combined file and rejected rows, which appear under their names when the block ends well."""
    with output.write(combined_file.NAME) as combined, output.write(REJECTED_ROWS) as rejected:
        rejected.write(_csv_lines([("file", "line", "column", "value", "reason")]))
        yield combined, rejected


def write_manifest(facts: Manifest, *, output: Storage) -> None:
    """Say what the outputs hold: the last thing that processing does."""
    with output.write(manifest.NAME) as file:
        file.write(facts.to_json())


def rejected_lines(company_name: str, rows: Iterable[RejectedRow]) -> bytes:
    """The lines of a company's rejected rows: file, line, column, value, reason."""
    return _csv_lines((company_name, row.line, row.column, _safe(row.value), row.reason) for row in rows)


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
