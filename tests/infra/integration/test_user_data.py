"""What the EC2 instance does at its first boot, in a container: packages, the stack fetched, .env written, units made.

Only systemd is a stand-in, which notes how it was called. moto is S3 and Parameter Store. What needs no packages is
tested without Docker too: the whole script in a folder that is the root for it.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra_scripts.platform.source_archive import KEY, source_archive
from tests.support.account import SOURCE_BUCKET, Account
from tests.support.moto import MotoServer
from tests.support.paths import ROOT

IMAGE = "debian:trixie-slim"
PARAMETERS = "/de-mbd-predict-ada-lovelace/airflow"
SECRETS = {
    name: f"{name}-{uuid.uuid4().hex}"
    for name in (
        "admin-password", "trigger-password", "metadata-password", "fernet-key", "jwt-secret", "secret-key",
        "redis-password",
    )
}  # fmt: skip
DATABASE = "postgres://stocks:p%27w%2F@db.example:5432/stocks?sslmode=require"
# As apply writes it before the script.
HEADER = f"""#!/bin/bash
export MBD_FIRST_NAME='Ada' MBD_LAST_NAME='Lovelace' MBD_PROFILE='default'
export MBD_TRANSPORT='ssm' MBD_SCALE_TO_ZERO='on'
export AWS_REGION='eu-west-1' MBD_PARAMETERS='{PARAMETERS}'
export MBD_TOPIC_ARN='arn:aws:sns:eu-west-1:000000000000:topic' MBD_SOURCE_BUCKET='{SOURCE_BUCKET}'
"""


def missing_docker() -> str:
    if shutil.which("docker") is None:
        return "docker is missing: install Docker"
    if subprocess.run(["docker", "info"], check=False, capture_output=True).returncode:
        return "no Docker engine answers: start it, or set DOCKER_HOST"
    return ""


@dataclass(frozen=True)
class Machine:
    """A container that stands in for the instance, on the host's network, where moto is."""

    name: str
    moto: MotoServer

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        line = ["docker", "exec", self.name, "bash", "-c", command]
        return subprocess.run(line, check=False, capture_output=True, text=True, timeout=600)

    def says(self, command: str) -> str:
        done = self.run(command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def exists(self, path: str) -> bool:
        return self.run(f"test -e {shlex.quote(path)}").returncode == 0


@pytest.fixture(scope="module")
def machine(moto_server: MotoServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The instance after its first boot, an hour before anybody has run upload or init-db."""
    if missing := missing_docker():
        pytest.skip(missing)
    directory = tmp_path_factory.mktemp("machine")
    user_data = directory / "part-001"
    user_data.write_text(HEADER + (ROOT / "infra_scripts" / "instance" / "first_boot.sh").read_text())
    systemctl = directory / "systemctl"
    systemctl.write_text('#!/bin/sh\necho "systemctl $*" >>/tmp/systemctl.log\n')
    systemctl.chmod(0o755)
    name = f"mbd-user-data-{uuid.uuid4().hex[:8]}"
    certificates = Path("/etc/ssl/certs/ca-certificates.crt")  # this machine's may know a proxy that the image does not
    mounts = [f"--volume={user_data}:/part-001:ro", f"--volume={systemctl}:/usr/local/bin/systemctl:ro"]
    mounts += (
        [f"--volume={certificates}:/host-ca.crt:ro", "--env=PIP_CERT=/host-ca.crt"] if certificates.exists() else []
    )
    environment = {**moto_server.environment, "MBD_SWAP_MIB": "8"}
    del environment["AWS_DEFAULT_REGION"]  # the instance has none
    settings = [f"--env={variable}={value}" for variable, value in environment.items()]
    start = ["docker", "run", "--detach", "--rm", "--init", "--network=host", f"--name={name}"]
    subprocess.run([*start, *mounts, *settings, IMAGE, "sleep", "1800"], check=True, stdout=subprocess.DEVNULL)
    try:
        machine = Machine(name, moto_server)
        booted = machine.run(f"bash /part-001 && bash /{AGAIN}")  # what the unit of the setup does
        assert booted.returncode == 0, (booted.stdout + booted.stderr)[-3000:]
        yield machine
    finally:
        subprocess.run(["docker", "rm", "--force", name], check=True, stdout=subprocess.DEVNULL)


def test_the_first_boot_brings_docker_compose_the_aws_cli_and_security_updates(machine: Machine) -> None:
    assert "Docker Compose" in machine.says("docker compose version")
    assert machine.says("aws --version").startswith("aws-cli/")
    assert 'Unattended-Upgrade "1"' in machine.says("cat /etc/apt/apt.conf.d/20auto-upgrades")
    assert machine.says("stat -c '%a %s' /swapfile").split() == ["600", str(8 * 1024 * 1024)]
    called = machine.says("cat /tmp/systemctl.log").splitlines()
    assert called == [
        "systemctl daemon-reload",
        "systemctl enable moving-big-data-setup.service",
        "systemctl restart --no-block moving-big-data-setup.service",
        "systemctl enable --now docker",
        "systemctl daemon-reload",
        "systemctl enable moving-big-data.service",
        "systemctl enable --now moving-big-data-maintain.timer",
        "systemctl enable --now moving-big-data-idle.timer",
        "systemctl restart --no-block moving-big-data.service",
        "systemctl disable moving-big-data-setup.service",
    ]


def test_systemd_finds_nothing_wrong_with_the_units(machine: Machine) -> None:
    machine.says("mkdir -p /opt/moving-big-data/infra_scripts/instance && systemd-analyze --version >/dev/null")
    units = "/etc/systemd/system/moving-big-data*.service /etc/systemd/system/moving-big-data*.timer"
    checked = machine.run(f"systemd-analyze verify {units} 2>&1 | grep moving-big-data")
    machine.says("rm -r /opt/moving-big-data")
    assert checked.stdout == ""


def test_running_it_again_changes_nothing_but_restarts_airflow(machine: Machine) -> None:
    before = machine.says("sha256sum /etc/moving-big-data.conf /etc/fstab /etc/systemd/system/moving-big-data*")
    again = machine.run("bash /usr/local/sbin/moving-big-data-setup")
    assert again.returncode == 0, again.stdout + again.stderr
    assert machine.says("sha256sum /etc/moving-big-data.conf /etc/fstab /etc/systemd/system/moving-big-data*") == before


def test_the_machine_keeps_what_was_changed_in_its_settings(machine: Machine) -> None:
    machine.says("sed -i.bak s/MBD_SCALE_TO_ZERO=on/MBD_SCALE_TO_ZERO=off/ /etc/moving-big-data.conf")
    machine.says("bash /usr/local/sbin/moving-big-data-setup")
    assert "MBD_SCALE_TO_ZERO=off" in machine.says("cat /etc/moving-big-data.conf")
    assert "systemctl disable --now moving-big-data-idle.timer" in machine.says("cat /tmp/systemctl.log")
    machine.says("mv /etc/moving-big-data.conf.bak /etc/moving-big-data.conf")
    machine.says("bash /usr/local/sbin/moving-big-data-setup")


def test_the_archive_is_fetched_once_uploaded_and_secrets_go_only_into_env(machine: Machine, account: Account) -> None:
    """In one test, as one is the other's start: nothing there, archive, parameters, connection, a change."""
    waiting = machine.run("/usr/local/sbin/moving-big-data-fetch")
    assert waiting.returncode == 1
    assert "run python -m infra_scripts upload" in waiting.stderr

    account.put(KEY, source_archive())
    waiting = machine.run("/usr/local/sbin/moving-big-data-fetch")  # upload was interrupted before it kept the digest
    assert (waiting.returncode, "archive-sha256 is not there yet" in waiting.stderr) == (1, True)
    keep_digest(account, source_archive())
    machine.says("/usr/local/sbin/moving-big-data-fetch")
    assert machine.exists("/opt/moving-big-data/airflow/docker-compose.yml")

    # somebody who may only write to the bucket puts code of their own
    account.put(KEY, archive_with("etl/theirs.py"))
    keep_digest(account, b"what upload sent after that")
    refused = machine.says("/usr/local/sbin/moving-big-data-fetch")
    assert "is not what upload sent (SHA-256), so it is not used; continuing with what is in" in refused
    assert not machine.exists("/opt/moving-big-data/etl/theirs.py")
    account.put(KEY, source_archive())
    keep_digest(account, source_archive())
    assert machine.says("/usr/local/sbin/moving-big-data-fetch") == ""  # the same version is not fetched again

    refresh = "bash -x /opt/moving-big-data/infra_scripts/instance/write_env.sh 2>&1"
    assert "Run: python -m infra_scripts apply" in machine.run(refresh).stdout
    for name, value in SECRETS.items():
        put_parameter(account, name, value)
    assert "Run: python -m infra_scripts init-db" in machine.run(refresh).stdout
    assert not machine.exists("/opt/moving-big-data/.env")
    put_parameter(account, "stocks-database", DATABASE)
    printed = machine.says(refresh)
    written = dict(line.split("=", 1) for line in machine.says("cat /opt/moving-big-data/.env").splitlines())
    assert written["COMPOSE_FILE"] == "airflow/docker-compose.yml"
    assert written["AIRFLOW_BIND"] == "'127.0.0.1'"
    assert written["AIRFLOW_CONN_STOCKS_DATABASE"] == f"'{DATABASE}'"
    assert {written[f"AIRFLOW_{name.upper().replace('-', '_')}"] for name in SECRETS} == {
        f"'{value}'" for value in SECRETS.values()
    }
    assert machine.says("stat -c %a /opt/moving-big-data/.env") == "600\n"

    # a new password, a line of the operator's, a new version of the stack: all three hold after the next start
    machine.says("echo AIRFLOW_PORT=9090 >>/opt/moving-big-data/.env")
    put_parameter(account, "trigger-password", "another")
    newer = archive_with("etl/new.py")  # gzip has the time in it
    account.put(KEY, newer)
    keep_digest(account, newer)
    machine.says("/usr/local/sbin/moving-big-data-fetch")
    printed += machine.says(refresh)
    env = machine.says("cat /opt/moving-big-data/.env")
    assert "AIRFLOW_PORT=9090" in env
    assert "AIRFLOW_TRIGGER_PASSWORD='another'" in env
    assert env.count("AIRFLOW_TRIGGER_PASSWORD=") == 1
    assert machine.exists("/opt/moving-big-data/etl/new.py")

    # S3 may not answer at a boot: the stack that is here starts all the same
    conf = "/etc/moving-big-data.conf"
    machine.says(f"sed -i.bak 's#AWS_ENDPOINT_URL=.*#AWS_ENDPOINT_URL=http://127.0.0.1:9#' {conf}")
    offline = machine.says("AWS_MAX_ATTEMPTS=1 /usr/local/sbin/moving-big-data-fetch")
    machine.says(f"mv {conf}.bak {conf}")
    assert "continuing with what is in /opt/moving-big-data" in offline

    compose = machine.run("cd /opt/moving-big-data && docker compose config --quiet")
    assert compose.returncode == 0, compose.stderr
    everything = printed + machine.says("cat /var/log/moving-big-data.log /etc/moving-big-data.conf")
    everything += machine.says("cat /usr/local/sbin/moving-big-data-setup")
    assert not [value for value in (*SECRETS.values(), DATABASE) if value in everything]


@dataclass(frozen=True)
class Folder:
    """A root of one's own for the script, whose commands that change a machine only note how they were called."""

    root: Path

    def make(self) -> None:
        for name in ("etc/systemd/system", "etc/apt/apt.conf.d", "etc/logrotate.d", "usr/local/sbin", "var/log", "bin"):
            (self.root / name).mkdir(parents=True)
        (self.root / "etc/fstab").touch()
        self._stand_in("id", "echo 0")
        self._stand_in("fallocate", 'touch "$3"')
        for name in ("systemctl", "apt-get", "apt-cache", "mkswap", "swapon", "aws"):
            self._stand_in(name, f'echo "{name} $*" >>"{self.root}/calls"')
        script = (ROOT / "infra_scripts" / "instance" / "first_boot.sh").read_text()
        self.user_data.write_text(self._below_root(HEADER + script))

    @property
    def user_data(self) -> Path:
        return self.root / "part-001"

    @property
    def conf(self) -> Path:
        return self.root / "etc/moving-big-data.conf"

    def boots(self, *, script: str = "part-001") -> list[str]:
        """Run it, and what it hands over to the unit of the setup; returns the calls of systemctl."""
        if script == "part-001":
            called = self.runs(script)
            assert called[-1] == "systemctl restart --no-block moving-big-data-setup.service"
        return self.runs(AGAIN)

    def runs(self, script: str) -> list[str]:
        (self.root / "calls").write_text("")
        environment = {"PATH": f"{self.root / 'bin'}:{os.environ['PATH']}", "HOME": str(self.root)}
        line = ["bash", str(self.root / script)]
        done = subprocess.run(line, env=environment, check=False, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return [one for one in (self.root / "calls").read_text().splitlines() if one.startswith("systemctl")]

    def settings(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.conf.read_text().splitlines())

    def _stand_in(self, name: str, line: str) -> None:
        path = self.root / "bin" / name
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)

    def _below_root(self, text: str) -> str:
        return re.sub(r"(?<![\w./])/(etc|var/log|usr/local/sbin|opt|swapfile)\b", rf"{self.root}/\1", text)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "root")
    folder.make()
    return folder


AGAIN = "usr/local/sbin/moving-big-data-setup"


def test_the_first_boot_keeps_the_settings_before_the_script(folder: Folder) -> None:
    assert "systemctl enable --now moving-big-data-idle.timer" in folder.boots()
    assert folder.settings() == {
        "MBD_FIRST_NAME": "Ada", "MBD_LAST_NAME": "Lovelace", "AWS_REGION": "eu-west-1", "MBD_PROFILE": "default",
        "MBD_TOPIC_ARN": "arn:aws:sns:eu-west-1:000000000000:topic", "MBD_SOURCE_BUCKET": SOURCE_BUCKET,
        "MBD_PARAMETERS": PARAMETERS, "MBD_TRANSPORT": "ssm", "MBD_SCALE_TO_ZERO": "on",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }  # fmt: skip
    assert (folder.root / AGAIN).read_text() == folder.user_data.read_text()


def test_upgrades_restart_neither_docker_nor_a_look_that_waits_for_them(folder: Folder) -> None:
    folder.boots()
    assert '"docker"; "containerd"; "runc";' in (folder.root / "etc/apt/apt.conf.d/52moving-big-data").read_text()
    override = (folder.root / "etc/needrestart/conf.d/moving-big-data.conf").read_text()
    assert override == "$nrconf{override_rc}->{qr(^moving-big-data)} = 0;\n"


@pytest.mark.parametrize("script", [AGAIN, "part-001"])
def test_a_repeated_boot_takes_the_settings_as_changed_since(script: str, folder: Folder) -> None:
    """Although the exports of the first boot stand before the script, also in the copy that it made of itself."""
    folder.boots()
    assert "MBD_SCALE_TO_ZERO='on'" in (folder.root / script).read_text()
    text = folder.conf.read_text().replace("ZERO=on", "ZERO=off").replace("TRANSPORT=ssm", "TRANSPORT=http")
    folder.conf.write_text(text + "MBD_IDLE_MINUTES=30\n")
    called = folder.boots(script=script)
    assert "systemctl disable --now moving-big-data-idle.timer" in called
    assert called[-2] == "systemctl restart --no-block moving-big-data.service"
    assert folder.conf.read_text() == text + "MBD_IDLE_MINUTES=30\n"


def test_a_removed_setting_is_not_brought_back_by_a_repeated_boot(folder: Folder) -> None:
    folder.boots()
    folder.conf.write_text(folder.conf.read_text().replace("MBD_SCALE_TO_ZERO=on\n", ""))
    assert "systemctl disable --now moving-big-data-idle.timer" in folder.boots(script=AGAIN)


def test_a_first_boot_without_settings_says_what_is_missing_and_keeps_none(folder: Folder) -> None:
    folder.user_data.write_text(folder.user_data.read_text().removeprefix(HEADER))
    done = subprocess.run(
        ["bash", folder.user_data], env={"PATH": f"{folder.root / 'bin'}:{os.environ['PATH']}"}, check=False,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "MBD_FIRST_NAME is not set; apply sets it" in done.stdout
    assert not folder.conf.exists()


def unit_of(folder: Folder, name: str) -> list[str]:
    """The unit's lines, with the paths of the machine."""
    text = (folder.root / "etc/systemd/system" / name).read_text()
    return text.replace(str(folder.root), "").splitlines()


STACK = "/opt/moving-big-data"


def test_airflow_starts_from_what_was_fetched_is_tried_again_and_only_stopped(folder: Folder) -> None:
    folder.boots()
    unit = unit_of(folder, "moving-big-data.service")
    assert [line for line in unit if line.startswith("Exec")] == [
        "ExecStartPre=/usr/local/sbin/moving-big-data-fetch",
        f"ExecStartPre=/bin/bash {STACK}/infra_scripts/instance/write_env.sh",
        f"ExecStart=/bin/bash {STACK}/infra_scripts/instance/start_airflow.sh",
        "ExecStop=/usr/bin/docker compose stop",
    ]
    assert {"Restart=on-failure", "RestartSec=60", "StartLimitIntervalSec=0"} <= set(unit)
    assert {"Restart=on-failure", "StartLimitIntervalSec=0"} <= set(unit_of(folder, "moving-big-data-setup.service"))


def test_the_look_for_idleness_has_the_machines_settings_and_that_for_upgrades_stops_nothing(folder: Folder) -> None:
    folder.boots()
    idle, maintain = (unit_of(folder, f"moving-big-data-{name}.service") for name in ("idle", "maintain"))
    look = f"ExecStart=/usr/bin/python3 {STACK}/infra_scripts/instance/idle_stop.py"
    assert {"EnvironmentFile=/etc/moving-big-data.conf", f"WorkingDirectory={STACK}", look} <= set(idle)
    assert [line for line in maintain if line.startswith("ExecStart=")] == [f"{look} --maintain"]


def test_a_list_of_packages_that_cannot_be_read_is_a_failure_that_is_tried_again(folder: Folder) -> None:
    folder.boots()
    updates = [line for line in (folder.root / "calls").read_text().splitlines() if line.endswith(" update")]
    assert ["-o APT::Update::Error-Mode=any" in line for line in updates] == [True]


class Fetched:
    """The folder of the stack, and an aws that answers with an archive of this version."""

    def __init__(self, folder: Folder) -> None:
        self.folder, self.stack = folder, folder.root / "opt/moving-big-data"
        folder.boots()
        self.stack.parent.mkdir()

    def fetch(self, version: str, *, mv: str = '/bin/mv "$@"') -> subprocess.CompletedProcess[str]:
        root = self.folder.root
        with tarfile.open(root / "archive", mode="w:gz") as tar:
            entry = tarfile.TarInfo("version")
            entry.size = len(version)
            tar.addfile(entry, io.BytesIO(version.encode()))
        digest = hashlib.sha256((root / "archive").read_bytes()).hexdigest()
        stand_ins = {"aws": f'case "$1" in ssm) echo {digest} ;; *) cp {root}/archive "$5" ;; esac', "mv": mv}
        for name, line in stand_ins.items():
            (root / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
            (root / "bin" / name).chmod(0o755)
        command = ["bash", str(root / "usr/local/sbin/moving-big-data-fetch")]
        environment = {"PATH": f"{root / 'bin'}:{os.environ['PATH']}", "TMPDIR": str(root)}
        return subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=60)


def test_a_fetch_that_breaks_off_between_its_renames_loses_no_line_of_the_operator(folder: Folder) -> None:
    fetched = Fetched(folder)
    fetched.fetch("one").check_returncode()
    (fetched.stack / ".env").write_text("AIRFLOW_BIND=10.0.0.5\n")
    broken = fetched.fetch("two", mv='/bin/mv "$@" && kill -9 $PPID')
    assert broken.returncode == -9
    assert not fetched.stack.exists()
    fetched.fetch("three").check_returncode()
    assert (fetched.stack / "version").read_text() == "three"
    assert (fetched.stack / ".env").read_text() == "AIRFLOW_BIND=10.0.0.5\n"
    assert [path.name for path in fetched.stack.parent.iterdir()] == ["moving-big-data"]


def keep_digest(account: Account, archive: bytes) -> None:
    """As `upload` does it."""
    value = hashlib.sha256(archive).hexdigest()
    account.ssm.put_parameter(Name=f"{PARAMETERS}/archive-sha256", Value=value, Type="String", Overwrite=True)


def put_parameter(account: Account, name: str, value: str) -> None:
    account.ssm.put_parameter(Name=f"{PARAMETERS}/{name}", Value=value, Type="SecureString", Overwrite=True)


def archive_with(name: str) -> bytes:
    """The archive of the stack with one more file in it."""
    with tarfile.open(fileobj=io.BytesIO(source_archive())) as tar:
        files = {entry.name: tar.extractfile(entry) for entry in tar}
        contents = {path: file.read() for path, file in files.items() if file}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for path, content in {**contents, name: b""}.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def test_the_script_fits_into_user_data_and_is_plain_ascii() -> None:
    text = (ROOT / "infra_scripts" / "instance" / "first_boot.sh").read_bytes()
    assert text.isascii()
    assert len(text) < 12_000


def test_every_script_of_infra_is_clean_for_shellcheck() -> None:
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert shellcheck, "shellcheck is missing: make setup"
    scripts = sorted(str(path) for path in (ROOT / "infra_scripts").glob("*/*.sh"))
    done = subprocess.run([shellcheck, *scripts], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
