"""Questions of several statements about the past: what is loaded or undone between two of them changes no answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

import etl
from etl import audit
from etl.table import database as etl_database

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.database import Database

Days = Callable[..., list[str]]


@pytest.fixture
def corrected(three: Files, database: Database, days: Days) -> etl.Receipt:
    """The receipt of the second load, which restated aa.us.csv."""
    three.load(database)
    three.put("aa.us.csv", days(5, price=11))
    return three.load(database)


def _after(monkeypatch: pytest.MonkeyPatch, module: str, name: str, act: Callable[[], object]) -> None:
    """Once, right after this module has run the named query."""
    todo = [act]

    def query(cursor: Any, asked: str, **values: object) -> Any:  # noqa: ANN401  as the real one
        rows = etl_database.query(cursor, asked, **values)
        if asked == name and todo:
            todo.pop()()
        return rows

    monkeypatch.setattr(f"{module}.query", query)


def test_diff_shows_a_run_although_a_load_lets_the_journal_go_meanwhile(
    three: Files, database: Database, days: Days, corrected: etl.Receipt, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = audit.diff(database.url, corrected.run_id, rows=True)
    three.put("cc.us.csv", days(21, price=30))
    load = lambda: three.load(database, journal_days=0)  # noqa: E731
    _after(monkeypatch, "etl.table.history", "journal_gap", load)
    assert audit.diff(database.url, corrected.run_id, rows=True) == before
    assert [one.changed for one in before.companies] == [5]


def test_trace_names_the_run_of_the_row_that_it_shows_although_that_is_undone_meanwhile(
    database: Database, corrected: etl.Receipt, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = audit.trace(database.url, "aa.us.csv", "2001-01-02")
    undo = lambda: audit.undo(database.url, run=etl.Run.begin("undo"))  # noqa: E731
    _after(monkeypatch, "etl.audit", "row_of_day", undo)
    assert audit.trace(database.url, "aa.us.csv", "2001-01-02") == before
    assert before.run_id == corrected.run_id


def test_prices_as_of_a_run_are_those_of_the_run_although_it_is_undone_meanwhile(
    database: Database, corrected: etl.Receipt, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = etl.read_prices(as_of=corrected.run_id, database=database.url)
    undo = lambda: audit.undo(database.url, run=etl.Run.begin("undo"))  # noqa: E731
    _after(monkeypatch, "etl.table.history", "loads_of_run", undo)
    assert etl.read_prices(as_of=corrected.run_id, database=database.url).equals(before)
    with pytest.raises(etl.SettingsError, match="was undone by run"):
        etl.read_prices(as_of=corrected.run_id, database=database.url)
