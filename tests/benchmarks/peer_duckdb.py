"""Peer: duckdb, `COPY (SELECT ...) TO` a CSV, then \\copy.

The columns are named: finding them out in each of 1000 files takes as long as the rest.
"""

import sys
from pathlib import Path

import duckdb

from tests.benchmarks.peer_batch import company_files, copy_into_table

_EXPORT = """
COPY (
    SELECT Date, Open, High, Low, Close, Volume,
           CASE WHEN Open::DOUBLE <> 0 THEN ((Close::DOUBLE - Open::DOUBLE) / Open::DOUBLE) * 100 END,
           Close::DOUBLE - Open::DOUBLE,
           parse_filename(filename)
    FROM read_csv($files, header = true, columns = $columns, filename = true)
) TO $combined (FORMAT csv, HEADER false)
"""


def main(stocks: Path, index: Path, combined: Path) -> None:
    files = [str(file) for file in company_files(stocks, index)]
    columns = dict.fromkeys(("Date", "Open", "High", "Low", "Close", "Volume", "OpenInt"), "VARCHAR")
    duckdb.execute(_EXPORT, {"files": files, "columns": columns, "combined": str(combined)})
    copy_into_table(combined)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
