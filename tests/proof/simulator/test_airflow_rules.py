"""The simulator's model of Airflow does with scripted runs what a real Airflow does with them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg2
import pytest

from tests.proof.simulator.airflow_rules import AirflowRules, DagRun, KilledError, TaskFailedError
from tests.proof.simulator.clock import Clock
from tests.support.airflow_server import AirflowServer
from tests.support.postgres import PostgresServer

pytest.importorskip("airflow.sdk")

TASKS = ("gate", "process", "load")
SCRIPTS: dict[str, dict[str, list[str]]] = {
    "plain": {},
    "tried-again": {"gate": ["fail", "fail"], "load": ["fail"]},
    "tried-too-often": {"process": ["fail", "fail", "fail"]},
    "refused": {"load": ["refuse"]},
    "killed": {"load": ["kill"]},
    "killed-too-often": {"gate": ["kill", "kill", "kill"]},
    "cleared": {"process": ["refuse"]},
    "timed-out": {"load": ["hang"]},
    "after-it": {},
}
Seen = dict[str, tuple[str, list[str]]]
"""State of each run, and what it did: tasks with what they came to, callbacks with their reason."""


def by_run(lines: list[str], state: Callable[[str], str]) -> Seen:
    return {
        name: (state(name), [line.partition(" ")[2] for line in lines if line.split()[0] == name]) for name in SCRIPTS
    }


class Scripted:
    """Runs of the model that do what their conf says."""

    def __init__(self) -> None:
        self.clock = Clock(datetime(2026, 3, 9, tzinfo=UTC))
        self.lines: list[str] = []
        self.rules = AirflowRules(
            self.clock,
            self,
            tasks=TASKS,
            retries=2,
            pauses=lambda tried: 1.5 ** (tried - 1),
            timeout=timedelta(hours=1),
        )
        self._dead = ""

    def stop(self, why: str) -> None:
        self._dead = why

    def do_task(self, run: DagRun, task: str, given: Any) -> Any:  # noqa: ANN401
        done = sum(line.startswith(f"{run.run_id} {task} ") for line in self.lines)
        step = [*run.conf.get(task, []), *["ok"] * 10][done]
        self.lines.append(f"{run.run_id} {task} {step}")
        run.under_way, self._dead = self, ""
        match step:
            case "fail" | "refuse":
                raise TaskFailedError(step, may_retry=step == "fail")
            case "kill":
                raise KilledError(step)
            case "hang":
                self.clock.sleep(7200)
        if self._dead:
            raise KilledError(self._dead)
        return step

    def call_back(self, run: DagRun) -> None:
        self.lines.append(f"{run.run_id} callback {run.reason}")


def by_the_model() -> tuple[Seen, list[bool]]:
    scripted = Scripted()
    asked = [scripted.rules.ask(name, dict(script)) for name, script in SCRIPTS.items()]
    asked.append(scripted.rules.ask("plain", {}))
    scripted.clock.run(scripted.clock.now + timedelta(hours=5))
    scripted.rules.clear(scripted.rules.runs["cleared"], whole=False)
    scripted.clock.run(scripted.clock.now + timedelta(hours=1))
    return by_run(scripted.lines, lambda name: scripted.rules.runs[name].state), asked


class Real:
    """A real Airflow with the same runs."""

    def __init__(self, server: AirflowServer, postgres: PostgresServer, log: Path) -> None:
        self._server, self._postgres, self._log = server, postgres, log

    def ask(self, name: str) -> bool:
        body = {"dag_run_id": name, "logical_date": None, "conf": SCRIPTS[name]}
        answer = self._server.request("POST", "dags/scripted/dagRuns", body=body)
        assert answer.status_code in (200, 409), answer.text
        return answer.status_code == 200

    def state(self, name: str) -> str:
        return str(self._server.request("GET", f"dags/scripted/dagRuns/{name}").json()["state"])

    @property
    def lines(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []

    def wait(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 600
        while not holds():
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.3)

    def begin_earlier(self, name: str) -> None:
        with closing(psycopg2.connect(self._postgres.url("airflow"))) as connection, connection:
            connection.cursor().execute(
                "UPDATE dag_run SET start_date = start_date - interval '1 hour' WHERE run_id = %s", [name]
            )

    def clear(self, name: str) -> None:
        body = {"dry_run": False, "only_failed": True}
        answer = self._server.request("POST", f"dags/scripted/dagRuns/{name}/clear", body=body)
        assert answer.ok, answer.text


@pytest.fixture
def real() -> Iterator[Real]:
    with TemporaryDirectory(prefix="scripted-") as folder:
        home, log = Path(folder), Path(folder) / "log"
        shutil.copytree(Path(__file__).parent / "dags", home / "dags")
        with PostgresServer(home / "postgres", databases=["airflow"]) as postgres:
            settings = {
                "SCRIPTED_LOG": str(log),
                "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
                "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
            }
            server = AirflowServer(
                home / "airflow",
                dags=home / "dags",
                database_url=postgres.url("airflow"),
                environment=settings,
                dag_ids=["scripted"],
            )
            with server:
                yield Real(server, postgres, log)


def test_model_does_with_runs_what_airflow_does(real: Real) -> None:
    asked = [real.ask(name) for name in SCRIPTS]
    asked.append(real.ask("plain"))
    real.wait(lambda: "timed-out load hang" in real.lines)
    real.begin_earlier("timed-out")
    ended = {f"{name} callback" for name in SCRIPTS}
    real.wait(lambda: {" ".join(line.split()[:2]) for line in real.lines} >= ended)
    real.clear("cleared")
    real.wait(lambda: "cleared callback success" in real.lines)
    found, expected = by_run(real.lines, real.state), by_the_model()
    assert (found, asked) == expected
    begun = [line.split()[0] for line in real.lines if line.split()[1] != "callback"]
    assert list(dict.fromkeys(begun)) == list(SCRIPTS), "in the order in which they were asked for"
