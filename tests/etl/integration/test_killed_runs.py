"""`python -m etl run` ended by a signal: the old table, and a next run that does it all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

import etl
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from tests.support.aws_places import Bucket
    from tests.support.batch_files import Files
    from tests.support.database import Database
    from tests.support.moto import MotoServer

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(database: Database, moto_server: MotoServer) -> Start:
    def begin(source: str, index: str, output: str) -> subprocess.Popen[str]:
        places = ["--source", source, "--index", index, "--output", output]
        return subprocess.Popen(
            [sys.executable, "-m", "etl", "run", *places, "--quiet"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **moto_server.environment, "MBD_DATABASE_URL": database.url},
            cwd=ROOT,
        )

    return begin


def _places(files: Files) -> tuple[str, str, str]:
    return str(files.source), str(files.index), str(files.output)


def test_run_killed_in_the_middle_of_its_copy_leaves_the_old_batch_and_the_next_run_does_it_all(
    three: Files, database: Database, days: Callable[..., list[str]], start: Start
) -> None:
    three.load(database)
    places, ledger, manifest = database.places(), database.ledger(), three.manifest
    three.put("cc.us.csv", days(20, price=31))
    three.put("dd.us.csv", days(12))
    three.name("dd.us.csv", "aa.us.csv", "bb.us.csv", "cc.us.csv")
    with database.copy_stopped_at("2001-01-11") as stopped:
        child = start(*_places(three))
        session = stopped()
        child.kill()
        child.communicate(timeout=30)
        assert (database.places(), database.ledger()) == (places, ledger)
        database.kill(session)  # the server notices only when it has something to say to the client
    again = three.load(database)
    assert (again.rows.inserted, again.rows.deleted, again.rows.unchanged) == (32, 20, 15)
    assert database.companies() == {"aa.us.csv": 5, "bb.us.csv": 10, "cc.us.csv": 20, "dd.us.csv": 12}
    assert sorted(tuple(line.split(",")) for line in three.combined.decode().splitlines()) == sorted(database.table())
    assert three.manifest != manifest
    assert [path.name for path in three.output.rglob("*.partial")] == []


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_run_that_waits_for_another_load_ends_when_it_is_told_to(
    three: Files, database: Database, start: Start, sent: signal.Signals, code: int
) -> None:
    three.load(database)
    table, outputs = database.places(), three.outputs()
    other = database.session()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('historical_stocks_data'))")
        child = start(*_places(three))
        database.wait_for_session("query LIKE '%%advisory%%'")
        child.send_signal(sent)
        try:
            out, err = child.communicate(timeout=30)  # the lock is waited for 60 s
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            pytest.fail(f"{sent.name} was not answered within 30 s")
        finally:
            other.close()
    assert (child.returncode, out, err.count("\n")) == (code, "", 1)
    assert (database.places(), three.outputs()) == (table, outputs)


def test_run_killed_while_it_uploads_to_s3_leaves_no_orphan_once_it_ran_again(
    sample: Files, bucket: Bucket, database: Database, start: Start, make_files: Callable[[str], Files]
) -> None:
    large = make_files("large")
    # At the eighth company one part of 8 MiB is up, and the rest is more than the sockets between take in.
    large.put_copies(sample.source / "ge.us.csv", count=16)
    bucket.upload(large)
    bucket.put("Output/historical_stock_data.csv", b"the old one")
    with database.copy_stopped_at("1962-01-02", company="ge7.us.csv") as stopped:
        child = start(f"s3://{bucket.name}/Stocks", bucket.job().company_index, f"s3://{bucket.name}/Output")
        session = stopped()
        child.kill()
        child.communicate(timeout=30)
        database.kill(session)
    assert database.count() == 0
    assert bucket.get("Output/historical_stock_data.csv") == b"the old one"
    assert bucket.unfinished_uploads() == ["Output/historical_stock_data.csv"]
    database.execute("DROP TRIGGER stop_here ON historical_stocks_data")
    etl.run(bucket.job(), target=etl.Target(database.url), run=etl.Run.begin("test"))
    assert bucket.unfinished_uploads() == []
    assert database.count() == 16 * 14_058
    assert bucket.get("Output/historical_stock_data.csv").count(b"\n") == 16 * 14_058
