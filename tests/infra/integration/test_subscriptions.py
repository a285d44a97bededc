"""Whom `apply` asks to confirm, and whom `check` reports.

The answers of SNS are written down: moto has neither pending nor removed subscriptions.
"""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from infra_scripts.checks import platform as checks
from infra_scripts.platform.mails import subscribe_missing, subscribed
from infra_scripts.platform.stack import Stack
from infra_scripts.settings import read_settings
from tests.support.person import SETTINGS

TOPIC = "arn:aws:sns:eu-west-1:123456789012:de-mbd-predict-ada-lovelace-SNS"
COURSE = read_settings({**SETTINGS, "MBD_PROFILE": "course"})


class Session(boto3.Session):
    """One client of SNS, whose answers are written down."""

    def __init__(self) -> None:
        super().__init__("testing", "testing", region_name="eu-west-1")
        self.sns = super().client("sns")

    def client(self, *_: Any, **__: Any) -> Any:  # noqa: ANN401
        return self.sns


def subscription(address: str, arn: str) -> dict[str, str]:
    return {"Endpoint": address, "Protocol": "email", "SubscriptionArn": arn, "TopicArn": TOPIC}


def test_who_has_not_confirmed_yet_is_not_asked_again_and_who_was_removed_is() -> None:
    session = Session()
    listed = [subscription("ada@example.org", "PendingConfirmation"), subscription("marking@example.org", "Deleted")]
    with Stubber(session.sns) as answers:
        for _ in range(2):
            answers.add_response("list_subscriptions_by_topic", {"Subscriptions": listed}, {"TopicArn": TOPIC})
        answers.add_response(
            "subscribe",
            {"SubscriptionArn": "pending confirmation"},
            {"TopicArn": TOPIC, "Protocol": "email", "Endpoint": "marking@example.org"},
        )
        before = subscribed(session, outputs={"TopicArn": TOPIC})
        asked = subscribe_missing(session, outputs={"TopicArn": TOPIC}, settings=COURSE, before=before)
        answers.assert_no_pending_responses()
    assert asked == ["marking@example.org"]


def test_a_new_platform_has_nobodysubscribed() -> None:
    assert subscribed(Session(), outputs={}) == set()


CONFIRMED, PENDING, REMOVED = f"{TOPIC}:0123", "PendingConfirmation", "Deleted"


@pytest.mark.parametrize(
    ("listed", "mails", "alarms"),
    [
        ({}, ("error", "ada@example.org: not subscribed"), ("warning", "ada@example.org: not subscribed")),
        (
            {"ada@example.org": PENDING},
            ("error", "ada@example.org: not confirmed. Click the link"),
            ("warning", "ada@example.org: not confirmed. Click the link"),
        ),
        (
            {"ada@example.org": REMOVED},
            ("error", "ada@example.org: not subscribed"),
            ("warning", "ada@example.org: not subscribed"),
        ),
        ({"ada@example.org": CONFIRMED}, ("ok", "1 confirmed"), ("ok", "1 confirmed")),
        (
            {"ada@example.org": CONFIRMED, "bob@example.org": CONFIRMED},
            ("warning", "bob@example.org gets them too"),
            ("ok", "2 confirmed"),
        ),
    ],
    ids=["nobody", "not confirmed", "removed", "confirmed", "somebody else"],
)
def test_check_knows_who_gets_no_mail(listed: dict[str, str], mails: tuple[str, str], alarms: tuple[str, str]) -> None:
    session, settings = Session(), read_settings(SETTINGS)
    stack = Stack(name="platform", state="CREATE_COMPLETE", outputs={"TopicArn": TOPIC}, parameters={})
    with Stubber(session.sns) as answers:
        answer = {"Subscriptions": [subscription(*one) for one in listed.items()]}
        for topic in (TOPIC, TOPIC.removesuffix("-SNS") + "-alarms"):
            answers.add_response("list_subscriptions_by_topic", answer, {"TopicArn": topic})
        found = checks.mails(session, stack=stack, settings=settings)
        assert (found.level, found.text.startswith(mails[1])) == (mails[0], True), found
        found = checks.alarms(session, stack=stack, settings=settings)
        assert (found.level, found.text.startswith(alarms[1])) == (alarms[0], True), found
