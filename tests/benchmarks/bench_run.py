"""`make bench`: `python -m etl run` against psql's \\copy of the ready combined file, in turn, on one server.

Prints medians and the ratio pair by pair. Every run is checked: the same rows in the table, or the figure is not shown.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from tests import real_batch
from tests.local_stack.postgres import PostgresServer, postgres_binaries

_SAMPLE = Path(__file__).parents[1] / "data" / "sample"


@dataclass(frozen=True)
class Figures:
    """One finished process: seconds, and MiB at its peak (at least this process's own)."""

    wall: float
    cpu: float
    peak_mib: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        batch = real_batch.unpack(root / "batch") if real_batch.archive() else _SAMPLE
        with PostgresServer(root / "postgres") as postgres:
            _measure(batch, output=root / "Output", url=postgres.url("stocks"), rounds=options.rounds)
    return 0


def _measure(batch: Path, *, output: Path, url: str, rounds: int) -> None:
    etl: list[str | Path] = [sys.executable, "-m", "etl"]
    _run([*etl, "init-db"], url=url)
    places: list[str | Path] = [
        "--source",
        batch / "Stocks",
        "--index",
        batch / "CompanyNames" / "top_companies.txt",
        "--output",
        output,
    ]
    ours = [*etl, "run", "--quiet", "--json", *places]
    statement = f"\\copy historical_stocks_data FROM '{output / 'historical_stock_data.csv'}' CSV"
    copy: list[str | Path] = [postgres_binaries() / "psql", url, "-qc", statement]
    _run(ours, url=url)
    rows = _rows(url)
    figures: dict[str, list[Figures]] = {"etl run": [], "psql \\copy": [], "etl run, unchanged": []}
    for _ in range(rounds):
        for name, command, empty in (
            ("psql \\copy", copy, True),
            ("etl run", ours, True),
            ("etl run, unchanged", ours, False),
        ):
            if empty:
                _reset(url)
            measured = _run(command, url=url)
            if _rows(url) != rows:
                raise SystemExit(f"{name} left {_rows(url):,} rows instead of {rows:,}: no figure")
            figures[name].append(measured)
    _print(figures, rows=rows, files=len(list((batch / "Stocks").iterdir())))


def _run(command: Sequence[str | Path], *, url: str) -> Figures:
    begun = time.monotonic()
    child = subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.DEVNULL, env={**os.environ, "MBD_DATABASE_URL": url}
    )
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.monotonic() - begun
    if status:
        raise SystemExit(f"{command[0]} failed: no figure")
    child.returncode = 0
    return Figures(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def _reset(url: str) -> None:
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE historical_stocks_data, loaded_companies, pipeline_runs")


def _rows(url: str) -> int:
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM historical_stocks_data")
        return int((cursor.fetchone() or (0,))[0])


def _print(figures: dict[str, list[Figures]], *, rows: int, files: int) -> None:
    reference = [one.wall for one in figures["psql \\copy"]]
    print(f"{files:,} files, {rows:,} rows, {len(reference)} rounds in turn, median; ratio to \\copy pair by pair")
    print(f"{'':<20} {'wall s':>7} {'ratio':>6} {'client CPU s':>13} {'peak MiB':>9}")
    for name, runs in figures.items():
        ratio = statistics.median(one.wall / base for one, base in zip(runs, reference, strict=True))
        wall, cpu = (statistics.median(getattr(one, key) for one in runs) for key in ("wall", "cpu"))
        peak = max(one.peak_mib for one in runs)
        print(f"{name:<20} {wall:>7.2f} {ratio:>6.2f} {cpu:>13.2f} {peak:>9.0f}")


if __name__ == "__main__":
    sys.exit(main())
