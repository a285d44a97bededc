"""Real Airflow, trimmed: a DAG folder and a database in, an API that starts and follows runs out."""

from __future__ import annotations

import functools
import json
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg2
import requests
import yaml

from tests.support.paths import ROOT
from tests.support.process import (
    HOST,
    Process,
    StackError,
    clean_environment,
    free_port,
    get_json,
    run,
    wait_until,
    write_private,
)

_OVERFLOW = "AIRFLOW__DATABASE__SQL_ALCHEMY_MAX_OVERFLOW"


class AirflowServer:
    """Real Airflow: api-server, scheduler with LocalExecutor and dag-processor on `database_url`, healthy once entered.

    `environment` reaches all three processes and the tasks (AIRFLOW_CONN_..., AWS_...) and may override a setting.
    With `dag_ids`, entering also waits until these DAGs can be triggered. Beside the admin there is a user for the
    trigger, who may start runs.
    """

    username = "admin"
    trigger_username = "trigger"

    def __init__(
        self,
        directory: Path,
        *,
        dags: Path,
        database_url: str,
        environment: Mapping[str, str] | None = None,
        dag_ids: Sequence[str] = (),
    ) -> None:
        self.home = directory.resolve()
        self.dags = dags.resolve()
        self.password, self.trigger_password = secrets.token_urlsafe(18), secrets.token_urlsafe(18)
        self.dag_ids = dag_ids
        port = free_port()
        self.url = f"http://{HOST}:{port}"
        self.environment = {
            **clean_environment(),
            **_airflow_settings(home=self.home, dags=self.dags, url=self.url, port=port),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{self.username}:admin,{self.trigger_username}:user",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database_url,
            **(environment or {}),
        }
        self._processes: list[Process] = []

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True)
        passwords = {self.username: self.password, self.trigger_username: self.trigger_password}
        write_private(self.home / "passwords.json", json.dumps(passwords))
        self._airflow_once("db", "migrate")
        started = datetime.now(UTC)
        try:
            for name in ("api-server", "scheduler", "dag-processor"):
                command = [
                    sys.executable,
                    "-m",
                    "airflow",
                    name,
                    *(["--skip-serve-logs"] if name == "scheduler" else []),
                ]
                self._processes.append(Process(command, environment=self.environment, log=self.home / f"{name}.log"))
            wait_until(lambda: self._is_healthy(since=started), processes=self._processes, seconds=300)
            wait_until(self._knows_dags, processes=self._processes, seconds=300)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def request(self, method: str, path: str, *, body: Mapping[str, Any] | None = None) -> requests.Response:
        """One authorised call of the REST API; `path` is below `/api/v2`."""
        headers = {"Authorization": f"Bearer {self._token}"}
        return requests.request(method, f"{self.url}/api/v2/{path}", json=body, headers=headers, timeout=30)

    @functools.cached_property
    def _token(self) -> str:
        credentials = {"username": self.username, "password": self.password}
        answer = requests.post(f"{self.url}/auth/token", json=credentials, timeout=30)
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    def _airflow_once(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "airflow", *arguments]
        run(command, environment=self.environment, log=self.home / f"{'-'.join(arguments)}.log")

    def _is_healthy(self, *, since: datetime) -> bool:
        """Both heartbeats are from this start: the database may hold recent ones of the last."""
        health = get_json(f"{self.url}/api/v2/monitor/health")
        if health is None:
            return False
        beats = [health[name][f"latest_{name}_heartbeat"] for name in ("scheduler", "dag_processor")]
        return all(beat is not None and datetime.fromisoformat(beat) > since for beat in beats)

    def _knows_dags(self) -> bool:
        errors = self.request("GET", "importErrors").json()["import_errors"]
        if errors:
            raise StackError(f"Airflow cannot import {errors[0]['filename']}:\n{errors[0]['stack_trace']}")
        return all(self.request("GET", f"dags/{dag_id}").ok for dag_id in self.dag_ids)

    def _stop(self) -> None:
        for process in self._processes:
            process.ask_to_stop()
        for process in self._processes:
            process.stop()
        self._processes.clear()


@contextmanager
def no_new_run(metadata_url: str) -> Iterator[Callable[[], int]]:
    """In Airflow's database nobody can add a run; how many wait to do so."""
    with closing(psycopg2.connect(metadata_url)) as connection, connection.cursor() as cursor:

        def waiting() -> int:
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute("SELECT query FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            return sum(query.startswith("INSERT INTO dag_run") for (query,) in cursor)

        cursor.execute("LOCK TABLE dag_run IN EXCLUSIVE MODE")  # readers go on
        yield waiting


def _airflow_settings(*, home: Path, dags: Path, url: str, port: int) -> dict[str, str]:
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__HOST": HOST,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
        "AIRFLOW__API__THEME": _of_the_stack("service.yml", "airflow", "AIRFLOW__API__THEME"),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        _OVERFLOW: _of_the_stack("docker-compose.yml", "api-server", _OVERFLOW),
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
        "AIRFLOW__LOGGING__NAMESPACE_LEVELS": "http.access=WARNING",
        "AIRFLOW__LOGGING__UVICORN_LOGGING_LEVEL": "WARNING",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def _of_the_stack(file: str, service: str, setting: str) -> str:
    """The value that a service of the stack has in its own file."""
    stack = yaml.safe_load((ROOT / "airflow" / file).read_text(encoding="utf-8"))
    return str(stack["services"][service]["environment"][setting])
