"""`make bench-reader`: the whole table as a DataFrame, a trader's queries, and what a reader meets during loads."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psycopg2

from tests.benchmarks import report
from tests.benchmarks.batches import Batch
from tests.benchmarks.bench_run import etl_run, is_there, lay, measured_batch, start_from_nothing
from tests.benchmarks.database import Database
from tests.benchmarks.measurement import CommandFailed, measure
from tests.benchmarks.report import READ, READ_BEFORE

_FRAMES = {  # name: the function of reader_frames.py, what must be installed, at most so many rounds
    READ_BEFORE: ("before", "pyarrow", 5),
    READ: ("etl", "", 5),
    "connectorx, to pandas": ("connectorx", "connectorx", 5),
    "ADBC, to pandas": ("adbc", "adbc_driver_postgresql", 5),
    "polars read_database_uri, to polars": ("polars", "polars", 5),
    "psycopg2 and pandas": ("psycopg2", "psycopg2", 1),
}
_REPEATS = 15


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-reader", description=__doc__)
    parser.add_argument("--peers", metavar="PYTHON", type=Path, help="the Python that the peers are installed for")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with measured_batch() as (batch, root, database):
        facts = measure_reader(batch, root=root, database=database, peers=options.peers, rounds=options.rounds)
    print(report.readers(facts))
    return 0


def measure_reader(
    batch: Batch, *, root: Path, database: Database, peers: Path | None, rounds: int = 5
) -> dict[str, Any]:
    """Loads first, which leave the table that is then read."""
    loads = _measure_loads(batch, root=root, database=database)
    database.settle()
    queries = _measure_queries(database, company=_largest(batch))
    return {"loads": loads, "queries": queries, "whole": _measure_frames(root, database, peers=peers, rounds=rounds)}


def _measure_frames(root: Path, database: Database, *, peers: Path | None, rounds: int) -> dict[str, Any]:
    measured: dict[str, Any] = {}
    wanted: dict[str, Any] = {}
    answer = root / "frame.json"
    for number in range(1, rounds + 1):
        for name, (way, needs, most) in _FRAMES.items():
            python = Path(sys.executable) if way == "etl" else peers
            one = measured.setdefault(name, {"runs": []})
            if python is None or (needs and not is_there(needs, python=python)):
                measured[name] = {"missing": needs}
            if "missing" in measured[name] or "fault" in one or number > most:
                continue
            print(f"round {number} of {rounds}: {name}", file=sys.stderr, flush=True)
            command = [python.absolute(), "-m", "tests.benchmarks.reader_frames", way, answer]  # type: ignore[union-attr]
            try:
                figures = measure(command, environment=database.environment, postmaster=database.postmaster)
            except CommandFailed as error:
                one["fault"] = str(error)
                continue
            found = json.loads(answer.read_text())
            seconds = found.pop("seconds")
            if found != (wanted := wanted or found):
                one["fault"] = f"other rows or sums than {READ_BEFORE}"
            one["runs"].append({**asdict(figures.times(1)), "seconds": seconds})
    return measured


def _measure_queries(database: Database, *, company: str) -> dict[str, Any]:
    """Milliseconds as psycopg2 answers them to a client, each a few times before it counts."""
    measured: dict[str, Any] = {}
    connection = psycopg2.connect(database.url)
    connection.autocommit = True
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT stock_date FROM stock_prices ORDER BY 1 DESC LIMIT 1000")
        days = [row[0] for row in cursor.fetchall()][:: 1000 // _REPEATS]
        queries = {
            "one company": ("SELECT * FROM stock_prices WHERE company_name = %s ORDER BY stock_date", [company]),
            report.ONE_DAY: ("SELECT * FROM stock_prices WHERE stock_date = %s", days),
            "the latest price of each company": (
                "SELECT company_name, stock_date, close_value FROM stock_latest_prices",
                [None],
            ),
        }
        for name, (query, values) in queries.items():
            milliseconds = []
            for number in range(_REPEATS + 2):
                begun = time.monotonic()
                value = values[number % len(values)]
                cursor.execute(query, None if value is None else (value,))
                rows = len(cursor.fetchall())
                milliseconds.append(round((time.monotonic() - begun) * 1000, 2))
            measured[name] = {"rows": rows, "ms": milliseconds[2:]}
    connection.close()
    return measured


def _measure_loads(batch: Batch, *, root: Path, database: Database) -> dict[str, Any]:
    start_from_nothing(root, database=database)
    lay(batch, root=root)
    measured: dict[str, Any] = {}
    for name, options in (("a first load", []), ("nothing changed", []), ("everything replaced", ["--reload"])):
        reader = Reader(database.url, company=_largest(batch))
        reader.start()
        subprocess.run(etl_run(root, *options), env=database.environment, stdout=subprocess.DEVNULL, check=True)
        reader.done = True
        reader.join()
        measured[name] = {"longest": round(reader.longest, 3), "counts": sorted(reader.counts)}
    return measured


class Reader(threading.Thread):
    """Asks for one company's rows a hundred times a second; keeps the longest answer's seconds and the counts."""

    def __init__(self, url: str, *, company: str) -> None:
        super().__init__()
        self.longest, self.counts, self.done = 0.0, set[int](), False
        self._url, self._company = url, company

    def run(self) -> None:
        connection = psycopg2.connect(self._url)
        connection.autocommit = True
        with connection.cursor() as cursor:
            while not self.done:
                begun = time.monotonic()
                cursor.execute("SELECT count(*) FROM stock_prices WHERE company_name = %s", (self._company,))
                self.counts.add(int((cursor.fetchone() or (0,))[0]))
                self.longest = max(self.longest, time.monotonic() - begun)
                time.sleep(0.01)
        connection.close()


def _largest(batch: Batch) -> str:
    return max(batch.files(), key=lambda file: file.stat().st_size).name


if __name__ == "__main__":
    sys.exit(main())
