"""`init` as a person meets it: at a terminal, by options, again, and with answers that cannot be."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.account import RunCommand
from tests.support.paths import ROOT

ALL = (
    "--first-name", "Ada", "--last-name", "Lovelace", "--region", "eu-west-1",
    "--email", "ada@example.org", "--my-address", "192.31.196.7",
)  # fmt: skip


def test_options_write_every_setting_and_only_the_owner_may_read_the_file(command: RunCommand, env_file: Path) -> None:
    env_file.write_text("# mine\nAIRFLOW_PORT=9090\n")
    done = command("init", *ALL, "--json")
    assert done.returncode == 0, done.stderr
    assert env_file.read_text().splitlines() == [
        "# mine",
        "AIRFLOW_PORT=9090",
        "MBD_FIRST_NAME=Ada",
        "MBD_LAST_NAME=Lovelace",
        "AWS_REGION=eu-west-1",
        "MBD_EMAIL=ada@example.org",
        "MBD_MY_ADDRESS=192.31.196.7/32",
        "MBD_PROFILE=default",
    ]
    assert env_file.stat().st_mode & 0o777 == 0o600
    assert json.loads(done.stdout)["names"]["source bucket"] == "de-mbd-predict-ada-lovelace-s3-source"


def test_init_again_changes_nothing(command: RunCommand, env_file: Path) -> None:
    command("init", *ALL)
    before = env_file.read_bytes()
    again = command("init")
    assert again.returncode == 0, again.stderr
    assert "nothing to change" in again.stdout
    assert "Next: python -m infra_scripts plan" in again.stdout
    assert env_file.read_bytes() == before


def test_dry_run_writes_nothing(command: RunCommand, env_file: Path) -> None:
    env_file.unlink()
    done = command("init", *ALL, "--dry-run")
    assert done.returncode == 0
    assert "de-mbd-predict-ada-lovelace-monitored-bucket" in done.stdout
    assert not env_file.exists()


def test_without_a_terminal_every_missing_option_is_named(command: RunCommand, env_file: Path) -> None:
    env_file.unlink()
    done = command("init")
    assert done.returncode == 2
    assert "Pass --first-name, --last-name, --email" in done.stderr
    assert not env_file.exists()


def test_names_that_cannot_be_part_of_a_bucket_s_name_are_refused(command: RunCommand, env_file: Path) -> None:
    before = env_file.read_bytes()
    done = command("init", *ALL, "--last-name", "O'Hara")
    assert done.returncode == 2
    assert "MBD_LAST_NAME" in done.stderr
    assert command("init", *ALL, "--last-name", "Lovelace-of-the-very-long-name").returncode == 2
    assert env_file.read_bytes() == before


def test_an_address_that_aws_never_sees_is_refused_as_an_option_too(command: RunCommand, env_file: Path) -> None:
    before = env_file.read_bytes()
    done = command("init", *ALL, "--my-address", "192.168.1.7")
    assert (done.returncode, "would let nobody in" in done.stderr) == (2, True)
    assert env_file.read_bytes() == before


@pytest.mark.parametrize(("option", "variable"), [("--first-name", "MBD_FIRST_NAME"), ("--last-name", "MBD_LAST_NAME")])
def test_a_changed_name_needs_a_confirmation(option: str, variable: str, command: RunCommand, env_file: Path) -> None:
    refused = command("init", *ALL, option, "Grace")
    assert refused.returncode == 1
    assert "teardown under the new name will not find them" in refused.stderr
    assert command("init", *ALL, option, "Grace", "--yes").returncode == 0
    assert f"{variable}=Grace" in env_file.read_text()


def test_at_a_terminal_it_asks_again_and_takes_the_value_in_brackets(
    surroundings: dict[str, str], env_file: Path
) -> None:
    env_file.unlink()
    person, terminal = pty.openpty()
    command = [sys.executable, "-m", "infra_scripts", "init", "--env-file", str(env_file)]
    child = subprocess.Popen(
        command, env=surroundings, cwd=ROOT, stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    os.close(terminal)
    for answer in (
        "Ada!", "Ada", "Lovelace", "", "no mail", "ada@example.org", "192.168.1.7", "192.31.196.7", "course",
    ):  # fmt: skip
        os.write(person, f"{answer}\n".encode())
    printed, said = child.communicate(timeout=60)
    os.close(person)
    assert child.returncode == 0, said
    assert "which is not a mail address" in said
    assert "AWS region [eu-west-1]" in said
    assert "a private address of a home or office network" in said
    assert "Profile: default, where nothing is open to the world; or course" in said
    assert "Profile course opens the database, all ports and the monitored bucket to the world" in printed
    assert "Next: python -m infra_scripts plan" in printed
    assert {"MBD_EMAIL=ada@example.org", "MBD_PROFILE=course"} <= set(env_file.read_text().splitlines())
