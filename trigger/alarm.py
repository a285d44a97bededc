"""Mails a failure once: a record in `Output/alarms/`, which the watchdog reads too, prevents a second mail."""

import json
import logging
from datetime import UTC, datetime

from trigger import aws_cli, mail
from trigger.deadline import Deadline
from trigger.errors import AwsRefusedError
from trigger.settings import MailSettings

log = logging.getLogger(__name__)

ALARMS = "Output/alarms/"


def raise_alarm(name: str, text: str, *, settings: MailSettings, deadline: Deadline) -> bool:
    """Mail `text` unless an alarm of this name was mailed before; returns whether it was sent now."""
    record = f"{ALARMS}{name}.json"
    if exists(record, settings=settings, deadline=deadline):
        log.info("no second mail: %s exists", record)
        return False
    mail.publish(text, subject=mail.failure_subject(settings), settings=settings, deadline=deadline)
    content = json.dumps({"raised_at": datetime.now(UTC).isoformat(timespec="seconds"), "text": text})
    aws_cli.run(["s3", "cp", "-", f"s3://{settings.source_bucket}/{record}"], given=content.encode(), deadline=deadline)
    log.info("mailed a failure: %s", record)
    return True


def exists(key: str, *, settings: MailSettings, deadline: Deadline) -> bool:
    """Whether the source bucket has an object under this key."""
    try:
        aws_cli.call("s3api", "head-object", {"Bucket": settings.source_bucket, "Key": key}, deadline=deadline)
    except AwsRefusedError as error:
        if error.code == "404":
            return False
        raise
    return True
