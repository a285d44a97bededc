"""Peer: polars, lazily from the company files into a CSV (`sink_csv`), then \\copy."""

import sys
from pathlib import Path

import polars as pl

from tests.benchmarks.peer_batch import company_files, copy_into_table


def main(stocks: Path, index: Path, combined: Path) -> None:
    opened, close = pl.col("Open").cast(pl.Float64), pl.col("Close").cast(pl.Float64)
    prices = pl.scan_csv(company_files(stocks, index), infer_schema=False, include_file_paths="path").select(
        "Date",
        "Open",
        "High",
        "Low",
        "Close",
        "Volume",
        pl.when(opened != 0).then((close - opened) / opened * 100).alias("daily_percent_change"),
        (close - opened).alias("value_change"),
        pl.col("path").str.split("/").list.last().alias("company_name"),
    )
    prices.sink_csv(combined, include_header=False)
    copy_into_table(combined)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
