"""A test's database, and a view of it that shares no code with etl."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg2

from tests.support.postgres import PostgresServer

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

_GATE = 4242  # key of the advisory lock that a COPY stops at


@dataclass(frozen=True)
class Database:
    """One test's database, and a look into it that shares nothing with etl."""

    url: str = field(repr=False)
    server: PostgresServer = field(repr=False)
    name: str = ""

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """The answer of one query, in a session of its own."""
        with autocommit(self.url) as connection, connection.cursor() as cursor:
            cursor.execute(query, values or None)
            return cursor.fetchall()

    def execute(self, statement: str, *values: object) -> int:
        """Do one statement, committed; the number of rows that it touched."""
        with autocommit(self.url) as connection, connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return cursor.rowcount

    def session(self) -> Connection:
        """A session that the test itself closes."""
        return psycopg2.connect(self.url)

    def count(self) -> int:
        return int(self.rows("SELECT count(*) FROM historical_stocks_data")[0][0])

    def companies(self) -> dict[str, int]:
        """Rows of each company in the table."""
        return dict(self.rows("SELECT company_name, count(*) FROM historical_stocks_data GROUP BY 1"))

    def table(self) -> list[tuple[str | None, ...]]:
        """The nine columns of every row, as text, sorted: what the table says, wherever its rows lie."""
        return self.rows("SELECT * FROM historical_stocks_data ORDER BY company_name, stock_date, 2, 3, 4, 5, 6")

    def places(self) -> dict[str, set[tuple[str, str]]]:
        """Where each company's rows lie and which transaction put them there: the same while nobody touches them."""
        places: dict[str, set[tuple[str, str]]] = {}
        for name, *place in self.rows("SELECT company_name, ctid::text, xmin::text FROM historical_stocks_data"):
            places.setdefault(name, set()).add((place[0], place[1]))
        return places

    def ledger(self) -> list[tuple[Any, ...]]:
        return self.rows(
            "SELECT company_name, sha256, length, rows, run_id, loaded_at FROM loaded_companies ORDER BY 1"
        )

    def states(self) -> list[str]:
        """States of the recorded runs, in their order."""
        return [row[0] for row in self.rows("SELECT state FROM pipeline_runs ORDER BY started_at, attempt_id")]

    def without_password(self, **changes: str) -> str:
        """This database as a DSN of key=value, some keys changed."""
        facts = {
            "host": "127.0.0.1",
            "port": str(self.server.port),
            "user": self.server.user,
            "dbname": self.name,
            **changes,
        }
        return " ".join(f"{key}={value}" for key, value in facts.items())

    @contextmanager
    def copy_stopped_at(self, stock_date: str, *, company: str | None = None) -> Iterator[Callable[[], int]]:
        """Until the block ends, a COPY, or a replacement's INSERT, stops before the first row of a day (of `company`).

        Yields a function that waits until one has stopped there, and returns the pid of its session.
        """
        self.execute(
            "CREATE FUNCTION stop_here() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN PERFORM pg_advisory_lock({_GATE}), pg_advisory_unlock({_GATE}); RETURN NEW; END $$"
        )
        self.execute(
            "CREATE TRIGGER stop_here BEFORE INSERT ON historical_stocks_data FOR EACH ROW "
            "WHEN (NEW.stock_date = %s AND NEW.company_name = coalesce(%s, NEW.company_name)) "
            "EXECUTE FUNCTION stop_here()",
            stock_date,
            company,
        )
        holder = self.session()
        try:
            with holder.cursor() as cursor:
                cursor.execute(f"SELECT pg_advisory_lock({_GATE})")
            yield self._wait_for_stopped_copy
        finally:
            holder.close()

    def _wait_for_stopped_copy(self) -> int:
        return self.wait_for_session("query ~ '(COPY|INSERT INTO) historical_stocks_data' AND wait_event = 'advisory'")

    def wait_for_session(self, condition: str) -> int:
        """The pid of the load's session, as soon as `condition` on pg_stat_activity holds for it."""
        query = (
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
            f"AND application_name = 'moving-big-data' AND {condition}"
        )
        deadline = time.monotonic() + 120  # a server that is slow or busy is no fault
        while time.monotonic() < deadline:
            found = self.rows(query.replace("%%", "%"))
            if found:
                return int(found[0][0])
            time.sleep(0.01)
        raise AssertionError(f"no session of a load with {condition}")

    def kill(self, pid: int) -> None:
        """End a session as an administrator would, and wait until it is gone."""
        assert self.rows("SELECT pg_terminate_backend(%s, 5000)", pid) == [(True,)]


def emptied(database: Database) -> Database:
    """Undo whatever the last test did; making a new one costs ten times as much."""
    with autocommit(database.server.url("postgres")) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = %s", [database.name]
        )
        cursor.execute(f"ALTER DATABASE {database.name} RESET ALL")
        cursor.execute(f"GRANT CONNECT ON DATABASE {database.name} TO public")
    for (schema,) in database.rows(
        "SELECT quote_ident(nspname) FROM pg_namespace WHERE nspname !~ '^(pg_|information_)'"
    ):
        database.execute(f"DROP SCHEMA {schema} CASCADE")
    database.execute("CREATE SCHEMA public")
    database.execute("GRANT USAGE ON SCHEMA public TO public")
    return database


@contextmanager
def autocommit(url: str) -> Iterator[Connection]:
    connection = psycopg2.connect(url)
    connection.autocommit = True
    try:
        yield connection
    finally:
        connection.close()
