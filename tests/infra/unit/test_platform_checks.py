"""What `check` says of the AWS CLI in the trigger's layer, and of the alarms."""

from __future__ import annotations

from datetime import date
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from infra_scripts.checks import platform
from infra_scripts.checks.finding import Finding
from infra_scripts.platform.stack import Stack
from infra_scripts.settings import Settings, read_settings

ENVIRONMENT = {"MBD_FIRST_NAME": "Ada", "MBD_LAST_NAME": "Lovelace", "AWS_REGION": "eu-west-1"}
SETTINGS = read_settings(ENVIRONMENT)
TOPIC = "arn:aws:sns:eu-west-1:123456789012:de-mbd-predict-ada-lovelace-SNS"


class Session(boto3.Session):
    """One client of SNS, whose answer is written down."""

    def __init__(self) -> None:
        super().__init__("testing", "testing", region_name="eu-west-1")
        self.made = super().client("sns")

    def client(self, *_: Any, **__: Any) -> Any:  # noqa: ANN401
        return self.made


@pytest.mark.parametrize(("today", "level"), [(date(2026, 11, 26), "ok"), (date(2027, 5, 1), "warning")])
def test_the_end_of_aws_cli_1_is_reported_and_warned_of(today: date, level: str) -> None:
    found = platform.aws_cli(today=today)
    assert found.level == level
    assert "version 1 in the trigger's layer, supported until 2027-07-15" in found.text


@pytest.mark.parametrize(
    ("state", "dry_run", "level", "words"),
    [
        (None, "off", "warning", "not deployed. Run make deploy."),
        ("UPDATE_COMPLETE", "off", "ok", "UPDATE_COMPLETE"),
        ("UPDATE_COMPLETE", "True", "warning", "MBD_TRIGGER_DRY_RUN is on: markers start no run"),
        ("UPDATE_COMPLETE", "on", "warning", "MBD_TRIGGER_DRY_RUN is on: markers start no run"),
        ("ROLLBACK_COMPLETE", "on", "error", "ROLLBACK_COMPLETE"),
    ],
)
def test_trigger_that_starts_no_runs_is_reported(state: str | None, dry_run: str, level: str, words: str) -> None:
    settings = read_settings(ENVIRONMENT | {"MBD_TRIGGER_DRY_RUN": dry_run})
    found = platform.trigger(Stack(name="t", state=state, outputs={}) if state else None, settings=settings)
    assert found.level == level
    assert words in found.text


@pytest.mark.parametrize(
    ("subscription", "level", "words"),
    [
        (None, "warning", "ada@example.org: not subscribed (SNS drops who does not confirm in 48 h). Run apply."),
        ("PendingConfirmation", "warning", "ada@example.org: not confirmed"),
        (TOPIC.replace("SNS", "alarms:1"), "ok", "1 confirmed"),
    ],
)
def test_alarms_that_nobody_gets_are_reported(subscription: str | None, level: str, words: str) -> None:
    found = alarms_with(read_settings(ENVIRONMENT | {"MBD_EMAIL": "ada@example.org"}), subscription)
    assert found.level == level
    assert words in found.text


def test_alarms_that_nobody_could_get_ask_for_an_address() -> None:
    assert alarms_with(SETTINGS, None).text == "nobody gets them. Set MBD_EMAIL and run apply."
    other = alarms_with(read_settings(ENVIRONMENT | {"MBD_EMAIL": "eve@example.org"}), TOPIC.replace("SNS", "alarms:1"))
    assert (other.level, other.text.partition(" (")[0]) == ("warning", "eve@example.org: not subscribed")


def alarms_with(settings: Settings, subscription: str | None) -> Finding:
    session = Session()
    listed = [{"Endpoint": "ada@example.org", "Protocol": "email", "SubscriptionArn": subscription}]
    with Stubber(session.made) as stubber:
        stubber.add_response(
            "list_subscriptions_by_topic", {"Subscriptions": listed if subscription else []},
            {"TopicArn": "arn:aws:sns:eu-west-1:123456789012:de-mbd-predict-ada-lovelace-alarms"},
        )  # fmt: skip
        stack = Stack(name="p", state="CREATE_COMPLETE", outputs={"TopicArn": TOPIC})
        return platform.alarms(session, stack=stack, settings=settings)
