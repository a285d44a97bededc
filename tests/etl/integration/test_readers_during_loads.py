"""What a trader who asks while a load is under way is told: the batch before or the batch after, never between."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

import etl

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.database import Database

_ASK = (
    "SELECT (SELECT count(*) FROM historical_stocks_data), "
    "(SELECT coalesce(sum(tuples_processed), 0) FROM pg_stat_progress_copy)"
)


@contextmanager
def polling(database: Database) -> Iterator[list[tuple[int, int]]]:
    """Asks all the time, in one session: rows that a reader sees, and rows that a COPY under way has put by then."""
    seen: list[tuple[int, int]] = []
    over = threading.Event()

    def poll() -> None:
        session = database.session()
        session.autocommit = True
        with session.cursor() as cursor:
            while not over.is_set():
                cursor.execute(_ASK)
                seen.append(cursor.fetchall()[0])
                time.sleep(0.002)
        session.close()

    with ThreadPoolExecutor(1) as pool:
        polled = pool.submit(poll)
        try:
            wait_until(lambda: bool(seen))
            yield seen
            asked = len(seen)
            wait_until(lambda: len(seen) > asked + 1)
        finally:
            over.set()
            polled.result(30)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def load_with_questions(files: Files, database: Database, seen: list[tuple[int, int]]) -> etl.Receipt:
    """Load the sample; what writes to the table goes on from the middle only when questions have fallen into it."""
    with ThreadPoolExecutor(1) as pool:
        with database.copy_stopped_at("1962-01-02", company="ge.us.csv") as stopped:
            loading = pool.submit(files.load, database)
            stopped()
            asked = len(seen)
            wait_until(lambda: len(seen) > asked + 2)
        return loading.result(60)


def test_reader_sees_nothing_or_everything_of_a_first_load(sample: Files, database: Database) -> None:
    with polling(database) as seen:
        load_with_questions(sample, database, seen)
    assert {rows for rows, _ in seen} == {0, 76_653}
    assert any(copied > 0 for rows, copied in seen if rows == 0), "no question fell into the COPY"


def test_reader_sees_the_old_or_the_new_rows_of_a_replacement_and_is_never_kept_waiting(
    sample: Files, database: Database
) -> None:
    sample.load(database)
    for path in sample.source.iterdir():
        if path.stat().st_size > 5_000:
            head, first, _, *rows = path.read_bytes().splitlines(keepends=True)  # a day less, and other volumes
            path.write_bytes(head + re.sub(rb",(\d+),0", rb",1\1,0", b"".join([first, *rows])))
    with polling(database) as seen:
        receipt = load_with_questions(sample, database, seen)
    assert receipt.rows.deleted is not None
    assert receipt.rows.deleted > 70_000
    assert {rows for rows, _ in seen} == {76_653, database.count()}
    assert database.count() < 76_653


@pytest.mark.parametrize("reload", [False, True])
def test_reader_of_prices_table_and_ledger_sees_one_batch_while_a_copy_stands_still(
    three: Files, database: Database, days: Callable[..., list[str]], reload: bool
) -> None:
    three.load(database)
    three.put("cc.us.csv", days(20, price=31)[2:])
    before = database.table(), database.ledger(), database.states()
    with ThreadPoolExecutor(1) as pool:
        with database.copy_stopped_at("2001-01-12") as stopped:
            loading = pool.submit(three.load, database, reload=reload)
            stopped()
            assert (database.table(), database.ledger(), database.states()) == before
            assert len(database.rows("SELECT * FROM stock_prices")) == 35
        receipt = loading.result(10)
    assert database.count() == 33
    assert receipt.rows.unchanged == 15


def test_snapshot_of_a_reader_outlives_the_load(three: Files, database: Database) -> None:
    three.load(database)
    reader = database.session()
    reader.set_session(isolation_level="REPEATABLE READ", readonly=True)
    with reader.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM historical_stocks_data")
        three.name("aa.us.csv")
        three.load(database, reload=True)
        cursor.execute("SELECT * FROM historical_stocks_data ORDER BY company_name, stock_date")
        assert len(cursor.fetchall()) == 35
    reader.close()
