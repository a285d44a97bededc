"""An event for which Lambda gave up becomes one mail and is kept for a redrive, however often it is delivered."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.aws_proxy import refusing
from tests.support.cloud import MONITORED, SOURCE, Cloud, Office
from tests.support.paths import EVENTS
from trigger import errors, mail, report
from trigger.deadline import Deadline
from trigger.s3_event import Marker, read_records
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


def failure(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FAILURES / f"{name}.json").read_text())
    return loaded


def delivery(*failures: object) -> dict[str, Any]:
    """What Lambda hands over from the queue."""
    return {"Records": [{"messageId": str(at), "body": json.dumps(one)} for at, one in enumerate(failures)]}


@pytest.mark.parametrize("name", NAMES)
def test_captured_failure_gives_the_expected_mail_and_name(name: str) -> None:
    [(alarm, text)] = report.alarms_of(failure(name), settings=SETTINGS).items()
    assert f"{alarm}\n{text}" == (FAILURES / f"{name}.expected.txt").read_text()


def test_each_marker_of_one_event_has_its_own_alarm() -> None:
    both = failure("retries_exhausted")
    both["requestPayload"]["Records"] += failure("timed_out")["requestPayload"]["Records"]
    alarms = list(report.alarms_of(both, settings=SETTINGS))
    assert alarms == ["marker_2026-11-22T08:18:01Z_aac3424847", "marker_2026-11-22T08:18:02Z_0d2b4451b9"]


def test_event_is_mailed_once_and_kept_at_each_delivery_even_after_sns_was_down(office: Office, cloud: Cloud) -> None:
    failed = failure("retries_exhausted")
    cloud.proxy.script = refusing("Publish", "AuthorizationError", status=403)
    with pytest.raises(errors.AwsRefusedError, match=r"sns publish failed with AuthorizationError.*Allow"):
        report.handler(delivery(failed), None)
    assert office.kept_events() == []  # the queue still has the message

    cloud.proxy.script = lambda call: None
    assert report.handler(delivery(failed, failed), None) == {"kept": 2}
    [(subject, text)] = office.mails()
    assert subject == "Ada_Lovelace_Pipeline_Failure"
    assert text == (FAILURES / "retries_exhausted.expected.txt").read_text().partition("\n")[2]
    assert [json.loads(body) for body in office.kept_events()] == [failed["requestPayload"]] * 2
    listing = cloud.s3.list_objects_v2(Bucket=SOURCE)
    assert [entry["Key"] for entry in listing["Contents"]] == [
        "Output/alarms/marker_2026-11-22T08:18:01Z_aac3424847.json"
    ]


@pytest.mark.parametrize(
    ("later", "key", "is_mailed"),
    [(-10, "retries_exhausted", False), (-1, "retries_exhausted", False), (10, "retries_exhausted", False),
     (-11, "retries_exhausted", True), (11, "retries_exhausted", True), (0, "timed_out", True)],
)  # fmt: skip
def test_marker_that_the_watchdog_has_mailed_about_gets_no_second_mail_and_its_event_is_kept(
    later: int, key: str, is_mailed: bool, office: Office, cloud: Cloud
) -> None:
    """The watchdog dates the put by the bucket's listing: often a second earlier than the event."""
    failed = failure("retries_exhausted")
    [(alarm, _)] = report.alarms_of(failed, settings=SETTINGS).items()
    [(of_key, _)] = report.alarms_of(failure(key), settings=SETTINGS).items()
    time = datetime.fromisoformat(alarm.split("_")[1]) + timedelta(seconds=later)
    name = f"marker_{time:%Y-%m-%dT%H:%M:%SZ}_{of_key.rpartition('_')[2]}"
    cloud.s3.put_object(Bucket=SOURCE, Key=f"Output/alarms/{name}.json", Body=b"{}")
    assert report.handler(delivery(failed), None) == {"kept": 1}
    assert len(office.mails()) == is_mailed
    assert len(office.kept_events()) == 1


def test_event_whose_run_has_begun_all_the_same_is_neither_mailed_nor_kept(office: Office, cloud: Cloud) -> None:
    failed, other = failure("retries_exhausted"), failure("timed_out")
    [marker] = read_records(failed["requestPayload"], monitored_bucket=MONITORED)
    assert isinstance(marker, Marker)
    cloud.s3.put_object(Bucket=SOURCE, Key=f"Output/receipts/{marker.dag_run_id}.json", Body=b"{}")
    assert report.handler(delivery(failed, other), None) == {"kept": 1}
    [(_, text)] = office.mails()
    assert text == (FAILURES / "timed_out.expected.txt").read_text().partition("\n")[2]
    assert [json.loads(body) for body in office.kept_events()] == [other["requestPayload"]]


def test_longest_mail_goes_through_the_cli(office: Office) -> None:
    longest = "x" * mail.LARGEST_BODY_BYTES
    settings = replace(SETTINGS, topic_arn=office.topic)
    mail.publish(f"{longest}more", subject="s", settings=settings, deadline=Deadline.of(None))
    assert office.mails() == [("s", f"{longest}\n... cut here\n")]
