"""Checks what the readers of etl promise of any bytes; an AssertionError says which promise is broken."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from datetime import date
from itertools import pairwise
from math import isfinite

from etl import BatchError
from etl.batch.company_index import CompanyIndex, parse_index
from etl.files.company_file import CompanyFile, UnusableFile
from etl.files.packed import unpack
from tests.support.company_files import check, kept

SINCE = date(2020, 1, 3)
Outcome = tuple[object, ...]
"""Tells kinds of inputs apart: what was decided, less what varies by itself."""


def check_company_file(content: bytes) -> Outcome:
    """The reader of company files: raises nothing, balances, names lines that are there, accepts what may be loaded."""
    checked = check(content)
    _check(checked, content)
    _check(check(content, since=SINCE), content)
    if isinstance(checked, UnusableFile):
        return "quarantined", _kind(checked.reason), *sorted({_kind(row.reason) for row in checked.rejected})
    kinds = sorted({(row.column, _kind(row.reason)) for row in checked.rejected})
    return min(len(kept(checked).fields), 3), checked.flagged > 0, bool(checked.extra_columns), *kinds


def _check(checked: CompanyFile | UnusableFile, content: bytes) -> None:
    if checked.rejected:
        lines = re.split("\r\n|\n|\r", unpack(content).decode("utf-8-sig"))
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
    lines = checked.content.decode().split("\n")
    assert lines.pop() == ""
    cells = [line.split(",") for line in lines]
    days = [line[0] for line in cells]
    assert checked.read == len(days) + len(checked.rejected)
    assert days or checked.before_since
    assert len(set(days)) == len(days)
    assert all(date.fromisoformat(day) for day in days)
    for line in cells:
        assert len(line) == 9
        *fields, percent, change, company = line
        assert all(0 < len(field) <= 56 for field in fields)
        assert all(isfinite(float(price)) and float(price) >= 0 for price in fields[1:5])
        assert company == "x.csv"
        assert not percent or isfinite(float(percent))
        assert isfinite(float(change))


def _kind(reason: str) -> str:
    return re.sub(r"#(, #)+", "#", re.sub(r"0x\w+|'.*'|\".*\"|\d+", "#", reason))


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
    text = unicodedata.normalize("NFC", content.decode("utf-8-sig"))
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
