"""When an instance that scales to zero may stop itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from infra_scripts.instance import idle_stop
from infra_scripts.instance.idle_stop import MINUTES_AFTER_BOOT, Facts, _runs, reason_to_stay
from tests.support.http_server import LocalServer

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
IDLE = Facts(
    now=NOW,
    booted_at=NOW - timedelta(hours=2),
    unfinished_runs=0,
    last_run_ended_at=NOW - timedelta(minutes=30),
    dag_processor_is_healthy=True,
    people=0,
)


def changed(**changes: Any) -> Facts:  # noqa: ANN401  whatever Facts takes
    return Facts(**{**vars(IDLE), **changes})


def test_an_instance_whose_last_run_ended_long_ago_stops() -> None:
    assert reason_to_stay(IDLE, idle_minutes=10) is None


def test_an_instance_that_has_had_no_run_at_all_stops_too() -> None:
    assert reason_to_stay(changed(last_run_ended_at=None), idle_minutes=10) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"unfinished_runs": 1}, "1 unfinished runs"),
        ({"last_run_ended_at": NOW - timedelta(minutes=9, seconds=59)}, "idle for 10 of 10 minutes"),
        ({"booted_at": NOW - timedelta(minutes=MINUTES_AFTER_BOOT - 1)}, "up for 19 of at least 20 minutes"),
        ({"dag_processor_is_healthy": False}, "a mail may be waiting"),
        ({"people": 2}, "2 people are logged in"),
    ],
)
def test_it_stays_and_says_why(changes: dict[str, Any], reason: str) -> None:
    assert reason in (reason_to_stay(changed(**changes), idle_minutes=10) or "")


def test_boot_counts_even_when_the_last_run_ended_days_ago() -> None:
    facts = changed(booted_at=NOW - timedelta(minutes=3), last_run_ended_at=NOW - timedelta(days=3))
    assert "up for 3" in (reason_to_stay(facts, idle_minutes=10) or "")


RUNS = [{"state": "success", "end_date": f"2026-11-{day}T10:00:00Z"} for day in ("20", "22", "21")]


class Airflow(BaseHTTPRequestHandler):
    """Answers idle_stop as Airflow does, with what it holds: it filters, orders and cuts off as it is asked to."""

    def do_POST(self) -> None:
        self._answer({"access_token": "t"})

    def do_GET(self) -> None:
        target = urlsplit(self.path)
        wanted = parse_qs(target.query)
        runs = [run for run in RUNS if run["state"] in wanted.get("state", [])]
        [order] = wanted.get("order_by", ["end_date"])
        runs.sort(key=lambda run: run[order.removeprefix("-")], reverse=order.startswith("-"))
        healthy = {"dag_processor": {"status": "healthy"}}
        found = {"total_entries": len(runs), "dag_runs": runs[: int(wanted.get("limit", ["50"])[0])]}
        self._answer(healthy if target.path.endswith("health") else found)

    def _answer(self, facts: dict[str, Any]) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response_only(200)
        self.end_headers()
        self.wfile.write(json.dumps(facts).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


def test_the_run_that_ended_last_is_the_one_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalServer(Airflow) as airflow:
        settings = {"AIRFLOW_PORT": airflow.url.rpartition(":")[2], "AIRFLOW_TRIGGER_PASSWORD": "p"}
        monkeypatch.setattr(idle_stop, "_setting", lambda name: settings.get(name, ""))
        monkeypatch.setattr(idle_stop, "_output", lambda *_: "")
        assert idle_stop.gather().last_run_ended_at == datetime(2026, 11, 22, 10, tzinfo=UTC)


@pytest.mark.parametrize(("printed", "count"), [("[]\n", 0), ('2026 [warn] x\n[{"run_id": "a"}]\nbye [1]\n', 1)])
def test_runs_are_read_among_warnings(printed: str, count: int) -> None:
    assert len(_runs(printed)) == count


def test_no_list_of_runs_is_no_leave_to_stop() -> None:
    with pytest.raises(ValueError, match="no list"):
        _runs("DAG: moving_big_data does not exist in 'dag' table")


@pytest.mark.parametrize(
    ("reboot_required", "upgradable", "runs", "commands"),
    [
        (False, "Listing...\n", 0, []),
        (True, "Listing...\n", 0, ["systemctl reboot"]),
        (False, "docker.io/noble-updates 28.2 amd64 [upgradable from: 28.1]\nvim/noble 9 amd64\n", 0,
         ["apt-get install --only-upgrade docker.io", "systemctl reboot"]),
        (True, "Listing...\n", 1, []),
    ],
)  # fmt: skip
def test_docker_and_kernel_are_upgraded_only_when_due_and_no_run_is_under_way(
    reboot_required: bool,
    upgradable: str,
    runs: int,
    commands: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called: list[str] = []

    def output(*command: str, **_: object) -> str:
        if command[0] in ("systemctl", "apt-get"):
            options = {"-q", "-y", "-o", "DPkg::Lock::Timeout=300"}
            called.append(" ".join(word for word in command if word not in options))
        return upgradable if command[0] == "apt" else "[]"

    if reboot_required:
        (tmp_path / "reboot-required").touch()
    monkeypatch.setattr(idle_stop, "_REBOOT_REQUIRED", tmp_path / "reboot-required")
    monkeypatch.setattr(idle_stop, "_output", output)
    monkeypatch.setattr(idle_stop, "_runs", lambda printed: [])
    monkeypatch.setattr(idle_stop, "gather", lambda: changed(unfinished_runs=runs))
    assert idle_stop.main(["--maintain"]) == 0
    assert called == commands
