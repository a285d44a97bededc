"""An S3 event goes in from Lambda; what became of each record comes out, or an error, so that Lambda tries again."""

import logging
import os
from datetime import UTC, datetime

from trigger.airflow_client import Access, log_in, require_unpaused, start_run
from trigger.errors import MarkersFailedError, TriggerError
from trigger.s3_event import Ignored, Marker, read_records
from trigger.settings import read_settings

log = logging.getLogger(__name__)
logging.getLogger("trigger").setLevel(logging.INFO)  # Lambda's root logger stands at WARNING and brings the handler

Result = dict[str, str | None]


def handler(event: object, context: object) -> dict[str, list[Result]]:  # noqa: ARG001
    """Start one DagRun for each marker and say for each record what was decided.

    Returns {"records": [{"bucket", "key", "outcome", "dag_run_id" or "reason"}]} in the event's order; outcome is
    "started", "already_accepted" or "ignored". Every marker is tried; if one has no run, its TriggerError is raised
    (MarkersFailedError for several). Lambda passes both arguments by position.
    """
    settings = read_settings(os.environ)
    records = read_records(event, monitored_bucket=settings.monitored_bucket)
    markers = [record for record in records if isinstance(record, Marker)]
    access = None
    if markers:
        try:
            access = log_in(settings)
            require_unpaused(access)
        except TriggerError as error:  # true of every marker alike, so it is asked once and not once a marker
            for marker in markers:
                _log_failure(marker, error=error)
            raise

    results: list[Result] = []
    failures: list[tuple[Marker, TriggerError]] = []
    for record in records:
        if isinstance(record, Ignored):
            results.append(_ignore(record))
        elif access:
            try:
                results.append(_start(record, access=access))
            except TriggerError as error:
                _log_failure(record, error=error)
                failures.append((record, error))
    _raise_for(failures, markers=len(markers))
    return {"records": results}


def _ignore(record: Ignored) -> Result:
    log.info("ignored key %r in bucket %r: %s", record.key, record.bucket, record.reason)
    return {"bucket": record.bucket, "key": record.key, "outcome": "ignored", "reason": record.reason}


def _start(marker: Marker, *, access: Access) -> Result:
    conf = {
        "marker": {"bucket": marker.bucket, "key": marker.key, "etag": marker.etag},
        "requested_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    outcome = start_run(access, dag_run_id=marker.dag_run_id, conf=conf)
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
