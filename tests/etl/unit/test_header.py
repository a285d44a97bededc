"""The header of a company file: columns by their own names and by those that are set, and what is said of any other."""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

import etl
from etl.cli import main
from etl.files.company_file import CompanyFile, UnusableFile, check_company_file
from etl.files.header import Header, find_columns, parse_aliases
from etl.files.rules import COLUMNS
from tests.support.batch_files import Files, process
from tests.support.company_files import FIRST, LAST, company_file, kept

OWN = ",".join(COLUMNS)
GERMAN = "Date=Datum, Open=Eröffnung, High=Hoch, Low=Tief, Close=Schlusskurs, Volume=Stück"
POLISH = "Date=Data,Open=Otwarcie,High=Najwyższy,Low=Najniższy,Close=Zamknięcie,Volume=Wolumen"


def check(header: str, aliases: str) -> CompanyFile | UnusableFile:
    content = company_file(FIRST, LAST, header=header)
    return check_company_file(content, company_name="x.csv", aliases=parse_aliases(aliases))


@pytest.mark.parametrize(
    ("header", "aliases"),
    [
        ("Datum,Eröffnung,Hoch,Tief,Schlusskurs,Stück,OpenInt", GERMAN),
        ("Data,Otwarcie,Najwyższy,Najniższy,Zamknięcie,Wolumen,OpenInt", POLISH),
        ("DATUM, ERÖFFNUNG ,hoch,Tief,schlusskurs,STÜCK,OpenInt", GERMAN),
        ("Datum,Ero\u0308ffnung,Hoch,Tief,Schlusskurs,Stu\u0308ck,OpenInt", GERMAN),
        ("Datum,Open,Hoch,Low,Close,Stück,OpenInt", GERMAN),
        ("Date,Open,High,Low,Close,Volume,OpenInt", GERMAN),
        ("Date,Open,High,Low,Last,Volume,OpenInt", "Close=Last, Close=Price"),
        ("Date,Open,High,Low,Price,Volume,OpenInt", "Close=Last\nClose=Price"),
        ('Date,Open,High,Low,"Price, adjusted",Volume,OpenInt', '"Close=Price, adjusted"'),
        ("Date,Open,High,Low,a=b,Volume,OpenInt", " close = a=b ,, "),
    ],
)
def test_column_is_found_by_the_names_that_are_set_before_its_own(header: str, aliases: str) -> None:
    plain, found = check("Date,Open,High,Low,Close,Volume,OpenInt", ""), check(header, aliases)
    assert found == plain


def test_name_that_is_set_comes_before_the_columns_own_and_the_earlier_before_the_later() -> None:
    row = "2020-01-02,10,12,9,11,11.5,1000"
    content = company_file(row, header="Date,Open,High,Low,Close,Adj Close,Volume")
    for aliases, close, extra in (
        ("", "11", "Adj Close"),
        ("Close=Adj Close", "11.5", "Close"),
        ("Close=Last, Close=Adj Close", "11.5", "Close"),
    ):
        checked = check_company_file(content, company_name="x.csv", aliases=parse_aliases(aliases))
        assert isinstance(checked, CompanyFile)
        assert kept(checked).fields == [("2020-01-02", "10", "12", "9", close, "1000")]
        assert checked.extra_columns == (extra,)


def test_every_order_of_columns_is_found_with_names_that_are_set() -> None:
    aliases = parse_aliases(GERMAN)
    names = ["Datum", "Eröffnung", "High", "Tief", "Close", "Stück"]
    for order in permutations(range(6)):
        head = ",".join(names[at] for at in order).encode()
        found = find_columns(head, number=1, below=b"", aliases=aliases)
        assert found == Header(6, [order.index(at) for at in range(6)], ())


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r", ",\r\n"], ids=ascii)
def test_pairs_may_be_in_lines_of_their_own(line_end: str) -> None:
    text = f'Close=Last{line_end}"Open=First, adjusted" {line_end}Date=Day{line_end}'
    assert parse_aliases(text) == (("Close", ("last",)), ("Open", ("first, adjusted",)), ("Date", ("day",)))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Adj Close", "holds 'Adj Close'. Write 'Close=Adj Close'"),
        ("Price=Close", "holds 'Price=Close'. Write"),
        ("Close=", "holds 'Close='. Write"),
        ("Close=Open", "gives the name 'Open' to two columns"),
        ("Close=close", "gives the name 'close' to two columns"),
        ("Close=Last, Open=last", "gives the name 'last' to two columns"),
        ("Close=Last; Open=First, x", "holds 'x'. Write"),
        ("Close=Last\r\nx", "holds 'x'. Write"),
        ("Close=" + "x" * 140_000, "cannot be read (field larger than"),
    ],
)
def test_setting_that_is_wrong_is_refused_with_how_to_write_it(
    text: str, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(etl.SettingsError) as raised:
        parse_aliases(text)
    assert told in str(raised.value)
    arguments = ["process", "--source", "x", "--index", "x", "--output", "x"]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--column-aliases", text])
    assert ended.value.code == 2
    monkeypatch.setenv("MBD_COLUMN_ALIASES", text)
    with pytest.raises(SystemExit):
        main(arguments)
    assert capsys.readouterr().err.count(told) == 2


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["Date;Open;High;Low;Close;Volume"], "separated by semicolons"),
        (["Date\tOpen\tHigh\tLow\tClose\tVolume"], "separated by tabs"),
        (["Date|Open|High|Low|Close|Volume"], "separated by vertical bars"),
        (["'Date';'Open';x"], "separated by semicolons"),
        (["Datum;Hoch;x"], "separated by semicolons"),
        (["# made by x", OWN], "no header in the first line, '# made by x': it is line 2"),
        (["", " ", "title", "", OWN], "no header in the first line, 'title': it is line 5"),
        (["title", *["x"] * 8, OWN], "no header in the first line, 'title': it is line 10"),
        (["title", *["x"] * 20, OWN], "no header: the first line is 'title', not " + OWN),
        (
            ["Price,Close,High,Low,Open,Volume", "Ticker,X,X,X,X,X", "Date,,,,,"],
            "a header of several lines: Date is in line 3, Open, High, Low, Close, Volume in line 1",
        ),
        (
            ["Datum,Open,High", "Low,Close,Volume"],
            "a header of several lines: Low is in line 2, Date, Open, High in line 1",
        ),
        (["Tag,Anfang,Oben,Unten,Ende,Menge"], f"no column is called {OWN}: the first line is 'Tag,Anfang"),
        (["Tag,Anfang,Oben,Unten,Ende"], "no header: the first line is"),
        (
            ["Date,Open,High,Low,Closing price,Volume,OpenInt"],
            "missing column Close; the file has 'Closing price': if that is it, set "
            "MBD_COLUMN_ALIASES='Close=Closing price'",
        ),
        (["Date,High,Low,Close,Volume,OpenInt"], "missing column Open"),
        (["Date,High,Low,Close,Volume,2020"], "missing column Open"),
        (["Date,Open,High,Low,Ende,Volume,a,b,c"], "missing column Close; the file has 'Ende', 'a', 'b': if"),
    ],
)
def test_reason_says_what_is_there_instead_of_the_header(lines: list[str], reason: str) -> None:
    content = "\n".join([*lines, "2020-01-02,1,1,1,1,1"]).encode()
    for variant in (content, content.replace(b"\n", b"\r\n"), b"\xef\xbb\xbf" + content):
        checked = check_company_file(variant, company_name="x.csv", aliases=parse_aliases("Date=Datum, High=Hoch"))
        assert isinstance(checked, UnusableFile)
        assert checked.reason.startswith(reason), checked.reason
        assert reason != "missing column Open" or checked.reason == reason
        assert checked.reason.isprintable()


@pytest.mark.parametrize("name", ["Adj Close", "Adj, Close", "Day's close", "Ende", "Zamknięcie, PLN", "x" * 60])
def test_setting_that_a_reason_proposes_makes_the_file_usable(name: str) -> None:
    header = f'Date,Open,High,Low,"{name}",Volume,OpenInt'
    refused = check(header, "")
    assert isinstance(refused, UnusableFile)
    proposed = literal_eval(refused.reason.partition("set MBD_COLUMN_ALIASES=")[2])
    assert isinstance(check(header, proposed), CompanyFile)


@pytest.mark.parametrize(
    "name", ["Close of the trading session as published by the exchange in Warsaw", "Day's, close"]
)
def test_setting_that_could_not_be_copied_is_not_proposed(name: str) -> None:
    refused = check(f'Date,Open,High,Low,"{name}",Volume,OpenInt', "")
    assert isinstance(refused, UnusableFile)
    assert refused.reason.endswith(": if that is it, set MBD_COLUMN_ALIASES")


def test_changed_names_read_every_file_again_and_are_in_receipt_and_mail(
    tmp_path: Path, make_files: Callable[[str], Files], days: Callable[..., list[str]]
) -> None:
    files = make_files("aliases")
    rows = [f"{row},{number}" for number, row in enumerate(days(3))]
    (files.source / "a.csv").write_text("\n".join(["Date,Open,High,Low,Close,Volume,OpenInt,Last", *rows]))
    files.name("a.csv")
    plain = process(files.job())
    assert (plain.column_aliases, plain.files.read) == ("", 1)
    assert process(files.job()).files.taken_over == 1
    first = files.combined
    set_job = replace(files.job(), column_aliases=" Close=Last ")
    changed = process(set_job)
    assert (changed.column_aliases, changed.files.read) == ("Close=Last", 1)
    assert files.combined != first
    assert "Columns were looked for under other names too: Close=Last." in etl.receipt_text(changed)
    assert etl.Receipt.from_json(changed.to_json()).column_aliases == changed.column_aliases
    assert process(set_job).files.taken_over == 1
    several = process(set_job, shards=3)
    assert (several.column_aliases, several.files.taken_over) == ("Close=Last", 1)
    assert process(files.job()).files.read == 1
    assert files.combined == first
