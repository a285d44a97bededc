"""The batches that are measured: a folder goes in; the batch, its next day, a restatement and n-fold copies come out.

The batch is the real one where MBD_REAL_BATCH names it, else a generated one of the same shape: as many rows a file on
average, file sizes as uneven, prices in four or five digits, CRLF, one file in 200 of 0 bytes. Same size, same bytes.
Other than the real one, it has LF in each seventh file, so that a peer that loses such files is seen.
"""

from __future__ import annotations

import math
import os
import random
import shutil
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from tests.support import real_batch

_HEADER = "Date,Open,High,Low,Close,Volume,OpenInt"
_MEDIAN_ROWS, _SPREAD, _MOST_ROWS = 1400, 0.9, 14_000  # log-normal, as the real batch roughly is: 2055 rows on average
_LAST_DAY = date(2017, 11, 10)


@dataclass(frozen=True)
class Batch:
    """A folder with `Stocks/` and an index beside it."""

    folder: Path

    @property
    def stocks(self) -> Path:
        return self.folder / "Stocks"

    @property
    def index(self) -> Path:
        return self.folder / "CompanyNames" / "top_companies.txt"

    def files(self) -> list[Path]:
        return sorted(self.stocks.iterdir())

    def size_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files())


def first_batch(folder: Path, *, generated_files: int) -> Batch:
    """The real batch where the environment names it, else a generated one of so many files."""
    if real_batch.archive():
        return Batch(real_batch.unpack(folder))
    batch = _new_batch(folder, names=[f"gen{number:04}.us.csv" for number in range(generated_files)])
    dice = random.Random(20171110)
    for number in range(generated_files):
        file = batch.stocks / f"gen{number:04}.us.csv"
        rows = 0 if number % 200 == 199 else min(_MOST_ROWS, int(dice.lognormvariate(math.log(_MEDIAN_ROWS), _SPREAD)))
        content = _company_file(dice, rows=rows)
        file.write_text(content if number % 7 else content.replace("\r\n", "\n"), newline="")
    return batch


def next_day(batch: Batch, folder: Path) -> Batch:
    """The batch as it comes a day later: each company that has rows has one more."""
    grown = _copy(batch, folder)
    for file in batch.files():
        if content := file.read_bytes():
            last = content.splitlines()[-1].decode()
            day, _, values = last.partition(",")
            line = f"{date.fromisoformat(day) + timedelta(days=1)},{values}".encode()
            _replace(grown.stocks / file.name, content.rstrip(b"\r\n") + _line_end(content) + line + _line_end(content))
    return grown


def restated(batch: Batch, folder: Path, *, companies: int) -> Batch:
    """The batch with another volume in the first row of so many companies, spread over the batch."""
    changed = _copy(batch, folder)
    files = [file for file in batch.files() if file.stat().st_size]
    for file in files[:: max(1, len(files) // companies)][:companies]:
        content = file.read_bytes()
        header, first, rest = content.split(_line_end(content), 2)
        column = header.decode().split(",").index("Volume")
        values = first.decode().split(",")
        values[column] = str(int(values[column]) + 1)
        _replace(changed.stocks / file.name, _line_end(content).join((header, ",".join(values).encode(), rest)))
    return changed


def manifold(batch: Batch, folder: Path, *, copies: int) -> Batch:
    """The batch and copies of it under other names (`copy2-wex.us.csv`): so many times the files in all."""
    names = [file.name for file in batch.files()]
    prefixes = ["", *(f"copy{number}-" for number in range(2, copies + 1))]
    grown = _new_batch(folder, names=[prefix + name for prefix in prefixes for name in names])
    for prefix in prefixes:
        for file in batch.files():
            os.link(file, grown.stocks / (prefix + file.name))
    return grown


def first_tenth(combined: Path, target: Path) -> Path:
    """The first tenth of a combined file's bytes, up to the end of a row."""
    with combined.open("rb") as source, target.open("wb") as file:
        file.write(source.read(combined.stat().st_size // 10))
        file.write(source.readline())
    return target


def _company_file(dice: random.Random, *, rows: int) -> str:
    lines, price = [_HEADER], dice.uniform(2, 80)
    for age in range(rows, 0, -1):
        price = max(0.5, price * dice.gauss(1.0002, 0.02))
        opened, high, low = price * dice.gauss(1, 0.008), price * 1.02, price * 0.98
        high, low = max(high, opened), min(low, opened)
        prices = ",".join(f"{value:.5g}" for value in (opened, high, low, price))
        lines.append(f"{_LAST_DAY - timedelta(days=age)},{prices},{dice.randrange(100, 9_000_000)},0")
    return "".join(line + "\r\n" for line in lines) if rows else ""


def _new_batch(folder: Path, *, names: list[str]) -> Batch:
    batch = Batch(folder)
    batch.stocks.mkdir(parents=True)
    batch.index.parent.mkdir()
    batch.index.write_text(", ".join(f"'{name}'" for name in names))
    return batch


def _copy(batch: Batch, folder: Path) -> Batch:
    """The same files under another folder; hard links, so a file must be replaced and not written to."""
    shutil.copytree(batch.folder, folder, copy_function=os.link)
    return Batch(folder)


def _replace(file: Path, content: bytes) -> None:
    file.unlink()
    file.write_bytes(content)


def _line_end(content: bytes) -> bytes:
    return b"\r\n" if b"\r\n" in content else b"\n"
