"""PostgreSQL that is killed in the middle of a COPY, and disks that are really full: old or new, then repaired."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2
import pytest

import etl
from etl.table.schema import make_tables
from tests.support.database import Database
from tests.support.database_proxy import DatabaseProxy
from tests.support.figures import check_ledger
from tests.support.postgres import PostgresServer

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.commands import Command
    from tests.support.figures import Figures

Days = Callable[..., list[str]]


@contextmanager
def own_server(directory: Path) -> Iterator[Database]:
    """A server that a test may kill, with our tables in its database `stocks`."""
    with PostgresServer(directory, databases=("stocks",)) as server:
        database = Database(server.url("stocks"), server, "stocks")
        make_tables(database.url)
        yield database


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="etl-faults-") as name:
        yield Path(name)


@contextmanager
def disk(place: Path, *, mebibytes: int) -> Iterator[Callable[[int], None]]:
    """A disk of its own size at `place`; yields what makes it larger."""
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=0755", "etl-faults", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a disk of its own cannot be mounted; run as root where mounts are allowed: {mounted.stderr}")

    def resize(size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}m", str(place)], check=True)

    try:
        yield resize
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def change(files: Files, days: Days) -> None:
    files.put("cc.us.csv", days(20, price=31))
    files.put("dd.us.csv", days(3))
    files.name("aa.us.csv", "bb.us.csv", "cc.us.csv", "dd.us.csv")


@pytest.mark.parametrize("killed", ["backend", "postmaster"])
def test_server_killed_in_the_middle_of_a_copy_and_started_again_is_loaded_once(
    three: Files, days: Days, folder: Path, figures: Figures, killed: str
) -> None:
    run = etl.Run.begin("test")
    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        server = stack.enter_context(own_server(folder / "postgres"))
        proxy = stack.enter_context(DatabaseProxy(server.server.port))
        three.load(server)
        old = server.table()
        change(three, days)
        target = etl.Target(proxy.url(server.url, server.server.port))
        with server.copy_stopped_at("2001-01-18") as stopped:
            moving = pool.submit(etl.run, three.job(), target=target, run=run)
            backend = stopped()
            if killed == "backend":
                os.kill(backend, signal.SIGKILL)  # as the kernel does when memory is short: the server starts again
            else:
                os.kill(int((folder / "postgres/data/postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        if killed == "postmaster":
            server.server.__exit__(None, None, None)  # waits for it, as the one that started it
            again = _start_again(folder / "postgres", stack)
            proxy.server_port = again.port
            server = Database(again.url("stocks"), again, "stocks")
        receipt = moving.result(60)
        assert len(old) == 35
        assert (receipt.rows.inserted, receipt.rows.deleted, receipt.rows.unchanged) == (23, 20, 15)
        assert server.states() == ["success", "success"]
        figures.check_truth(three, server)
        again_receipt = three.load(server)
        assert (again_receipt.rows.inserted, again_receipt.rows.unchanged) == (0, 38)
    figures.counts["faults_injected"] += 1
    figures.counts["servers_killed"] += 1


def _start_again(directory: Path, stack: ExitStack) -> PostgresServer:
    """The server as new, once nothing of the killed one holds its memory any more."""
    server = PostgresServer(directory, databases=("stocks",))
    deadline = time.monotonic() + 20
    while True:
        try:
            return stack.enter_context(server)
        except RuntimeError:
            assert time.monotonic() < deadline
            time.sleep(0.3)


def test_full_disk_under_the_table_names_the_cause_keeps_the_old_rows_and_is_repaired_with_more_room(
    three: Files, sample: Files, database: Database, command: Command, folder: Path, figures: Figures
) -> None:
    with disk(folder / "disk", mebibytes=14) as resize:
        (folder / "disk" / "table").mkdir()
        folder.chmod(0o755)
        if os.geteuid() == 0:
            subprocess.run(["chown", "nobody", str(folder / "disk" / "table")], check=True)
        database.execute(f"CREATE TABLESPACE small LOCATION '{folder}/disk/table'")
        try:
            _admin(database, "CREATE DATABASE full_disk TABLESPACE small")
            small = replace(database, url=database.server.url("full_disk"), name="full_disk")
            make_tables(small.url)
            three.load(small)
            old = small.table()
            places = ("--source", sample.source, "--index", sample.index, "--output", sample.output)
            answer = command("run", *places, "--database-url", small.url, "--quiet")
            assert answer.code == 3, answer.err
            assert "The database gave up: could not extend file" in answer.err
            assert "No space left on device" in answer.err
            assert answer.err.count("\n") == 1
            assert small.table() == old
            check_ledger(small)
            resize(200)
            assert command("run", *places, "--database-url", small.url, "--quiet").code == 0
            small.execute(
                "DELETE FROM historical_stocks_data WHERE company_name IN ('aa.us.csv', 'bb.us.csv', 'cc.us.csv')"
            )
            small.execute("DELETE FROM loaded_companies WHERE company_name IN ('aa.us.csv', 'bb.us.csv', 'cc.us.csv')")
            figures.check_truth(sample, small)
        finally:
            _admin(database, "DROP DATABASE IF EXISTS full_disk (FORCE)")
            database.execute("DROP TABLESPACE small")
    figures.counts["faults_injected"] += 1


def test_full_disk_under_the_whole_server_which_panics_is_repaired_once_it_has_room_and_runs_again(
    sample: Files, three: Files, folder: Path, figures: Figures, command: Command
) -> None:
    folder.chmod(0o755)
    with disk(folder / "disk", mebibytes=400) as resize, ExitStack() as stack:
        database = stack.enter_context(own_server(folder / "disk" / "postgres"))
        three.load(database)
        old = database.table()
        used = int(
            subprocess.run(["du", "-sm", str(folder / "disk")], capture_output=True, check=True).stdout.split()[0]
        )
        resize(used + 6)
        places = ("--source", sample.source, "--index", sample.index, "--output", sample.output)
        answer = command("run", *places, "--database-url", database.url, "--quiet")
        assert (answer.code, answer.err.count("\n")) == (3, 1), answer.err
        told = (folder / "disk" / "postgres" / "postgres.log").read_text(errors="replace")
        assert "PANIC" in told, told[-2000:]
        resize(400)
        database = _reached(database, folder, stack)
        assert database.table() == old
        check_ledger(database)
        assert command("run", *places, "--database-url", database.url, "--quiet").code == 0
        assert database.count() == 35 + 76_653
        check_ledger(database)
    figures.counts["faults_injected"] += 1


def _reached(database: Database, folder: Path, stack: ExitStack) -> Database:
    """The server once it answers; a new one where it has given up."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            psycopg2.connect(database.url).close()
        except psycopg2.OperationalError:
            time.sleep(0.2)
        else:
            return database
    again = _start_again(folder / "disk" / "postgres", stack)
    return Database(again.url("stocks"), again, "stocks")


def _admin(database: Database, statement: str) -> None:
    connection = psycopg2.connect(database.server.url("postgres"))
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(statement)
    connection.close()


def test_full_disk_under_the_outputs_leaves_the_old_outputs_and_the_old_table(
    three: Files, sample: Files, database: Database, command: Command, folder: Path, figures: Figures
) -> None:
    with disk(folder / "disk", mebibytes=1) as resize:
        output = folder / "disk" / "Output"
        first = etl.run(three.job(output=str(output)), target=etl.Target(database.url), run=etl.Run.begin("test"))
        before = {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}
        old = database.table()
        places = ("--source", sample.source, "--index", sample.index, "--output", output)
        answer = command("run", *places, "--database-url", database.url, "--quiet")
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert "No space left on device" in answer.err
        assert {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()} == before
        assert database.table() == old
        check_ledger(database)
        resize(64)
        assert command("run", *places, "--database-url", database.url, "--quiet").code == 0
        assert database.count() == first.rows.accepted + 76_653
    figures.counts["faults_injected"] += 1
