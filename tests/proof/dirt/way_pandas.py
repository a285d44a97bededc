"""pandas: `read_csv` and `to_sql` by SQLAlchemy."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import pandas as pd
from sqlalchemy import create_engine

from tests.proof.dirt.batch import FIELDS, TABLE, Batch, Said, company_name


def usual(batch: Batch) -> Said:
    frames = [pd.read_csv(file).assign(company_name=company_name(file)) for file in batch.files()]
    _write(pd.concat(frames, ignore_index=True), batch)
    return {}


def careful(batch: Batch) -> Said:
    """Everything read as text, then checked column by column; files that cannot be read are left out and named."""
    said: Said = {}
    frames = []
    for file in batch.files():
        company = company_name(file)
        try:
            rows, torn = _read(file)
        except (ValueError, KeyError, ImportError, OSError, csv.Error) as error:  # pandas' own errors are ValueErrors
            said[company] = f"not read: {error}"
            continue
        checked = _checked(rows)
        frames.append(checked.assign(company_name=company))
        if torn or len(checked) < len(rows) or rows.empty:
            said[company] = f"{len(rows) + torn} rows read, {len(checked)} taken"
    _write(pd.concat(frames, ignore_index=True), batch)
    return said


def _read(file: Path) -> tuple[pd.DataFrame, int]:
    """The wanted columns as text, and the number of rows with too many fields."""
    torn: list[list[str]] = []
    rows = pd.read_csv(
        file,
        dtype="str",
        keep_default_na=False,
        index_col=False,
        encoding="utf-8",
        engine="python",
        on_bad_lines=torn.append,
    )
    rows.columns = rows.columns.str.strip()
    return rows[list(FIELDS)], len(torn)


def _checked(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose day and numbers are good; of two different rows of a day, neither."""
    columns: dict[str, Any] = {"Date": pd.to_datetime(rows["Date"].str.strip(), format="%Y-%m-%d", errors="coerce")}
    columns |= {name: pd.to_numeric(rows[name].str.strip(), errors="coerce") for name in FIELDS[1:]}
    typed = pd.DataFrame(columns)
    numbers = typed[list(FIELDS[1:])].astype("float64")
    good = typed["Date"].notna() & ((numbers >= 0) & (numbers < math.inf)).all(axis=1)
    good &= numbers["Volume"] == numbers["Volume"].round()
    once = typed[good].drop_duplicates()
    return once[~once.duplicated("Date", keep=False)]


def _write(prices: pd.DataFrame, batch: Batch) -> None:
    engine = create_engine(batch.url.replace("postgresql://", "postgresql+psycopg2://"))
    with engine.begin() as connection:
        prices.to_sql(TABLE, connection, if_exists="replace", index=False)
