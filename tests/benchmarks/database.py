"""Prepares the measured database, and takes the fingerprint of a loaded table."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2
from psycopg2 import sql

from tests.benchmarks.peer_batch import PEER_SCHEMA, TABLE
from tests.support.postgres import PostgresServer, postgres_binaries

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

DLT_SCHEMA = "peer_dlt"
COLUMNS = (
    "stock_date", "open_value", "high_value", "low_value", "close_value", "volume_traded", "daily_percent_change",
    "value_change", "company_name",
)  # fmt: skip
_DERIVED = ("daily_percent_change", "value_change")


@dataclass(frozen=True)
class Fingerprint:
    """A table's row count and the sum of its rows' hashes, which no order of rows changes."""

    rows: int
    checksum: str


class Database:
    """The database `stocks` of an embedded server that runs."""

    def __init__(self, server: PostgresServer) -> None:
        self.url = server.url("stocks")
        self.postmaster = int((server.directory / "data" / "postmaster.pid").read_text().split("\n", 1)[0])
        # Others' psql and Python find the same server, and psql is the server's own.
        path = f"{postgres_binaries()}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, "MBD_DATABASE_URL": self.url, "PATH": path}
        # Every Python program finds its imports compiled, as after a first run, whatever this environment forbids.
        self.environment["PYTHONPYCACHEPREFIX"] = str(server.directory.parent / "pycache")
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        with self._cursor() as cursor:
            # Autovacuum would work for one row of the table while another is measured; VACUUM runs between them.
            cursor.execute("ALTER SYSTEM SET autovacuum = off")
            cursor.execute("SELECT pg_reload_conf()")
            cursor.execute("SHOW server_version")
            self.version = str((cursor.fetchone() or ("",))[0]).split()[0]

    def make_plain_table(self) -> None:
        """The nine columns and nothing else: what \\copy and the peers load into."""
        self._clear()
        columns = sql.SQL(", ").join(sql.SQL("{} VARCHAR(56)").format(sql.Identifier(name)) for name in COLUMNS)
        with self._cursor() as cursor:
            cursor.execute(sql.SQL("CREATE TABLE {} ({})").format(sql.Identifier(TABLE), columns))
        self.settle()

    def make_our_tables(self) -> None:
        """What `init-db` makes, empty."""
        self._clear()
        init = [sys.executable, "-m", "etl", "init-db"]
        subprocess.run(init, env=self.environment, check=True, stdout=subprocess.DEVNULL)
        self.settle()

    def settle(self) -> None:
        """What autovacuum and the checkpointer do by the next day, so that nobody is charged for another's writes."""
        with self._cursor() as cursor:
            cursor.execute("VACUUM (ANALYZE)")
            cursor.execute("CHECKPOINT")

    def fingerprint(self, *, exact: bool, schema: str = "public", without: str | None = None) -> Fingerprint:
        """`exact`: text of all nine columns; else the two derived ones as float8, because spellings differ.

        `without`: a regular expression; what it matches is first taken out of the company names.
        """
        values = {name: sql.Identifier(name) + sql.SQL("::text") for name in COLUMNS}
        if not exact:
            values |= {name: sql.Identifier(name) + sql.SQL("::float8") for name in _DERIVED}
        if without:
            values["company_name"] = sql.SQL("regexp_replace(company_name, {}, '')").format(sql.Literal(without))
        query = sql.SQL("SELECT count(*), coalesce(sum(hashtextextended(ROW({})::text, 0)), 0)::text FROM {}").format(
            sql.SQL(", ").join(values.values()), sql.Identifier(schema, TABLE)
        )
        with self._cursor() as cursor:
            cursor.execute(query)
            rows, checksum = cursor.fetchone() or (0, "")
        return Fingerprint(int(rows), str(checksum))

    def _clear(self) -> None:
        with self._cursor() as cursor:
            for schema in ("public", PEER_SCHEMA, DLT_SCHEMA, f"{DLT_SCHEMA}_staging"):
                cursor.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))
            cursor.execute("CREATE SCHEMA public")

    @contextmanager
    def _cursor(self) -> Iterator[Cursor]:
        connection = psycopg2.connect(self.url)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET client_min_messages = warning")
                yield cursor
        finally:
            connection.close()


def copy_command(database: Database, combined: Path, *, form: str = "CSV", then: str | None = None) -> list[str | Path]:
    """psql's \\copy of a combined file, and one more statement of the same psql if given."""
    copy = f"\\copy {TABLE} FROM '{combined}' {form}"
    command: list[str | Path] = ["psql", database.url, "--no-psqlrc", "-q", "-v", "ON_ERROR_STOP=1", "-c", copy]
    return [*command, "-c", then] if then else command
