"""Peer: dlt, its filesystem source to its postgres destination by way of Arrow and COPY. It makes no combined file.

Compression of its intermediate files is off: it took half of the time.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlt
import pyarrow as pa
import pyarrow.compute as pc
from dlt.destinations import postgres
from dlt.sources.filesystem import filesystem
from pyarrow import csv

from tests.benchmarks.peer_batch import company_files

_FIELDS = {
    "Date": "stock_date",
    "Open": "open_value",
    "High": "high_value",
    "Low": "low_value",
    "Close": "close_value",
    "Volume": "volume_traded",
}
_AS_TEXT = csv.ConvertOptions(column_types=dict.fromkeys(_FIELDS, pa.string()), include_columns=list(_FIELDS))


def main(stocks: Path, index: Path, _: Path) -> None:
    names = {file.name for file in company_files(stocks, index)}

    def read_prices(items: list[Any]) -> Iterator[pa.Table]:
        for item in items:
            if item["file_name"] in names:
                with item.open() as file:
                    yield _prices(csv.read_csv(file, convert_options=_AS_TEXT), company_name=item["file_name"])

    files = filesystem(bucket_url=stocks.as_uri(), file_glob="*.csv")
    prices = files | dlt.transformer(read_prices, name="historical_stocks_data", write_disposition="replace")
    with tempfile.TemporaryDirectory() as folder:
        pipeline = dlt.pipeline(
            "company_files",
            destination=postgres(os.environ["MBD_DATABASE_URL"]),
            dataset_name="peer_dlt",
            pipelines_dir=folder,
        )
        pipeline.run(prices, loader_file_format="csv")


def _prices(rows: pa.Table, *, company_name: str) -> pa.Table:
    opened, close = rows["Open"].cast(pa.float64()), rows["Close"].cast(pa.float64())
    change = pc.subtract(close, opened)
    percent = pc.multiply(pc.divide(change, opened), 100.0)
    percent = pc.if_else(pc.not_equal(opened, 0.0), percent, pa.scalar(None, pa.float64()))
    return (
        rows.rename_columns(list(_FIELDS.values()))
        .append_column("daily_percent_change", percent)
        .append_column("value_change", change)
        .append_column("company_name", pa.array([company_name] * len(rows)))
    )


if __name__ == "__main__":
    os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "NORMALIZE__DATA_WRITER__DISABLE_COMPRESSION": "true"}
    main(*map(Path, sys.argv[1:]))
