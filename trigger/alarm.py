"""Mails a failure once: a record in `Output/alarms/`, which the watchdog reads too, prevents a second mail."""

import json
import logging
import re
from datetime import UTC, datetime, timedelta

from trigger import aws_cli, mail
from trigger.deadline import Deadline
from trigger.errors import AwsRefusedError
from trigger.settings import MailSettings

log = logging.getLogger(__name__)

ALARMS = "Output/alarms/"
_MARKER_NAME = re.compile(r"marker_(?P<time>[^_]+)_(?P<key>[0-9a-f]{10})")
_CLOCK_TOLERANCE = timedelta(seconds=10)
"""S3 dates an object by the second and by the start of its put, an event by the end of the put."""


def raise_alarm(name: str, text: str, *, settings: MailSettings, deadline: Deadline) -> bool:
    """Mail `text` unless an alarm about the same was mailed before; returns whether it was sent now."""
    record = f"{ALARMS}{name}.json"
    if earlier := _earlier(name, settings=settings, deadline=deadline):
        log.info("no second mail: %s%s.json exists", ALARMS, earlier)
        return False
    mail.publish(text, subject=mail.failure_subject(settings), settings=settings, deadline=deadline)
    content = json.dumps({"raised_at": datetime.now(UTC).isoformat(timespec="seconds"), "text": text})
    aws_cli.run(["s3", "cp", "-", f"s3://{settings.source_bucket}/{record}"], given=content.encode(), deadline=deadline)
    log.info("mailed a failure: %s", record)
    return True


def _earlier(name: str, *, settings: MailSettings, deadline: Deadline) -> str | None:
    """The name of an alarm about the same: this one or, about a marker, one of its key at the same time.

    The watchdog dates a put by the bucket's listing, `report` by its event.
    """
    marker = _MARKER_NAME.fullmatch(name)
    if marker is None:
        return name if exists(f"{ALARMS}{name}.json", settings=settings, deadline=deadline) else None
    time = datetime.fromisoformat(marker["time"])
    alarms = names_by_key(ALARMS, since=time, settings=settings, deadline=deadline).get(marker["key"], [])
    last = f"marker_{time + _CLOCK_TOLERANCE:%Y-%m-%dT%H:%M:%SZ}_{marker['key']}"
    return next((alarm for alarm in alarms if beginning(time) <= alarm <= last), None)


def exists(key: str, *, settings: MailSettings, deadline: Deadline) -> bool:
    """Whether the source bucket has an object under this key."""
    try:
        aws_cli.call("s3api", "head-object", {"Bucket": settings.source_bucket, "Key": key}, deadline=deadline)
    except AwsRefusedError as error:
        if error.code == "404":
            return False
        raise
    return True


def names_by_key(folder: str, *, since: datetime, settings: MailSettings, deadline: Deadline) -> dict[str, list[str]]:
    """Names of the objects in a folder about markers of this time or later, by the hash of the marker's key, in order.

    A name is without folder and suffix: that of an alarm, or the id of a run.
    """
    start = f"{folder}{beginning(since)}"
    found: dict[str, list[str]] = {}
    for key, _ in listing(settings.source_bucket, Prefix=folder, StartAfter=start, deadline=deadline):
        name = key.removeprefix(folder).removesuffix(".json")
        if match := _MARKER_NAME.match(name):
            found.setdefault(match["key"], []).append(name)
    return found


def beginning(time: datetime) -> str:
    """Names about a marker of this time begin with this, or with what sorts behind it."""
    return f"marker_{time - _CLOCK_TOLERANCE:%Y-%m-%dT%H:%M:%SZ}"


def listing(bucket: str, *, deadline: Deadline, most: int = 0, **parameters: str) -> list[tuple[str, datetime]]:
    """Keys and times of last modification (UTC), of all pages, or of the first `most` keys."""
    options = ["--max-items", str(most)] if most else []
    answer = aws_cli.call(
        "s3api", "list-objects-v2", {"Bucket": bucket, **parameters}, options=options, deadline=deadline
    )
    match answer:
        case {"Contents": list(entries)}:
            return [(entry["Key"], datetime.fromisoformat(entry["LastModified"]).astimezone(UTC)) for entry in entries]
        case _:
            return []
