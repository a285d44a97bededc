"""Plays one seed: the servers, the folders and the world of a simulation, and its days one after another."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from tests.proof.simulator.results import Outcome
from tests.support.moto import MotoServer
from tests.support.postgres import PostgresServer

if TYPE_CHECKING:
    from tests.proof.simulator.story import Event
    from tests.proof.simulator.world import World

_BEGINS = (datetime(2026, 3, 23, tzinfo=UTC), datetime(2026, 10, 19, tzinfo=UTC))
"""Mondays: on the Sunday after them, clocks are put forward or back."""
_INSTANCE = "i-0123456789abcdef0"
_ON_S3 = 20  # each so many seeds one is played on a moto server
_DAYS_ON_S3 = 30  # which takes ten times as long


class Stage:
    """Servers and folders in which one simulation after another is played. Airflow is imported when it is entered."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self._moto: MotoServer | None = None

    def __enter__(self) -> Stage:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._stack.enter_context(mock.patch.object(tempfile, "tempdir", str(self._directory)))  # in memory
        os.environ.update(
            {
                "AIRFLOW_HOME": str(self._directory / "airflow"),
                "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                "AWS_EC2_METADATA_DISABLED": "true",
                "NO_PROXY": "*",
            }
        )
        self._postgres = self._stack.enter_context(PostgresServer(self._directory / "postgres", databases=["stocks"]))
        _hurry(self._postgres, self._directory / "postgres" / "data")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def play_seed(self, seed: int, days: int) -> Outcome:
        """Play the story of a seed; fewer days of it where it is on S3."""
        from tests.proof.simulator.story import make_story  # noqa: PLC0415  imports Airflow

        days = min(days, _DAYS_ON_S3) if _is_on_s3(seed) else days
        return self.play(seed, days, make_story(seed, days))

    def play(self, seed: int, days: int, story: Sequence[Event]) -> Outcome:
        """Play a story until it ends or a promise is broken."""
        from tests.proof.simulator.oracle import Oracle  # noqa: PLC0415  these import Airflow
        from tests.proof.simulator.story import Players  # noqa: PLC0415
        from tests.proof.simulator.world import PromiseBrokenError, load_dag, quiet  # noqa: PLC0415

        load_dag()  # once
        begun, outcome, first = time.process_time(), Outcome(seed), _BEGINS[seed // 2 % 2]
        dice = random.Random(seed)
        expects, sleeps, on_s3 = dice.random() < 0.7, dice.random() < 0.5, _is_on_s3(seed)
        with quiet(), self._world(first, expects=expects, sleeps=sleeps, on_s3=on_s3) as world:
            oracle = Oracle(world, expects=expects)
            players = Players(world, oracle, seed=seed)
            try:
                for day in range(days):
                    begin = first + timedelta(days=day)
                    for hour in range(0, 24, 3 if on_s3 else 1 + seed % 2):
                        world.clock.at(begin + timedelta(hours=hour, minutes=7), world.watch)
                        world.clock.at(begin + timedelta(hours=hour, minutes=40), world.stop_when_idle, alone=True)
                    for event in story:
                        if event.day == day:
                            at = begin + timedelta(seconds=event.second)
                            world.clock.at(at, partial(players.play, event), alone=event.is_alone)
                    world.clock.run(begin + timedelta(days=1))
                    outcome.days = day + 1
                    oracle.check_day(random.Random(f"{seed} past {day}"))
                for hour in range(12):
                    world.clock.at(first + timedelta(days=days, hours=hour, minutes=7), world.watch)
                last = players.calm_down()
                oracle.check_day(random.Random(f"{seed} past"))
                oracle.check_end(last)
            except PromiseBrokenError as violation:
                outcome.kind, outcome.detail = violation.kind, str(violation)
                if violation.__cause__:
                    outcome.detail += "\n" + "".join(traceback.format_exception(violation.__cause__))
            outcome.log = world.log
            outcome.counts.update(world.counts)
            outcome.counts["days on S3" if on_s3 else "days on folders"] = outcome.days
        outcome.seconds = time.process_time() - begun
        return outcome

    def _world(self, begin: datetime, *, expects: bool, sleeps: bool, on_s3: bool) -> World:
        from etl.table.schema import make_tables  # noqa: PLC0415  as above
        from tests.proof.simulator.amazon import Bucket, FolderBucket, MotoBucket  # noqa: PLC0415
        from tests.proof.simulator.oracle import EXPECT_BY  # noqa: PLC0415
        from tests.proof.simulator.world import World  # noqa: PLC0415
        from tests.support.database import Database, emptied  # noqa: PLC0415

        database = emptied(Database(self._postgres.url("stocks"), self._postgres, "stocks"))
        make_tables(database.url)
        folder = self._directory / "bucket"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "Stocks").mkdir(parents=True)
        bucket: Bucket = FolderBucket(folder)
        aws = None
        if on_s3:
            if self._moto is None:
                self._moto = self._stack.enter_context(MotoServer(self._directory / "moto"))
            bucket = MotoBucket.fresh(self._moto.url)
            aws = bucket.aws
        settings = {"EXPECT_BY": EXPECT_BY if expects else "", "INSTANCE_ID": _INSTANCE if sleeps else ""}
        return World(
            begin=begin, folder=folder, bucket=bucket, database=database, aws=aws, settings=settings, sleeps=sleeps
        )


def _is_on_s3(seed: int) -> bool:
    return seed % _ON_S3 == _ON_S3 - 1


def _hurry(server: PostgresServer, data: Path) -> None:
    """No durability and no password: each costs milliseconds a connection."""
    from tests.support.database import autocommit  # noqa: PLC0415

    (data / "pg_hba.conf").write_text("host all all 127.0.0.1/32 trust\n")
    with autocommit(server.url("postgres")) as connection, connection.cursor() as cursor:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            cursor.execute(f"ALTER SYSTEM SET {setting} = off")
        cursor.execute("SELECT pg_reload_conf()")
