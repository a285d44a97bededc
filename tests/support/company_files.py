"""Bytes of company files for the tests, and what is read back from a checked one."""

from datetime import date
from typing import NamedTuple

from etl.files.company_file import CompanyFile, UnusableFile, check_company_file

HEADER = "Date,Open,High,Low,Close,Volume,OpenInt"
FIRST = "2020-01-02,10.5,12,9.75,11,1000,0"
LAST = "2020-01-06,11,12.5,10,12,2000,0"


def company_file(*lines: str, header: str = HEADER, end: str = "\n") -> bytes:
    return "".join(line + end for line in (header, *lines)).encode()


def check(content: bytes, *, since: date | None = None) -> CompanyFile | UnusableFile:
    return check_company_file(content, company_name="x.csv", since=since)


def parse(content: bytes) -> CompanyFile:
    """The checked file of bytes that are good enough not to be quarantined."""
    checked = check(content)
    assert isinstance(checked, CompanyFile), checked
    return checked


class Kept(NamedTuple):
    """Accepted rows as plain values: the six fields of each row, and the bits of its four prices."""

    fields: list[tuple[str, ...]]
    prices: list[tuple[str, ...]]


def kept(checked: CompanyFile) -> Kept:
    fields = [tuple(line.split(",")[:6]) for line in checked.content.decode().splitlines()]
    return Kept(fields, [tuple(float(price).hex() for price in row[1:5]) for row in fields])


def assert_balanced(checked: CompanyFile | UnusableFile) -> None:
    """Every row that was read is accepted or rejected, once; nothing that is accepted breaks the table's contract."""
    assert all(row.reason and row.line > 1 for row in checked.rejected)
    assert [row.line for row in checked.rejected] == sorted({row.line for row in checked.rejected})
    if isinstance(checked, UnusableFile):
        assert checked.reason
        return
    fields, prices = kept(checked)
    assert checked.read == len(fields) + len(checked.rejected)
    assert len(prices) == len(fields)
    assert all(0 < len(field) <= 56 for row in fields for field in row)
    assert all(price not in ("inf", "-inf", "nan") for row in prices for price in row)
    days = [row[0] for row in fields]
    assert len(set(days)) == len(days)
