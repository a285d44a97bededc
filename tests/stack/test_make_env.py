"""make_env.sh creates or completes .env with strong secrets, and loses nothing that is in it."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

from tests.support.compose_system import SECRETS, docker_environment, make_env


def run_again(directory: Path, **environment: str) -> str:
    script = directory / "airflow" / "make_env.sh"
    return subprocess.run(
        [script], check=True, capture_output=True, text=True, env=docker_environment(environment)
    ).stdout


def test_it_makes_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    env = make_env(tmp_path)
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    assert env["COMPOSE_FILE"] == "airflow/docker-compose.yml"
    assert set(SECRETS) <= set(env)


def test_its_secrets_are_strong_and_never_the_same(tmp_path: Path) -> None:
    first, second = make_env(tmp_path / "first"), make_env(tmp_path / "second")
    values = [env[name] for env in (first, second) for name in SECRETS]
    assert len(set(values)) == 2 * len(SECRETS)
    assert min(map(len, values)) >= 36
    assert len(base64.urlsafe_b64decode(first["AIRFLOW_FERNET_KEY"])) == 32


def test_it_completes_and_overwrites_nothing(tmp_path: Path) -> None:
    mine = "# mine\nMBD_FIRST_NAME=Grace\nAIRFLOW_ADMIN_PASSWORD='my own & $2 \\1'\nAIRFLOW_SECRET_KEY=\nOTHER=1"
    (tmp_path / ".env").write_text(mine)
    make_env(tmp_path, environment={"MBD_FIRST_NAME": "Ada", "MBD_LAST_NAME": "Lovelace"})
    text = (tmp_path / ".env").read_text()
    lines = text.splitlines()
    assert lines[:3] == mine.splitlines()[:3]
    assert lines[4] == "OTHER=1"
    assert "MBD_LAST_NAME=Lovelace" in lines
    assert len(lines[3]) == len("AIRFLOW_SECRET_KEY=") + 64
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600

    run_again(tmp_path, MBD_LAST_NAME="Byron")
    assert (tmp_path / ".env").read_text() == text


def test_a_line_is_found_however_compose_lets_it_be_written(tmp_path: Path) -> None:
    mine = "export AIRFLOW_SECRET_KEY=\n MBD_FIRST_NAME = 'Grace' # hers\r\nexport AIRFLOW_ADMIN_PASSWORD=\"mine\"\n"
    (tmp_path / ".env").write_text(mine, newline="")
    make_env(tmp_path, environment={"MBD_LAST_NAME": "Hopper", "MBD_TOPIC_ARN": "a # b"})
    lines = (tmp_path / ".env").read_text().splitlines()
    assert len(lines[0]) == len("AIRFLOW_SECRET_KEY=") + 64
    assert lines[1:3] == [" MBD_FIRST_NAME = 'Grace' # hers", 'export AIRFLOW_ADMIN_PASSWORD="mine"']
    assert "MBD_TOPIC_ARN='a # b'" in lines
    assert not [line for line in lines[3:] if "FIRST_NAME" in line or "ADMIN_PASSWORD" in line]


def test_a_value_ends_at_a_comment_and_not_at_a_sign_within_it(tmp_path: Path) -> None:
    make_env(tmp_path)
    script = tmp_path / "airflow" / "make_env.sh"
    for line, value in (("a#b", "a#b"), ("a#b # c", "a#b"), ("'a # b'", "a # b"), ('"a # b" # c', "a # b")):
        (tmp_path / ".env").write_text(f"AIRFLOW_ADMIN_PASSWORD={line}\n")
        done = subprocess.run([script, "value", "AIRFLOW_ADMIN_PASSWORD"], check=True, capture_output=True, text=True)
        assert done.stdout.rstrip("\n") == value


def test_a_value_that_env_cannot_hold_is_refused(tmp_path: Path) -> None:
    make_env(tmp_path)
    script = tmp_path / "airflow" / "make_env.sh"
    environment = docker_environment({"MBD_FIRST_NAME": "O'Neill"})
    refused = subprocess.run([script], check=False, capture_output=True, text=True, env=environment)
    assert refused.returncode == 2
    assert refused.stderr == "error: MBD_FIRST_NAME has a quote or a line break, which .env cannot hold.\n"


def test_the_digest_changes_with_each_secret_and_with_nothing_else(tmp_path: Path) -> None:
    made = make_env(tmp_path)
    first = made["AIRFLOW_SECRETS_DIGEST"]
    text = (tmp_path / ".env").read_text()
    seen = {first}
    for name in (*SECRETS, "AIRFLOW_CONN_STOCKS_DATABASE", "AIRFLOW_CONN_AWS_DEFAULT", "MBD_CHANNELS"):
        (tmp_path / ".env").write_text(f"{text}{name}=another\n")  # of two lines compose takes the last
        seen.add(make_env(tmp_path)["AIRFLOW_SECRETS_DIGEST"])
        seen.add(make_env(tmp_path, environment={name: "the shell's"})["AIRFLOW_SECRETS_DIGEST"])
    assert len(seen) == 1 + 2 * 10
    (tmp_path / ".env").write_text(f"# mine\n{text}AIRFLOW_PORT=8443\n")
    assert make_env(tmp_path)["AIRFLOW_SECRETS_DIGEST"] == first


def test_it_says_what_is_still_missing_and_shows_no_secret(tmp_path: Path) -> None:
    env = make_env(tmp_path)
    said = run_again(tmp_path)
    for name in ("MBD_FIRST_NAME", "MBD_LAST_NAME", "MBD_TOPIC_ARN", "AIRFLOW_CONN_STOCKS_DATABASE"):
        assert f"  {name} (" in said
    (tmp_path / ".env").unlink()
    said = run_again(tmp_path, MBD_FIRST_NAME="Ada")
    assert "MBD_FIRST_NAME (" not in said
    assert not [name for name in SECRETS if env[name] in said]
