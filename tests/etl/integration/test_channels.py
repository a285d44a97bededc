"""Channels in addition to the mail: the same words, and none of them fails or delays a run or gives away its URL."""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import etl
from etl.outcome import channels as channels_module
from etl.outcome import messenger
from etl.outcome.metrics import age_seconds, put_metrics
from etl.outcome.receipt import FileCounts, State
from tests.support.webhook import Webhook

if TYPE_CHECKING:
    from tests.support.aws_places import Bucket, Topic
    from tests.support.batch_files import Files
    from tests.support.commands import Answer, Command
    from tests.support.moto import MotoServer

SECRET = "hunter2-do-not-print"
UNREACHABLE = "it could not be reached, or refused the message"
UNKNOWN = "apprise does not know such a URL, or a part of it is missing"


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take longer than 15 seconds to start the messenger."""
    monkeypatch.setattr(channels_module, "_CHANNEL_SECONDS", 120.0)


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    with Webhook() as hook:
        yield hook


def process(files: Files, command: Command, *options: object) -> Answer:
    places = ("--source", files.source, "--company-index", files.index, "--output", files.output)
    return command("process", *places, "--quiet", *options)


def receipt_of(files: Files) -> dict[str, Any]:
    [receipt] = files.receipts().values()
    return receipt


@pytest.mark.usefixtures("aws_environment")
def test_each_channel_gets_one_message_in_the_words_of_the_mail(
    three: Files, topic: Topic, webhook: Webhook, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MBD_CHANNELS", f"json://{webhook.place}/one/{SECRET} json://u:{SECRET}@{webhook.place}/two")
    mailing = ("--topic-arn", topic.arn, "--first-name", "ada", "--last-name", "lovelace")
    for company, kind in (("cc.us.csv", "success"), ("gone.us.csv", "failure")):
        three.name("aa.us.csv", company)
        answer = process(three, command, *mailing)
        assert (answer.code, answer.err.count("warning")) == ({"success": 0, "failure": 1}[kind], 0)
        [mail] = topic.mails()
        for message in (webhook.messages.pop(), webhook.messages.pop()):
            assert (message["title"], message["type"]) == (mail.subject, kind)
            assert message["message"].rstrip() == mail.text.rstrip()
        assert webhook.messages == []
    for receipt in three.receipts().values():
        assert receipt["mail"] == "sent"
        assert receipt["channels"] == [
            {"channel": name, "state": "sent", "reason": ""} for name in ("json://127.0.0.1", "json://127.0.0.1 (2)")
        ]


def test_channels_need_neither_aws_nor_a_topic(
    three: Files, webhook: Webhook, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MBD_CHANNELS", f"json://{webhook.place}/")
    assert process(three, command).code == 0
    [message] = webhook.messages
    assert message["title"] == "Pipeline_Success"
    assert message["message"].startswith("Processed 35 rows of 3 companies.")


def test_channel_that_is_down_or_wrong_is_a_note_and_the_others_get_the_message(
    three: Files,
    webhook: Webhook,
    closed_port: int,
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with Webhook(status=404) as refusing:
        bad = {
            f"json://127.0.0.1:{closed_port}/{SECRET}": ("json://127.0.0.1", UNREACHABLE),
            f"json://{refusing.place}/{SECRET}": ("json://127.0.0.1 (2)", "it answered with HTTP 404"),
            f"json://nowhere.invalid/{SECRET}": ("json://nowhere.invalid", UNREACHABLE),
            f"nosuch://{SECRET}/": ("nosuch", UNKNOWN),
            f"slack://{SECRET}": ("slack", UNKNOWN),
            SECRET: ("without a scheme", UNKNOWN),
        }
        good = f"json://localhost:{webhook.place.partition(':')[2]}/"
        monkeypatch.setenv("MBD_CHANNELS", " ".join([*bad, good]))
        answer = process(three, command)
    assert len(webhook.messages) == 1
    notes = [f"The channel {name} did not get the message: {reason}." for name, reason in bad.values()]
    assert (answer.code, answer.err.splitlines()) == (0, [f"warning: {note}" for note in notes])
    receipt = receipt_of(three)
    assert receipt["notes"] == notes
    assert receipt["channels"] == [
        *({"channel": name, "state": "failed", "reason": reason} for name, reason in bad.values()),
        {"channel": "json://localhost", "state": "sent", "reason": ""},
    ]
    assert SECRET not in answer.out + answer.err + caplog.text + json.dumps(receipt)


def test_channel_that_does_not_end_its_answer_is_left_after_a_bounded_time(
    three: Files, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then keeps every timeout of a socket quiet."""
    monkeypatch.setattr(channels_module, "_CHANNEL_SECONDS", 4.0)
    with Webhook(stalls=True) as slow:
        monkeypatch.setenv("MBD_CHANNELS", f"json://{slow.place}/")
        answer = process(three, command)
    assert answer.code == 0
    assert [one["reason"] for one in receipt_of(three)["channels"]] == ["no answer within 4 s"]


def test_what_channels_answered_before_the_time_was_over_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    messenger = tmp_path / "messenger.py"
    messenger.write_text("import time\nprint('[1, \"\"]\\n[0', flush=True)\ntime.sleep(600)\n")
    monkeypatch.setattr(channels_module, "_MESSENGER", messenger)
    monkeypatch.setattr(channels_module, "_CHANNEL_SECONDS", 3.0)
    told = etl.report_to_channels(RECEIPT, job=NOWHERE, channels=etl.Channels(("json://a", "json://b")))
    assert [one.reason for one in told.channels] == ["no answer within 3 s", ""]


def test_without_apprise_a_run_goes_on_and_says_what_is_missing(
    three: Files, webhook: Webhook, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels_module, "find_spec", lambda name: None)
    monkeypatch.setenv("MBD_CHANNELS", f"json://{webhook.place}/{SECRET}")
    assert process(three, command).code == 0
    missing = "apprise is not installed: pip install 'moving-big-data[channels]'"
    assert [one["reason"] for one in receipt_of(three)["channels"]] == [missing]
    answer = command("check")
    assert answer.code == 2
    assert f"error  channel        The channel json://127.0.0.1 gets no message: {missing}." in answer.out
    assert webhook.messages == []


def test_check_looks_at_each_url_and_sends_nothing(
    webhook: Webhook, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert importlib.util.find_spec("apprise")
    monkeypatch.setenv("MBD_CHANNELS", f"json://{webhook.place}/{SECRET} slack://{SECRET}")
    answer = command("check")
    assert answer.code == 2
    assert "ok     channel        json://127.0.0.1: the URL is complete; nothing was sent\n" in answer.out
    assert "error  channel        The channel slack gets no message: apprise does not know such a URL" in answer.out
    assert SECRET not in answer.out + answer.err
    assert webhook.messages == []


def test_slack_teams_and_webhooks_are_called_at_their_own_place(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy notes where the messages would go."""
    places = {
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/%23data": "hooks.slack.com:443",
        "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ": "hooks.slack.com:443",
        "workflows://teams.example.org/643e69cc6eba4e2aa8e1b6e2b3/TIiajkdnlazkcOXrIdevi7FQ": "teams.example.org:443",
        "jsons://ops.example.org/hook?+X-Token=t": "ops.example.org:443",
    }
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://{webhook.place}")
    receipt = etl.report_to_channels(RECEIPT, job=NOWHERE, channels=etl.Channels(tuple(places)))
    assert sorted(webhook.tunnels) == sorted(places.values())
    assert [one.state for one in receipt.channels] == ["failed"] * 4


RECEIPT = etl.Receipt(run_id="cli__1", state=State.SUCCESS, started_at=datetime(2026, 11, 27, 9, tzinfo=UTC))
NOWHERE = etl.Job(source="", company_index="", output="")


def test_message_that_is_too_long_for_a_channel_is_cut_with_a_pointer_to_the_whole(
    three: Files, webhook: Webhook
) -> None:
    long = etl.Receipt(run_id="cli__1", state=State.FAILED, started_at=RECEIPT.started_at, error="é" * 90_000)
    told = etl.report_to_channels(long, job=three.job(), channels=etl.Channels((f"json://{webhook.place}/",)))
    assert [one.state for one in told.channels] == ["sent"]
    [message] = webhook.messages
    assert 30_000 < len(message["message"]) <= 32_768
    assert message["message"].endswith(f"... cut here; the whole receipt: {three.output}/receipts/cli__1.json")
    assert message["type"] == "failure"


def test_channels_are_told_although_sns_refuses_the_mail(bucket: Bucket, topic: Topic, webhook: Webhook) -> None:
    job, run = bucket.job(), etl.Run("test__1", RECEIPT.started_at)
    etl.record_failure(etl.BatchError("no"), job=job, target=None, run=run)
    mailbox = topic.mailbox
    topic.remove()
    told = etl.Channels((f"json://{webhook.place}/",))
    with pytest.raises(etl.ServiceError, match="not sent"):
        etl.send_mail_of_run(job, run=run, succeeded=False, reason="failed", mailbox=mailbox, channels=told)
    [message] = webhook.messages
    assert (message["title"], message["message"][:10]) == (mailbox.subject(success=False), "FAILED: no")
    receipt = json.loads(bucket.get("Output/receipts/test__1.json"))
    assert (receipt["mail"], [one["state"] for one in receipt["channels"]]) == ("kept", ["sent"])


def test_receipt_that_cannot_be_read_is_left_also_where_channels_are_told(
    three: Files, aws: etl.Aws, topic: Topic, webhook: Webhook
) -> None:
    path = three.output / "receipts" / "test__1.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    run, channels = etl.Run("test__1", RECEIPT.started_at), etl.Channels((f"json://{webhook.place}/",))
    job = three.job(aws=aws)
    etl.send_mail_of_run(job, run=run, succeeded=True, reason="", mailbox=topic.mailbox, channels=channels)
    [message] = webhook.messages
    assert message["message"].startswith("FAILED: The run succeeded, but its receipt cannot be read: ")
    assert path.read_text() == "{"


TOKENS = f"{SECRET}/{SECRET}"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (f"slack://{TOKENS}/#channel", "slack"),
        (f"SLACK://bot@{TOKENS}", "slack"),
        (f"https://hooks.slack.com/services/{TOKENS}", "https://hooks.slack.com"),
        (f"workflows://prod.example.org:443/{TOKENS}", "workflows://prod.example.org"),
        (f"jsons://user:{SECRET}@ops.example.org/{SECRET}?token={SECRET}", "jsons://ops.example.org"),
        (f"jsons://{SECRET}:a/b@ops.example.org/", "jsons"),  # a password that was not %-encoded
        (f"jsons://{SECRET}/x@ops.example.org/", "jsons"),
        (f"jsons://a@{SECRET}@ops.example.org/", "jsons"),
        (f"jsons://ops.example.org:{SECRET}/", "jsons"),
        (f"{SECRET}", "without a scheme"),
        (f"{SECRET}://x", "without a scheme"),
        ("://", "without a scheme"),
    ],
)
def test_name_of_a_channel_holds_no_part_that_may_be_secret(url: str, name: str) -> None:
    channels = etl.Channels((url,))
    assert channels.names == [name]
    assert SECRET not in repr(channels)


def test_figures_of_a_run_are_put_into_cloudwatch_in_one_call(
    three: Files, moto_server: MotoServer, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in moto_server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MBD_METRICS_NAMESPACE", "de-mbd-predict-ada-lovelace/test")
    three.put("aa.us.csv", ["2001-01-02,1,1,1,1,5,0", "2001-01-03,x,1,1,1,5,0"])
    three.put("bb.us.csv", None)
    assert process(three, command).code == 0
    client = etl.Aws().cloudwatch
    found = client.list_metrics(Namespace="de-mbd-predict-ada-lovelace/test")["Metrics"]
    now = datetime.now(UTC)
    sums = {
        one["MetricName"]: client.get_metric_statistics(
            Namespace=one["Namespace"],
            MetricName=one["MetricName"],
            StartTime=now - timedelta(hours=1),
            EndTime=now + timedelta(hours=1),
            Period=7200,
            Statistics=["Sum"],
        )["Datapoints"][0]
        for one in found
    }
    assert {name: (point["Sum"], point["Unit"]) for name, point in sums.items() if point["Unit"] == "Count"} == {
        "Rows": (21.0, "Count"),
        "RowsRejected": (1.0, "Count"),
        "FilesQuarantined": (1.0, "Count"),
    }
    seconds = {name: point["Sum"] for name, point in sums.items() if point["Unit"] == "Seconds"}
    assert set(seconds) == {"Seconds", "Age"}
    assert seconds["Seconds"] == seconds["Age"] == receipt_of(three)["elapsed_seconds"]


def test_missing_files_are_not_counted_as_quarantined(monkeypatch: pytest.MonkeyPatch) -> None:
    put: dict[str, Any] = {}
    client = SimpleNamespace(put_metric_data=lambda **asked: put.update(asked))
    aws: Any = SimpleNamespace(cloudwatch=client)
    counts = FileCounts(listed=7, accepted=4, quarantined=2, missing=1)
    put_metrics(replace(RECEIPT, files=counts), namespace="n", aws=aws)
    assert {one["MetricName"]: one["Value"] for one in put["MetricData"]}["FilesQuarantined"] == 2


def test_what_a_library_says_of_an_error_is_not_told_as_it_may_hold_the_url(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def post(url: str, **_: object) -> str:
        raise RuntimeError(f"cannot read {url}")

    monkeypatch.setattr(messenger, "_post", post)
    monkeypatch.setattr("sys.stdin", StringIO(json.dumps({"urls": [f"slack://{SECRET}"]})))
    messenger.main()
    assert capsys.readouterr().out == '[0, "apprise failed (RuntimeError)"]\n'


def test_age_is_counted_from_the_put_of_the_marker() -> None:
    run_id = "marker_2026-11-27T08:18:01Z_aac3424847_52e682ae"
    started = datetime(2026, 11, 27, 9, tzinfo=UTC)
    receipt = etl.Receipt(run_id=run_id, state=State.SUCCESS, started_at=started, elapsed_seconds=20.5)
    assert age_seconds(receipt) == 41 * 60 + 59 + 20.5


@pytest.mark.parametrize("fault", ["denied", "endpoint down"])
def test_metrics_that_are_refused_are_a_note(
    fault: str, bucket: Bucket, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = bucket.job()
    channels = etl.Channels(metrics_namespace="elsewhere")
    if fault == "denied":

        class Denial:
            status_code = 403

        answer = (Denial(), {"Error": {"Code": "AccessDenied", "Message": "no"}})
        bucket.on("before-call.cloudwatch.PutMetricData", lambda **_: answer)
    else:
        monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.01)
        job = bucket.job(aws=etl.Aws(session=bucket.session, endpoint_url=f"http://127.0.0.1:{closed_port}"))
    told = etl.report_to_channels(RECEIPT, job=job, channels=channels)
    [note] = told.notes
    assert note.startswith("The metrics were not sent: ")
    assert "put metrics into the namespace elsewhere" in note
    assert told.channels == ()
