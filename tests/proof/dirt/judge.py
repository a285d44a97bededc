"""Judges what a way left in the database: its rows against those that a case expects, and what it said.

The judge is lenient where it can be, for the peers' sake: numbers are compared as float64 and not as they are spelled,
the two computed columns and further columns are not looked at, the order of rows does not matter, and a missing row
counts as reported when anything at all was said about its company.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from tests.proof.dirt.batch import FIELDS, Said

Row = tuple[str | float | None, ...]
"""Day, open, high, low, close, volume, company."""

COLUMNS = (*(name.lower() for name in FIELDS), "company_name")
_ALIASES = {
    "stock_date": "date",
    "open_value": "open",
    "high_value": "high",
    "low_value": "low",
    "close_value": "close",
    "volume_traded": "volume",
    "filename": "company_name",
    "path": "company_name",
    "_sling_stream_url": "company_name",
}
_MIDNIGHT = re.compile(r"(\d{4,}-\d\d-\d\d)[ T]00:00:00(?:\.0+)?(?:\+00(?::00)?|Z)?")


class Outcome(StrEnum):
    RIGHT = "right"
    """The table holds the rows that the case expects."""
    FAILS = "fails whole"
    """There was an error, and nothing of the batch is in the table. This is safe."""
    INCOMPLETE = "incomplete, says so"
    """A part of the batch is there; there was an error, or what is missing was reported and all else is right."""
    SILENT = "silently wrong"
    """There was no error, and rows are wrong, doubled, too many, or missing without a word."""
    CRASHES = "crashes"
    """It was killed by a signal, panicked, or took more than its limits."""


@dataclass(frozen=True)
class Ran:
    """How a way ended. `said`: by company, what it reported about files and rows that it left out."""

    error: str = ""
    crashed: bool = False
    said: Said = field(default_factory=dict)


def judge(ran: Ran, *, found: Counter[Row], expected: Counter[Row]) -> Outcome:
    if ran.crashed:
        return Outcome.CRASHES
    if ran.error:
        return Outcome.INCOMPLETE if found else Outcome.FAILS
    if found == expected:
        return Outcome.RIGHT
    missing, further = expected - found, found - expected
    reported = {_company(name) for name in ran.said}
    unreported = [row for row in missing if row[-1] not in reported]
    return Outcome.SILENT if further or unreported else Outcome.INCOMPLETE


def rows_of(names: Sequence[str], records: Iterable[Sequence[str | None]]) -> Counter[Row]:
    """The rows of a table that was read as text, by its columns' names; a column that is not there is NULL."""
    places: dict[str, int] = {}
    for place, name in enumerate(names):
        known = name.strip().lower()
        places.setdefault(_ALIASES.get(known, known), place)
    wanted = [places.get(column) for column in COLUMNS]
    return Counter(comparable([record[place] if place is not None else None for place in wanted]) for record in records)


def comparable(values: Sequence[str | None]) -> Row:
    """A row that equals another one exactly if both mean the same."""
    day, *numbers, company = values
    return (_day(day), *map(_number, numbers), _company(company))


def _day(text: str | None) -> str | None:
    if text is None:
        return None
    found = _MIDNIGHT.fullmatch(text.strip())
    return found[1] if found else text.strip()


def _number(text: str | None) -> str | float | None:
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else str(number)  # no NaN equals itself


def _company(name: str | None) -> str | None:
    """Without the folder, for ways that keep the path; in NFC, as the company index names it."""
    if name is None:
        return None
    return unicodedata.normalize("NFC", re.sub(r"(?i)\.(gz|zst)$", "", name.rpartition("/")[2]))
