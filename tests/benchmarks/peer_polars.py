"""Peer: polars, lazily from the company files into a CSV, then \\copy; or, with "adbc", as a frame by ADBC."""

import os
import sys
from pathlib import Path

import polars as pl

from tests.benchmarks.peer_batch import company_files, copy_into_table


def main(way: str, stocks: Path, index: Path, combined: Path) -> None:
    opened, close = pl.col("Open").cast(pl.Float64), pl.col("Close").cast(pl.Float64)
    change = close - opened
    percent = pl.when(opened != 0).then(change / opened * 100)
    if way == "adbc":  # which casts nothing
        change, percent = change.cast(pl.String), percent.cast(pl.String)
    prices = pl.scan_csv(company_files(stocks, index), infer_schema=False, include_file_paths="path").select(
        pl.col("Date").alias("stock_date"),
        pl.col("Open").alias("open_value"),
        pl.col("High").alias("high_value"),
        pl.col("Low").alias("low_value"),
        pl.col("Close").alias("close_value"),
        pl.col("Volume").alias("volume_traded"),
        percent.alias("daily_percent_change"),
        change.alias("value_change"),
        pl.col("path").str.split("/").list.last().alias("company_name"),
    )
    if way == "adbc":
        url = os.environ["MBD_DATABASE_URL"]
        prices.collect().write_database("historical_stocks_data", url, engine="adbc", if_table_exists="append")
    else:
        prices.sink_csv(combined, include_header=False)
        copy_into_table(combined)


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
