"""dlt: its filesystem source, pandas' `read_csv` as its documentation reads CSV, its postgres destination."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlt
import pandas as pd
from dlt.destinations import postgres
from dlt.sources.filesystem import filesystem
from pydantic import BaseModel, Field

from tests.proof.dirt.batch import FIELDS, TABLE, Batch, Said, company_name

os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"


class Price(BaseModel):
    """A data contract: dlt checks each row against it, and its fields are the columns of the table."""

    date: datetime.date
    open: float = Field(ge=0, allow_inf_nan=False)
    high: float = Field(ge=0, allow_inf_nan=False)
    low: float = Field(ge=0, allow_inf_nan=False)
    close: float = Field(ge=0, allow_inf_nan=False)
    volume: int = Field(ge=0, lt=2**63)
    company_name: str


def usual(batch: Batch) -> Said:
    @dlt.transformer(name=TABLE, write_disposition="replace")  # type: ignore[untyped-decorator]
    def read_prices(items: list[Any]) -> Iterator[list[Any]]:
        for item in items:
            for frame in _frames(item):
                yield frame.to_dict(orient="records")

    _run(batch, read_prices)
    return {}


def careful(batch: Batch) -> Said:
    """Everything read as text, each row checked by the model, one row a day. A row that does not fit is an error."""

    @dlt.transformer(  # type: ignore[untyped-decorator]
        name=TABLE,
        columns=Price,
        schema_contract={"tables": "evolve", "columns": "freeze", "data_type": "freeze"},
        primary_key=("company_name", "date"),
        write_disposition="merge",
    )
    def read_prices(items: list[Any]) -> Iterator[list[Any]]:
        for item in items:
            for frame in _frames(item, dtype=str, keep_default_na=False, index_col=False, usecols=list(FIELDS)):
                yield frame.rename(columns=str.lower).to_dict(orient="records")

    _run(batch, read_prices)
    return {}


def _frames(item: Any, **options: Any) -> Iterator[pd.DataFrame]:  # noqa: ANN401  a dict that opens its file
    with item.open() as file:
        for frame in pd.read_csv(file, chunksize=10_000, **options):
            yield frame.assign(company_name=company_name(Path(item["file_name"])))


def _run(batch: Batch, prices: Any) -> None:  # noqa: ANN401  dlt is not in the environment that mypy sees
    files = filesystem(bucket_url=batch.folder.as_uri(), file_glob="*")
    pipeline = dlt.pipeline(
        "company_files",
        destination=postgres(batch.url),
        dataset_name="dlt",
        pipelines_dir=str(batch.folder.with_name("pipelines")),
    )
    pipeline.run(files | prices)
