"""Every row of the real batch: the native checker, the row rules in Python and plain pandas give the same bytes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl.files import native
from etl.files.company_file import CompanyFile, check_company_file
from tests.support.pandas_slice import slice_by_pandas
from tests.support.plain_files import Body, by_rules
from tests.support.real_batch import MISSING, archive, unpack

pytestmark = [
    pytest.mark.skipif(archive() is None, reason=MISSING),
    pytest.mark.skipif(not native.available(), reason=native.describe()),
]


@pytest.fixture(scope="module")
def company_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    root = unpack(tmp_path_factory.mktemp("real"))
    yield sorted((root / "Stocks").iterdir())
    shutil.rmtree(root)


def test_native_checker_rules_and_plain_pandas_agree_on_every_row(company_files: list[Path]) -> None:
    files = rows = flagged = 0
    for path in company_files:
        content = path.read_bytes()
        if not content:
            continue
        body = Body(content.partition(b"\n")[2])
        fast = native.check_plain(body.content, width=7, positions=body.positions, company_name=path.name)
        assert fast is not None, path.name
        assert fast == by_rules(body, company_name=path.name), path.name
        checked = check_company_file(content, company_name=path.name)
        assert isinstance(checked, CompanyFile)
        assert (checked.content, checked.flagged) == slice_by_pandas(path), path.name
        files, rows, flagged = files + 1, rows + fast.read, flagged + checked.flagged
    assert (files, rows, flagged) == (995, 2_054_899, 21)
