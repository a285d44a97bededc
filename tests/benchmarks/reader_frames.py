"""Reads the whole table as a DataFrame in one of several ways, and writes what it was and how long it took as JSON.

All but etl's own read the typed prices as float8, in any order, which is less work than read_prices does; "before" is
what read_prices was in version 0.1.
"""

import io
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_URL = os.environ.get("MBD_DATABASE_URL", "")
_NUMBERS = ("open_value", "high_value", "low_value", "close_value", "daily_percent_change", "value_change")
_TYPED = (
    f"SELECT stock_date, {', '.join(f'{name}::float8 AS {name}' for name in _NUMBERS)}, volume_traded, "
    "company_name::text AS company_name FROM stock_prices"
)
_BEFORE = (
    f"SELECT stock_date::date, {', '.join(f'{name}::numeric' for name in _NUMBERS)}, "
    "volume_traded::numeric::bigint, company_name FROM historical_stocks_data ORDER BY company_name, stock_date"
)


def etl() -> Any:  # noqa: ANN401  a DataFrame of one library or another
    from etl import read_prices  # noqa: PLC0415

    return read_prices()


def before() -> Any:  # noqa: ANN401
    import pandas as pd  # noqa: PLC0415
    import psycopg2  # noqa: PLC0415
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import csv  # noqa: PLC0415

    answer = io.BytesIO()
    with psycopg2.connect(_URL) as connection, connection.cursor() as cursor:
        cursor.copy_expert(f"COPY ({_BEFORE}) TO STDOUT (FORMAT csv, HEADER)", answer)
    types = {"stock_date": pa.timestamp("s"), "volume_traded": pa.int64(), "company_name": pa.string()}
    convert = csv.ConvertOptions(column_types=types | dict.fromkeys(_NUMBERS, pa.float64()))
    table = csv.read_csv(pa.BufferReader(answer.getbuffer()), convert_options=convert)
    return table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype(), pa.string(): pd.StringDtype()}.get)


def connectorx() -> Any:  # noqa: ANN401
    import connectorx as cx  # noqa: PLC0415

    return cx.read_sql(_URL, _TYPED)


def adbc() -> Any:  # noqa: ANN401
    from adbc_driver_postgresql import dbapi  # noqa: PLC0415

    with dbapi.connect(_URL) as connection, connection.cursor() as cursor:
        cursor.execute(_TYPED)
        return cursor.fetch_df()


def polars() -> Any:  # noqa: ANN401
    import polars as pl  # noqa: PLC0415

    return pl.read_database_uri(_TYPED, _URL)


def psycopg2() -> Any:  # noqa: ANN401
    import pandas as pd  # noqa: PLC0415
    import psycopg2 as driver  # noqa: PLC0415

    with driver.connect(_URL) as connection, connection.cursor() as cursor:
        cursor.execute(_TYPED)
        return pd.DataFrame(cursor.fetchall(), columns=[column.name for column in cursor.description or ()])


_WAYS: dict[str, Callable[[], Any]] = {one.__name__: one for one in (etl, before, connectorx, adbc, polars, psycopg2)}

if __name__ == "__main__":
    begun = time.monotonic()
    frame = _WAYS[sys.argv[1]]()
    seconds = time.monotonic() - begun
    sums = {name: round(float(frame[name].sum()), 1) for name in (*_NUMBERS, "volume_traded")}
    facts = {"seconds": round(seconds, 3), "rows": len(frame), "sums": sums}
    Path(sys.argv[2]).write_text(json.dumps(facts))
