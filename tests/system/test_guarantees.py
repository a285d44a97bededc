"""docs/guarantees.md against the repository: what it names is there, what is there is named, its counts are right.

SECURITY.md too, as far as it names tests and cases.
"""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import figures
from tests.support.case_folder import NAMES, read_case
from tests.support.paths import ROOT

TESTS = ROOT / "tests"
PAGE = TESTS.parent / "docs" / "guarantees.md"
THREATS = TESTS.parent / "SECURITY.md"
SECTIONS = {"What always holds", "Events and orchestration", "Files", "Values", "Database, AWS, mail"}
_TEST = re.compile(r"`([\w/]+\.py)::(test_\w+)`")


@dataclass(frozen=True)
class Promise:
    """One line of a table: when it holds, and the tests and cases that prove it."""

    section: str
    when: str
    proof: str

    @property
    def tests(self) -> list[tuple[str, str]]:
        return _TEST.findall(self.proof)

    @property
    def cases(self) -> list[str]:
        _, _, named = self.proof.partition("cases: ")
        return re.findall(r"`(\w+)`", named)


def read_promises(page: str) -> list[Promise]:
    promises = []
    for section in page.split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        if title not in SECTIONS:
            continue
        for line in text.splitlines():
            if line.startswith("|") and not line.startswith(("|---", "| when |")):
                when, _, proof = (cell.strip() for cell in line.strip("|").split(" | "))
                promises.append(Promise(title, when, proof))
    return promises


PROMISES = read_promises(PAGE.read_text(encoding="utf-8"))


def _tests_of(path: Path) -> set[str]:
    """Names of the tests of a file, read without importing it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def test_every_section_is_there_with_its_promises() -> None:
    assert {promise.section for promise in PROMISES} == SECTIONS


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.when)
def test_promise_has_a_proof_that_is_there(promise: Promise) -> None:
    assert promise.tests or promise.cases, "no test proves it"
    for file, name in promise.tests:
        assert (TESTS / file).is_file(), f"no such file: tests/{file}"
        assert name in _tests_of(TESTS / file), f"no such test: tests/{file}::{name}"
    left = _TEST.sub("", promise.proof.partition("cases: ")[0]).strip()
    assert not left, f"neither a test nor a case: {left}"


def test_each_case_is_named_by_the_promise_that_is_its_topic() -> None:
    topics: dict[str, set[str]] = defaultdict(set)
    for name in NAMES:
        topics[read_case(name).expected["topic"]].add(name)
    named = {promise.when: set(promise.cases) for promise in PROMISES if promise.cases}
    assert named == topics


def test_counts_on_the_page_are_right() -> None:
    tests = {test for promise in PROMISES for test in promise.tests}
    told = f"{len(PROMISES)} promises, proved by {len(tests)} tests and {len(NAMES)} cases."
    assert told in PAGE.read_text(encoding="utf-8")


def test_figures_on_the_page_are_those_of_the_last_run_of_the_long_suite() -> None:
    facts = json.loads(figures.FILE.read_text(encoding="utf-8"))
    told = "MBD_FIGURES=tests/data/figures.json make test-faults, then python -m tests.support.figures"
    assert figures.block_of_page(PAGE.read_text(encoding="utf-8")) == figures.block(facts), told


def test_long_suite_broke_no_promise_and_did_all_that_the_page_counts() -> None:
    facts = json.loads(figures.FILE.read_text(encoding="utf-8"))
    none = {"rows_lost", "rows_doubled", "tests_failed"}
    assert [facts[name] for name in sorted(none)] == [0, 0, 0]
    assert [name for name in figures.ROWS if name not in none and not facts.get(name)] == []


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
