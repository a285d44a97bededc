"""The bugs that `make planted-bugs` plants: each patch fits the code of today, and its tests are there."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

from tests.proof.planted_bugs.__main__ import main
from tests.proof.planted_bugs.bugs import Bug, read_bugs
from tests.support.paths import ROOT

BUGS = read_bugs()


def test_forty_bugs_and_more_are_planted_each_for_a_reason_of_its_own() -> None:
    assert len(BUGS) >= 40
    assert len({bug.what for bug in BUGS}) == len({bug.name[3:] for bug in BUGS}) == len(BUGS)
    assert [bug.name[:2] for bug in BUGS] == [f"{number:02}" for number in range(1, len(BUGS) + 1)]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_patch_applies_and_names_tests_that_are_there(bug: Bug) -> None:
    check = ["git", "apply", "--check", str(bug.patch)]
    fits = subprocess.run(check, cwd=ROOT, check=False, capture_output=True, text=True)
    assert fits.returncode == 0, f"renew the patch, so that it breaks the same in the code of today:\n{fits.stderr}"
    assert bug.tests
    for test in bug.tests:
        file, _, name = test.partition("::")
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert name.partition("[")[0] in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


DEADLINE = "tests/trigger/unit/test_deadline.py::test_outside_of_lambda_a_call_has_a_minute"
TOYS = {
    "01-found": ("-_WITHOUT_LAMBDA_SECONDS = 60.0", "+_WITHOUT_LAMBDA_SECONDS = 61.0"),
    "02-harmless": ("-_WITHOUT_LAMBDA_SECONDS = 60.0", "+_WITHOUT_LAMBDA_SECONDS = 60.00"),
    "03-stale": ("-_WITHOUT_LAMBDA_SECONDS = 59.0", "+_WITHOUT_LAMBDA_SECONDS = 61.0"),
}


def test_bug_that_no_test_finds_and_patch_that_does_not_apply_are_failures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, (before, after) in TOYS.items():
        head = f"# A toy: {name}.\n# found by {DEADLINE}\n--- a/trigger/deadline.py\n+++ b/trigger/deadline.py\n"
        place = f"@@ -6,3 +6,3 @@\n _RESERVED_SECONDS = 5.0  # for the log and the answer\n{before}\n{after}\n \n"
        (tmp_path / f"{name}.patch").write_text(head + place)
    assert main([], folder=tmp_path) == 1
    printed = capsys.readouterr().out
    assert "\nfound     01-found" in printed
    for name, why in (("02-harmless", f"No failure of {DEADLINE} (pytest ended with 0)"), ("03-stale", "renew it")):
        assert f"\nNOT FOUND {name}" in printed
        assert why in printed.partition(f"NOT FOUND {name}")[2].splitlines()[0]
    assert "3 planted, 1 found" in printed
