"""Reads which companies the database has and how fresh they are, and finds the company that a ticker means."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from etl.errors import SettingsError
from etl.table.database import connect, query

if TYPE_CHECKING:
    import pandas as pd
    from psycopg2.extensions import cursor as Cursor

_MOST_NEAR_NAMES = 3  # in a message


def companies(*, database: str | None = None) -> pd.DataFrame:
    """One row a company, ordered by name, from the view stock_data_status: how far its prices go and if it is fresh.

    `database`: a PostgreSQL URL; the environment variable MBD_DATABASE_URL when it is left out.

    Columns: company_name (string), first_day, last_day (datetime64), rows (Int64), loaded_at (datetime64, UTC), run_id
    (string), state (string: fresh, quiet, stale, quarantined, held back), since (datetime64), reason (string) and
    days_behind (Int64).
    docs/dictionary.md says what each means. Raises SettingsError or ServiceError.
    """
    import pandas as pd  # noqa: PLC0415  here, because it costs half a second that no load needs

    with connect(database_url(database)) as connection, connection.cursor() as cursor:
        rows = query(cursor, "companies")
        names = [column.name for column in cursor.description or ()]
    found = pd.DataFrame(rows, columns=names)
    types = dict.fromkeys(("company_name", "run_id", "state", "reason"), "string")
    types |= dict.fromkeys(("rows", "days_behind"), "Int64")
    types |= dict.fromkeys(("first_day", "last_day", "since"), "datetime64[s]")
    found["loaded_at"] = pd.to_datetime(found["loaded_at"], utc=True)
    return found.astype(types)


def database_url(given: str | None) -> str:
    """The URL that was given, or the environment's. Raises SettingsError when there is neither."""
    url = given or os.environ.get("MBD_DATABASE_URL")
    if not url:
        raise SettingsError("No database is named. Pass database=..., or set MBD_DATABASE_URL.")
    return url


def find_companies(cursor: Cursor, wanted: Sequence[str]) -> list[str]:
    """The company names that these names or tickers mean: "ge.us.csv", "GE" and "ge.us" are the same company.

    Raises SettingsError, with the nearest names, for what means no company or several.
    """
    known = [row[0] for row in query(cursor, "company_names")]
    by_ticker: dict[str, list[str]] = {}
    for name in known:
        for ticker in _tickers(name):
            by_ticker.setdefault(ticker, []).append(name)
    exact = set(known)
    missing = [one for one in wanted if one not in exact and _ticker(one) not in by_ticker]
    if missing:  # rows that no load wrote are not in the ledger
        exact |= {row[0] for row in query(cursor, "companies_with_rows", companies=missing)}
    found, faults = [], []
    for one in wanted:
        meant = [one] if one in exact else by_ticker.get(_ticker(one), [])
        if len(meant) == 1:
            found.append(meant[0])
        elif meant:
            faults.append(f"{one!r} means several companies: {', '.join(meant)}")
        else:
            faults.append(f"There is no company {one!r}{_nearest(one, by_ticker)}")
    if faults:
        raise SettingsError(f"{'. '.join(faults)}. etl.companies() lists all {len(known):,}.")
    return found


def _ticker(name: str) -> str:
    """How a name is compared: BRK.B, brk-b and brk_b are the same."""
    return re.sub(r"[._/ ]", "-", name.strip().lower().removesuffix(".csv"))


def _tickers(name: str) -> set[str]:
    """What a company can be called: ge.us.csv also ge-us, and ge without the market."""
    stem = name.lower().removesuffix(".csv")
    return {_ticker(stem), _ticker(stem.rpartition(".")[0] or stem)}


def _nearest(name: str, by_ticker: dict[str, list[str]]) -> str:
    near = difflib.get_close_matches(_ticker(name), by_ticker, n=_MOST_NEAR_NAMES)
    names = dict.fromkeys(company for ticker in near for company in by_ticker[ticker])
    return f" (did you mean {', '.join(list(names)[:_MOST_NEAR_NAMES])}?)" if names else ""
