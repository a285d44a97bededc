"""Processes that are told to end or are killed at any moment: nothing is left of them, and the next run repairs."""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import pytest

import etl
from tests.support.cli_process import processes_of_session, start
from tests.support.figures import check_ledger
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from tests.support.aws_places import Topic
    from tests.support.batch_files import Files
    from tests.support.commands import Command
    from tests.support.database import Database
    from tests.support.figures import Figures
    from tests.support.moto import MotoServer

ENDS = int(os.environ.get("MBD_KILLS", "8"))  # of each command
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'moving-big-data'"


def finish(command: str, files: Files, database: Database) -> float:
    """Run it to its end; returns how long that took."""
    begun = time.monotonic()
    child = start(command, files=files, url=database.url)
    _, err = child.communicate(timeout=120)
    assert child.returncode == 0, err
    return time.monotonic() - begun


def digest(files: Files) -> str:
    return hashlib.sha256(files.combined).hexdigest()


def sessions_end(database: Database) -> bool:
    """No session of a load is left, or none a moment later: the server needs one to notice."""
    deadline = time.monotonic() + 5
    while database.rows(SESSIONS) != [(0,)]:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def wait_for_work(child: subprocess.Popen[str], files: Files, database: Database) -> None:
    """Until it writes outputs or has its session of the database: before that there is nothing to clear."""
    deadline = time.monotonic() + 30
    while not (list(files.output.rglob("*.partial")) or database.rows(SESSIONS) != [(0,)]):
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.005)


@pytest.mark.parametrize("command", ["run", "process", "load"])
def test_command_told_to_end_at_any_moment_of_its_work_ends_in_seconds_and_leaves_nothing(
    sample: Files, database: Database, figures: Figures, command: str
) -> None:
    finish("run", sample, database)
    table, combined = database.table(), digest(sample)
    moments, works = random.Random(f"SIGTERM {command}"), 0.0
    told = 0
    for number in range(ENDS + 1):
        database.execute("TRUNCATE historical_stocks_data, loaded_companies, pipeline_runs")
        child = start(command, files=sample, url=database.url)
        wait_for_work(child, sample, database)
        begun = time.monotonic()
        if number:
            time.sleep(moments.uniform(0, 0.9) * works)
            child.send_signal(signal.SIGTERM)
            begun = time.monotonic()
        out, err = child.communicate(timeout=20)
        works = works or time.monotonic() - begun
        assert time.monotonic() - begun < 5
        # Told so after its last act, it ends as it would have, or by Python's own way out: with its receipt told.
        assert child.returncode == 143 or (child.returncode in {0, -signal.SIGTERM} and out), err
        if child.returncode == 143:
            assert (out, err.count("\n")) == ("", 1), err
            assert "terminated: the table holds the old batch or the new one, whole" in err
            told += 1
        assert processes_of_session(child.pid) == []
        assert sessions_end(database)
        assert list(sample.output.rglob("*.partial")) == []
        assert database.table() in ([], table)
        check_ledger(database)
        finish("run", sample, database)
        assert digest(sample) == combined
        figures.check_truth(sample, database)
    assert told >= ENDS // 2
    figures.counts["terminations"] += told


CONCLUDE = """
import sys, etl
from datetime import datetime, UTC
source, index, output, run_id, arn, succeeded = sys.argv[1:]
job = etl.Job(source=source, index=index, output=output)
etl.send_mail_of_run(job, run=etl.Run(run_id, datetime.now(UTC)), succeeded=succeeded == "1", reason="timed_out",
             mailbox=etl.Mailbox(arn, "ada", "lovelace"))
"""


@pytest.mark.parametrize("succeeded", [True, False])
def test_conclusion_killed_at_any_moment_mails_at_most_once_and_leaves_whole_files(
    three: Files, database: Database, topic: Topic, moto_server: MotoServer, figures: Figures, succeeded: bool
) -> None:
    def begin(run: etl.Run) -> subprocess.Popen[bytes]:
        arguments = [str(three.source), str(three.index), str(three.output), run.run_id, topic.arn, str(int(succeeded))]
        environment = {**os.environ, **moto_server.environment}
        return subprocess.Popen([sys.executable, "-c", CONCLUDE, *arguments], env=environment, cwd=ROOT)

    moments, killed, takes = random.Random(f"conclude {succeeded}"), 0, 0.0
    for number in range(ENDS + 1):
        run = etl.Run.begin(f"test{number}")
        if succeeded:
            etl.run(three.job(), target=etl.Target(database.url), run=run)
        else:
            etl.record_start(three.job(), run=run)
        begun = time.monotonic()
        child = begin(run)
        if number:
            time.sleep(moments.uniform(0.4, 0.95) * takes)
            child.kill()
        killed += child.wait(60) == -signal.SIGKILL  # else it had ended before
        takes = takes or time.monotonic() - begun
        mails = topic.mails()
        assert len(mails) <= 1
        assert len(mails) == 1 or number, "the one that nobody killed sends its mail"
        assert not list(three.output.glob("notices/*.json"))
        receipt = json.loads((three.output / "receipts" / f"{run.run_id}.json").read_bytes())
        state = receipt["state"]
        assert state in ({"success"} if succeeded else {"running", "failed"})
        if mails:
            assert state == ("success" if succeeded else "failed")
        assert mails or receipt["mail"] is None, "a mail is told to be out that is not"
    assert killed >= ENDS / 2
    figures.counts["conclusions_killed"] += killed


def test_run_short_of_memory_ends_and_leaves_nothing_and_the_next_one_repairs(
    sample: Files, database: Database, figures: Figures
) -> None:
    # One company file just under the limit, which takes some 200 MiB while it is checked.
    header, *rows = (sample.source / "ge.us.csv").read_bytes().splitlines(keepends=True)
    (sample.source / "ge.us.csv").write_bytes(header + b"".join(rows) * 12)
    whole = 0
    failed = Counter[int]()
    for mebibytes in range(460, 860, 80):
        database.execute("TRUNCATE historical_stocks_data, loaded_companies, pipeline_runs")
        size = mebibytes << 20
        child = start(
            "run", files=sample, url=database.url, before=partial(resource.setrlimit, resource.RLIMIT_AS, (size, size))
        )
        _, err = child.communicate(timeout=120)
        assert processes_of_session(child.pid) == []
        assert sessions_end(database)
        if child.returncode == 0:
            whole += 1
        else:
            failed[child.returncode] += 1
            assert (database.count(), database.ledger()) == (0, []), err
            figures.counts["faults_injected"] += 1
            finish("run", sample, database)
        assert list(sample.output.rglob("*.partial")) == []
        figures.check_truth(sample, database)
    assert failed.total() >= 3, (failed, whole)


def test_command_without_memory_says_so_in_one_line_and_leaves_a_receipt(
    three: Files, database: Database, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(sys.modules["etl.files.process"], "parse_company_files", run_out)
    places = ("--source", three.source, "--index", three.index, "--output", three.output)
    answer = command("run", *places, "--database-url", database.url, "--quiet")
    assert (answer.code, answer.out, answer.err.count("\n")) == (3, "", 1)
    assert "Memory ran out" in answer.err
    assert database.states() == ["failed"]
    assert [receipt["state"] for receipt in three.receipts().values()] == ["failed"]
    assert list(three.output.rglob("*.partial")) == []
