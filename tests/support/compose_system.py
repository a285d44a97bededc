"""The system with Airflow in Docker Compose: the files of airflow/ in, a healthy stack in a project of its own out."""

from __future__ import annotations

import functools
import json
import os
import secrets
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import psycopg2
import requests

from etl.table.schema import make_tables
from tests.support.airflow_server import AirflowServer
from tests.support.moto import MotoServer
from tests.support.paths import ROOT
from tests.support.process import StackError, clean_environment, free_port
from tests.support.system import DAG_ID, FIRST_NAME, LAST_NAME, SOURCE_BUCKET, TOPIC, LocalSystem, Mail

COMPOSE, CELERY = ROOT / "airflow" / "docker-compose.yml", ROOT / "airflow" / "docker-compose.celery.yml"
WORKER = ROOT / "airflow" / "docker-compose.worker.yml"
_TEST = ROOT / "tests" / "stack" / "docker-compose.test.yml"
_WORKER_TEST = ROOT / "tests" / "stack" / "docker-compose.worker.test.yml"
LOGS = f"s3://{SOURCE_BUCKET}/Output/logs"  # the instance's role may write below Output/ alone
AIRFLOW_SERVICES = ("api-server", "scheduler", "dag-processor")
SECRETS = (
    "AIRFLOW_ADMIN_PASSWORD",
    "AIRFLOW_TRIGGER_PASSWORD",
    "AIRFLOW_METADATA_PASSWORD",
    "AIRFLOW_FERNET_KEY",
    "AIRFLOW_JWT_SECRET",
    "AIRFLOW_SECRET_KEY",
    "AIRFLOW_REDIS_PASSWORD",
)


def missing_docker() -> str | None:
    """Why Docker Compose cannot be used here and how to get it, or None."""
    for command, advice in (
        (["docker", "info"], "start a Docker engine (or set DOCKER_HOST)"),
        (["docker", "compose", "version"], "install the plugin docker-compose-v2"),
    ):
        try:
            answer = subprocess.run(command, check=False, capture_output=True, text=True)
        except FileNotFoundError:
            return "The command docker is not installed: install Docker Engine with Compose v2."
        if answer.returncode:
            return f"`{' '.join(command)}` fails: {advice}."
    return None


def docker_environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours without what compose would read from it, plus `settings`."""
    inherited = {
        name: value for name, value in clean_environment().items() if not name.startswith(("MBD_", "COMPOSE_"))
    }
    return {**inherited, **(settings or {})}


def make_env(directory: Path, *, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Run make_env.sh in `directory` as if that were the repository; returns what .env holds then."""
    (directory / "airflow").mkdir(parents=True, exist_ok=True)
    script = shutil.copy(ROOT / "airflow" / "make_env.sh", directory / "airflow")
    subprocess.run([script], check=True, capture_output=True, env=docker_environment(environment))
    return read_env(directory / ".env")


def read_env(path: Path) -> dict[str, str]:
    lines = [line.partition("=") for line in path.read_text().splitlines() if "=" in line and not line.startswith("#")]
    return {name: value for name, _, value in lines}


@dataclass(frozen=True)
class Memory:
    """Of one container, in bytes."""

    limit: int
    peak: int
    """With the page cache that the kernel would give back."""
    used: int
    """Of it what processes hold now."""
    kills: int
    """How many processes the kernel has killed because the limit was reached."""


class StackAirflow(AirflowServer):
    """The REST API of an Airflow that compose runs."""

    def __init__(self, url: str, *, username: str, password: str, certificate: Path | None = None) -> None:
        self.url, self.username, self.password = url, username, password
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = str(certificate) if certificate else True

    def request(self, method: str, path: str, *, body: Mapping[str, Any] | None = None) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        return self.session.request(method, f"{self.url}/api/v2/{path}", json=body, headers=headers, timeout=30)

    @functools.cached_property
    def token(self) -> str:
        credentials = {"username": self.username, "password": self.password}
        answer = self.session.post(f"{self.url}/auth/token", json=credentials, timeout=30)
        answer.raise_for_status()
        return str(answer.json()["access_token"])


class ComposeSystem(LocalSystem):
    """Airflow's stack as deployed, with moto as AWS and a target database; gone without a trace after its `with` block.

    `settings` are further lines of .env.
    """

    airflow: StackAirflow

    def __init__(self, directory: Path, *, workers: int = 0, settings: Mapping[str, str] | None = None) -> None:
        self.directory, self.workers, self._deploys = directory, workers, False
        self.mails: list[Mail] = []
        self.project = f"mbd-test-{secrets.token_hex(4)}"
        port = {name: str(free_port()) for name in ("airflow", "metadata", "moto", "target", "redis")}
        self.aws = MotoServer(directory)
        self.aws.url = f"http://127.0.0.1:{port['moto']}"
        self.target_password, self.aws_secret_key = secrets.token_hex(16), f"testing{secrets.token_hex(16)}"
        self._target_port = port["target"]
        made = make_env(directory)
        self.env = {
            **made,
            "AIRFLOW_PORT": port["airflow"],
            "AIRFLOW_REDIS_PORT": port["redis"],
            "AIRFLOW_TASK_HEARTBEAT_TIMEOUT": "20",
            "AIRFLOW_CONN_AWS_DEFAULT": f"'{json.dumps(self._aws_connection())}'",
            "AIRFLOW_CONN_STOCKS_DATABASE": self._stocks_connection(),
            "MBD_FIRST_NAME": FIRST_NAME,
            "MBD_LAST_NAME": LAST_NAME,
            "MBD_SOURCE_BUCKET": SOURCE_BUCKET,
            "MBD_TOPIC_ARN": f"arn:aws:sns:eu-west-1:123456789012:{TOPIC}",
            "MBD_GATE_GRACE_SECONDS": "3",
            "TEST_METADATA_PORT": port["metadata"],
            "TEST_MOTO_PORT": port["moto"],
            "TEST_TARGET_PASSWORD": self.target_password,
            "TEST_TARGET_PORT": port["target"],
            **(settings or {}),
        }
        self._write_env()
        url = f"http://127.0.0.1:{port['airflow']}"
        self.airflow = StackAirflow(url, username="admin", password=made["AIRFLOW_ADMIN_PASSWORD"])
        self.trigger_airflow = StackAirflow(url, username="trigger", password=made["AIRFLOW_TRIGGER_PASSWORD"])

    def __enter__(self) -> Self:
        try:
            for image in ("moto", "init"):  # Docker 20.10 may fall over two builds at once (moby/buildkit#2861)
                self.compose("build", image, seconds=900)
            self.up()
            make_tables(self.database_url)
            self._make_aws_resources()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def start(self, run_id: str, **conf: object) -> str:
        """Start a run with the calls and the account of the trigger; returns its id."""
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
        self.trigger_airflow.request("POST", f"dags/{DAG_ID}/dagRuns", body=body).raise_for_status()
        return run_id

    @property
    def database_url(self) -> str:
        return f"postgresql://postgres:{self.target_password}@127.0.0.1:{self._target_port}/stocks"

    @property
    def metadata_url(self) -> str:
        """Of Airflow's own database."""
        password, port = self.env["AIRFLOW_METADATA_PASSWORD"], self.env["TEST_METADATA_PORT"]
        return f"postgresql://airflow:{password}@127.0.0.1:{port}/airflow"

    @property
    def secrets(self) -> dict[str, str]:
        """Everything that nobody is to see."""
        return {
            **{name: self.env[name] for name in SECRETS},
            "target database": self.target_password,
            "AWS": self.aws_secret_key,
        }

    def change(self, **settings: str) -> None:
        """Change lines of .env and bring the stack to what they say."""
        self.env.update(settings)
        self.up()

    def change_passwords(self) -> StackAirflow:
        """New ones for the target database and the trigger's account; returns the trigger as it was."""
        connection = psycopg2.connect(self.database_url)
        with connection, connection.cursor() as cursor:
            self.target_password = secrets.token_hex(16)
            cursor.execute("ALTER ROLE postgres PASSWORD %s", [self.target_password])
        connection.close()
        before, password = self.trigger_airflow, secrets.token_hex(16)
        self.change(AIRFLOW_CONN_STOCKS_DATABASE=self._stocks_connection(), AIRFLOW_TRIGGER_PASSWORD=password)
        self.trigger_airflow = StackAirflow(before.url, username="trigger", password=password)
        return before

    def up(self) -> None:
        """As up.sh does; the API's certificate is the one that we trust."""
        self._write_env()
        make_env(self.directory)
        scale = ["--scale", f"worker={self.workers}"] if self.workers else []
        self.compose("up", "--detach", "--wait", *scale, seconds=600)
        if self.env.get("AIRFLOW_TLS") == "on":
            address = urlsplit(self.airflow.url).netloc
            certificate = self.directory / "certificate.pem"
            certificate.write_text(ssl.get_server_certificate(("127.0.0.1", int(address.rpartition(":")[2]))))
            for airflow in (self.airflow, self.trigger_airflow):
                airflow.url, airflow.session.verify = f"https://{address}", str(certificate)

    def down(self) -> None:
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "5", check=False)

    def compose(self, *arguments: str, seconds: float = 120, check: bool = True) -> str:
        """Run docker compose on this project; returns what it printed. Raises StackError with its last lines."""
        files = [COMPOSE, *([CELERY] if self.workers else []), _TEST]
        command = ["docker", "compose", "--project-name", self.project, "--env-file", str(self.directory / ".env")]
        command += [part for file in files for part in ("--file", str(file))]
        return _run([*command, *arguments], environment=docker_environment(), seconds=seconds, check=check)

    @contextmanager
    def worker_host(self, directory: Path) -> Iterator[str]:
        """A project of docker-compose.worker.yml, set up as docs/airflow.md says; yields the id of its container.

        It stands in for another host: it reaches the stack, moto and the target over the stack's network.
        """
        handed = ["AIRFLOW_REDIS_PASSWORD", "AIRFLOW_REMOTE_LOGS", "AIRFLOW_CONN_STOCKS_DATABASE"]
        handed += ["AIRFLOW_CONN_AWS_DEFAULT", *(name for name in self.env if name.startswith("MBD_"))]
        env = {
            "AIRFLOW_API_URL": "https://api-server:8080",
            "AIRFLOW_TLS": "on",
            "AIRFLOW_TLS_DIRECTORY": str(directory / "tls"),
            "AIRFLOW_REDIS_ADDRESS": "redis:6379",
            **{name: self.env[name] for name in handed if self.env.get(name)},
            "TEST_NETWORK": f"{self.project}_default",
        }
        (directory / "tls").mkdir()
        self.compose("cp", "api-server:/opt/airflow/tls/certificate.pem", str(directory / "tls"))
        _write_lines(directory / ".env", env)
        compose = ["docker", "compose", "--project-name", f"{self.project}-host", "--env-file", str(directory / ".env")]
        compose += ["--file", str(WORKER), "--file", str(_WORKER_TEST)]
        try:
            _run([*compose, "up", "--detach", "--wait"], environment=docker_environment(), seconds=300)
            yield _run([*compose, "ps", "--quiet", "worker"], environment=docker_environment()).strip()
        finally:
            down = [*compose, "down", "--volumes", "--timeout", "5"]
            _run(down, environment=docker_environment(), check=False)

    @property
    def shell(self) -> dict[str, str]:
        """An environment in which plain `docker compose` in `directory` means this stack."""
        files = [COMPOSE, *([CELERY] if self.workers else []), _TEST]
        return docker_environment({"COMPOSE_PROJECT_NAME": self.project, "COMPOSE_FILE": ":".join(map(str, files))})

    def containers(self, *services: str) -> dict[str, str]:
        """Ids of the containers by name, stopped ones too."""
        listed = self.compose("ps", "--all", "--format", "json", *services)
        return {one["Name"]: one["ID"] for one in map(json.loads, listed.splitlines()) if one}

    def restarts(self, service: str, *, index: int = 1) -> int:
        """How many times Docker has started a container anew because it had ended."""
        container = self.containers(service)[f"{self.project}-{service}-{index}"]
        return int(docker("inspect", "--format", "{{.RestartCount}}", container))

    def kill(self, service: str, pattern: str, *, index: int = 1) -> int:
        """SIGKILL every process of a service whose command line has the regular expression; returns how many."""
        script = (
            "import os, pathlib, re, sys\n"
            "killed = 0\n"
            "for entry in pathlib.Path('/proc').glob('[0-9]*'):\n"
            "    if entry.name in ('1', str(os.getpid())): continue\n"
            "    try: line = (entry / 'cmdline').read_bytes().replace(b'\\0', b' ').decode()\n"
            "    except OSError: continue\n"
            "    if re.search(sys.argv[1], line): os.kill(int(entry.name), 9); killed += 1\n"
            "print(killed)\n"
        )
        killed = self.compose(
            "exec", "-T", "--index", str(index), service, "python", "-c", script, pattern, check=False
        )
        return int(killed.strip() or 0)  # nothing: the container ended before python could say

    @contextmanager
    def s3_paused(self) -> Iterator[None]:
        """S3 accepts connections and answers nothing."""
        self.compose("pause", "moto")
        try:
            yield
        finally:
            self.compose("unpause", "moto")

    def wait_for_task(self, run_id: str, task_id: str, *, state: str = "running", seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while state not in self.task_states(run_id, task_id):
            if time.monotonic() > deadline:
                raise StackError(f"No task {task_id} of {run_id} was {state} within {seconds:.0f} s.")
            time.sleep(0.3)

    def task_states(self, run_id: str, task_id: str) -> list[str]:
        return [task["state"] for task in self.tasks(run_id) if task["task_id"] == task_id]

    def tasks(self, run_id: str) -> list[dict[str, Any]]:
        return list(self._get(f"dags/{DAG_ID}/dagRuns/{run_id}/taskInstances").get("task_instances", []))

    def log(self, run_id: str, task_id: str) -> str:
        """Of the first try of a task, as the API tells it."""
        answer = self.airflow.request("GET", f"dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/{task_id}/logs/1")
        answer.raise_for_status()
        return json.dumps(answer.json()["content"])

    def finish(self, run_id: str, *, dag_id: str = DAG_ID, seconds: float = 240) -> str:
        """Wait for a run to end, over restarts of the API; returns its state."""
        deadline = time.monotonic() + seconds
        while (state := self._get(f"dags/{dag_id}/dagRuns/{run_id}").get("state")) not in ("success", "failed"):
            if time.monotonic() > deadline:
                raise StackError(f"Run {run_id} is still {state} after {seconds:.0f} s.")
            time.sleep(0.5)
        return str(state)

    def put_parameter(self, name: str, value: str) -> None:
        """Into the SSM parameter store."""
        self._session().client("ssm", endpoint_url=self.aws.url).put_parameter(
            Name=name, Value=value, Type="SecureString"
        )

    def forget_mails(self) -> None:
        with suppress(StackError):
            while True:
                self.receive_mail(seconds=0.5)

    def memory(self) -> dict[str, Memory]:
        """Of every running container, since it was started."""
        found = {}
        for name, container in self.containers().items():
            script = (
                "cd /sys/fs/cgroup; if [ -d memory ]; then cd memory; "
                "cat memory.limit_in_bytes memory.max_usage_in_bytes; "
                "awk '$1 == \"total_rss\" {print $2}' memory.stat; "
                "awk '$1 == \"oom_kill\" {print $2}' memory.oom_control; "
                "else cat memory.max memory.peak; awk '$1 == \"anon\" {print $2}' memory.stat; "
                "awk '$1 == \"oom_kill\" {print $2}' memory.events; fi"
            )
            with suppress(StackError, ValueError):  # ended ones
                figures = map(int, _run(["docker", "exec", container, "sh", "-c", script]).split())
                found[name.removeprefix(f"{self.project}-")] = Memory(*figures)
        return found

    def _get(self, path: str) -> dict[str, Any]:
        """What the API answers, nothing while it does not."""
        try:
            answer = self.airflow.request("GET", path)
        except requests.RequestException:
            return {}
        return dict(answer.json()) if answer.ok else {}

    def _aws_connection(self) -> dict[str, Any]:
        extra = {"endpoint_url": "http://moto:5000", "region_name": "eu-west-1"}
        return {"conn_type": "aws", "login": "testing", "password": self.aws_secret_key, "extra": extra}

    def _stocks_connection(self) -> str:
        return f"postgres://postgres:{self.target_password}@target:5432/stocks"

    def _write_env(self) -> None:
        _write_lines(self.directory / ".env", self.env)


def docker(*arguments: str) -> str:
    """Run docker; returns what it printed."""
    return _run(["docker", *arguments])


def _write_lines(path: Path, env: Mapping[str, str]) -> None:
    path.write_text("".join(f"{name}={value}\n" for name, value in env.items()))


def _run(
    command: Sequence[str], *, environment: Mapping[str, str] | None = None, seconds: float = 120, check: bool = True
) -> str:
    done = subprocess.run(
        command,
        check=False,
        env=dict(environment or os.environ),
        capture_output=True,
        text=True,
        timeout=seconds,
        stdin=subprocess.DEVNULL,
    )
    if check and done.returncode:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-25:])
        raise StackError(f"`{' '.join(command[:2])} ... {command[-1]}` ended with {done.returncode}:\n{last}")
    return done.stdout
