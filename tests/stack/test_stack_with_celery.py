"""The stack with docker-compose.celery.yml: Redis and two workers, four shards, workers that die, and one elsewhere."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support import ending
from tests.support.compose_system import ComposeSystem, docker


@pytest.fixture
def emptied(celery_stack: ComposeSystem) -> None:
    ending.begin_anew(celery_stack)


def hosts(stack: ComposeSystem, run_id: str, *, task_id: str) -> set[str]:
    """Where the run's tasks of that name are running; a host is called by the first 12 digits of its container."""
    return {one["hostname"] for one in stack.tasks(run_id) if (one["task_id"], one["state"]) == (task_id, "running")}


@pytest.mark.usefixtures("emptied")
def test_the_shards_of_a_batch_run_on_both_workers(celery_stack: ComposeSystem) -> None:
    workers = {container[:12] for container in celery_stack.containers("worker").values()}
    assert len(workers) == 2
    run_id = celery_stack.start("a_batch_runs_on_the_workers")
    celery_stack.wait_for_task(run_id, "gate", state="success")
    deadline = time.monotonic() + 60
    with (
        celery_stack.s3_paused()
    ):  # until all that can run at once do, so that no worker is done before the other begins
        while hosts(celery_stack, run_id, task_id="process") != workers:
            assert time.monotonic() < deadline, celery_stack.tasks(run_id)
            time.sleep(0.3)
    assert ending.expect_one_mail(celery_stack, run_id) == "success"
    assert celery_stack.output("historical_stock_data.csv").count(b"\n") == ending.rows_of_sample()


@pytest.mark.usefixtures("emptied")
@pytest.mark.parametrize("number", [1, 2])
def test_killed_workers_come_back_and_the_run_ends(celery_stack: ComposeSystem, number: int) -> None:
    run_id = celery_stack.start(f"killed_{number}")
    with ending.loads_held_up(celery_stack):
        celery_stack.wait_for_task(run_id, "load")
        [holder] = hosts(celery_stack, run_id, task_id="load")
        workers = sorted(celery_stack.containers("worker").items(), key=lambda one: not one[1].startswith(holder))
        indexes = [int(name.rpartition("-")[2]) for name, _ in workers[:number]]  # the one that loads is killed first
        before = [celery_stack.restarts("worker", index=index) for index in indexes]
        for index in indexes:
            celery_stack.kill("worker", "celery", index=index)
    assert ending.expect_one_mail(celery_stack, run_id) == "success"
    assert [celery_stack.restarts("worker", index=index) for index in indexes] == [count + 1 for count in before]


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
    shown = {"config": celery_stack.compose("config"), "logs": celery_stack.compose("logs", "--no-color")}
    containers = celery_stack.containers("redis", "worker", "scheduler")
    assert len(containers) == 4
    for name, container in containers.items():
        shown |= {f"inspect {name}": docker("inspect", container), f"top {name}": docker("top", container)}
    for name, secret in celery_stack.secrets.items():
        assert not [where for where, text in shown.items() if secret in text], name


@pytest.mark.usefixtures("emptied")
def test_a_worker_of_another_host_runs_a_batch_over_tls(celery_stack: ComposeSystem, tmp_path: Path) -> None:
    with celery_stack.worker_host(tmp_path) as container:
        celery_stack.compose("stop", "worker")
        try:
            run_id = celery_stack.start("on_another_host")
            assert ending.expect_one_mail(celery_stack, run_id) == "success"
        finally:
            docker("start", *celery_stack.containers("worker").values())  # compose would start init too
    assert {task["hostname"] for task in celery_stack.tasks(run_id)} == {container[:12]}
    assert "accepted" in celery_stack.log(run_id, "load")  # from S3: the api-server has no file of another host
