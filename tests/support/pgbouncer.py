"""A real pgbouncer in transaction mode before a database: its URL."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2

from tests.support.database import Database
from tests.support.process import HOST, Command, Process, free_port, wait_until, write_private

MISSING = "pgbouncer is missing: apt-get install pgbouncer"


def pgbouncer_program() -> str | None:
    """Debian puts it where an ordinary user's PATH does not look."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@contextmanager
def pgbouncer(database: Database, directory: Path, *, sessions: int = 1) -> Iterator[str]:
    """Shares so many sessions of the server among all clients, a transaction at a time; yields the URL to it."""
    program = pgbouncer_program()
    assert program, MISSING
    server = database.server
    account = "nobody" if os.geteuid() == 0 else None  # it refuses root
    directory.mkdir(parents=True, exist_ok=True)
    if account:
        for folder in (directory, *directory.parents):
            folder.chmod(folder.stat().st_mode | 0o001)
    port = free_port()
    write_private(directory / "users.txt", f'"{server.user}" "{server.password}"\n', owner=account)
    settings = f"""
[databases]
{database.name} = host={HOST} port={server.port} dbname={database.name}
[pgbouncer]
listen_addr = {HOST}
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {directory / "users.txt"}
pool_mode = transaction
default_pool_size = {sessions}
server_round_robin = 1
"""
    write_private(directory / "pgbouncer.ini", settings, owner=account)
    url = f"postgresql://{server.user}:{server.password}@{HOST}:{port}/{database.name}"

    def answers() -> bool:
        try:
            psycopg2.connect(url, connect_timeout=2).close()
        except psycopg2.OperationalError:
            return False
        return True

    command: Command = [program, directory / "pgbouncer.ini"]
    process = Process(command, environment=dict(os.environ), log=directory / "pgbouncer.log", account=account)
    try:
        wait_until(answers, processes=[process], seconds=120)
        yield url
    finally:
        process.stop()
