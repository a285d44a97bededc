"""Starts one DagRun for each marker of an S3 event; an error makes Lambda try again."""

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from trigger import airflow_command
from trigger.airflow_client import Access, Server, log_in, require_unpaused, start_run, wait_until_healthy
from trigger.deadline import Deadline
from trigger.errors import LoginRefusedError, MarkersFailedError, TriggerError
from trigger.instance import wake
from trigger.s3_event import Ignored, Marker, read_records
from trigger.secret import forget_secret, read_secret
from trigger.settings import Settings, read_settings
from trigger.states import Outcome

log = logging.getLogger(__name__)
logging.getLogger("trigger").setLevel(logging.INFO)  # Lambda's root logger has level WARNING

Result = dict[str, str | None]
StartRun = Callable[..., Outcome]
"""Takes `dag_run_id` and `conf`; returns STARTED or ALREADY_ACCEPTED."""


def handler(event: object, context: object) -> dict[str, list[Result]]:
    """Returns {"records": [{"bucket", "key", "outcome", "dag_run_id" or "reason"}]} in the event's order.

    Every marker is tried; if one gets no run, its TriggerError is raised (MarkersFailedError for several). Lambda
    passes both arguments by position.
    """
    deadline = Deadline.of(context)
    settings = read_settings(os.environ)
    records = read_records(event, monitored_bucket=settings.monitored_bucket)
    markers = [record for record in records if isinstance(record, Marker)]
    start: StartRun | None = None
    if markers and not settings.dry_run:
        try:
            start = _reach_airflow(settings, deadline=deadline)
        except TriggerError as error:  # the same for every marker, so Airflow is asked only once
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
    """Check that Airflow is up and would start a run; returns the function that asks for one."""
    if settings.instance_id:
        wake(settings.instance_id, deadline=deadline)
    if not settings.airflow_url:
        return partial(airflow_command.start_run, instance_id=settings.instance_id, deadline=deadline)
    server = Server(url=settings.airflow_url, certificate_sha256=settings.certificate_sha256)
    if settings.instance_id:
        wait_until_healthy(server, deadline=deadline, wake=partial(wake, settings.instance_id, deadline=deadline))
    access = _access(server, settings=settings, deadline=deadline)
    require_unpaused(access)
    return partial(start_run, access)


def _access(server: Server, *, settings: Settings, deadline: Deadline) -> Access:
    """Log in. If the password is refused, read it again: it may have changed since an earlier call read it."""
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
    return {"bucket": record.bucket, "key": record.key, "outcome": Outcome.IGNORED, "reason": record.reason}


def _rehearse(marker: Marker, *, settings: Settings) -> Result:
    where = settings.airflow_url or f"instance {settings.instance_id}"
    log.info("dry run: would start DagRun %s at %s for %r", marker.dag_run_id, where, marker.key)
    return {"bucket": marker.bucket, "key": marker.key, "outcome": Outcome.DRY_RUN, "dag_run_id": marker.dag_run_id}


def _start(marker: Marker, *, start: StartRun) -> Result:
    conf = {
        "marker": {"bucket": marker.bucket, "key": marker.key, "etag": marker.etag},
        "requested_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    outcome = start(dag_run_id=marker.dag_run_id, conf=conf)
    verb = "started" if outcome == Outcome.STARTED else "already accepted, no second run:"
    log.info("%s DagRun %s for marker %r in bucket %r", verb, marker.dag_run_id, marker.key, marker.bucket)
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
    each = " ".join(f"{marker.key!r}: {type(error).__name__}: {error}" for marker, error in failures)
    raise MarkersFailedError(f"{len(failures)} of {markers} markers of one event started no DagRun. {each}") from first
