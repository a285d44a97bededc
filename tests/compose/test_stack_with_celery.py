"""The stack with docker-compose.celery.yml: Redis and two workers, four shards, and workers that die."""

from __future__ import annotations

import json

import pytest

from tests.compose import ending
from tests.compose.compose_system import ComposeSystem
from tests.local_stack.system import DAG_ID


@pytest.fixture
def emptied(celery_stack: ComposeSystem) -> None:
    ending.begin_anew(celery_stack)


@pytest.mark.usefixtures("emptied")
def test_a_batch_runs_on_the_workers(celery_stack: ComposeSystem) -> None:
    run_id = celery_stack.start("a_batch_runs_on_the_workers")
    assert ending.expect_one_mail(celery_stack, run_id) == "success"
    tasks = celery_stack.airflow.request("GET", f"dags/{DAG_ID}/dagRuns/{run_id}/taskInstances").json()[
        "task_instances"
    ]
    hosts = {task["hostname"] for task in tasks}
    workers = celery_stack.containers("worker")
    assert len(workers) == 2
    assert hosts <= {container[:12] for container in workers.values()}
    assert celery_stack.output("historical_stock_data.csv").count(b"\n") == ending.rows_of_sample()


@pytest.mark.usefixtures("emptied")
@pytest.mark.parametrize("number", [1, 2])
def test_killed_workers_come_back_and_the_run_ends(celery_stack: ComposeSystem, number: int) -> None:
    run_id = celery_stack.start(f"killed_{number}")
    with ending.loads_held_up(celery_stack):
        celery_stack.wait_for_task(run_id, "load")
        for index in range(1, number + 1):
            celery_stack.kill("worker", "celery", index=index)
    assert ending.expect_one_mail(celery_stack, run_id) == "success"


@pytest.mark.usefixtures("emptied")
def test_a_restart_of_redis_and_workers_ends_the_run(celery_stack: ComposeSystem) -> None:
    run_id = celery_stack.start("a_restart_of_redis")
    celery_stack.wait_for_task(run_id, "gate", state="success")
    with celery_stack.s3_paused():  # before the shards, which take a second to start, have read anything
        celery_stack.wait_for_task(run_id, "process")
        celery_stack.compose("restart", "--timeout", "1", "redis", "worker")
    ending.expect_one_mail(celery_stack, run_id)


def test_workers_hold_no_key_of_airflow_and_nothing_shows_a_secret(celery_stack: ComposeSystem) -> None:
    held = celery_stack.compose("exec", "-T", "worker", "ls", "/run/secrets").split()
    assert set(held) == {"redis_password", "AIRFLOW_CONN_AWS_DEFAULT", "AIRFLOW_CONN_STOCKS_DATABASE"}
    shown = celery_stack.compose("config") + celery_stack.compose("logs", "--no-color")
    for container in celery_stack.containers("redis", "worker", "scheduler").values():
        shown += json.dumps(container)
    for name, secret in celery_stack.secrets().items():
        assert secret not in shown, name
