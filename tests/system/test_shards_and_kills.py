"""A real Airflow whose runs are divided, killed, timed out, refused or asked for at once: one table, one mail a run."""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg2
import pytest

import etl
from etl.batch.company_index import parse_index
from tests.support.airflow_server import no_new_run
from tests.support.batch_files import process
from tests.support.figures import Figures
from tests.support.paths import DAGS, SAMPLE
from tests.support.process import StackError
from tests.support.s3_proxy import Refusal, Request, S3Proxy
from tests.support.system import DAG_ID, INDEX_KEY, SOURCE_BUCKET, LocalSystem, Mail
from tests.support.traces import places_of, traces

OUTPUTS = (
    "historical_stock_data.csv", "rejected_rows.csv", "rejected_rows.jsonl", "flagged_rows.csv", "manifest.json",
)  # fmt: skip
SUCCESS, FAILURE = "Ada_Lovelace_Pipeline_Success", "Ada_Lovelace_Pipeline_Failure"
KILLS = int(os.environ.get("MBD_KILLS", "3"))
HURRIED = "hurried"
PAUSES = ('"retry_delay": timedelta(seconds=20)', '"retry_delay": timedelta(seconds=1)')


def write_dags(folder: Path) -> Path:
    """A DAG folder with the DAG as it is deployed, and once more as `hurried`, whose retries wait for a second only."""
    folder.mkdir()
    text = (DAGS / f"{DAG_ID}.py").read_text()
    hurried = text
    for old, new in ((f'dag_id="{DAG_ID}"', f'dag_id="{HURRIED}"'), PAUSES):
        assert text.count(old) == 1, "the two differ by name and pause"
        hurried = hurried.replace(old, new)
    (folder / f"{DAG_ID}.py").write_text(text)
    (folder / f"{HURRIED}.py").write_text(hurried)
    return folder


class ProxiedSystem(LocalSystem):
    """A system whose batches are divided into three, with a proxy between its Airflow and S3.

    Airflow logs in to the database as `loader`, and takes a task for lost after 20 seconds without its heartbeat.
    """

    proxy: S3Proxy

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, dags=write_dags(directory / "dags"), dag_ids=[DAG_ID, HURRIED])
        self.loader_password = secrets.token_urlsafe(24)

    @property
    def secrets(self) -> dict[str, str]:
        return {**super().secrets, "password of the database's user loader": self.loader_password}

    def change_password(self, password: str) -> None:
        """Of the user `loader`, in the database; Airflow is not told."""
        with psycopg2.connect(self.database_url) as connection, connection.cursor() as cursor:
            cursor.execute("ALTER ROLE loader PASSWORD %s", [password])

    def _make_database(self) -> None:
        super()._make_database()
        with psycopg2.connect(self.database_url) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE ROLE loader LOGIN SUPERUSER PASSWORD %s", [self.loader_password])

    def _airflow_environment(self) -> dict[str, str]:
        environment = super()._airflow_environment()
        aws = json.loads(environment["AIRFLOW_CONN_AWS_DEFAULT"])
        self.proxy = self._stack.enter_context(S3Proxy(aws["extra"]["endpoint_url"]))
        aws["extra"]["endpoint_url"] = self.proxy.url
        login = f"loader:{self.loader_password}@"
        return {
            **environment,
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws),
            "AIRFLOW_CONN_STOCKS_DATABASE": f"postgres://{login}127.0.0.1:{self.postgres.port}/stocks",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
            "MBD_SHARDS": "3",
        }


@pytest.fixture(scope="module")
def system() -> Iterator[ProxiedSystem]:
    """In the place of the system that the other tests share, and in a folder that no other session of pytest shuts."""
    with TemporaryDirectory(prefix="etl-shards-") as folder, ProxiedSystem(Path(folder)) as running:
        yield running


def start(system: LocalSystem, run_id: str, *, dag_id: str = DAG_ID, shards: int | None = None) -> None:
    conf = {"reread": True} | ({"shards": shards} if shards else {})  # so that S3 is asked for each file
    body = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
    answer = system.airflow.request("POST", f"dags/{dag_id}/dagRuns", body=body)
    assert answer.ok, answer.text


def task_instances(system: LocalSystem, run_id: str, *, dag_id: str = DAG_ID) -> list[dict[str, Any]]:
    answer = system.airflow.request("GET", f"dags/{dag_id}/dagRuns/{run_id}/taskInstances").json()
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
    for run_id, shards in (("in_one", 1), ("in_three:2026-11-22T11:08:34+00:00", None)):  # three is the setting
        empty_table(system)
        for name in OUTPUTS:
            system.s3.delete_object(Bucket=SOURCE_BUCKET, Key=f"Output/{name}")
        start(system, run_id, shards=shards)
        assert system.finish(run_id) == "success"
        assert the_one_mail(system).subject == SUCCESS
        assert keys(system, "Output/parts/") == []
        tasks = task_instances(system, run_id)
        assert Counter(task["task_id"] for task in tasks) == {"gate": 1, "process": shards or 3, "load": 1}
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
    assert the_one_mail(system).subject == SUCCESS
    assert tries(system, "killed") == {killed: 2, 1 - killed: 1}
    assert keys(system, "Output/parts/") == []
    assert system.s3.list_multipart_uploads(Bucket=SOURCE_BUCKET).get("Uploads", []) == []
    in_folders = etl.Job(str(SAMPLE / "Stocks"), str(SAMPLE / "CompanyNames" / "top_companies.txt"), str(tmp_path))
    expected = process(in_folders, run=etl.Run.begin("test")).rows
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
        # Not AccessDenied: a file that may not be read is quarantined, but wrong credentials are nobody's file.
        return Refusal(403, "InvalidAccessKeyId") if request.key == f"Stocks/{first}" else None

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
    assert mail.subject == FAILURE
    assert f"s3://{SOURCE_BUCKET}/Stocks/{first}" in mail.text.splitlines()[0]
    assert "InvalidAccessKeyId" in mail.text.splitlines()[0]
    assert tries(system, "refused") == {0: 1, 1: 2}
    assert table(system) == before


# --- killed at any moment, timed out, refused, asked for at once ---------------------------------------------------


def runs_in(system: LocalSystem, state: str) -> set[str]:
    """Ids of the runs of the DAG that are in this state."""
    answer = system.airflow.request("GET", f"dags/{DAG_ID}/dagRuns?limit=100&state={state}").json()
    return {run["dag_run_id"] for run in answer["dag_runs"]}


def wait_until(holds: Callable[[], bool], *, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def begin_earlier(system: LocalSystem, run_id: str, *, hours: int) -> None:
    """Let Airflow think that a run has begun so long before it did."""
    with (
        closing(psycopg2.connect(system.postgres.url("airflow"))) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(
            "UPDATE dag_run SET start_date = start_date - %s * interval '1 hour' WHERE run_id = %s", [hours, run_id]
        )
        assert cursor.rowcount == 1


def running_task(system: LocalSystem, run_id: str, task_id: str, *, dag_id: str = DAG_ID, attempt: int = 1) -> int:
    """The process of a task of a run, as soon as it runs."""
    found: list[int] = []

    def runs() -> bool:
        for task in task_instances(system, run_id, dag_id=dag_id):
            if (task["task_id"], task["state"], task["try_number"]) == (task_id, "running", attempt) and task["pid"]:
                found.append(int(task["pid"]))
        return bool(found)

    wait_until(runs)
    return found[0]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def sessions(system: LocalSystem, condition: str = "true") -> int:
    """How many sessions of loads there are for which `condition` on pg_stat_activity holds."""
    with closing(psycopg2.connect(system.database_url)) as connection, connection.cursor() as cursor:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'moving-big-data' AND "
        cursor.execute(query + condition)
        return int(cursor.fetchall()[0][0])


@contextmanager
def table_locked(system: LocalSystem) -> Iterator[None]:
    """Until the block ends, whoever reads or writes the table waits."""
    with closing(psycopg2.connect(system.database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE historical_stocks_data IN ACCESS EXCLUSIVE MODE")
        yield


@pytest.fixture
def load_old(system: ProxiedSystem, sample: dict[str, Path], tmp_path: Path) -> Callable[[], tuple[int, str]]:
    """Makes the table that of an old batch: of the sample's companies one, one without its end, one its beginning."""
    source, index = tmp_path / "Stocks", tmp_path / "index.txt"
    source.mkdir()
    names = [name for name, path in sorted(sample.items()) if path.stat().st_size][:3]
    for number, name in enumerate(names):
        header, *rows = sample[name].read_bytes().splitlines(keepends=True)
        (source / name).write_bytes(header + b"".join([rows, rows[:-9], rows[9:]][number]))
    index.write_text(", ".join(f"'{name}'" for name in names))
    job = etl.Job(str(source), str(index), str(tmp_path / "Output"))

    def load() -> tuple[int, str]:
        wait_until(lambda: not sessions(system))
        empty_table(system)
        etl.run(job, target=etl.Target(system.database_url), run=etl.Run.begin("old"))
        return table(system)

    return load


@pytest.fixture
def new(system: ProxiedSystem, sample: dict[str, Path], tmp_path: Path) -> tuple[int, str]:
    """The table as the whole sample makes it."""
    wait_until(lambda: not sessions(system))
    empty_table(system)
    job = etl.Job(str(SAMPLE / "Stocks"), str(SAMPLE / "CompanyNames" / "top_companies.txt"), str(tmp_path / "new"))
    etl.run(job, target=etl.Target(system.database_url), run=etl.Run.begin("new"))
    return table(system)


def test_run_that_times_out_while_its_load_waits_is_told_by_one_mail_and_its_task_ends(
    system: ProxiedSystem, load_old: Callable[[], tuple[int, str]]
) -> None:
    old = load_old()
    with table_locked(system):
        start(system, "late", shards=1)
        task = running_task(system, "late", "load")
        wait_until(lambda: sessions(system, "wait_event_type = 'Lock'") == 1)
        begin_earlier(system, "late", hours=1)
        assert system.finish("late") == "failed"
        mail = the_one_mail(system)
        assert mail.subject == FAILURE
        assert "'timed_out'" in mail.text
        assert "run        late" in mail.text
        wait_until(lambda: not is_alive(task), seconds=30)
    wait_until(lambda: not sessions(system))
    assert table(system) == old


def test_load_whose_supervisor_is_killed_is_tried_again_and_the_rows_are_there_once(
    system: ProxiedSystem, new: tuple[int, str], load_old: Callable[[], tuple[int, str]]
) -> None:
    load_old()
    with table_locked(system):
        start(system, "unsupervised", dag_id=HURRIED, shards=1)
        task = running_task(system, "unsupervised", "load", dag_id=HURRIED)
        wait_until(lambda: sessions(system, "wait_event_type = 'Lock'") == 1)
        supervisor = parent_of(task)
        os.kill(supervisor, signal.SIGKILL)
        wait_until(lambda: not is_alive(supervisor))
        running_task(system, "unsupervised", "load", dag_id=HURRIED, attempt=2)
        wait_until(lambda: sessions(system) == 2)
    assert system.finish("unsupervised", dag_id=HURRIED) == "success"
    mail = the_one_mail(system)
    assert mail.subject == SUCCESS
    assert "run        unsupervised" in mail.text
    wait_until(lambda: not is_alive(task))
    assert table(system) == new


def test_tasks_killed_at_random_moments_end_in_one_mail_a_run_and_the_old_or_the_new_table(
    system: ProxiedSystem,
    new: tuple[int, str],
    load_old: Callable[[], tuple[int, str]],
    figures: Figures,
) -> None:
    moments = random.Random(20171110)
    asked: list[datetime] = []  # when the requests of the first run came
    requests_of: dict[str, list[int]] = {}  # each task's, by their numbers in the first run, which is left alone
    for number in range(KILLS + 1):
        old, run_id = load_old(), f"killed_at_random_{number}"
        victim = ("gate", "process", "load")[number % 3]
        wait_for_quiet(system.proxy)
        if number:
            at = moments.choice(requests_of[victim])
            reached, released = system.proxy.hold_from(at)
        else:
            system.proxy.hook = lambda _: asked.append(datetime.now(UTC))
        start(system, run_id, dag_id=HURRIED, shards=1)
        if number:
            assert reached.wait(120), f"request {at} of {victim}"
            [task] = [one for one in task_instances(system, run_id, dag_id=HURRIED) if one["state"] == "running"]
            kill(task["pid"])
            assert table(system) in (old, new), "half a batch is visible"
            released.set()  # S3 does what it was asked for, and nobody hears of it
        state = system.finish(run_id, dag_id=HURRIED)
        mail = system.receive_mail()
        assert mail.subject == {"success": SUCCESS, "failed": FAILURE}[state]
        assert f"run        {run_id}\n" in mail.text
        assert table(system) in ([new] if state == "success" else [old, new])
        tasks = {one["task_id"]: one for one in task_instances(system, run_id, dag_id=HURRIED)}
        if number:
            assert tasks[task["task_id"]]["try_number"] > 1
            figures.counts["tasks_killed"] += 1
        else:
            requests_of = {name: numbers_within(one, asked) for name, one in tasks.items()}
            assert all(requests_of.values()), requests_of
    system.proxy.hook = lambda _: None
    with pytest.raises(StackError, match="Nothing came"):
        system.receive_mail(seconds=3)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(pid))


def numbers_within(task: dict[str, Any], times: list[datetime]) -> list[int]:
    """Which of the requests, counted from 1, came while the task ran."""
    begun, ended = (datetime.fromisoformat(task[name]) for name in ("start_date", "end_date"))
    return [number for number, time_ in enumerate(times, start=1) if begun <= time_ <= ended]


def wait_for_quiet(proxy: S3Proxy) -> None:
    """Until what sent the last mail has also done what it does after it."""
    before = -1
    while before != len(proxy.requests):
        before = len(proxy.requests)
        time.sleep(2)


@pytest.mark.usefixtures("sample")
def test_fifty_events_of_25_markers_at_once_become_25_runs_in_airflow(
    system: ProxiedSystem,
    figures: Figures,
) -> None:
    released = threading.Event()

    def hang(_: Request) -> None:
        released.wait(300)

    system.proxy.hook = hang
    [first] = system.trigger(system.put_marker("under way.SUCCESS"))  # all others wait behind it
    events = [system.put_marker(f"at once/{number:02}.SUCCESS") for number in range(25)] * 2
    try:
        wait_until(lambda: runs_in(system, "running") == {first["dag_run_id"]})
        with ThreadPoolExecutor(1) as pool:
            with no_new_run(system.postgres.url("airflow")) as waiting:  # as in a slow moment of Airflow's database
                answers = pool.submit(system.trigger_at_once, events)
                wait_until(lambda: waiting() >= 30)  # twice as many as Airflow's own pool has connections
            records = answers.result()
        queued = runs_in(system, "queued")
        assert len(queued) == 25
        assert Counter(record["outcome"] for record in records) == {"started": 25, "already_accepted": 25}
        assert Counter(record["dag_run_id"] for record in records) == dict.fromkeys(queued, 2)
        for run_id in queued:  # to run all would take minutes
            assert system.airflow.request("DELETE", f"dags/{DAG_ID}/dagRuns/{run_id}").ok
    finally:
        released.set()
        system.proxy.hook = lambda _: None
    assert system.finish(str(first["dag_run_id"])) == "success"
    assert the_one_mail(system).subject == SUCCESS
    figures.counts["events_at_once"] = len(events)


@pytest.mark.usefixtures("sample")
def test_login_that_the_database_refuses_is_told_by_one_mail_and_leaves_no_secret_anywhere(
    system: ProxiedSystem,
) -> None:
    before = table(system)
    system.change_password("another")
    try:
        start(system, "locked_out", shards=1)
        assert system.finish("locked_out") == "failed"
    finally:
        system.change_password(system.loader_password)
    mail = the_one_mail(system)
    assert mail.subject == FAILURE
    assert "refuses the user name or the password" in mail.text
    assert table(system) == before
    found = traces(system)
    reason = places_of({"reason": "refuses the user name or the password"}, among=found)
    assert {"reason in Output/receipts/locked_out.json", f"reason in mail {len(system.mails)}"} <= set(reason)
    assert any("log" in place and "locked_out" in place for place in reason), "of the task"
    assert places_of(system.secrets, among=found) == []
