"""What `make test-versions` makes of a session's report, and of versions that are not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.proof.versions import run
from tests.support.postgres import server_binaries
from tests.support.process import StackError


@pytest.mark.parametrize(
    ("facts", "said", "well"),
    [
        ('tests="1212" failures="0" errors="0" skipped="12"', "1,200 passed, 12 skipped", True),
        ('tests="12" failures="1" errors="2" skipped="0"', "9 passed, 3 failed", False),
        ('tests="2" failures="0" errors="0" skipped="2"', "0 passed, 2 skipped", False),
    ],
)
def test_a_session_is_well_when_tests_passed_and_none_failed(tmp_path: Path, facts: str, said: str, well: bool) -> None:
    report = tmp_path / "report.xml"
    report.write_text(f'<testsuites><testsuite name="pytest" {facts}/></testsuites>')
    assert run.count(report) == (said, well)


def test_a_session_that_left_no_report_is_not_well(tmp_path: Path) -> None:
    assert run.count(tmp_path / "report.xml") == ("not run to the end", False)


def test_what_was_run_before_on_other_versions_is_kept(tmp_path: Path) -> None:
    run.keep({"PostgreSQL 15": "15.1: 3 passed", "PostgreSQL 14": "14.1: 3 passed"}, part=False, folder=tmp_path)
    run.keep({"PostgreSQL 15": "15.2: 4 passed", "Python 3.9": "not available"}, part=True, folder=tmp_path)
    rows = json.loads((tmp_path / "versions.json").read_text())["rows"]
    assert [(name, result.partition(", on ")[0]) for name, result in rows.items()] == [
        ("PostgreSQL 14", "14.1: 3 passed"),
        ("PostgreSQL 15", "15.2: 4 passed, chosen files"),
    ]


def test_a_python_that_is_not_there_is_named() -> None:
    with pytest.raises(run.NotAvailableError, match=r"Python 3\.1 is not on this machine"):
        run.make_venv("3.1")


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(StackError, match="make test-versions POSTGRES=9"):
        server_binaries("9")
