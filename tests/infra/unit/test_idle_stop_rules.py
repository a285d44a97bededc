"""When an instance that scales to zero may stop itself."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar
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

    runs: ClassVar = RUNS
    dag_processor: str | None = "healthy"

    def do_POST(self) -> None:
        self._answer({"access_token": "t"})

    def do_GET(self) -> None:
        target = urlsplit(self.path)
        wanted = parse_qs(target.query)
        runs = [run for run in self.runs if run["state"] in wanted.get("state", [])]
        [order] = wanted.get("order_by", ["end_date"])
        runs.sort(key=lambda run: run[order.removeprefix("-")], reverse=order.startswith("-"))
        health = {"dag_processor": {"status": self.dag_processor}}
        found = {"total_entries": len(runs), "dag_runs": runs[: int(wanted.get("limit", ["50"])[0])]}
        self._answer(health if target.path.endswith("health") else found)

    def _answer(self, facts: dict[str, Any]) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response_only(200)
        self.end_headers()
        self.wfile.write(json.dumps(facts).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


def test_the_run_that_ended_last_is_the_one_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gathered(monkeypatch).last_run_ended_at == datetime(2026, 11, 22, 10, tzinfo=UTC)


def gathered(
    monkeypatch: pytest.MonkeyPatch, *, who: str = "", kind: type[Airflow] = Airflow, password: str = "p"
) -> Facts:
    with LocalServer(kind) as airflow:
        settings = {"AIRFLOW_PORT": airflow.url.rpartition(":")[2], "AIRFLOW_TRIGGER_PASSWORD": password}
        monkeypatch.setattr(idle_stop, "_setting", lambda name: settings.get(name, ""))
        monkeypatch.setattr(idle_stop, "_output", lambda *command: who if command == ("who",) else "")
        return idle_stop.gather()


def test_the_instance_booted_as_long_ago_as_it_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_stop, "_seconds_up", lambda: 600.0)
    facts = gathered(monkeypatch)
    assert abs(facts.now - facts.booted_at - timedelta(minutes=10)) < timedelta(minutes=1)


class Busy(Airflow):
    runs: ClassVar = [{"state": "queued", "end_date": ""}, {"state": "running", "end_date": ""}, *RUNS]


def test_runs_that_wait_and_runs_under_way_are_unfinished(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gathered(monkeypatch, kind=Busy).unfinished_runs == 2
    assert gathered(monkeypatch).unfinished_runs == 0


class Headless(Airflow):
    dag_processor = None  # as Airflow says of one that has never sent a heartbeat


def test_a_dag_processor_of_which_nothing_was_heard_is_not_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    assert gathered(monkeypatch).dag_processor_is_healthy is True
    assert gathered(monkeypatch, kind=Headless).dag_processor_is_healthy is False


def test_whoever_is_logged_in_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = gathered(monkeypatch).people
    assert gathered(monkeypatch, who="ada pts/0\nbob pts/1\n").people == sessions + 2


def test_a_password_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="AIRFLOW_TRIGGER_PASSWORD is not set"):
        gathered(monkeypatch, password="")


@pytest.mark.parametrize(
    ("bind", "host"),
    [
        ("", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("10.0.0.5", "10.0.0.5"),
        ("::", "[::1]"), ("[::]", "[::1]"), ("fd00::5", "[fd00::5]"), ("[fd00::5]", "[fd00::5]"),
    ],
)  # fmt: skip
def test_airflow_is_asked_at_the_address_that_it_listens_on(
    bind: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def ask(airflow: Any, *_: object, **__: object) -> None:  # noqa: ANN401  the class is private
        asked.append(airflow.url)
        raise OSError("refused")

    settings = {"AIRFLOW_BIND": bind, "AIRFLOW_TLS": "on", "AIRFLOW_TRIGGER_PASSWORD": "p"}
    monkeypatch.setattr(idle_stop, "_setting", lambda name: settings.get(name, ""))
    monkeypatch.setattr(idle_stop._Airflow, "ask", ask)
    with pytest.raises(OSError, match="refused"):
        idle_stop.gather()
    assert asked == [f"https://{host}:8080"]


@pytest.mark.parametrize(("printed", "count"), [("[]\n", 0), ('2026 [warn] x\n[{"run_id": "a"}]\nbye [1]\n', 1)])
def test_runs_are_read_among_warnings(printed: str, count: int) -> None:
    assert len(_runs(printed)) == count


def test_no_list_of_runs_is_no_leave_to_stop() -> None:
    with pytest.raises(ValueError, match="no list"):
        _runs("DAG: moving_big_data does not exist in 'dag' table")


DOCKER_IS_DUE = "docker.io/noble-updates 28.2 amd64 [upgradable from: 28.1]\nvim/noble 9 amd64\n"
DOWNLOAD = "apt-get install --only-upgrade --download-only docker.io"
UPGRADE = "apt-get install --only-upgrade docker.io"
SECURITY = "systemctl start apt-daily.service apt-daily-upgrade.service"
STOP = "shutdown -h now"
CLOSE = "docker compose stop --timeout 20 api-server"
OPEN = "docker compose start api-server"


class Machine:
    """Notes the commands that change the instance. Those that begin with a key of `fails` raise its error instead."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.called: list[str] = []
        self.prints = {"apt list": "Listing...\n", "docker compose exec": "[]"}
        self.fails: dict[str, BaseException] = {}
        self.reboot_required = folder / "reboot-required"
        self.runs = 0
        monkeypatch.setattr(idle_stop, "_REBOOT_REQUIRED", self.reboot_required)
        monkeypatch.setattr(idle_stop, "_output", self._output)
        monkeypatch.setattr(idle_stop, "gather", lambda: changed(unfinished_runs=self.runs))

    def _output(self, *command: str, **_: object) -> str:
        options = {"-q", "-y", "-o", "DPkg::Lock::Timeout=300"}
        line = " ".join(word for word in command if word not in options)
        if not line.startswith(("apt list", "apt-mark", "docker compose ps", "docker compose exec", "systemctl show")):
            self.called.append(line)
        for begin, error in self.fails.items():
            if line.startswith(begin):
                raise error
        return next((text for begin, text in self.prints.items() if line.startswith(begin)), "")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("reboot_required", "upgradable", "runs", "commands"),
    [
        (False, "Listing...\n", 0, []),
        (True, "Listing...\n", 0, [CLOSE, "systemctl reboot"]),
        (False, DOCKER_IS_DUE, 0, ["apt-get update", DOWNLOAD, CLOSE, UPGRADE, "systemctl reboot"]),
        (True, "Listing...\n", 1, []),
    ],
)
def test_docker_and_kernel_are_upgraded_only_when_due_and_no_run_is_under_way(
    reboot_required: bool, upgradable: str, runs: int, commands: list[str], machine: Machine
) -> None:
    if reboot_required:
        machine.reboot_required.touch()
    machine.prints["apt list"], machine.runs = upgradable, runs
    assert idle_stop.main(["--maintain"]) == 0
    assert machine.called == commands


def test_an_instance_that_stops_itself_upgrades_what_is_due_before(machine: Machine) -> None:
    assert idle_stop.main() == 0
    assert machine.called == [SECURITY, CLOSE, STOP]
    machine.called.clear()
    machine.prints["apt list"] = DOCKER_IS_DUE
    assert idle_stop.main() == 0
    assert machine.called == [SECURITY, "apt-get update", DOWNLOAD, CLOSE, UPGRADE, STOP]


@pytest.mark.parametrize(
    ("command", "goes_on"),
    [
        (SECURITY, ["apt-get update", DOWNLOAD, CLOSE, UPGRADE, STOP]),
        ("apt-get update", [CLOSE, STOP]),
        (DOWNLOAD, [CLOSE, STOP]),
        (UPGRADE, [STOP]),
    ],
)
def test_no_upgrade_that_fails_or_hangs_keeps_an_instance_from_stopping(
    command: str, goes_on: list[str], machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.prints["apt list"] = DOCKER_IS_DUE
    machine.fails[command] = subprocess.TimeoutExpired("it", 900)
    assert idle_stop.main() == 0
    assert machine.called[machine.called.index(command) + 1 :] == goes_on
    assert "failed, and the next stop tries again: Command 'it' timed out" in capsys.readouterr().out


def test_a_run_that_came_in_during_the_upgrades_keeps_the_api_open(machine: Machine) -> None:
    def output(*command: str, **limits: object) -> str:
        machine.runs = 1
        return machine._output(*command, **limits)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(idle_stop, "_output", output)
        patch.setattr(idle_stop, "_is_left_closed", lambda: False)
        assert idle_stop.main() == 0
    assert machine.called == [SECURITY]


def test_a_package_on_hold_is_no_upgrade_that_is_due(machine: Machine) -> None:
    machine.prints |= {"apt list": DOCKER_IS_DUE, "apt-mark showhold": "docker.io\n"}
    assert idle_stop.main(["--maintain"]) == 0
    assert machine.called == []


@pytest.mark.parametrize(
    "error",
    [
        subprocess.CalledProcessError(100, "it", stderr="Reading...\nE: 404  Not Found\n"),
        subprocess.TimeoutExpired("it", 900),
        OSError("it is missing"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (CLOSE, []),
        ("shutdown", []),
        (CLOSE, ["--maintain"]),
        (UPGRADE, ["--maintain"]),
        ("systemctl reboot", ["--maintain"]),
    ],
)
def test_whatever_fails_after_the_api_was_closed_opens_it_again(
    command: str, error: Exception, arguments: list[str], machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.prints["apt list"] = DOCKER_IS_DUE
    machine.fails[command] = error
    assert idle_stop.main(arguments) == 1
    assert machine.called[-1] == OPEN
    said = capsys.readouterr().out
    assert f"staying up: {error}" in said
    assert ("E: 404  Not Found" in said) is isinstance(error, subprocess.CalledProcessError)


def test_an_error_that_nobody_expects_opens_the_api_again_too(machine: Machine) -> None:
    machine.fails["shutdown"] = RuntimeError("bug")
    with pytest.raises(RuntimeError, match="bug"):
        idle_stop.main()
    assert machine.called[-1] == OPEN


def test_an_api_that_cannot_be_opened_again_does_not_hide_the_reason(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.fails |= {"shutdown": OSError("no shutdown here"), OPEN: OSError("no docker either")}
    assert idle_stop.main() == 1
    assert "staying up: no shutdown here; then no docker either" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["apt-get update", DOWNLOAD])
def test_an_upgrade_that_cannot_be_fetched_leaves_the_api_open(command: str, machine: Machine) -> None:
    machine.prints["apt list"] = DOCKER_IS_DUE
    machine.fails[command] = subprocess.CalledProcessError(100, "apt-get")
    assert idle_stop.main(["--maintain"]) == 1
    assert machine.called[-1] == command
    assert CLOSE not in machine.called


@pytest.mark.parametrize("arguments", [[], ["--maintain"]], ids=["idle", "maintain"])
@pytest.mark.parametrize(
    ("exited", "unit", "opens"),
    [
        ("init\napi-server\n", "active\n", True),
        ("init\n", "active\n", False),
        ("init\napi-server\nscheduler\n", "active\n", False),  # somebody has stopped all of it
        ("init\napi-server\n", "activating\n", False),  # `up` opens it
    ],
)
def test_an_api_that_a_broken_off_look_left_closed_is_opened_by_the_next(
    exited: str, unit: str, opens: bool, arguments: list[str], machine: Machine
) -> None:
    machine.runs = 1
    machine.prints |= {"docker compose ps": exited, "systemctl show": unit}
    assert idle_stop.main(arguments) == 0
    assert machine.called == ([OPEN] if opens else [])


def test_a_look_waits_for_the_one_of_the_other_timer(machine: Machine) -> None:
    with ThreadPoolExecutor() as threads:
        with idle_stop._alone():
            other = threads.submit(idle_stop.main)
            with pytest.raises(TimeoutError):
                other.result(timeout=0.3)
            assert machine.called == []
        assert other.result(timeout=60) == 0
    assert machine.called[-1] == "shutdown -h now"
