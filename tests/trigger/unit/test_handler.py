"""What Lambda gets back, or has raised, for the captured events in tests/data/events."""

import ast
import json
import logging
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import trigger
from tests.support.airflow_stand_in import DAG, LOGIN, PASSWORD, RUNS, TOKEN, AirflowStandIn, Answer
from tests.support.paths import EVENTS
from trigger import errors, secret
from trigger.handler import handler

NAMES = sorted(path.stem for path in EVENTS.glob("*.json") if not path.stem.endswith(".expected"))
BUCKET = "de-mbd-predict-ada-lovelace-monitored-bucket"


def event(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return loaded


def three_markers() -> dict[str, Any]:
    return {"Records": [event(name)["Records"][0] for name in ("put", "unicode_key", "multipart")]}


@pytest.mark.parametrize("name", NAMES)
def test_captured_event_gives_the_expected_records(
    name: str, airflow: AirflowStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    expected = json.loads((EVENTS / f"{name}.expected.json").read_text())
    result = handler(event(name), None)
    assert json.loads(json.dumps(result)) == expected
    started = [record["dag_run_id"] for record in expected["records"] if record["outcome"] == "started"]
    assert list(airflow.runs) == started
    # one line a record, each with its decision
    assert len(caplog.messages) == len(expected["records"])
    for line, record in zip(caplog.messages, expected["records"], strict=True):
        assert repr(record["key"]) in line
        assert (record.get("reason") or record["dag_run_id"]) in line


@pytest.mark.parametrize(
    "name", ["test_event", "wrong_suffix", "other_bucket", "removed", "folder_marker", "no_s3_event"]
)
def test_event_without_a_marker_does_not_call_airflow(name: str, airflow: AirflowStandIn) -> None:
    handler(event(name), None)
    assert airflow.requests == []


def test_every_file_of_events_has_its_expectation() -> None:
    assert {path.name for path in EVENTS.glob("*.json")} == {
        f"{name}{suffix}" for name in NAMES for suffix in (".json", ".expected.json")
    }


def test_conf_holds_the_marker_as_it_can_be_opened_and_the_time_of_asking(airflow: AirflowStandIn) -> None:
    handler(event("encoded_key"), None)
    [conf] = airflow.runs.values()
    assert set(conf) == {"marker", "requested_at"}
    assert conf["marker"] == {
        "bucket": BUCKET,
        "key": "batches/a b+c%.SUCCESS",
        "etag": "d41d8cd98f00b204e9800998ecf8427e",
    }
    requested_at = datetime.fromisoformat(conf["requested_at"])
    assert requested_at.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - requested_at) < timedelta(minutes=1)


def test_redelivered_event_starts_no_second_run(airflow: AirflowStandIn, caplog: pytest.LogCaptureFixture) -> None:
    handler(event("put"), None)
    result = handler(event("put_redelivered"), None)
    assert [record["outcome"] for record in result["records"]] == ["already_accepted"]
    assert len(airflow.runs) == 1
    assert "already accepted" in caplog.messages[-1]
    assert caplog.records[-1].levelno == logging.INFO


def test_marker_put_again_starts_a_second_run(airflow: AirflowStandIn) -> None:
    handler(event("put"), None)
    handler(event("put_again"), None)
    assert len(airflow.runs) == 2


def test_other_markers_are_tried_when_one_fails_and_the_repeat_completes_them(
    airflow: AirflowStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    airflow.script(RUNS, Answer(503))
    with pytest.raises(errors.ServerFailedError, match="503"):
        handler(three_markers(), None)
    assert sorted(conf["marker"]["key"] for conf in airflow.runs.values()) == ["Börse/株価.SUCCESS", "mp.SUCCESS"]
    assert "'2026-11-02.SUCCESS'" in next(line for line in caplog.messages if "ServerFailedError" in line)
    repeated = handler(three_markers(), None)
    outcomes = [record["outcome"] for record in repeated["records"]]
    assert outcomes == ["started", "already_accepted", "already_accepted"]
    assert len(airflow.runs) == 3


def test_several_failed_markers_are_raised_together_each_with_its_error(airflow: AirflowStandIn) -> None:
    airflow.script(RUNS, Answer(503), Answer(400))
    with pytest.raises(errors.MarkersFailedError) as raised:
        handler(three_markers(), None)
    text = str(raised.value)
    assert text.startswith("2 of 3 markers of one event started no DagRun. ")
    assert "'2026-11-02.SUCCESS': ServerFailedError: " in text
    assert "'Börse/株価.SUCCESS': RefusedRunError: " in text
    assert isinstance(raised.value.__cause__, errors.ServerFailedError)
    assert len(airflow.runs) == 1


def test_dry_run_says_what_it_would_start_and_calls_nothing(
    airflow: AirflowStandIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DRY_RUN", "true")
    monkeypatch.setattr(secret, "_secrets", {})  # asking AWS for the password would fail
    wrong = event("wrong_suffix")["Records"]
    result = handler({"Records": [*three_markers()["Records"], *wrong]}, None)
    assert [record["outcome"] for record in result["records"]] == ["dry_run"] * 3 + ["ignored"]
    keys = ["2026-11-02.SUCCESS", "Börse/株価.SUCCESS", "mp.SUCCESS"]
    assert [(record["bucket"], record["key"]) for record in result["records"][:3]] == [(BUCKET, key) for key in keys]
    assert caplog.text.count(f"at {airflow.url} for") == 3
    assert all(str(record["dag_run_id"]) in caplog.text for record in result["records"][:3])
    assert airflow.requests == []


def test_dry_run_names_the_instance_where_the_run_would_be_started_on_it(
    airflow: AirflowStandIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in {"DRY_RUN": "true", "AIRFLOW_URL": "", "INSTANCE_ID": "i-0123456789abcdef0"}.items():
        monkeypatch.setenv(name, value)
    handler(event("put"), None)
    assert "at instance i-0123456789abcdef0 for" in caplog.text


@pytest.mark.parametrize(
    ("call", "status", "kind"), [(LOGIN, 403, errors.AccessDeniedError), (DAG, 503, errors.ServerFailedError)]
)
def test_what_fails_for_all_markers_is_asked_once_and_logged_for_each(
    call: str, status: int, kind: type[Exception], airflow: AirflowStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    airflow.script(call, Answer(status))
    with pytest.raises(kind):
        handler(three_markers(), None)
    assert airflow.calls().count(call) == 1
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 3


def test_paused_dag_fails_and_queues_nothing(airflow: AirflowStandIn) -> None:
    airflow.is_paused = True
    with pytest.raises(errors.PausedDagError, match="unpause"):
        handler(event("put"), None)
    assert airflow.runs == {}


def test_pinned_certificate_is_that_of_the_settings(airflow: AirflowStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in has no certificate: what is asked of the client is looked at."""
    servers: list[str] = []

    def log_in(server: Any, **_: object) -> Any:  # noqa: ANN401
        servers.append(server.certificate_sha256)
        raise errors.ServerFailedError("enough")

    monkeypatch.setenv("AIRFLOW_URL", "https://airflow.example")
    monkeypatch.setenv("AIRFLOW_CERTIFICATE_SHA256", "ab" * 32)
    monkeypatch.setattr("trigger.handler.log_in", log_in)
    with pytest.raises(errors.ServerFailedError, match="enough"):
        handler(event("put"), None)
    assert servers == ["ab" * 32]


def test_missing_settings_fail_before_anything_is_called(
    airflow: AirflowStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_PASSWORD_PARAMETER")
    monkeypatch.delenv("MONITORED_BUCKET")
    with pytest.raises(errors.SettingsError, match=r"AIRFLOW_PASSWORD_PARAMETER.*MONITORED_BUCKET"):
        handler(event("put"), None)
    assert airflow.requests == []


@pytest.mark.parametrize("name", ["newline_key", "hostile_key"])
@pytest.mark.parametrize("status", [200, 503])
def test_key_with_a_newline_makes_no_line_of_its_own_in_log_or_error(
    status: int, name: str, airflow: AirflowStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    forged = event(name)
    both = {"Records": [*forged["Records"], *forged["Records"]]}
    airflow.script(RUNS, Answer(status), Answer(status))
    text = ""
    try:
        handler(both, None)
    except errors.MarkersFailedError as error:
        text = str(error)
    assert bool(text) is (status == 503)
    for line in [*caplog.messages, text]:
        assert line.isprintable()


def test_no_secret_is_in_the_log_or_the_result_of_a_run_that_starts(
    airflow: AirflowStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    shown = repr(handler(three_markers(), None)) + caplog.text
    assert "urllib3" in shown  # its debug lines are looked at too
    assert PASSWORD not in shown
    assert TOKEN not in shown
    assert PASSWORD not in repr(airflow.runs)


def test_decisions_are_logged_although_the_root_logger_has_level_warning() -> None:
    assert logging.getLogger("trigger.handler").isEnabledFor(logging.INFO)


def test_trigger_imports_only_the_standard_library_requests_and_itself() -> None:
    allowed = {*sys.stdlib_module_names, "requests", "trigger"}
    [package] = trigger.__path__
    for module in Path(package).glob("*.py"):
        if module.stem == "build":  # makes the zip and is not in it
            continue
        for node in ast.walk(ast.parse(module.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or "trigger"] if isinstance(node, ast.ImportFrom) else []
            assert {re.split(r"\.", name)[0] for name in names} <= allowed, module
