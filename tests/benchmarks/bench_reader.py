"""`make bench-reader`: how long a trader's query takes at the most while a load runs, and which counts it sees."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psycopg2

from tests.benchmarks.database import Database
from tests.support import real_batch
from tests.support.paths import SAMPLE
from tests.support.postgres import PostgresServer

_QUERY = "SELECT count(*) FROM stock_prices WHERE company_name = 'ge.us.csv'"


class Reader(threading.Thread):
    """Asks again and again until it is told to stop; keeps the longest answer's seconds and the counts."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.longest, self.asked, self.counts, self.done = 0.0, 0, set[int](), False
        self._url = url

    def run(self) -> None:
        connection = psycopg2.connect(self._url)
        connection.autocommit = True
        with connection.cursor() as cursor:
            while not self.done:
                begun = time.monotonic()
                cursor.execute(_QUERY)
                self.counts.add(int((cursor.fetchone() or (0,))[0]))
                self.longest = max(self.longest, time.monotonic() - begun)
                self.asked += 1
                time.sleep(0.01)
        connection.close()


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        batch = real_batch.unpack(root / "batch") if real_batch.archive() else SAMPLE
        with PostgresServer(root / "postgres") as server:
            database = Database(server)
            database.make_our_tables()
            places: list[str | Path] = [
                "--source",
                batch / "Stocks",
                "--index",
                batch / "CompanyNames" / "top_companies.txt",
            ]
            run: list[str | Path] = [
                sys.executable,
                "-m",
                "etl",
                "run",
                "--quiet",
                *places,
                "--output",
                root / "Output",
            ]
            for name, options in (("first load", []), ("nothing changed", []), ("all replaced", ["--reload"])):
                reader = Reader(database.url)
                reader.start()
                subprocess.run([*run, *options], env=database.environment, stdout=subprocess.DEVNULL, check=True)
                reader.done = True
                reader.join()
                counts = " or ".join(f"{count:,}" for count in sorted(reader.counts))
                print(f"{name:<16} {reader.asked:5} answers, the longest {reader.longest:.3f} s, rows seen: {counts}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
