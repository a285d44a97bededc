"""`trigger`: a marker into the monitored bucket, and the receipt of the run that it starts."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from etl.outcome.receipt import FileCounts, MailState, Receipt, RowCounts, State
from infra_scripts.commands import trigger
from infra_scripts.errors import AwsError
from infra_scripts.settings import read_settings
from tests.support.account import MONITORED_BUCKET, Account, RunCommand
from tests.support.paths import ROOT
from trigger.s3_event import marker_name

Put = Callable[..., str]


@pytest.fixture
def put_receipt(account: Account) -> Put:
    """Writes a receipt as the pipeline does, for a run of a marker put at some time; returns its run id."""

    def put(*, at: datetime, marker: str, state: str, **facts: Any) -> str:  # noqa: ANN401  whatever a Receipt takes
        run_id = f"{marker_name(MONITORED_BUCKET, marker, at)}_01234567"
        receipt = Receipt(run_id=run_id, state=State(state), started_at=at, **facts)
        account.put(f"Output/receipts/{run_id}.json", receipt.to_json().encode())
        return run_id

    return put


@contextmanager
def running(line: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """The command as a child that is gone after the block, however that ends."""
    pipe = subprocess.PIPE
    child = subprocess.Popen(line, env=environment, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def test_each_call_puts_one_marker(command: RunCommand, account: Account) -> None:
    done = command("trigger", "--json")
    assert done.returncode == 0, done.stderr
    (key,) = account.keys(bucket=MONITORED_BUCKET)
    assert json.loads(done.stdout)["marker"] == f"s3://{MONITORED_BUCKET}/{key}"
    assert key.endswith("Z.SUCCESS")


def test_dry_run_puts_none(command: RunCommand, account: Account) -> None:
    assert command("trigger", "--dry-run").returncode == 0
    assert not account.keys(bucket=MONITORED_BUCKET)


@pytest.mark.parametrize(("state", "code"), [("success", 0), ("failed", 1)])
def test_waiting_follows_the_new_run_to_its_end(
    state: str, code: int, surroundings: dict[str, str], env_file: Path, account: Account, put_receipt: Put
) -> None:
    before = datetime.now(UTC) - timedelta(minutes=5)
    put_receipt(at=before, marker="older.SUCCESS", state="failed", error="of an older marker", mail=MailState.SENT)
    line = [sys.executable, "-m", "infra_scripts", "trigger", "--wait", "--env-file", str(env_file)]
    with running(line, surroundings) as child:
        deadline = time.monotonic() + 30
        while not (markers := account.keys(bucket=MONITORED_BUCKET)) and time.monotonic() < deadline:
            time.sleep(0.1)
        [marker], at = markers, datetime.now(UTC)
        put_receipt(at=at - timedelta(seconds=1), marker="another.SUCCESS", state="failed", mail=MailState.SENT)
        run_id = put_receipt(at=at, marker=marker, state="running")
        time.sleep(4)
        put_receipt(at=at, marker=marker, state="failed", error="of the first try, which Airflow repeats")
        time.sleep(4)
        assert child.poll() is None
        rows = RowCounts(read=10, accepted=9, rejected=1, inserted=9, deleted=0, unchanged=0)
        files = FileCounts(listed=2, accepted=2)
        end: dict[str, Any] = {"error": "no disk", "mail": MailState.KEPT} if code else {}
        put_receipt(at=at, marker=marker, state=state, files=files, rows=rows, **end)
        printed, said = child.communicate(timeout=30)
    assert child.returncode == code, said
    assert f"run {run_id} has started" in said
    assert printed.startswith(f"{state}: run {run_id}")
    assert "10 read = 9 accepted + 1 rejected" in printed
    assert ("no disk" in printed) == bool(code)


FIRST, SECOND = ({"state": "failed", "mail": None, "error": f"of shard {n}"} for n in (1, 2))
RUNNING: dict[str, Any] = {"state": "running", "mail": None}
SUCCESS: dict[str, Any] = {"state": "success", "mail": "sent"}


@pytest.mark.parametrize(
    ("receipts", "end", "seconds"),
    [
        ({0: RUNNING, 60: FIRST, 420: RUNNING, 440: SUCCESS}, SUCCESS, 440),
        ({0: RUNNING, 60: FIRST, 120: RUNNING, 130: SECOND, 200: SECOND | {"mail": "sent"}}, SECOND, 200),
        ({0: RUNNING, 60: FIRST | {"mail": "kept"}}, FIRST, 60),
        ({0: RUNNING, 60: FIRST}, FIRST, 3600),
        ({0: RUNNING, 60: FIRST, 420: RUNNING}, None, 3600),
    ],
    ids=["another shard goes on", "mailed after a second try", "mail was kept", "no mail", "no end"],
)
def test_a_run_has_failed_once_its_mail_says_so_or_the_time_is_over(
    receipts: dict[int, dict[str, Any]],
    end: dict[str, Any] | None,
    seconds: float,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda seconds: now.append(now.pop() + seconds))
    monkeypatch.setattr(trigger, "time", clock)
    monkeypatch.setattr(
        trigger, "_read", lambda *_, **__: receipts[max(since for since in receipts if since <= now[0])]
    )
    monkeypatch.setattr(trigger, "_receipt_of", lambda *_, **__: "key")
    settings = read_settings(dict.fromkeys(("MBD_FIRST_NAME", "MBD_LAST_NAME"), "Ada") | {"AWS_REGION": "eu-west-1"})
    s3: Any = None
    follow = functools.partial(trigger._follow, s3, settings=settings, marker="a.SUCCESS", since=datetime.now(UTC))
    if end is None:
        with pytest.raises(AwsError, match="has not ended within 60 minutes"):
            follow(seconds=3600)
    else:
        found = follow(seconds=3600)
        assert (found["state"], found.get("error")) == (end["state"], end.get("error"))
    assert seconds <= now[0] < seconds + 4
    said = capsys.readouterr().err
    assert ("a try has failed (of shard 1); waiting" in said) is (FIRST in receipts.values())
    assert ("no mail about the run's end within 60 minutes: it may still go on" in said) is (
        end == FIRST and seconds == 3600
    )


def test_a_run_is_found_whose_event_has_the_second_before_the_answers(account: Account, put_receipt: Put) -> None:
    settings = read_settings({"MBD_FIRST_NAME": "Ada", "MBD_LAST_NAME": "Lovelace", "AWS_REGION": "eu-west-1"})
    put_at = datetime(2026, 11, 27, 12, tzinfo=UTC)
    run_id = put_receipt(at=put_at - timedelta(seconds=1), marker="a.SUCCESS", state="running")
    found = trigger._receipt_of(account.s3, settings=settings, marker="a.SUCCESS", since=put_at)
    assert found == f"Output/receipts/{run_id}.json"


def test_a_run_that_never_starts_is_reported_after_the_timeout(command: RunCommand, account: Account) -> None:
    began = time.monotonic()
    done = command("trigger", "--wait", "--timeout", "0.1")
    assert done.returncode == 3
    assert time.monotonic() - began >= 6  # a tenth of a minute
    assert "No run has started" in done.stderr
    assert len(account.keys(bucket=MONITORED_BUCKET)) == 1


def test_without_the_trigger_s_stack_it_says_what_to_deploy(command: RunCommand, account: Account) -> None:
    account.s3.delete_bucket(Bucket=MONITORED_BUCKET)
    for options in ((), ("--dry-run",)):
        done = command("trigger", *options)
        assert done.returncode == 1
        assert "run make deploy first" in done.stderr
