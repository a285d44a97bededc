"""Mails a failure for each marker of the last two days that still has no finished run, or whose run sent no mail.

Also mails once when no marker came at all by the time that MBD_EXPECT_BY names, and sends the mails that SNS refused
before. It runs on a schedule, so it works when nothing else did.
"""

import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from trigger import aws_cli, mail
from trigger.alarm import ALARMS, raise_alarm
from trigger.deadline import Deadline
from trigger.errors import SettingsError, TriggerError
from trigger.expectation import Due, read_expectation
from trigger.s3_event import MARKER_SUFFIX, marker_name
from trigger.settings import MailSettings, is_dry_run, read_mail_settings
from trigger.states import ENDED, MAILED, MailState

log = logging.getLogger(__name__)
logging.getLogger("trigger").setLevel(logging.INFO)

RECEIPTS, NOTICES = "Output/receipts/", "Output/notices/"
_LOOKS_BACK = timedelta(days=2)
_PATIENCE_MINUTES = "120"  # a run may take one hour, and may have waited for another one
_MOST_KEYS = 20_000  # in the open bucket of profile course anybody can put any number
_MOST_MAILS = 10  # about missed markers, in one call; the next call goes on
_MARKER_NAME = re.compile(r"marker_[^_]+_(?P<key>[0-9a-f]{10})")
_CLOCK_TOLERANCE = timedelta(seconds=10)
"""S3 dates an object by the second and by the start of its put, an event by the end of the put."""


@dataclass(frozen=True)
class Put:
    """A marker as the bucket's listing shows it: only its last put."""

    key: str
    time: datetime


def handler(event: object, context: object) -> dict[str, list[str]]:  # noqa: ARG001
    """Returns {"missed": keys of the markers that were mailed about, "sent": names of the notices that were sent}.

    Where it mailed that no marker came, `absent` has the day. A failure of one marker or notice is logged and does not
    hold up the others; at the end the first error is raised. While DRY_RUN is on no marker gets a run, so none is
    missed.
    """
    deadline = Deadline.of(context)
    settings = read_mail_settings(os.environ)
    now = _now()
    failures: list[TriggerError] = []
    patience, expectation = read_patience(os.environ), read_expectation(os.environ)
    missed: list[str] = []
    absent: list[str] = []
    if is_dry_run(os.environ):
        log.info("dry run: markers are not checked, as none of them starts a run")
    else:
        puts = _puts(settings, deadline=deadline)
        old = [put for put in puts if now - _LOOKS_BACK <= put.time <= now - patience]
        missed += _report_missed(old, settings=settings, deadline=deadline, failures=failures)
        due = expectation.last_due(now) if expectation else None
        absent += _report_absent(puts, due=due, settings=settings, deadline=deadline, failures=failures)
    sent = list(_send_notices(settings, deadline=deadline, failures=failures))
    if failures:
        raise failures[0]
    return {"missed": missed, "sent": sent} | ({"absent": absent} if absent else {})


def _now() -> datetime:
    return datetime.now(UTC)


def read_patience(environment: Mapping[str, str]) -> timedelta:
    """How old a marker must be before its run counts as missed."""
    text = environment.get("WATCHDOG_MINUTES", "").strip() or _PATIENCE_MINUTES
    longest = _LOOKS_BACK / timedelta(minutes=1)
    if not re.fullmatch(r"\d{1,6}(\.\d+)?", text) or not 0 < float(text) < longest:
        raise SettingsError(
            f"WATCHDOG_MINUTES is {text!r}. Set MBD_WATCHDOG_MINUTES in .env to a number of minutes above 0 and below "
            f"{longest:.0f}, or leave it out; then deploy."
        )
    return timedelta(minutes=float(text))


def _puts(settings: MailSettings, *, deadline: Deadline) -> list[Put]:
    """All markers that the monitored bucket holds."""
    entries = _listing(settings.monitored_bucket, most=_MOST_KEYS, deadline=deadline)
    if len(entries) == _MOST_KEYS:
        text = mail.too_many_keys(_MOST_KEYS, settings=settings)
        raise_alarm(f"crowded_{_now():%Y-%m-%d}", text, settings=settings, deadline=deadline)
    return [Put(key, time) for key, time in entries if key.endswith(MARKER_SUFFIX)]


def _report_missed(
    puts: list[Put], *, settings: MailSettings, deadline: Deadline, failures: list[TriggerError]
) -> Iterator[str]:
    """Mail each put that has no finished run with a mail, unless that was done before; yields their keys."""
    if not puts:
        return
    first = min(put.time for put in puts)
    alarms, receipts = (
        _names(folder, since=first, settings=settings, deadline=deadline) for folder in (ALARMS, RECEIPTS)
    )
    alarms_by_key, runs_by_key = _by_key(alarms), _by_key(receipts)
    mails = 0
    for put in puts:
        key = _key_of(put, settings=settings)
        if any(name >= _beginning(put.time) for name in alarms_by_key.get(key, [])):
            continue
        runs = [name for name in runs_by_key.get(key, []) if name >= _beginning(put.time)]
        if mails == _MOST_MAILS:
            log.error("%d mails are enough for now; the next call goes on", mails)
            return
        try:
            found = {run: _read_object(f"{RECEIPTS}{run}.json", settings=settings, deadline=deadline) for run in runs}
            runs = _runs_of(put, found)
            ends = [found[run] for run in runs]
            if any(has_mail(receipt) for receipt in ends):
                continue
            name = marker_name(settings.monitored_bucket, put.key, put.time)
            text = text_of(put, run=runs[-1] if runs else None, receipt=ends[-1] if ends else {}, settings=settings)
            if raise_alarm(name, text, settings=settings, deadline=deadline):
                mails += 1
                yield put.key
        except TriggerError as error:
            log.error("no mail about the marker %r: %s", put.key, error)
            failures.append(error)


def _report_absent(
    puts: list[Put], *, due: Due | None, settings: MailSettings, deadline: Deadline, failures: list[TriggerError]
) -> Iterator[str]:
    """Mail once about a day for which no marker came, also not late; yields that day.

    A marker that was deleted or put again since has left a receipt of its run.
    """
    if due is None or any(put.time >= due.since for put in puts):
        return
    try:
        if _by_key(_names(RECEIPTS, since=due.since, settings=settings, deadline=deadline)):
            return
        last = max(puts, key=lambda put: put.time, default=None)
        text = mail.no_marker(due, last=(last.key, last.time) if last else None, settings=settings)
        if raise_alarm(f"expected_{due.day}", text, settings=settings, deadline=deadline):
            yield str(due.day)
    except TriggerError as error:
        log.error("no mail about the day without a marker, %s: %s", due.day, error)
        failures.append(error)


def _names(folder: str, *, since: datetime, settings: MailSettings, deadline: Deadline) -> list[str]:
    """Names of the objects in a folder about markers of this time or later, without folder and suffix."""
    entries = _listing(
        settings.source_bucket, Prefix=folder, StartAfter=f"{folder}{_beginning(since)}", deadline=deadline
    )
    return [key.removeprefix(folder).removesuffix(".json") for key, _ in entries]


def _by_key(names: Iterable[str]) -> dict[str, list[str]]:
    """Names of alarms or runs by the hash of their marker's key, in their order."""
    found: dict[str, list[str]] = {}
    for name in names:
        if match := _MARKER_NAME.match(name):
            found.setdefault(match["key"], []).append(name)
    return found


def _key_of(put: Put, *, settings: MailSettings) -> str:
    return marker_name(settings.monitored_bucket, put.key, put.time).rpartition("_")[2]


def _runs_of(put: Put, receipts: Mapping[str, Mapping[str, object]]) -> list[str]:
    """The runs of this put, by their names; where it has none, earlier ones that began after it, with what was there.

    A marker may be put twice within the tolerance of the clocks, and the event of the second may be lost.
    """
    second = f"{put.time:%Y-%m-%dT%H:%M:%S}"
    own = [run for run in receipts if run >= f"marker_{second}Z"]
    return own or [run for run in receipts if str(receipts[run].get("started_at", ""))[: len(second)] > second]


def _beginning(time: datetime) -> str:
    return f"marker_{time - _CLOCK_TOLERANCE:%Y-%m-%dT%H:%M:%SZ}"


def has_ended(receipt: Mapping[str, object]) -> bool:
    """Whether the run of this receipt is over."""
    return receipt.get("state") in ENDED


def has_mail(receipt: Mapping[str, object]) -> bool:
    """Whether the run has ended and its mail was sent, or is kept as a notice.

    A receipt of an older etl has no `mail`; its mail counts as sent.
    """
    return has_ended(receipt) and receipt.get("mail", MailState.SENT) in MAILED


def text_of(put: Put, *, run: str | None, receipt: Mapping[str, object], settings: MailSettings) -> str:
    """The mail about a put whose last run, if it has one, wrote `receipt`."""
    if run is None or not has_ended(receipt):
        return mail.no_finished_run(put.key, put_at=put.time, run=run, settings=settings)
    return mail.no_mail(
        put.key,
        put_at=put.time,
        run=run,
        state=str(receipt["state"]),
        error=str(receipt.get("error") or ""),
        receipt=f"{RECEIPTS}{run}.json",
        settings=settings,
    )


def _send_notices(settings: MailSettings, *, deadline: Deadline, failures: list[TriggerError]) -> Iterator[str]:
    """Send the mails of finished runs that SNS refused at the time; each is deleted once it is sent."""
    for key, _ in _listing(settings.source_bucket, Prefix=NOTICES, deadline=deadline):
        if not key.endswith(".json"):  # such as the empty object of a folder that the S3 console made
            continue
        try:
            match _read_object(key, settings=settings, deadline=deadline):
                case {"Subject": str(subject), "Message": str(message)}:
                    mail.publish(message, subject=subject, settings=settings, deadline=deadline)
                case _:
                    log.error("%r is not a mail; it is left there", key)
                    continue
            notice = {"Bucket": settings.source_bucket, "Key": key}
            aws_cli.call("s3api", "delete-object", notice, deadline=deadline)
        except TriggerError as error:
            log.error("the mail %r was not sent: %s", key, error)
            failures.append(error)
            continue
        log.info("sent the mail %r, which SNS had refused before", key)
        yield key.removeprefix(NOTICES)


def _read_object(key: str, *, settings: MailSettings, deadline: Deadline) -> dict[str, object]:
    """The JSON object under this key; empty if it holds anything else."""
    content = aws_cli.run(["s3", "cp", f"s3://{settings.source_bucket}/{key}", "-"], deadline=deadline)
    try:
        facts = json.loads(content)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _listing(bucket: str, *, deadline: Deadline, most: int = 0, **parameters: str) -> list[tuple[str, datetime]]:
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
