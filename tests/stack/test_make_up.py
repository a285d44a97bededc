"""up.sh with a stand-in for docker: what a person reads when it works, and when it cannot."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.compose_system import docker_environment, make_env, read_env
from tests.support.paths import ROOT


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with the two scripts, and no .env."""
    (tmp_path / "airflow").mkdir()
    for name in ("up.sh", "make_env.sh"):
        shutil.copy(ROOT / "airflow" / name, tmp_path / "airflow")
    return tmp_path


def up(
    clone: Path, *, fails: str = "none", init_says: str = "AIRFLOW_CERTIFICATE_SHA256=c0ffee", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run up.sh. Docker fails for commands that begin with `fails`, has a log, and notes commands and version."""
    docker = clone / "bin" / "docker"
    docker.parent.mkdir(exist_ok=True)
    docker.write_text(
        f'#!/bin/sh\necho "$*" >>{clone}/commands\necho "$MBD_VERSION" >{clone}/version\n'
        f'case "$*" in "{fails}"*) exit 1 ;;\n'
        f"'compose logs'*) echo '{init_says}' ;; esac\n"
    )
    docker.chmod(0o755)
    path = f"{docker.parent}:/usr/bin:/bin"
    return subprocess.run(
        [clone / "airflow" / "up.sh"],
        check=False,
        capture_output=True,
        text=True,
        env={**docker_environment(), "PATH": path, **environment},
    )


@pytest.mark.parametrize(
    ("fails", "advice"),
    [
        ("compose version", "Install Docker Engine and its compose plugin."),
        ("info", "Start it (systemctl start docker), or set DOCKER_HOST."),
    ],
)
def test_without_docker_it_says_what_to_do_and_makes_nothing(fails: str, advice: str, clone: Path) -> None:
    answer = up(clone, fails=fails)
    assert answer.returncode == 1
    [line] = answer.stderr.splitlines()
    assert line.endswith(advice)
    assert not (clone / ".env").exists()


def test_it_makes_env_and_says_where_airflow_and_its_login_are(clone: Path) -> None:
    answer = up(clone, AIRFLOW_PORT="8443")
    assert answer.returncode == 0
    assert "Airflow is up: http://127.0.0.1:8443\n" in answer.stdout
    assert "AIRFLOW_ADMIN_PASSWORD" in answer.stdout
    assert read_env(clone / ".env")["AIRFLOW_ADMIN_PASSWORD"] not in answer.stdout
    assert "compose up --build --detach --wait --remove-orphans\n" in (clone / "commands").read_text()


@pytest.mark.parametrize(
    ("bind", "host"),
    [
        ("", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("10.0.0.5", "10.0.0.5"),
        ("::", "[::1]"), ("[::]", "[::1]"), ("fd00::5", "[fd00::5]"), ("[fd00::5]", "[fd00::5]"),
    ],
)  # fmt: skip
def test_it_says_the_url_of_the_address_that_airflow_listens_on(bind: str, host: str, clone: Path) -> None:
    assert f"Airflow is up: http://{host}:8080\n" in up(clone, AIRFLOW_BIND=bind).stdout


def git(clone: Path, *arguments: str) -> str:
    name = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    return subprocess.run(["git", "-C", clone, *name, *arguments], check=True, capture_output=True, text=True).stdout


def test_the_image_gets_the_version_of_the_checkout_marked_where_it_is_dirty(clone: Path) -> None:
    (clone / "pyproject.toml").write_text('[project]\nversion = "0.2.0"\n')
    (clone / "etl").mkdir()
    (clone / "etl" / "__init__.py").touch()
    up(clone)
    assert (clone / "version").read_text() == "\n"
    (clone / ".gitignore").write_text("/bin\n/commands\n/version\n.env\n")
    git(clone, "init", "-q")
    git(clone, "add", ".")
    git(clone, "commit", "-q", "-m", "all of it")
    clean = f"0.2.0+{git(clone, 'rev-parse', '--short', 'HEAD').strip()}"
    (clone / "notes.txt").write_text("no part of the image")
    up(clone)
    assert (clone / "version").read_text() == f"{clean}\n"
    (clone / "etl" / "new.py").touch()
    up(clone)
    assert (clone / "version").read_text() == f"{clean}.dirty\n"
    (clone / "etl" / "version.txt").write_text("0.2.0+5e7\n")  # what `upload` ships has it
    up(clone)
    assert (clone / "version").read_text() == "\n"


def test_over_tls_it_prints_the_fingerprint_that_the_trigger_pins(clone: Path) -> None:
    make_env(clone)
    with (clone / ".env").open("a") as env:
        env.write("export AIRFLOW_TLS=on # with a note\nAIRFLOW_BIND = 0.0.0.0\nAIRFLOW_HOSTNAME='airflow.internal'\n")
    said = up(clone, WORKERS="2").stdout
    assert "AIRFLOW_CERTIFICATE_SHA256=c0ffee\n" in said
    assert "Airflow is up: https://airflow.internal:8080\n" in said
    assert "--scale worker=2\n" in (clone / "commands").read_text()


def test_an_unhealthy_airflow_is_an_error_with_the_next_command(clone: Path) -> None:
    answer = up(clone, fails="compose up")
    assert answer.returncode == 1
    assert "docker compose logs" in answer.stderr
    assert "Airflow is up" not in answer.stdout
    assert "psql" not in answer.stderr


def test_a_lost_metadata_password_gets_one_line_of_advice(clone: Path) -> None:
    refused = 'FATAL:  password authentication failed for user "airflow"'
    answer = up(clone, fails="compose up", init_says=refused)
    assert answer.returncode == 1
    [advice] = [line for line in answer.stderr.splitlines() if "(was .env deleted?)" in line]
    assert "docker compose exec postgres psql -U airflow -c '\\password', then make up" in advice
