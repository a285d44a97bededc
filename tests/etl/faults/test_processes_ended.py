"""Processes that are told to end or are killed at any moment: nothing is left of them, and the next run repairs."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import etl
from tests.support import steps
from tests.support.cli_process import arguments, processes_of_session, start
from tests.support.figures import check_ledger

if TYPE_CHECKING:
    from tests.support.aws_places import Topic
    from tests.support.batch_files import Files
    from tests.support.commands import Command
    from tests.support.database import Database
    from tests.support.figures import Figures
    from tests.support.moto import MotoServer

ENDS = int(os.environ.get("MBD_KILLS", "8"))  # of each command
SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'moving-big-data'"


def finish(command: str, files: Files, database: Database) -> None:
    """Run it to its end."""
    child = start(command, files=files, url=database.url)
    _, err = child.communicate(timeout=120)
    assert child.returncode == 0, err


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


@pytest.mark.parametrize("command", ["run", "process", "load"])
def test_command_told_to_end_at_any_moment_of_its_work_ends_in_seconds_and_leaves_nothing(
    sample: Files, database: Database, figures: Figures, tmp_path: Path, command: str
) -> None:
    def begin(at: int) -> subprocess.Popen[str]:
        database.execute("TRUNCATE historical_stocks_data, loaded_companies, pipeline_runs")
        if command != "load":
            shutil.rmtree(sample.output)
        program, environment = ["etl", *arguments(command, files=sample)], {"MBD_DATABASE_URL": database.url}
        return steps.start(*program, log=log, environment=environment, at=at, sent=signal.SIGTERM)

    finish("run", sample, database)
    table, combined, log = database.table(), digest(sample), tmp_path / "steps"
    _, err = (child := begin(0)).communicate(timeout=120)
    assert child.returncode == 0, err
    taken = steps.steps(log)
    assert set(taken) >= {"truncate", "write", "flush", "replace"}
    for at in steps.chosen(taken, ENDS, seed=f"SIGTERM {command}"):
        child = begin(at)
        out, err = child.communicate(timeout=30)
        moment = f"told before step {at} of {len(taken)}: {steps.steps(log)[at - 3 : at]}"
        assert (child.returncode, out, err.count("\n")) == (143, "", 1), f"{moment}: {err}"
        assert "terminated: the table holds the old batch or the new one, whole" in err
        assert processes_of_session(child.pid) == [], moment
        assert sessions_end(database), moment
        # One that was just opened may stay, empty, for the next writer of that name.
        assert [path for path in sample.output.rglob("*.partial") if path.stat().st_size] == [], moment
        assert database.table() in ([], table), moment
        check_ledger(database)
        finish("run", sample, database)
        assert list(sample.output.glob("*.partial")) == [], moment
        assert digest(sample) == combined, moment
        figures.check_truth(sample, database)
        figures.counts["terminations"] += 1


CONCLUDE = """
import sys, etl
from datetime import datetime, UTC
source, index, output, run_id, arn, succeeded = sys.argv[1:]
job = etl.Job(source=source, company_index=index, output=output)
etl.send_mail_of_run(job, run=etl.Run(run_id, datetime.now(UTC)), succeeded=succeeded == "1", reason="timed_out",
             mailbox=etl.Mailbox(arn, "ada", "lovelace"))
"""


@pytest.mark.parametrize("succeeded", [True, False])
def test_conclusion_killed_at_any_moment_mails_at_most_once_and_leaves_whole_files(
    three: Files,
    database: Database,
    topic: Topic,
    moto_server: MotoServer,
    figures: Figures,
    tmp_path: Path,
    succeeded: bool,
) -> None:
    def conclude(run: etl.Run, at: int) -> int:
        places = [str(three.source), str(three.index), str(three.output), run.run_id, topic.arn, str(int(succeeded))]
        child = steps.start("-c", CONCLUDE, *places, log=log, environment=moto_server.environment, at=at)
        child.communicate(timeout=60)
        return child.returncode

    log, moments = tmp_path / "steps", [0]
    for at in moments:  # the first is left alone, and says how many there are
        run = etl.Run.begin(f"test{at}")
        if succeeded:
            etl.run(three.job(), target=etl.Target(database.url), run=run)
        else:
            etl.record_start(three.job(), run=run)
        code = conclude(run, at)
        if not at:
            assert code == 0
            assert {"write", "replace", "sendall"} <= set(steps.steps(log))
            moments += steps.chosen(steps.steps(log), ENDS, seed=f"conclude {succeeded}")
        else:
            assert code == -signal.SIGKILL
            figures.counts["conclusions_killed"] += 1
        mails = topic.mails()
        assert len(mails) <= 1
        assert len(mails) == 1 or at, "the one that nobody killed sends its mail"
        assert not list(three.output.glob("notices/*.json"))
        receipt = json.loads((three.output / "receipts" / f"{run.run_id}.json").read_bytes())
        state = receipt["state"]
        assert state in ({"success"} if succeeded else {"running", "failed"})
        if mails:
            assert state == ("success" if succeeded else "failed")
        assert mails or receipt["mail"] is None, "a mail is told to be out that is not"


def test_run_short_of_memory_ends_and_leaves_nothing_and_the_next_one_repairs(
    sample: Files, database: Database, figures: Figures
) -> None:
    # One company file just under the limit, which takes some 200 MiB while it is checked.
    header, *rows = (sample.source / "ge.us.csv").read_bytes().splitlines(keepends=True)
    (sample.source / "ge.us.csv").write_bytes(header + b"".join(rows) * 12)
    whole = 0
    failed = Counter[int]()
    # Of private memory, as a container counts it; where address space is short, Python may hang as it starts a thread.
    for mebibytes in range(50, 450, 80):
        database.execute("TRUNCATE historical_stocks_data, loaded_companies, pipeline_runs")
        size = mebibytes << 20
        child = start(
            "run",
            files=sample,
            url=database.url,
            before=partial(resource.setrlimit, resource.RLIMIT_DATA, (size, size)),
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
    assert failed.total(), f"{whole} runs, and none was short of memory"


@pytest.mark.parametrize(("limit", "sizes"), [("RLIMIT_AS", range(70, 240, 17)), ("RLIMIT_DATA", range(20, 100, 8))])
def test_run_under_any_limit_of_memory_ends_by_itself_and_says_what_is_short(
    sample: Files, database: Database, figures: Figures, limit: str, sizes: range
) -> None:
    failed = 0
    for mebibytes in sizes:
        database.execute("TRUNCATE historical_stocks_data, loaded_companies, pipeline_runs")
        shutil.rmtree(sample.output, ignore_errors=True)
        size = mebibytes << 20
        before = partial(resource.setrlimit, getattr(resource, limit), (size, size))
        child = start("run", files=sample, url=database.url, before=before)
        _, err = child.communicate(timeout=120)  # it does not hang
        assert processes_of_session(child.pid) == []
        if child.returncode:
            failed += 1
            moment = f"{limit} of {mebibytes} MiB: {err}"
            assert child.returncode == 3, moment
            assert err.count("\n") == 1, moment
            assert "emory" in err, moment
            assert (database.count(), database.ledger()) == (0, []), moment
            figures.counts["faults_injected"] += 1
    assert failed


def test_command_without_memory_says_so_in_one_line_and_leaves_a_receipt(
    three: Files, database: Database, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(sys.modules["etl.files.process"], "check_company_file", run_out)
    places = ("--source", three.source, "--index", three.index, "--output", three.output)
    answer = command("run", *places, "--database-url", database.url, "--quiet")
    assert (answer.code, answer.out, answer.err.count("\n")) == (3, "", 1)
    assert "Memory ran out" in answer.err
    assert database.states() == ["failed"]
    assert [receipt["state"] for receipt in three.receipts().values()] == ["failed"]
    assert list(three.output.rglob("*.partial")) == []
