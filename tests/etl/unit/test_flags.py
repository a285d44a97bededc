"""Flagged rows: which rule is true of which row, where it is in its file, and that both ways of checking agree."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.files import native
from etl.files.company_file import CompanyFile, check_company_file
from etl.files.flags import FlaggedRow, rows_near
from tests.support.company_files import HEADER
from tests.support.pandas_slice import digit_errors

DIGIT = "likely digit error: about {} the rows before and after"


def company_file(closes: list[str]) -> bytes:
    """A file of these closing prices, one a day from 2020-01-01 on; nothing else of it looks wrong."""
    days = (date(2020, 1, 1) + timedelta(days=number) for number in range(len(closes)))
    rows = (f"{day},{close},1e9,1e-9,{close},100,0" for day, close in zip(days, closes, strict=True))
    return "\n".join([HEADER, *rows]).encode()


def flags(content: bytes, *, since: date | None = None) -> tuple[FlaggedRow, ...]:
    checked = check_company_file(content, company_name="x.csv", since=since)
    assert isinstance(checked, CompanyFile)
    return checked.flags


def flagged_days(closes: list[str]) -> list[int]:
    return [one.line - 2 for one in flags(company_file(closes))]


@pytest.mark.parametrize(
    ("wrong", "factor"), [("101", "10 times"), ("1010", "100 times"), ("1.01", "1/10 of"), ("0.101", "1/100 of")]
)
@pytest.mark.parametrize("rows", [1, 5])
def test_price_that_is_off_by_a_digit_and_comes_back_is_flagged(wrong: str, factor: str, rows: int) -> None:
    found = flags(company_file(["10", "10.2", *[wrong] * rows, "9.9", "10"]))
    assert [one.line for one in found] == list(range(4, 4 + rows))
    assert found[0] == FlaggedRow("x.csv", 4, "2020-01-03", "Open", wrong, DIGIT.format(factor))


@pytest.mark.parametrize(
    "closes",
    [
        pytest.param(["10", "10", "100", "100", "100", "100", "100", "100", "10", "10"], id="for more than a week"),
        pytest.param(["10", "10", "100", "101"], id="until the last row"),
        pytest.param(["100", "10", "10", "10"], id="in the first row"),
        pytest.param(["10", "10", "100", "20", "10"], id="and does not come back"),
        pytest.param(["10", "10", "60", "10"], id="by another factor"),
        pytest.param(["10", "10", "126", "10"], id="by a factor that is not near"),
        pytest.param(["10", "10", "1", "1", "1", "1", "1", "1"], id="by a split"),
    ],
)
def test_price_that_is_off_is_not_flagged(closes: list[str]) -> None:
    assert flagged_days(closes) == []


def test_error_after_a_price_that_really_moved_is_found() -> None:
    assert flagged_days(["1", "10", "10.1", "10", "101", "10", "10.2", "10"]) == [4]


@pytest.mark.parametrize(
    ("prices", "column", "value", "rule"),
    [
        ("2.7272,27.4,26.903,27.1", "Open", "2.7272", "open outside low..high"),
        ("28,27.4,26.9,27.1", "Open", "28", "open outside low..high"),
        ("27,27.4,26.9,27.5", "Close", "27.5", "close outside low..high"),
        ("28,27.4,26.9,27.5", "Open", "28", "open outside low..high"),
        ("27,26,27.4,27", "High", "26", "high below low"),
        ("27,27.4,0.0,27", "Low", "0.0", "a price of 0"),
        ("0,27.4,0,27", "Open", "0", "a price of 0"),
    ],
)
def test_row_that_looks_wrong_by_itself_is_flagged_once(prices: str, column: str, value: str, rule: str) -> None:
    content = f"{HEADER}\n2020-01-02,{prices},100,0\n".encode()
    assert flags(content) == (FlaggedRow("x.csv", 2, "2020-01-02", column, value, rule),)


def test_open_a_tenth_of_its_neighbours_is_a_digit_error_before_it_is_outside() -> None:
    rows = ["2009-10-21,27.2,28,26,27,9,0", "2009-10-22,2.7272,27.4,26.903,27.1,9,0", "2009-10-23,27.3,28,26,27,9,0"]
    [found] = flags("\n".join([HEADER, *rows]).encode())
    assert (found.date, found.column, found.rule) == ("2009-10-22", "Open", DIGIT.format("1/10 of"))


@pytest.mark.parametrize("native_checker", ["on", "off"])
def test_line_is_the_one_of_the_file(native_checker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MBD_NATIVE", native_checker)
    content = b"\xef\xbb\xbf\r\n\n" + company_file(["10", "10", "10", "100", "10"])
    assert [one.line for one in flags(content)] == [7]
    assert [one.line for one in flags(content, since=date(2020, 1, 3))] == [7]
    assert flags(content, since=date(2020, 1, 4)) == ()  # the row before it is not part of the batch


def test_neighbours_are_those_of_the_days_and_not_of_the_lines() -> None:
    header, *rows = company_file(["10", "10", "100", "10", "10"]).split(b"\n")
    assert [one.line for one in flags(b"\n".join([header, *reversed(rows)]))] == [4]
    spoilt = b"\n".join([header, rows[0], b"bad", rows[1], b"", *rows[2:]])
    assert [one.line for one in flags(spoilt)] == [6]


prices = st.lists(
    st.tuples(st.floats(0.7, 1.4), st.sampled_from([1.0] * 12 + [10.0, 100.0, 0.1, 0.01, 5.0, 0.0])), max_size=40
)


@given(st.floats(0.01, 1000), prices, st.none() | st.dates(date(2020, 1, 1), date(2020, 1, 20)))
@settings(max_examples=400, deadline=None, derandomize=True, database=None)
def test_any_prices_are_flagged_alike_natively_row_by_row_and_naively(
    first: float, moves: list[tuple[float, float]], since: date | None
) -> None:
    price, closes = first, [first]
    for move, factor in moves:
        price *= move
        closes.append(price * factor)
    content = company_file([f"{close:.6f}" for close in closes])
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MBD_NATIVE", "off")
        slow = check_company_file(content, company_name="x.csv", since=since)
        environment.setenv("MBD_NATIVE", "on")
        assert check_company_file(content, company_name="x.csv", since=since) == slow
        if isinstance(slow, CompanyFile) and since is None:
            written = [float(f"{close:.6f}") for close in closes]
            expected = {*digit_errors(written), *(n for n, close in enumerate(written) if not 1e-9 <= close <= 1e9)}
            assert [one.line - 2 for one in slow.flags] == sorted(expected)
    assert native.available() or native.describe()


def test_rows_near_suspects_are_those_that_can_be_judged_by_them() -> None:
    assert list(rows_near([0, 10, 16, 30, 39], of=40)) == [range(6), range(9, 22), range(29, 36), range(38, 40)]
    assert list(rows_near([], of=40)) == []


@pytest.mark.parametrize("native_checker", ["on", "off"])
def test_file_of_very_many_flagged_rows_has_each_of_them(native_checker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MBD_NATIVE", native_checker)
    assert flagged_days(["10", "100"] * 500 + ["10"]) == list(range(1, 1000, 2))
