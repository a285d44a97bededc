"""Peer: pandas `concat` and `to_csv`, then \\copy. Fields are read as text, since the table holds them as written."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from tests.benchmarks.peer_batch import company_files, copy_into_table


def main(stocks: Path, index: Path, combined: Path) -> None:
    columns = ["Date", "Open", "High", "Low", "Close", "Volume"]
    frames = [
        pd.read_csv(file, usecols=columns, dtype=str).assign(company_name=file.name)
        for file in company_files(stocks, index)
    ]
    prices = pd.concat(frames, ignore_index=True)
    opened, close = prices["Open"].astype("float64"), prices["Close"].astype("float64")
    prices.insert(6, "daily_percent_change", ((close - opened) / opened.replace(0, np.nan)) * 100)
    prices.insert(7, "value_change", close - opened)
    prices.to_csv(combined, header=False, index=False)
    copy_into_table(combined)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
