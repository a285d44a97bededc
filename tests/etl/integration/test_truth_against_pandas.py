"""The table and `read_prices`, held in full against plain pandas on the sample's files."""

from __future__ import annotations

import struct
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pandas as pd
import pytest

import etl
from tests.support.pandas_slice import slice_by_pandas

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.database import Database

SOURCE_COLUMNS = ["Date", "Open", "High", "Low", "Close", "Volume"]
Row = tuple[str | None, ...]


def naive_table(source: Path) -> dict[tuple[str, str], tuple[list[str], float | None, float]]:
    """By company and day: the six fields as they were written, percent change (None where undefined), value change."""
    expected: dict[tuple[str, str], tuple[list[str], float | None, float]] = {}
    for path in sorted(source.iterdir()):
        if not path.stat().st_size:
            continue
        written = pd.read_csv(path, dtype=str)
        opened, closed = (written[name].astype("float64") for name in ("Open", "Close"))
        change = closed - opened
        percent = ((closed - opened) / opened) * 100
        for fields, one_percent, one_change in zip(
            written[SOURCE_COLUMNS].values.tolist(), percent.tolist(), change.tolist(), strict=True
        ):
            undefined = float(fields[1]) == 0
            expected[path.name, fields[0]] = (fields, None if undefined else one_percent, one_change)
    return expected


def bits(number: float | None) -> bytes | None:
    return None if number is None else struct.pack("<d", number)


def test_table_is_what_plain_pandas_makes_of_the_files_bit_for_bit(sample: Files, database: Database) -> None:
    sample.load(database)
    expected, table = naive_table(sample.source), database.table()
    assert len(table) == len(expected)
    for *fields, percent, change, company in table:
        wanted, wanted_percent, wanted_change = expected[str(company), str(fields[0])]
        assert fields == wanted
        assert bits(None if percent is None else float(percent)) == bits(wanted_percent), (company, fields)
        assert change is not None
        assert bits(float(change)) == bits(wanted_change), (company, fields)


def test_combined_file_holds_the_table_in_the_order_of_index_and_files(sample: Files, database: Database) -> None:
    sample.load(database)
    lines = sample.combined.decode().splitlines()
    names = [name.strip(" '\n") for name in sample.index.read_text().split(",")]
    wanted = [
        (row.split(",")[0], name)
        for name in names
        for row in (sample.source / name).read_bytes().decode().splitlines()[1:]
    ]
    assert [(line.split(",")[0], line.split(",")[8]) for line in lines] == wanted
    as_rows = sorted(tuple(cell or None for cell in line.split(",")) for line in lines)
    assert as_rows == sorted(database.table())
    assert b"\r" not in sample.combined
    assert b'"' not in sample.combined


def test_percent_change_is_null_where_open_is_0_and_only_there(sample: Files, database: Database) -> None:
    receipt = sample.load(database)
    undefined = database.rows("SELECT * FROM historical_stocks_data WHERE daily_percent_change IS NULL")
    assert [(row[0], row[8], row[6]) for row in undefined] == [("2008-02-07", "blj.us.csv", None)]
    assert float(undefined[0][1]) == 0
    assert receipt.rows.flagged >= 1
    assert database.rows("SELECT count(*) FROM historical_stocks_data WHERE daily_percent_change = ''") == [(0,)]


def test_flagged_rows_are_those_that_plain_pandas_finds(sample: Files, database: Database) -> None:
    receipt = sample.load(database)
    flagged = 0
    for path in sample.source.iterdir():
        if path.stat().st_size:
            flagged += slice_by_pandas(path)[1]
    assert receipt.rows.flagged == flagged > 0


def test_view_gives_the_numbers_of_the_table(sample: Files, database: Database) -> None:
    sample.load(database)
    differing = database.rows(
        "SELECT count(*) FROM historical_stocks_data t LEFT JOIN stock_prices p "
        "ON p.company_name = t.company_name AND p.stock_date = t.stock_date::date "
        "WHERE p.open_value IS DISTINCT FROM t.open_value::numeric"
        " OR p.close_value IS DISTINCT FROM t.close_value::numeric"
        " OR p.volume_traded IS DISTINCT FROM t.volume_traded::bigint"
        " OR p.value_change IS DISTINCT FROM t.value_change::numeric"
    )
    assert differing == [(0,)]


TYPES = {
    "stock_date": "datetime64",
    "open_value": "float64",
    "high_value": "float64",
    "low_value": "float64",
    "close_value": "float64",
    "volume_traded": "Int64",
    "daily_percent_change": "float64",
    "value_change": "float64",
    "company_name": "string",
}


def assert_types(prices: pd.DataFrame) -> None:
    assert list(prices.columns) == list(TYPES)
    for name, kind in TYPES.items():
        assert str(prices[name].dtype).startswith(kind), (name, prices[name].dtype)


def test_read_prices_gives_every_row_typed_and_the_same_float64(sample: Files, database: Database) -> None:
    sample.load(database)
    prices = etl.read_prices(database=database.url)
    assert_types(prices)
    expected = naive_table(sample.source)
    assert len(prices) == len(expected)
    days = prices.stock_date.dt.strftime("%Y-%m-%d")
    assert list(zip(prices.company_name, days, strict=True)) == sorted(expected)
    for company, day, percent, change, close in zip(
        prices.company_name, days, prices.daily_percent_change, prices.value_change, prices.close_value, strict=True
    ):
        fields, wanted_percent, wanted_change = expected[company, day]
        assert bits(None if pd.isna(percent) else percent) == bits(wanted_percent)
        assert (bits(change), bits(close)) == (bits(wanted_change), bits(float(fields[4])))


@pytest.mark.parametrize(
    ("company", "since", "until", "rows"),
    [
        ("aa.us.csv", None, None, 5),
        (["aa.us.csv", "cc.us.csv"], None, None, 25),
        (("bb.us.csv",), None, None, 10),
        (None, None, None, 35),
        (None, "2001-01-05", None, 1 + 6 + 16),
        (None, None, date(2001, 1, 2), 6),
        ("cc.us.csv", date(2001, 1, 3), "2001-01-03", 1),
        ("cc.us.csv", pd.Timestamp("2001-01-03"), pd.Timestamp("2001-01-04"), 2),
        ([], None, None, 0),
        ("AA", None, None, 5),
        (["bb.us", "Cc.US.csv"], None, None, 30),
    ],
)
def test_read_prices_filters_by_company_and_days(
    three: Files,
    database: Database,
    company: str | list[str] | None,
    since: date | str | None,
    until: date | str | None,
    rows: int,
) -> None:
    three.load(database)
    prices = etl.read_prices(company, since, until, database=database.url)
    assert len(prices) == rows
    assert prices.equals(prices.sort_values(["company_name", "stock_date"], ignore_index=True))


def test_read_prices_of_nothing_is_an_empty_frame_of_the_same_types(database: Database) -> None:
    prices = etl.read_prices(date="2001-01-01", database=database.url)
    assert len(prices) == 0
    assert_types(prices)


@pytest.mark.parametrize(
    ("company", "message"),
    [
        ("aaa", "There is no company 'aaa' (did you mean aa.us.csv?). etl.companies() lists all 3."),
        (["bb", "zzzz"], "There is no company 'zzzz'. etl.companies() lists all 3."),
        ("x'); DROP TABLE historical_stocks_data; --", "There is no company"),
        (["%s", '{"}', "aa.us.csv"], "There is no company '%s'. There is no company '{\"}'."),
        ("", "There is no company ''"),
    ],
)
def test_read_prices_refuses_a_company_that_is_none_and_names_the_nearest(
    three: Files, database: Database, company: str | list[str], message: str
) -> None:
    three.load(database)
    with pytest.raises(etl.SettingsError) as error:
        etl.read_prices(company, database=database.url)
    assert message in str(error.value)
    assert database.count() == 35


def test_ticker_that_means_two_companies_is_refused_and_the_names_are_taken(
    make_files: Callable[[str], Files], days: Callable[..., list[str]], database: Database
) -> None:
    files = make_files("markets")
    names = ["ge.us.csv", "ge.de.csv", "brk-b.us.csv"]
    for number, name in enumerate(names, start=1):
        files.put(name, days(number))
    files.name(*names)
    files.load(database)
    with pytest.raises(etl.SettingsError, match=r"'GE' means several companies: ge.de.csv, ge.us.csv"):
        etl.read_prices("GE", database=database.url)
    assert [len(etl.read_prices(name, database=database.url)) for name in ("GE.US", "ge.de.csv", "BRK.B")] == [1, 2, 3]


def test_rows_that_no_load_wrote_are_found_by_their_company(database: Database) -> None:
    database.execute(
        "INSERT INTO historical_stocks_data VALUES ('2001-01-02', '1', '2', '1', '2', '9', '100.0', '1', 'mine')"
    )
    assert len(etl.read_prices("mine", database=database.url)) == 1


def test_companies_whose_names_pandas_takes_for_missing_keep_their_rows(
    make_files: Callable[[str], Files], days: Callable[..., list[str]], database: Database
) -> None:
    files = make_files("missing")
    names = ["NA", "NaN", "None", "NULL", "aa.us.csv", "nan", "null", "zz.us.csv"]
    for number, name in enumerate(names, start=1):
        files.put(name, days(number))
    files.name(*names)
    files.load(database)
    prices = etl.read_prices(database=database.url)
    assert_types(prices)
    assert prices.groupby("company_name").size().to_dict() == {name: at for at, name in enumerate(names, start=1)}
    assert len(etl.read_prices("NULL", database=database.url)) == 4


@pytest.mark.parametrize(
    ("written", "shares"),
    [
        (["9007199254740993", "1e3", "100.0", "5."], [9007199254740993, 1000, 100, 5]),
        (["9007199254740993", "+5", "0"], [9007199254740993, 5, 0]),
        (["9223372036854775807", "1e5"], [2**63 - 1, 100_000]),
    ],
    ids=str,
)
def test_read_prices_keeps_each_volume_to_the_last_share(
    make_files: Callable[[str], Files], database: Database, written: list[str], shares: list[int]
) -> None:
    files = make_files("volumes")
    files.put("aa.us.csv", [f"2001-01-{day:02},1,2,1,2,{volume},0" for day, volume in enumerate(written, start=1)])
    files.name("aa.us.csv")
    files.load(database)
    prices = etl.read_prices(database=database.url)
    assert_types(prices)
    assert prices.volume_traded.tolist() == shares


@pytest.mark.parametrize(
    ("volumes", "kind", "shares"),
    [
        (["NULL", "9007199254740993"], "Int64", [None, 9007199254740993]),
        (["'-5'", "'7'"], "Int64", [-5, 7]),
        (["'5.5'", "'9007199254740993'"], "object", [Decimal("5.5"), 9007199254740993]),
        (["'9223372036854775808'", "'-1e3'"], "object", [2**63, -1000]),
    ],
    ids=str,
)
def test_volumes_that_no_load_wrote_are_read_as_they_are(
    database: Database, volumes: list[str], kind: str, shares: list[object]
) -> None:
    for day, volume in enumerate(volumes, start=1):
        database.execute(
            "INSERT INTO historical_stocks_data "
            f"VALUES ('2001-01-{day:02}', '1', '2', '1', '2', {volume}, NULL, '1', 'mine')"
        )
    prices = etl.read_prices("mine", database=database.url)
    assert str(prices.volume_traded.dtype) == kind
    assert [None if pd.isna(one) else one for one in prices.volume_traded.tolist()] == shares
    assert prices.daily_percent_change.isna().all()


def test_read_prices_takes_any_year_of_four_digits(make_files: Callable[[str], Files], database: Database) -> None:
    files = make_files("years")
    years = ["0017-01-02", "1677-09-20", "2017-01-02", "2999-12-31", "9999-12-31"]
    files.put("aa.us.csv", [f"{day},1,2,1,2,9,0" for day in years])
    files.name("aa.us.csv")
    files.load(database)
    prices = etl.read_prices(database=database.url)
    assert_types(prices)
    assert [str(day.date()) for day in prices.stock_date] == years


def test_read_prices_ends_with_the_error_of_the_parser_and_hangs_nowhere(
    sample: Files, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample.load(database)

    def fail(file: IO[bytes], **_: object) -> None:
        assert file.read(10)
        raise MemoryError("no room")

    monkeypatch.setattr(pd, "read_csv", fail)
    with pytest.raises(MemoryError, match="no room"):
        etl.read_prices(database=database.url)


def test_read_prices_of_a_day_is_what_a_filter_on_all_of_them_gives(sample: Files, database: Database) -> None:
    sample.load(database)
    everything = etl.read_prices(database=database.url)
    for day in ("2017-11-10", "2008-01-16", "2001-01-01"):
        found = etl.read_prices(date=day, database=database.url)
        assert_types(found)
        assert found.equals(everything[everything["stock_date"] == day].reset_index(drop=True))
    with pytest.raises(etl.SettingsError, match="date is one day"):
        etl.read_prices(date="2017-11-10", since="2017-11-10", database=database.url)
    with pytest.raises(etl.SettingsError, match="date is one day"):
        etl.read_prices(date="2017-11-10", until="2017-11-10", database=database.url)


@pytest.mark.parametrize("columns", [["close_value"], ("volume_traded", "stock_date"), list(reversed(TYPES)), []])
def test_read_prices_gives_the_columns_that_are_asked_for_in_their_order(
    three: Files, database: Database, columns: list[str]
) -> None:
    three.load(database)
    everything = etl.read_prices(database=database.url)
    assert etl.read_prices(columns=columns, database=database.url).equals(everything[list(columns)])


def test_read_prices_refuses_a_column_that_is_none_and_names_the_nearest(database: Database) -> None:
    with pytest.raises(etl.SettingsError, match=r"no column 'close' \(did you mean close_value\?\)"):
        etl.read_prices(columns=["close"], database=database.url)


def test_read_prices_takes_the_database_from_the_environment(
    three: Files, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    three.load(database)
    monkeypatch.setenv("MBD_DATABASE_URL", database.url)
    assert len(etl.read_prices("aa.us.csv")) == 5


def test_read_prices_without_a_database_says_what_to_set() -> None:
    with pytest.raises(etl.SettingsError, match="MBD_DATABASE_URL"):
        etl.read_prices()


def test_read_prices_refuses_a_day_that_is_none(database: Database) -> None:
    with pytest.raises(etl.SettingsError, match="ISO dates"):
        etl.read_prices(since="7 May", database=database.url)


def test_read_prices_without_our_tables_says_what_to_run(empty_database: Database) -> None:
    with pytest.raises(etl.SettingsError, match=r"stock_prices.*init-db"):
        etl.read_prices(database=empty_database.url)
