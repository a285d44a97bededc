"""Behind a real pgbouncer in transaction mode: what a load sets reaches no other client, and all commands work."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest

import etl
from etl.audit import undo, verify
from etl.errors import SettingsError
from etl.table.database import QUERIES, connect, sql
from etl.table.schema import make_tables
from tests.support.batch_files import process
from tests.support.pgbouncer import MISSING, pgbouncer, pgbouncer_program

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.database import Database

Days = Callable[..., list[str]]
needs_pgbouncer = pytest.mark.skipif(pgbouncer_program() is None, reason=MISSING)
OF_A_SESSION = (
    "SELECT current_setting('lock_timeout'), nullif(current_setting('moving_big_data.loading', true), ''), "
    "current_setting('search_path'), current_setting('work_mem'), "
    "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), (SELECT count(*) FROM pg_prepared_statements), "
    "(SELECT count(*) FROM pg_class WHERE relpersistence = 't' AND relname IN ('incoming_rows', 'differences'))"
)


@pytest.fixture
def pooled(database: Database, stack_directory: Path) -> Iterator[str]:
    """The database's URL through a pgbouncer that shares one session among all clients."""
    with pgbouncer(database, stack_directory / f"pgbouncer-{database.name}") as url:
        yield url


def answer(url: str, query: str) -> list[tuple[object, ...]]:
    """What another client of the pooler sees, in a transaction of its own."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        found = cursor.fetchall() if cursor.description else []
        connection.commit()
        return found


@needs_pgbouncer
def test_nothing_that_a_command_sets_reaches_the_next_client_of_the_pooler(
    three: Files, pooled: str, days: Days
) -> None:
    session = answer(pooled, "SELECT pg_backend_pid()")
    before = answer(pooled, OF_A_SESSION)

    def load(**target: Any) -> etl.Receipt:  # noqa: ANN401
        return etl.run(three.job(), target=etl.Target(pooled, **target), run=etl.Run.begin("test"))

    def changed() -> etl.Receipt:
        three.put("aa.us.csv", days(5, price=11))
        three.put("cc.us.csv", days(24, price=30))
        return load()

    commands: dict[str, Callable[[], object]] = {
        "init-db": lambda: make_tables(pooled),
        "first load": load,
        "unchanged": load,
        "changed": changed,
        "reload": lambda: load(reload=True),
        "dry run": lambda: load(dry_run=True),
        "undo": lambda: undo(pooled, run=etl.Run.begin("test")),
        "read_prices": lambda: etl.read_prices(database=pooled),
        "as of": lambda: etl.read_prices(database=pooled, as_of="2099-01-01T00:00+00:00"),
        "verify": lambda: list(verify(pooled)),
        "history": lambda: etl.read_history(pooled),
    }
    for name, command in commands.items():
        command()
        assert answer(pooled, OF_A_SESSION) == before, name
    assert answer(pooled, "SELECT pg_backend_pid()") == session  # it was one session all the time


@needs_pgbouncer
def test_manual_change_through_the_pooler_after_a_load_is_noticed(
    three: Files, database: Database, pooled: str
) -> None:
    etl.run(three.job(), target=etl.Target(pooled), run=etl.Run.begin("test"))
    answer(pooled, "UPDATE historical_stocks_data SET open_value = '77' WHERE stock_date = '2001-01-02'")
    assert database.rows("SELECT operation FROM changes_by_hand") == [("UPDATE",)]
    receipt = etl.run(three.job(), target=etl.Target(pooled), run=etl.Run.begin("test"))
    assert any("Somebody wrote to the table (UPDATE by" in note for note in receipt.notes)


@needs_pgbouncer
def test_load_that_fails_behind_the_pooler_leaves_its_session_clean(
    three: Files, database: Database, pooled: str, days: Days
) -> None:
    etl.run(three.job(), target=etl.Target(pooled), run=etl.Run.begin("test"))
    before = answer(pooled, OF_A_SESSION)
    database.execute("CREATE RULE none AS ON INSERT TO historical_stocks_data DO INSTEAD NOTHING")
    three.put("aa.us.csv", days(5, price=11))
    process(three.job())
    with pytest.raises(etl.SettingsError, match="trigger, rule"):
        etl.load(three.job(), target=etl.Target(pooled), run=etl.Run.begin("test"))
    assert answer(pooled, OF_A_SESSION) == before


@needs_pgbouncer
@pytest.mark.parametrize(
    ("change", "advice"),
    [
        (lambda url: url.replace("/stocks", "/nowhere"), "there is no such database"),
        (lambda url: f"{url}?options=-csearch_path%3Dpublic", "ignore_startup_parameters"),
        (lambda url: re.sub(":[^:@]+@", ":wrong@", url), "refuses the user name or the password"),
        (lambda url: re.sub("//[^:]+:", "//stranger:", url), "refuses the user name or the password"),
    ],
    ids=["database", "startup parameter", "password", "user"],
)
def test_refusal_of_the_pooler_itself_is_quoted(pooled: str, change: Callable[[str], str], advice: str) -> None:
    with pytest.raises(SettingsError, match=advice) as caught, connect(change(pooled)):
        pass
    assert "The server says: " in str(caught.value)
    assert "no answer" not in str(caught.value)


def test_every_setting_lock_and_table_of_ours_ends_with_its_transaction() -> None:
    texts = [*QUERIES.values(), sql("schema"), sql("journal_schema"), sql("loader")]
    whole = "\n".join(re.sub(r"--.*", "", text) for text in texts)
    settings = [one.strip() for one in whole.split(";") if one.strip().startswith(("SET ", "RESET "))]
    assert [one for one in settings if not one.startswith(("SET LOCAL ", "SET TRANSACTION "))] == []
    assert set(re.findall(r"set_config\([^;]*?, (true|false)\)", whole)) == {"true"}
    assert set(re.findall(r"pg_\w*advisory\w*lock\w*", whole)) <= {"pg_try_advisory_xact_lock", "pg_advisory_xact_lock"}
    assert all("ON COMMIT DROP" in text for text in texts if "CREATE TEMPORARY TABLE" in text)
    assert re.findall(r"\b(?:PREPARE|LISTEN|DECLARE \w+ CURSOR|LOAD)\b", whole) == []
