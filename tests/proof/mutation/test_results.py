"""Which results of `make mutation` count: those of tests that could be run, of a function that is still the same."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.proof.mutation.near import Outcome
from tests.proof.mutation.results import hash_of_function, read_results
from tests.proof.mutation.run import _parser, command, is_found

SOURCE = """
LIMIT = 3

def first(at: int = LIMIT) -> int:
    return at + 1

class Load:
    days: int = 1

    @property
    def rows(self) -> int:
        def inside() -> int:
            return 2
        return inside()
"""
PLACES = ("", "first", "Load.rows", "Load.rows.<locals>.inside")


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("at + 1", "at + 2", {"first"}),
        ("return 2", "return 3", {"Load.rows", "Load.rows.<locals>.inside"}),
        ("LIMIT = 3", "LIMIT = 4", {""}),
        ("days: int = 1", "days: int = 2", {""}),
        ("at: int = LIMIT", "at: int = 4", {"", "first"}),
        ("@property", "@cached_property", {"", "Load.rows", "Load.rows.<locals>.inside"}),
    ],
)
def test_hash_is_another_one_where_the_function_changed(old: str, new: str, changed: set[str]) -> None:
    after = SOURCE.replace(old, new)
    assert {place for place in PLACES if hash_of_function(SOURCE, place) != hash_of_function(after, place)} == changed


def test_result_counts_only_while_its_function_is_the_same(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    assert read_results(file, within={"a": "1"}) == {}
    lines = [
        {"name": "a", "killed": False, "within": "1"},
        {"name": "a", "killed": True, "within": "1"},
        {"name": "b", "killed": True, "within": "1"},
        {"name": "c", "killed": True},
        {"name": "gone", "killed": True, "within": "1"},
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_results(file, within={"a": "1", "b": "2", "c": "3"}) == {"a": lines[1]}


@pytest.mark.parametrize(
    ("exit_code", "found"), [(0, False), (1, True), (-signal.SIGALRM, True), (3, None), (-signal.SIGKILL, None)]
)
def test_mutant_is_found_only_by_a_test_that_failed_or_did_not_end(exit_code: int, found: bool | None) -> None:
    assert is_found(Outcome(exit_code)) is found


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "make mutation"),
        (["--sample", "20"], "make mutation OPTIONS='--sample 20 --seed 1'"),
        (["--only", "etl/batch/gate.py"], "make mutation OPTIONS='--only etl/batch/gate.py'"),
    ],
)
def test_figures_that_are_kept_say_what_was_left_out(given: list[str], said: str) -> None:
    assert command(_parser().parse_args(given)) == said
