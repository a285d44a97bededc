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
    wrong |= (opened < low) | (opened > high) | (opened == 0) | (high == 0) | (low == 0) | (closed == 0)
    for prices in (opened, high, low, closed):
        wrong.iloc[digit_errors(prices.tolist())] = True
    return rows.to_csv(header=False, index=False, lineterminator="\n").encode(), int(wrong.sum())


def digit_errors(prices: list[float]) -> list[int]:
    """Positions of up to five prices that are some 10 or 100 times another than the one before and the one behind."""

    def near(one: float, other: float) -> bool:
        return one <= 1.25 * other and other <= 1.25 * one

    found: list[int] = []
    position = 1
    while position < len(prices):
        before, ended = prices[position - 1], 0
        if before / 5 < prices[position] < before * 5:  # nearly all
            position += 1
            continue
        for factor in (10.0, 100.0, 0.1, 0.01):
            for end in range(position + 1, min(position + 6, len(prices))):
                wrong, behind = prices[position:end], prices[end]
                if before and all(price and near(price, before * factor) for price in wrong) and near(behind, before):
                    found += range(position, end)
                    ended = end
        position = ended + 1 if ended else position + 1
    return found
