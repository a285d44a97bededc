"""The markers of the last two days go in; a failure mail for each that has no finished run with a mail comes out.

Also sends the mails that SNS refused before. Runs on a schedule, so that it notices when nothing else did.
"""

import json
import logging
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from trigger import aws_cli
from trigger.alarm import ALARMS, publish, raise_alarm
from trigger.deadline import Deadline
from trigger.errors import SettingsError, TriggerError
from trigger.s3_event import MARKER_SUFFIX, marker_name
from trigger.settings import MailSettings, is_dry_run, read_mail_settings

log = logging.getLogger(__name__)
logging.getLogger("trigger").setLevel(logging.INFO)

RECEIPTS, NOTICES = "Output/receipts/", "Output/notices/"
_LOOKS_BACK = timedelta(days=2)
_PATIENCE_MINUTES = "120"  # a run may take one hour, and may have had to wait for another one
_NAME = re.compile(r"marker_[^_]+_(?P<key>[0-9a-f]{10})")
_CLOCKS = timedelta(seconds=10)
"""S3 dates an object by the second and by the beginning of its put, an event by its end."""


@dataclass(frozen=True)
class Put:
    """A marker as the bucket's listing shows it: only its last put."""

    key: str
    time: datetime


def handler(event: object, context: object) -> dict[str, list[str]]:  # noqa: ARG001
    """Returns {"missed": keys that a mail was sent about, "sent": notices that went out now}.

    What fails for one marker or notice is logged and keeps none of the others back; the first error is raised then.
    While DRY_RUN is on no marker gets a run, so none is missed.
    """
    deadline = Deadline.of(context)
    settings = read_mail_settings(os.environ)
    now = datetime.now(UTC)
    failures: list[TriggerError] = []
    patience = _patience(os.environ)
    missed: list[str] = []
    if is_dry_run(os.environ):
        log.info("dry run: no marker is looked at, as none of them starts a run")
    else:
        puts = _puts(settings, since=now - _LOOKS_BACK, until=now - patience, deadline=deadline)
        missed += _report_missed(puts, settings=settings, deadline=deadline, failures=failures)
    sent = list(_send_notices(settings, deadline=deadline, failures=failures))
    if failures:
        raise failures[0]
    return {"missed": missed, "sent": sent}


def _patience(environment: Mapping[str, str]) -> timedelta:
    """How old a marker has to be before its run counts as missed."""
    text = environment.get("WATCHDOG_MINUTES", "").strip() or _PATIENCE_MINUTES
    longest = _LOOKS_BACK / timedelta(minutes=1)
    if not re.fullmatch(r"\d{1,6}(\.\d+)?", text) or not 0 < float(text) < longest:
        raise SettingsError(
            f"WATCHDOG_MINUTES is {text!r}. Set MBD_WATCHDOG_MINUTES in .env to minutes above 0 and under "
            f"{longest:.0f}, or leave it out; then deploy."
        )
    return timedelta(minutes=float(text))


def _puts(settings: MailSettings, *, since: datetime, until: datetime, deadline: Deadline) -> list[Put]:
    entries = _listing(settings.monitored_bucket, {}, deadline=deadline)
    puts = [Put(key, time) for key, time in entries if key.endswith(MARKER_SUFFIX)]
    return [put for put in puts if since <= put.time <= until]


def _report_missed(
    puts: list[Put], *, settings: MailSettings, deadline: Deadline, failures: list[TriggerError]
) -> Iterator[str]:
    """Mail each put that has no finished run with a mail, unless that was done; gives their keys."""
    if not puts:
        return
    first = min(put.time for put in puts)
    alarms, receipts = (
        _names(folder, since=first, settings=settings, deadline=deadline) for folder in (ALARMS, RECEIPTS)
    )
    for put in puts:
        if any(_is_of(put, name, settings=settings) for name in alarms):
            continue
        runs = [name for name in receipts if _is_of(put, name, settings=settings)]
        try:
            ends = [_read(f"{RECEIPTS}{run}.json", settings=settings, deadline=deadline) for run in runs]
            if any(_is_told(receipt) for receipt in ends):
                continue
            text = _text(put, run=runs[-1] if runs else None, receipt=ends[-1] if ends else {}, settings=settings)
            if raise_alarm(
                marker_name(settings.monitored_bucket, put.key, put.time), text, settings=settings, deadline=deadline
            ):
                yield put.key
        except TriggerError as error:
            log.error("no mail about the marker %r: %s", put.key, error)
            failures.append(error)


def _names(folder: str, *, since: datetime, settings: MailSettings, deadline: Deadline) -> list[str]:
    """What a folder has about markers of this time or later, without folder and ending."""
    which: dict[str, object] = {"Prefix": folder, "StartAfter": f"{folder}{_beginning(since)}"}
    entries = _listing(settings.source_bucket, which, deadline=deadline)
    return [key.removeprefix(folder).removesuffix(".json") for key, _ in entries]


def _is_of(put: Put, name: str, *, settings: MailSettings) -> bool:
    """Whether an alarm or a run with this name is about this put, and not an earlier one, of the marker."""
    key = marker_name(settings.monitored_bucket, put.key, put.time).rpartition("_")[2]
    of = _NAME.match(name)
    return of is not None and of["key"] == key and name >= _beginning(put.time)


def _beginning(time: datetime) -> str:
    return f"marker_{time - _CLOCKS:%Y-%m-%dT%H:%M:%SZ}"


def _is_told(receipt: Mapping[str, object]) -> bool:
    """Whether the run has ended and its mail went out, or is kept among the notices.

    "failed" alone is no end: Airflow may try the task again. A receipt of an etl that tells of no mail has no `mail`.
    """
    return _has_ended(receipt) and receipt.get("mail", "sent") in ("sent", "kept")


def _has_ended(receipt: Mapping[str, object]) -> bool:
    return receipt.get("state") in ("success", "failed", "dry_run")


def _text(put: Put, *, run: str | None, receipt: Mapping[str, object], settings: MailSettings) -> str:
    """The mail about a put, whose last run, where it has one, wrote `receipt`."""
    marker = f"the marker {put.key!r} in bucket {settings.monitored_bucket}, put {put.time:%Y-%m-%d %H:%M:%S} UTC,"
    redrive = f"{settings.redrive_command} --data {shlex.quote(json.dumps({'marker': put.key}))}"
    if not _has_ended(receipt):
        found = f"Its run {run} began and has not ended." if run else "No run of it has begun."
        return (
            f"FAILED: {marker} has no finished run. {found}\n\n"
            "The table holds the last batch that was loaded, whole. See in Airflow what became of the run, and in the "
            f"log of the trigger what became of the event. Then, in the project's folder:\n  {redrive}\n"
        )
    state = receipt["state"]
    found = (
        f"FAILED: {marker} got no mail. Its run {run} ended as {state}, and no mail about it is known to have gone out "
        "(it may come twice)."
    )
    look = f"  aws s3 cp s3://{settings.source_bucket}/{RECEIPTS}{run}.json -\n"
    if state == "failed":
        [error, *_] = str(receipt.get("error") or "its receipt has no error").splitlines()
        return (
            f"{found}\n\n{error}\n\nThe table holds the last batch that was loaded, whole. The receipt has the rest:\n"
            f"{look}When the cause is mended, in the project's folder:\n  {redrive}\n"
        )
    return f"{found}\n\nThere is nothing to redrive. What the run did stands in its receipt:\n{look}"


def _send_notices(settings: MailSettings, *, deadline: Deadline, failures: list[TriggerError]) -> Iterator[str]:
    """Mails of finished runs that SNS refused at the time; each is removed once it is sent."""
    for key, _ in _listing(settings.source_bucket, {"Prefix": NOTICES}, deadline=deadline):
        if not key.endswith(".json"):  # such as the empty object by which S3's console makes a folder
            continue
        try:
            match _read(key, settings=settings, deadline=deadline):
                case {"Subject": str(subject), "Message": str(message)}:
                    publish(message, subject=subject, settings=settings, deadline=deadline)
                case _:
                    log.error("%r is no mail, and stays", key)
                    continue
            notice: dict[str, object] = {"Bucket": settings.source_bucket, "Key": key}
            aws_cli.call("s3api", "delete-object", notice, deadline=deadline)
        except TriggerError as error:
            log.error("the mail %r stays unsent: %s", key, error)
            failures.append(error)
            continue
        log.info("sent the mail %r, which was refused before", key)
        yield key.removeprefix(NOTICES)


def _read(key: str, *, settings: MailSettings, deadline: Deadline) -> dict[str, object]:
    """The JSON object that is kept under this name; empty when it is anything else."""
    content = aws_cli.run(["s3", "cp", f"s3://{settings.source_bucket}/{key}", "-"], deadline=deadline)
    try:
        facts = json.loads(content)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _listing(bucket: str, which: dict[str, object], *, deadline: Deadline) -> list[tuple[str, datetime]]:
    """Keys and times of last modification (UTC), all pages."""
    answer = aws_cli.call("s3api", "list-objects-v2", {"Bucket": bucket, **which}, deadline=deadline)
    match answer:
        case {"Contents": list(entries)}:
            return [(entry["Key"], datetime.fromisoformat(entry["LastModified"]).astimezone(UTC)) for entry in entries]
        case _:
            return []
