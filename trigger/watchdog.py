"""Mails a failure for each marker of the last two days that still has no finished run, or whose run sent no mail.

Also mails once when no marker came at all by the time that MBD_EXPECT_BY names, and sends the mails that SNS refused
before, first of all. It runs on a schedule, so it works when nothing else did.
"""

import logging
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from trigger import aws_cli, mail
from trigger.alarm import ALARMS, beginning, listing, names_by_key, raise_alarm
from trigger.deadline import Deadline
from trigger.errors import OutOfTimeError, SettingsError, TriggerError
from trigger.expectation import Due, read_expectation
from trigger.receipts import RECEIPTS, read_object, read_receipts
from trigger.s3_event import MARKER_SUFFIX, marker_name
from trigger.settings import MailSettings, is_dry_run, read_mail_settings
from trigger.states import ENDED, MAILED, MailState

log = logging.getLogger(__name__)
logging.getLogger("trigger").setLevel(logging.INFO)

NOTICES = "Output/notices/"
_PROD = "prod"  # all stages share the source bucket: this one also sends kept mails that name an earlier topic
_LOOKS_BACK = timedelta(days=2)
_LONGEST_PATIENCE = _LOOKS_BACK - timedelta(hours=3)  # so that each marker is looked at, though a call or two fail
_PATIENCE_MINUTES = "120"  # a run may take one hour, and may have waited for another one
_MOST_KEYS = 20_000  # in the open bucket of profile course anybody can put any number
_MOST_MAILS = 10  # about missed markers, in one call; the next call goes on
_SECONDS_FOR_ONE = 20.0  # a mail takes four calls of the CLI, each a process of its own


@dataclass(frozen=True)
class Put:
    """A marker as the bucket's listing shows it: only its last put."""

    key: str
    time: datetime


def handler(event: object, context: object) -> dict[str, list[str]]:  # noqa: ARG001
    """Returns {"missed": keys of the markers that were mailed about, "sent": names of the notices that were sent}.

    Where it mailed that no marker came, `absent` has the day. A failure of one marker or notice is logged and does not
    hold up the others; at the end the first error is raised, OutOfTimeError where time was up before all were looked
    at. While DRY_RUN is on no marker gets a run, so none is missed.
    """
    deadline = Deadline.of(context)
    settings = read_mail_settings(os.environ)
    now = _now()
    failures: list[TriggerError] = []
    patience, expectation = read_patience(os.environ), read_expectation(os.environ)
    missed: list[str] = []
    absent: list[str] = []
    sent = list(_send_notices(settings, now=now, deadline=deadline.part(0.5), failures=failures))
    if is_dry_run(os.environ):
        log.info("dry run: markers are not checked, as none of them starts a run")
    else:
        puts = _puts(settings, deadline=deadline, failures=failures)
        due = expectation.last_due(now) if expectation else None
        absent += _report_absent(puts, due=due, settings=settings, deadline=deadline, failures=failures)
        old = [put for put in puts if now - _LOOKS_BACK <= put.time <= now - patience]
        missed += _report_missed(old, settings=settings, deadline=deadline, failures=failures)
    if failures:
        raise failures[0]
    return {"missed": missed, "sent": sent} | ({"absent": absent} if absent else {})


def _now() -> datetime:
    return datetime.now(UTC)


def read_patience(environment: Mapping[str, str]) -> timedelta:
    """How old a marker must be before its run counts as missed."""
    text = environment.get("WATCHDOG_MINUTES", "").strip() or _PATIENCE_MINUTES
    longest = _LONGEST_PATIENCE / timedelta(minutes=1)
    if not re.fullmatch(r"\d{1,6}(\.\d+)?", text) or not 0 < float(text) <= longest:
        raise SettingsError(
            f"WATCHDOG_MINUTES is {text!r}. Set MBD_WATCHDOG_MINUTES in .env to a number of minutes above 0 and up to "
            f"{longest:.0f}, or leave it out; then deploy."
        )
    return timedelta(minutes=float(text))


def _puts(settings: MailSettings, *, deadline: Deadline, failures: list[TriggerError]) -> list[Put]:
    """All markers that the monitored bucket holds."""
    entries = listing(settings.monitored_bucket, most=_MOST_KEYS, deadline=deadline)
    if len(entries) == _MOST_KEYS:
        text = mail.too_many_keys(_MOST_KEYS, settings=settings)
        try:
            raise_alarm(f"crowded_{_now():%Y-%m-%d}{_suffix(settings)}", text, settings=settings, deadline=deadline)
        except TriggerError as error:
            log.error("no mail about too many objects: %s", error)
            failures.append(error)
    return [Put(key, time) for key, time in entries if key.endswith(MARKER_SUFFIX)]


def _report_missed(
    puts: list[Put], *, settings: MailSettings, deadline: Deadline, failures: list[TriggerError]
) -> Iterator[str]:
    """Mail each put that has no finished run with a mail, unless that was done before; yields their keys.

    The oldest come first: where time is up, or there were mails enough, the next calls get to the others in time.
    """
    if not puts:
        return
    first = min(put.time for put in puts)
    alarms_by_key, runs_by_key = (
        names_by_key(folder, since=first, settings=settings, deadline=deadline) for folder in (ALARMS, RECEIPTS)
    )
    runs_by_put: dict[Put, list[str]] = {}
    for put in sorted(puts, key=lambda put: put.time):
        key = _key_of(put, settings=settings)
        if not any(name >= beginning(put.time) for name in alarms_by_key.get(key, [])):
            runs_by_put[put] = [name for name in runs_by_key.get(key, []) if name >= beginning(put.time)]
    every = {run for runs in runs_by_put.values() for run in runs}
    read = read_receipts(every, settings=settings, deadline=deadline.part(0.5))
    left = [(put, runs) for put, runs in runs_by_put.items() if not _has_mail_by(read, put=put, runs=runs)]
    mails = 0
    for at, (put, begun) in enumerate(left):
        if mails == _MOST_MAILS:
            log.error("%d mails are enough for now; the next call goes on", mails)
            return
        if _is_out_of_time(deadline, left=len(left) - at, what="markers", failures=failures):
            return
        try:
            # Again, though most were read above: a run may have ended since.
            found = {run: read_object(f"{RECEIPTS}{run}.json", settings=settings, deadline=deadline) for run in begun}
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
        names = names_by_key(RECEIPTS, since=due.since, settings=settings, deadline=deadline).values()
        runs = [run for one in names for run in one]
        found = read_receipts(runs, settings=settings, deadline=deadline.part(0.5))
        if any(_is_of_our_bucket(found.get(run, {}), settings=settings) for run in runs):
            return
        last = max(puts, key=lambda put: put.time, default=None)
        text = mail.no_marker(due, last=(last.key, last.time) if last else None, settings=settings)
        name = f"expected_{due.day}{_suffix(settings)}"
        if raise_alarm(name, text, settings=settings, deadline=deadline):
            yield str(due.day)
    except TriggerError as error:
        log.error("no mail about the day without a marker, %s: %s", due.day, error)
        failures.append(error)


def _is_of_our_bucket(receipt: Mapping[str, object], *, settings: MailSettings) -> bool:
    """Whether a marker in our bucket started the run; also where the receipt names none, or was not read."""
    match receipt.get("marker"):
        case {"bucket": str(bucket)}:
            return bucket == settings.monitored_bucket
        case _:
            return True


def _suffix(settings: MailSettings) -> str:
    """Ends the names of this stage's records."""
    return "" if settings.stage == _PROD else f"-{settings.stage}"


def _key_of(put: Put, *, settings: MailSettings) -> str:
    return marker_name(settings.monitored_bucket, put.key, put.time).rpartition("_")[2]


def _runs_of(put: Put, receipts: Mapping[str, Mapping[str, object]]) -> list[str]:
    """The runs of this put, by their names; where it has none, earlier ones that began after it, with what was there.

    A marker may be put twice within the tolerance of the clocks, and the event of the second may be lost.
    """
    second = f"{put.time:%Y-%m-%dT%H:%M:%S}"
    own = [run for run in receipts if run >= f"marker_{second}Z"]
    return own or [run for run in receipts if str(receipts[run].get("started_at", ""))[: len(second)] > second]


def _has_mail_by(receipts: Mapping[str, Mapping[str, object]], *, put: Put, runs: Collection[str]) -> bool:
    """Whether these receipts, which may be only some of all, are enough to say that a run of this put has its mail."""
    found = {run: receipts[run] for run in runs if run in receipts}
    return len(found) == len(runs) and any(has_mail(found[run]) for run in _runs_of(put, found))


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


def _send_notices(
    settings: MailSettings, *, now: datetime, deadline: Deadline, failures: list[TriggerError]
) -> Iterator[str]:
    """Send the mails of finished runs that SNS refused at the time; each is deleted once it is sent.

    Each hour another one comes first, so that many that SNS refuses again and again do not hold up the others.
    """
    try:
        entries = listing(settings.source_bucket, Prefix=NOTICES, deadline=deadline)
    except TriggerError as error:
        log.error("the mails that SNS refused were not looked for: %s", error)
        failures.append(error)
        return
    keys = [key for key, _ in entries if key.endswith(".json")]  # not the empty object of a folder, by the S3 console
    first = int(now.timestamp() // 3600) % len(keys) if keys else 0
    for at, key in enumerate(keys[first:] + keys[:first]):
        if _is_out_of_time(deadline, left=len(keys) - at, what="mails that SNS refused before", failures=failures):
            return
        try:
            match read_object(key, settings=settings, deadline=deadline):
                case {"TopicArn": str(topic)} if settings.stage != _PROD and topic != settings.topic_arn:
                    continue  # prod sends it, also where it names a topic of before
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


def _is_out_of_time(deadline: Deadline, *, left: int, what: str, failures: list[TriggerError]) -> bool:
    """Whether there is too little time for one more; then OutOfTimeError is one of the failures."""
    if deadline.seconds_left() >= _SECONDS_FOR_ONE:
        return False
    error = OutOfTimeError(f"Time was up before {left} {what} were looked at; the next call goes on, in an hour.")
    log.error("%s", error)
    failures.append(error)
    return True
