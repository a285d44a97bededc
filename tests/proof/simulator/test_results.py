"""A long run that is interrupted goes on, and what other code was asked does not count."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.proof.simulator.results import Outcome, Results, Total, code_of, kept_total
from tests.proof.simulator.simulate import figures
from tests.support import proof

OUTCOME = Outcome(7, days=100, counts=Counter({"mails": 3}), seconds=1.5)
BROKEN = Outcome(8, days=12, kind="a silent marker", detail="'Süß', put Mon", seconds=0.5)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for name in ("etl/table/sql/load.sql", "trigger/handler.py", "airflow/dags/dag.py", "tests/support/database.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("1")
    return tmp_path


def test_seeds_are_there_when_the_run_goes_on(repository: Path) -> None:
    file = repository / "results.jsonl"
    for outcome in (OUTCOME, BROKEN):
        Results(file, days=100, root=repository).add(outcome)
    assert Results(file, days=100, root=repository).outcomes == {7: OUTCOME, 8: BROKEN}
    assert Results(file, days=50, root=repository).outcomes == {}, "they were asked for other days"


@pytest.mark.parametrize("changed", ["etl/table/sql/load.sql", "trigger/handler.py", "tests/support/database.py"])
def test_what_was_played_before_the_code_changed_does_not_count(repository: Path, changed: str) -> None:
    file = repository / "results.jsonl"
    Results(file, days=100, root=repository).add(OUTCOME)
    before = (repository / changed).read_text()
    (repository / changed).write_text("2")
    assert Results(file, days=100, root=repository).outcomes == {}
    (repository / changed).write_text(before)
    assert Results(file, days=100, root=repository).outcomes == {7: OUTCOME}


def test_a_test_of_the_simulator_may_change(repository: Path) -> None:
    file, test = repository / "results.jsonl", repository / "tests" / "proof" / "simulator" / "test_days.py"
    Results(file, days=100, root=repository).add(OUTCOME)
    test.parent.mkdir(parents=True)
    test.write_text("2")
    assert Results(file, days=100, root=repository).outcomes == {7: OUTCOME}
    test.with_name("simulate.py").write_text("the command may, too")
    assert Results(file, days=100, root=repository).outcomes == {7: OUTCOME}
    test.with_name("world.py").write_text("2")
    assert Results(file, days=100, root=repository).outcomes == {}


def test_a_run_is_added_to_the_figures_that_are_kept(repository: Path, tmp_path: Path) -> None:
    first = Total(7, 100, code_of(repository)).add([OUTCOME, BROKEN])
    proof.keep("simulator", "make simulate", figures(first, bugs=""), tmp_path, total=first.as_json())
    kept = kept_total(100, tmp_path, repository)
    assert kept == first
    assert kept_total(50, tmp_path, repository) is None, "each seed was asked for other days"
    both = figures(kept.add([Outcome(9, days=88, counts=Counter({"mails": 4}), seconds=2.0)]), bugs="")
    assert (both["simulated days"], both["seeds"], both["mails"], both["promises broken"]) == (200, 3, 7, 1)
    assert both["days in a second of processor time, without PostgreSQL's"] == 50.0


def test_a_sum_says_how_many_days_were_played_by_the_newest_code(repository: Path, tmp_path: Path) -> None:
    first = Total(7, 100, code_of(repository)).add([OUTCOME])
    proof.keep("simulator", "make simulate", {}, tmp_path, total=first.as_json())
    (repository / "trigger" / "handler.py").write_text("2")
    kept = kept_total(100, tmp_path, repository)
    assert kept is not None
    assert kept.code == code_of(repository)
    kept.add([BROKEN])
    assert (kept.seeds, kept.days, kept.newest_days) == (2, 112, 12)
