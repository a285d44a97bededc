"""The judge of `make compare-dirt`, its worker, and what README and docs say of its last run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.proof.dirt import kept
from tests.proof.dirt.cases import contestable, dirty_cases, expected_rows, lay_out
from tests.proof.dirt.judge import Outcome, Ran, Row, comparable, judge, rows_of
from tests.proof.dirt.ways import WAYS, Kind
from tests.support import proof
from tests.support.case_folder import read_case
from tests.support.paths import ROOT

COLUMNS = ("Date", "Open", "High", "Low", "Close", "Volume", "company_name")
FIRST = ("2020-01-02", "10", "12", "9", "11", "1000", "a.csv")
SECOND = ("2020-01-03", "20", "21", "19", "19", "2000", "a.csv")
SHIFTED = ("2020-01-03", "21", "19", "19", "2000", "0", "a.csv")
OTHER = ("2020-01-02", "8", "9", "7", "8.5", "3000", "b.csv")


def _rows(*records: tuple[str | None, ...]) -> Counter[Row]:
    return rows_of(COLUMNS, records)


EXPECTED = _rows(FIRST, SECOND, OTHER)
SAID_A = Ran(said={"a.csv": "1 row left out"})


@pytest.mark.parametrize(
    ("ran", "found", "outcome"),
    [
        pytest.param(Ran(), _rows(OTHER, SECOND, FIRST), Outcome.RIGHT, id="all rows in another order"),
        pytest.param(SAID_A, EXPECTED, Outcome.RIGHT, id="all rows and a report of what is no row"),
        pytest.param(Ran(), _rows(FIRST, OTHER), Outcome.SILENT, id="a missing row"),
        pytest.param(SAID_A, _rows(FIRST, OTHER), Outcome.INCOMPLETE, id="a missing row that was reported"),
        pytest.param(SAID_A, _rows(FIRST, SECOND), Outcome.SILENT, id="a missing company and a report of another"),
        pytest.param(Ran(), _rows(FIRST, SECOND, SECOND, OTHER), Outcome.SILENT, id="a doubled row"),
        pytest.param(Ran(), _rows(FIRST, SHIFTED, OTHER), Outcome.SILENT, id="a row with its values shifted"),
        pytest.param(SAID_A, _rows(FIRST, SHIFTED, OTHER), Outcome.SILENT, id="a report and a wrong row"),
        pytest.param(Ran(), EXPECTED + _rows(("x", *FIRST[1:])), Outcome.SILENT, id="a row too many"),
        pytest.param(Ran(), _rows(FIRST, SECOND, (*OTHER[:6], None)), Outcome.SILENT, id="a row without its company"),
        pytest.param(Ran(), Counter(), Outcome.SILENT, id="nothing, and no error"),
        pytest.param(Ran(error="torn"), Counter(), Outcome.FAILS, id="an error, and nothing is there"),
        pytest.param(Ran(error="torn"), _rows(FIRST), Outcome.INCOMPLETE, id="an error, and a part is there"),
        pytest.param(Ran(error="-9", crashed=True), EXPECTED, Outcome.CRASHES, id="a crash, whatever is there"),
    ],
)
def test_judge_gives_each_outcome_its_name(ran: Ran, found: Counter[Row], outcome: Outcome) -> None:
    assert judge(ran, found=found, expected=EXPECTED) is outcome


@pytest.mark.parametrize(
    "spelling",
    [
        ("2020-01-02 00:00:00", "1e1", "12.0", " 9", "011", "1000.00", "/folder/a.csv"),
        ("2020-01-02 00:00:00+00", "10", "12", "9", "11", "1e3", "file:///folder/a.csv.gz"),
    ],
)
def test_row_is_compared_by_what_it_means(spelling: tuple[str, ...]) -> None:
    assert comparable(spelling) == comparable(FIRST)


@pytest.mark.parametrize(
    "spelling",
    [
        ("2020-01-02 10:00:00", *FIRST[1:]),
        ("02/01/2020", *FIRST[1:]),
        (*FIRST[:5], "nan", "a.csv"),
        (*FIRST[:5], None, "a.csv"),
        (*FIRST[:5], "10,00", "a.csv"),
        (*FIRST[:6], "A.csv"),
    ],
)
def test_row_that_means_something_else_is_another_row(spelling: tuple[str | None, ...]) -> None:
    assert comparable(spelling) != comparable(FIRST)
    assert comparable(spelling) == comparable(spelling)


def test_columns_are_found_by_name_and_further_ones_are_left_out() -> None:
    table = rows_of(("path", "OpenInt", *reversed(COLUMNS[:6])), [("x/a.csv", "0", *reversed(FIRST[:6]))])
    assert table == _rows(FIRST)
    assert rows_of(COLUMNS[:6], [FIRST[:6]]) == _rows((*FIRST[:6], None))


def test_case_without_a_good_company_gets_one(tmp_path: Path) -> None:
    folder, index, expected = lay_out(read_case("zstandard"), tmp_path)
    assert {file.name for file in folder.iterdir()} > {"good.us.csv"}
    assert "'good.us.csv'" in index.read_text()
    assert sum(expected.values()) == sum(expected_rows(read_case("zstandard")).values()) + 2


def test_way_that_fails_crashes_or_hangs_is_reported_and_does_not_end_the_worker(tmp_path: Path) -> None:
    program = (
        "import json, os, signal, sys, time\n"
        "from pathlib import Path\n"
        "from tests.proof.dirt import worker\n"
        "from tests.proof.dirt.batch import Batch\n"
        "worker.SECONDS = 0.5\n"
        "ways = [lambda _: {'a.csv': 'left out'}, lambda _: 1 / 0, lambda _: sys.exit(3),\n"
        "        lambda _: os.kill(os.getpid(), signal.SIGSEGV), lambda _: time.sleep(60)]\n"
        "root = Path(sys.argv[1])\n"
        "print(json.dumps([worker._run(way, Batch(root / str(n) / 'Stocks', '')) for n, way in enumerate(ways)]))\n"
    )
    for number in range(5):
        (tmp_path / str(number)).mkdir()
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert json.loads(done.stdout) == [
        {"said": {"a.csv": "left out"}},
        {"error": "ZeroDivisionError: division by zero"},
        {"error": "SystemExit: 3", "crashed": True},
        {"error": "ended with -11", "crashed": True},
        {"error": "stopped after 0.5 s", "crashed": True},
    ]


def test_kept_outcomes_are_those_of_these_ways_and_of_cases_that_are_there() -> None:
    facts, table = kept.read()
    names = {case.folder.name for case in dirty_cases()}
    assert facts["ways"] == [way.name for way in WAYS]
    assert {len(outcomes) for outcomes in table.values()} == {len(WAYS)}
    assert set(table) <= names
    assert set(contestable()) <= names


def test_this_project_was_right_in_every_case() -> None:
    _, table = kept.read()
    [ours] = [number for number, way in enumerate(WAYS) if way.kind is Kind.OURS]
    assert [case for case, outcomes in table.items() if outcomes[ours] is not Outcome.RIGHT] == []


def test_readme_and_table_say_what_was_counted() -> None:
    _, table = kept.read()
    rows = json.loads((proof.FOLDER / "dirt.json").read_text(encoding="utf-8"))["rows"]
    assert rows == kept.rows(table)
    assert kept.sentence() in (ROOT / "README.md").read_text(encoding="utf-8").replace("\n", " ")
