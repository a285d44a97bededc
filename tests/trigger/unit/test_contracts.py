"""The trigger keeps to what it shares with etl and infra_scripts: the files in tests/data/contracts."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.airflow_stand_in import AirflowStandIn
from tests.support.paths import CONTRACTS, EVENTS
from trigger import airflow_client, aws_cli, mail, receipts, states, watchdog
from trigger.deadline import Deadline
from trigger.handler import handler
from trigger.settings import MailSettings

SETTINGS = MailSettings(
    topic_arn="the trigger's own topic",
    first_name="ada",
    last_name="Lovelace",
    source_bucket="s",
    monitored_bucket="b",
    kept_events_url="url",
    stage="prod",
)


def contract(name: str) -> Any:  # noqa: ANN401
    return json.loads((CONTRACTS / f"{name}.json").read_text())


CONF, RECEIPT, NOTICE, STATES, DEFAULTS, NAMES = (
    contract(name) for name in ("conf", "receipt", "notice", "states", "defaults", "names")
)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is sent to SNS."""
    messages: list[Any] = []
    monkeypatch.setattr(aws_cli, "call", lambda _, __, message, **___: messages.append(message))
    return messages


def test_event_of_a_marker_becomes_the_run_id_and_the_conf_of_the_contract(airflow: AirflowStandIn) -> None:
    handler(json.loads((EVENTS / "put.json").read_text()), None)
    [(dag_run_id, conf)] = airflow.runs.items()
    assert dag_run_id == CONF["dag_run_id"]
    assert re.fullmatch(CONF["dag_run_id_rule"], dag_run_id)
    asked_at = conf["requested_at"]
    assert conf == {**CONF["conf"], "requested_at": asked_at}
    assert len(asked_at) == len(CONF["conf"]["requested_at"])
    assert datetime.fromisoformat(asked_at).tzinfo == datetime.fromisoformat(CONF["conf"]["requested_at"]).tzinfo == UTC


def test_enumerations_have_the_values_of_the_contract() -> None:
    assert list(states.ReceiptState) == STATES["receipt"]
    assert list(states.MailState) == STATES["mail"]
    assert list(states.Outcome) == STATES["outcomes of a record"]
    assert set(STATES["ended"]) == states.ENDED
    assert set(STATES["told"]) == states.MAILED


def test_places_and_defaults_are_those_of_the_contract() -> None:
    assert DEFAULTS["dag_id"] == airflow_client.DAG_ID
    assert DEFAULTS["receipts_prefix"] == receipts.RECEIPTS
    assert watchdog.read_patience({}) == timedelta(minutes=DEFAULTS["settings"]["MBD_WATCHDOG_MINUTES"])
    assert CONF["dag_run_id"].startswith(DEFAULTS["marker_run_prefix"])


@pytest.mark.parametrize("names", NAMES["derived"], ids=str)
def test_subject_is_the_one_of_the_pipeline(names: dict[str, str]) -> None:
    settings = replace(SETTINGS, first_name=names["first"], last_name=names["last"])
    assert mail.failure_subject(settings) == names["subject_failure"]


@pytest.mark.parametrize("state", STATES["receipt"])
@pytest.mark.parametrize("mail_state", [*STATES["mail"], None])
def test_watchdog_understands_a_receipt_in_each_state(state: str, mail_state: str | None) -> None:
    receipt = {**RECEIPT, "state": state, "mail": mail_state}
    assert watchdog.has_ended(receipt) is (state in STATES["ended"])
    assert watchdog.has_mail(receipt) is (state in STATES["ended"] and mail_state in STATES["told"])
    error = "The database refused the login.\nAnd more."
    put = watchdog.Put("2026-11-02.SUCCESS", datetime(2026, 11, 22, 8, 18, 1, tzinfo=UTC))
    text = watchdog.text_of(put, run=RECEIPT["run_id"], receipt={**receipt, "error": error}, settings=SETTINGS)
    assert f"Its run {RECEIPT['run_id']} " in text
    assert (f" ended as {state}" in text) is (state in STATES["ended"])
    assert ("\nThe database refused the login.\n" in text) is (state == "failed")
    assert ("npx serverless invoke --function redrive" in text) is (state not in ("success", "dry_run"))


def test_watchdog_reads_in_a_receipt_when_the_run_began() -> None:
    begun = datetime.fromisoformat(RECEIPT["started_at"]).replace(microsecond=0)
    for seconds, is_covered in ((-1, True), (1, False)):
        put = watchdog.Put("2026-11-02.SUCCESS", begun + timedelta(seconds=seconds))
        run = f"marker_{begun - timedelta(seconds=5):%Y-%m-%dT%H:%M:%SZ}"
        assert watchdog._runs_of(put, {run: RECEIPT}) == [run] * is_covered


def test_kept_mail_is_sent_as_it_is_to_the_topic_of_the_trigger(
    published: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aws_cli, "run", lambda *_, **__: json.dumps(NOTICE["notice"]).encode())
    monkeypatch.setattr(watchdog, "listing", lambda *_, **__: [("Output/notices/run.json", datetime.now(UTC))])
    sent = list(watchdog._send_notices(SETTINGS, now=datetime.now(UTC), deadline=Deadline.of(None), failures=[]))
    assert sent == ["run.json"]
    [mailed, deleted] = published
    assert mailed == {**NOTICE["notice"], "TopicArn": SETTINGS.topic_arn}
    assert deleted == {"Bucket": "s", "Key": "Output/notices/run.json"}


def publish(text: str, published: list[Any]) -> str:
    mail.publish(text, subject="s", settings=SETTINGS, deadline=Deadline.of(None))
    return str(published[-1]["Message"])


def test_body_keeps_and_replaces_the_characters_of_the_contract(published: list[Any]) -> None:
    body = NOTICE["body"]
    assert publish(body["kept"], published) == body["kept"]
    assert publish(body["replaced"], published) == body["replaced_by"] * len(body["replaced"])


def test_body_is_cut_at_the_bytes_of_the_contract_and_not_before(published: list[Any]) -> None:
    body = NOTICE["body"]
    whole = "x" * body["largest_bytes"]
    assert publish(whole, published) == whole
    assert publish(whole + "x", published) == whole + body["cut_with"] + "\n"
    characters = body["largest_bytes"] // len("株".encode())  # the cut never leaves a part of one
    assert publish("株" * (characters + 1), published) == "株" * characters + body["cut_with"] + "\n"
