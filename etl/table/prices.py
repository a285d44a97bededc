"""Reads prices for a data scientist: some companies over a span of days, as a typed pandas DataFrame."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import date as calendar_day
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from psycopg2 import sql as composed

from etl.errors import SettingsError
from etl.table.companies import database_url, find_companies
from etl.table.database import QUERIES, connect
from etl.table.history import find_run
from etl.table.schema import COLUMNS
from etl.threads import Pool

if TYPE_CHECKING:
    import pandas as pd
    from psycopg2.extensions import cursor as Cursor

_NUMBERS = ("open_value", "high_value", "low_value", "close_value", "daily_percent_change", "value_change")
_ORDER = ("company_name", "stock_date")


def read_prices(
    company: str | Sequence[str] | None = None,
    since: calendar_day | str | None = None,
    until: calendar_day | str | None = None,
    *,
    date: calendar_day | str | None = None,
    columns: Sequence[str] | None = None,
    as_of: datetime | str | None = None,
    flagged: bool = True,
    database: str | None = None,
) -> pd.DataFrame:
    """Daily prices from the view stock_prices, ordered by company and day.

    `company`: a company name or ticker ("ge.us.csv", "GE"), several, or None for all; `since` and `until` are both
    included; `date` is one day alone, which an index finds across companies. `columns`: only these, in this order.
    `as_of`: what the table held at an aware time, or after the run of that id; runs that were undone do not count.
    `flagged`: whether rows that look wrong (view stock_price_flags) are among them.
    `database`: a PostgreSQL URL; the environment variable MBD_DATABASE_URL when it is left out.

    Columns: stock_date (datetime64), open_value, high_value, low_value, close_value (float64, USD), volume_traded
    (Int64, shares), daily_percent_change (float64, percent; NaN where open is 0), value_change (float64, USD),
    company_name (string). Both derived columns are the very float64 that were computed from the prices.
    Raises SettingsError (a company, day or column that is none, with the nearest ones) or ServiceError.
    """
    url = database_url(database)
    names = [company] if isinstance(company, str) else company
    if date is not None and (since is not None or until is not None):
        raise SettingsError("date is one day. Pass date, or since and until.")
    first, last = _iso_days(since, until) if date is None else _iso_days(date, date)
    wanted = _wanted_columns(columns)
    with connect(url, snapshot=as_of is not None) as connection, connection.cursor() as cursor:
        values: dict[str, composed.Composable] = {
            "companies": composed.Literal(find_companies(cursor, list(names)) if names is not None else None),
            "since": composed.Literal(first),
            "until": composed.Literal(last),
            "columns": composed.SQL(", ").join(map(composed.Identifier, dict.fromkeys([*wanted, *_ORDER]))),
            "relation": _relation(cursor, as_of, day=first if date is not None else None, flagged=flagged),
        }
        prices = _copied(cursor, composed.SQL(QUERIES["read_prices"]).format(**values))
    return _typed(prices, wanted)


def _wanted_columns(columns: Sequence[str] | None) -> tuple[str, ...]:
    wanted = COLUMNS if columns is None else (columns,) if isinstance(columns, str) else tuple(columns)
    for name in wanted:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, n=1, cutoff=0.3)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise SettingsError(f"There is no column {name!r}{hint}. The columns are {', '.join(COLUMNS)}.")
    return wanted


def _iso_days(*days: calendar_day | str | None) -> list[str | None]:
    try:
        return [_day(day).isoformat() if day is not None else None for day in days]
    except ValueError as error:
        raise SettingsError(f"Days are ISO dates such as 2017-11-10: {error}") from error


def _copied(cursor: Cursor, copy: composed.Composable) -> pd.DataFrame:
    """The answer of a COPY of stock_prices_as_written, with days and companies as categories."""
    prices = _parsed(cursor, copy)
    if "volume_traded" in prices and prices["volume_traded"].dtype != "int64":
        # Some are written as 1e5 or 100.0, so that pandas made floats of all; or there is none.
        prices = _parsed(cursor, copy, volume_traded="str")
        prices["volume_traded"] = _shares(prices["volume_traded"])
    return prices


def _shares(written: pd.Series[str]) -> pd.Series[Any]:
    """Volumes as Int64; as objects where one is no whole number or over a bigint, which no load writes."""
    import pandas as pd  # noqa: PLC0415

    shares = [_exact(text) if text else None for text in written]
    is_usual = all(one is None or (isinstance(one, int) and -(2**63) <= one < 2**63) for one in shares)
    return pd.Series(shares, index=written.index, dtype="Int64" if is_usual else "object")


def _exact(text: str) -> int | Decimal:
    number = Decimal(text)
    return int(number) if number == number.to_integral_value() else number


def _parsed(cursor: Cursor, copy: composed.Composable, **more_types: str) -> pd.DataFrame:
    """The same, as pandas reads it, with `more_types` of columns. It is parsed while PostgreSQL still sends."""
    import pandas as pd  # noqa: PLC0415  here, because it costs half a second that no load needs

    # Days and companies repeat: as categories, each text is parsed once.
    types = dict.fromkeys(_NUMBERS, "float64") | dict.fromkeys(_ORDER, "category") | more_types
    is_exact = tuple(map(int, pd.__version__.split(".")[:2])) >= (3, 1)  # it parses floats to the last bit by itself
    # A company may be called NA or null: only a number is missing where the table has NULL.
    missing = {name: ["", "NaN"] for name in _NUMBERS}
    options: dict[str, Any] = {"low_memory": False, "keep_default_na": False, "na_values": missing}
    if not is_exact:
        options["float_precision"] = "round_trip"
    parsed_end, written_end = map(os.fdopen, os.pipe(), ("rb", "wb"))

    def parse() -> pd.DataFrame:
        with parsed_end:  # an error on the way ends the COPY too
            return pd.read_csv(parsed_end, dtype=types, **options)

    with Pool(1, name="prices") as pool:
        prices = pool.submit(parse)
        with suppress(BrokenPipeError), written_end:
            cursor.copy_expert(copy, written_end)
        return pool.result_of(prices)


def _typed(prices: pd.DataFrame, wanted: Collection[str]) -> pd.DataFrame:
    """The rows of stock_prices_as_written as read_prices gives them, of these columns."""
    import pandas as pd  # noqa: PLC0415

    prices = prices.sort_values(list(_ORDER), ignore_index=True)
    if "volume_traded" in prices and prices["volume_traded"].dtype == "int64":
        prices["volume_traded"] = prices["volume_traded"].astype("Int64")
    days, names = prices["stock_date"].cat, prices["company_name"].cat
    dates = pd.Series([_day(day) if day else None for day in days.categories], dtype="object")
    # Not by to_datetime, which in pandas 2 goes through nanoseconds: those end in 2262.
    prices["stock_date"] = pd.DatetimeIndex(dates.to_numpy().astype("datetime64[s]")).take(days.codes.to_numpy())
    prices["company_name"] = names.categories.astype("string").take(names.codes.to_numpy())
    return prices if list(prices) == list(wanted) else prices[list(wanted)]


def _relation(cursor: Cursor, as_of: datetime | str | None, *, day: str | None, flagged: bool) -> composed.Composable:
    """Rows as text: the view of them, what it held at a time or after a run, or of one day, by the table's index."""
    as_text = composed.SQL(", ").join(
        composed.SQL("{0}::text AS {0}").format(composed.Identifier(name)) for name in COLUMNS
    )
    rows: composed.Composable = composed.SQL("stock_prices_as_written")
    flags: composed.Composable = composed.SQL("stock_price_flags")
    if as_of is not None:
        at = composed.Literal(_time(cursor, as_of))
        rows = composed.SQL("(SELECT {} FROM stock_prices_as_of({})) AS past").format(as_text, at)
        flags = composed.SQL("stock_price_flags_as_of({})").format(at)
    elif day is not None:
        of_day = "(SELECT {} FROM stock_prices WHERE stock_date = {}::date) AS day"
        rows = composed.SQL(of_day).format(as_text, composed.Literal(day))
    if flagged:
        return rows
    unflagged = """(
        SELECT * FROM {} WHERE NOT EXISTS (
            SELECT FROM (SELECT company_name AS company, to_char(stock_date, 'YYYY-MM-DD') AS day FROM {}) flag
            WHERE company = company_name AND day = stock_date
        )
    ) AS unflagged"""
    return composed.SQL(unflagged).format(rows, flags)


def _time(cursor: Cursor, as_of: datetime | str) -> datetime:
    """An aware time, also of its text or of a run's id."""
    if isinstance(as_of, str):
        try:
            as_of = datetime.fromisoformat(as_of)
        except ValueError:
            as_of = find_run(cursor, str(as_of)).loaded_at
    if as_of.tzinfo is None:
        raise SettingsError(f"as_of is {as_of}, of no time zone. Write 2026-11-25T18:00+00:00, or a run's id.")
    return as_of


def _day(day: calendar_day | str) -> calendar_day:
    """A date also of a datetime or a pandas Timestamp. Raises ValueError for text that is no ISO date."""
    if isinstance(day, datetime):
        return day.date()
    return day if isinstance(day, calendar_day) else calendar_day.fromisoformat(day)
