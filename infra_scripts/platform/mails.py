"""Reads who is subscribed to the topic's mails, and subscribes those who are missing."""

from __future__ import annotations

from collections.abc import Mapping

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
    there = subscribed(session, outputs=outputs)
    for address in settings.subscribers:
        if address not in there:
            with aws_errors(f"subscribe {address} to {outputs['TopicArn']}"):
                session.client("sns").subscribe(TopicArn=outputs["TopicArn"], Protocol="email", Endpoint=address)
    return [address for address in settings.subscribers if address not in before]
