"""A session that is lent again is as good as new, and one that has ended is not lent."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg2
import pytest
from psycopg2 import extensions

from tests.proof.simulator.sessions import Sessions
from tests.support.database import Database
from tests.support.postgres import PostgresServer


class Kind(extensions.connection):
    """Of the product."""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with PostgresServer(tmp_path_factory.mktemp("sessions") / "postgres", databases=["stocks"]) as server:
        yield Database(server.url("stocks"), server, "stocks")


@pytest.fixture
def sessions() -> Iterator[Sessions]:
    made = Sessions(Kind)
    yield made
    made.close()


def used(sessions: Sessions, url: str, *statements: str) -> int:
    """Does this, commits it, begins something else, and gives the session back; returns its process's number."""
    connection = sessions.connect(url, connection_factory=Kind)
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        connection.commit()
        cursor.execute("SELECT 1")
        pid = connection.info.backend_pid
    connection.close()
    connection.close()
    return pid


@pytest.mark.parametrize(
    ("left", "asks"),
    [
        ("SET lock_timeout = 77", "SELECT 1 WHERE current_setting('lock_timeout') = '77ms'"),
        ("CREATE TEMPORARY TABLE rest ()", "SELECT 1 FROM pg_class WHERE relname = 'rest'"),
        ("SELECT pg_advisory_lock(7)", "SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"),
        ("PREPARE rest AS SELECT 1", "SELECT 1 FROM pg_prepared_statements"),
    ],
)
def test_nothing_is_left_of_who_had_it(sessions: Sessions, database: Database, left: str, asks: str) -> None:
    pid = used(sessions, database.url, left)
    assert database.rows("SELECT state FROM pg_stat_activity WHERE pid = %s", pid) == [("idle",)]
    connection = sessions.connect(database.url, connection_factory=Kind)
    with connection.cursor() as cursor:
        cursor.execute(asks)
        assert not cursor.fetchall()
    assert connection.info.backend_pid == pid
    assert not connection.autocommit


def test_one_that_the_server_ended_is_not_lent(sessions: Sessions, database: Database) -> None:
    pid = used(sessions, database.url)
    database.rows("SELECT pg_terminate_backend(%s, 5000)", pid)
    assert used(sessions, database.url) != pid


def test_two_at_once_have_a_session_each_and_other_connections_are_opened_as_ever(
    sessions: Sessions, database: Database
) -> None:
    one = sessions.connect(database.url, connection_factory=Kind)
    two = sessions.connect(database.url, connection_factory=Kind)
    assert one.info.backend_pid != two.info.backend_pid
    other = sessions.connect(database.url)
    assert type(other) is extensions.connection
    other.close()
    with pytest.raises(psycopg2.InterfaceError):
        other.cursor()
