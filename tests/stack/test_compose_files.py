"""What holds for the stack's files without starting anything."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.compose_system import CELERY, COMPOSE, SECRETS, WORKER, docker_environment, make_env, read_env
from tests.support.paths import ROOT

AIRFLOW = ROOT / "airflow"
SCRIPTS = [*sorted(AIRFLOW.glob("*.sh")), *sorted((AIRFLOW / "image").glob("*.sh"))]
NO_COMPOSE = "The docker client with Compose v2 is not installed: on Debian and Ubuntu, apt install docker-compose-v2."
INSTANCE_BYTES = 3.3 * 2**30  # what a t2.medium of 4 GiB leaves beside its own system


def run(*command: str | Path, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    make_env(tmp_path)
    return tmp_path / ".env"


def compose_config(
    *files: Path, env_file: Path, settings: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    if not shutil.which("docker") or run("docker", "compose", "version").returncode:
        pytest.skip(NO_COMPOSE)
    command = [
        "docker",
        "compose",
        "--env-file",
        str(env_file),
        *(part for file in files for part in ("-f", str(file))),
    ]
    return run(*command, "config", "--format", "json", environment=docker_environment(settings))


def services(*files: Path, env_file: Path, settings: dict[str, str] | None = None) -> dict[str, Any]:
    answer = compose_config(*files, env_file=env_file, settings=settings)
    assert answer.returncode == 0, answer.stderr
    return dict(json.loads(answer.stdout)["services"])


def test_the_stack_has_the_services_that_the_rest_counts_on(env_file: Path) -> None:
    local = services(COMPOSE, env_file=env_file)
    assert set(local) == {"postgres", "init", "api-server", "scheduler", "dag-processor"}
    assert set(services(COMPOSE, CELERY, env_file=env_file)) == set(local) | {"redis", "worker"}


def test_the_version_of_the_code_is_an_argument_of_the_build(env_file: Path) -> None:
    for files in ((COMPOSE,), (COMPOSE, CELERY)):
        found = services(*files, env_file=env_file, settings={"MBD_VERSION": "0.2.0+5e7"})
        assert found["init"]["build"]["args"]["MBD_VERSION"] == "0.2.0+5e7"
        assert services(*files, env_file=env_file)["init"]["build"]["args"]["MBD_VERSION"] == ""


@pytest.mark.parametrize("files", [(COMPOSE,), (COMPOSE, CELERY)], ids=["local", "celery"])
def test_memory_limits_leave_room_on_the_instance(files: tuple[Path, ...], env_file: Path) -> None:
    limits = {name: int(one["mem_limit"]) for name, one in services(*files, env_file=env_file).items()}
    del limits["init"]  # it has ended before the others start
    assert sum(limits.values()) < INSTANCE_BYTES


def test_every_container_is_held_short(env_file: Path) -> None:
    for name, one in services(COMPOSE, CELERY, env_file=env_file).items():
        assert one["cap_drop"] == ["ALL"], name
        assert one["security_opt"] == ["no-new-privileges:true"], name
        assert one["logging"]["options"]["max-file"] == "3", name
        assert one["restart"] == ("no" if name == "init" else "unless-stopped"), name
        assert ("healthcheck" in one) is (name != "init"), name


def test_ports_are_open_to_this_machine_only_unless_told_otherwise(env_file: Path) -> None:
    found = services(COMPOSE, CELERY, env_file=env_file)
    published = {name: [port["host_ip"] for port in one.get("ports", [])] for name, one in found.items()}
    assert {name: hosts for name, hosts in published.items() if hosts} == {
        "api-server": ["127.0.0.1"],
        "redis": ["127.0.0.1"],
    }
    opened = services(COMPOSE, env_file=env_file, settings={"AIRFLOW_BIND": "0.0.0.0", "AIRFLOW_PORT": "8443"})
    assert [(port["host_ip"], port["published"]) for port in opened["api-server"]["ports"]] == [("0.0.0.0", "8443")]


def test_no_secret_shows_in_the_config(env_file: Path) -> None:
    settings = {
        "AIRFLOW_CONN_STOCKS_DATABASE": "postgres://u:given-password@host/name",
        "AIRFLOW_CONN_AWS_DEFAULT": "aws://key:given-password@",
        "MBD_CHANNELS": "slack://given-password/b/c",
    }
    answer = compose_config(COMPOSE, CELERY, env_file=env_file, settings=settings)
    assert answer.returncode == 0, answer.stderr
    env = read_env(env_file)
    for name in SECRETS:
        assert len(env[name]) >= 36
        assert env[name] not in answer.stdout, name
    assert "given-password" not in answer.stdout


def test_connections_that_are_left_out_are_empty_files_and_given_ones_are_handed_on(env_file: Path) -> None:
    def sources(settings: dict[str, str]) -> set[str]:
        found = services(COMPOSE, CELERY, env_file=env_file, settings=settings)
        named = {
            name: {one["source"] for one in found[name]["secrets"]} for name in ("scheduler", "dag-processor", "worker")
        }
        connections = [{one for one in each if one.startswith(("aws", "stocks"))} for each in named.values()]
        assert connections[0] == connections[1] == connections[2]
        [in_api_server] = [one["source"] for one in found["api-server"]["secrets"] if one["source"].startswith("aws")]
        assert in_api_server in connections[0]  # it reads logs from S3
        return connections[0]

    assert sources({}) == {"stocks_database", "aws_default"}
    assert sources({"AIRFLOW_CONN_STOCKS_DATABASE": "x", "AIRFLOW_CONN_AWS_DEFAULT": "y"}) == {
        "stocks_database_given",
        "aws_default_given",
    }


def test_channels_reach_the_container_that_mails_and_no_other(env_file: Path) -> None:
    for settings, source in (({}, "channels"), ({"MBD_CHANNELS": "jsons://host/x"}, "channels_given")):
        found = services(COMPOSE, CELERY, env_file=env_file, settings=settings)
        holding = {
            name: one["source"]
            for name, service in found.items()
            for one in service["secrets"]
            if one.get("target", "").endswith("MBD_CHANNELS")
        }
        assert holding == {"dag-processor": source}


NOT_OF_TASKS = {"MBD_CHANNELS", "MBD_DATABASE_URL", "MBD_LOADER_PASSWORD", "MBD_NATIVE", "MBD_READER_PASSWORD"}
"""The first is a secret, as above; the others are read by commands that a person gives."""


def test_each_setting_that_the_pipeline_reads_reaches_the_containers_that_work(env_file: Path) -> None:
    sources = [*(ROOT / "etl").rglob("*.py"), *(AIRFLOW / "dags").glob("*.py")]
    names = {name for source in sources for name in re.findall(r"\bMBD_[A-Z_]+\b", source.read_text())} - NOT_OF_TASKS
    assert "MBD_MAX_REJECTED" in names
    given = {name: f"given {name}" for name in names}
    found = services(COMPOSE, CELERY, env_file=env_file, settings=given)
    for service in ("scheduler", "dag-processor", "worker"):
        assert given.items() <= found[service]["environment"].items()


def test_what_must_outlive_a_container_is_in_a_volume_and_tasks_have_time_to_end(env_file: Path) -> None:
    found = services(COMPOSE, CELERY, env_file=env_file)
    for service, folder in (("postgres", "/var/lib/postgresql/data"), ("redis", "/data")):
        assert ("volume", folder) in [(one["type"], one["target"]) for one in found[service]["volumes"]]
    queue = found["redis"]["entrypoint"][-1]
    assert "appendonly yes" in queue
    assert "maxmemory-policy noeviction" in queue
    assert (found["scheduler"]["stop_grace_period"], found["worker"]["stop_grace_period"]) == ("30s", "1m0s")


def test_every_container_that_holds_a_secret_that_counts_is_labelled_with_the_digest(env_file: Path) -> None:
    digest = read_env(env_file)["AIRFLOW_SECRETS_DIGEST"]
    found = services(COMPOSE, CELERY, env_file=env_file)
    labelled = {name for name, one in found.items() if one.get("labels") == {"moving-big-data.secrets": digest}}
    assert labelled == set(found) - {"postgres"}  # its password counts for an empty volume only


def test_celery_starts_more_tasks_at_once_than_one_machine_would(env_file: Path) -> None:
    def parallelism(*files: Path, settings: dict[str, str] | None = None) -> str:
        scheduler = services(*files, env_file=env_file, settings=settings)["scheduler"]
        return str(scheduler["environment"]["AIRFLOW__CORE__PARALLELISM"])

    assert [parallelism(COMPOSE), parallelism(COMPOSE, CELERY)] == ["4", "64"]
    assert parallelism(COMPOSE, CELERY, settings={"AIRFLOW_PARALLELISM": "7"}) == "7"


WORKER_ENV = {
    "AIRFLOW_API_URL": "https://airflow.internal:8080",
    "AIRFLOW_TLS": "on",
    "AIRFLOW_TLS_DIRECTORY": "/etc/moving-big-data/tls",
    "AIRFLOW_REDIS_ADDRESS": "10.0.0.5:6379",
    "AIRFLOW_REDIS_PASSWORD": "given-password",
    "AIRFLOW_CONN_STOCKS_DATABASE": "postgres://u:given-password@host/name",
}


def test_a_host_for_workers_runs_one_service_that_reaches_the_stack_and_holds_none_of_its_keys(tmp_path: Path) -> None:
    env = tmp_path / ".env"
    env.write_text("".join(f"{name}={value}\n" for name, value in WORKER_ENV.items()))
    found = services(WORKER, env_file=env)
    assert set(found) == {"worker"}
    worker = found["worker"]
    assert {Path(one["target"]).name: one["source"] for one in worker["secrets"]} == {
        "redis_password": "redis_password",
        "AIRFLOW_CONN_STOCKS_DATABASE": "stocks_database_given",
        "AIRFLOW_CONN_AWS_DEFAULT": "aws_default",
    }
    environment = worker["environment"]
    assert environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "https://airflow.internal:8080/execution/"
    assert environment["AIRFLOW__API__SSL_CERT"] == "/opt/airflow/tls/certificate.pem"
    assert environment["AIRFLOW__CELERY__BROKER_URL_CMD"].endswith("@10.0.0.5:6379/0'")
    assert not [name for name in environment if name.startswith("AIRFLOW__DATABASE") or name.endswith("KEY_CMD")]
    mounted = {one["target"]: one["source"] for one in worker["volumes"]}
    assert mounted["/opt/airflow/tls"] == "/etc/moving-big-data/tls"
    assert "given-password" not in json.dumps(worker)


@pytest.mark.parametrize("name", ["AIRFLOW_REDIS_PASSWORD", "AIRFLOW_REDIS_ADDRESS", "AIRFLOW_API_URL"])
def test_a_host_for_workers_says_what_it_lacks(name: str, tmp_path: Path) -> None:
    env = tmp_path / ".env"
    env.write_text("".join(f"{one}={value}\n" for one, value in WORKER_ENV.items() if one != name))
    answer = compose_config(WORKER, env_file=env)
    assert answer.returncode != 0
    assert [name in line for line in answer.stderr.splitlines()] == [True]


@pytest.mark.parametrize("name", SECRETS)
def test_without_a_secret_nothing_starts_and_one_line_says_what_to_do(name: str, env_file: Path) -> None:
    lines = env_file.read_text().splitlines(keepends=True)
    env_file.write_text("".join(line for line in lines if not line.startswith(f"{name}=")))
    answer = compose_config(COMPOSE, CELERY, env_file=env_file)
    assert answer.returncode != 0
    assert [name in line and 'Run "make env"' in line for line in answer.stderr.splitlines()] == [True]


def test_no_file_of_the_stack_holds_a_default_for_a_secret() -> None:
    text = "".join(path.read_text() for path in (*AIRFLOW.glob("*.yml"), AIRFLOW / "Dockerfile", *SCRIPTS))
    assert not re.findall(r"\$\{\w*(?:PASSWORD|SECRET|KEY)\w*:?-[^}]", text)
    assert not re.findall(r"(?i)(?:password|secret|key)\s*[:=]\s*[\"']?(?:airflow|admin|postgres|password)\b", text)


def test_the_dockerfiles_are_clean() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    for dockerfile in (AIRFLOW / "Dockerfile", Path(__file__).with_name("moto.Dockerfile")):
        answer = run(hadolint, dockerfile)
        assert (answer.returncode, answer.stdout) == (0, "")


def test_the_shell_scripts_are_clean() -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    answer = run(shellcheck, *SCRIPTS)
    assert (answer.returncode, answer.stdout) == (0, "")


def test_the_builder_gets_nothing_but_what_the_image_needs() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    copied = re.findall(
        r"^COPY (?:--chown=\S+ )?(?!--)(.+) \S+$|source=([^,]+),target=/tmp/build",
        (AIRFLOW / "Dockerfile").read_text(),
        re.M,
    )
    wanted = {part for first, second in copied for part in (first or second).split()}
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    assert let_in == {"airflow/image" if part.startswith("airflow/image") else part for part in wanted}


def start(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run start.sh as the container does, up to where Airflow's entrypoint takes over: that prints its environment."""
    script = (AIRFLOW / "image" / "start.sh").read_text()
    for inside, here in (("/run/secrets", tmp_path / "secrets"), ("/entrypoint", tmp_path / "entrypoint")):
        script = script.replace(inside, str(here))
    (tmp_path / "entrypoint").write_text("#!/bin/sh\nenv\n")
    (tmp_path / "entrypoint").chmod(0o755)
    return run("bash", "-c", script, environment={"PATH": "/usr/bin:/bin", **environment})


@pytest.mark.parametrize("bind", ["0.0.0.0", "10.0.0.5", "::"])
def test_a_container_refuses_plain_http_where_others_reach_it(bind: str, tmp_path: Path) -> None:
    answer = start(tmp_path, AIRFLOW_BIND=bind)
    assert answer.returncode == 64
    assert f"AIRFLOW_BIND={bind}" in answer.stderr
    assert "Set AIRFLOW_TLS=on too." in answer.stderr
    assert start(tmp_path, AIRFLOW_BIND=bind, AIRFLOW_TLS="on").returncode == 0


@pytest.mark.parametrize("bind", ["", "127.0.0.1", "::1", "localhost"])
def test_a_container_serves_plain_http_to_its_own_machine(bind: str, tmp_path: Path) -> None:
    assert start(tmp_path, AIRFLOW_BIND=bind).returncode == 0


def test_a_word_other_than_on_does_not_pass_for_tls(tmp_path: Path) -> None:
    answer = start(tmp_path, AIRFLOW_TLS="off")
    assert answer.returncode == 64
    assert "AIRFLOW_TLS is 'off'" in answer.stderr


def test_the_cookie_of_a_login_goes_over_tls_only_where_there_is_tls(tmp_path: Path) -> None:
    assert "AIRFLOW__FAB__COOKIE_SECURE=True\n" in start(tmp_path, AIRFLOW_TLS="on").stdout
    assert "COOKIE_SECURE" not in start(tmp_path).stdout


def prepare(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run init.sh as the container does, with TLS and without Airflow."""
    folder = tmp_path / "tls"
    folder.mkdir(exist_ok=True)
    script = (AIRFLOW / "image" / "init.sh").read_text().replace("/opt/airflow/tls", str(folder))
    made, found, _ = script.partition("airflow db migrate\n")
    assert found
    return run("bash", "-c", made, environment={"PATH": "/usr/bin:/bin", "AIRFLOW_TLS": "on", **environment})


@pytest.mark.parametrize(
    ("host", "named"), [("airflow.internal", "DNS:airflow.internal"), ("10.0.0.5", "IP Address:10.0.0.5")]
)
def test_the_certificate_names_the_host_and_stays_as_the_trigger_has_pinned_it(
    host: str, named: str, tmp_path: Path
) -> None:
    first, again = (prepare(tmp_path, AIRFLOW_HOSTNAME=host) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert re.fullmatch("AIRFLOW_CERTIFICATE_SHA256=[0-9a-f]{64}\n", first.stdout)
    assert again.stdout == first.stdout
    certificate = tmp_path / "tls" / "certificate.pem"
    text = run("openssl", "x509", "-in", certificate, "-noout", "-ext", "subjectAltName").stdout
    assert named in text
    modes = {path.name: path.stat().st_mode & 0o777 for path in certificate.parent.iterdir()}
    assert modes == {"certificate.pem": 0o644, "key.pem": 0o600}


def test_connections_reach_airflow_and_empty_ones_do_not(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "AIRFLOW_CONN_STOCKS_DATABASE").write_text("postgres://u:p$w@host/name")
    (tmp_path / "secrets" / "AIRFLOW_CONN_AWS_DEFAULT").touch()
    (tmp_path / "secrets" / "MBD_CHANNELS").write_text("slack://a/b/c jsons://host/x?+a=b")
    printed = start(tmp_path).stdout
    assert "MBD_CHANNELS=slack://a/b/c jsons://host/x?+a=b\n" in printed
    assert "AIRFLOW_CONN_STOCKS_DATABASE=postgres://u:p$w@host/name\n" in printed
    assert "AIRFLOW_CONN_AWS_DEFAULT" not in printed


def test_a_password_that_would_break_a_url_is_refused_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "metadata_password").write_text("se@cret")
    answer = start(tmp_path)
    assert answer.returncode == 64
    assert "metadata_password" in answer.stderr
    assert "se@cret" not in answer.stderr


def test_logs_go_to_s3_and_connections_come_from_parameters_when_told(tmp_path: Path) -> None:
    printed = start(
        tmp_path, AIRFLOW_REMOTE_LOGS="s3://bucket/Output/logs", AIRFLOW_CONNECTION_PARAMETERS="/mbd/connections"
    ).stdout
    for setting in (
        "REMOTE_LOGGING=True", "REMOTE_BASE_LOG_FOLDER=s3://bucket/Output/logs", "REMOTE_LOG_CONN_ID=aws_default",
    ):  # fmt: skip
        assert f"AIRFLOW__LOGGING__{setting}\n" in printed
    [given] = re.findall("AIRFLOW__SECRETS__BACKEND_KWARGS=(.*)", printed)
    assert json.loads(given) == {
        "connections_prefix": "/mbd/connections",
        "variables_prefix": None,
        "config_prefix": None,
    }
    assert "AIRFLOW__SECRETS" not in start(tmp_path).stdout


def test_a_build_keeps_what_the_image_brings_and_takes_the_rest_from_the_lock(tmp_path: Path) -> None:
    shutil.copy(AIRFLOW / "image" / "requirements.py", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    lock = (
        "PyTest==0.1 \\\n    --hash=sha256:a1\nnot-there==9 ; python_full_version < '3.12' \\\n    --hash=sha256:b2\n"
    )
    (tmp_path / "requirements.lock").write_text(lock)
    pinned = run(sys.executable, tmp_path / "requirements.py", "pinned").stdout.splitlines()
    assert f"pytest=={pytest.__version__}" in pinned
    assert pinned[-1] == "not-there==9 ; python_full_version < '3.12'"
    assert "PyTest==0.1" not in pinned
    needed = run(sys.executable, tmp_path / "requirements.py", "needed").stdout.splitlines()
    assert {"celery<5.7", "apache-airflow-providers-fab"} <= set(needed)
    assert {"obstore", "apprise"} <= {re.split("[<>=]", line)[0] for line in needed}


def test_a_build_downloads_only_what_the_lock_has_a_hash_for(tmp_path: Path) -> None:
    shutil.copy(AIRFLOW / "image" / "requirements.py", tmp_path)
    report = tmp_path / "report.json"
    entries = [
        "a-b==1 ; python_full_version < '3.12' \\\n    --hash=sha256:a1 \\\n    --hash=sha256:a2",
        "a-b==2",
        "c==3",
    ]
    (tmp_path / "requirements.lock").write_text("\n".join(entries) + "\n")

    def would_install(*found: tuple[str, str]) -> None:
        installs = [{"metadata": {"name": name, "version": version}} for name, version in found]
        report.write_text(json.dumps({"install": installs}))

    would_install(("A_b", "1"))
    line: list[str | Path] = [sys.executable, tmp_path / "requirements.py", "hashed", report]
    [one] = run(*line).stdout.splitlines()
    assert re.sub(" +", " ", one) == "a-b==1 ; python_full_version < '3.12' --hash=sha256:a1 --hash=sha256:a2"
    would_install(("A_b", "1"), ("c", "4"))
    refused = run(*line)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "requirements.lock: c==4" in refused.stderr
