"""idle_stop.py against a real Airflow: it asks, closes the API, checks once more, and only then shuts down.

`docker`, `systemctl`, `apt`, `who` and `shutdown` are stand-ins that note how they were called;
`docker compose exec scheduler airflow ...` runs that Airflow's own command line.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.airflow_server import AirflowServer
from tests.support.paths import ROOT
from tests.support.postgres import PostgresServer

pytest.importorskip("airflow.sdk", reason="Airflow is missing: make setup")

# A run lasts as long as the file that its conf names is not there.
DAG = """
import pathlib, time
from airflow.sdk import dag, get_current_context, task

@dag(dag_id="moving_big_data", schedule=None, params={"until": ""})
def moving_big_data():
    @task
    def wait():
        until = pathlib.Path(get_current_context()["params"]["until"])
        while not until.exists():
            time.sleep(0.2)
    wait()

moving_big_data()
"""


@pytest.fixture(scope="module")
def airflow() -> Iterator[AirflowServer]:
    directory = Path(tempfile.mkdtemp(prefix="infra-data-airflow-"))
    (directory / "dags").mkdir()
    (directory / "dags" / "moving_big_data.py").write_text(DAG)
    with (
        PostgresServer(directory / "postgres", databases=("airflow",)) as postgres,
        AirflowServer(
            directory / "airflow",
            dags=directory / "dags",
            database_url=postgres.url("airflow"),
            dag_ids=["moving_big_data"],
        ) as server,
    ):
        yield server
    shutil.rmtree(directory, ignore_errors=True)


class Instance:
    """The instance's own folder, with .env and the stand-ins."""

    def __init__(self, directory: Path, airflow: AirflowServer) -> None:
        self.directory, self.airflow = directory, airflow
        self.calls_file = directory / "calls"
        env = f"AIRFLOW_PORT={airflow.url.rpartition(':')[2]}\nAIRFLOW_TRIGGER_PASSWORD='{airflow.trigger_password}'\n"
        (directory / ".env").write_text(env)
        (directory / "airflow").mkdir()
        shutil.copy(ROOT / "airflow" / "make_env.sh", directory / "airflow")
        # `stop` lets somebody in at the last moment where a test says so
        self._stand_in(
            "docker",
            'case "$*" in',
            f'  *"exec -T scheduler airflow"*) shift 4; exec {sys.executable} -m "$@" ;;',
            f'  *stop*api-server) [ ! -x "{directory}/intruder" ] || "{directory}/intruder" ;;',
            "esac",
        )
        for name in ("shutdown", "systemctl", "apt", "who"):
            self._stand_in(name)

    def _stand_in(self, name: str, *lines: str) -> None:
        path = self.directory / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(["#!/bin/sh", f'echo "{name} $*" >>"{self.calls_file}"', *lines, ""]))
        path.chmod(0o755)

    def let_in_at_the_last_moment(self, lines: Callable[[Path], list[str]]) -> None:
        path = self.directory / "intruder"
        path.write_text("\n".join(["#!/bin/sh", *lines(self.directory)]))
        path.chmod(0o755)

    def look(self, *, idle_minutes: float = 0) -> str:
        """One call of the timer; returns what it says."""
        environment = {
            **self.airflow.environment,
            "PATH": f"{self.directory / 'bin'}:/usr/bin:/bin",
            "MBD_IDLE_MINUTES": str(idle_minutes),
        }
        script = ROOT / "infra_scripts" / "instance" / "idle_stop.py"
        done = subprocess.run(
            [sys.executable, str(script)],
            cwd=self.directory,
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    @property
    def calls(self) -> list[str]:
        words = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        return [word for word in words if not word.startswith(("who", "docker compose ps", "apt list"))]

    @property
    def is_stopped(self) -> bool:
        return "shutdown -h now" in self.calls


@pytest.fixture
def instance(tmp_path: Path, airflow: AirflowServer, monkeypatch: pytest.MonkeyPatch) -> Instance:
    if float(Path("/proc/uptime").read_text().split()[0]) < 20 * 60:
        pytest.skip("this machine booted less than 20 minutes ago, and so the script would stay up")
    return Instance(tmp_path, airflow)


def start_run(airflow: AirflowServer, *, until: Path) -> str:
    body = {"logical_date": None, "conf": {"until": str(until)}}
    answer = airflow.request("POST", "dags/moving_big_data/dagRuns", body=body)
    assert answer.ok, answer.text
    return str(answer.json()["dag_run_id"])


def finish(airflow: AirflowServer, run_id: str, *, until: Path) -> None:
    until.touch()
    deadline = time.monotonic() + 60
    while airflow.request("GET", f"dags/moving_big_data/dagRuns/{run_id}").json()["state"] != "success":
        assert time.monotonic() < deadline
        time.sleep(0.3)


def test_with_nothing_to_do_it_upgrades_closes_the_api_checks_again_and_shuts_down(instance: Instance) -> None:
    assert "stopping this instance" in instance.look()
    assert instance.calls[:2] == [
        "systemctl start apt-daily.service apt-daily-upgrade.service",
        "docker compose stop --timeout 20 api-server",
    ]
    assert "airflow dags list-runs moving_big_data" in instance.calls[2]
    assert instance.calls[3:] == ["shutdown -h now"]


def test_an_unfinished_run_and_one_that_has_just_ended_keep_it_up(
    instance: Instance, airflow: AirflowServer, tmp_path: Path
) -> None:
    run_id = start_run(airflow, until=tmp_path / "done")
    assert "staying up: 1 unfinished runs" in instance.look()
    finish(airflow, run_id, until=tmp_path / "done")
    assert "staying up: idle for 0 of 10 minutes" in instance.look(idle_minutes=10)
    assert not instance.calls
    assert "stopping this instance" in instance.look()


def test_a_run_that_slips_in_at_the_last_moment_opens_the_api_again(
    instance: Instance, airflow: AirflowServer, tmp_path: Path
) -> None:
    trigger = f"{sys.executable} -m airflow dags trigger moving_big_data --run-id late --conf"
    instance.let_in_at_the_last_moment(lambda folder: [f"""{trigger} '{{"until": "{folder}/done"}}' >&2"""])
    said = instance.look()
    assert "staying up: 1 runs came in just now" in said
    assert instance.calls[-1] == "docker compose start api-server"
    assert not instance.is_stopped
    finish(airflow, "late", until=tmp_path / "done")


def test_a_session_of_systems_manager_keeps_it_up_as_a_login_does(instance: Instance) -> None:
    """A shell or a port forwarding, which `who` does not list, has a process of the agent's."""
    sleep = shutil.which("sleep")
    assert sleep
    worker = "/snap/amazon-ssm-agent/current/ssm-session-worker"
    with subprocess.Popen([worker, "60"], executable=sleep) as session:
        try:
            assert "staying up: 1 people are logged in" in instance.look()
        finally:
            session.kill()
    assert "stopping this instance" in instance.look()


def test_an_airflow_that_does_not_answer_keeps_it_up(instance: Instance) -> None:
    (instance.directory / ".env").write_text("AIRFLOW_PORT=9\nAIRFLOW_TRIGGER_PASSWORD='x'\n")
    assert "staying up: Airflow's state is not known" in instance.look()
    (instance.directory / ".env").write_text(f"AIRFLOW_PORT={instance.airflow.url.rpartition(':')[2]}\n")
    assert "AIRFLOW_TRIGGER_PASSWORD" in instance.look()
    assert not instance.calls


def test_a_last_check_that_fails_opens_the_api_again(instance: Instance) -> None:
    (instance.directory / "bin" / "docker").write_text(
        f'#!/bin/sh\necho "docker $*" >>"{instance.calls_file}"\ncase "$*" in *exec*) exit 1;; esac\n'
    )
    assert "staying up: the last check failed" in instance.look()
    assert instance.calls[-1] == "docker compose start api-server"
    assert not instance.is_stopped
