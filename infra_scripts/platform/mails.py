"""Reads who is subscribed to the topics' mails, and subscribes those who are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import boto3

from infra_scripts.aws import aws_errors
from infra_scripts.settings import Settings

_PENDING, _REMOVED = "PendingConfirmation", "Deleted"  # SNS writes these in place of an ARN


def subscriptions(session: boto3.Session, *, topic_arn: str) -> list[dict[str, str]]:
    """Each subscriber's address and whether it is confirmed."""
    with aws_errors(f"read the subscriptions of {topic_arn}"):
        pages = session.client("sns").get_paginator("list_subscriptions_by_topic")
        found = [one for page in pages.paginate(TopicArn=topic_arn) for one in page["Subscriptions"]]
    return [
        {
            "address": one["Endpoint"],
            "state": "not confirmed: click the link in AWS's mail"
            if one["SubscriptionArn"] == _PENDING
            else "confirmed",
        }
        for one in found
        if one["SubscriptionArn"] != _REMOVED
    ]


def subscribed(session: boto3.Session, *, outputs: Mapping[str, str]) -> set[str]:
    """The addresses that SNS has, confirmed or not; none while the platform has no topic."""
    arn = outputs.get("TopicArn")
    return {one["address"] for one in subscriptions(session, topic_arn=arn)} if arn else set()


def subscribe_missing(
    session: boto3.Session, *, outputs: Mapping[str, str], settings: Settings, before: set[str]
) -> list[str]:
    """Subscribe each address of the settings that is missing; returns all that AWS has asked to confirm since `before`.

    CloudFormation asks once, and does not notice that SNS deletes a subscription that is not confirmed in 48 hours.
    """
    _subscribe(session, topic_arn=outputs["TopicArn"], addresses=settings.subscribers)
    return [address for address in settings.subscribers if address not in before]


def alarm_topic_arn(outputs: Mapping[str, str], *, settings: Settings) -> str:
    """The topic of the trigger's alarms, next to the platform's; whether or not it exists."""
    return outputs["TopicArn"].removesuffix(settings.names.topic) + settings.names.alarm_topic


def subscribe_to_alarms(session: boto3.Session, *, outputs: Mapping[str, str], settings: Settings) -> list[str]:
    """Subscribe MBD_EMAIL to the alarms where it is missing, as the trigger's deployment did; returns whom AWS asks.

    Nobody while the trigger, which has the topic, is not deployed.
    """
    arn = alarm_topic_arn(outputs, settings=settings)
    with aws_errors(f"look for the topic {arn}"):
        pages = session.client("sns").get_paginator("list_topics").paginate()
        there = {one["TopicArn"] for page in pages for one in page["Topics"]}
    wanted = [settings.email] if settings.email and arn in there else []
    return _subscribe(session, topic_arn=arn, addresses=wanted) if wanted else []


def _subscribe(session: boto3.Session, *, topic_arn: str, addresses: Sequence[str]) -> list[str]:
    """Subscribe each address that SNS does not have, confirmed or not; returns these."""
    there = {one["address"] for one in subscriptions(session, topic_arn=topic_arn)}
    missing = [address for address in addresses if address not in there]
    for address in missing:
        with aws_errors(f"subscribe {address} to {topic_arn}"):
            session.client("sns").subscribe(TopicArn=topic_arn, Protocol="email", Endpoint=address)
    return missing
