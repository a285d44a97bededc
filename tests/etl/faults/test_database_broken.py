"""A connection to PostgreSQL that breaks at any byte of a run: the table is old or new, and right in the end."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import pytest

import etl
from tests.support.batch_files import process
from tests.support.database_proxy import DatabaseProxy, Fault
from tests.support.figures import check_ledger

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.database import Database
    from tests.support.figures import Figures

Days = Callable[..., list[str]]
POINTS = int(os.environ.get("MBD_FAULT_POINTS", "12"))  # of each direction, each way to break and each way to move


def _run(files: Files, url: str) -> etl.Receipt:
    return etl.run(files.job(), target=etl.Target(url), run=etl.Run.begin("test"))


def _load(files: Files, url: str) -> etl.Receipt:
    run = etl.Run.begin("test")
    process(files.job(), run=run)
    return etl.load(files.job(), target=etl.Target(url), run=run)


@pytest.fixture
def changed(three: Files, database: Database, days: Days) -> Callable[[], Files]:
    """Makes the table that of an old batch, and the files those of a new one: grown, changed, unchanged, another."""
    grown, old = days(25, price=30), {path: path.read_bytes() for path in three.source.iterdir()}

    def begin() -> Files:
        database.execute("TRUNCATE historical_stocks_data, loaded_companies, pipeline_runs, changes_by_hand")
        for path, content in old.items():
            path.write_bytes(content)
        three.name("aa.us.csv", "bb.us.csv", "cc.us.csv")
        three.load(database)
        three.put("bb.us.csv", days(10, price=21))
        three.put("cc.us.csv", grown)
        three.put("dd.us.csv", days(400, price=5))
        three.name("aa.us.csv", "bb.us.csv", "cc.us.csv", "dd.us.csv")
        return three

    return begin


@pytest.mark.parametrize("move", [_run, _load])
@pytest.mark.parametrize("how", ["cut", "reset"])
@pytest.mark.parametrize("to_server", [True, False], ids=["to the server", "from the server"])
@pytest.mark.usefixtures("hurried")
def test_connection_that_breaks_at_any_byte_once_is_made_good(
    changed: Callable[[], Files],
    database: Database,
    figures: Figures,
    move: Callable[[Files, str], etl.Receipt],
    how: Literal["cut", "reset"],
    to_server: bool,
) -> None:
    with DatabaseProxy(database.server.port) as whole:
        files = changed()
        new = move(files, whole.url(database.url, database.server.port)).rows
    length = whole.most_passed[to_server]
    points = random.Random(f"{move.__name__} {how} {to_server}")
    for at_byte in [0, 1, 8, *(points.randrange(length) for _ in range(POINTS))]:
        files = changed()
        with DatabaseProxy(database.server.port, Fault(how, to_server=to_server, at_byte=at_byte)) as proxy:
            receipt = move(files, proxy.url(database.url, database.server.port))
        assert proxy.struck.is_set(), f"byte {at_byte} of {length}"
        assert receipt.rows == new, f"byte {at_byte} of {length}"
        assert database.states() == ["success", "success"], f"byte {at_byte} of {length}"
        figures.check_truth(files, database)
        figures.counts["faults_injected"] += 1


@pytest.mark.parametrize("to_server", [True, False], ids=["to the server", "from the server"])
@pytest.mark.usefixtures("hurried")
def test_connection_that_breaks_every_time_leaves_the_old_or_the_new_batch_and_the_next_run_repairs(
    changed: Callable[[], Files], database: Database, figures: Figures, to_server: bool
) -> None:
    with DatabaseProxy(database.server.port) as whole:
        files = changed()
        _run(files, whole.url(database.url, database.server.port))
    new = database.table()
    points, length = random.Random(f"every time {to_server}"), whole.most_passed[to_server]
    for at_byte in [0, *(points.randrange(length) for _ in range(POINTS))]:
        files = changed()
        old = database.table()
        fault = Fault("reset", to_server=to_server, at_byte=at_byte)
        with DatabaseProxy(database.server.port, fault, times=99) as proxy:
            try:
                told = str(_run(files, proxy.url(database.url, database.server.port)).state)
            except etl.ServiceError as error:
                told = str(error)
        assert 1 <= 99 - proxy.times_left <= 5, f"byte {at_byte} of {length}"
        check_ledger(database)
        found = database.table()
        assert found in ([new] if told == "success" else [old, new]), f"byte {at_byte} of {length}: {told}"
        _run(files, database.url)
        figures.check_truth(files, database)
        figures.counts["faults_injected"] += 99 - proxy.times_left
