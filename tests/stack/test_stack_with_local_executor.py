"""The stack of airflow/docker-compose.yml, really up: who may do what, a batch, and whatever may die during one."""

from __future__ import annotations

import hashlib
import re
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from urllib.parse import urlsplit

import pytest
import requests
import yaml

from tests.support import ending
from tests.support.airflow_server import no_new_run
from tests.support.compose_system import AIRFLOW_SERVICES, LOGS, ComposeSystem, StackAirflow, docker
from tests.support.system import DAG_ID, SOURCE_BUCKET
from trigger import airflow_client, airflow_command

LOGOUT = ("get", "/api/v2/auth/logout")
# What is open to anyone: nothing of it tells of batches, users or settings.
OPEN = {
    ("get", "/api/v2/version"): 200,
    ("get", "/api/v2/monitor/health"): 200,
    ("get", "/api/v2/auth/login"): 307,
    LOGOUT: 307,
}
# What the trigger's account may do beside; 404 and 422 are about the request, which names no run and no body.
TRIGGER_MAY = {
    ("get", f"/api/v2/dags/{DAG_ID}"): 200,
    ("get", f"/api/v2/dags/{DAG_ID}/details"): 200,
    ("get", f"/api/v2/dags/{DAG_ID}/dagRuns"): 200,
    ("get", f"/api/v2/dags/{DAG_ID}/dagRuns/1"): 404,
    ("get", f"/api/v2/dags/{DAG_ID}/dagRuns/1/wait"): 422,
    ("post", f"/api/v2/dags/{DAG_ID}/dagRuns"): 422,
    # lists of what it may see, which is this DAG and its tags
    ("get", "/api/v2/dags"): 200,
    ("get", "/api/v2/dagTags"): 200,
    # of the UI: itself, the same DAG, and what the page is to look like
    ("get", "/ui/auth/menus"): 200,
    ("get", "/ui/auth/me"): 200,
    ("post", "/ui/auth/token"): 200,
    ("get", "/ui/config"): 200,
    ("get", "/ui/dashboard/dag_stats"): 200,
    ("get", f"/ui/dags/{DAG_ID}/latest_run"): 200,
    ("get", f"/ui/dags/{DAG_ID}/deadlineAlerts"): 200,
    # its own list of favourites
    ("post", f"/api/v2/dags/{DAG_ID}/favorite"): 204,
    ("post", f"/api/v2/dags/{DAG_ID}/unfavorite"): 204,
}
# Airflow looks at these requests before it looks at who makes them: nothing to be found, or not enough said.
LOOKED_AT_FIRST = {404, 422}


def operations() -> list[tuple[str, str]]:
    """Every method and path of Airflow's API and of its UI's, with this DAG's name and 1 for everything else."""
    found = []
    folder = files("airflow.api_fastapi.core_api") / "openapi"
    for name in ("v2-rest-api-generated.yaml", "_private_ui.yaml"):
        for path, methods in yaml.safe_load((folder / name).read_text())["paths"].items():
            concrete = re.sub(r"{(\w+)}", lambda match: DAG_ID if match[1] == "dag_id" else "1", path)
            found += [(method, concrete) for method in methods if method in ("get", "post", "put", "patch", "delete")]
    return found


def call(airflow: StackAirflow, method: str, path: str, *, token: str | None = None, body: object = None) -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    sent = body if body is not None else {} if method in ("post", "put", "patch") else None
    answer = airflow.session.request(
        method, airflow.url + path, json=sent, headers=headers, allow_redirects=False, timeout=30
    )
    return answer.status_code


def test_only_version_health_and_the_way_to_the_login_are_open(stack: ComposeSystem) -> None:
    answers = {one: call(stack.airflow, *one) for one in operations()}
    assert len(answers) > 130
    assert {one: status for one, status in answers.items() if status != 401} == OPEN
    assert call(stack.airflow, "get", "/execution/connections/stocks_database") == 401
    assert call(stack.airflow, "get", "/auth/fab/v1/users") == 401
    for page in ("users/list/", "roles/list/"):
        answer = requests.get(f"{stack.airflow.url}/auth/{page}", timeout=30, allow_redirects=False)
        assert (answer.status_code, urlsplit(answer.headers["Location"]).path) == (302, "/auth/login/")


@pytest.mark.parametrize("user", ["admin", "trigger", "airflow"])
@pytest.mark.parametrize("password", ["", "airflow", "admin", "trigger", "password"])
def test_no_account_has_a_password_that_one_could_guess(stack: ComposeSystem, user: str, password: str) -> None:
    answer = requests.post(f"{stack.airflow.url}/auth/token", json={"username": user, "password": password}, timeout=30)
    assert answer.status_code in (400, 401)


def test_the_trigger_may_read_the_dag_and_start_runs_and_nothing_else(stack: ComposeSystem) -> None:
    token = stack.trigger_airflow.token
    expected = {one: status for one, status in {**OPEN, **TRIGGER_MAY}.items() if one != LOGOUT}  # it ends the token
    answers = {one: call(stack.airflow, *one, token=token) for one in operations() if one != LOGOUT}
    assert {one: answers[one] for one in expected} == expected
    others = {one: status for one, status in answers.items() if one not in expected and status != 403}
    assert set(others.values()) <= LOOKED_AT_FIRST, others


def test_the_trigger_is_refused_what_a_whole_request_asks_for(stack: ComposeSystem) -> None:
    token, dag = stack.trigger_airflow.token, f"/api/v2/dags/{DAG_ID}"
    secret = {"key": "k", "value": "v"}
    for method, path, body in (
        ("patch", dag, {"is_paused": True}),
        ("patch", "/api/v2/dags?dag_id_pattern=~", {"is_paused": True}),
        ("delete", dag, None),
        ("post", f"{dag}/clearTaskInstances", {"dry_run": False}),
        ("post", f"{dag}/clearDagRuns", {"dag_runs": [{"dag_run_id": "1"}], "dry_run": False}),
        ("patch", f"{dag}/dagRuns/1", {"state": "failed"}),
        ("patch", f"{dag}/dagRuns", {"actions": [{"action": "delete", "entities": [{"dag_run_id": "1"}]}]}),
        ("delete", f"{dag}/dagRuns/1", None),
        ("post", "/api/v2/dags/another_dag/dagRuns", {"dag_run_id": "1", "logical_date": None, "conf": {}}),
        ("get", "/api/v2/connections/stocks_database", None),
        ("post", "/api/v2/variables", secret),
        ("patch", "/api/v2/variables", {"actions": [{"action": "create", "entities": [secret]}]}),
        ("get", "/auth/fab/v1/users", None),
        ("post", "/auth/fab/v1/roles", {"name": "x", "actions": []}),
    ):
        assert call(stack.airflow, method, path, token=token, body=body) == 403, (method, path)
    assert call(stack.airflow, "get", dag, token=token) == 200


def test_a_batch_runs_to_one_table_and_one_mail(stack: ComposeSystem) -> None:
    ending.upload_sample(stack)
    run_id = stack.start("a_batch_runs_to_one_table")
    assert ending.expect_one_mail(stack, run_id) == "success"
    assert stack.output("historical_stock_data.csv").count(b"\n") == ending.rows_of_sample()
    assert stack.trigger_airflow.request("GET", f"dags/{DAG_ID}/dagRuns/{run_id}").json()["state"] == "success"


def test_a_person_sees_the_log_of_a_task(stack: ComposeSystem) -> None:
    [run_id] = stack.runs()
    assert "accepted" in stack.log(run_id, "load")


def test_the_command_that_systems_manager_brings_starts_a_run_once_and_tells_what_hinders_it(
    stack: ComposeSystem,
) -> None:
    ending.begin_anew(stack)
    key = """it's "$(touch pwned)" `id`;\n\\ ü.SUCCESS"""
    marker = {"bucket": "b", "key": key, "etag": "e"}
    script = airflow_command.command(dag_run_id="by_command", conf={"marker": marker})

    def said() -> str:
        """As SSM's agent runs it, with the test's stack in place of the instance's."""
        here = script.replace(airflow_command.AIRFLOW_FOLDER, str(stack.directory))
        return subprocess.run(["sh"], input=here, check=True, capture_output=True, text=True, env=stack.shell).stdout

    stack.airflow.request("PATCH", f"dags/{DAG_ID}", body={"is_paused": True}).raise_for_status()
    assert said() == "paused\n"
    stack.airflow.request("PATCH", f"dags/{DAG_ID}", body={"is_paused": False}).raise_for_status()
    assert [said(), said()] == ["started\n", "already_accepted\n"]
    assert ending.expect_one_mail(stack, "by_command") == "success"
    run = stack.airflow.request("GET", f"dags/{DAG_ID}/dagRuns/by_command").json()
    assert run["conf"]["marker"] == marker
    stack.compose("stop", "api-server")
    try:
        assert said() == "not_ready\n"
    finally:
        stack.up()


@pytest.fixture
def emptied(stack: ComposeSystem) -> None:
    ending.begin_anew(stack)


@pytest.mark.usefixtures("emptied")
def test_a_killed_scheduler_comes_back_and_ends_the_run(stack: ComposeSystem) -> None:
    run_id, restarts = stack.start("a_killed_scheduler_comes_back"), stack.restarts("scheduler")
    with ending.loads_held_up(stack):
        stack.wait_for_task(run_id, "load")
        stack.kill("scheduler", "airflow scheduler")
    assert ending.expect_one_mail(stack, run_id) == "success"
    assert stack.restarts("scheduler") == restarts + 1


@pytest.mark.usefixtures("emptied")
def test_a_killed_dag_processor_comes_back_and_sends_the_mail(stack: ComposeSystem) -> None:
    run_id, restarts = stack.start("a_killed_dag_processor_comes_back"), stack.restarts("dag-processor")
    with ending.loads_held_up(stack):
        stack.wait_for_task(run_id, "load")
        stack.kill("dag-processor", "dag-processor")
    assert ending.expect_one_mail(stack, run_id) == "success"
    assert stack.restarts("dag-processor") == restarts + 1


@pytest.mark.usefixtures("emptied")
def test_a_killed_task_is_tried_again(stack: ComposeSystem) -> None:
    run_id = stack.start("a_killed_task_is_tried_again")
    with ending.loads_held_up(stack):
        stack.wait_for_task(run_id, "load")
        assert stack.kill("scheduler", "airflow worker -- [0-9a-f]") == 1
    assert ending.expect_one_mail(stack, run_id) == "success"


@pytest.mark.usefixtures("emptied")
def test_a_restart_of_the_whole_stack_ends_the_run(stack: ComposeSystem) -> None:
    run_id = stack.start("a_restart_of_the_whole_stack_ends_the_run")
    with ending.loads_held_up(stack):
        stack.wait_for_task(run_id, "load")
        stack.compose("restart", "--timeout", "1", "postgres", *AIRFLOW_SERVICES)
    ending.expect_one_mail(stack, run_id)


def test_fifty_callers_at_once_are_all_answered_although_the_database_keeps_them_waiting(stack: ComposeSystem) -> None:
    dag, password = f"dags/{DAG_ID}", stack.env["AIRFLOW_TRIGGER_PASSWORD"]
    callers = [StackAirflow(stack.airflow.url, username="trigger", password=password) for _ in range(50)]

    def start(number: int) -> int:
        body: dict[str, object] = {"dag_run_id": f"at_once_{number}", "logical_date": None, "conf": {}}
        return callers[number].request("POST", f"{dag}/dagRuns", body=body).status_code

    stack.airflow.request("PATCH", dag, body={"is_paused": True}).raise_for_status()
    try:
        with ThreadPoolExecutor(50) as pool:
            assert len(list(pool.map(lambda caller: caller.token, callers))) == 50
            with no_new_run(stack.metadata_url) as waiting:
                answers = [pool.submit(start, number) for number in range(50)]
                while waiting() < 30:  # twice as many as Airflow's own pool has connections
                    assert not any(answer.done() for answer in answers)
        assert [answer.result() for answer in answers] == [200] * 50
    finally:
        for number in range(50):
            stack.airflow.request("DELETE", f"{dag}/dagRuns/at_once_{number}")
        stack.airflow.request("PATCH", dag, body={"is_paused": False}).raise_for_status()


def test_no_container_ran_out_of_memory(stack: ComposeSystem) -> None:
    memory = stack.memory()
    services = ("postgres", *AIRFLOW_SERVICES)
    assert {service: memory[f"{service}-1"].kills for service in services} == dict.fromkeys(services, 0)
    state = docker("inspect", "--format", "{{.State.OOMKilled}}", *stack.containers("init", *services).values())
    assert state.split() == ["false"] * 5


def test_no_secret_shows_in_config_inspect_logs_or_history(stack: ComposeSystem) -> None:
    containers = stack.containers("postgres", "init", *AIRFLOW_SERVICES)
    assert len(containers) == 5
    shown = {"config": stack.compose("config"), "logs": stack.compose("logs", "--no-color")}
    for name, container in containers.items():
        shown[f"inspect {name}"] = docker("inspect", container)
        shown[f"ps {name}"] = docker("top", container) if "init" not in name else ""
    shown["history"] = docker("history", "--no-trunc", "moving-big-data-airflow")
    shown["image"] = docker("inspect", "moving-big-data-airflow")
    logs = "find /opt/airflow/logs -type f -exec cat {} +"
    shown["task logs"] = stack.compose("exec", "-T", "scheduler", "sh", "-c", logs)
    assert len(shown["task logs"]) > 1000
    for name, secret in stack.secrets.items():
        assert not [where for where, text in shown.items() if secret in text], name


def test_opened_to_others_it_refuses_plain_http(stack: ComposeSystem) -> None:
    answer = subprocess.run(
        ["docker", "run", "--rm", "--env", "AIRFLOW_BIND=0.0.0.0", "moving-big-data-airflow", "api-server"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 64
    assert "Set AIRFLOW_TLS=on too." in answer.stderr


def test_new_passwords_reach_the_containers_and_unchanged_ones_leave_them_alone(stack: ComposeSystem) -> None:
    before = stack.containers()
    stack.up()
    assert stack.containers() == before
    trigger_before = stack.change_passwords()
    changed = {
        name.removeprefix(f"{stack.project}-") for name, one in stack.containers().items() if before[name] != one
    }
    assert changed == {"init-1", *(f"{service}-1" for service in AIRFLOW_SERVICES)}
    credentials = {"username": "trigger", "password": trigger_before.password}
    assert requests.post(f"{stack.airflow.url}/auth/token", json=credentials, timeout=30).status_code == 401
    ending.begin_anew(stack)
    run_id = stack.start("with_new_passwords")
    assert ending.expect_one_mail(stack, run_id) == "success"


def test_over_tls_a_batch_runs_with_its_connection_from_a_parameter_and_its_logs_in_s3(stack: ComposeSystem) -> None:
    stack.put_parameter("/mbd-test/connections/stocks_database", stack.env["AIRFLOW_CONN_STOCKS_DATABASE"])
    stack.change(
        AIRFLOW_TLS="on",
        AIRFLOW_CONN_STOCKS_DATABASE="",
        AIRFLOW_CONNECTION_PARAMETERS="/mbd-test/connections",
        AIRFLOW_REMOTE_LOGS=LOGS,
    )
    port = urlsplit(stack.airflow.url).port or 0
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://127.0.0.1:{port}/api/v2/version", timeout=10)
    pem = (stack.directory / "certificate.pem").read_text()
    fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    assert f"AIRFLOW_CERTIFICATE_SHA256={fingerprint}" in stack.compose("logs", "init")
    modes = stack.compose("exec", "-T", "api-server", "sh", "-c", "stat -c %a /opt/airflow/tls/*.pem")
    assert modes.split() == ["644", "600"]  # certificate, key
    ending.begin_anew(stack)
    server = airflow_client.Server(url=stack.airflow.url, certificate_sha256=fingerprint)
    access = airflow_client.log_in(server, username="trigger", password=stack.trigger_airflow.password)
    airflow_client.require_unpaused(access)
    assert airflow_client.start_run(access, dag_run_id="over_tls", conf={}) == "started"
    assert ending.expect_one_mail(stack, "over_tls") == "success"
    listed = stack.s3.list_objects_v2(Bucket=SOURCE_BUCKET, Prefix="Output/logs/")["Contents"]
    assert {f"task_id={name}" for name in ("gate", "process", "load")} <= {
        part for entry in listed for part in entry["Key"].split("/")
    }
    assert "accepted" in stack.log("over_tls", "load")  # only S3 has it: Airflow has emptied the file
