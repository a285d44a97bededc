"""Puts the figures of a run into CloudWatch, one call a run."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from etl.batch.aws import Aws, aws_errors
from etl.outcome.receipt import Receipt

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.literals import StandardUnitType

_PUT_AT = re.compile(r"marker_(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)_")


def put_metrics(receipt: Receipt, *, namespace: str, aws: Aws) -> None:
    """Put Rows, RowsRejected, FilesQuarantined (counts), Seconds and Age (seconds), without dimensions.

    Raises SettingsError or ServiceError.
    """
    files, rows = receipt.files, receipt.rows
    counts = {"Rows": rows.accepted, "RowsRejected": rows.rejected, "FilesQuarantined": files.quarantined}
    seconds = {"Seconds": receipt.elapsed_seconds, "Age": age_seconds(receipt)}
    units: list[tuple[StandardUnitType, dict[str, float]]] = [("Count", {**counts}), ("Seconds", seconds)]
    client = aws.cloudwatch
    with aws_errors(f"put metrics into the namespace {namespace}"):
        client.put_metric_data(
            Namespace=namespace,
            MetricData=[
                {"MetricName": name, "Value": value, "Unit": unit}
                for unit, values in units
                for name, value in values.items()
            ],
        )


def age_seconds(receipt: Receipt) -> float:
    """How old the batch was when its run ended: since its marker was put, or else since the run began."""
    found = _PUT_AT.match(receipt.run_id)
    ended = receipt.started_at + timedelta(seconds=receipt.elapsed_seconds)
    put_at = datetime.fromisoformat(found[1]) if found else receipt.started_at
    return max((ended - put_at.astimezone(UTC)).total_seconds(), 0.0)
