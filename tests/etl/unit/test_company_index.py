"""The company index's bytes, well and badly formed, and the names or the refusal that come out."""

import sys
from unicodedata import category, is_normalized, normalize

import pytest

from etl import BatchError
from etl.batch.company_index import CompanyIndex, company_name, parse_index
from tests.support.paths import SAMPLE

NAMES = ("wex.us.csv", "ds_d.us.csv", "ccv-cl.us.csv")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("'wex.us.csv', 'ds_d.us.csv', 'ccv-cl.us.csv'", id="the original: one line of quoted names"),
        pytest.param("'wex.us.csv','ds_d.us.csv','ccv-cl.us.csv'", id="no blanks"),
        pytest.param('"wex.us.csv", "ds_d.us.csv", "ccv-cl.us.csv"', id="double quotes"),
        pytest.param("wex.us.csv,ds_d.us.csv,ccv-cl.us.csv", id="no quotes"),
        pytest.param("wex.us.csv\nds_d.us.csv\nccv-cl.us.csv\n", id="one a line"),
        pytest.param("'wex.us.csv'\r\n\"ds_d.us.csv\"\r\nccv-cl.us.csv", id="one a line, CRLF, quotes mixed"),
        pytest.param("wex.us.csv\rds_d.us.csv\rccv-cl.us.csv", id="one a line, CR"),
        pytest.param("'wex.us.csv',\n'ds_d.us.csv',\n'ccv-cl.us.csv',\n", id="trailing comma on each line"),
        pytest.param("'wex.us.csv', 'ds_d.us.csv', 'ccv-cl.us.csv',", id="trailing comma"),
        pytest.param(" , 'wex.us.csv' ,, ' ds_d.us.csv ' ,  'ccv-cl.us.csv' ", id="blanks and empty places"),
        pytest.param("\n\n  \n'wex.us.csv'\n\n'ds_d.us.csv','ccv-cl.us.csv'\n\n", id="blank lines"),
        pytest.param("\ufeff'wex.us.csv', 'ds_d.us.csv', 'ccv-cl.us.csv'", id="BOM"),
    ],
)
def test_every_spelling_of_an_index_gives_the_same_names_in_its_order(text: str) -> None:
    assert parse_index(text.encode()) == CompanyIndex(names=NAMES)


def test_name_held_several_times_is_moved_once_and_told_once() -> None:
    index = parse_index(b"'b.csv', 'a.csv', 'b.csv', 'c.csv', 'a.csv', 'b.csv'")
    assert index == CompanyIndex(names=("b.csv", "a.csv", "c.csv"), repeated=("b.csv", "a.csv"))


@pytest.mark.parametrize(
    "name",
    [
        "österreich.us.csv",
        "株式会社.csv",
        "Ελλάς.csv",
        "x" * 56,
        "é" * 56,
        "brk.a_1-x=y+z&b@c~d^e.csv",
        "a b.csv",
        "_x",
    ],
)
def test_name_of_any_script_is_accepted(name: str) -> None:
    assert parse_index(f"'wex.us.csv', '{name}'".encode()).names == ("wex.us.csv", name)


SIGNS = [chr(code) for code in range(0x20, sys.maxunicode + 1) if category(chr(code)) not in ("Cn", "Cs", "Co")]
OWN_SIGNS = set("_.^=+&@~ -")  # allowed inside a name, whatever Unicode calls them


def _is_taken(name: str) -> bool:
    try:
        return CompanyIndex.of([name]).names == (company_name(name),)
    except BatchError:
        return False


def test_sign_of_each_category_is_taken_or_refused_by_where_it_is() -> None:
    assert len({category(sign) for sign in SIGNS}) >= 27
    signs = [sign for sign in SIGNS if is_normalized("NFC", sign) and is_normalized("NFC", f"xa{sign}")]
    of_many = {"Lo", "So"}  # 130,000 letters of Han and Hangul, 7,000 symbols
    for sign in (one for number, one in enumerate(signs) if category(one) not in of_many or number % 50 == 0):
        kind = category(sign)
        is_letter, is_mark = sign.isalnum() or sign == "_", kind[0] == "M"
        where = f"U+{ord(sign):04X} ({kind})"
        assert _is_taken(f"{sign}x.csv") == is_letter, f"{where} at the beginning"
        assert _is_taken(f"xa{sign}b.csv") == (is_letter or is_mark or sign in OWN_SIGNS), f"{where} behind a letter"
        assert _is_taken(f"x.{sign}b.csv") == (is_letter or sign in OWN_SIGNS), f"{where} behind a sign"
        if is_mark:
            assert _is_taken(f"xa{sign}{sign}.csv"), f"{where} behind another mark"
            assert _is_taken(f"क{sign}.csv"), f"{where} behind a letter of another script"
        if is_letter:
            assert kind[0] in "LN" or sign == "_", where


def test_name_in_any_unicode_form_is_the_same_company() -> None:
    for sign in SIGNS:
        forms = (normalize(form, f"x{sign}\u0301.csv") for form in ("NFC", "NFD"))
        assert len({company_name(form) for form in forms}) == 1, f"U+{ord(sign):04X}"


@pytest.mark.parametrize("name", ["wex.us.csv", "wex.us.csv.gz", "wex.us.csv.zst", "wex.us.csv.GZ"])
def test_packed_name_is_the_same_company_and_named_twice_is_loaded_once(name: str) -> None:
    index = parse_index(f"'{name}', 'wex.us.csv', 'b.csv'".encode())
    assert (index.names, index.repeated) == (("wex.us.csv", "b.csv"), ("wex.us.csv",))


@pytest.mark.parametrize("name", [".gz", "-.gz", "=1.gz", "x" * 57 + ".gz", "..gz", "a/b.gz"])
def test_name_that_is_unsafe_without_its_packing_is_refused(name: str) -> None:
    with pytest.raises(BatchError, match="cannot be a company file"):
        parse_index(f"'{name}'".encode())


@pytest.mark.parametrize(
    "name",
    [
        *("../wex.us.csv", "..", ".", "a/../../etc/passwd", "/etc/passwd", "Stocks/wex.us.csv", "..\\wex.us.csv"),
        *("C:\\wex.us.csv", "~/wex.us.csv", "s3://bucket/wex.us.csv", "file:wex"),
        *("wex\n.us.csv", "wex\r.us.csv", "wex\r\n.us.csv", "wex\x00.csv", "wex\t.csv", "wex\x1b.csv", "wex\u2028.csv"),
        *("wex\u202e.csv", "wex\ufeff.csv", "wex\u200b.csv"),
        *('we"x.csv', "we''x.csv", "we,x.csv", "we;x.csv", "wex.csv; DROP TABLE x", "%s", "%(x)s.csv", "wex%00.csv"),
        *("$(id).csv", "`id`.csv", "a|b.csv", "a>b.csv", "a*b.csv", "a?b.csv", "{x}.csv", "a#b.csv", "a:b.csv"),
        *("-rf", "=1+1.csv", "+1.csv", "@sum.csv", ".hidden.csv", "~x.csv", "&x.csv", "x" * 57, "é" * 57),
    ],
)
def test_name_that_is_unsafe_as_a_path_a_formula_or_sql_is_refused(name: str) -> None:
    with pytest.raises(BatchError, match="cannot be a company file") as raised:
        parse_index(f"'wex.us.csv', '{name}', 'zoo.us.csv'".encode())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("quote", ["'", '"'])
def test_newline_inside_a_quoted_name_is_refused(quote: str) -> None:
    with pytest.raises(BatchError, match="cannot be a company file"):
        parse_index(f"{quote}wex\nds.csv{quote}".encode())


@pytest.mark.parametrize("length", [57, 200_000], ids=["just over", "longer than csv takes"])
@pytest.mark.parametrize("quote", ["", "'"], ids=["bare", "quoted"])
def test_refusal_of_a_long_name_shows_only_its_beginning(length: int, quote: str) -> None:
    with pytest.raises(BatchError, match="at most 56") as raised:
        parse_index(f"{quote}{'x' * length}{quote}".encode())
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize("content", [b"", b" \r\n\t ", b"\xef\xbb\xbf", b"''", b"'',,\n\"\",\n,"])
def test_index_without_a_name_is_refused_with_what_to_write(content: bytes) -> None:
    with pytest.raises(BatchError, match=r"names no company file. Write names such as 'wex.us.csv'"):
        parse_index(content)


@pytest.mark.parametrize(
    "content", [b"'wex.us.csv', '\xff.csv'", "'é.csv'".encode("latin-1"), "'wex.us.csv'".encode("utf-16")]
)
def test_index_that_is_not_utf8_is_refused(content: bytes) -> None:
    with pytest.raises(BatchError, match=r"not UTF-8 text \(byte \d+\). Save it as UTF-8"):
        parse_index(content)


def test_index_of_the_sample_names_its_forty_files() -> None:
    index = parse_index((SAMPLE / "CompanyNames" / "top_companies.txt").read_bytes())
    assert sorted(index.names) == sorted(path.name for path in (SAMPLE / "Stocks").iterdir())
    assert index.names[:2] == ("tmusp.us.csv", "tlk.us.csv")
    assert index.repeated == ()
