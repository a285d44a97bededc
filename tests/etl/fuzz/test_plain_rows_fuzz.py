"""The fuzzer of the native checker for a few seconds, and that it would notice what could go wrong in there."""

from __future__ import annotations

from pathlib import Path

import pytest

from hatch_build import SOURCE
from tests.etl.fuzz.plain_rows_fuzz import Report, fuzz
from tests.support.paths import ROOT


def fuzz_or_skip(source: Path, *, seconds: float) -> Report:
    report = fuzz(source, seconds=seconds, seed=7)
    if not report.sanitizers:
        pytest.skip(report.findings[0])
    return report


def test_native_checker_agrees_with_the_row_rules_and_touches_no_byte_of_others() -> None:
    report = fuzz_or_skip(ROOT / SOURCE, seconds=5)
    assert report.findings == []
    assert min(report.accepted, report.declined) > report.executions // 10 > 0


@pytest.mark.parametrize(
    ("right", "wrong", "finding"),
    [
        ("at < end && *at >= ' ' &&", "*at >= ' ' &&", "heap-buffer-overflow"),
        ("if (room - out < line_length", "if (room - begin < line_length", "heap-buffer-overflow"),
        ("if (number.digits > EXACT) return false;", "", "is not"),
        ("if (day <= last)", "if (day < last)", "is not"),
        ("|| size >= 1e16", "|| size >= 1e17", "is not"),
    ],
)
def test_fuzzer_notices_a_mistake_in_the_native_checker(tmp_path: Path, right: str, wrong: str, finding: str) -> None:
    source = (ROOT / SOURCE).read_text()
    assert source.count(right) == 1
    broken = tmp_path / "plain_rows.cpp"
    broken.write_text(source.replace(right, wrong))
    report = fuzz_or_skip(broken, seconds=300)  # it ends with the first finding
    assert [finding in found for found in report.findings] == [True], report
