"""From a marker in S3 through the trigger's handler and a real Airflow to a table and a mail."""

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_plus
from zipfile import ZipFile

import pandas as pd
import psycopg2
import pytest
import requests
from psycopg2.extensions import parse_dsn

import etl
from etl.table.schema import COLUMNS
from tests.support.browser import MISSING, chromium, find_chromium
from tests.support.paths import ROOT
from tests.support.process import StackError
from tests.support.system import DAG_ID, LINEAGE, MONITORED_BUCKET, SOURCE_BUCKET, LocalSystem
from tests.support.traces import places_of, traces
from tests.support.webhook import Webhook
from tests.system import demo
from trigger.build import BUILD
from trigger.errors import PausedDagError

TASK = "airflow.task"  # the logger of the DAG's own lines
SUCCESS, FAILURE = "Ada_Lovelace_Pipeline_Success", "Ada_Lovelace_Pipeline_Failure"


def rows_in_table(system: LocalSystem) -> int:
    return int(query(system, "SELECT count(*) FROM historical_stocks_data")[0][0])


def query(system: LocalSystem, statement: str) -> list[tuple[Any, ...]]:
    with psycopg2.connect(system.database_url) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def start(system: LocalSystem, event: dict[str, Any]) -> str:
    [record] = system.trigger(event)
    assert record["outcome"] == "started"
    return str(record["dag_run_id"])


def said(log: list[dict[str, Any]]) -> list[str]:
    """What the task itself logged."""
    return [str(entry["event"]) for entry in log if entry.get("logger") == TASK]


def links_of(system: LocalSystem, run_id: str, task_id: str) -> dict[str, str]:
    """The buttons on a task, and where they lead."""
    path = f"dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/{task_id}/links"
    return dict(system.airflow.request("GET", path).json()["extra_links"])


def expect_no_mail(system: LocalSystem) -> None:
    with pytest.raises(StackError, match="Nothing came"):
        system.receive_mail(seconds=3)


def receipt_of(system: LocalSystem, run_id: str) -> etl.Receipt:
    return etl.Receipt.from_json(system.output(f"receipts/{run_id}.json"))


@pytest.fixture
def emptied(system: LocalSystem) -> None:
    with psycopg2.connect(system.database_url) as connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE historical_stocks_data, loaded_companies, pipeline_runs")


@pytest.mark.usefixtures("emptied")
def test_one_marker_becomes_one_run_one_table_and_one_mail(
    system: LocalSystem, sample: dict[str, Path], webhook: Webhook
) -> None:
    event = system.put_marker("batch of today+1.SUCCESS")
    run_id = start(system, event)
    assert system.finish(run_id) == "success"

    mail = system.receive_mail()
    assert mail.subject == SUCCESS
    assert "40 listed = 35 accepted + 5 quarantined + 0 missing" in mail.text
    assert "znwaa.us.csv, sail.us.csv, jt.us.csv, stnl.us.csv, bxg.us.csv: empty: 0 bytes" in mail.text
    expected = sum(len(pd.read_csv(path)) for path in sample.values() if path.stat().st_size)
    assert rows_in_table(system) == expected
    receipt = receipt_of(system, run_id)
    receipt.check_balance()
    assert (receipt.state, receipt.rows.inserted) == ("success", expected)
    assert receipt.marker
    key = unquote_plus(event["Records"][0]["s3"]["object"]["key"])
    assert (receipt.marker.bucket, receipt.marker.key) == (MONITORED_BUCKET, key)
    assert f"marker     {receipt.marker.url}\n" in mail.text
    assert receipt.version == etl.code_version()
    assert f"version    {receipt.version}\n" in mail.text
    assert system.output("historical_stock_data.csv").count(b"\n") == expected

    gate, process, load = (system.log_entries(run_id, task_id) for task_id in ("gate", "process", "load"))
    index = f"s3://{SOURCE_BUCKET}/CompanyNames/top_companies.txt"
    assert said(gate) == [f"All 40 company files that {index} names are there: 3.7 MB, 5 of them empty."]
    progress = said(process)
    receipt_lines: list[str] = []
    while not progress[-1].startswith("company files: "):
        receipt_lines.insert(0, progress.pop())
    assert progress[-1] == "company files: 40 of 40"
    assert "\n".join(receipt_lines).startswith("Processed 76,653 rows of 35 companies.\n\nLeft out:\n")
    before, _, behind = mail.text.rpartition("\n\nreport ")[0].partition("To do:\n")
    assert "\n".join(said(load)) == before + behind.partition("\n\n")[2]  # the log does not say what to do
    for log in (process, load):
        own = [number for number, entry in enumerate(log) if entry.get("logger") == TASK]
        events = [str(entry["event"]) for entry in log]
        assert own == list(range(own[0], own[-1] + 1)), "nothing of Airflow's is between the lines of a receipt"
        assert events.index("::group::Post Execute") > own[-1]
    tasks = system.airflow.request("GET", f"dags/{DAG_ID}/dagRuns/{run_id}/taskInstances").json()["task_instances"]
    assert {(task["task_id"], task["map_index"]) for task in tasks} == {("gate", -1), ("process", -1), ("load", -1)}
    output = f"{system.aws.url}/{SOURCE_BUCKET}/Output"
    for task_id in ("gate", "process", "load"):
        assert links_of(system, run_id, task_id) == {
            "Receipt": f"{output}/receipts/{quote(run_id)}.json",
            "Report page": f"{output}/reports/{quote(run_id)}.html",
        }
    pages = [requests.get(url, timeout=30) for url in links_of(system, run_id, "load").values()]
    assert [page.status_code for page in pages] == [200, 200]
    deadline = time.monotonic() + 60  # the channel comes after the mail
    while not receipt_of(system, run_id).channels and time.monotonic() < deadline:
        time.sleep(0.2)
    assert [one.state for one in receipt_of(system, run_id).channels] == ["sent"]
    [message] = webhook.messages
    assert (message["title"], message["message"].rstrip()) == (mail.subject, mail.text.rstrip())

    [again] = system.trigger(event)
    assert again == {**again, "outcome": "already_accepted", "dag_run_id": run_id}
    assert system.runs().count(run_id) == 1
    expect_no_mail(system)


def test_batches_put_at_once_run_one_after_the_other_each_with_its_mail(
    system: LocalSystem, sample: dict[str, Path]
) -> None:
    runs = [start(system, system.put_marker(f"again-{number}.SUCCESS")) for number in (1, 2)]
    assert [system.finish(run_id) for run_id in runs] == ["success", "success"]
    assert sorted(system.receive_mail().subject for _ in runs) == [SUCCESS, SUCCESS]
    first, second = (receipt_of(system, run_id) for run_id in runs)
    assert second.rows.inserted == 0
    assert second.rows.unchanged == first.rows.accepted
    [(loaded_by,)] = query(system, "SELECT DISTINCT run_id FROM loaded_companies")
    assert f"Same content as run {loaded_by}." in second.notes
    spans = [system.airflow.request("GET", f"dags/{DAG_ID}/dagRuns/{run_id}").json() for run_id in runs]
    assert spans[0]["end_date"] <= spans[1]["start_date"]
    expect_no_mail(system)


def test_a_failing_run_leaves_the_table_and_sends_one_mail_with_cause_and_advice(
    system: LocalSystem, sample: dict[str, Path]
) -> None:
    before = rows_in_table(system)
    system.s3.delete_object(Bucket=SOURCE_BUCKET, Key="Stocks/ge.us.csv")
    run_id = start(system, system.put_marker())
    assert system.finish(run_id) == "failed"
    mail = system.receive_mail()
    assert mail.subject == FAILURE
    assert "1 of 40 company files" in mail.text
    assert "ge.us.csv" in mail.text
    assert "Upload them, then put the marker again." in mail.text
    assert receipt_of(system, run_id).files.missing == 1
    [error] = [str(entry["event"]) for entry in system.log_entries(run_id, "gate") if entry.get("logger") == TASK][1:]
    assert mail.text.startswith(f"FAILED: {error}\n"), "the log has the sentence of the mail"
    wrong = [entry for entry in system.log_entries(run_id, "gate") if entry.get("level") == "error"]
    assert [entry["event"] for entry in wrong] == [error, "Task failed with exception"], "in this order"
    assert [(one["exc_type"], one["exc_value"]) for one in wrong[1]["error_detail"]] == [
        ("AirflowFailException", error)
    ]
    assert links_of(system, run_id, "gate")["Report page"].endswith(f"{quote(run_id)}.html")
    assert query(system, f"SELECT state FROM pipeline_runs WHERE run_id = '{run_id}'") == [("failed",)]
    assert rows_in_table(system) == before
    expect_no_mail(system)


def test_a_paused_dag_is_an_error_and_no_run(system: LocalSystem, sample: dict[str, Path]) -> None:
    before = system.runs()
    system.airflow.request("PATCH", f"dags/{DAG_ID}", body={"is_paused": True})
    try:
        with pytest.raises(PausedDagError, match="unpause"):
            system.trigger(system.put_marker())
    finally:
        system.airflow.request("PATCH", f"dags/{DAG_ID}", body={"is_paused": False})
    assert system.runs() == before


def test_a_dry_run_from_the_form_writes_nothing_to_the_table(system: LocalSystem, sample: dict[str, Path]) -> None:
    before = query(system, "SELECT count(*), min(stock_date) FROM historical_stocks_data")
    # Without reload it would say that such a run is refused, as it removes older rows.
    conf = {"dry_run": True, "since": "2015-01-01", "reload": True}
    conf |= {"max_rejected": "1%", "allow_missing": "ge.us.csv"}
    answer = system.airflow.request(
        "POST", f"dags/{DAG_ID}/dagRuns", body={"dag_run_id": "by_hand", "logical_date": None, "conf": conf}
    )
    assert answer.ok
    assert system.finish("by_hand") == "success"
    mail = system.receive_mail()
    assert mail.subject == SUCCESS
    assert mail.text.startswith("DRY RUN")
    assert query(system, "SELECT count(*), min(stock_date) FROM historical_stocks_data") == before
    receipt = json.loads(system.output("dry-run/receipts/by_hand.json"))
    assert receipt["policy"] == {
        "max_rejected": {"value": "1%", "set_by": "the param max_rejected of the DAG"},
        "allow_missing": {"value": "ge.us.csv", "set_by": "the param allow_missing of the DAG"},
    }
    assert min(line[:10] for line in system.output("dry-run/historical_stock_data.csv").splitlines()) >= b"2015-01-01"


def test_the_form_has_the_params_and_refuses_nonsense(system: LocalSystem) -> None:
    details = system.airflow.request("GET", f"dags/{DAG_ID}/details").json()
    params = {"source_bucket", "index_key", "since", "dry_run", "reload", "reread", "accept_shrunk", "shards"}
    params |= {"max_rejected", "allow_missing", "column_aliases"}
    assert set(details["params"]) == params
    assert (details["max_active_runs"], details["timetable_summary"]) == (1, None)
    assert "one mail reports how it went" in details["doc_md"]
    for conf in (
        {"max_rejected": "many"},
        {"since": "yesterday"},
        {"dry_run": "maybe"},
        {"source_bucket": 7},
        {"shards": 0},
        {"shards": 65},
    ):
        answer = system.airflow.request(
            "POST", f"dags/{DAG_ID}/dagRuns", body={"dag_run_id": "nonsense", "logical_date": None, "conf": conf}
        )
        assert answer.status_code == 400


def table_uri(system: LocalSystem, separator: str) -> str:
    where = parse_dsn(system.database_url)
    return f"postgres://{where['host']}:{where['port']}/stocks{separator}public{separator}historical_stocks_data"


def test_table_and_files_are_announced_as_assets(system: LocalSystem) -> None:
    events = system.airflow.request("GET", "assets/events?limit=100").json()["asset_events"]
    places = [
        table_uri(system, "/"),
        f"s3://{SOURCE_BUCKET}/Output/historical_stock_data.csv",
        f"s3://{SOURCE_BUCKET}/Output/rejected_rows.csv",
    ]
    assert {event["uri"] for event in events} == {"historical_stocks_data", *places}  # and none of a dry run
    loads = [event for event in events if event["uri"] == "historical_stocks_data" and event["extra"]]
    assert {event["name"] for event in loads} == {"historical_stocks_data"}  # what DAGs of others wait for
    run_id = loads[0]["extra"]["run_id"]
    rows = receipt_of(system, run_id).rows
    counts = {"inserted": rows.inserted, "deleted": rows.deleted, "unchanged": rows.unchanged}
    assert loads[0]["extra"] == {"run_id": run_id, **counts}
    of_run = {event["uri"]: event["extra"].get("rows") for event in events if event["extra"].get("run_id") == run_id}
    assert [of_run[place] for place in places] == [rows.inserted, rows.accepted, rows.rejected]


def test_datasets_with_columns_and_counts_reach_openlineage(system: LocalSystem) -> None:
    """What the provider wrote for the first run by its file transport."""
    lines = (system.directory / LINEAGE).read_text().splitlines()
    events = [event for event in map(json.loads, lines) if event["job"]["name"] == f"{DAG_ID}.load"]
    first = next(event for event in events if event["outputs"])
    found = {(one["namespace"], one["name"]): one for one in (*first["inputs"], *first["outputs"])}
    namespace, table = table_uri(system, ".").rsplit("/", 1)
    bucket = f"s3://{SOURCE_BUCKET}"
    assert set(found) == {
        (namespace, table),
        *((bucket, f"Output/{name}") for name in ("historical_stock_data.csv", "rejected_rows.csv")),
        *((bucket, name) for name in ("Stocks", "CompanyNames/top_companies.txt")),
    }
    fields = found[namespace, table]["facets"]["schema"]["fields"]
    assert [(one["name"], one["type"]) for one in fields] == [(name, "VARCHAR(56)") for name in COLUMNS]
    run = first["run"]["facets"]["airflow"]["dagRun"]["run_id"]
    receipt = receipt_of(system, run)
    counts = {
        (namespace, table): ("output", receipt.rows.inserted, None),
        (bucket, "Output/historical_stock_data.csv"): ("output", receipt.rows.accepted, 1),
        (bucket, "Stocks"): ("input", receipt.rows.read, receipt.files.listed),
    }
    for place, (side, rows, files) in counts.items():
        facet = found[place][f"{side}Facets"][f"{side}Statistics"]
        assert (facet.get("rowCount"), facet.get("fileCount")) == (rows, files), place
    ended = [event for event in events if event["run"]["runId"] == first["run"]["runId"]]
    assert ended[-1]["eventType"] == "COMPLETE"
    assert {(one["namespace"], one["name"]) for one in ended[-1]["outputs"]} >= {(namespace, table)}


def test_demo_that_stays_up_shows_markers_runs_and_mails_as_they_come_and_brings_its_tools(
    system: LocalSystem,
    sample: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(demo, "_TOOLS", tmp_path / "bin")
    monkeypatch.setattr(demo, "_OUTPUT", tmp_path / "Output")
    demo._make_tools(system)
    listed = subprocess.check_output(
        [tmp_path / "bin" / "psql", "-Atc", "SELECT count(*) FROM stock_prices"], text=True
    )
    assert int(listed) == rows_in_table(system)
    put = ["s3api", "put-object", "--bucket", MONITORED_BUCKET, "--key", "mine.SUCCESS"]
    subprocess.run([tmp_path / "bin" / "aws", *put], check=True, capture_output=True)
    shown, deadline = "", time.monotonic() + 120
    while "Subject: " not in shown and time.monotonic() < deadline:
        demo._show_what_comes(system)
        shown += capsys.readouterr().out
    assert "Marker mine.SUCCESS: started, run marker_" in shown
    assert f"A mail\n  Subject: {SUCCESS}\n" in shown
    assert (tmp_path / "Output" / "manifest.json").read_bytes() == system.output("manifest.json")


@pytest.mark.skipif(find_chromium() is None, reason=MISSING)
def test_nothing_on_the_home_page_is_red_that_is_as_it_should_be(system: LocalSystem) -> None:
    airflow = system.airflow
    with chromium() as browser:
        page = browser.new_page()
        page.goto(airflow.url)
        page.fill("input[name=username]", airflow.username)
        page.fill("input[name=password]", airflow.password)
        page.keyboard.press("Enter")
        page.get_by_text("Dag Processor").wait_for()
        health = page.get_by_text("Dag Processor").locator("..").get_by_test_id("state-badge")
        shown = [badge.inner_text() for badge in health.all() if badge.is_visible()]
        cross = page.get_by_text("Dag Processor").locator("..").locator("line:visible")
        assert shown == ["MetaDatabase", "Scheduler", "Dag Processor"]
        assert cross.count() == 0, "a check mark is a path, a cross is two lines"


def test_no_secret_is_in_logs_confs_xcoms_serialised_dags_or_receipts(
    system: LocalSystem, sample: dict[str, Path]
) -> None:
    run_id = start(system, system.put_marker("searched.SUCCESS"))
    assert system.finish(run_id) == "success"
    system.receive_mail()
    found = traces(system)
    # What is no secret is found in each kind of trace, so a secret would be.
    told = {"marker": "searched.SUCCESS", "run": run_id, "bucket": SOURCE_BUCKET, "DAG": DAG_ID}
    seen = places_of(told, among=found)
    assert {"marker in dagRuns", "run in pipeline_runs", "DAG in serialised DAGs"} <= set(seen)
    assert "run in dagRuns/~/taskInstances/~/xcomEntries" in seen
    assert {f"run in Output/receipts/{run_id}.json", f"run in mail {len(system.mails)}"} <= set(seen)
    assert any(place.startswith("bucket in log ") and run_id in place for place in seen), "of the run's tasks"
    assert places_of(system.secrets, among=found) == []


def test_no_secret_and_no_env_file_is_in_the_packaged_trigger(system: LocalSystem) -> None:
    members: dict[str, bytes] = {}
    for package in (BUILD / "function.zip", BUILD / "layer.zip"):
        with ZipFile(package) as archive:
            members |= {f"{package.name}: {name}": archive.read(name) for name in archive.namelist()}
    assert "function.zip: trigger/handler.py" in members
    assert [name for name in members if re.search(r"[ /]\.env[^/]*$", name)] == []
    env = ROOT / ".env"
    named = re.compile(r"^(\w*(?:PASSWORD|SECRET|KEY|CONN)\w*)=['\"]?([^'\"\n]{8,})", re.MULTILINE)
    own = dict(named.findall(env.read_text())) if env.exists() else {}
    assert places_of({**system.secrets, **own}, among=members) == []
