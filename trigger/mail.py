"""Words the trigger's mails and publishes them, with the same subject as the pipeline's own mails."""

import json
import re
import shlex
from datetime import datetime

from trigger import aws_cli
from trigger.deadline import Deadline
from trigger.expectation import Due
from trigger.settings import MailSettings
from trigger.states import ReceiptState

LARGEST_BODY_BYTES = 200_000  # SNS takes 262,144 bytes for the whole message
_UNPRINTABLE = re.compile(r"[^\n\t\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TABLE = "The table still holds the last batch that was loaded in full."
_AFTERWARDS = "Once the cause is fixed, run this in the project's folder:"


def no_run(subject: str, *, tries: object, reason: str, settings: MailSettings) -> str:
    """The mail about an event for which Lambda gave up; `subject` is its marker, in words."""
    return (
        f"FAILED: no run was started for {subject}.\n\n"
        f"After {tries} tries: {reason}\n\n"
        f"The table is unchanged, and the event is kept. {_AFTERWARDS}\n  {_redrive(settings)}\n"
    )


def no_finished_run(key: str, *, put_at: datetime, run: str | None, settings: MailSettings) -> str:
    """The mail about a marker that has no run that ended; `run` is the id of the last one that began."""
    found = f"Its run {run} has started but has not ended." if run else "No run has started for it."
    return (
        f"FAILED: {_marker(key, put_at, settings)} has no finished run. {found}\n\n"
        f"{_TABLE} Look in Airflow for what became of the run, and in the trigger's log for what became of the event. "
        f"Then run this in the project's folder:\n  {_redrive(settings, key)}\n"
    )


def no_mail(
    key: str, *, put_at: datetime, run: str, state: str, error: str, receipt: str, settings: MailSettings
) -> str:
    """The mail about a marker whose run ended without a mail; `receipt` is the key of what that run wrote."""
    found = (
        f"FAILED: {_marker(key, put_at, settings)} got no mail. Its run {run} ended as {state}, but there is no record "
        "that a mail about it was sent (if it was, you have it twice)."
    )
    look = f"  aws s3 cp s3://{settings.source_bucket}/{receipt} -\n"
    if state != ReceiptState.FAILED:
        return f"{found}\n\nThere is nothing to redrive. The receipt says what the run did:\n{look}"
    [first_line, *_] = (error or "its receipt has no error").splitlines()
    return (
        f"{found}\n\n{first_line}\n\n{_TABLE} The receipt has the details:\n{look}"
        f"{_AFTERWARDS}\n  {_redrive(settings, key)}\n"
    )


def no_marker(due: Due, *, last: tuple[str, datetime] | None, settings: MailSettings) -> str:
    """The mail about a day for which no marker came; `last` is the newest marker of all, if there is one."""
    newest = f"The last one is {last[0]!r}, put {last[1]:%Y-%m-%d %H:%M:%S} UTC. " if last else ""
    return (
        f"FAILED: no marker was put into the bucket {settings.monitored_bucket} for {due.day:%A}, {due.day}. "
        f"It was expected by {due.by:%Y-%m-%d %H:%M} UTC (MBD_EXPECT_BY).\n\n"
        f"{newest}{_TABLE}\n\n"
        "Ask those who send the batch. When the marker comes, its run starts by itself: there is nothing to redrive. "
        "Do not put it yourself: it says that the batch is complete, and only they know that. "
        f"If no batch was due, add {due.day} to MBD_HOLIDAYS in .env, and deploy.\n"
    )


def too_many_keys(most: int, *, settings: MailSettings) -> str:
    """The mail about a bucket with more objects than the watchdog looks at."""
    return (
        f"WARNING: the bucket {settings.monitored_bucket} has more than {most:,} objects. The watchdog looks only at "
        "the first ones by name, so a marker without a run may go unnoticed, and the objects cost you money.\n\n"
        "Find out who puts them (in profile course anybody may), and delete them. MBD_PROFILE=default and make deploy "
        "close the bucket.\n"
    )


def failure_subject(settings: MailSettings) -> str:
    """`{First}_{Last}_Pipeline_Failure`."""
    first, last = (name[0].upper() + name[1:] for name in (settings.first_name, settings.last_name))
    return f"{first}_{last}_Pipeline_Failure"


def publish(text: str, *, subject: str, settings: MailSettings, deadline: Deadline) -> None:
    """Publish to the topic. Control characters become `?`, and a text that is too long is cut."""
    body = _UNPRINTABLE.sub("?", text)
    if len(encoded := body.encode()) > LARGEST_BODY_BYTES:
        body = encoded[:LARGEST_BODY_BYTES].decode(errors="ignore") + "\n... cut here\n"
    message = {"TopicArn": settings.topic_arn, "Subject": subject, "Message": body}
    aws_cli.call("sns", "publish", message, deadline=deadline)


def _marker(key: str, put_at: datetime, settings: MailSettings) -> str:
    return f"the marker {key!r} in bucket {settings.monitored_bucket}, put {put_at:%Y-%m-%d %H:%M:%S} UTC,"


def _redrive(settings: MailSettings, key: str = "") -> str:
    """The command that tries the kept events, or one marker, again; safe to paste into a shell."""
    words = ["npx", "serverless", "invoke", "--function", "redrive"]
    if settings.stage != "prod":
        words += ["--stage", settings.stage]
    if key:
        words += ["--data", json.dumps({"marker": key})]
    return shlex.join(words)
