"""Every folder of tests/data/cases goes through `python -m etl process`; receipt and outputs must be what it says."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

import etl
from etl.cli import main
from etl.outcome.receipt import Receipt
from tests.support.case_folder import NAMES, Batch, Case, read_case

OUTPUTS = ["flagged_rows.csv", "historical_stock_data.csv", "manifest.json", "rejected_rows.csv", "rejected_rows.jsonl"]
FILES_OF_A_CASE = {"Stocks", "index.txt", "expected.json"}
FILES_OF_AN_OUTCOME = {"expected_combined.csv", "expected_rejected_rows.csv"}


@pytest.fixture(autouse=True)
def _no_handler_of_a_command_outlives_it(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("MBD_TOPIC_ARN", "MBD_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("name", NAMES)
def test_case_comes_out_as_a_careful_operator_expects(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = read_case(name)
    batch = case.lay_out(tmp_path)
    places = ["--source", str(batch.source), "--index", str(batch.index), "--output", str(batch.output)]
    code = main(["process", *places, "--json", "--quiet"])
    told = capsys.readouterr()
    receipt = Receipt.from_json(told.out)
    receipt.check_balance()
    assert all(line.isprintable() for line in etl.receipt_text(receipt).splitlines())
    assert_facts(receipt, case)
    if "error" in case.expected:
        error = case.expected["error"].format_map({"index": batch.index, "source": batch.source})
        assert (code, told.err, receipt.error) == (1, f"error: {error}\n", error)
        assert error.isprintable()
        assert [path.name for path in sorted(batch.output.iterdir())] == ["receipts", "reports"]
    else:
        assert (code, told.err) == (0, "")
        assert sorted(path.name for path in batch.output.iterdir()) == OUTPUTS
        assert (batch.output / "rejected_rows.csv").read_bytes() == case.rejected
        assert (batch.output / "historical_stock_data.csv").read_bytes() == case.combined
        assert_rejected_rows_point_to_their_lines(batch)


def assert_facts(receipt: Receipt, case: Case) -> None:
    facts = json.loads(receipt.to_json())
    assert facts["files"].pop("taken_over") == 0
    assert facts["files"].pop("read") <= receipt.files.listed
    for name in ("files", "rows", "quarantined", "notes"):
        if name in case.expected:
            assert facts[name] == case.expected[name]
        elif name != "files":
            assert not any(facts[name].values() if isinstance(facts[name], dict) else facts[name])


def assert_rejected_rows_point_to_their_lines(batch: Batch) -> None:
    """Whoever opens the file at the line finds the value there, whatever a case says."""
    for row in batch.rejected():
        content = (batch.source / row["file"]).read_bytes().decode("utf-8-sig")
        line = re.split("\r\n|\n|\r", content)[int(row["line"]) - 1]
        value = row["value"]
        assert value in line or value.removeprefix("'") in line


def test_each_case_is_complete_and_has_nothing_that_is_not_looked_at() -> None:
    for name in NAMES:
        case = read_case(name)
        found = {path.name for path in case.folder.iterdir()}
        outcome: set[str] = set() if "error" in case.expected else FILES_OF_AN_OUTCOME
        assert found == FILES_OF_A_CASE | outcome, name
        known = {"topic", "about", "error", "files", "rows", "quarantined", "notes", "sparse"}
        assert {"topic", "about"} <= case.expected.keys() <= known, name
