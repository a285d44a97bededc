"""An S3 event goes in from Lambda; what became of each record comes out, or an error, so that Lambda tries again."""

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Literal

from trigger import airflow_command
from trigger.airflow_client import Access, Server, log_in, require_unpaused, start_run, wait_until_healthy
from trigger.deadline import Deadline
from trigger.errors import LoginRefusedError, MarkersFailedError, TriggerError
from trigger.instance import wake
from trigger.s3_event import Ignored, Marker, read_records
from trigger.secret import forget_secret, read_secret
from trigger.settings import Settings, read_settings

log = logging.getLogger(__name__)
logging.getLogger("trigger").setLevel(logging.INFO)  # Lambda's root logger stands at WARNING and brings the handler

Result = dict[str, str | None]
StartRun = Callable[..., Literal["started", "already_accepted"]]
"""Takes `dag_run_id` and `conf`."""


def handler(event: object, context: object) -> dict[str, list[Result]]:
    """Start one DagRun for each marker and say for each record what was decided.

    Returns {"records": [{"bucket", "key", "outcome", "dag_run_id" or "reason"}]} in the event's order; outcome is
    "started", "already_accepted", "dry_run" or "ignored". Every marker is tried; if one has no run, its TriggerError is
    raised (MarkersFailedError for several). Lambda passes both arguments by position.
    """
    deadline = Deadline.of(context)
    settings = read_settings(os.environ)
    records = read_records(event, monitored_bucket=settings.monitored_bucket)
    markers = [record for record in records if isinstance(record, Marker)]
    start: StartRun | None = None
    if markers and not settings.dry_run:
        try:
            start = _reach_airflow(settings, deadline=deadline)
        except TriggerError as error:  # true of every marker alike, so it is asked once and not once a marker
            for marker in markers:
                _log_failure(marker, error=error)
            raise

    results: list[Result] = []
    failures: list[tuple[Marker, TriggerError]] = []
    for record in records:
        if isinstance(record, Ignored):
            results.append(_ignore(record))
        elif start is None:
            results.append(_rehearse(record, settings=settings))
        else:
            try:
                results.append(_start(record, start=start))
            except TriggerError as error:
                _log_failure(record, error=error)
                failures.append((record, error))
    _raise_for(failures, markers=len(markers))
    return {"records": results}


def _reach_airflow(settings: Settings, *, deadline: Deadline) -> StartRun:
    """See that Airflow runs and would start a run; returns what asks it to."""
    if settings.instance_id:
        wake(settings.instance_id, deadline=deadline)
    if not settings.airflow_url:
        return partial(airflow_command.start_run, instance_id=settings.instance_id, deadline=deadline)
    server = Server(url=settings.airflow_url, certificate_sha256=settings.certificate_sha256)
    if settings.instance_id:
        wait_until_healthy(server, deadline=deadline, wake=partial(wake, settings.instance_id, deadline=deadline))
    access = _log_in(server, settings=settings, deadline=deadline)
    require_unpaused(access)
    return partial(start_run, access)


def _log_in(server: Server, *, settings: Settings, deadline: Deadline) -> Access:
    """Log in; a password that was read by an earlier call may have been changed since, so it is read once more."""
    tried = read_secret(settings.password_parameter, deadline=deadline)
    try:
        return log_in(server, username=settings.username, password=tried)
    except LoginRefusedError:
        forget_secret(settings.password_parameter)
        password = read_secret(settings.password_parameter, deadline=deadline)
        if password == tried:
            raise
    return log_in(server, username=settings.username, password=password)


def _ignore(record: Ignored) -> Result:
    log.info("ignored key %r in bucket %r: %s", record.key, record.bucket, record.reason)
    return {"bucket": record.bucket, "key": record.key, "outcome": "ignored", "reason": record.reason}


def _rehearse(marker: Marker, *, settings: Settings) -> Result:
    where = settings.airflow_url or f"instance {settings.instance_id}"
    log.info("dry run: would start DagRun %s at %s for %r", marker.dag_run_id, where, marker.key)
    return {"bucket": marker.bucket, "key": marker.key, "outcome": "dry_run", "dag_run_id": marker.dag_run_id}


def _start(marker: Marker, *, start: StartRun) -> Result:
    conf = {
        "marker": {"bucket": marker.bucket, "key": marker.key, "etag": marker.etag},
        "requested_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    outcome = start(dag_run_id=marker.dag_run_id, conf=conf)
    said = "started" if outcome == "started" else "already accepted, no second run:"
    log.info("%s DagRun %s for marker %r in bucket %r", said, marker.dag_run_id, marker.key, marker.bucket)
    return {"bucket": marker.bucket, "key": marker.key, "outcome": outcome, "dag_run_id": marker.dag_run_id}


def _log_failure(marker: Marker, *, error: TriggerError) -> None:
    log.error(
        "no DagRun %s for marker %r in bucket %r: %s: %s",
        marker.dag_run_id,
        marker.key,
        marker.bucket,
        type(error).__name__,
        error,
    )


def _raise_for(failures: list[tuple[Marker, TriggerError]], *, markers: int) -> None:
    if not failures:
        return
    first = failures[0][1]
    if len(failures) == 1:
        raise first
    told = " ".join(f"{marker.key!r}: {type(error).__name__}: {error}" for marker, error in failures)
    raise MarkersFailedError(f"{len(failures)} of {markers} markers of one event became no DagRun. {told}") from first
