"""Kept events, or one marker, become runs; what fails stays in the queue, and what can start nothing is removed."""

import json
import logging
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.airflow_stand_in import PASSWORD, AirflowStandIn
from tests.support.aws_proxy import Answer, Call
from tests.support.cloud import MONITORED, PARAMETER, Cloud, Office
from tests.support.paths import EVENTS
from trigger import aws_cli, errors, secret
from trigger.redrive import handler
from trigger.s3_event import Marker, marker_name, read_records


@pytest.fixture(autouse=True)
def _warm(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """The password was read before."""
    monkeypatch.setattr(secret, "_secrets", {PARAMETER: PASSWORD})


def event(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return loaded


def run_ids(name: str) -> list[str]:
    return [one.dag_run_id for one in read_records(event(name), monitored_bucket=MONITORED) if isinstance(one, Marker)]


def keep(office: Office, *bodies: object) -> None:
    for body in bodies:
        text = body if isinstance(body, str) else json.dumps(body)
        office.cloud.sqs.send_message(QueueUrl=office.kept, MessageBody=text)


def test_event_that_fails_stays_in_the_queue_and_the_next_redrive_starts_its_run(
    airflow: AirflowStandIn, office: Office, cloud: Cloud
) -> None:
    keep(office, event("put"))
    airflow.is_paused = True
    with pytest.raises(
        errors.RedriveError, match=r"^0 events were redriven; .* is kept: .*paused.*airflow dags unpause"
    ):
        handler({}, None)
    airflow.is_paused = False
    result = handler({}, None)
    assert result["events"] == 1
    assert list(airflow.runs) == run_ids("put")
    assert office.kept_events() == []


def test_event_that_a_look_without_waiting_would_miss_is_found(
    airflow: AirflowStandIn, office: Office, cloud: Cloud
) -> None:
    """SQS looks at some of its servers only, unless it may wait."""

    def script(call: Call) -> Answer | None:
        is_short = call.operation == "ReceiveMessage" and not int(call.parameters.get("WaitTimeSeconds", 0))
        return Answer(200, b"{}", {"Content-Type": "application/x-amz-json-1.0"}) if is_short else None

    keep(office, event("put"))
    cloud.proxy.script = script
    assert handler({}, None)["events"] == 1
    assert list(airflow.runs) == run_ids("put")


def left(seconds: float) -> SimpleNamespace:
    """Lambda's context, with so many seconds above what is reserved."""
    return SimpleNamespace(get_remaining_time_in_millis=lambda: (seconds + 5) * 1000)


@pytest.mark.parametrize("is_shown", [True, False])
def test_redrive_whose_time_is_up_gives_the_cause_and_lets_the_next_one_find_the_event(
    is_shown: bool, airflow: AirflowStandIn, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: dict[str, float] = {}

    def call(_: str, operation: str, *__: object, deadline: Any, **___: object) -> dict[str, object]:  # noqa: ANN401
        waited[operation] = deadline.seconds_left()
        if operation == "receive-message":
            return {"Messages": [{"Body": json.dumps(event("put")), "ReceiptHandle": "h"}]}
        if not is_shown:
            raise errors.AwsFailedError("aws sqs change-message-visibility had no answer", code="Timeout")
        return {}

    monkeypatch.setattr(aws_cli, "call", call)
    airflow.is_paused = True
    with pytest.raises(errors.RedriveError, match=r"^0 events .* is kept.*: DAG moving_big_data is paused") as raised:
        handler({}, left(0))
    assert waited["change-message-visibility"] > 3
    assert ("a redrive finds it in 15 minutes" in str(raised.value)) != is_shown


def test_event_whose_run_was_started_is_removed_also_when_time_is_up_then(
    airflow: AirflowStandIn, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: dict[str, float] = {}

    def call(_: str, operation: str, *__: object, deadline: Any, **___: object) -> dict[str, object]:  # noqa: ANN401
        waited[operation] = deadline.seconds_left()
        return {"Messages": [{"Body": json.dumps(event("put")), "ReceiptHandle": "h"}]}

    monkeypatch.setattr(aws_cli, "call", call)
    with pytest.raises(errors.RedriveError, match=r"^1 events were redriven, then time was up"):
        handler({}, left(0))
    assert list(airflow.runs) == run_ids("put")
    assert waited["delete-message"] > 3


def test_redrive_takes_no_event_that_it_has_no_time_for_and_says_so(airflow: AirflowStandIn, office: Office) -> None:
    keep(office, event("put"), event("encoded_key"))
    with pytest.raises(errors.RedriveError, match=r"^1 events were redriven, then time was up\. Redrive again"):
        handler({}, left(20))
    assert len(airflow.runs) == 1
    assert len(office.kept_events()) == 1


def test_redrive_that_finds_none_says_how_many_are_in_flight(airflow: AirflowStandIn, office: Office) -> None:
    assert handler({}, None) == {"records": [], "events": 0}
    keep(office, event("put"))
    office.cloud.sqs.receive_message(QueueUrl=office.kept, VisibilityTimeout=900)
    assert handler({}, None) == {"records": [], "events": 0, "in_flight": 1}


def test_wrapped_event_is_unwrapped_and_a_message_without_one_is_logged_and_removed(
    airflow: AirflowStandIn, office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    failure = json.loads((EVENTS / "failures" / "timed_out.json").read_text())
    keep(office, "not JSON {", failure)
    result = handler(None, None)
    assert result["events"] == 2
    assert list(airflow.runs) == run_ids("encoded_key")
    assert office.kept_events() == []
    [error] = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert error == "a kept message starts nothing and is removed: 'not JSON {'"


@pytest.mark.parametrize(
    "data",
    ['{"marker": "a"b.SUCCESS"}', "batch.SUCCESS", {"marker": ""}, {"marker": ["a.SUCCESS"]}, {"Marker": "a.SUCCESS"},
     {"marker": "a.SUCCESS", "dry": True}, ["a.SUCCESS"], 0],
)  # fmt: skip
def test_data_that_is_neither_empty_nor_one_marker_redrives_nothing(data: object, office: Office, cloud: Cloud) -> None:
    keep(office, event("put"))
    with pytest.raises(errors.RedriveError, match=r"^Nothing was redriven: the data is .*Give none, .* or one marker"):
        handler(data, None)
    assert cloud.proxy.calls == []
    assert len(office.kept_events()) == 1


def test_run_of_a_marker_is_named_by_when_it_was_put_and_not_by_when_it_is_redriven(
    airflow: AirflowStandIn, office: Office, cloud: Cloud
) -> None:
    """How old a batch is, and which alarms are about it, is told by the name of its run."""
    put = {"Last-Modified": "Mon, 02 Nov 2026 10:00:00 GMT", "ETag": '"e"', "Content-Length": "0"}
    cloud.proxy.script = lambda call: Answer(200, b"", put) if call.operation == "HEAD key" else None
    handler({"marker": "a.SUCCESS"}, None)
    [run_id] = airflow.runs
    assert run_id.startswith(f"{marker_name(MONITORED, 'a.SUCCESS', datetime(2026, 11, 2, 10, tzinfo=UTC))}_")


def test_dry_run_takes_nothing_out_of_the_queue(
    airflow: AirflowStandIn, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRY_RUN", "1")
    keep(office, event("put"))
    with pytest.raises(errors.RedriveError, match=r"DRY_RUN is on.*MBD_TRIGGER_DRY_RUN"):
        handler({}, None)
    assert len(office.kept_events()) == 1


HOSTILE_KEY = json.loads((EVENTS / "hostile_key.expected.json").read_text())["records"][0]["key"]


@pytest.mark.parametrize("key", ["a b+c%2B.SUCCESS", HOSTILE_KEY.replace("\n", " ")])  # moto refuses newlines
def test_marker_by_its_name_starts_a_run_of_what_is_in_the_bucket_each_time(
    key: str, airflow: AirflowStandIn, office: Office, cloud: Cloud
) -> None:
    made = cloud.s3.put_object(Bucket=MONITORED, Key=key, Body=b"")
    [first, again] = [handler({"marker": key}, None)["records"] for _ in range(2)]
    assert isinstance(first, list)
    assert isinstance(again, list)
    assert [first[0]["outcome"], again[0]["outcome"]] == ["started", "started"]
    assert len(airflow.runs) == 2
    for conf in airflow.runs.values():
        assert conf["marker"] == {"bucket": MONITORED, "key": key, "etag": made["ETag"].strip('"')}
    with pytest.raises(errors.RedriveError, match=r"'absent\.SUCCESS' is not in bucket de-mbd.*404"):
        handler({"marker": "absent.SUCCESS"}, None)
