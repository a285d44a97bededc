"""One company file's bytes, good and bad, and the accepted rows, rejected rows or quarantine that come out."""

from datetime import date
from pathlib import Path

import pytest

from etl.files.company_file import CompanyFile, UnusableFile, find_row
from etl.files.rules import RejectedRow
from tests.support.company_files import FIRST, HEADER, LAST, assert_balanced, check, company_file, kept, parse
from tests.support.paths import SAMPLE

TWO_ROWS = company_file(FIRST, LAST)


@pytest.mark.parametrize(
    ("row", "column", "value", "reason"),
    [
        # numbers
        ("2020-01-03,NaN,2,1,1.5,100,0", "Open", "NaN", "not a number"),
        ("2020-01-03,1,inf,1,1.5,100,0", "High", "inf", "not a number"),
        ("2020-01-03,1,2,-Infinity,1.5,100,0", "Low", "-Infinity", "not a number"),
        ("2020-01-03,1,2,1,,100,0", "Close", "", "empty"),
        ("2020-01-03,1,2,1,  ,100,0", "Close", "", "empty"),
        ("2020-01-03,1,2,1,1.5,n/a,0", "Volume", "n/a", "not a number"),
        ("2020-01-03,1_000,2,1,1.5,100,0", "Open", "1_000", "not a number"),
        ("2020-01-03,0x1F,2,1,1.5,100,0", "Open", "0x1F", "not a number"),
        ("2020-01-03,\uff11,2,1,1.5,100,0", "Open", "\uff11", "not a number"),
        ("2020-01-03,1.2.3,2,1,1.5,100,0", "Open", "1.2.3", "not a number"),
        ("2020-01-03,.,2,1,1.5,100,0", "Open", ".", "not a number"),
        ("2020-01-03,1\x00,2,1,1.5,100,0", "Open", "1\x00", "not a number"),
        ('2020-01-03,"1,5",2,1,1.5,100,0', "Open", "1,5", "not a number"),
        ("2020-01-03,1e400,2,1,1.5,100,0", "Open", "1e400", "too large for a float64"),
        ("2020-01-03,-1,2,1,1.5,100,0", "Open", "-1", "negative"),
        ("2020-01-03,1,2,-0.01,1.5,100,0", "Low", "-0.01", "negative"),
        ("2020-01-03,1,2,-1e-400,1.5,100,0", "Low", "-1e-400", "negative"),
        ("2020-01-03,1,2,1,1.5,-1,0", "Volume", "-1", "negative"),
        ("2020-01-03,1,2,1,1.5,100.5,0", "Volume", "100.5", "not a whole number of shares"),
        ("2020-01-03,1,2,1,1.5,9223372036854775808,0", "Volume", str(2**63), "more shares than a bigint holds"),
        (f"2020-01-03,{'0' * 57},2,1,1.5,100,0", "Open", "0" * 57, "longer than 56 characters"),
        (f"2020-01-03,{'x' * 999},2,1,1.5,100,0", "Open", "x" * 200, "longer than 56 characters"),
        # formulas
        ("2020-01-03,=1+1,2,1,1.5,100,0", "Open", "=1+1", "not a number"),
        ("2020-01-03,+A1,2,1,1.5,100,0", "Open", "+A1", "not a number"),
        ("2020-01-03,-A1,2,1,1.5,100,0", "Open", "-A1", "not a number"),
        ("@SUM(A1),1,2,1,1.5,100,0", "Date", "@SUM(A1)", "not an ISO date (YYYY-MM-DD)"),
        # days
        ("2020-02-30,1,2,1,1.5,100,0", "Date", "2020-02-30", "no such day"),
        ("2019-02-29,1,2,1,1.5,100,0", "Date", "2019-02-29", "no such day"),
        ("2020-13-01,1,2,1,1.5,100,0", "Date", "2020-13-01", "no such day"),
        ("0000-01-01,1,2,1,1.5,100,0", "Date", "0000-01-01", "no such day"),
        ("2020-1-3,1,2,1,1.5,100,0", "Date", "2020-1-3", "not an ISO date (YYYY-MM-DD)"),
        ("20200103,1,2,1,1.5,100,0", "Date", "20200103", "not an ISO date (YYYY-MM-DD)"),
        ("03/01/2020,1,2,1,1.5,100,0", "Date", "03/01/2020", "not an ISO date (YYYY-MM-DD)"),
        ("2020-01-03T00:00,1,2,1,1.5,100,0", "Date", "2020-01-03T00:00", "not an ISO date (YYYY-MM-DD)"),
        ("2020-W01-5,1,2,1,1.5,100,0", "Date", "2020-W01-5", "not an ISO date (YYYY-MM-DD)"),
        ("\u0662\u0660\u0662\u0660-01-03,1,2,1,1.5,100,0", "Date", "\u0662\u0660\u0662\u0660-01-03", "not an ISO date"
         " (YYYY-MM-DD)"),
        (",1,2,1,1.5,100,0", "Date", "", "not an ISO date (YYYY-MM-DD)"),
        # the row itself
        ("2020-01-03,1,2,1,1.5,100", "", "2020-01-03,1,2,1,1.5,100", "6 fields where the header has 7"),
        ("2020-01-03,1,2,1,1.5,100,0,", "", "2020-01-03,1,2,1,1.5,100,0,", "8 fields where the header has 7"),
        ('"2020-01-03,1,2,1,1.5,100,0', "", '"2020-01-03,1,2,1,1.5,100,0', "broken quoting"),
        (f"x{',' * 999}", "", f"x{',' * 199}", "1000 fields where the header has 7"),
        (HEADER, "Date", "Date", "not an ISO date (YYYY-MM-DD)"),
    ],
)  # fmt: skip
def test_row_that_breaks_a_rule_is_rejected_with_line_column_value_and_reason(
    row: str, column: str, value: str, reason: str
) -> None:
    checked = parse(company_file(FIRST, row, LAST))
    assert checked.rejected == (RejectedRow(3, column, value, reason),)
    assert kept(checked) == kept(parse(TWO_ROWS))
    assert checked.read == 3


def in_a_note(*lines: str) -> bytes:
    """A file of three rows, the second of which has a note of these lines; the third is of 2020-01-06."""
    note = "\n".join(lines)
    rows = ("2020-01-02,1,2,1,1.5,100,x", f"2020-01-03,1,2,1,1.5,100,{note}", "2020-01-06,1,2,1,1.5,100,y")
    return "\n".join(["Date,Open,High,Low,Close,Volume,Note", *rows, ""]).encode()


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("between", [0, 1, 7])
def test_text_in_a_quoted_field_of_several_lines_is_no_row(between: int, end: bytes) -> None:
    inside = "2020-01-04,9,9,9,9,9,see above"
    content = in_a_note('"as reported:', inside, *["", "text"] * between, 'end ""of it"" "').replace(b"\n", end)
    checked = parse(content)
    assert [fields[0] for fields in kept(checked).fields] == ["2020-01-02", "2020-01-06"]
    assert [(row.line, row.value, row.reason) for row in checked.rejected][:2] == [
        (3, '2020-01-03,1,2,1,1.5,100,"as reported:', "broken quoting"),
        (4, inside, "inside the quoted field that begins on line 3"),
    ]
    assert checked.read == 2 + len(checked.rejected)
    assert find_row(content, ["2020-01-04"]) is None
    assert find_row(content, ["2020-01-06"]) == (5 + 2 * between + 1, "2020-01-06,1,2,1,1.5,100,y")


@pytest.mark.parametrize(
    "lines",
    [
        ('"not closed', "2020-01-04,9,9,9,9,9,good"),
        ('"closed where', "2020-01-04,9,9,9,9,9,good", 'another "begins" here'),
        ('"closed as', "2020-01-04,9,9,9,9,9,good", 'too long a row",1'),
        ('"closed too', "2020-01-04,9,9,9,9,9,good", *["far away"] * 8, '"'),
        ('"the next is', "2020-01-04,9,9,9,9,9,good", '"another, which', 'is closed"'),
    ],
)
def test_quote_that_no_line_nearby_closes_takes_no_other_row_with_it(lines: tuple[str, ...]) -> None:
    checked = parse(in_a_note(*lines))
    assert [fields[0] for fields in kept(checked).fields] == ["2020-01-02", "2020-01-04", "2020-01-06"]


def test_one_note_of_several_lines_behind_another_hides_no_row() -> None:
    content = in_a_note('"a', 'b"', '2020-01-04,9,9,9,9,9,"c', "2020-01-05,1,1,1,1,1,inside", 'd"')
    checked = parse(content)
    assert [fields[0] for fields in kept(checked).fields] == ["2020-01-02", "2020-01-06"]
    assert [row.line for row in checked.rejected] == [3, 4, 5, 6, 7]


def test_line_that_is_found_of_a_repeated_day_is_the_first() -> None:
    content = company_file(FIRST, FIRST.replace("1000", "1001"), LAST)
    assert find_row(content, ["2020-01-02"]) == (2, FIRST)
    assert find_row(content, FIRST.replace("1000", "1002").split(",")[:6]) == (2, FIRST)
    assert find_row(content, FIRST.replace("1000", "1001").split(",")[:6]) == (3, FIRST.replace("1000", "1001"))


@pytest.mark.parametrize("number", ["1e-20000", "0e-20000", "1e-999999999", "0e99999999999", f"0e{'9' * 40}"])
@pytest.mark.parametrize("column", ["Open", "Volume"])
def test_number_that_postgresql_cannot_cast_is_rejected_before_it_breaks_the_view(column: str, number: str) -> None:
    # numeric holds at most 16,383 digits behind the point; one such text makes every SELECT from stock_prices fail
    row = f"2020-01-03,{number},2,1,1.5,100,0" if column == "Open" else f"2020-01-03,1,2,1,1.5,{number},0"
    checked = parse(company_file(FIRST, row, LAST))
    assert [(rejected.line, rejected.column, rejected.value) for rejected in checked.rejected] == [(3, column, number)]


@pytest.mark.parametrize(
    "number",
    ["0", "-0", "+1", "5.", ".5", "007.50", "1e3", "1E+2", "2.5e-3", "1.7976931348623157e308", "5e-324", "1" * 56],
)
def test_price_is_kept_as_it_was_written(number: str) -> None:
    checked = parse(company_file(FIRST, f"2020-01-03,1,2,1,{number},100,0"))
    assert checked.rejected == ()
    assert [row[4] for row in kept(checked).fields] == ["11", number]
    assert kept(checked).prices[1][3] == float(number).hex()


@pytest.mark.parametrize("volume", ["0", "100.0", "1e10", "9223372036854775807", "9223372036854775807.0"])
def test_whole_volume_is_kept_as_it_was_written(volume: str) -> None:
    assert kept(parse(company_file(f"2020-01-03,1,2,1,1.5,{volume},0"))).fields[0][5] == volume


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(b"", "empty: 0 bytes", id="0 bytes"),
        pytest.param(b"\xef\xbb\xbf", "empty: 0 bytes", id="BOM only"),
        pytest.param(b" \r\n\n", "empty: nothing but blanks", id="blanks"),
        pytest.param(company_file(), "no rows: the file has a header only", id="header only"),
        pytest.param(HEADER.encode(), "no rows: the file has a header only", id="header only, no line end"),
        pytest.param(company_file(FIRST, header=LAST), f"no header: the first line is '{LAST}', not "
                     "Date,Open,High,Low,Close,Volume", id="no header"),
        pytest.param(TWO_ROWS.replace(b",", b";"), "separated by semicolons, not by commas: the first line is "
                     f"'{HEADER.replace(',', ';')}'", id="semicolons"),
        pytest.param(company_file(FIRST, header="Date,Open,High,Low,Close,OpenInt"), "missing column Volume",
                     id="missing column"),
        pytest.param(company_file(FIRST, header="Date,Open,Hi,Lo,Close,Volume"), "missing column High, Low; the file "
                     "has 'Hi', 'Lo': if that is it, set MBD_COLUMN_ALIASES='Low=Lo'",
                     id="missing columns"),
        pytest.param(company_file(FIRST, header=HEADER + ",open"), "column Open is in the header twice",
                     id="column twice"),
        pytest.param(TWO_ROWS.decode().encode("utf-16"), "not CSV: the first line is not UTF-8 text",
                     id="UTF-16"),
        pytest.param(b"\x1f\x8b\x08\x00\x00\xff\xfe\x80", "cannot be unpacked: not a whole gzip file "
                     "(Compressed file ended before the end-of-stream marker was reached)", id="gzip"),
        pytest.param(company_file(FIRST, header='"Date,Open'), "no header: the first line is '\"Date,Open', not "
                     "Date,Open,High,Low,Close,Volume", id="open quote in the header"),
        pytest.param(TWO_ROWS + b"2020-01-07,\xff,2,1,1,1,0\n", f"not UTF-8 text: byte {len(TWO_ROWS) + 11} is 0xff",
                     id="not UTF-8 further down"),
        pytest.param(company_file("x", "2020-01-03,,2,1,1.5,100,0"), "no usable row: 2 of 2 rejected (first: line 2, 1 "
                     "fields where the header has 7)", id="no usable row"),
    ],
)  # fmt: skip
def test_file_that_cannot_be_used_is_quarantined_with_its_own_reason(content: bytes, reason: str) -> None:
    checked = check(content)
    assert isinstance(checked, UnusableFile)
    assert checked.reason == reason
    assert_balanced(checked)


def test_quarantine_for_want_of_a_usable_row_still_names_every_row() -> None:
    checked = check(company_file("x", "", "2020-01-03,,2,1,1.5,100,0"))
    assert isinstance(checked, UnusableFile)
    assert [(row.line, row.column) for row in checked.rejected] == [(2, ""), (4, "Open")]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(TWO_ROWS.removesuffix(b"\n"), id="no final newline"),
        pytest.param(b"\xef\xbb\xbf" + TWO_ROWS, id="BOM"),
        pytest.param(company_file(FIRST, LAST, end="\r\n"), id="CRLF"),
        pytest.param(company_file(FIRST, LAST, end="\r"), id="CR"),
        pytest.param(b"\xef\xbb\xbf" + company_file(FIRST, LAST, end="\r\n").removesuffix(b"\r\n"), id="BOM and CRLF"),
        pytest.param(company_file("", FIRST, " ", LAST, "", header="\n \n" + HEADER), id="blank lines"),
        pytest.param(company_file(FIRST, LAST, header=HEADER.upper()), id="header in capitals"),
        pytest.param(company_file(FIRST, LAST, header=" date , OPEN,high ,Low\t,Close,vOLUME, x"), id="case, blanks"),
        pytest.param(company_file(FIRST.replace(",", " ,\t"), LAST.replace(",", " , ")), id="blanks around fields"),
        pytest.param(company_file(*('"' + row.replace(",", '","') + '"' for row in (FIRST, LAST)),
                                  header='"' + HEADER.replace(",", '","') + '"'), id="quoted fields"),
        pytest.param(company_file("0,x,2000.5,9.75,12,11,1000,10.5,2020-01-02".replace("2000.5,", ""),
                                  "0,x,10,12.5,12,2000,11,2020-01-06",
                                  header="OpenInt,Note,Low,High,Close,Volume,Open,Date"), id="header in another order"),
        pytest.param(company_file(FIRST[:-2], LAST[:-2], header=HEADER.removesuffix(",OpenInt")), id="six columns"),
    ],
)  # fmt: skip
def test_same_table_written_otherwise_gives_the_same_rows(content: bytes) -> None:
    checked = parse(content)
    assert kept(checked) == kept(parse(TWO_ROWS))
    assert (checked.read, checked.rejected) == (2, ())


def test_year_0_is_rejected_in_a_file_that_is_otherwise_plain() -> None:
    # Arrow knows a year 0, which PostgreSQL's date does not
    checked = parse(company_file("0000-12-31,1,2,1,1.5,100,0", FIRST, LAST))
    assert checked.rejected == (RejectedRow(2, "Date", "0000-12-31", "no such day"),)


def test_line_that_is_cut_off_is_rejected_alone() -> None:
    checked = parse(TWO_ROWS + b"2020-01-07,1.5,2")
    assert checked.rejected == (RejectedRow(4, "", "2020-01-07,1.5,2", "3 fields where the header has 7"),)
    assert checked.read == 3


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_as_an_editor_does(end: str) -> None:
    content = b"\xef\xbb\xbf" + company_file("", FIRST, "", "bad", "", "", "worse", header=end + HEADER, end=end)
    assert [row.line for row in parse(content).rejected] == [6, 9]


def test_further_columns_are_left_out_and_named() -> None:
    checked = parse(company_file(FIRST + ",a,b", LAST + ",c,d", header=HEADER + ",Currency,Note"))
    assert checked.extra_columns == ("OpenInt", "Currency", "Note")
    assert kept(checked) == kept(parse(TWO_ROWS))


def test_first_of_identical_rows_is_kept_and_the_rest_are_rejected_duplicates() -> None:
    again = FIRST.replace(",", " , ").removesuffix("0") + "9"  # blanks and OpenInt are no part of the row
    checked = parse(company_file(FIRST, LAST, again, FIRST))
    assert kept(checked) == kept(parse(TWO_ROWS))
    assert checked.rejected == tuple(RejectedRow(line, "Date", "2020-01-02", "duplicate of line 2") for line in (4, 5))
    assert checked.read == 4


def test_conflicting_rows_of_one_day_are_all_rejected_with_their_lines() -> None:
    checked = parse(company_file(FIRST, LAST, FIRST.replace("10.5", "10.50"), FIRST))
    reason = "conflicting rows for one day on lines 2, 4, 5"
    assert checked.rejected == tuple(RejectedRow(line, "Date", "2020-01-02", reason) for line in (2, 4, 5))
    assert kept(checked).fields == [tuple(LAST.split(",")[:6])]


def test_broken_row_makes_no_conflict_with_a_good_one_of_its_day() -> None:
    checked = parse(company_file(FIRST, FIRST.replace("10.5", "x"), LAST))
    assert [row.reason for row in checked.rejected] == ["not a number"]
    assert kept(checked) == kept(parse(TWO_ROWS))


def test_rows_stay_in_the_order_of_the_file() -> None:
    checked = parse(company_file(LAST, "2020-01-04,1,2,1,1.5,100,0", FIRST))
    assert [row[0] for row in kept(checked).fields] == ["2020-01-06", "2020-01-04", "2020-01-02"]


@pytest.mark.parametrize("spoilt", [(), ("2020-01-01,1,2,x,1.5,100,0", "2019-12-31,1,2,1,1.5,100,0")])
@pytest.mark.parametrize(
    ("since", "days"),
    [
        (date(2020, 1, 1), ["2020-01-02", "2020-01-06"]),
        (date(2020, 1, 2), ["2020-01-02", "2020-01-06"]),
        (date(2020, 1, 3), ["2020-01-06"]),
        (date(2020, 1, 7), []),
    ],
)
def test_rows_older_than_since_are_neither_read_nor_rejected(
    since: date, days: list[str], spoilt: tuple[str, ...]
) -> None:
    checked = check(company_file(FIRST, LAST, *spoilt), since=since)
    assert isinstance(checked, CompanyFile)
    assert [row[0] for row in kept(checked).fields] == days
    rejected = ["2020-01-01"] if spoilt and since == date(2020, 1, 1) else []
    assert len(checked.rejected) == len(rejected)
    assert checked.read == len(days) + len(rejected)
    assert checked.before_since == 2 + len(spoilt) - checked.read


@pytest.mark.parametrize(
    ("prices", "flagged"),
    [
        ("10,12,9,11", 0),
        ("10,12,9,12", 0),
        ("10,12,9,9", 0),
        ("8,12,9,11", 1),  # open below low
        ("12.5,12,9,11", 1),  # open above high
        ("10,9,12,10", 1),  # high < low
        ("10,12,9,13", 1),  # close above high
        ("10,12,9,8.99", 1),  # close below low
        ("0,12,9,11", 1),
        ("-0,12,9,11", 1),
        ("10,12,0,11", 1),
        ("0,0,0,0", 1),
    ],
)
def test_row_that_looks_wrong_is_kept_and_flagged_once(prices: str, flagged: int) -> None:
    checked = parse(company_file(FIRST, f"2020-01-03,{prices},100,0"))
    assert (checked.read, checked.rejected) == (2, ())
    assert checked.flagged == flagged


@pytest.mark.parametrize(
    "path", [path for path in sorted((SAMPLE / "Stocks").iterdir()) if path.stat().st_size], ids=lambda path: path.name
)
def test_real_file_is_accepted_whole(path: Path) -> None:
    checked = parse(path.read_bytes())
    assert checked.rejected == ()
    assert_balanced(checked)
    assert checked.read == len(path.read_text().splitlines()) - 1
    assert checked.extra_columns == ("OpenInt",)


def test_file_of_nothing_but_bad_rows_is_given_up_early_and_stays_balanced() -> None:
    checked = check(HEADER.encode() + b"\n" + b"x\n" * 50_000)
    assert isinstance(checked, UnusableFile)
    assert checked.reason == "not a company file: 10,000 rows rejected by line 10001, the rest was not looked at"
    assert len(checked.rejected) == 10_000


def test_file_of_nothing_but_repeated_days_is_given_up_early_and_stays_balanced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # identical rows are no fault, but 700,000 of them in one file would be as many rejected rows in memory
    monkeypatch.setattr("etl.files.company_file._MOST_REPEATED", 1_000)
    checked = check(company_file("bad", *[FIRST] * 5_000))
    assert isinstance(checked, UnusableFile)
    assert checked.reason == "not a company file: 1,001 rows rejected by line 1003, the rest was not looked at"
    assert [row.line for row in checked.rejected] == [2, *range(4, 1004)]


def test_file_that_holds_itself_several_times_over_is_accepted() -> None:
    days = [f"{1990 + month // 12}-{month % 12 + 1:02}-01,1,2,1,1.5,100,0" for month in range(300)]
    checked = parse(company_file(*days * 5))
    assert (len(kept(checked).fields), len(checked.rejected)) == (300, 1_200)


def test_file_of_a_million_columns_is_quarantined_before_each_is_given_a_name() -> None:
    checked = check(HEADER.encode() + b"," * 1_000_000 + b"\n" + FIRST.encode() + b"\n")
    assert checked == UnusableFile("not a company file: the first line has more than 1,000 columns")
