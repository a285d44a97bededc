"""An event that Lambda gave up becomes one mail, and is kept for a redrive, however often it is told."""

import json
from typing import Any

import pytest

from etl import Mailbox
from tests.support.aws_proxy import refusing
from tests.support.cloud import MONITORED, SOURCE, Cloud, Office
from tests.support.paths import EVENTS
from trigger import alarm, aws_cli, errors, report
from trigger.deadline import Deadline
from trigger.settings import MailSettings

FAILURES = EVENTS / "failures"
NAMES = sorted(path.stem for path in FAILURES.glob("*.json"))
SETTINGS = MailSettings(
    topic_arn="arn",
    first_name="ada",
    last_name="Lovelace",
    source_bucket=SOURCE,
    monitored_bucket=MONITORED,
    kept_events_url="url",
    stage="prod",
)
SOON = Deadline.of(None)


def failure(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FAILURES / f"{name}.json").read_text())
    return loaded


def delivery(*failures: object) -> dict[str, Any]:
    """What Lambda hands over from the queue."""
    return {"Records": [{"messageId": str(at), "body": json.dumps(one)} for at, one in enumerate(failures)]}


@pytest.mark.parametrize("name", NAMES)
def test_captured_failure_gives_the_expected_mail_and_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(report, "raise_alarm", lambda name, text, **_: told.append(f"{name}\n{text}"))
    report._report(failure(name), settings=SETTINGS, deadline=SOON)
    assert told == [(FAILURES / f"{name}.expected.txt").read_text()]


def test_each_marker_of_one_event_is_told_and_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    both = failure("retries_exhausted")
    both["requestPayload"]["Records"] += failure("timed_out")["requestPayload"]["Records"]
    told: list[str] = []
    monkeypatch.setattr(report, "raise_alarm", lambda name, text, **_: told.append(name))
    report._report(both, settings=SETTINGS, deadline=SOON)
    assert told == ["marker_2026-11-22T08:18:01Z_aac3424847", "marker_2026-11-22T08:18:02Z_0d2b4451b9"]


def test_one_event_is_one_mail_and_kept_at_each_delivery_also_after_sns_was_down(office: Office, cloud: Cloud) -> None:
    told = failure("retries_exhausted")
    cloud.proxy.script = refusing("Publish", "AuthorizationError", status=403)
    with pytest.raises(errors.AwsRefusedError, match=r"sns publish was answered AuthorizationError.*Allow"):
        report.handler(delivery(told), None)
    assert office.kept_events() == []  # the queue has the message still

    cloud.proxy.script = lambda call: None
    assert report.handler(delivery(told, told), None) == {"kept": 2}
    [(subject, text)] = office.mails()
    assert subject == "Ada_Lovelace_Pipeline_Failure"
    assert text == (FAILURES / "retries_exhausted.expected.txt").read_text().partition("\n")[2]
    assert [json.loads(body) for body in office.kept_events()] == [told["requestPayload"]] * 2
    listing = cloud.s3.list_objects_v2(Bucket=SOURCE)
    assert [entry["Key"] for entry in listing["Contents"]] == [
        "Output/alarms/marker_2026-11-22T08:18:01Z_aac3424847.json"
    ]


@pytest.mark.parametrize(("first", "last"), [("Ada", "Lovelace"), ("ada", "lovelace"), ("Anna-Maria", "mcGregor")])
def test_subject_is_the_one_that_the_pipeline_mails(first: str, last: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, object]] = []
    monkeypatch.setattr(aws_cli, "call", lambda _, __, message, **___: sent.append(message))
    alarm.send_failure(
        "x", settings=MailSettings(**{**vars(SETTINGS), "first_name": first, "last_name": last}), deadline=SOON
    )
    assert sent[0]["Subject"] == Mailbox("arn", first, last).subject(success=False)


def test_text_that_sns_would_refuse_is_made_safe_and_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[dict[str, object]] = []
    monkeypatch.setattr(aws_cli, "call", lambda _, __, message, **___: sent.append(message))
    alarm.publish("a\x00\x1b[31m\ud800b\n株" + "株" * 100_000, subject="s", settings=SETTINGS, deadline=SOON)
    text = str(sent[0]["Message"])
    assert text.startswith("a??[31m?b\n株株")
    assert text.endswith("... cut here\n")
    assert len(text.encode()) < 262_144
