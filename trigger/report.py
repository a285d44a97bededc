"""An event that Lambda gave up goes in from the failure queue; a failure mail, and the event in the queue of kept
events, come out."""

import json
import logging
import os
from typing import Any

from trigger import aws_cli
from trigger.alarm import raise_alarm
from trigger.deadline import Deadline
from trigger.s3_event import Marker, marker_name, read_records
from trigger.settings import MailSettings, read_mail_settings

log = logging.getLogger(__name__)
logging.getLogger("trigger").setLevel(logging.INFO)


def handler(event: dict[str, Any], context: object) -> dict[str, int]:
    """Mail and keep each event of the queue. Raises when that fails: the queue then gives it to us again, and after
    some tries keeps it itself.

    Each message is what Lambda sends to a failure destination:
    https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html.
    """
    deadline = Deadline.of(context)
    settings = read_mail_settings(os.environ)
    for record in event["Records"]:
        failure = json.loads(record["body"])
        _report(failure, settings=settings, deadline=deadline)
        kept: dict[str, object] = {
            "QueueUrl": settings.kept_events_url,
            "MessageBody": json.dumps(failure.get("requestPayload")),
        }
        aws_cli.call("sqs", "send-message", kept, deadline=deadline)
    return {"kept": len(event["Records"])}


def _report(failure: dict[str, Any], *, settings: MailSettings, deadline: Deadline) -> None:
    records = read_records(failure.get("requestPayload"), monitored_bucket=settings.monitored_bucket)
    markers = [record for record in records if isinstance(record, Marker)]
    context, answer = failure.get("requestContext") or {}, failure.get("responsePayload") or {}
    reason = str(answer.get("errorMessage") or context.get("condition") or "no reason was given")
    what = {
        marker_name(marker.bucket, marker.key, marker.event_time): f"{marker.key!r} in bucket {marker.bucket}"
        for marker in markers
    } or {f"event_{context.get('requestId', 'unknown')}": "an event without a marker"}
    for name, of in what.items():  # S3 sends one record an event, so this is one mail
        text = (
            f"FAILED: no run was started for {of}.\n\n"
            f"After {context.get('approximateInvokeCount', 'several')} tries: {reason}\n\n"
            "The table is unchanged. The event is kept. When the cause is mended, in the project's folder:\n"
            f"  {settings.redrive_command}\n"
        )
        raise_alarm(name, text, settings=settings, deadline=deadline)
