"""Starts a run for each kept event, or for one marker; invoked by a person.

npx serverless invoke --function redrive                                        every kept event
npx serverless invoke --function redrive --data '{"marker": "batch.SUCCESS"}'   one marker, as it is in its bucket
"""

import json
import logging
import os
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote_plus

import trigger.handler
from trigger import aws_cli
from trigger.deadline import Deadline
from trigger.errors import AwsRefusedError, RedriveError, TriggerError
from trigger.settings import MailSettings, read_mail_settings, read_settings
from trigger.states import Outcome

log = logging.getLogger(__name__)
logging.getLogger("trigger").setLevel(logging.INFO)

_SECONDS_FOR_AN_EVENT = 30.0  # more than the calls of an event to an Airflow that is up


def handler(event: object, context: object) -> dict[str, object]:
    """Returns {"records": as the trigger returns them, "events": how many were redriven}.

    Where it found none, `in_flight` says how many others wait because they were received a short time ago. Stops at the
    first event that fails, or when time is nearly up, with RedriveError: it and all later events stay in the queue, for
    two weeks from their failure. A message without a marker can never start anything: it is logged and removed from the
    queue. Data that is neither empty nor {"marker": key} is refused: a mistyped marker must not redrive the whole
    queue.
    """
    deadline = Deadline.of(context)
    settings = read_mail_settings(os.environ)
    match event:
        case {"marker": str(key), **rest} if key and not rest:
            made = _event_of_marker(key, settings=settings, deadline=deadline)
            return {"records": trigger.handler.handler(made, context)["records"], "events": 1}
        case _ if event not in (None, "", {}):
            raise RedriveError(
                f"Nothing was redriven: the data is {event!r:.200}. Give none, for every kept event, or one marker as "
                """JSON, such as --data '{"marker": "batch.SUCCESS"}'; make redrive MARKER=batch.SUCCESS does that."""
            )
    if read_settings(os.environ).dry_run:
        raise RedriveError(
            "Nothing was redriven: DRY_RUN is on, so no run would start and the kept events would be lost. Remove "
            "MBD_TRIGGER_DRY_RUN from .env, deploy, then redrive."
        )
    records: list[trigger.handler.Result] = []
    events = 0
    while True:
        if events and deadline.seconds_left() < _SECONDS_FOR_AN_EVENT:
            raise RedriveError(
                f"{events} events were redriven, then time was up. Redrive again for those that are left."
            )
        message = _next_message(settings, deadline=deadline)
        if message is None:
            found: dict[str, object] = {"records": records, "events": events}
            in_flight = 0 if events else _in_flight(settings, deadline=deadline)
            return found | ({"in_flight": in_flight} if in_flight else {})
        body, receipt_handle = message
        handle = {"QueueUrl": settings.kept_events_url, "ReceiptHandle": receipt_handle}
        try:
            done = trigger.handler.handler(_unwrap(body), context)["records"]
        except TriggerError as error:
            seen = _show(handle, deadline=deadline)
            raise RedriveError(
                f"{events} events were redriven; the next one failed and is kept{seen}: {error}"
            ) from error
        if all(record["outcome"] == Outcome.IGNORED for record in done):
            log.error("a kept message starts nothing and is removed: %.2000r", body)
        records += done
        aws_cli.call("sqs", "delete-message", handle, deadline=deadline.for_last_calls())
        events += 1


def _unwrap(body: str) -> object:
    """The event of a kept message. One that `report` could not handle is still inside what Lambda wrote about it."""
    try:
        message = json.loads(body)
    except ValueError:
        return None
    match message:
        case {"requestPayload": event}:
            return event
        case _:
            return message


def _next_message(settings: MailSettings, *, deadline: Deadline) -> tuple[str, str] | None:
    """Body and receipt handle of a kept event."""
    request = {"QueueUrl": settings.kept_events_url, "MaxNumberOfMessages": 1, "WaitTimeSeconds": 2}
    match aws_cli.call("sqs", "receive-message", request, deadline=deadline):
        case {"Messages": [{"Body": str(body), "ReceiptHandle": str(receipt_handle)}]}:
            return body, receipt_handle
        case _:
            return None


def _show(handle: dict[str, str], *, deadline: Deadline) -> str:
    """Let the next redrive find the event at once; returns what to add to the error where that fails."""
    later = deadline.for_last_calls()
    try:
        aws_cli.call("sqs", "change-message-visibility", {**handle, "VisibilityTimeout": 0}, deadline=later)
    except TriggerError as error:
        log.warning("the event that failed stays hidden for up to 15 minutes: %s", error)
        return " (a redrive finds it in 15 minutes)"
    return ""


def _in_flight(settings: MailSettings, *, deadline: Deadline) -> int:
    """How many kept events were received and not yet removed: nobody else receives them for up to 15 minutes."""
    name = "ApproximateNumberOfMessagesNotVisible"
    request = {"QueueUrl": settings.kept_events_url, "AttributeNames": [name]}
    match aws_cli.call("sqs", "get-queue-attributes", request, deadline=deadline):
        case {"Attributes": {"ApproximateNumberOfMessagesNotVisible": number}}:
            return int(str(number))
        case _:
            return 0


def _event_of_marker(key: str, *, settings: MailSettings, deadline: Deadline) -> dict[str, object]:
    """The event that S3 would have sent about a marker that is in its bucket."""
    marker = {"Bucket": settings.monitored_bucket, "Key": key}
    try:
        head = aws_cli.call("s3api", "head-object", marker, deadline=deadline)
    except AwsRefusedError as error:
        raise RedriveError(f"The marker {key!r} is not in bucket {settings.monitored_bucket}: {error}") from error
    put_at = parsedate_to_datetime(str(head["LastModified"])).isoformat()  # the CLI prints the header as it is
    asked_at = datetime.now(UTC).isoformat()  # so each redrive is a run of its own
    entry = {"key": quote_plus(key), "eTag": str(head["ETag"]).strip('"'), "sequencer": f"redriven {asked_at}"}
    record = {
        "eventName": "ObjectCreated:Redrive",
        "eventTime": put_at,
        "s3": {"bucket": {"name": settings.monitored_bucket}, "object": entry},
    }
    return {"Records": [record]}
