"""One table, found in one schema by every command, whatever else the search path has; and init-db hides none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import psycopg2
import pytest

import etl
from etl.audit import diff, trace, undo, verify
from etl.table.schema import make_tables

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.commands import Command
    from tests.support.database import Database

Days = Callable[..., list[str]]
PASSWORD = "of-the-loader"
DECOYS = ("loaded_companies", "pipeline_runs", "changes_by_hand", "price_changes", "stock_prices_as_written")


def at(database: Database, search_path: str) -> str:
    return f"{database.url}?options=-csearch_path%3D{search_path}"


@pytest.fixture
def loader(database: Database) -> Iterator[str]:
    """The URL of a user with rights on the tables in public, and with a schema of its own name that comes first."""
    role = f"loader_of_{database.name}"
    database.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
    database.execute(f"CREATE SCHEMA AUTHORIZATION {role}")
    database.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
    database.execute(f"GRANT CREATE ON SCHEMA public TO {role}")
    yield f"postgresql://{role}:{PASSWORD}@127.0.0.1:{database.server.port}/{database.name}"
    database.execute(f"DROP OWNED BY {role} CASCADE")
    database.execute(f"DROP ROLE {role}")


def tables(database: Database) -> list[str]:
    found = database.rows(
        "SELECT relnamespace::regnamespace::text FROM pg_class WHERE relname = 'historical_stocks_data' ORDER BY 1"
    )
    return [schema for (schema,) in found]


@pytest.mark.parametrize("decoys", [(), DECOYS], ids=["alone", "before decoys"])
def test_table_in_public_is_the_one_that_every_command_of_a_loader_with_a_schema_uses(
    three: Files, database: Database, loader: str, command: Command, days: Days, decoys: tuple[str, ...]
) -> None:
    role = f"loader_of_{database.name}"
    for name in decoys:
        database.execute(f"CREATE TABLE {role}.{name} (none_of_ours int)")
        database.execute(f"ALTER TABLE {role}.{name} OWNER TO {role}")
    places = ("--source", three.source, "--company-index", three.index, "--output", three.output, "--quiet")
    for step in range(2):
        three.put("cc.us.csv", days(20, price=30 + step))
        ran = command("run", *places, "--database-url", loader)
        assert ran.code == 0, ran.err
    assert database.count() == 35
    checked = command("check", "--database-url", loader)
    assert (checked.code, "schema public, 35 rows" in checked.out) == (0, True), checked.out
    first, second = reversed([receipt.run_id for receipt in etl.read_history(loader)])
    assert len(etl.read_prices(database=loader)) == 35
    assert len(etl.read_prices(database=loader, as_of=first)) == 35
    assert len(diff(loader, second).companies) == 1
    assert trace(loader, "cc.us.csv", "2001-01-02").row is not None
    assert list(verify(loader)) == []
    assert undo(loader, run=etl.Run.begin("test")).undone is not None
    assert tables(database) == ["public"]


def test_init_db_hides_no_table_and_names_both_ways_on(database: Database, loader: str, command: Command) -> None:
    answer = command("init-db", "--database-url", loader)
    assert answer.code == 2
    assert "is in schema public" in answer.err
    assert f"in schema loader_of_{database.name} would hide it" in answer.err
    assert "csearch_path%3Dpublic" in answer.err
    assert tables(database) == ["public"]


def test_init_db_says_where_the_tables_are(database: Database, command: Command) -> None:
    assert f"in schema public of database {database.name}." in command("init-db", "--database-url", database.url).out
    database.execute("CREATE SCHEMA second")
    answer = command("init-db", "--database-url", at(database, "second"))
    assert answer.code == 0, answer.err
    assert f"in schema second of database {database.name}." in answer.out
    assert "Another historical_stocks_data is in schema public: it was not touched." in answer.out
    assert tables(database) == ["public", "second"]
    again = command("init-db", "--database-url", at(database, "second,public"))
    assert (again.code, "in schema second" in again.out) == (0, True), again.err


def test_table_that_the_search_path_misses_is_named(three: Files, database: Database, command: Command) -> None:
    database.execute("CREATE SCHEMA prices; ALTER TABLE historical_stocks_data SET SCHEMA prices")
    places = ("--source", three.source, "--company-index", three.index, "--output", three.output, "--quiet")
    for arguments in (("run", *places), ("check",)):
        answer = command(*arguments, "--database-url", database.url)
        assert answer.code == 2
        assert "is in schema prices" in answer.out + answer.err
        assert "csearch_path%3Dprices" in answer.out + answer.err
        assert "init-db" not in answer.out + answer.err


def test_two_pipelines_in_two_schemas_never_meet(three: Files, database: Database, days: Days) -> None:
    database.execute("CREATE SCHEMA dev")
    dev = at(database, "dev")
    make_tables(dev)
    three.load(database)
    three.put("aa.us.csv", days(6, price=10))
    etl.run(three.job(), target=etl.Target(dev), run=etl.Run.begin("test"))
    assert (database.count(), database.rows("SELECT count(*) FROM dev.historical_stocks_data")) == (35, [(36,)])
    assert (list(verify(database.url)), list(verify(dev))) == ([], [])
    assert len(etl.read_prices(database=at(database, "dev,public"))) == 36


def test_index_of_one_schema_is_neither_dropped_nor_taken_for_that_of_another(three: Files, database: Database) -> None:
    index = "historical_stocks_data_company_date"
    database.execute(f"CREATE INDEX {index} ON public.historical_stocks_data (company_name, stock_date)")
    three.load(database)
    database.execute("CREATE SCHEMA dev")
    make_tables(at(database, "dev"))
    database.execute(f"CREATE INDEX {index} ON dev.historical_stocks_data (company_name, stock_date)")
    make_tables(at(database, "dev,public"))
    etl.run(three.job(), target=etl.Target(at(database, "dev,public")), run=etl.Run.begin("test"))
    found = database.rows(
        "SELECT schemaname, indexname FROM pg_indexes WHERE tablename = 'historical_stocks_data' ORDER BY 1, 2"
    )
    current = "historical_stocks_data_company_day"
    assert found == [("dev", current), ("public", index), ("public", current)]


_OLD_FUNCTIONS = """
    CREATE OR REPLACE FUNCTION {0}.stock_load_as_of(as_of timestamptz) RETURNS bigint LANGUAGE plpgsql STABLE AS
    $$ BEGIN RETURN (SELECT max(load) FROM stock_price_loads); END $$;
    CREATE OR REPLACE FUNCTION {0}.stock_price_flags_as_of(as_of timestamptz)
    RETURNS TABLE (company_name varchar, stock_date date) LANGUAGE sql STABLE AS
    $$ SELECT f.company_name, f.stock_date FROM stock_price_flags f $$;
"""


@pytest.mark.parametrize("is_old", [False, True])
def test_past_of_one_schema_is_its_own_whatever_the_search_path(
    three: Files, database: Database, days: Days, is_old: bool
) -> None:
    database.execute("CREATE SCHEMA dev")
    dev = at(database, "dev")
    make_tables(dev)
    if is_old:  # what an earlier version made: bodies whose names the caller's search path finds
        for url, schema in ((database.url, "public"), (dev, "dev")):
            database.execute(_OLD_FUNCTIONS.format(schema))
            make_tables(url)
    three.put("aa.us.csv", [*days(5, price=10), "2001-02-01,10,11,9,90,1000,0"])  # flagged
    first = three.load(database)
    three.put("aa.us.csv", [*days(5, price=20)])
    etl.run(three.job(), target=etl.Target(dev), run=etl.Run.begin("test"))
    for path in ("public", "dev", "nowhere"):
        for function, rows in (("stock_prices_as_of", [36, 35]), ("stock_price_flags_as_of", [1, 0])):
            count = "SET search_path = {}; SELECT count(*) FROM {}.{}(now())"
            found = [database.rows(count.format(path, name, function)) for name in ("public", "dev")]
            assert [row[0][0] for row in found] == rows, (path, function)
    database.execute("UPDATE dev.loads SET journal_kept = false")
    with pytest.raises(psycopg2.errors.InvalidParameterValue, match="the journal begins"):
        database.rows("SELECT * FROM dev.stock_prices_as_of(now() - interval '1 day')")
    assert len(etl.read_prices(database=database.url, as_of=first.run_id)) == 36


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("CREATE VIEW historical_stocks_data AS SELECT 1 AS one", "is no table but a view"),
        ("CREATE TABLE historical_stocks_data (day date)", "not ours: day date"),
    ],
)
def test_init_db_leaves_what_else_has_the_tables_name(
    empty_database: Database, command: Command, statement: str, message: str
) -> None:
    empty_database.execute(statement)
    answer = command("init-db", "--database-url", empty_database.url)
    assert (answer.code, message in answer.err) == (2, True), answer.err
    assert empty_database.rows("SELECT to_regclass('loaded_companies')::text") == [(None,)]
