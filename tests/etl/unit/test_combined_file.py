"""Slices of the combined file, read back with plain pandas, are what plain pandas computes from the source."""

import csv
import io
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.files.combined_file import make_slice
from etl.files.company_file import CompanyFile, check_company_file
from etl.files.row_format import format_rows
from tests.support.company_files import company_file, parse
from tests.support.paths import SAMPLE

PERCENT, CHANGE, COMPANY = 6, 7, 8


def read_back(content: bytes) -> pd.DataFrame:
    """The combined file as pandas reads it; the two derived columns as float64, an empty field as NaN.

    Python's float reads them, which is exact under every pandas; pandas 3.1 deprecates float_precision="round_trip".
    """
    combined = pd.read_csv(io.BytesIO(content), header=None, dtype=str, keep_default_na=False)
    for column in (PERCENT, CHANGE):
        combined[column] = [float(text) if text else math.nan for text in combined[column]]
    return combined


def expected_columns(prices: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Percent change and value change by plain pandas; what is undefined is NaN."""
    with np.errstate(all="ignore"):
        percent = (prices["Close"] - prices["Open"]) / prices["Open"] * 100
    return percent.where(np.isfinite(percent)), prices["Close"] - prices["Open"]


def bits(column: pd.Series) -> list[str]:
    return [float(value).hex() for value in column]


def rows_of(opens: list[float], closes: list[float]) -> list[tuple[str, ...]]:
    return [
        ("2020-01-02", repr(first), repr(first), repr(last), repr(last), "1")
        for first, last in zip(opens, closes, strict=True)
    ]


@pytest.mark.parametrize(
    "path", [path for path in sorted((SAMPLE / "Stocks").iterdir()) if path.stat().st_size], ids=lambda path: path.name
)
def test_real_file_reads_back_as_pandas_computes_it_bit_for_bit(path: Path) -> None:
    checked = check_company_file(path.read_bytes(), company_name=path.name)
    assert isinstance(checked, CompanyFile)
    content = checked.content
    source = pd.read_csv(path, dtype=str, keep_default_na=False)
    percent, change = expected_columns(source[["Open", "Close"]].map(float))
    combined = read_back(content)
    assert bits(combined[PERCENT]) == bits(percent)
    assert bits(combined[CHANGE]) == bits(change)
    assert set(combined[COMPANY]) == {path.name}
    fields = [line.split(",")[:6] for line in path.read_text().splitlines()[1:]]
    assert [line.split(",")[:6] for line in content.decode().splitlines()] == fields


def test_open_of_zero_gives_an_empty_percent_and_a_plain_value_change() -> None:
    rows = company_file("2020-01-02,0,2,0,1.5,100,0", "2020-01-03,0.0,2,0,0,100,0", "2020-01-06,-0,2,0,2,1,0")
    assert parse(rows).content == (
        b"2020-01-02,0,2,0,1.5,100,,1.5,x.csv\n2020-01-03,0.0,2,0,0,100,,0.0,x.csv\n2020-01-06,-0,2,0,2,1,,2.0,x.csv\n"
    )


def test_columns_are_in_the_order_of_the_contract_whatever_the_source_has() -> None:
    content = company_file("1000,1.5,0.5,3,2,2020-01-02", header="Volume,close,Low,HIGH,Open,Date")
    checked = check_company_file(content, company_name="österreich.csv")
    assert isinstance(checked, CompanyFile)
    assert checked.content.decode() == "2020-01-02,2,3,0.5,1.5,1000,-25.0,-0.5,österreich.csv\n"


def test_source_fields_are_as_they_were_written() -> None:
    checked = parse(company_file('2020-01-02, 010.500 ,"1.2e1",+9.75,11.,1e3,0'))
    assert checked.content.startswith(b"2020-01-02,010.500,1.2e1,+9.75,11.,1e3,")


def test_percent_beyond_float64_is_empty() -> None:
    assert format_rows(rows_of([1e-310, 1e-200], [1e300, 1e200]), company_name="x").splitlines() == [
        b"2020-01-02,1e-310,1e-310,1e+300,1e+300,1,,1e+300,x",
        b"2020-01-02,1e-200,1e-200,1e+200,1e+200,1,,1e+200,x",
    ]


price = st.one_of(
    st.floats(min_value=0, allow_nan=False, allow_infinity=False),
    st.floats(min_value=0, max_value=1e4).map(lambda value: round(value, 4)),
    st.sampled_from([0.0, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 0.1, 1e16, 1e-5, 123456789.0]),
)


@given(st.lists(st.tuples(price, price), min_size=1, max_size=30))
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_any_finite_prices_read_back_as_the_same_float64_in_at_most_56_characters(
    prices: list[tuple[float, float]],
) -> None:
    opens, closes = [first for first, _ in prices], [last for _, last in prices]
    content = format_rows(rows_of(opens, closes), company_name="wex.us.csv")
    for line, (first, last) in zip(csv.reader(content.decode().splitlines()), prices, strict=True):
        assert len(line) == 9
        assert max(map(len, line)) <= 56
        assert not {field.lower().strip("+-") for field in line} & {"inf", "infinity", "nan", "null", "none"}
        assert float(line[CHANGE]).hex() == (last - first).hex()
        percent = (last - first) / first * 100 if first else math.nan
        assert line[PERCENT] == "" if not math.isfinite(percent) else float(line[PERCENT]).hex() == percent.hex()
    combined = read_back(content)
    percents, changes = expected_columns(pd.DataFrame({"Open": opens, "Close": closes}))
    assert (bits(combined[PERCENT]), bits(combined[CHANGE])) == (bits(percents), bits(changes))


def test_slice_is_described_by_the_bytes_that_were_written() -> None:
    entry = make_slice(b"a\nb\n", company_name="wex.us.csv", offset=10, flagged=1)
    assert (entry.offset, entry.length, entry.end, entry.rows, entry.flagged) == (10, 4, 14, 2, 1)
    assert entry.sha256 == "911169ddaaf146aff539f58c26c489af3b892dff0fe283c1c264c65ae5aa59a2"
