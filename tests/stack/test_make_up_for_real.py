"""`make up` and `make down` in a copy of this repository, with Docker, under a project name of its own."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests.support.compose_system import docker, docker_environment, read_env
from tests.support.paths import ROOT
from tests.support.process import free_port


@dataclass(frozen=True)
class Clone:
    folder: Path
    project: str
    port: int

    def make(self, target: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", "--no-print-directory", target],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=docker_environment({"COMPOSE_PROJECT_NAME": self.project}),
            timeout=900,
        )

    def begin_env(self) -> None:
        """An .env as its owner begins it, without secrets."""
        (self.folder / ".env").write_text(f"AIRFLOW_PORT={self.port}\n")

    def left(self, kind: str) -> list[str]:
        """Ids of its containers (`ps --all`), volumes (`volume ls`) or networks (`network ls`)."""
        return docker(*kind.split(), "--quiet", "--filter", f"label=com.docker.compose.project={self.project}").split()


@pytest.fixture
def clone(engine: None, tmp_path: Path) -> Iterator[Clone]:
    """What git would bring, on a free port, with no .env but for that."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, check=True, capture_output=True, text=True, cwd=ROOT).stdout.split("\0")
    for name in names:
        if name and (ROOT / name).is_file():
            (tmp_path / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / "clone" / name)
    made = Clone(tmp_path / "clone", f"mbd-test-{secrets.token_hex(4)}", free_port())
    made.begin_env()
    try:
        yield made
    finally:
        for kind, remove in (("ps --all", "rm --force"), ("volume ls", "volume rm"), ("network ls", "network rm")):
            if left := made.left(kind):
                docker(*remove.split(), *left)


def test_make_up_ends_healthy_and_make_down_leaves_only_the_volumes(clone: Clone) -> None:
    up = clone.make("up")
    assert up.returncode == 0, up.stdout + up.stderr
    url = f"http://127.0.0.1:{clone.port}"
    assert f"Airflow is up: {url}\n" in up.stdout
    health = requests.get(f"{url}/api/v2/monitor/health", timeout=30).json()
    assert {name: health[name]["status"] for name in ("metadatabase", "scheduler", "dag_processor")} == dict.fromkeys(
        ("metadatabase", "scheduler", "dag_processor"), "healthy"
    )
    credentials = {"username": "admin", "password": read_env(clone.folder / ".env")["AIRFLOW_ADMIN_PASSWORD"]}
    assert requests.post(f"{url}/auth/token", json=credentials, timeout=30).status_code == 201
    assert len(clone.left("ps --all")) == 5

    down = clone.make("down")
    assert down.returncode == 0, down.stderr
    assert (clone.left("ps --all"), clone.left("network ls")) == ([], [])
    assert len(clone.left("volume ls")) == 3

    clone.begin_env()  # the old one is lost, and with it the password that the database in the volume has
    again = clone.make("up")
    assert again.returncode != 0
    [advice] = [line for line in again.stderr.splitlines() if "(was .env deleted?)" in line]
    assert "docker compose exec postgres psql -U airflow -c '\\password'" in advice
