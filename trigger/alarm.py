"""What went wrong with a marker goes in; one failure mail for it, and a record so that it stays one, come out.

The record is an object in `Output/alarms/`, named as the marker's runs are, which the watchdog reads too.
"""

import json
import logging
import re
from datetime import UTC, datetime

from trigger import aws_cli
from trigger.deadline import Deadline
from trigger.errors import AwsRefusedError
from trigger.settings import MailSettings

log = logging.getLogger(__name__)

ALARMS = "Output/alarms/"
_LARGEST_BODY_BYTES = 100_000  # SNS takes 262,144
_UNPRINTABLE = re.compile(r"[^\n\t\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def raise_alarm(name: str, text: str, *, settings: MailSettings, deadline: Deadline) -> bool:
    """Mail `text` as the failure of what `name` stands for, unless that was done; returns whether it was sent."""
    record = f"{ALARMS}{name}.json"
    if _exists(record, settings=settings, deadline=deadline):
        log.info("no second mail: %s is there", record)
        return False
    send_failure(text, settings=settings, deadline=deadline)
    content = json.dumps({"raised_at": datetime.now(UTC).isoformat(timespec="seconds"), "text": text})
    aws_cli.run(["s3", "cp", "-", f"s3://{settings.source_bucket}/{record}"], given=content.encode(), deadline=deadline)
    log.info("mailed a failure: %s", record)
    return True


def send_failure(text: str, *, settings: MailSettings, deadline: Deadline) -> None:
    """Publish a mail with the pipeline's own failure subject."""
    first, last = (name[0].upper() + name[1:] for name in (settings.first_name, settings.last_name))
    publish(text, subject=f"{first}_{last}_Pipeline_Failure", settings=settings, deadline=deadline)


def publish(text: str, *, subject: str, settings: MailSettings, deadline: Deadline) -> None:
    """Publish to the topic; control characters become `?`, and what is too long is cut."""
    body = _UNPRINTABLE.sub("?", text).encode()
    if len(body) > _LARGEST_BODY_BYTES:
        body = body[:_LARGEST_BODY_BYTES] + b"\n... cut here\n"
    message: dict[str, object] = {
        "TopicArn": settings.topic_arn,
        "Subject": subject,
        "Message": body.decode(errors="ignore"),
    }
    aws_cli.call("sns", "publish", message, deadline=deadline)


def _exists(key: str, *, settings: MailSettings, deadline: Deadline) -> bool:
    try:
        aws_cli.call("s3api", "head-object", {"Bucket": settings.source_bucket, "Key": key}, deadline=deadline)
    except AwsRefusedError as error:
        if error.code == "404":
            return False
        raise
    return True
