"""A company's slice and its count of flagged rows by plain pandas, written naively: what fast code is held against."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

COLUMNS = ["Date", "Open", "High", "Low", "Close", "Volume"]


def slice_by_pandas(source: Path | pd.DataFrame, *, company_name: str | None = None) -> tuple[bytes, int]:
    """`source`: a plain company file, or its six columns as they are written in it."""
    if isinstance(source, Path):
        company_name = company_name or source.name
        source = pd.read_csv(source, dtype=str)
    rows = source[COLUMNS].copy()
    opened, high, low, closed = (rows[name].map(float) for name in COLUMNS[1:5])
    percent = ((closed - opened) / opened) * 100
    rows["daily_percent_change"] = percent.where(np.isfinite(percent))
    rows["value_change"] = closed - opened
    rows["company_name"] = company_name
    wrong = (high < low) | (closed < low) | (closed > high)
    wrong |= (opened == 0) | (high == 0) | (low == 0) | (closed == 0)
    return rows.to_csv(header=False, index=False, lineterminator="\n").encode(), int(wrong.sum())
