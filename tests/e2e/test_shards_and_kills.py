"""A batch in shards through a real Airflow, and a task of it killed: the same outputs, one table, one mail."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg2
import pytest

import etl
from etl.index import parse_index
from tests.integration.s3_proxy import Refusal, Request, S3Proxy
from tests.local_stack.process import StackError
from tests.local_stack.system import DAG_ID, INDEX_KEY, SOURCE_BUCKET, LocalSystem, Mail

SAMPLE = Path(__file__).parents[1] / "data" / "sample"
OUTPUTS = ("historical_stock_data.csv", "rejected_rows.csv", "manifest.json")


class ProxiedSystem(LocalSystem):
    """A system whose batches are divided into three, with a proxy between its Airflow and S3."""

    proxy: S3Proxy

    def _airflow_environment(self) -> dict[str, str]:
        environment = super()._airflow_environment()
        aws = json.loads(environment["AIRFLOW_CONN_AWS_DEFAULT"])
        self.proxy = self._stack.enter_context(S3Proxy(aws["extra"]["endpoint_url"]))
        aws["extra"]["endpoint_url"] = self.proxy.url
        return {**environment, "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws), "MBD_SHARDS": "3"}


@pytest.fixture(scope="module")
def system() -> Iterator[ProxiedSystem]:
    """In the place of the system that the other tests share, and in a folder that no other session of pytest shuts."""
    with TemporaryDirectory(prefix="etl-shards-") as folder, ProxiedSystem(Path(folder)) as running:
        yield running


def start(system: LocalSystem, run_id: str, **conf: object) -> None:
    body = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
    answer = system.airflow.request("POST", f"dags/{DAG_ID}/dagRuns", body=body)
    assert answer.ok, answer.text


def task_instances(system: LocalSystem, run_id: str) -> list[dict[str, Any]]:
    answer = system.airflow.request("GET", f"dags/{DAG_ID}/dagRuns/{run_id}/taskInstances").json()
    found: list[dict[str, Any]] = answer["task_instances"]
    return found


def empty_table(system: LocalSystem) -> None:
    with psycopg2.connect(system.database_url) as connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE historical_stocks_data, loaded_companies, pipeline_runs")


def table(system: LocalSystem) -> tuple[int, str]:
    with psycopg2.connect(system.database_url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*), sum(hashtextextended(t::text, 0))::text FROM historical_stocks_data t")
        return cursor.fetchone() or (0, "")


def keys(system: LocalSystem, prefix: str) -> list[str]:
    return [
        entry["Key"] for entry in system.s3.list_objects_v2(Bucket=SOURCE_BUCKET, Prefix=prefix).get("Contents", [])
    ]


def the_one_mail(system: LocalSystem) -> Mail:
    mail = system.receive_mail()
    with pytest.raises(StackError, match="Nothing came"):
        system.receive_mail(seconds=3)
    return mail


def kill_when(holds: Callable[[], bool], *, system: LocalSystem, run_id: str) -> int:
    """End the process of the one task that still runs, as soon as `holds`; returns its map index."""
    deadline = time.monotonic() + 90
    while True:
        running = [task for task in task_instances(system, run_id) if task["state"] == "running"]
        if len(running) == 1 and holds():
            os.kill(running[0]["pid"], signal.SIGKILL)
            return int(running[0]["map_index"])
        assert time.monotonic() < deadline, running
        time.sleep(0.2)


def tries(system: LocalSystem, run_id: str) -> dict[int, int]:
    """How often each task of `process` was tried, by its map index."""
    tasks = task_instances(system, run_id)
    return {task["map_index"]: task["try_number"] for task in tasks if task["task_id"] == "process"}


def facts(system: LocalSystem, run_id: str) -> tuple[etl.Receipt, dict[str, bytes], tuple[int, str]]:
    """What a run has made, without its name and its times."""
    receipt = etl.Receipt.from_json(system.output(f"receipts/{run_id}.json"))
    receipt.check_balance()
    untimed = replace(receipt, run_id="", started_at=receipt.started_at.min, elapsed_seconds=0, steps={})
    return untimed, {name: system.output(name) for name in OUTPUTS}, table(system)


@pytest.mark.usefixtures("sample")
def test_batch_in_three_shards_gives_the_outputs_the_table_and_the_receipt_of_one(system: ProxiedSystem) -> None:
    made = []
    for run_id, shards, conf in (("in_one", 1, {"shards": 1}), ("in_three:2026-11-22T11:08:34+00:00", 3, {})):
        empty_table(system)
        for name in OUTPUTS:
            system.s3.delete_object(Bucket=SOURCE_BUCKET, Key=f"Output/{name}")
        start(system, run_id, **conf)
        assert system.finish(run_id) == "success"
        assert the_one_mail(system).subject == "Ada_Lovelace_Pipeline_Success"
        assert keys(system, "Output/parts/") == []
        tasks = task_instances(system, run_id)
        assert Counter(task["task_id"] for task in tasks) == {"gate": 1, "process": shards, "load": 1}
        made.append(facts(system, run_id))
    assert made[0] == made[1]


@pytest.mark.usefixtures("sample")
def test_shard_killed_in_the_middle_ends_in_success_after_its_retry_with_one_mail(
    system: ProxiedSystem, tmp_path: Path
) -> None:
    empty_table(system)
    reached, released = threading.Event(), threading.Event()

    def hang(request: Request) -> None:
        if request.operation == "GetObject" and request.key == "Stocks/ge.us.csv":
            reached.set()
            released.wait(90)

    system.proxy.hook = hang
    start(system, "killed", shards=2)
    try:
        killed = kill_when(reached.is_set, system=system, run_id="killed")
    finally:
        released.set()
        system.proxy.hook = lambda _: None
    assert system.finish("killed") == "success"
    assert the_one_mail(system).subject == "Ada_Lovelace_Pipeline_Success"
    assert tries(system, "killed") == {killed: 2, 1 - killed: 1}
    assert keys(system, "Output/parts/") == []
    assert system.s3.list_multipart_uploads(Bucket=SOURCE_BUCKET).get("Uploads", []) == []
    in_folders = etl.Job(str(SAMPLE / "Stocks"), str(SAMPLE / "CompanyNames" / "top_companies.txt"), str(tmp_path))
    expected = etl.process(in_folders, run=etl.Run.begin("test")).rows
    receipt, outputs, (in_table, _) = facts(system, "killed")
    assert outputs[OUTPUTS[0]] == (tmp_path / OUTPUTS[0]).read_bytes()
    assert (receipt.rows.read, receipt.rows.inserted, in_table) == (expected.read, expected.accepted, expected.accepted)


def test_what_stopped_one_shard_is_told_by_one_mail_though_another_was_killed_and_began_again_after_it(
    system: ProxiedSystem, sample: dict[str, Path]
) -> None:
    before, names = table(system), parse_index(system.s3.get_object(Bucket=SOURCE_BUCKET, Key=INDEX_KEY)["Body"].read())
    first, last = (
        next(name for name in order if sample[name].stat().st_size) for order in (names.names, names.names[::-1])
    )
    released = threading.Event()

    def refuse_or_hang(request: Request) -> Refusal | None:
        if request.operation == "GetObject" and request.key == f"Stocks/{last}":
            released.wait(90)
        return Refusal(403, "AccessDenied") if request.key == f"Stocks/{first}" else None

    def first_has_failed() -> bool:
        return [task["state"] for task in task_instances(system, "refused") if task["map_index"] == 0] == ["failed"]

    system.proxy.hook = refuse_or_hang
    start(system, "refused", shards=2)
    try:
        assert kill_when(first_has_failed, system=system, run_id="refused") == 1
    finally:
        released.set()
    assert system.finish("refused") == "failed"
    system.proxy.hook = lambda _: None
    mail = the_one_mail(system)
    assert mail.subject == "Ada_Lovelace_Pipeline_Failure"
    assert f"Not allowed to read s3://{SOURCE_BUCKET}/Stocks/{first}" in mail.text
    assert tries(system, "refused") == {0: 1, 1: 2}
    assert table(system) == before
