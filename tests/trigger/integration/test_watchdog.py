"""The watchdog mails a marker without a finished run once, and reads everything that etl writes about runs."""

import json
import re
import shlex
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
import requests

import etl
from etl.outcome.receipt import MailState, State, write_receipt
from tests.support.aws_proxy import Answer, Call, refusal
from tests.support.cloud import MONITORED, SOURCE, Cloud, Office
from tests.support.moto import MotoServer
from trigger import errors, watchdog
from trigger.s3_event import Marker, marker_name
from trigger.watchdog import handler

PAGE = 4  # entries of a listing; S3 gives 1000
HOSTILE = 'it\'s "b" $(touch pwned) `id` \\ --data <&> 100% 株価.SUCCESS'  # moto takes no newline in a key


class History:
    """Makes the listing of the monitored bucket show other times than those at which a test put the markers."""

    def __init__(self, cloud: Cloud, moto: MotoServer) -> None:
        self._cloud, self._moto = cloud, moto
        self._times: dict[str, datetime] = {}
        self._now = datetime.now(UTC).replace(microsecond=0)
        cloud.proxy.script = self.script
        self.refused_subjects: set[str] = set()

    def put(self, key: str, *, hours_ago: float) -> datetime:
        etag = self._cloud.s3.put_object(Bucket=MONITORED, Key=key, Body=key.encode())["ETag"]
        self._times[etag.strip('"')] = time = self._now - timedelta(hours=hours_ago)
        return time

    def script(self, call: Call) -> Answer | None:
        if call.operation == "Publish" and call.parameters["Subject"] in self.refused_subjects:
            return refusal(call, "AuthorizationError", status=403)
        if call.operation != "GET bucket" or not call.target.startswith(f"/{MONITORED}?"):
            return None
        text = requests.get(f"{self._moto.url}{call.target}&max-keys={PAGE}", timeout=30).text
        for etag, time in self._times.items():
            pattern = rf"<LastModified>[^<]*(</LastModified><ETag>[^<]*{etag})"
            text = re.sub(pattern, rf"<LastModified>{time:%Y-%m-%dT%H:%M:%S}.000Z\1", text)
        return Answer(200, text.encode(), {"Content-Type": "application/xml"})


@pytest.fixture
def history(cloud: Cloud, office: Office, trigger_moto: MotoServer) -> History:
    return History(cloud, trigger_moto)


@pytest.fixture
def job(trigger_moto: MotoServer) -> etl.Job:
    """The pipeline's own view of the bucket."""
    session = boto3.Session("testing", "testing", region_name="eu-west-1")
    place = f"s3://{SOURCE}"
    return etl.Job(
        source=f"{place}/Stocks/",
        company_index=f"{place}/CompanyNames/top_companies.txt",
        output=f"{place}/Output/",
        aws=etl.Aws(session=session, endpoint_url=trigger_moto.url),
    )


def run_of(key: str, put: datetime) -> etl.Run:
    """The run that S3's event about this put would have started: the event is dated a little later."""
    time = put + timedelta(seconds=1.2)
    marker = Marker(bucket=MONITORED, key=key, etag="e", event_time=time, put_id=f"sequencer {time}")
    return etl.Run(run_id=marker.dag_run_id, started_at=time)


def leave_receipt(job: etl.Job, run: etl.Run, *, state: str, mail: str | None = None, error: str | None = None) -> None:
    receipt = etl.Receipt(run_id=run.run_id, state=State(state), started_at=run.started_at, error=error)
    receipt = replace(receipt, mail=MailState(mail) if mail else None)
    write_receipt(receipt, output=job.open_output())


def test_only_markers_without_a_finished_run_are_mailed_and_only_once(
    history: History, job: etl.Job, office: Office, cloud: Cloud
) -> None:
    mailbox = etl.Mailbox(office.topic, "ada", "Lovelace")
    done = run_of("done.SUCCESS", history.put("done.SUCCESS", hours_ago=5))
    leave_receipt(job, done, state="success")
    etl.send_mail_of_run(job, run=done, succeeded=True, reason="", mailbox=mailbox)
    failed = run_of("failed.SUCCESS", history.put("failed.SUCCESS", hours_ago=4))
    etl.record_failure(etl.BatchError("no"), job=job, target=None, run=failed)
    etl.send_mail_of_run(job, run=failed, succeeded=False, reason="failed", mailbox=mailbox)
    assert len(office.mails()) == 2
    hung = run_of("hung.SUCCESS", history.put("hung.SUCCESS", hours_ago=3))
    etl.record_start(job, run=hung)
    history.put(HOSTILE, hours_ago=2.5)
    again = history.put("again.SUCCESS", hours_ago=2.2)
    earlier = run_of("again.SUCCESS", again - timedelta(minutes=1))
    leave_receipt(job, earlier, state="success", mail="sent")
    reported = history.put("reported.SUCCESS", hours_ago=6)
    alarm = f"Output/alarms/{marker_name(MONITORED, 'reported.SUCCESS', reported + timedelta(seconds=1))}.json"
    cloud.s3.put_object(Bucket=SOURCE, Key=alarm, Body=b"{}")
    history.put("young.SUCCESS", hours_ago=1.9)
    history.put("old.SUCCESS", hours_ago=49)
    history.put("other.txt", hours_ago=5)

    found = handler({}, None)
    assert len([call for call in cloud.proxy.calls if call.target.startswith(f"/{MONITORED}?")]) == 3  # pages of 9 keys
    assert set(found["missed"]) == {"hung.SUCCESS", HOSTILE, "again.SUCCESS"}
    assert len(found["missed"]) == 3
    mails = office.mails()
    assert {subject for subject, _ in mails} == {"Ada_Lovelace_Pipeline_Failure"}
    texts = {next(key for key in found["missed"] if repr(key) in text): text for _, text in mails}
    assert set(texts) == set(found["missed"])
    assert f"Its run {hung.run_id} has started but has not ended." in texts["hung.SUCCESS"]
    assert "No run has started for it." in texts["again.SUCCESS"]
    assert f"put {again:%Y-%m-%d %H:%M:%S} UTC" in texts["again.SUCCESS"]

    # The command is safe to paste: it is one line, from which a shell gets the marker's own name.
    [command] = [line for line in texts[HOSTILE].splitlines() if "redrive" in line]
    *words, data = shlex.split(command)
    assert words == ["npx", "serverless", "invoke", "--function", "redrive", "--data"]
    assert json.loads(data) == {"marker": HOSTILE}

    cloud.proxy.calls.clear()
    assert handler({}, None) == {"missed": [], "sent": []}
    assert "Publish" not in cloud.proxy.operations()


def test_ended_run_without_a_record_of_its_mail_is_reported_with_its_outcome(
    history: History, job: etl.Job, office: Office
) -> None:
    states = {"success": None, "dry_run": None, "failed": "The database said no.\nAnd much more.", "kept": None}
    for key, error in states.items():
        run = run_of(f"{key}.SUCCESS", history.put(f"{key}.SUCCESS", hours_ago=3))
        if key == "kept":
            leave_receipt(job, run, state="success", mail="kept")
        else:
            leave_receipt(job, run, state=key, error=error)
    failed_first = run_of("retried.SUCCESS", history.put("retried.SUCCESS", hours_ago=1))
    etl.record_failure(etl.BatchError("no"), job=job, target=None, run=failed_first)  # a retry may fix it

    assert set(handler({}, None)["missed"]) == {"success.SUCCESS", "dry_run.SUCCESS", "failed.SUCCESS"}
    mails = [text for _, text in office.mails()]
    texts = {state: text for state in states for text in mails if f"'{state}.SUCCESS'" in text}
    assert set(texts) == {"success", "dry_run", "failed"}
    for state, text in texts.items():
        assert f"ended as {state}, but there is no record that a mail about it was sent" in text
        assert f"aws s3 cp s3://{SOURCE}/Output/receipts/marker_" in text
    assert "There is nothing to redrive." in texts["success"]
    assert "There is nothing to redrive." in texts["dry_run"]
    assert "\n\nThe database said no.\n\n" in texts["failed"]
    assert "much more" not in texts["failed"]
    commands = {state: "npx serverless" in text for state, text in texts.items()}
    assert commands == {"success": False, "dry_run": False, "failed": True}
    assert handler({}, None)["missed"] == []


def test_receipt_of_an_older_etl_without_mail_raises_no_alarm(history: History, job: etl.Job, cloud: Cloud) -> None:
    run = run_of("old.SUCCESS", history.put("old.SUCCESS", hours_ago=3))
    receipt = json.loads(etl.Receipt(run_id=run.run_id, state=State.SUCCESS, started_at=run.started_at).to_json())
    del receipt["mail"]
    cloud.s3.put_object(Bucket=SOURCE, Key=f"Output/receipts/{run.run_id}.json", Body=json.dumps(receipt).encode())
    assert handler({}, None)["missed"] == []


def test_dry_run_reports_no_marker_but_sends_mails_that_sns_refused_before(
    history: History, office: Office, cloud: Cloud, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DRY_RUN", "on")
    history.put("rehearsed.SUCCESS", hours_ago=3)
    notice = b'{"Subject": "s", "Message": "x"}'
    cloud.s3.put_object(Bucket=SOURCE, Key="Output/notices/run.json", Body=notice)
    assert handler({}, None) == {"missed": [], "sent": ["run.json"]}
    assert office.mails() == [("s", "x")]
    assert caplog.messages[-1] == "dry run: markers are not checked, as none of them starts a run"
    monkeypatch.setenv("DRY_RUN", "off")
    assert handler({}, None)["missed"] == ["rehearsed.SUCCESS"]


def test_refused_notices_are_sent_once_and_one_failure_does_not_hold_up_others(
    history: History, job: etl.Job, office: Office, cloud: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    deaf = etl.Mailbox(office.topic.replace("SNS", "absent"), "ada", "Lovelace")
    run = run_of("x.SUCCESS", datetime.now(UTC))
    with pytest.raises(etl.EtlError, match="not sent"):
        etl.send_mail_of_run(job, run=run, succeeded=False, reason="failed", mailbox=deaf)
    # before and behind it in the listing
    for name, body in {"a.json": b"not JSON", "b.json": b'{"Subject": "no", "Message": "x"}', "z/": b""}.items():
        cloud.s3.put_object(Bucket=SOURCE, Key=f"Output/notices/{name}", Body=body)
    history.refused_subjects = {"no"}
    with pytest.raises(errors.AwsRefusedError, match="AuthorizationError"):
        handler({}, None)
    [(subject, text)] = office.mails()
    assert subject == deaf.subject(success=False)
    assert run.run_id in text
    kept = [entry["Key"] for entry in cloud.s3.list_objects_v2(Bucket=SOURCE, Prefix="Output/notices/")["Contents"]]
    assert kept == [f"Output/notices/{name}" for name in ("a.json", "b.json", "z/")]
    assert "'Output/notices/a.json' is not a mail; it is left there" in caplog.text


@pytest.mark.parametrize("text", ["abc", "nan", "inf", "-5", "0", "2700.1", "2850", "1e3", "9" * 400])
def test_patience_that_would_make_the_watchdog_blind_is_refused(text: str) -> None:
    with pytest.raises(
        errors.SettingsError, match=r"MBD_WATCHDOG_MINUTES in \.env to a number of minutes above 0 and up to 2700"
    ):
        watchdog.read_patience({"WATCHDOG_MINUTES": text})


@pytest.mark.parametrize(("text", "minutes"), [("", 120), (" ", 120), ("90", 90), ("0.5", 0.5), ("2700", 2700)])
def test_patience_is_two_hours_unless_set(text: str, minutes: float) -> None:
    environment: dict[str, Any] = {"WATCHDOG_MINUTES": text}
    assert watchdog.read_patience(environment) == timedelta(minutes=minutes)


def test_watchdog_looks_at_a_bounded_number_of_keys_and_says_so_once_a_day(
    history: History, office: Office, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the open bucket of profile course anybody may put a hundred thousand of them."""
    monkeypatch.setattr(watchdog, "_MOST_KEYS", 8)
    for number in range(12):
        history.put(f"junk{number:02}.txt", hours_ago=5)
    history.put("a.SUCCESS", hours_ago=3)
    found = handler({}, None)
    assert found["missed"] == ["a.SUCCESS"]
    assert len([call for call in cloud.proxy.calls if call.target.startswith(f"/{MONITORED}?")]) == 8 // PAGE
    [missed, crowded] = sorted(text for _, text in office.mails())  # FAILED, WARNING
    assert f"the bucket {MONITORED} has more than 8 objects" in crowded
    assert "'a.SUCCESS'" in missed
    assert handler({}, None)["missed"] == []
    assert office.mails() == []


def test_watchdog_mails_a_bounded_number_of_times_and_goes_on_an_hour_later(
    history: History, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "_MOST_MAILS", 3)
    for number in range(5):
        history.put(f"m{number}.SUCCESS", hours_ago=3)
    assert [len(handler({}, None)["missed"]) for _ in range(3)] == [3, 2, 0]
    assert len(office.mails()) == 5


@pytest.fixture
def due(history: History, monkeypatch: pytest.MonkeyPatch) -> datetime:
    """A marker was expected half an hour ago; the last one came the day before yesterday."""
    time = datetime.now(UTC) - timedelta(minutes=30)
    monkeypatch.setenv("EXPECT_BY", f"{time:%H:%M} daily UTC")
    history.put("earlier.SUCCESS", hours_ago=49)
    return time


def test_day_without_a_marker_is_mailed_once_and_the_next_one_again(
    due: datetime, office: Office, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = f"{due:%Y-%m-%d}"
    assert handler({}, None) == {"missed": [], "sent": [], "absent": [day]}
    [(subject, text)] = office.mails()
    assert subject == "Ada_Lovelace_Pipeline_Failure"
    assert text.startswith(f"FAILED: no marker was put into the bucket {MONITORED} for {due:%A}, {day}. ")
    assert f"It was expected by {due:%Y-%m-%d %H:%M} UTC" in text
    assert "The last one is 'earlier.SUCCESS', put " in text
    assert f"add {day} to MBD_HOLIDAYS" in text

    cloud.proxy.calls.clear()
    assert [handler({}, None) for _ in range(2)] == [{"missed": [], "sent": []}] * 2
    assert "Publish" not in cloud.proxy.operations()

    tomorrow = datetime.now(UTC) + timedelta(days=1)
    monkeypatch.setattr(watchdog, "_now", lambda: tomorrow)
    assert handler({}, None)["absent"] == [f"{due + timedelta(days=1):%Y-%m-%d}"]
    assert len(office.mails()) == 1


def test_marker_that_came_is_no_alarm_whether_late_deleted_or_not_expected(
    due: datetime, history: History, job: etl.Job, office: Office, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing: dict[str, list[str]] = {"missed": [], "sent": []}
    monkeypatch.setenv("HOLIDAYS", f"2020-12-25 {due:%Y-%m-%d}")
    assert handler({}, None) == nothing
    monkeypatch.setenv("HOLIDAYS", "")
    monkeypatch.setenv("DRY_RUN", "on")
    assert handler({}, None) == nothing
    monkeypatch.setenv("DRY_RUN", "off")
    history.put("late.SUCCESS", hours_ago=0.1)
    assert handler({}, None) == nothing
    cloud.s3.delete_object(Bucket=MONITORED, Key="late.SUCCESS")
    leave_receipt(job, run_of("late.SUCCESS", datetime.now(UTC)), state="running")
    assert handler({}, None) == nothing
    assert office.mails() == []


def test_mail_about_a_day_without_a_marker_that_is_refused_is_sent_an_hour_later(
    due: datetime, history: History, office: Office
) -> None:
    history.refused_subjects = {"Ada_Lovelace_Pipeline_Failure"}
    with pytest.raises(errors.AwsRefusedError, match="AuthorizationError"):
        handler({}, None)
    history.refused_subjects = set()
    assert handler({}, None)["absent"] == [f"{due:%Y-%m-%d}"]
    assert len(office.mails()) == 1
