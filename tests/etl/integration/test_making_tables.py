"""Making the tables: many at once, and for a loader that may not build what it misses."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

import etl
from etl import audit
from etl.audit import verify
from etl.table.roles import make_loader
from etl.table.schema import COLUMNS, make_tables
from tests.support.batch_files import days_of, process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.batch_files import Files
    from tests.support.commands import Command
    from tests.support.database import Database

PASSWORD = "of-the-loader"
INDEX = "SELECT count(*) FROM pg_indexes WHERE indexname = 'historical_stocks_data_company_day'"


@pytest.fixture
def role(database: Database) -> Iterator[str]:
    """The name of a role, gone after the test with all that it was granted."""
    name = f"loader_of_{database.name}"
    yield name
    for other in ("stocks", "empty"):
        one = type(database)(database.server.url(other), database.server, other)
        if one.rows("SELECT FROM pg_roles WHERE rolname = %s", name):
            one.execute(f"DROP OWNED BY {name} CASCADE")
    database.execute(f"DROP ROLE IF EXISTS {name}")


@pytest.fixture
def owner(empty_database: Database) -> Iterator[str]:
    """The name of a role that may make tables and roles; gone after the test with what it made."""
    name = "owner_of_empty"
    empty_database.execute(f"CREATE ROLE {name} LOGIN CREATEROLE PASSWORD '{PASSWORD}'")
    empty_database.execute(f"GRANT ALL ON SCHEMA public TO {name}")
    yield name
    empty_database.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


def login(database: Database, role: str) -> str:
    return f"postgresql://{role}:{PASSWORD}@127.0.0.1:{database.server.port}/{database.name}"


def test_init_db_four_at_once_makes_everything_once(empty_database: Database, role: str, three: Files) -> None:
    for _ in range(3):
        empty_database.execute("DROP SCHEMA public CASCADE")
        empty_database.execute("CREATE SCHEMA public")
        together = threading.Barrier(4)

        def make(_: int, together: threading.Barrier = together) -> None:
            together.wait()
            make_tables(empty_database.url)
            together.wait()
            make_loader(empty_database.url, name=role, password=PASSWORD)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(make, range(4)))
    three.load(empty_database)
    assert list(verify(empty_database.url)) == []


def test_init_db_of_two_databases_of_a_server_at_once_makes_their_role_once(
    database: Database, empty_database: Database, role: str
) -> None:
    for _ in range(5):
        for one in (database, empty_database):
            if one.rows("SELECT FROM pg_roles WHERE rolname = 'stock_prices_reader'"):
                one.execute("DROP OWNED BY stock_prices_reader")
        database.execute("DROP ROLE IF EXISTS stock_prices_reader")
        together = threading.Barrier(2)

        def make(one: Database, together: threading.Barrier = together) -> None:
            together.wait()
            make_tables(one.url)

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(make, (database, empty_database)))
        granted = "SELECT has_table_privilege('stock_prices_reader', 'stock_prices', 'SELECT')"
        assert [one.rows(granted) for one in (database, empty_database)] == [[(True,)], [(True,)]]


def test_loader_that_may_not_build_the_index_says_who_can(
    three: Files, database: Database, role: str, command: Command
) -> None:
    database.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
    database.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
    process(three.job())

    def load(**options: Any) -> etl.Receipt:  # noqa: ANN401
        return etl.load(three.job(), target=etl.Target(login(database, role), **options), run=etl.Run.begin("test"))

    receipt = load()
    [note] = [note for note in receipt.notes if "historical_stocks_data_company_day" in note]
    assert "Run `mbd init-db` once as the table's owner" in note
    assert note in etl.receipt_text(receipt)
    assert note in command("check", "--database-url", login(database, role)).out
    assert not any("index" in note for note in load(table_index=False).notes)
    assert command("init-db", "--database-url", database.url).code == 0
    assert database.rows(INDEX) == [(1,)]
    assert not any("historical_stocks_data_company_day" in note for note in load().notes)
    assert "index" not in command("check", "--database-url", login(database, role)).out


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ("CREATE ROLE {} LOGIN SUPERUSER PASSWORD 'old'", "it may do more than load"),
        ("CREATE ROLE {} LOGIN CREATEROLE PASSWORD 'old'", "it may do more than load"),
        ("CREATE ROLE {} LOGIN PASSWORD 'old'; GRANT postgres TO {}", "it may do more than load"),
        ("CREATE ROLE {} LOGIN PASSWORD 'old'; GRANT stock_prices_reader TO {}", "somebody who reads"),
        ("CREATE ROLE {} LOGIN PASSWORD 'old'", "init-db did not make it"),
    ],
)
def test_role_of_somebody_else_does_not_become_a_loader(
    database: Database, role: str, command: Command, monkeypatch: pytest.MonkeyPatch, made: str, why: str
) -> None:
    monkeypatch.setenv("MBD_LOADER_PASSWORD", PASSWORD)
    database.execute(made.format(role, role))
    kept = database.rows(f"SELECT rolpassword FROM pg_authid WHERE rolname = '{role}'")
    answer = command("init-db", "--database-url", database.url, "--loader", role)
    assert answer.code == 2
    assert f"The role {role} exists, and " in answer.err
    assert why in answer.err
    assert database.rows(f"SELECT rolpassword FROM pg_authid WHERE rolname = '{role}'") == kept


def test_loader_of_an_older_version_gets_its_rights_again_and_a_role_by_consent(
    database: Database, role: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MBD_LOADER_PASSWORD", PASSWORD)
    database.execute(f"CREATE ROLE {role} LOGIN; COMMENT ON ROLE {role} IS 'A loader of mbd init-db.'")
    assert command("init-db", "--database-url", database.url, "--loader", role).code == 0
    database.execute(f"COMMENT ON ROLE {role} IS NULL")
    assert command("init-db", "--database-url", database.url, "--loader", role).code == 0
    assert database.rows(f"SELECT count(*) FROM pg_shdescription WHERE objoid = '{role}'::regrole") == [(1,)]


def test_loader_with_a_name_that_needs_quotes_is_refused(
    database: Database, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MBD_LOADER_PASSWORD", PASSWORD)
    answer = command("init-db", "--database-url", database.url, "--loader", "Bad Name")
    assert (answer.code, "'Bad Name' is no name for a login" in answer.err) == (2, True)
    assert database.rows("SELECT FROM pg_roles WHERE rolname = 'Bad Name'") == []


def test_login_that_may_write_is_no_reader(database: Database, role: str, command: Command) -> None:
    assert command("grant-reader", role, "--database-url", database.url).code == 0
    database.execute(f"GRANT DELETE ON historical_stocks_data TO {role}")
    answer = command("grant-reader", role, "--database-url", database.url)
    assert answer.code == 2
    assert f"The login {role} may also write to the table" in answer.err


def test_init_db_by_a_loader_names_the_owner(database: Database, role: str, command: Command) -> None:
    database.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
    answer = command("init-db", "--database-url", login(database, role))
    assert answer.code == 2
    assert f"belongs to postgres, and {role} may not change it." in answer.err
    assert f"Run init-db as postgres; with --loader {role}" in answer.err


def test_owner_without_the_right_to_make_things_loads_and_is_told_so(
    three: Files, database: Database, role: str
) -> None:
    database.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'")
    database.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
    database.execute(f"ALTER TABLE historical_stocks_data OWNER TO {role}")
    process(three.job())
    receipt = etl.load(three.job(), target=etl.Target(login(database, role)), run=etl.Run.begin("test"))
    assert database.count() == 35
    assert any("historical_stocks_data_company_day" in note for note in receipt.notes)


def test_loader_of_a_schema_that_is_not_public_finds_its_tables(
    three: Files, empty_database: Database, role: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty_database.execute("CREATE SCHEMA prices")
    monkeypatch.setenv("MBD_LOADER_PASSWORD", PASSWORD)
    url = f"{empty_database.url}?options=-csearch_path%3Dprices"
    assert command("init-db", "--database-url", url, "--loader", role).code == 0
    process(three.job())
    etl.load(three.job(), target=etl.Target(login(empty_database, role)), run=etl.Run.begin("test"))
    assert empty_database.rows("SELECT count(*) FROM prices.historical_stocks_data") == [(35,)]


@pytest.mark.parametrize("by", ["superuser", "owner"])
def test_loader_gets_rights_on_the_pipelines_tables_and_on_no_other(
    three: Files,
    empty_database: Database,
    role: str,
    owner: str,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    by: str,
) -> None:
    url = login(empty_database, owner) if by == "owner" else empty_database.url
    empty_database.execute("CREATE TABLE salaries (number serial, salary int)")
    monkeypatch.setenv("MBD_LOADER_PASSWORD", PASSWORD)
    answer = command("init-db", "--database-url", url, "--loader", role)
    assert (answer.code, answer.err) == (0, "")
    rights = empty_database.rows(
        "SELECT relname, relkind, has_table_privilege(%s, oid, 'SELECT'), has_table_privilege(%s, oid, 'DELETE') "
        "FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v') ORDER BY 1",
        role,
        role,
    )
    assert len(rights) > 20
    wrong = {one for one in rights if one[2:] != (one[0] != "salaries", one[0] != "salaries" and one[1] == "r")}
    assert wrong == set()
    assert empty_database.rows("SELECT has_sequence_privilege(%s, 'salaries_number_seq', 'USAGE')", role) == [(False,)]
    process(three.job())
    target = etl.Target(login(empty_database, role))
    etl.load(three.job(), target=target, run=etl.Run.begin("test"))
    three.put("aa.us.csv", days_of(5, price=11))
    etl.run(three.job(), target=target, run=etl.Run.begin("test"))
    assert audit.undo(target.database, run=etl.Run.begin("undo")).undone
    assert list(verify(target.database)) == []


_NINE = ", ".join(f"{name} varchar(56)" for name in COLUMNS)
_PARTITIONED = f"CREATE TABLE historical_stocks_data ({_NINE}) PARTITION BY HASH (company_name); " + "; ".join(
    f"CREATE TABLE part_{n} PARTITION OF historical_stocks_data FOR VALUES WITH (MODULUS 3, REMAINDER {n})"
    for n in range(3)
)
_WITH_A_CHILD = (
    f"CREATE TABLE historical_stocks_data ({_NINE}); CREATE TABLE older () INHERITS (historical_stocks_data)"
)
_MOVE = "INSERT INTO older SELECT * FROM ONLY historical_stocks_data; TRUNCATE ONLY historical_stocks_data"


@pytest.mark.parametrize("statement", [_PARTITIONED, _WITH_A_CHILD], ids=["partitioned", "with a child"])
def test_table_in_parts_takes_corrections_growth_and_an_undo(
    empty_database: Database, make_files: Callable[[str], Files], statement: str
) -> None:
    empty_database.execute(statement)
    make_tables(empty_database.url)
    files = make_files("parts")
    names = [f"c{number}.us.csv" for number in range(6)]
    for number, name in enumerate(names):
        files.put(name, days_of(20, price=10 + number))
    files.name(*names)
    files.load(empty_database)
    if statement == _WITH_A_CHILD:  # the same places again: those of other rows
        empty_database.execute(f"SET moving_big_data.loading = 'on'; {_MOVE}")
        files.put("c6.us.csv", days_of(120, price=30))
        files.name(*names, "c6.us.csv")
        files.load(empty_database)
    before = empty_database.table()
    for number in (1, 4):
        files.put(names[number], days_of(21, price=50))
    assert files.load(empty_database).rows.deleted == 40
    undone = audit.undo(empty_database.url, run=etl.Run.begin("undo")).undone
    assert (undone and undone.deleted, empty_database.table()) == (42, before)
    empty_database.execute("INSERT INTO historical_stocks_data SELECT * FROM historical_stocks_data")
    files.load(empty_database, reload=True)
    counts = empty_database.companies()
    assert [counts[name] for name in names] == [20, 21, 20, 20, 21, 20]
    assert list(verify(empty_database.url)) == []
