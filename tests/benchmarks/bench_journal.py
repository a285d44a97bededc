"""`make bench-journal`: what the journal costs a load, and what the past costs a reader, in ratios within a round.

Loads are `mbd load` of a ready combined file; ratios are of the server's CPU seconds to those of the first load in the
same round, and of wall seconds for readers. After each load the table is compared with the combined file's rows.
"""

from __future__ import annotations

import argparse
import io
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg2

from etl.outcome.report import MONTHS
from tests.benchmarks import batches
from tests.benchmarks.batches import Batch
from tests.benchmarks.database import Database
from tests.benchmarks.measurement import Figures, measure
from tests.support.postgres import PostgresServer

_ETL = (sys.executable, "-m", "etl")
_FACTOR = 0.9975
_COMPANIES = 10
_MONTH = 22  # loads, one a trading day

_MAKE_MONTH = """
INSERT INTO loads (load, run_id, kind, loaded_at)
SELECT (SELECT max(load) FROM loads) + day, 'day ' || day, 'load', now() + day * interval '1 second'
FROM generate_series(1, %(days)s) AS day;
INSERT INTO price_changes (load, rows, change, company_name, stock_date, last_date)
SELECT (SELECT max(load) FROM loads) - age + 1, 1, 'grew', company_name, stock_date, stock_date FROM (
    SELECT company_name, stock_date, row_number() OVER (PARTITION BY company_name ORDER BY stock_date DESC) AS age
    FROM historical_stocks_data
) t WHERE age <= %(days)s;
"""


class _Nowhere(io.RawIOBase):
    def write(self, block: object) -> int:
        return len(block)  # type: ignore[arg-type]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--files", type=int, default=1000, help="of the generated batch, where there is no real one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-journal-") as folder:
        root = Path(folder)
        with PostgresServer(root / "postgres", databases=("stocks",)) as server:
            database = Database(server)
            outputs = _outputs(root, options.files, database)
            found: dict[str, list[float]] = {}
            for number in range(1, options.rounds + 1):
                print(f"round {number} of {options.rounds}", file=sys.stderr, flush=True)
                for name, ratio in _round(outputs, database).items():
                    found.setdefault(name, []).append(ratio)
    print("| what | median | each round |\n|---|---|---|")
    for name, ratios in found.items():
        print(f"| {name} | {statistics.median(ratios):.3g} | {', '.join(f'{ratio:.3g}' for ratio in ratios)} |")
    return 0


def _outputs(root: Path, files: int, database: Database) -> dict[str, Path]:
    base = batches.first_batch(root / "batch", generated_files=files)
    grown = batches.next_day(base, root / "grown")
    names = [file.name for file in grown.files() if file.stat().st_size > 50_000]
    ten = _multiplied(grown, root / "ten", companies=names[:: max(1, len(names) // _COMPANIES)][:_COMPANIES])
    every = _multiplied(ten, root / "all", companies=[file.name for file in ten.files()])
    made = {}
    for name, batch in (("first", base), ("grown", grown), ("ten", ten), ("all", every)):
        made[name] = root / f"Output-{name}"
        places = ("--source", batch.stocks, "--index", batch.index, "--output", made[name])
        _measure([*_ETL, "process", "--quiet", *places], database)
    return made


def _multiplied(batch: Batch, folder: Path, *, companies: list[str]) -> Batch:
    """The batch with the whole history of these companies times a factor, in five significant digits."""
    changed = batches._copy(batch, folder)
    for name in companies:
        content = (batch.stocks / name).read_text()
        if not content:
            continue
        header, *rows = content.splitlines()
        made = [header]
        for row in rows:
            day, *prices, volume, interest = row.split(",")
            made.append(",".join((day, *(f"{float(price) * _FACTOR:.5g}" for price in prices), volume, interest)))
        batches._replace(changed.stocks / name, "".join(line + "\r\n" for line in made).encode())
    return changed


def _measure(command: list[str | Path], database: Database) -> Figures:
    return measure(command, environment=database.environment, postmaster=database.postmaster)


def _load(output: Path, database: Database, *, before: Path | None = None) -> float:
    """Server CPU seconds. `before`: the output of the last load, from which the report goes on as in one output."""
    if before:
        (output / MONTHS).parent.mkdir(exist_ok=True)
        shutil.copy(before / MONTHS, output / MONTHS)
    cpu = _measure([*_ETL, "load", "--quiet", "--json", "--output", output], database).server_cpu
    with psycopg2.connect(database.url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM historical_stocks_data")
        rows = (cursor.fetchone() or (0,))[0]
    lines = (output / "historical_stock_data.csv").read_bytes().count(b"\n")
    if rows != lines:
        raise SystemExit(f"{output}: {rows:,} rows in the table, {lines:,} in the file")
    database.settle()
    return cpu


def _round(outputs: dict[str, Path], database: Database) -> dict[str, float]:
    database.make_our_tables()
    first = _load(outputs["first"], database)
    ratios = {"first load, server CPU seconds": first}
    ratios["a new row in each company"] = _load(outputs["grown"], database, before=outputs["first"]) / first
    ratios["ten companies restated"] = _load(outputs["ten"], database, before=outputs["grown"]) / first
    with psycopg2.connect(database.url) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT max(loaded_at) FROM loads WHERE load <= 2")
            before = (cursor.fetchone() or ("",))[0]
            cursor.execute(_MAKE_MONTH, {"days": _MONTH})
            cursor.execute("ANALYZE")

            def reads(query: str) -> Callable[[], None]:
                text = cursor.mogrify(f"COPY ({query}) TO STDOUT", {"at": before}).decode()
                return lambda: cursor.copy_expert(text, _Nowhere())

            cursor.execute("SELECT company_name FROM loaded_companies ORDER BY rows DESC LIMIT 1")
            one = f"WHERE company_name = '{(cursor.fetchone() or ('',))[0]}'"
            then = "FROM stock_prices_as_of(%(at)s)"
            ratios["one company as of a month ago, to now"] = _ratio(
                reads(f"SELECT * {then} {one}"), reads(f"SELECT * FROM stock_prices {one}"), times=9
            )
            ratios["the whole table as of a month ago, to now"] = _ratio(
                reads(f"SELECT * {then}"), reads("SELECT * FROM stock_prices"), times=2
            )
            cursor.execute("DELETE FROM loads WHERE run_id LIKE 'day %'")
            cursor.execute("DELETE FROM price_changes WHERE load > (SELECT max(load) FROM loads)")
    database.settle()
    ratios["all rows restated"] = _load(outputs["all"], database, before=outputs["ten"]) / first
    return ratios


def _ratio(one: Callable[[], None], other: Callable[[], None], *, times: int) -> float:
    """Of the medians of wall seconds, taken in turn."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(times):
        for number, read in enumerate((one, other)):
            begun = time.perf_counter()
            read()
            seconds[number].append(time.perf_counter() - begun)
    return statistics.median(seconds[0]) / statistics.median(seconds[1])


if __name__ == "__main__":
    sys.exit(main())
