"""Writes a small batch of two days, and says by plain pandas what output and table hold after each.

On the second day one company is as before, one has grown, one is restated, one has grown by a row that is good and one
that is not, one is new, and the file of one is of 0 bytes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import pandas as pd

from tests.support.batch_files import Files, days_of
from tests.support.pandas_slice import slice_by_pandas

_BAD_DAY = "2001-02-30"
_NAMES = tuple(f"{letters}.us.csv" for letters in ("same", "grown", "restated", "spoilt", "new", "empty"))


@dataclass(frozen=True)
class Truth:
    """What a day's batch is: the combined file, and the same by company."""

    slices: dict[str, bytes]

    @property
    def combined(self) -> bytes:
        return b"".join(self.slices.values())

    @property
    def rows(self) -> list[tuple[str | None, ...]]:
        """The rows of the table, sorted as text."""
        lines = self.combined.decode().splitlines()
        return sorted((tuple(cell or None for cell in line.split(",")) for line in lines), key=str)


def first_day(files: Files) -> Truth:
    """Write the first day's batch: four companies."""
    files.made()
    same, grown, restated, spoilt, *_ = _NAMES
    files.put(same, days_of(420, price=10))
    files.put(grown, days_of(12, price=20))
    files.put(restated, days_of(15, price=30))
    files.put(spoilt, days_of(9, price=40))
    files.name(same, grown, restated, spoilt)
    return _truth(files)


def second_day(files: Files) -> Truth:
    """Turn it into the second day's."""
    _, grown, restated, spoilt, new, empty = _NAMES
    files.put(grown, days_of(14, price=20))
    files.put(restated, days_of(10, price=29.4) + days_of(15, price=30)[10:] + days_of(1, price=31, first=15))
    files.put(spoilt, [*days_of(10, price=40), f"{_BAD_DAY},40,41,39,40.5,1000,0"])
    files.put(new, days_of(8, price=50))
    files.put(empty, None)
    files.name(*_NAMES)
    return _truth(files)


def _truth(files: Files) -> Truth:
    slices = {}
    for name in files.index.read_text().replace("'", "").split(", "):
        text = (files.source / name).read_text()
        if text:
            rows = pd.read_csv(io.StringIO(text), dtype=str)
            slices[name] = slice_by_pandas(rows[rows.Date != _BAD_DAY], company_name=name)[0]
    return Truth(slices)
