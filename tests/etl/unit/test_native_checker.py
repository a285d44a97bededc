"""The native checker gives what the row rules and row_format give, or declines; and says when it is not there."""

from __future__ import annotations

import random
import shutil
import tracemalloc
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.files import native
from etl.files.native import Checked, check_plain
from etl.files.rules import LARGEST_FILE_BYTES
from tests.support.paths import SAMPLE
from tests.support.plain_files import COMPANY, Body, by_rules, changed_body

if not native.available():
    pytest.skip(native.describe(), allow_module_level=True)

property_test = settings(
    max_examples=400, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None
)
ROW = "2020-01-02,10.5,12,9.75,11,1000,0"
NEXT = "2020-01-03,11,12.5,10,12,2000,0"
REAL = [path for path in sorted((SAMPLE / "Stocks").iterdir()) if path.stat().st_size]


def check(body: Body, *, company_name: str = COMPANY) -> Checked | None:
    return check_plain(
        body.content, width=body.width, positions=body.positions, company_name=company_name, since=body.since
    )


def assert_same_or_declined(body: Body) -> Checked | None:
    checked = check(body)
    if checked is not None:
        assert checked == by_rules(body)
    return checked


def row(day: str = "2020-01-02", prices: Sequence[str] = ("1", "1", "1", "1"), volume: str = "1") -> Body:
    return Body(f"{day},{','.join(prices)},{volume},0\n".encode())


# --- what it accepts -------------------------------------------------------------------------------------------------


def test_slice_holds_the_fields_as_written_and_both_derived_columns() -> None:
    assert check(Body(f"{ROW}\n{NEXT}\n".encode())) == Checked(
        "2020-01-02,10.5,12,9.75,11,1000,4.761904761904762,0.5,österreich.us.csv\n"
        "2020-01-03,11,12.5,10,12,2000,9.090909090909092,1.0,österreich.us.csv\n".encode(),
        read=2,
        before_since=0,
        suspects=(),
    )


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("rows", [1, 2, 19, 20, 21, 22, 5_000])
def test_slice_of_the_shortest_rows_and_the_longest_name_has_room(rows: int, end: bytes) -> None:
    lines = [f"{date(2000, 1, 1) + timedelta(number)},1,1,1,1,1".encode() for number in range(rows)]
    for content in (end.join(lines), end.join(lines) + end):
        checked = check(Body(content, width=6), company_name="\U0001d538" * 56)
        assert checked is not None
        assert checked.read == rows


def test_memory_is_not_asked_for_by_the_number_of_empty_lines() -> None:
    body = Body(b"\n" * LARGEST_FILE_BYTES)
    tracemalloc.start()
    try:
        assert check(body) is None
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 8 * LARGEST_FILE_BYTES


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
@pytest.mark.parametrize("since", [None, date(2010, 1, 1)])
def test_real_file_is_checked_without_a_closer_look(path: Path, since: date | None) -> None:
    body = Body(path.read_bytes().partition(b"\n")[2], since=since)
    checked = check(body)
    assert checked is not None
    assert checked == by_rules(body)


@pytest.mark.parametrize(
    "body",
    [
        Body(b""),
        Body(f"{ROW}\n{NEXT}".encode()),
        Body(f"{ROW}\r\n{NEXT}\r\n".encode()),
        Body(f"{ROW}\r\n{NEXT}".encode()),
        Body(b"2020-01-02,1,2,1,1.5,100\n", width=6),
        Body(b"x y,100,1.5,1,2,1,2020-01-02,,~\n", width=9, positions=(6, 5, 4, 3, 2, 1)),
        Body(f"{ROW}{'9' * 100}\n".encode()),
        *(row(day=day) for day in ("0001-01-01", "9999-12-31", "2000-02-29", "2020-02-29", "2020-12-31")),
        *(row(prices=[price] * 4) for price in ("0", "0.0", "007", "5.", "9007199254740992", "0.000000000000000001")),
        *(row(volume=volume) for volume in ("0", "007", str(2**63 - 1))),
        Body(f"{ROW}\n{NEXT}\n".encode(), since=date(2020, 1, 3)),
        Body(f"{ROW}\n{NEXT}\n".encode(), since=date(9999, 1, 1)),
    ],
)
def test_plain_file_in_any_common_layout_is_accepted(body: Body) -> None:
    assert assert_same_or_declined(body) is not None


@pytest.mark.parametrize(
    ("prices", "flagged"),
    [
        (("1", "2", "0.5", "1.5"), 0),
        (("3", "2", "1", "2"), 1),
        (("0.9", "2", "1", "2"), 1),
        (("1", "1", "2", "1.5"), 1),
        (("1", "2", "1", "2.5"), 1),
        (("1", "2", "1", "0.5"), 1),
        (("0", "2", "1", "1"), 1),
        (("1", "2", "0", "1"), 1),
        (("0.0", "0", "0", "0."), 1),
    ],
)
def test_row_that_looks_wrong_is_kept_and_counted(prices: tuple[str, ...], flagged: int) -> None:
    checked = assert_same_or_declined(row(prices=prices))
    assert checked is not None
    assert (checked.read, len(checked.suspects)) == (1, flagged)


# --- what it leaves to the rules -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        *(b"\n", b"\r\n", b"\0", b"\xff", f"{ROW}\n\n".encode(), f"\n{ROW}\n".encode(), f"{ROW}\r".encode()),
        f"{ROW}\n{NEXT}\r\n".encode(),
        f"{ROW}\r\n{NEXT}\n".encode(),
        f"{ROW}\r{NEXT}\r".encode(),
        f"{ROW}\r\r\n".encode(),
        f"{NEXT}\n{ROW}\n".encode(),
        f"{ROW}\n{ROW}\n".encode(),
        f"{ROW},\n".encode(),
        *(f"{ROW}{sign}\n".encode() for sign in ("é", '"', "\t", "\0", "\x7f", "\x1c", "\u2028")),
        ROW.removesuffix(",0").encode(),
        b"2020-01-02,1,2,1,1.5\n",
        b"2020-01-02",
        b"2020-01-0",
    ],
)
def test_file_of_another_form_is_left_to_the_rules(content: bytes) -> None:
    assert check(Body(content)) is None


@pytest.mark.parametrize(
    "day",
    [
        *("0000-01-01", "2020-02-30", "2019-02-29", "1900-02-29", "2020-04-31", "2020-00-01", "2020-13-01"),
        *("2020-01-00", "2020-01-32", "2020-1-02", "20200102", "2020/01/02", "2020-01-02 ", "", "-020-01-02"),
    ],
)
def test_day_that_is_none_is_left_to_the_rules(day: str) -> None:
    assert check(row(day=day)) is None


@pytest.mark.parametrize(
    "number",
    [
        *(
            "",
            " ",
            "-",
            ".",
            ".5",
            "-1",
            "-0",
            "+1",
            "1e5",
            "1E5",
            "1.2.3",
            "1_0",
            " 1",
            "1 ",
            '"1"',
            "NaN",
            "inf",
            "x",
        ),
        *("1\0", "\u0661", "0x1", "1" * 57, "0" * 20, "9007199254740993", "900719925474.0993", "0." + "1" * 20),
    ],
)
def test_number_in_another_notation_is_left_to_the_rules(number: str) -> None:
    for column in range(4):
        prices = ["1"] * 4
        prices[column] = number
        assert check(row(prices=prices)) is None


@pytest.mark.parametrize("volume", ["", "-1", "1.0", "1.", "1e3", str(2**63), str(2**64), str(2**64 + 1), "0" * 20])
def test_volume_that_is_not_plainly_whole_is_left_to_the_rules(volume: str) -> None:
    assert check(row(volume=volume)) is None


def test_old_rows_must_be_plain_too() -> None:
    assert check(Body(f"2019-01-02,x,1,1,1,1,0\n{ROW}\n".encode(), since=date(2020, 1, 1))) is None


# --- generated files -----------------------------------------------------------------------------------------------


def decimal(digits: int, behind: int) -> str:
    """`digits` with so many of them behind the point."""
    text = f"{digits:0{behind + 1}}"
    return f"{text[: len(text) - behind]}.{text[len(text) - behind :]}"


prices = (
    st.floats(0, 1e6).map(lambda price: f"{price:.4f}")
    | st.builds(decimal, st.integers(0, 2**53 + 2), st.integers(0, 19))
    | st.sampled_from(["0", "1", "0.1", "5."])
)


@st.composite
def plain_bodies(draw: st.DrawFn) -> Body:
    width = draw(st.integers(6, 9))
    positions = draw(st.permutations(range(width)))[:6]
    day = draw(st.dates(date(1, 1, 1), date(9990, 1, 1)))
    lines = []
    for _ in range(draw(st.integers(1, 6))):
        day += timedelta(days=draw(st.integers(1, 500)))
        fields = [day.isoformat(), *(draw(prices) for _ in range(4)), str(draw(st.integers(0, 2**63 - 1)))]
        cells = dict(zip(positions, fields, strict=True))
        lines.append(",".join(cells.get(number, "0") for number in range(width)))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    content = end.join(lines) + draw(st.sampled_from(["", end]))
    return Body(content.encode(), width, tuple(positions), draw(st.none() | st.dates()))


@given(plain_bodies())
@property_test
def test_generated_plain_file_gets_the_slice_and_counts_of_the_rules(body: Body) -> None:
    assert_same_or_declined(body)


@given(st.integers(0, 2**64))
@settings(property_test, max_examples=1500)
def test_changed_real_file_gets_the_slice_and_counts_of_the_rules_or_is_declined(seed: int) -> None:
    assert_same_or_declined(changed_body(random.Random(seed)))


def test_most_generated_files_are_not_declined() -> None:
    # without this, the two properties would also hold for a checker that declines everything
    bodies = [changed_body(random.Random(seed)) for seed in range(1000)]
    assert sum(check(body) is not None for body in bodies) > 150


@given(st.tuples(prices, prices))
@settings(property_test, max_examples=800)
def test_derived_columns_are_spelled_as_repr(pair: tuple[str, str]) -> None:
    first, last = pair
    checked = check(row(prices=(first, last, first, last)))
    if checked is not None:
        opened, closed = float(first), float(last)
        percent = repr((closed - opened) / opened * 100) if opened else ""
        assert checked.content.decode().split(",")[6:8] == [percent, repr(closed - opened)]


@given(st.binary(max_size=200).map(lambda some: some.replace(b"a", b"\n")))
@property_test
def test_lines_are_counted_as_python_counts_them(content: bytes) -> None:
    assert native.count_lines(content) == content.count(b"\n")


def test_threads_get_what_each_alone_gets() -> None:
    bodies = [Body(path.read_bytes().partition(b"\n")[2]) for path in REAL] * 4
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(check, bodies)) == [check(body) for body in bodies]


# --- whether it is there -------------------------------------------------------------------------------------------


@pytest.fixture
def other_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the library is looked for; nothing is there yet."""
    library = tmp_path / "_plain_rows.so"
    monkeypatch.setattr(native, "_LIBRARY", library)
    native._loaded.cache_clear()
    yield library
    native._loaded.cache_clear()


def assert_not_used(*, because: str) -> None:
    assert not native.available()
    assert native.describe().startswith("native checker: no, ")
    assert because in native.describe()
    assert check(row()) is None


def test_switch_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert native.describe() == "native checker: yes"
    monkeypatch.setenv("MBD_NATIVE", "off")
    assert_not_used(because="MBD_NATIVE=off")


def test_package_built_without_a_compiler_says_what_to_install(other_library: Path) -> None:
    assert_not_used(because="apt install g++")


def test_library_of_another_machine_is_not_used(other_library: Path) -> None:
    other_library.write_bytes(b"\x7fELF of an aarch64")
    assert_not_used(because="cannot be loaded")


def test_library_of_another_source_is_not_used(other_library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(Path(native.__file__).with_name("_plain_rows.so"), other_library)
    assert native.available()
    native._loaded.cache_clear()
    other = other_library.with_name("plain_rows.cpp")
    other.write_text("// newer rules")
    monkeypatch.setattr(native, "_SOURCE", other)
    assert_not_used(because="another version of plain_rows.cpp")
