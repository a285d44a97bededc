"""A batch in folders that a test changes as the exporting application would."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import etl
from tests.support.database import Database

_HEADER = "Date,Open,High,Low,Close,Volume,OpenInt"


def process(job: etl.Job, *, run: etl.Run | None = None, shards: int = 1, **options: Any) -> etl.Receipt:  # noqa: ANN401
    """What comes before a load: gate, each shard, and combine where there are several."""
    run = run or etl.Run.begin("test")
    etl.gate(job, run=run, shards=shards)
    receipts = [etl.process(job, run=run, shard=number, **options) for number in range(shards)]
    receipt = etl.combine(job, run=run) if shards > 1 else receipts[0]
    etl.forget_work(job, run=run)
    return receipt


def of_any_run(name: str, content: bytes) -> bytes:
    """An output without what differs from run to run: the manifest says when the outputs were written."""
    if name != "manifest.json" or not content.startswith(b"{"):
        return content
    of_a_run = ("combined_version", "list_versions", "files_read", "files_taken_over")
    return json.dumps({key: fact for key, fact in json.loads(content).items() if key not in of_a_run}).encode()


def days_of(count: int, *, price: float = 10.0, first: int = 0) -> list[str]:
    """Rows of so many days in a row from 2001-01-01 on, the same for the same arguments."""
    rows = []
    for number in range(first, first + count):
        opened = price + number % 7 / 8
        closed = opened + (number % 5 - 2) / 10
        high, low = max(opened, closed) + 0.25, min(opened, closed) - 0.25
        day = date(2001, 1, 1) + timedelta(days=number)
        rows.append(f"{day},{opened:.4g},{high:.4g},{low:.4g},{closed:.4g},{1000 + number},0")
    return rows


@dataclass(frozen=True)
class Files:
    """A batch in folders that a test may change as the exporting application would."""

    root: Path

    def made(self) -> Files:
        """The same, with its folders, which are empty."""
        self.source.mkdir(parents=True)
        self.index.parent.mkdir()
        return self

    @property
    def source(self) -> Path:
        return self.root / "Stocks"

    @property
    def index(self) -> Path:
        return self.root / "CompanyNames" / "top_companies.txt"

    @property
    def output(self) -> Path:
        return self.root / "Output"

    def put(self, name: str, rows: Sequence[str] | None) -> None:
        """Write a company file of these rows; None writes one of 0 bytes."""
        text = "" if rows is None else "\n".join([_HEADER, *rows]) + "\n"
        (self.source / name).write_text(text)

    def name(self, *names: str) -> None:
        """Write the company index."""
        self.index.write_text(", ".join(f"'{name}'" for name in names))

    def put_copies(self, original: Path, *, count: int) -> None:
        """Write a batch of `count` companies, ge0.us.csv and on, that all have the content of one file."""
        names = [f"ge{number}.us.csv" for number in range(count)]
        for name in names:
            shutil.copy(original, self.source / name)
        self.name(*names)

    def job(self, **changes: Any) -> etl.Job:  # noqa: ANN401  whatever a Job takes
        facts = {"source": str(self.source), "company_index": str(self.index), "output": str(self.output)}
        return etl.Job(**{**facts, **changes})

    def load(self, database: Database, *, job: etl.Job | None = None, **target: Any) -> etl.Receipt:  # noqa: ANN401
        """Move the batch as `python -m etl run` does."""
        return etl.run(job or self.job(), target=etl.Target(database.url, **target), run=etl.Run.begin("test"))

    @property
    def combined(self) -> bytes:
        return (self.output / "historical_stock_data.csv").read_bytes()

    @property
    def manifest(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.output / "manifest.json").read_bytes())
        return facts

    def write_manifest(self, facts: Mapping[str, Any]) -> None:
        (self.output / "manifest.json").write_text(json.dumps(facts))

    def receipts(self) -> dict[str, dict[str, Any]]:
        """The receipts in the output, by run id."""
        return {path.stem: json.loads(path.read_bytes()) for path in (self.output / "receipts").glob("*.json")}

    def outputs(self) -> dict[str, bytes]:
        """Every file of the output with its bytes, receipts and dry runs left out."""
        return {path.name: of_any_run(path.name, path.read_bytes()) for path in self.output.iterdir() if path.is_file()}
