"""Each promise of tests/data/guarantees.toml has a proof that exists, and each case belongs to its promise.

SECURITY.md too, as far as it names tests and cases. test_docs.py checks that docs/guarantees.md shows these promises.
"""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.proof.mutation import survivors
from tests.support import docs, figures
from tests.support.case_folder import NAMES, read_case
from tests.support.paths import ROOT

TESTS = ROOT / "tests"
THREATS = ROOT / "SECURITY.md"
PROMISES = docs.read_promises()


def _tests_of(path: Path) -> set[str]:
    """Names of the tests of a file, read without importing it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_promise_says_once_when_it_holds() -> None:
    assert all(set(promise) <= {"section", "when", "what", "tests", "cases"} for promise in PROMISES)
    assert len({promise["when"] for promise in PROMISES}) == len(PROMISES)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise["when"])
def test_promise_has_a_proof_that_is_there(promise: dict[str, Any]) -> None:
    tests, cases = promise.get("tests", []), promise.get("cases", [])
    assert tests or cases, "no test proves it"
    assert len({*tests, *cases}) == len(tests) + len(cases), "a proof is named twice"
    for test in tests:
        file, _, name = test.partition("::")
        assert (TESTS / file).is_file(), f"no such file: tests/{file}"
        assert name in _tests_of(TESTS / file), f"no such test: tests/{test}"


def test_each_case_is_named_by_the_promise_that_is_its_topic() -> None:
    topics: dict[str, set[str]] = defaultdict(set)
    for name in NAMES:
        topics[read_case(name).expected["topic"]].add(name)
    assert {promise["when"]: set(promise["cases"]) for promise in PROMISES if "cases" in promise} == topics


def test_long_suite_broke_no_promise_and_did_all_that_the_page_counts() -> None:
    facts = json.loads(figures.FILE.read_text(encoding="utf-8"))
    none = {"rows_lost", "rows_doubled", "tests_failed"}
    assert [facts[name] for name in sorted(none)] == [0, 0, 0]
    assert [name for name in figures.ROWS if name not in none and not facts.get(name)] == []


def test_changes_that_no_test_notices_are_of_code_that_is_there_and_have_a_reason() -> None:
    assert list(survivors.outdated()) == []
    assert all(len(why) > 20 for why in survivors.read_survivors().values())


def test_threat_model_names_tests_and_cases_that_are_there() -> None:
    text = THREATS.read_text(encoding="utf-8")
    file = ""
    named = re.findall(r"`([\w/]+\.py)?(?:::(test_\w+))?`", text)
    assert len(named) > 10
    for at, name in named:
        file = at or file  # `::test_x` is another test of the file before
        assert (TESTS / file).is_file(), f"no such file: tests/{file}"
        assert not name or name in _tests_of(TESTS / file), f"no such test: tests/{file}::{name}"
    for cases in re.findall(r"\(cases ((?:`[\w*]+`(?:, )?)+)", text):
        for case in re.findall(r"`([\w*]+)`", cases):
            assert list(TESTS.glob(f"data/cases/{case}")), f"no such case: {case}"
