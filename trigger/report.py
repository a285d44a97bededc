"""Mails each event for which Lambda gave up, and moves it from the failure queue to the queue of kept events."""

import json
import logging
import os
from collections.abc import Iterator
from typing import Any

from trigger import aws_cli, mail
from trigger.alarm import exists, raise_alarm
from trigger.deadline import Deadline
from trigger.receipts import RECEIPTS
from trigger.s3_event import Marker, marker_name, read_records
from trigger.settings import MailSettings, read_mail_settings

log = logging.getLogger(__name__)
logging.getLogger("trigger").setLevel(logging.INFO)


def handler(event: dict[str, Any], context: object) -> dict[str, int]:
    """Mail and keep each event of the queue; returns {"kept": how many}.

    An event whose run has begun all the same is neither: the trigger's last answer was lost, and the run, or the
    watchdog, sends its mail. Raises when that fails: the queue then delivers the message again, and keeps it itself
    after some tries. Each message is what Lambda sends to a failure destination:
    https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html.
    """
    deadline = Deadline.of(context)
    settings = read_mail_settings(os.environ)
    kept_events = 0
    for record in event["Records"]:
        failure = json.loads(record["body"])
        alarms = alarms_of(failure, settings=settings)
        for name in _begun(failure, settings=settings, deadline=deadline):
            log.info("no mail about %s: its run has begun", name)
            alarms.pop(name, None)
        if not alarms:
            continue
        for name, text in alarms.items():
            raise_alarm(name, text, settings=settings, deadline=deadline)
        kept = {"QueueUrl": settings.kept_events_url, "MessageBody": json.dumps(failure.get("requestPayload"))}
        aws_cli.call("sqs", "send-message", kept, deadline=deadline)
        kept_events += 1
    return {"kept": kept_events}


def _begun(failure: dict[str, Any], *, settings: MailSettings, deadline: Deadline) -> Iterator[str]:
    """Names of the alarms about markers whose runs have written a receipt."""
    for one in read_records(failure.get("requestPayload"), monitored_bucket=settings.monitored_bucket):
        if isinstance(one, Marker) and exists(f"{RECEIPTS}{one.dag_run_id}.json", settings=settings, deadline=deadline):
            yield marker_name(one.bucket, one.key, one.event_time)


def alarms_of(failure: dict[str, Any], *, settings: MailSettings) -> dict[str, str]:
    """Name and text of the alarm for each marker of a failed event; S3 sends one marker an event."""
    records = read_records(failure.get("requestPayload"), monitored_bucket=settings.monitored_bucket)
    context, answer = failure.get("requestContext") or {}, failure.get("responsePayload") or {}
    reason = str(answer.get("errorMessage") or context.get("condition") or "no reason was given")
    subjects = {
        marker_name(one.bucket, one.key, one.event_time): f"{one.key!r} in bucket {one.bucket}"
        for one in records
        if isinstance(one, Marker)
    } or {f"event_{context.get('requestId', 'unknown')}": "an event without a marker"}
    tries = context.get("approximateInvokeCount", "several")
    return {
        name: mail.no_run(subject, tries=tries, reason=reason, settings=settings) for name, subject in subjects.items()
    }
