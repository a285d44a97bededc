"""write_env.sh, which writes .env from Parameter Store and the operator's lines at each start of the instance.

Only `aws` is a stand-in, which answers with a file (test_user_data.py has the real one).
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PARAMETERS = {
    name: f"{name}-value"
    for name in (
        "admin-password", "trigger-password", "metadata-password", "fernet-key", "jwt-secret", "secret-key",
        "redis-password", "stocks-database",
    )
}  # fmt: skip


@dataclass(frozen=True)
class Instance:
    stack: Path

    def start(self, *, transport: str = "ssm", profile: str = "default", **parameters: str) -> dict[str, str]:
        """What .env says after a start with these parameters changed, without its quotes."""
        done = self.tries_to_start(transport=transport, profile=profile, **parameters)
        assert done.returncode == 0, done.stderr
        written = (self.stack / ".env").read_text().splitlines()
        lines = [line.split("=", 1) for line in written if not line.startswith("#")]
        assert len(lines) == len(dict(lines))
        return {name: value.strip("'") for name, value in lines}

    def tries_to_start(
        self, *, transport: str = "ssm", profile: str = "default", **parameters: str
    ) -> subprocess.CompletedProcess[str]:
        values = {**PARAMETERS, **{name.replace("_", "-"): value for name, value in parameters.items()}}
        (self.stack / "parameters").write_text("".join(f"/a/b/{name}\t{value}\n" for name, value in values.items()))
        conf = self.stack / "conf"
        conf.write_text(
            f"MBD_FIRST_NAME=Ada\nMBD_LAST_NAME=Lovelace\nMBD_PARAMETERS=/a/b\nMBD_TOPIC_ARN=t\nMBD_TRANSPORT={transport}\n"
            f"MBD_SOURCE_BUCKET=source\nMBD_PROFILE={profile}\n"
        )
        environment = {"PATH": f"{self.stack}/bin:/usr/bin:/bin", "MBD_CONF": str(conf)}
        script = self.stack / "infra_scripts" / "instance" / "write_env.sh"
        done = subprocess.run(["bash", script], check=False, capture_output=True, text=True, env=environment)
        assert not [value for value in values.values() if value in done.stdout + done.stderr]
        return done

    def write(self, **lines: str) -> None:
        """As an operator edits .env."""
        file = self.stack / ".env"
        kept = [line for line in file.read_text().splitlines() if line.split("=")[0] not in lines]
        file.write_text("\n".join([*kept, *(f"{name}={value}" for name, value in lines.items())]) + "\n")


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    for name in ("infra_scripts/instance/write_env.sh", "airflow/make_env.sh"):
        (tmp_path / name).parent.mkdir(parents=True)
        shutil.copy(ROOT / name, tmp_path / name)
    aws = tmp_path / "bin" / "aws"
    aws.parent.mkdir()
    aws.write_text(f"#!/bin/sh\ncat {tmp_path}/parameters\n")
    aws.chmod(0o755)
    return Instance(tmp_path)


def test_a_changed_secret_changes_the_digest_by_which_compose_sees_it(instance: Instance) -> None:
    first = instance.start()["AIRFLOW_SECRETS_DIGEST"]
    assert len(first) == 64
    assert instance.start()["AIRFLOW_SECRETS_DIGEST"] == first
    others = {instance.start(**{name: "another"})["AIRFLOW_SECRETS_DIGEST"] for name in PARAMETERS}
    assert len(others - {first}) == len(PARAMETERS)
    assert instance.start()["AIRFLOW_SECRETS_DIGEST"] == first
    assert (instance.stack / ".env").stat().st_mode & 0o777 == 0o600


def test_channels_come_from_their_parameter_or_are_the_operators_own(instance: Instance) -> None:
    assert "MBD_CHANNELS" not in instance.start()
    instance.write(MBD_CHANNELS="'jsons://mine.example.org/x'")
    assert instance.start()["MBD_CHANNELS"] == "jsons://mine.example.org/x"
    first = instance.start(channels="slack://a/b/c jsons://host/x?a=b")
    assert first["MBD_CHANNELS"] == "slack://a/b/c jsons://host/x?a=b"
    assert instance.start(channels="slack://d/e/f")["AIRFLOW_SECRETS_DIGEST"] != first["AIRFLOW_SECRETS_DIGEST"]


@pytest.mark.parametrize("between", ["\n", "\r\n", "\t", " \n\n  "])
def test_channels_of_several_lines_are_all_kept(between: str, instance: Instance) -> None:
    channels = f"slack://a/b/c{between}jsons://host/x?a=b\\{between}"
    assert instance.start(channels=channels)["MBD_CHANNELS"] == "slack://a/b/c jsons://host/x?a=b\\"


@pytest.mark.parametrize("sign", ["\n", "\r\n", "\t", "'"])
@pytest.mark.parametrize("name", PARAMETERS)
def test_a_parameter_that_env_cannot_hold_is_refused_by_name_and_not_cut(
    name: str, sign: str, instance: Instance
) -> None:
    instance.start()
    before = (instance.stack / ".env").read_text()
    done = instance.tries_to_start(**{name: f"one{sign}two"})
    assert done.returncode == 1
    variable = "AIRFLOW_CONN_STOCKS_DATABASE" if name == "stocks-database" else f"AIRFLOW_{name.upper()}"
    assert f"{variable.replace('-', '_')} has a quote, a tab or a line break" in done.stderr
    assert (instance.stack / ".env").read_text() == before


def test_profile_course_keeps_the_logs_of_the_tasks_in_the_source_bucket(instance: Instance) -> None:
    assert "AIRFLOW_REMOTE_LOGS" not in instance.start()
    assert instance.start(profile="course")["AIRFLOW_REMOTE_LOGS"] == "s3://source/Output/logs"


def test_lines_of_the_operator_stay_and_those_that_it_sets_are_replaced(instance: Instance) -> None:
    instance.start()
    file = instance.stack / ".env"
    file.write_text("# mine\nexport AIRFLOW_ADMIN_PASSWORD=old\n MBD_FIRST_NAME = old\nMINE=1\n" + file.read_text())
    env = instance.start()
    assert (env["AIRFLOW_ADMIN_PASSWORD"], env["MBD_FIRST_NAME"], env["MINE"]) == ("admin-password-value", "Ada", "1")
    assert "old" not in file.read_text()


def test_the_transport_sets_where_the_api_answers_and_then_the_operator_does(instance: Instance) -> None:
    def answers(env: dict[str, str]) -> tuple[str, str]:
        return env["AIRFLOW_BIND"], env["AIRFLOW_TLS"]

    assert answers(instance.start()) == ("127.0.0.1", "")
    instance.write(AIRFLOW_BIND="10.0.0.5", AIRFLOW_TLS="on")
    assert answers(instance.start()) == ("10.0.0.5", "on")
    assert answers(instance.start(transport="http")) == ("0.0.0.0", "on")
    assert answers(instance.start(transport="ssm")) == ("127.0.0.1", "")


def test_no_file_with_secrets_is_ever_readable_by_others(instance: Instance) -> None:
    recording = instance.stack / "bin" / "chmod"
    recording.write_text(f'#!/bin/sh\nstat -c "%a %n" "$2" >>{instance.stack}/modes\nexec /bin/chmod "$@"\n')
    recording.chmod(0o755)
    instance.start()
    before = dict(line.split()[::-1] for line in (instance.stack / "modes").read_text().splitlines())
    assert before == {str(instance.stack / ".env.new"): "600", ".env": "600"}
