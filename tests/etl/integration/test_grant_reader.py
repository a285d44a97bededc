"""`mbd grant-reader`: a login that may read the views, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg2
import pytest
from psycopg2 import errors

import etl
from tests.support.commands import Command

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.database import Database

PASSWORD = re.compile(r"shown only now: (\S+)")


@pytest.fixture
def loaded(three: Files, database: Database) -> Iterator[Database]:
    three.load(database)
    yield database
    for name in ("ada", "bob", "joe"):
        if database.rows("SELECT FROM pg_roles WHERE rolname = %s", name):
            database.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


def test_login_reads_every_view_and_nothing_else(loaded: Database, command: Command) -> None:
    answer = command("grant-reader", "ada", "--database-url", loaded.url)
    assert (answer.code, answer.err) == (0, "")
    [password] = PASSWORD.findall(answer.out)
    [shown] = re.findall(r'^psql "(.*)"$', answer.out, re.MULTILINE)
    assert shown == f"postgresql://ada@127.0.0.1:{loaded.server.port}/stocks?sslmode=prefer"  # this server has no TLS
    url = shown.replace("ada@", f"ada:{password}@")
    assert len(etl.read_prices("AA", date="2001-01-02", database=url)) == 1
    [(run_id,)] = loaded.rows("SELECT run_id FROM loads")
    assert len(etl.read_prices("AA", as_of=run_id, database=url)) == 5
    assert len(etl.companies(database=url)) == 3
    connection = psycopg2.connect(url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for view in ("stock_latest_prices", "stock_returns", "stock_batch_status", "stock_price_changes"):
            cursor.execute(f"SELECT * FROM {view}")
            assert cursor.fetchall()
        for statement in (
            "SELECT * FROM loaded_companies",
            "SELECT 1 FROM historical_stocks_data",
            "SELECT 1 FROM pipeline_runs",
            "SELECT 1 FROM price_changes",
            "DELETE FROM stock_prices",
            "CREATE TABLE mine (a int)",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                cursor.execute(statement)
    connection.close()


def test_blanks_around_the_url_do_not_matter(loaded: Database, command: Command) -> None:
    answer = command("grant-reader", "ada", "--database-url", f" {loaded.url}\n")
    assert (answer.code, answer.err) == (0, "")
    assert f"ada@127.0.0.1:{loaded.server.port}/stocks" in answer.out


def test_second_time_leaves_the_password_and_prints_none(
    loaded: Database, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    [first] = PASSWORD.findall(command("grant-reader", "ada", "--database-url", loaded.url).out)
    again = command("grant-reader", "ada", "--database-url", loaded.url)
    assert (again.code, PASSWORD.findall(again.out), "as it was" in again.out) == (0, [], True)
    _log_in(loaded, first)
    [second] = PASSWORD.findall(command("grant-reader", "ada", "--new-password", "--database-url", loaded.url).out)
    with pytest.raises(psycopg2.OperationalError):
        _log_in(loaded, first)
    _log_in(loaded, second)
    monkeypatch.setenv("MBD_READER_PASSWORD", "chosen by me")
    given = command("grant-reader", "ada", "--database-url", loaded.url)
    assert "chosen" not in given.out + given.err
    _log_in(loaded, "chosen by me")


def test_revoked_login_is_gone_with_its_sessions(loaded: Database, command: Command) -> None:
    [password] = PASSWORD.findall(command("grant-reader", "ada", "--database-url", loaded.url).out)
    session = _log_in(loaded, password, stay=True)
    answer = command("grant-reader", "ada", "--revoke", "--database-url", loaded.url)
    assert (answer.code, answer.out) == (0, "The login ada may read nothing any more.\n")
    with session.cursor() as cursor, pytest.raises(psycopg2.OperationalError):
        cursor.execute("SELECT 1")
    with pytest.raises(psycopg2.OperationalError):
        _log_in(loaded, password)
    assert command("grant-reader", "ada", "--revoke", "--database-url", loaded.url).code == 0


def test_login_that_owns_a_table_stays_without_rights(loaded: Database, command: Command) -> None:
    [password] = PASSWORD.findall(command("grant-reader", "ada", "--database-url", loaded.url).out)
    loaded.execute("CREATE TABLE hers (a int); ALTER TABLE hers OWNER TO ada")
    assert command("grant-reader", "ada", "--revoke", "--database-url", loaded.url).code == 0
    with pytest.raises(psycopg2.OperationalError, match="not permitted to log in"):
        _log_in(loaded, password)
    assert command("grant-reader", "ada", "--database-url", loaded.url).code == 0
    _log_in(loaded, password)


@pytest.mark.parametrize("options", [[], ["--new-password"], ["--revoke"]], ids=str)
def test_role_that_the_command_did_not_make_is_left_alone(
    loaded: Database, command: Command, options: list[str]
) -> None:
    loaded.execute("CREATE ROLE joe LOGIN PASSWORD 'his own'")
    for name in ("joe", loaded.server.user):
        answer = command("grant-reader", name, *options, "--database-url", loaded.url)
        assert answer.code == 2
        assert f"The role {name} exists, and grant-reader did not make it." in answer.err
    psycopg2.connect(loaded.url).close()


@pytest.mark.parametrize("name", ["Ada", "ada'; DROP TABLE x", "1ada", "a" * 64, "ada b", ""])
def test_name_that_needs_quotes_is_refused(database: Database, command: Command, name: str) -> None:
    answer = command("grant-reader", name, "--database-url", database.url)
    assert answer.code == 2
    assert "is no name for a login" in answer.err


def test_password_is_asked_for_only_at_a_terminal(database: Database, command: Command) -> None:
    answer = command("grant-reader", "ada", "--ask-password", "--database-url", database.url)
    assert answer.code == 2
    assert "MBD_READER_PASSWORD" in answer.err
    assert database.rows("SELECT FROM pg_roles WHERE rolname = 'ada'") == []


def test_database_without_the_reading_role_says_what_to_run(
    database: Database, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute("ALTER ROLE stock_prices_reader RENAME TO stock_prices_reader_of_before")
    answer = command("grant-reader", "ada", "--database-url", database.url)
    assert answer.code == 2
    assert "Run init-db" in answer.err
    database.execute("ALTER ROLE stock_prices_reader_of_before RENAME TO stock_prices_reader")


def _log_in(database: Database, password: str, *, stay: bool = False) -> psycopg2.extensions.connection:
    session = psycopg2.connect(
        host="127.0.0.1", port=database.server.port, dbname="stocks", user="ada", password=password
    )
    if not stay:
        session.close()
    return session


_TRAP = """
    CREATE TEMP TABLE changes_by_hand (
        changed_by text, operation text, changed_at timestamptz, PRIMARY KEY (changed_by, operation)
    );
    GRANT ALL ON changes_by_hand TO PUBLIC;
    CREATE FUNCTION pg_temp.take_over() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM set_config('moving_big_data.loading', 'on', true);
        DELETE FROM public.historical_stocks_data;
        RETURN NULL;
    END $$;
    CREATE TRIGGER take_over BEFORE INSERT ON changes_by_hand FOR EACH ROW EXECUTE FUNCTION pg_temp.take_over();
    CREATE TEMP TABLE historical_stocks_data (a int);
"""
_ON_A_TABLE_OF_ONES_OWN = (
    "CREATE TRIGGER note AFTER INSERT ON pg_temp.historical_stocks_data "
    "FOR EACH STATEMENT EXECUTE FUNCTION public.note_change_by_hand(); "
    "INSERT INTO pg_temp.historical_stocks_data VALUES (1)"
)


@pytest.mark.parametrize("may_call_it", [False, True])
def test_login_cannot_make_the_owners_function_act_on_a_table_of_its_own(
    loaded: Database, command: Command, may_call_it: bool
) -> None:
    [password] = PASSWORD.findall(command("grant-reader", "ada", "--database-url", loaded.url).out)
    if may_call_it:  # the second defence
        loaded.execute("GRANT EXECUTE ON FUNCTION note_change_by_hand() TO PUBLIC")
    session = _log_in(loaded, password, stay=True)
    session.autocommit = True
    with closing(session), session.cursor() as cursor:
        cursor.execute(_TRAP)
        with pytest.raises(errors.InsufficientPrivilege, match="note_change_by_hand"):
            cursor.execute(_ON_A_TABLE_OF_ONES_OWN)
    assert loaded.count() == 35
    loaded.execute("UPDATE historical_stocks_data SET close_value = '1' WHERE company_name = 'aa.us.csv'")
    assert loaded.rows("SELECT changed_by, operation FROM changes_by_hand") == [(loaded.server.user, "UPDATE")]


_TAKE_OVER = """
    CREATE FUNCTION public.substr(varchar, int, int) RETURNS text LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE 'GRANT SELECT ON loaded_companies TO ada';
        RETURN pg_catalog.substr($1::text, $2, $3);
    END $$
"""


@pytest.mark.parametrize("name", ["grant-reader", "init-db"])
def test_login_makes_no_function_that_a_load_takes_for_postgresqls_own(
    loaded: Database, command: Command, name: str
) -> None:
    [password] = PASSWORD.findall(command("grant-reader", "ada", "--database-url", loaded.url).out)
    loaded.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")  # as before PostgreSQL 15
    assert command(*([name, "ada"] if name == "grant-reader" else [name]), "--database-url", loaded.url).code == 0
    session = _log_in(loaded, password, stay=True)
    with closing(session), session.cursor() as cursor, pytest.raises(errors.InsufficientPrivilege):
        cursor.execute(
            "CREATE FUNCTION public.substr(varchar, int, int) RETURNS text LANGUAGE plpgsql AS "
            "$$ BEGIN DELETE FROM loaded_companies; RETURN pg_catalog.substr($1::text, $2, $3); END $$"
        )


@pytest.mark.parametrize("name", ["grant-reader", "init-db"])
def test_owner_who_cannot_close_the_schema_is_told_who_can(loaded: Database, command: Command, name: str) -> None:
    assert command("grant-reader", "bob", "--database-url", loaded.url).code == 0
    _give_to_joe(loaded)
    loaded.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
    url = f"postgresql://joe:his@127.0.0.1:{loaded.server.port}/stocks"
    answer = command(*_words(name), "--database-url", url)
    _take_from_joe(loaded)
    assert (answer.code, "REVOKE CREATE ON SCHEMA public FROM PUBLIC" in answer.err) == (2, True), answer.err
    assert loaded.rows("SELECT FROM pg_roles WHERE rolname = 'ada'") == []


@pytest.mark.parametrize("name", ["grant-reader", "init-db"])
def test_open_schema_of_the_search_path_is_refused_by_name(loaded: Database, command: Command, name: str) -> None:
    assert command("grant-reader", "bob", "--database-url", loaded.url).code == 0
    loaded.execute("CREATE SCHEMA shared; GRANT CREATE ON SCHEMA shared TO PUBLIC")
    loaded.execute("ALTER DATABASE stocks SET search_path = public, shared")
    answer = command(*_words(name), "--database-url", loaded.url)
    assert (answer.code, "functions in schema shared, where" in answer.err) == (2, True), answer.err
    loaded.execute("REVOKE CREATE ON SCHEMA shared FROM PUBLIC")
    assert command(*_words(name), "--database-url", loaded.url).code == 0


_RAISES = "LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'it was called'; END $$"
TRAPS = {
    "function public.substr(character varying, integer, integer) of joe": (
        f"CREATE FUNCTION public.substr(varchar, int, int) RETURNS text {_RAISES}",
        "FUNCTION public.substr(varchar, int, int)",
    ),
    "function shared.quote_ident(name) of joe": (  # called by the first query of all
        f"CREATE FUNCTION shared.quote_ident(name) RETURNS text {_RAISES}",
        "FUNCTION shared.quote_ident(name)",
    ),
    "function shared.rows_as_of_load(integer) of joe": (
        f"CREATE FUNCTION shared.rows_as_of_load(int) RETURNS void {_RAISES}",
        "FUNCTION shared.rows_as_of_load(int)",
    ),
    "operator shared.~(character varying, text) of joe": (
        f"CREATE FUNCTION shared.fits(varchar, text) RETURNS boolean {_RAISES}; "
        "CREATE OPERATOR shared.~ (FUNCTION = shared.fits, LEFTARG = varchar, RIGHTARG = text)",
        "OPERATOR shared.~ (varchar, text)",
    ),
}


@pytest.mark.parametrize("name", ["grant-reader", "init-db"])
@pytest.mark.parametrize("trap", TRAPS)
def test_function_that_somebody_made_before_is_refused_by_name(
    loaded: Database, command: Command, trap: str, name: str
) -> None:
    assert command("grant-reader", "bob", "--database-url", loaded.url).code == 0
    loaded.execute("CREATE ROLE joe LOGIN PASSWORD 'his'; CREATE SCHEMA shared; GRANT ALL ON SCHEMA shared TO joe")
    loaded.execute("GRANT ALL ON SCHEMA public TO joe; ALTER DATABASE stocks SET search_path = public, shared")
    statement, what = TRAPS[trap]
    loaded.execute(f"SET ROLE joe; {statement}")
    answer = command(*_words(name), "--database-url", loaded.url)
    assert (answer.code, f"with its rights: {trap}. Nothing was made." in answer.err) == (2, True), answer.err
    loaded.execute(f"DROP {what}")
    assert command(*_words(name), "--database-url", loaded.url).code == 0


def test_function_of_a_superuser_or_of_a_member_of_the_owner_is_let_be(loaded: Database, command: Command) -> None:
    loaded.execute("CREATE FUNCTION substr(varchar, int) RETURNS text RETURN pg_catalog.substr($1::text, $2)")
    _give_to_joe(loaded)
    loaded.execute("CREATE ROLE sue LOGIN IN ROLE joe; GRANT CREATE ON SCHEMA public TO sue; SET ROLE sue; "
        "CREATE FUNCTION public.substr(varchar) RETURNS text RETURN $1; RESET ROLE")  # fmt: skip
    answer = command("init-db", "--database-url", f"postgresql://joe:his@127.0.0.1:{loaded.server.port}/stocks")
    loaded.execute("ALTER FUNCTION public.substr(varchar) OWNER TO postgres; REVOKE ALL ON SCHEMA public FROM sue")
    loaded.execute("DROP ROLE sue")
    _take_from_joe(loaded)
    assert answer.code == 0, answer.err


def _words(name: str) -> list[str]:
    return [name, "ada"] if name == "grant-reader" else [name]


def _give_to_joe(loaded: Database) -> None:
    """The tables, in a schema that stays somebody else's, and the right to make roles."""
    loaded.execute("CREATE ROLE joe LOGIN CREATEROLE PASSWORD 'his'; ALTER DATABASE stocks OWNER TO joe")
    loaded.execute("GRANT stock_prices_reader TO joe WITH ADMIN OPTION; GRANT CREATE ON SCHEMA public TO joe")
    _change_owner(loaded, "joe")


def _take_from_joe(loaded: Database) -> None:
    loaded.execute("ALTER DATABASE stocks OWNER TO postgres")
    _change_owner(loaded, "postgres")


def _change_owner(loaded: Database, owner: str) -> None:
    loaded.execute(f"""DO $$ DECLARE one text; BEGIN
        FOR one IN SELECT oid::regclass::text FROM pg_class
            WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')
        LOOP EXECUTE 'ALTER TABLE ' || one || ' OWNER TO {owner}'; END LOOP;
        FOR one IN SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace
            AND (proname ~ '^(stock|rows_as|refuse|note)')
        LOOP EXECUTE 'ALTER FUNCTION ' || one || ' OWNER TO {owner}'; END LOOP;
    END $$""")


@pytest.mark.parametrize("sees_sessions", [True, False])
def test_login_that_holds_the_lock_of_loads_is_named_with_how_to_end_it(
    three: Files, loaded: Database, command: Command, sees_sessions: bool
) -> None:
    [password] = PASSWORD.findall(command("grant-reader", "ada", "--database-url", loaded.url).out)
    url = loaded.url
    if not sees_sessions:  # pg_stat_activity shows other users' times to members and administrators only
        loaded.execute("CREATE ROLE joe LOGIN PASSWORD 'his'")
        loaded.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO joe")
        url = f"postgresql://joe:his@127.0.0.1:{loaded.server.port}/stocks"
    session = _log_in(loaded, password, stay=True)
    session.autocommit = True
    with closing(session), session.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(hashtext('historical_stocks_data')), pg_backend_pid()")
        [(_, pid)] = cursor.fetchall()
        with pytest.raises(etl.ServiceError, match=r"^A session that is no load holds the table for") as refused:
            etl.run(three.job(), target=etl.Target(url, lock_timeout_seconds=0.1), run=etl.Run.begin("test"))
        assert f"(a session of ada, pid {pid}{', since 20' if sees_sessions else ')'}" in str(refused.value)
        assert f"SELECT pg_terminate_backend({pid})." in str(refused.value)
        loaded.kill(pid)
    assert three.load(loaded).state == "success"
