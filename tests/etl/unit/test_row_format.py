"""Slices that Python formats: spelled as plain pandas' to_csv spells them, counted as the flag rules say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.files import native
from etl.files.native import check_plain
from etl.files.row_format import format_rows
from tests.support.pandas_slice import slice_by_pandas
from tests.support.paths import SAMPLE

REAL = [path for path in sorted((SAMPLE / "Stocks").iterdir()) if path.stat().st_size]


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_slice_of_a_real_file_is_the_bytes_of_plain_pandas(path: Path) -> None:
    rows = [line.split(",")[:6] for line in path.read_text().splitlines()[1:]]
    expected, _ = slice_by_pandas(path)
    assert format_rows(rows, company_name=path.name) == expected
    if native.available():
        body = path.read_bytes().partition(b"\n")[2]
        checked = check_plain(body, width=7, positions=range(6), company_name=path.name)
        assert checked is not None
        assert checked.content == expected


def test_fields_are_as_written_and_an_undefined_percent_change_is_empty() -> None:
    rows = [
        ("2020-01-02", "0", "2", "0", "1.5", "100"),
        ("2020-01-03", "010.500", "1.2e1", "+9.75", "11.", "1e3"),
        ("2020-01-06", "-0", "2", "0", "0", "1"),
        ("2020-01-07", "1e-310", "1e300", "1e-310", "1e300", "1"),
        ("2020-01-08", "1e-200", "1e200", "1e-200", "1e200", "1"),
    ]
    assert format_rows(rows, company_name="österreich.csv") == (
        "2020-01-02,0,2,0,1.5,100,,1.5,österreich.csv\n"
        "2020-01-03,010.500,1.2e1,+9.75,11.,1e3,4.761904761904762,0.5,österreich.csv\n"
        "2020-01-06,-0,2,0,0,1,,0.0,österreich.csv\n"
        "2020-01-07,1e-310,1e300,1e-310,1e300,1,,1e+300,österreich.csv\n"
        "2020-01-08,1e-200,1e200,1e-200,1e200,1,,1e+200,österreich.csv\n".encode()
    )


def test_no_rows_are_no_bytes() -> None:
    assert format_rows([], company_name="x.csv") == b""


finite = st.floats(min_value=0, allow_nan=False, allow_infinity=False)


@given(st.lists(st.tuples(finite, finite, finite, finite), min_size=1, max_size=20))
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_any_prices_are_formatted_as_plain_pandas_does(prices: list[tuple[float, ...]]) -> None:
    rows = [("2020-01-02", *map(repr, row), "1") for row in prices]
    source = pd.DataFrame(rows, columns=["Date", "Open", "High", "Low", "Close", "Volume"])
    with np.errstate(all="ignore"):
        assert format_rows(rows, company_name="x.csv") == slice_by_pandas(source, company_name="x.csv")[0]
