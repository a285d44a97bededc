"""A database of an older major of PostgreSQL is moved to the newest one: nothing is loaded again, and history stays."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import etl
from tests.support.database import Database
from tests.support.postgres import PostgresServer, postgres_binaries, server_binaries

if TYPE_CHECKING:
    from tests.support.batch_files import Files


@pytest.mark.skipif(server_binaries() == postgres_binaries(), reason="make test-versions runs it on older servers")
def test_database_of_an_older_major_goes_on_in_the_newest(
    three: Files, database: Database, days: Callable[..., list[str]], stack_directory: Path
) -> None:
    three.load(database)
    before = datetime.now(UTC)
    first = database.table()
    three.put("cc.us.csv", days(20, price=31))
    three.load(database)
    with PostgresServer(stack_directory / "newest", databases=("stocks",), binaries=postgres_binaries()) as server:
        newest = Database(server.url("stocks"), server, "stocks")
        newest.execute("CREATE ROLE stock_prices_reader")  # of the server, so it is not in the dump
        dump, programs = stack_directory / "dump.sql", postgres_binaries()
        subprocess.run([programs / "pg_dump", "--file", dump, database.url], check=True)
        restore = [str(programs / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", str(dump), newest.url]
        subprocess.run(restore, check=True, stdout=subprocess.DEVNULL)
        etl.make_tables(newest.url)
        assert newest.table() == database.table()
        again = three.load(newest)
        assert (again.rows.inserted, again.rows.deleted, again.rows.unchanged) == (0, 0, 35)
        as_of = etl.read_prices(database=newest.url, as_of=before)
        assert sorted(as_of["close_value"]) == sorted(float(str(row[4])) for row in first)
