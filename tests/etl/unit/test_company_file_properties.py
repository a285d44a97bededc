"""Generated company files, plain, dirty and arbitrary: both ways of checking and a naive pandas oracle must agree."""

import io
import math
from collections import defaultdict
from datetime import date, datetime, timedelta
from fractions import Fraction

import pandas as pd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.files import company_file as checking
from etl.files import native
from etl.files.company_file import CompanyFile, UnusableFile
from etl.files.header import Header
from etl.files.rules import COLUMNS
from tests.support.company_files import HEADER, Kept, assert_balanced, check, kept

property_test = settings(
    max_examples=250, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None
)

DAYS = [(date(2019, 12, 28) + timedelta(days=n)).isoformat() for n in range(12)]
SINCE = st.sampled_from([None, date(2019, 12, 30), date(2020, 1, 3), date(2030, 1, 1)])

# --- what is generated -------------------------------------------------------------------------------------------

plain_price = st.floats(0, 1e6).map(lambda price: f"{price:.4f}") | st.integers(0, 10**20).map(str)
odd_number = st.sampled_from(
    [
        *("-0", "007", ".5", "5.", "-.5", "", ".", "-", "-1", "1-", "1.2.3", "--1", "0.0", "1" * 56, "1" * 57),
        *("0." + "3" * 54, "0." + "3" * 55, str(2**63 - 1), str(2**63), "1.0", "1" * 25, "-" + "0" * 30, "9" * 400),
    ]
)
odd_day = st.sampled_from(
    ["0000-01-01", "0001-01-01", "9999-12-31", "10000-01-01", "2020-02-30", "2020-1-3", "20200103", "-2020-01-03", ""]
)


@st.composite
def plain_files(draw: st.DrawFn) -> tuple[bytes, int, list[int]]:
    """Lines of digits, signs and commas, most in order of days; their width; where each of COLUMNS stands in them."""
    width = draw(st.integers(6, 8))
    positions = draw(st.permutations(range(width)))[:6]
    days = sorted(draw(st.lists(st.dates().map(date.isoformat) | st.sampled_from(DAYS), max_size=6, unique=True)))
    rows = [[day, *(draw(plain_price) for _ in range(4)), str(draw(st.integers(0, 10**12)))] for day in days]
    for _ in range(draw(st.sampled_from([0, 1, 1, 2])) if rows else 0):
        column = draw(st.integers(0, 5))
        draw(st.sampled_from(rows))[column] = draw(odd_number if column else odd_day)
    if rows and draw(st.integers(0, 7)) == 0:
        rows.insert(draw(st.integers(0, len(rows))), draw(st.sampled_from(rows)))
    lines = []
    for row in rows:
        cells = dict(zip(positions, row, strict=True))
        lines.append(",".join(cells.get(position, "0") for position in range(width)))
    if draw(st.integers(0, 9)) == 0:
        lines.append(draw(st.text("0123456789.,-", max_size=30)))
    ends = draw(st.sampled_from([["\n"], ["\r\n"], ["\n"], ["\n", "\r\n", "\r", "\n\n", "\r\r\n"]]))
    body = "".join(line + draw(st.sampled_from(ends)) for line in lines)
    return (body.removesuffix("\n") if draw(st.booleans()) else body).encode(), width, positions


good_row = st.builds(
    lambda day, prices, volume: [day, *prices, volume, "0"],
    st.sampled_from(DAYS),
    st.lists(st.sampled_from(["1", "2.50", "0", "1e2", " 3 ", "0.1", "11.25"]), min_size=4, max_size=4),
    st.sampled_from(["0", "100", "2500", "1e3", "7.0"]),
)
dirty_cell = st.one_of(
    st.sampled_from(
        ["", " ", "NaN", "nan", "inf", "-inf", "Infinity", "1e400", "-1", "+1", "-0", ".5", "5.", ".", "1_0"]
    ),
    st.sampled_from(
        ["=1+1", "@x", "2020-02-30", "2020-1-3", "20200103", "0000-01-01", "1" * 56, "1" * 57, "1.5", "1e"]
    ),
    st.sampled_from([str(2**63 - 1), str(2**63), "0x1", "\u0661", "1d5", "None", "NULL", "1,5", "1e-300", "\u00a01"]),
    st.text("0123456789.eE+- ", max_size=6).filter(lambda text: "e" not in text.lower()),
    st.floats(allow_nan=True, allow_infinity=True).map(repr),
    st.text(st.characters(codec="utf-8", exclude_characters='"\r\n\x00\ufeff'), max_size=5),
)


@st.composite
def dirty_rows(draw: st.DrawFn) -> str:
    cells = draw(good_row)
    for _ in range(draw(st.integers(0, 2))):
        cells[draw(st.integers(0, 6))] = draw(dirty_cell)
    return ",".join(cells)


dirty_line = st.one_of(
    good_row.map(",".join),
    good_row.map(",".join),
    dirty_rows(),
    st.sampled_from(["", " ", ",", "2020-01-03,1,2", ",,,,,,", ",,,,,,,", HEADER]),
)
dirty_files = st.lists(dirty_line, min_size=1, max_size=14)

# --- both ways of checking -----------------------------------------------------------------------------------------


@given(plain_files(), SINCE)
@property_test
def test_a_plain_file_is_checked_alike_natively_and_row_by_row(
    plain: tuple[bytes, int, list[int]], since: date | None
) -> None:
    # Which way a file takes cannot be seen from outside, and that is what must hold. So the two are compared.
    body, width, positions = plain
    fast = native.check_plain(body, width=width, positions=positions, company_name="x.csv", since=since)
    if fast is not None:
        opened = checking._Opened(b"header\n" + body, len(b"header\n"), Header(width, positions, ()))
        slow = checking._check_rows(opened, company_name="x.csv", since=since)
        if isinstance(slow, UnusableFile):
            assert (fast.read, fast.before_since) == (0, 0)
        else:
            assert (fast.content, fast.read, fast.before_since) == (slow.content, slow.read, slow.before_since)
            assert len(fast.suspects) or not slow.flagged
            assert slow.rejected == ()


def describe(checked: CompanyFile | UnusableFile) -> tuple[object, ...]:
    if isinstance(checked, UnusableFile):
        return checked.reason, checked.rejected
    return checked.read, kept(checked), checked.rejected, checked.before_since, checked.extra_columns


# --- the oracle: plain pandas for the lines, plain Python for the rules ----------------------------------------------


def oracle(content: bytes, since: date | None) -> tuple[Kept, list[int], int]:
    """Accepted rows, line numbers of rejected rows, count of rows older than `since`; written naively."""
    lines = pd.read_csv(
        io.BytesIO(content),
        sep="\x01",
        header=None,
        names=["line"],
        dtype=str,
        keep_default_na=False,
        skip_blank_lines=False,
        quoting=3,
        encoding="utf-8-sig",
    )["line"]
    cells = lines[1:].str.split(",")  # the index is the line number, less one
    rejected, older = [], 0
    by_day: dict[str, list[tuple[int, tuple[str, ...]]]] = defaultdict(list)
    for index, row in cells.items():
        number = int(str(index)) + 1
        if not lines[number - 1].strip():
            continue
        fields = tuple(cell.strip() for cell in row[:6])
        if len(row) != 7 or not is_day(fields[0]):
            rejected.append(number)
        elif since and datetime.strptime(fields[0], "%Y-%m-%d").date() < since:
            older += 1
        elif not all(is_price(field) for field in fields[1:]) or not is_volume(fields[5]):
            rejected.append(number)
        else:
            by_day[fields[0]].append((number, fields))
    accepted = []
    for rows in by_day.values():
        same = len({fields for _, fields in rows}) == 1
        accepted += rows[:1] if same else []
        rejected += [number for number, _ in (rows[1:] if same else rows)]
    fields_kept = [fields for _, fields in sorted(accepted)]
    prices = [tuple(float(price).hex() for price in fields[1:5]) for fields in fields_kept]
    return Kept(fields_kept, prices), sorted(rejected), older


def is_day(text: str) -> bool:
    try:
        return datetime.strptime(text, "%Y-%m-%d").strftime("%Y-%m-%d").zfill(10) == text
    except ValueError:
        return False


def is_price(text: str) -> bool:
    if not text or len(text) > 56 or set(text) - set("0123456789.eE+-"):
        return False
    try:
        return math.isfinite(float(text)) and Fraction(text) >= 0
    except ValueError:
        return False


def is_volume(text: str) -> bool:
    shares = Fraction(text)
    return shares.denominator == 1 and shares <= 2**63 - 1


@given(dirty_files, SINCE, st.sampled_from(["\n", "\r\n"]), st.booleans())
@property_test
def test_dirty_file_is_checked_as_plain_pandas_and_python_would(
    lines: list[str], since: date | None, end: str, bom: bool
) -> None:
    content = (("\ufeff" if bom else "") + end.join([HEADER, *lines]) + end).encode()
    accepted, rejected, older = oracle(content, since)
    checked = check(content, since=since)
    assert_balanced(checked)
    assert [row.line for row in checked.rejected] == rejected
    if isinstance(checked, CompanyFile):
        assert kept(checked) == accepted
        assert checked.before_since == older
        assert checked.read == len(accepted.fields) + len(rejected)
    else:
        assert accepted.fields == []


# --- nothing raises --------------------------------------------------------------------------------------------------

fragments = st.sampled_from(
    [
        *(
            HEADER.encode(),
            b"Date,Open,High,Low,Close,Volume",
            b"2020-01-02,1,2,1,1.5,100,0",
            b"2020-01-02,1,2,1,1.5,1",
        ),
        *(
            b"\n",
            b"\r\n",
            b"\r",
            b",",
            b'"',
            b'""',
            b"\xef\xbb\xbf",
            b"\xff",
            b"\x00",
            b"\x0b",
            b"\x1c",
            b"\xc2\x85",
            b" ",
        ),
        *(b"2020-01-03", b"1e308", b"1e-308", b"-", b"9" * 60, b"'", b"=", b"\xe2\x80\xa8", b"Date", b"1", b"1.5"),
    ]
)


@given(
    st.one_of(st.binary(max_size=60), st.lists(st.one_of(fragments, st.binary(max_size=3)), max_size=20).map(b"".join))
)
@property_test
def test_arbitrary_bytes_never_raise_and_always_balance(content: bytes) -> None:
    assert_balanced(check(content))
    assert_balanced(check(HEADER.encode() + b"\n" + content, since=date(2020, 1, 3)))


number_text = st.builds(
    "{}{}".format,
    st.from_regex(r"[+-]?([0-9]{1,20}\.?[0-9]{0,20}|\.[0-9]{1,20})", fullmatch=True)
    | st.sampled_from(["0", "1", ".0"]),
    st.from_regex(r"([eE][+-]?[0-9]{1,30})?", fullmatch=True),
)


@given(number_text)
@settings(property_test, max_examples=120)
def test_price_of_any_exponent_means_the_same_as_text_and_as_float(price: str) -> None:
    # the text goes to the table, the float into the formulas: where one is 0, so is the other
    checked = check(f"{HEADER}\n2020-01-04,1,2,1,{price},100,0\n".encode())
    assert_balanced(checked)
    if isinstance(checked, CompanyFile):
        written_zero = not price.lower().partition("e")[0].strip("+-0.")
        assert (float.fromhex(kept(checked).prices[0][3]) == 0) == written_zero


@given(number_text)
@settings(property_test, max_examples=120)
def test_volume_of_any_exponent_never_raises(volume: str) -> None:
    assert_balanced(check(f"{HEADER}\n2020-01-04,1,2,1,1,{volume},0\n".encode()))


# --- the same table, written otherwise -------------------------------------------------------------------------------


@given(dirty_files, st.data())
@property_test
def test_line_ends_bom_and_header_order_case_and_blanks_change_nothing(lines: list[str], data: st.DataObject) -> None:
    lines = [line for line in lines if line.count(",") == 6]
    columns = data.draw(st.permutations(range(7)))
    names = [HEADER.split(",")[column] for column in columns]
    head = ",".join(data.draw(st.sampled_from([name, name.lower(), name.upper(), f" {name} "])) for name in names)
    moved = [",".join(line.split(",")[column] for column in columns) for line in lines]
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    written = (data.draw(st.sampled_from(["", "\ufeff"])) + end.join([head, *moved])).encode()
    this, that = check("\n".join([HEADER, *lines]).encode()), check(written)
    assert type(this) is type(that)
    assert [(row.line, row.column, row.value, row.reason) for row in this.rejected] == [
        (row.line, row.column, row.value, row.reason) for row in that.rejected
    ]
    if isinstance(this, CompanyFile) and isinstance(that, CompanyFile):
        assert (kept(this), this.read) == (kept(that), that.read)


def test_the_oracle_knows_the_six_columns() -> None:
    assert HEADER.split(",")[:6] == list(COLUMNS)
