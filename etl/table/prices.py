"""Reads prices for a data scientist: some companies over a span of days, as a typed pandas DataFrame."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.csv
from psycopg2 import sql as composed

from etl.errors import SettingsError
from etl.table.database import QUERIES, connect

if TYPE_CHECKING:
    import pandas as pd

_NUMBERS = ("open_value", "high_value", "low_value", "close_value", "daily_percent_change", "value_change")


def read_prices(
    company: str | Sequence[str] | None = None,
    since: date | str | None = None,
    until: date | str | None = None,
    *,
    database: str | None = None,
) -> pd.DataFrame:
    """Daily prices from the view stock_prices, ordered by company and day.

    `company`: one company name such as "wex.us.csv", several, or None for all; `since` and `until` are both included.
    `database`: a PostgreSQL URL; the environment variable MBD_DATABASE_URL when it is left out.

    Columns: stock_date (datetime64), open_value, high_value, low_value, close_value (float64, USD), volume_traded
    (Int64, shares), daily_percent_change (float64, percent; NaN where open is 0), value_change (float64, USD),
    company_name (string). Both derived columns are the very float64 that were computed from the prices.
    Raises SettingsError or ServiceError.
    """
    import pandas as pd  # noqa: PLC0415  here, because it costs half a second that no load needs

    database = database or os.environ.get("MBD_DATABASE_URL")
    if not database:
        raise SettingsError("No database is named. Pass database=..., or set MBD_DATABASE_URL.")
    names = [company] if isinstance(company, str) else company
    try:
        days = [_day(day) if day is not None else None for day in (since, until)]
    except ValueError as error:
        raise SettingsError(f"since and until are ISO dates such as 2017-11-10: {error}") from error
    values: dict[str, composed.Composable] = {
        "companies": composed.Literal(list(names) if names is not None else None),
        "since": composed.Literal(days[0]),
        "until": composed.Literal(days[1]),
    }
    answer = io.BytesIO()
    with connect(database) as connection, connection.cursor() as cursor:
        cursor.copy_expert(composed.SQL(QUERIES["read_prices"]).format(**values), answer)
    columns = pyarrow.csv.ConvertOptions(
        column_types={"stock_date": pa.timestamp("s"), "volume_traded": pa.int64(), "company_name": pa.string()}
        | dict.fromkeys(_NUMBERS, pa.float64()),
    )
    table = pyarrow.csv.read_csv(pa.BufferReader(answer.getbuffer()), convert_options=columns)
    as_pandas = {pa.int64(): pd.Int64Dtype(), pa.string(): pd.StringDtype()}
    return table.to_pandas(types_mapper=as_pandas.get)


def _day(day: date | str) -> date:
    """A date also of a datetime or a pandas Timestamp. Raises ValueError for text that is no ISO date."""
    if isinstance(day, datetime):
        return day.date()
    return day if isinstance(day, date) else date.fromisoformat(day)
