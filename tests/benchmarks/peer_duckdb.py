"""Peer: duckdb, `COPY (SELECT ...) TO` a CSV, then \\copy; or, with "scanner", INSERT through its PostgreSQL extension.

The columns are named and nothing is detected. Finding out the columns of each of 1000 files takes as long as the rest,
and finding them out in the first is wrong: its line ends are taken for all, and of files with other line ends duckdb
1.5.5 drops every row without a word.
"""

import os
import sys
from pathlib import Path

import duckdb

from tests.benchmarks.peer_batch import company_files, copy_into_table

_PRICES = """
    SELECT Date, Open, High, Low, Close, Volume,
           CASE WHEN Open::DOUBLE <> 0 THEN ((Close::DOUBLE - Open::DOUBLE) / Open::DOUBLE) * 100 END,
           Close::DOUBLE - Open::DOUBLE,
           parse_filename(filename)
    FROM read_csv($files, header = true, columns = $columns, auto_detect = false, filename = true)
"""


def main(way: str, stocks: Path, index: Path, combined: Path) -> None:
    files = [str(file) for file in company_files(stocks, index)]
    columns = dict.fromkeys(("Date", "Open", "High", "Low", "Close", "Volume", "OpenInt"), "VARCHAR")
    values: dict[str, object] = {"files": files, "columns": columns}
    if way == "scanner":
        import duckdb_extension_postgres_scanner as scanner  # noqa: PLC0415  only this way needs it

        [extension] = Path(scanner.__path__[0]).rglob("*.duckdb_extension")
        duckdb.execute(f"LOAD '{extension}'")
        duckdb.execute(f"ATTACH '{os.environ['MBD_DATABASE_URL']}' AS target (TYPE postgres)")
        duckdb.execute(f"INSERT INTO target.historical_stocks_data {_PRICES}", values)
    else:
        duckdb.execute(
            f"COPY ({_PRICES}) TO $combined (FORMAT csv, HEADER false)", {**values, "combined": str(combined)}
        )
        copy_into_table(combined)


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
