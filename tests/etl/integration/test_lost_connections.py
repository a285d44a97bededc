"""Sessions that end in the middle of a load, or during its COMMIT: the same result afterwards, exactly once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

import etl
from etl.table.undo import was_committed
from tests.support.batch_files import process
from tests.support.database_proxy import DatabaseProxy, Fault

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.commands import Command
    from tests.support.database import Database

Days = Callable[..., list[str]]


@pytest.fixture
def cutting_proxy(database: Database) -> Iterator[Callable[..., DatabaseProxy]]:
    """Cuts connections at COMMIT: `before` it is passed on, or when the server has answered and no client will know."""
    with contextlib.ExitStack() as stack:

        def make(*, before: bool, cuts: int = 1) -> DatabaseProxy:
            fault = Fault("cut", to_server=before)
            return stack.enter_context(DatabaseProxy(database.server.port, fault, times=cuts))

        yield make


def _run(files: Files, url: str, run: etl.Run) -> etl.Receipt:
    return etl.run(files.job(), target=etl.Target(url), run=run)


def _load(files: Files, url: str, run: etl.Run) -> etl.Receipt:
    process(files.job(), run=run)
    return etl.load(files.job(), target=etl.Target(url), run=run)


Move = Callable[["Files", str, etl.Run], etl.Receipt]
both_ways = pytest.mark.parametrize("move", [_run, _load])


def _assert_whole_and_once(files: Files, database: Database, receipt: etl.Receipt) -> None:
    in_file = sorted(tuple(cell or None for cell in line.split(",")) for line in files.combined.decode().splitlines())
    assert sorted(database.table()) == in_file
    assert receipt.state == "success"
    assert database.rows("SELECT run_id, state FROM pipeline_runs") == [(receipt.run_id, "success")]
    assert {(name, rows) for name, _, _, rows, _, _ in database.ledger()} == set(database.companies().items())
    assert files.receipts()[receipt.run_id]["rows"] == {
        name: count for name, count in vars(receipt.rows).items() if count is not None
    }


@both_ways
@pytest.mark.usefixtures("hurried")
def test_session_killed_in_the_middle_of_a_first_copy_is_made_good(
    three: Files, database: Database, move: Move
) -> None:
    with ThreadPoolExecutor(1) as pool:
        with database.copy_stopped_at("2001-01-08") as stopped:
            moving = pool.submit(move, three, database.url, etl.Run.begin("test"))
            database.kill(stopped())
            assert database.count() == 0
        receipt = moving.result(20)
    assert (receipt.rows.inserted, receipt.rows.deleted, receipt.rows.unchanged) == (35, 0, 0)
    _assert_whole_and_once(three, database, receipt)


@both_ways
@pytest.mark.usefixtures("hurried")
def test_session_killed_between_delete_and_copy_leaves_the_old_rows_until_it_is_made_good(
    three: Files, database: Database, days: Days, move: Move
) -> None:
    three.load(database)
    places = database.places()
    three.put("cc.us.csv", days(20, price=31))
    three.put("dd.us.csv", days(3))
    three.name("aa.us.csv", "bb.us.csv", "cc.us.csv", "dd.us.csv")
    with ThreadPoolExecutor(1) as pool:
        with database.copy_stopped_at("2001-01-18") as stopped:
            moving = pool.submit(move, three, database.url, etl.Run.begin("test"))
            database.kill(stopped())
            assert database.places() == places
        receipt = moving.result(20)
    assert (receipt.rows.inserted, receipt.rows.deleted, receipt.rows.unchanged) == (23, 20, 15)
    database.execute("DELETE FROM pipeline_runs WHERE run_id <> %s", receipt.run_id)
    _assert_whole_and_once(three, database, receipt)


@pytest.mark.parametrize("at", [1, 12, 39])
@pytest.mark.usefixtures("hurried")
def test_session_killed_while_files_are_still_being_processed_is_made_good(
    sample: Files, database: Database, at: int
) -> None:
    def kill(*, done: int, total: int) -> None:
        if done == at:
            database.kill(database.wait_for_session("state = 'active'"))

    run = etl.Run.begin("test")
    receipt = etl.run(sample.job(), target=etl.Target(database.url), run=run, progress=kill)
    assert receipt.rows.inserted == receipt.rows.accepted == database.count()
    _assert_whole_and_once(sample, database, receipt)


@both_ways
@pytest.mark.usefixtures("hurried")
def test_connection_lost_after_commit_took_effect_loads_nothing_twice(
    three: Files, database: Database, cutting_proxy: Callable[..., DatabaseProxy], move: Move
) -> None:
    proxy = cutting_proxy(before=False)
    url = proxy.url(database.url, database.server.port)
    receipt = move(three, url, etl.Run.begin("test"))
    assert proxy.times_left == 0
    assert (receipt.rows.inserted, receipt.rows.unchanged) == (35, 0)
    _assert_whole_and_once(three, database, receipt)


@pytest.mark.parametrize("is_killed", [False, True], ids=["at first", "in the second attempt"])
def test_failure_before_any_commit_says_that_nothing_was_loaded(
    sample: Files, database: Database, monkeypatch: pytest.MonkeyPatch, is_killed: bool
) -> None:
    renamed = "ALTER TABLE historical_stocks_data RENAME COLUMN volume_traded TO volume"

    def kill(*, done: int, total: int) -> None:
        if done == 1:
            database.kill(database.wait_for_session("state = 'active'"))

    if is_killed:
        monkeypatch.setattr("etl.table.load.time.sleep", lambda _: database.execute(renamed))
    else:
        database.execute(renamed)
    run, target = etl.Run.begin("test"), etl.Target(database.url)
    with pytest.raises(etl.SettingsError, match=r"was altered .*Nothing was loaded\."):
        etl.run(sample.job(), target=target, run=run, progress=kill if is_killed else None)
    assert database.count() == 0


@pytest.fixture
def loaded_twice(three: Files, database: Database, days: Days) -> Files:
    three.load(database)
    three.put("cc.us.csv", days(25, price=30))
    three.load(database)
    return three


@pytest.mark.usefixtures("loaded_twice")
def test_undo_whose_commit_was_not_answered_finds_out_that_it_was_done(
    database: Database, cutting_proxy: Callable[..., DatabaseProxy], command: Command
) -> None:
    proxy = cutting_proxy(before=False)
    answer = command("undo", "--yes", "--database-url", proxy.url(database.url, database.server.port))
    assert (answer.code, answer.err) == (0, "")
    assert proxy.times_left == 0
    assert answer.out.startswith("Undid 1 run")
    assert database.count() == 35


@pytest.mark.usefixtures("loaded_twice")
def test_undo_whose_commit_did_not_reach_the_server_says_that_nothing_was_undone(
    database: Database, cutting_proxy: Callable[..., DatabaseProxy], command: Command
) -> None:
    url = cutting_proxy(before=True).url(database.url, database.server.port)
    answer = command("undo", "--yes", "--database-url", url)
    assert answer.code == 3
    assert answer.err.endswith("Nothing was undone.\n")
    assert database.count() == 40


@pytest.mark.usefixtures("loaded_twice")
def test_undo_whose_commit_was_not_answered_and_cannot_be_asked_for_says_where_to_look(
    database: Database, cutting_proxy: Callable[..., DatabaseProxy], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = cutting_proxy(before=False)

    def hide(_: float) -> None:
        proxy.server_port = 1  # nothing listens there

    monkeypatch.setattr("etl.table.undo.time.sleep", hide)
    answer = command("undo", "--yes", "--database-url", proxy.url(database.url, database.server.port))
    assert answer.code == 3
    [(undo,)] = database.rows("SELECT run_id FROM loads WHERE kind = 'undo'")
    assert f"Whether the undo was committed is not known. It was if `mbd history` has its run, {undo}" in answer.err


@pytest.mark.parametrize(
    ("was_done", "said"), [(True, "The undo was committed, as run undo__"), (False, "Nothing was")]
)
@pytest.mark.usefixtures("loaded_twice")
def test_undo_that_is_interrupted_says_whether_it_was_done(
    database: Database, command: Command, monkeypatch: pytest.MonkeyPatch, was_done: bool, said: str
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"etl.{'cli._mail' if was_done else 'table.undo.insert_record'}", interrupt)
    answer = command("undo", "--yes", "--database-url", database.url)
    assert answer.code == 130
    first, second = answer.err.splitlines()
    assert first.startswith(said)
    assert second == "interrupted: the table holds the old batch or the new one, whole"
    assert database.count() == (35 if was_done else 40)


@both_ways
def test_failure_after_a_commit_that_was_not_answered_does_not_say_that_nothing_was_loaded(
    three: Files,
    database: Database,
    cutting_proxy: Callable[..., DatabaseProxy],
    move: Move,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = cutting_proxy(before=False).url(database.url, database.server.port)
    renamed = "ALTER TABLE historical_stocks_data RENAME COLUMN volume_traded TO volume"
    monkeypatch.setattr("etl.table.load.time.sleep", lambda _: database.execute(renamed))
    with pytest.raises(
        etl.SettingsError, match=r"was altered .*\. The table holds the old batch or the new one, whole\."
    ):
        move(three, url, etl.Run.begin("test"))
    assert database.count() == 35
    assert "Nothing was loaded" not in str(three.receipts())


def test_failure_after_a_commit_that_is_known_not_to_have_been_says_that_nothing_was_loaded(
    three: Files, database: Database, cutting_proxy: Callable[..., DatabaseProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = cutting_proxy(before=True).url(database.url, database.server.port)
    refuse = (
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no more rows'; END $$; "
        "CREATE TRIGGER refuse BEFORE INSERT ON historical_stocks_data EXECUTE FUNCTION refuse()"
    )
    monkeypatch.setattr("etl.table.load.time.sleep", lambda _: database.execute(refuse))
    with pytest.raises(etl.SettingsError, match=r"no more rows\. Nothing was loaded\."):
        _load(three, url, etl.Run.begin("test"))
    assert database.count() == 0


def test_undo_whose_commit_is_still_under_way_is_waited_for(database: Database) -> None:
    waiting = "SELECT FROM pg_stat_activity WHERE query LIKE '%pg_try_advisory%' AND pid <> pg_backend_pid()"
    with contextlib.closing(database.session()) as session, session.cursor() as cursor, ThreadPoolExecutor(1) as pool:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('historical_stocks_data'))")
        cursor.execute("INSERT INTO loads VALUES (1, 'undo', 'undo', now())")
        found = pool.submit(was_committed, database.url, "undo")
        while not found.done() and not database.rows(waiting):
            time.sleep(0.01)
        session.commit()
        assert found.result(10)


@both_ways
@pytest.mark.usefixtures("hurried")
def test_connection_lost_before_commit_reached_the_server_loads_again(
    three: Files, database: Database, cutting_proxy: Callable[..., DatabaseProxy], move: Move
) -> None:
    proxy = cutting_proxy(before=True, cuts=2)
    url = proxy.url(database.url, database.server.port)
    receipt = move(three, url, etl.Run.begin("test"))
    assert proxy.times_left == 0
    assert (receipt.rows.inserted, receipt.rows.unchanged) == (35, 0)
    _assert_whole_and_once(three, database, receipt)


@both_ways
@pytest.mark.usefixtures("hurried")
def test_connection_that_is_lost_every_time_fails_after_four_attempts_with_the_table_as_it_was(
    three: Files, database: Database, days: Days, cutting_proxy: Callable[..., DatabaseProxy], move: Move
) -> None:
    three.load(database)
    places, ledger = database.places(), database.ledger()
    three.put("aa.us.csv", days(6, price=11))
    proxy = cutting_proxy(before=True, cuts=99)
    url = proxy.url(database.url, database.server.port)
    with pytest.raises(etl.ServiceError, match="The database connection was lost"):
        move(three, url, etl.Run.begin("test"))
    assert 99 - proxy.times_left in {4, 5}  # `run` has one more: the overlapped one
    assert (database.places(), database.ledger(), database.states()) == (places, ledger, ["success"])


@pytest.mark.usefixtures("hurried")
def test_outputs_are_there_although_the_database_went_away_for_good(
    three: Files, database: Database, closed_port: int
) -> None:
    url = database.url.replace(f":{database.server.port}/", f":{closed_port}/")
    with pytest.raises(etl.ServiceError, match="connection refused"):
        _run(three, url, etl.Run.begin("test"))
    assert {
        "flagged_rows.csv",
        "historical_stock_data.csv",
        "manifest.json",
        "rejected_rows.csv",
        "rejected_rows.jsonl",
    } == three.outputs().keys()
    receipt = etl.load(three.job(), target=etl.Target(database.url), run=etl.Run.begin("test"))
    assert receipt.rows.inserted == 35
    assert database.count() == 35


@pytest.mark.usefixtures("hurried")
def test_error_of_a_file_is_not_taken_for_a_lost_connection(three: Files, database: Database) -> None:
    def stop(*, done: int, total: int) -> None:
        if done == 2:
            raise etl.BatchError("the third file is one too many")

    with pytest.raises(etl.BatchError, match="one too many"):
        etl.run(three.job(), target=etl.Target(database.url), run=etl.Run.begin("test"), progress=stop)
    assert (database.count(), database.ledger(), database.states()) == (0, [], [])
    assert three.outputs() == {}


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_interrupted_run_leaves_table_and_outputs(
    three: Files, database: Database, days: Days, stop: type[BaseException]
) -> None:
    three.load(database)
    before = database.places(), database.ledger(), three.outputs()
    three.put("dd.us.csv", days(8))
    three.name("dd.us.csv", "aa.us.csv", "bb.us.csv", "cc.us.csv")

    def interrupt(*, done: int, total: int) -> None:
        if done == 2:
            raise stop

    with pytest.raises(stop):
        etl.run(three.job(), target=etl.Target(database.url), run=etl.Run.begin("test"), progress=interrupt)
    assert (database.places(), database.ledger(), three.outputs()) == before
    assert [path.name for path in three.output.iterdir() if path.name.endswith(".partial")] == []
    assert three.load(database).rows.inserted == 8
