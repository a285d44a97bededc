"""A folder of `tests/data/cases` goes in; a batch that a test can process, and what must become of it, come out."""

from __future__ import annotations

import csv
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etl.batch.company_index import parse_index
from etl.batch.gate import find_company_files
from etl.batch.storage import Listed
from tests.support.paths import CASES

NAMES = sorted(folder.name for folder in CASES.iterdir() if folder.is_dir())


@dataclass(frozen=True)
class Case:
    """One case: `Stocks/`, `index.txt`, and the outcome that a careful operator expects (see tests/data/README.md)."""

    folder: Path

    @property
    def expected(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.folder / "expected.json").read_bytes())
        return facts

    @property
    def combined(self) -> bytes:
        return (self.folder / "expected_combined.csv").read_bytes()

    @property
    def rejected(self) -> bytes:
        return (self.folder / "expected_rejected_rows.csv").read_bytes()

    def files(self) -> dict[str, Path]:
        """The files that are kept of the companies that the index names."""
        kept = {path.name: path for path in (self.folder / "Stocks").iterdir()}
        index = parse_index((self.folder / "index.txt").read_bytes())
        found = find_company_files(index, dict.fromkeys(kept, Listed("", 0)), place="Stocks")
        return {name: kept[listed.stored_as or name] for name, listed in found.items()}

    def lay_out(self, root: Path) -> Batch:
        """A copy of the batch below `root`, with the files that are too large to be kept."""
        shutil.copytree(self.folder / "Stocks", root / "Stocks")
        shutil.copy(self.folder / "index.txt", root / "index.txt")
        for name, size in self.expected.get("sparse", {}).items():
            with (root / "Stocks" / name).open("wb") as file:
                os.truncate(file.fileno(), size)
        return Batch(root)


@dataclass(frozen=True)
class Batch:
    """A batch in folders, and what processing left in its output."""

    root: Path

    @property
    def source(self) -> Path:
        return self.root / "Stocks"

    @property
    def index(self) -> Path:
        return self.root / "index.txt"

    @property
    def output(self) -> Path:
        return self.root / "Output"

    def rejected(self) -> list[dict[str, str]]:
        with (self.output / "rejected_rows.csv").open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


def read_case(name: str) -> Case:
    return Case(CASES / name)


def loadable() -> list[Case]:
    """The cases whose batch does not fail."""
    return [case for case in map(read_case, NAMES) if "error" not in case.expected]
