"""Peer: chdb (ClickHouse as a library), a query over the company files into a CSV, then \\copy."""

import sys
from pathlib import Path

import chdb

from tests.benchmarks.peer_batch import company_files, copy_into_table

_EXPORT = """
SELECT Date, Open, High, Low, Close, Volume,
       if(toFloat64(Open) != 0, (toFloat64(Close) - toFloat64(Open)) / toFloat64(Open) * 100, NULL),
       toFloat64(Close) - toFloat64(Open),
       _file
FROM file('{stocks}/*.csv', CSVWithNames,
          'Date String, Open String, High String, Low String, Close String, Volume String, OpenInt String')
WHERE _file IN ({names})
INTO OUTFILE '{combined}' TRUNCATE FORMAT CSV
SETTINGS format_csv_null_representation = '', engine_file_skip_empty_files = 1
"""


def main(stocks: Path, index: Path, combined: Path) -> None:
    names = ", ".join(f"'{file.name}'" for file in company_files(stocks, index))
    chdb.query(_EXPORT.format(stocks=stocks, names=names, combined=combined))
    copy_into_table(combined)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
