"""The policy of a run: who chose what, how many rows may be rejected, and which files may be missing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

import etl
from etl.batch.policy import Choice, Policy
from etl.outcome.advice import next_steps
from etl.outcome.receipt import Receipt
from tests.support.batch_files import process
from tests.support.commands import counts

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.commands import Command

GOOD = [f"2020-01-0{day},10,12,9,11,100,0" for day in range(1, 10)]


def policy(*, max_rejected: str | None = None, allow_missing: str | None = None) -> Policy:
    return etl.read_policy(
        {}, max_rejected=max_rejected, allow_missing=allow_missing, given_as=lambda name: f"the option {name}"
    )


@pytest.fixture
def two(make_files: Callable[[str], Files]) -> Files:
    """A batch of two companies: of 10 rows one is rejected."""
    files = make_files("two")
    files.put("a.us.csv", GOOD[:5])
    files.put("b.us.csv", [*GOOD[:4], "2020-13-01,10,12,9,11,100,0"])
    files.name("a.us.csv", "b.us.csv")
    return files


# --- what is chosen --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["-1", "1.5", "101%", "100.1 %", "1e2", "many", "%", "1%%", "٣", "1 000"])
def test_limit_that_is_none_is_refused_with_who_set_it(value: str) -> None:
    with pytest.raises(etl.SettingsError, match="by the setting MBD_MAX_REJECTED, is no number of rows"):
        etl.read_policy({"MBD_MAX_REJECTED": value}, given_as=str)


@pytest.mark.parametrize(
    ("value", "rejected", "read", "too_many"),
    [
        ("0", 0, 10, False), ("0", 1, 10, True), ("3", 3, 10, False), ("3", 4, 10, True), ("0%", 1, 10, True),
        ("1%", 1, 100, False), ("1%", 2, 199, True), ("1%", 2, 200, False), ("0.5 %", 1, 200, False),
        ("0.1%", 1, 999, True), ("100%", 10, 10, False), ("1%", 0, 0, False),
    ],
)  # fmt: skip
def test_limit_is_a_number_of_rows_or_a_share_of_those_read(
    value: str, rejected: int, read: int, too_many: bool
) -> None:
    assert policy(max_rejected=value).rejects_too_many(rejected=rejected, read=read) == too_many


@pytest.mark.parametrize(
    ("value", "missing", "allowed"),
    [
        ("0", [], True), ("0", ["a"], False), ("2", ["a", "b"], True), ("2", ["a", "b", "c"], False),
        ("a.us.csv", ["a.us.csv"], True), ("a.us.csv b.us.csv", ["b.us.csv"], True),
        ("a.us.csv, b.us.csv", ["b.us.csv", "a.us.csv"], True), ("a.us.csv", ["b.us.csv"], False),
        ("c d.us.csv", ["c d.us.csv"], True), ("c d.us.csv, a.us.csv", ["a.us.csv", "c d.us.csv"], True),
        ("c d.us.csv,\na.us.csv,", ["a.us.csv", "c d.us.csv"], True), ("c d.us.csv, a.us.csv", ["d.us.csv"], False),
    ],
)  # fmt: skip
def test_files_may_be_missing_by_their_number_or_their_names(value: str, missing: list[str], allowed: bool) -> None:
    assert policy(allow_missing=value).allows(missing) == allowed


def test_what_is_given_goes_before_the_setting() -> None:
    environment = {"MBD_MAX_REJECTED": "5", "MBD_ALLOW_MISSING": "1"}
    chosen = etl.read_policy(environment, max_rejected="1%", allow_missing="", given_as=lambda name: f"param {name}")
    assert chosen.choices == {
        "max_rejected": Choice("1%", "param max_rejected"),
        "allow_missing": Choice("1", "the setting MBD_ALLOW_MISSING"),
    }
    assert etl.read_policy({"MBD_MAX_REJECTED": ""}, given_as=str).choices == {}


# --- rejected rows ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 2])
def test_too_many_rejected_rows_fail_the_batch_behind_its_outputs(two: Files, shards: int) -> None:
    with pytest.raises(etl.BatchError) as raised:
        process(two.job(policy=policy(max_rejected="9%")), shards=shards)
    text = str(raised.value)
    assert "1 of 10 rows are rejected (10 %), more than 9%, which the option max_rejected allows" in text
    assert "--max-rejected 1, or max_rejected in the DAG's form" in text
    assert f"{two.output}/rejected_rows.csv names each row" in text
    assert (two.output / "rejected_rows.csv").read_text().count("\n") == 2


def test_as_many_rejected_rows_as_allowed_are_taken_and_the_receipt_says_the_share(two: Files) -> None:
    facts = json.loads(process(two.job(policy=policy(max_rejected="10%"))).to_json())
    assert facts["rejected_percent"] == 10
    assert facts["policy"] == {"max_rejected": {"value": "10%", "set_by": "the option max_rejected"}}
    assert facts["rejected"] == [{"file": "b.us.csv", "rows": 1, "line": 6, "column": "Date", "reason": "no such day"}]


def test_receipt_of_a_batch_with_too_many_rejected_rows_has_its_counts(two: Files, command: Command) -> None:
    places = ("--source", two.source, "--index", two.index, "--output", two.output)
    answer = command("process", *places, "--max-rejected", "0", "--json", "--quiet")
    receipt = Receipt.from_json(answer.out)
    receipt.check_balance()
    assert (answer.code, receipt.state, receipt.rows.rejected, receipt.rows.read) == (1, "failed", 1, 10)
    assert "which the option --max-rejected allows" in (receipt.error or "")


# --- missing files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 2])
def test_files_that_may_be_missing_are_named_with_whose_consent_it_was(two: Files, shards: int) -> None:
    two.name("a.us.csv", "gone.us.csv", "b.us.csv")
    with pytest.raises(etl.BatchError, match=r"--allow-missing 1, or allow_missing in the DAG's form"):
        process(two.job())
    receipt = process(two.job(policy=policy(allow_missing="gone.us.csv")), shards=shards)
    assert counts(receipt) == (3, 2, 0, 1)
    assert receipt.missing == ("gone.us.csv",)
    assert receipt.policy == {"allow_missing": Choice("gone.us.csv", "the option allow_missing")}
    text = etl.receipt_text(receipt)
    assert "Missing, as the option allow_missing allows (gone.us.csv); their earlier rows" in text
    two.put("gone.us.csv", GOOD)
    whole = process(two.job(), shards=shards)
    assert (counts(whole), whole.missing, whole.policy) == ((3, 3, 0, 0), (), {})
    assert (whole.files.read, whole.files.taken_over) == (1, 2)


def test_consent_of_who_planned_the_batch_is_in_the_receipt_of_who_processes_it(two: Files) -> None:
    two.name("a.us.csv", "gone.us.csv", "b.us.csv")
    run = etl.Run.begin("test")
    etl.gate(two.job(policy=policy(allow_missing="1")), run=run)
    receipt = etl.process(two.job(), run=run)
    assert receipt.policy == {"allow_missing": Choice("1", "the option allow_missing")}


def test_other_files_that_are_missing_in_a_batch_of_the_same_files_are_in_the_manifest(two: Files) -> None:
    for gone, allowed in (("gone.us.csv", "1"), ("lost.us.csv", "1"), ("lost.us.csv", "lost.us.csv")):
        two.name("a.us.csv", "b.us.csv", gone)
        process(two.job(policy=policy(allow_missing=allowed)))
        assert (two.manifest["missing"], two.manifest["consent"]["value"]) == ([gone], allowed)


def test_batch_of_which_no_file_is_there_fails_whatever_may_be_missing(two: Files) -> None:
    two.name("gone.us.csv", "lost.us.csv")
    with pytest.raises(etl.BatchError, match="2 of 2 company files"):
        process(two.job(policy=policy(allow_missing="100")))


def test_options_may_name_files_with_blanks_in_their_names(two: Files, command: Command) -> None:
    two.name("a.us.csv", "c d.us.csv", "e.us.csv")
    places = ("--source", two.source, "--index", two.index, "--output", two.output)
    assert command("process", *places, "--allow-missing", "c d.us.csv").code == 1
    assert command("process", *places, "--allow-missing", "c d.us.csv", "e.us.csv").code == 0


def test_receipt_of_a_batch_without_a_usable_file_counts_missing_files_as_missing(two: Files, command: Command) -> None:
    two.put("a.us.csv", None)
    two.put("b.us.csv", None)
    two.name("a.us.csv", "b.us.csv", "gone.us.csv")
    places = ("--source", two.source, "--index", two.index, "--output", two.output)
    answer = command("process", *places, "--allow-missing", "1", "--json", "--quiet")
    receipt = Receipt.from_json(answer.out)
    receipt.check_balance()
    assert (answer.code, counts(receipt), receipt.missing) == (1, (3, 0, 2, 1), ("gone.us.csv",))
    assert [step.text for step in next_steps(receipt) if "Upload the" in step.text] == []


def test_check_takes_the_setting_into_account(two: Files, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    two.name("a.us.csv", "gone.us.csv")
    places = ("--source", two.source, "--index", two.index)
    assert command("check", *places).code == 1
    monkeypatch.setitem(os.environ, "MBD_ALLOW_MISSING", "1")
    answer = command("check", *places)
    assert "1 are missing, as the setting MBD_ALLOW_MISSING allows" in answer.out
    assert answer.code == 0
