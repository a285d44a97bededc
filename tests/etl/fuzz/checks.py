"""Bytes go in; an AssertionError comes out when a reader of etl breaks a promise on them, whatever they are."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from datetime import date
from itertools import pairwise
from math import isfinite

from etl import BatchError
from etl.batch.company_index import CompanyIndex, parse_index
from etl.files.combined_file import format_rows
from etl.files.company_file import CompanyFile, UnusableFile, parse_company_file, parse_company_files
from etl.files.rules import count_flagged

GOOD = b"Date,Open,High,Low,Close,Volume,OpenInt\n2020-01-02,10,12,9,11,1000,0\n2020-01-03,20,21,19,19,2000,0\n"
SINCE = date(2020, 1, 3)
Outcome = tuple[object, ...]
"""Tells kinds of inputs apart: what was decided, less what varies by itself."""


def check_company_file(content: bytes) -> Outcome:
    """The reader of company files: raises nothing, balances, names lines that are there, accepts what may be loaded."""
    checked = parse_company_file(content)
    _check(checked, content)
    _check(parse_company_file(content, since=SINCE), content)
    beside = parse_company_files([GOOD, content, GOOD])
    assert _facts(beside[1]) == _facts(checked)
    assert _facts(beside[0]) == _facts(beside[2]) == _ALONE
    if isinstance(checked, UnusableFile):
        return "quarantined", _kind(checked.reason), *sorted({_kind(row.reason) for row in checked.rejected})
    kinds = sorted({(row.column, _kind(row.reason)) for row in checked.rejected})
    return min(len(checked.rows.open), 3), count_flagged(checked.rows) > 0, bool(checked.extra_columns), *kinds


def _check(checked: CompanyFile | UnusableFile, content: bytes) -> None:
    if checked.rejected:
        lines = re.split("\r\n|\n|\r", content.decode("utf-8-sig"))
        numbers = [row.line for row in checked.rejected]
        assert all(one < other for one, other in pairwise(numbers))
        assert numbers[0] > 1
        assert numbers[-1] <= len(lines)
        for row in checked.rejected:
            assert row.reason.isprintable()
            assert row.value.replace('"', "") in lines[row.line - 1].replace('"', "")
    if isinstance(checked, UnusableFile):
        assert checked.reason.isprintable()
        return
    text = [column.to_pylist() for column in checked.rows.text]
    prices = [column.to_pylist() for column in (checked.rows.open, checked.rows.high, checked.rows.low)]
    days = text[0]
    assert checked.read == len(days) + len(checked.rejected)
    assert days or checked.before_since
    assert len(set(days)) == len(days)
    assert all(date.fromisoformat(day) for day in days)
    assert all(0 < len(field) <= 56 for column in text for field in column)
    assert all(isfinite(price) and price >= 0 for column in prices for price in column)
    lines = format_rows(checked.rows, company_name="x.csv").decode().split("\n")
    assert lines.pop() == ""
    assert [line.split(",")[:6] for line in lines] == [list(fields) for fields in zip(*text, strict=True)]
    for line in lines:
        *_, percent, change, company = line.split(",")
        assert company == "x.csv"
        assert not percent or isfinite(float(percent))
        assert isfinite(float(change))


def _facts(checked: CompanyFile | UnusableFile) -> object:
    if isinstance(checked, UnusableFile):
        return checked.reason, checked.rejected
    rows = [column.to_pylist() for column in (*checked.rows.text, checked.rows.open, checked.rows.close)]
    return checked.read, rows, checked.rejected, checked.extra_columns


_ALONE = _facts(parse_company_file(GOOD))


def _kind(reason: str) -> str:
    return re.sub(r"0x\w+|'.*'|\d+", "#", reason)


def check_index(content: bytes) -> Outcome:
    """The reader of the index: names that are safe as a path, a key, SQL and a line of a mail, or a BatchError."""
    try:
        index = parse_index(content)
    except BatchError as error:
        told = str(error)
    else:
        return _check_names(index, content)
    assert told.isprintable()
    assert len(told) < 1000
    return "refused", _kind(told)[:60]


def _check_names(index: CompanyIndex, content: bytes) -> Outcome:
    text = content.decode("utf-8-sig")
    assert index.names
    assert len(set(index.names)) == len(index.names)
    assert set(index.repeated) <= set(index.names)
    for name in index.names:
        assert name in text
        assert name == name.strip()
        assert 0 < len(name) <= 56
        assert not set(name) & set("/\\'\"`,;:%$*?|<>(){}[]#!\0\r\n\t")
        assert name[0] not in "=+-@.~&^ "
        assert all(unicodedata.category(sign)[0] not in "CZ" or sign == " " for sign in name)
    return min(len(index.names), 5), bool(index.repeated)


CHECKS: dict[str, Callable[[bytes], Outcome]] = {"company_file": check_company_file, "index": check_index}
