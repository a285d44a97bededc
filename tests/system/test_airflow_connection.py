"""The DAG's way from Airflow's connection to the database is that of Airflow's own PostgresHook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from psycopg2.extensions import make_dsn, parse_dsn

from tests.support.paths import ROOT

pytest.importorskip("airflow.sdk")

PASSWORD = "p%40ss%2Fw%C3%B6rd"
CONNECTIONS = {
    "plain": f"postgres://loader:{PASSWORD}@db.example:5433/stocks",
    "tls": f"postgres://loader:{PASSWORD}@db.example/stocks?sslmode=require&keepalives_idle=30",
    "newline": f"postgres://loader:{PASSWORD}@db.example/stocks\n",
    "extra": f"postgres://loader:{PASSWORD}@db.example/stocks?__extra__=%7B%22keepalives_idle%22%3A+30%7D",
    "boolean": json.dumps(
        {"conn_type": "postgres", "host": "db.example", "login": "loader", "password": "p@ss", "schema": "stocks",
         "port": 5433, "extra": {"keepalives": True, "connect_timeout": 7, "sslmode": "verify-full"}}
    ),
    "hook": json.dumps(
        {"conn_type": "postgres", "host": "db.example", "schema": "stocks", "extra": {"cursor": "dictcursor"}}
    ),
}  # fmt: skip
PIPELINE = {
    "AIRFLOW_CONN_STOCKS_DATABASE": CONNECTIONS["plain"],
    "MBD_FIRST_NAME": "ada",
    "MBD_LAST_NAME": "lovelace",
    "MBD_SOURCE_BUCKET": "mine",
    "MBD_TOPIC_ARN": "arn:aws:sns:eu-west-1:1:t",
}
PROGRAM = """
import importlib.util, json, sys
from airflow.providers.postgres.hooks.postgres import PostgresHook

class Hook(PostgresHook):
    def _create_connection(self, conn_args):
        return {name: value for name, value in conn_args.items() if not callable(value)}

spec = importlib.util.spec_from_file_location("dag", sys.argv[1])
dag = importlib.util.module_from_spec(spec)
spec.loader.exec_module(dag)
found = {}
for name in sys.argv[2:]:
    dag.DATABASE_CONNECTION = name
    target = dag.target_of({"dry_run": False, "reload": False, "accept_shrunk": None})
    named = dag.target_of({"dry_run": False, "reload": False, "accept_shrunk": "c d.us.csv, e.us.csv"})
    assert named.accept_shrunk == ("c d.us.csv", "e.us.csv")
    assert target.accept_shrunk == ()
    found[name] = target.database, Hook(postgres_conn_id=name).get_conn()
print("FOUND " + json.dumps(found))
"""


def _found_by(program: str, *arguments: str, settings: dict[str, str], folder: Path) -> Any:  # noqa: ANN401  JSON
    """What a program that imports the DAG prints behind FOUND; of this process's settings it has none."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "AWS", "MBD"))}
    environment = {**mine, "AIRFLOW_HOME": str(folder), "PYTHONPATH": str(ROOT), **settings}
    command = [sys.executable, "-c", program, str(ROOT / "airflow/dags/moving_big_data.py"), *arguments]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True, cwd=folder)
    found = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert len(found) == 1, done.stderr
    return json.loads(found[0].removeprefix("FOUND "))


def test_dag_connects_as_airflows_postgres_hook_would(tmp_path: Path) -> None:
    settings = {f"AIRFLOW_CONN_{name.upper()}": value for name, value in CONNECTIONS.items()}
    found = _found_by(PROGRAM, *CONNECTIONS, settings=settings, folder=tmp_path)
    for name, (ours, of_the_hook) in found.items():
        as_text = {key: int(fact) if isinstance(fact, bool) else fact for key, fact in of_the_hook.items()}
        expected = {key: fact.strip() for key, fact in parse_dsn(make_dsn("", **as_text)).items()}
        assert parse_dsn(ours) == expected, name


MAIL = """
import datetime, importlib.util, json, sys, types
import etl

def send(job, *, reason, **_):
    print("FOUND " + json.dumps([job.output, job.aws.session is None, reason]))

etl.send_mail_of_run, etl.read_mailbox, etl.read_channels = send, lambda _: None, lambda _: None
spec = importlib.util.spec_from_file_location("dag", sys.argv[1])
dag = importlib.util.module_from_spec(spec)
spec.loader.exec_module(dag)
names = ("since", "dry_run", "reread", "column_aliases")
run = types.SimpleNamespace(run_id="r", start_date=datetime.datetime.now(datetime.UTC), conf={})
params = {"source_bucket": "b", "index_key": "i", **dict.fromkeys(names)}
dag.mail({"params": params, "dag_run": run, "reason": "task_failure"})
"""


@pytest.mark.parametrize(("method", "is_without"), [("assume_role_of_nobody", True), ("", False)])
def test_mail_goes_out_also_where_the_connection_to_aws_cannot_be_used(
    method: str, is_without: bool, tmp_path: Path
) -> None:
    extra = {"role_arn": "arn:aws:iam::123456789012:role/r", "assume_role_method": method} if method else {}
    connection = json.dumps({"conn_type": "aws", "extra": extra | {"region_name": "eu-west-1"}})
    found = _found_by(MAIL, settings={"AIRFLOW_CONN_AWS_DEFAULT": connection}, folder=tmp_path)
    assert found == ["s3://b/Output/", is_without, "task_failure"]


JOB = """
import importlib.util, json, sys
import etl

spec = importlib.util.spec_from_file_location("dag", sys.argv[1])
dag = importlib.util.module_from_spec(spec)
spec.loader.exec_module(dag)
params = {name: param.value for name, param in dag.PARAMS.items()}
aws = etl.Aws()
form = {"index_key": "Other/index.txt", "since": "2020-01-02", "reread": True, "column_aliases": "Close=Last"}
jobs = [dag.job_of({**params, **given}, aws=aws) for given in ({}, form)]
facts = ("source", "company_index", "output", "since", "reread", "column_aliases", "dry_run")
made = dag.moving_big_data()
tasks = [made.get_task(name) for name in ("gate", "process", "load")]
print("FOUND " + json.dumps({
    "jobs": [[str(getattr(job, fact)) for fact in facts] for job in jobs],
    "run": made.dagrun_timeout.total_seconds(),
    "tasks": [[task.retries, task.execution_timeout.total_seconds()] for task in tasks],
    "url": dag.url_of("s3://b/Output/receipts/manual__2026-11-02T10:00:00+00:00.json", aws=aws),
}))
"""


def test_run_takes_what_the_form_says_or_else_the_settings_and_may_be_tried_again(tmp_path: Path) -> None:
    settings = {"MBD_SOURCE_BUCKET": "mine", "MBD_COLUMN_ALIASES": "Close=Adj Close"}
    found = _found_by(JOB, settings=settings, folder=tmp_path)
    places = ["s3://mine/Stocks/", "s3://mine/CompanyNames/top_companies.txt", "s3://mine/Output/"]
    assert found["jobs"] == [
        [*places, "None", "False", "Close=Adj Close", "False"],
        [places[0], "s3://mine/Other/index.txt", places[2], "2020-01-02", "True", "Close=Last", "False"],
    ]
    assert found["run"] == 3600
    assert found["tasks"] == [[2, 1800]] * 3  # the gate may wait for 29 minutes
    key = "Output%2Freceipts%2Fmanual__2026-11-02T10%3A00%3A00%2B00%3A00.json"
    assert found["url"] == f"https://console.aws.amazon.com/s3/object/b?prefix={key}"


STEPS = """
import datetime, importlib.util, json, sys, types
import etl

calls = {}

def gate(job, **_):
    calls["grace"] = job.grace_seconds
    return types.SimpleNamespace(describe=str)

def load(job, *, target, run):
    calls["journal"], calls["steps"] = target.journal_days, run.steps
    raise etl.BatchError("enough")

etl.gate, etl.load, etl.combine = gate, load, lambda job, run: run
etl.record_start = etl.record_failure = lambda *_, **__: None
spec = importlib.util.spec_from_file_location("dag", sys.argv[1])
dag = importlib.util.module_from_spec(spec)
spec.loader.exec_module(dag)
run = types.SimpleNamespace(run_id="r", start_date=datetime.datetime.now(datetime.UTC), conf={})
params = {name: param.value for name, param in dag.PARAMS.items()}
dag.get_current_context = lambda: {"params": params, "dag_run": run}
made = dag.moving_big_data()
made.get_task("gate").python_callable()
try:
    made.get_task("load").python_callable([{"gate": 1.0, "process": 2.0}, {"gate": 1.0, "process": 5.0}])
except dag.AirflowFailException:
    print("FOUND " + json.dumps(calls))
"""


def test_steps_of_a_run_heed_the_settings_and_the_slowest_of_several_shards_counts(tmp_path: Path) -> None:
    settings = PIPELINE | {"MBD_GATE_GRACE_SECONDS": "77", "MBD_JOURNAL_DAYS": "9"}
    assert _found_by(STEPS, settings=settings, folder=tmp_path) == {
        "grace": 77,
        "journal": 9,
        "steps": {"gate": 1.0, "process": 5.0},
    }


ERRORS = """
import datetime, importlib.util, json, sys, types
import etl

def refuse(text):
    def raise_it(*_, **__):
        raise etl.SettingsError(text)
    return raise_it

found = {}
receipt = types.SimpleNamespace(run_id="r", rows=types.SimpleNamespace(inserted=1, deleted=2, unchanged=3))
etl.record_start = lambda *_, **__: None
etl.record_failure = lambda error, *, target, **_: found.update(recorded=[str(error), target])
etl.gate, etl.load, etl.datasets = refuse("the first error"), lambda *_, **__: receipt, refuse("no address")
spec = importlib.util.spec_from_file_location("dag", sys.argv[1])
dag = importlib.util.module_from_spec(spec)
spec.loader.exec_module(dag)
dag.log_receipt = lambda _: None
run = types.SimpleNamespace(run_id="r", start_date=datetime.datetime.now(datetime.UTC), conf={})
params = {name: param.value for name, param in dag.PARAMS.items()}
outlets = {dag.TABLE: types.SimpleNamespace()}
dag.get_current_context = lambda: {"params": params, "dag_run": run, "outlet_events": outlets}
made = dag.moving_big_data()
found["loaded"] = made.get_task("load").python_callable([{"gate": 1.0, "process": 2.0}])
dag.DATABASE_CONNECTION = "wrong"
try:
    made.get_task("gate").python_callable()
except dag.AirflowFailException as failure:
    found["failed"] = str(failure)
print("FOUND " + json.dumps(found))
"""


def test_committed_load_succeeds_without_an_address_and_a_wrong_connection_hides_no_error(tmp_path: Path) -> None:
    wrong = {"conn_type": "postgres", "host": "db.example", "extra": {"sslmode": {"is": "no text"}}}
    settings = PIPELINE | {"AIRFLOW_CONN_WRONG": json.dumps(wrong)}
    assert _found_by(ERRORS, settings=settings, folder=tmp_path) == {
        "loaded": {"inserted": 1, "deleted": 2, "unchanged": 3},
        "recorded": ["the first error", None],
        "failed": "the first error",
    }
