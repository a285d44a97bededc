"""Starts a PostgreSQL and workers, each with a world of its own, and has cases played as they come."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.proof.every_fault.scenario import PLACES, Case, Outcome, World
from tests.support.database import autocommit
from tests.support.paths import folder_in_memory
from tests.support.postgres import PostgresServer

_BYTES = 2 << 30  # what servers and batches of all workers take at most
_world: World | None = None


@contextmanager
def players(workers: int) -> Iterator[Any]:
    """A function that plays cases on so many workers, as they come, until a time is reached."""
    folder = Path(tempfile.mkdtemp(prefix="mbd-every-fault-", dir=folder_in_memory(needed_bytes=_BYTES)))
    names = [f"fault_{number}_{place}" for number in range(workers) for place in PLACES]
    context = get_context("spawn")
    try:
        with PostgresServer(folder / "postgres", databases=names) as server:
            with autocommit(server.url("postgres")) as connection, connection.cursor() as cursor:
                for setting in ("fsync = off", "autovacuum = off", "full_page_writes = off", "max_wal_size = '256MB'"):
                    cursor.execute(f"ALTER SYSTEM SET {setting}")
                cursor.execute("SELECT pg_reload_conf()")
                cursor.execute("SET scram_iterations = 1")  # a login costs as much as a run's statements otherwise
                cursor.execute(f"ALTER ROLE {server.user} PASSWORD %s", [server.password])
            numbers = context.Queue()
            for number in range(workers):
                numbers.put(number)
            begin = (str(folder), server.url("DATABASE"), numbers)
            with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=begin) as pool:
                try:
                    yield lambda cases, until=None: _played(pool, iter(cases), workers, until)
                finally:
                    pool.shutdown(wait=False, cancel_futures=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _played(pool: ProcessPoolExecutor, cases: Iterator[Case], workers: int, until: float | None) -> Iterator[Outcome]:
    waiting: set[Future[Outcome]] = {pool.submit(_play, case) for case in islice(cases, 2 * workers)}
    while waiting:
        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        for one in done:
            if until is None or time.monotonic() < until:
                waiting |= {pool.submit(_play, case) for case in islice(cases, 1)}
            yield one.result()


def _begin(folder: str, url: str, numbers: Any) -> None:  # noqa: ANN401
    global _world  # noqa: PLW0603  one worker has one world
    number = numbers.get()
    own = Path(folder) / f"worker{number}"
    own.mkdir()
    _world = World(own, {place: url.replace("DATABASE", f"fault_{number}_{place}") for place in PLACES})


def _play(case: Case) -> Outcome:
    assert _world
    try:
        return _world.play(case)
    except Exception as error:
        return Outcome(case, [f"{type(error).__name__}: {error}"])
