"""`trigger`: puts a marker into the monitored bucket; with --wait, follows the run and prints its receipt."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from infra_scripts.aws import aws_errors, error_code, open_session
from infra_scripts.console import progress, result
from infra_scripts.errors import AwsError, RefusedError
from infra_scripts.settings import Settings, read_settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

HELP = "put the marker that starts a run"
EXAMPLES = ["trigger", "trigger --wait --timeout 30"]

RECEIPTS = "Output/receipts/"
# The trigger names runs `marker_{time of the put}_{hash of bucket and key}_{hash of the put}`.
_RUN = "marker_"
_SECONDS_BETWEEN_LOOKS = 3.0
_MAILED = {"sent", "kept"}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--wait", action="store_true", help="follow the run until it ends, and print its receipt")
    parser.add_argument(
        "--timeout",
        type=_timeout,
        default=60,
        metavar="MINUTES",
        help="stop waiting after this time, while the run continues (default: 60)",
    )


def _timeout(text: str) -> float:
    minutes = float(text)
    if not 0 < minutes < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of minutes above 0")
    return minutes


def run(options: argparse.Namespace, *, environment: Mapping[str, str]) -> int:
    """Put the marker; with --wait, the exit code is 1 when the run has failed."""
    settings = read_settings(environment)
    bucket = settings.names.monitored_bucket
    key = f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%S.%fZ}.SUCCESS"  # another one for each call
    facts: dict[str, Any] = {"marker": f"s3://{bucket}/{key}", "dry_run": options.dry_run}
    s3 = open_session(settings).client("s3")
    if options.dry_run:
        _require_bucket(s3, bucket=bucket)
        result(f"Dry run: {facts['marker']} would be put.", facts=facts, options=options)
        return 0
    put_at = _put_marker(s3, bucket=bucket, key=key)
    if not options.wait:
        text = f"Put {facts['marker']}.\nNext: python -m infra_scripts status, or wait for the mail."
        result(text, facts=facts, options=options)
        return 0
    progress(f"put {facts['marker']}; waiting for the run's receipt (a stopped instance needs a few minutes)")
    receipt = _follow(s3, settings=settings, marker=key, since=put_at, seconds=options.timeout * 60)
    result(_receipt_text(receipt), facts={**facts, "receipt": receipt}, options=options)
    return 0 if receipt["state"] == "success" else 1


def _put_marker(s3: S3Client, *, bucket: str, key: str) -> datetime:
    """Put it; returns the time by S3's clock, which the run's name also has."""
    with aws_errors(f"put s3://{bucket}/{key}"):
        try:
            answer = s3.put_object(Bucket=bucket, Key=key, Body=b"")
        except ClientError as error:
            if error_code(error) != "NoSuchBucket":
                raise
            raise _no_bucket(bucket) from error
    return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])


def _require_bucket(s3: S3Client, *, bucket: str) -> None:
    with aws_errors(f"find the bucket {bucket}"):
        try:
            s3.list_objects_v2(Bucket=bucket, MaxKeys=1)  # HeadBucket would not say why it was refused
        except ClientError as error:
            if error_code(error) != "NoSuchBucket":
                raise
            raise _no_bucket(bucket) from error


def _no_bucket(bucket: str) -> RefusedError:
    return RefusedError(f"There is no bucket {bucket}. It is part of the trigger: run make deploy first.")


def _follow(s3: S3Client, *, settings: Settings, marker: str, since: datetime, seconds: float) -> dict[str, Any]:
    """The receipt of the marker's run, once that run has ended.

    Each failed try of a task writes `failed`, while Airflow may try it again and other shards go on. The run has failed
    once its mail says so; where none comes, the receipt is returned after `seconds`. Raises AwsError where it does
    not say `failed` then.
    """
    deadline = time.monotonic() + seconds
    key, before = "", dict[str, Any]()
    while time.monotonic() < deadline:
        if not key:
            key = _receipt_of(s3, settings=settings, marker=marker, since=since)
            if key:
                progress(f"run {key.removeprefix(RECEIPTS).removesuffix('.json')} has started")
        if key:
            receipt = _read(s3, bucket=settings.source_bucket, key=key)
            if receipt["state"] not in {"running", "failed"}:
                return receipt
            if receipt["state"] == "failed" and receipt.get("mail") in _MAILED:
                return receipt
            if receipt["state"] == "failed" and receipt != before:
                progress(f"a try has failed ({receipt['error']}); waiting for the run's mail, as Airflow may try again")
            before = receipt
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    if before.get("state") == "failed":
        progress(f"no mail about the run's end within {seconds / 60:.0f} minutes: it may still go on")
        return before
    missing = f"The run of {key} has not ended" if key else "No run has started"
    raise AwsError(
        f"{missing} within {seconds / 60:.0f} minutes. The marker was put, so it may still come. Look at python -m "
        "infra_scripts status and check, and at the log group of the trigger's function in CloudWatch."
    )


def _receipt_of(s3: S3Client, *, settings: Settings, marker: str, since: datetime) -> str:
    """The key of the receipt of the marker's run; empty while there is none."""
    # As trigger/s3_event.py makes it.
    own = hashlib.sha256(json.dumps([settings.names.monitored_bucket, marker]).encode()).hexdigest()[:10]
    # The event's time and the answer's may differ by a second.
    start = f"{RECEIPTS}{_RUN}{since - timedelta(seconds=2):%Y-%m-%dT%H:%M:%SZ}"
    with aws_errors(f"list s3://{settings.source_bucket}/{RECEIPTS}"):
        pages = s3.get_paginator("list_objects_v2").paginate(
            Bucket=settings.source_bucket, Prefix=RECEIPTS + _RUN, StartAfter=start
        )
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
    return next((key for key in keys if f"Z_{own}_" in key), "")


def _read(s3: S3Client, *, bucket: str, key: str) -> dict[str, Any]:
    with aws_errors(f"read s3://{bucket}/{key}"):
        receipt: dict[str, Any] = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    return receipt


def _receipt_text(receipt: Mapping[str, Any]) -> str:
    files, rows = receipt["files"], receipt["rows"]
    lines = [
        f"{receipt['state']}: run {receipt['run_id']}, {receipt['elapsed_seconds']:.1f} s",
        f"files  {files['listed']:,} listed = {files['accepted']:,} accepted + {files['quarantined']:,} quarantined"
        f" + {files['missing']:,} missing",
        f"rows   {rows['read']:,} read = {rows['accepted']:,} accepted + {rows['rejected']:,} rejected",
    ]
    if rows.get("inserted") is not None:
        lines.append(
            f"table  {rows['inserted']:,} inserted, {rows['unchanged']:,} unchanged, {rows['deleted']:,} deleted"
        )
    if receipt.get("error"):
        lines.append(f"error  {receipt['error']}")
    lines += [f"note   {note}" for note in receipt.get("notes", ())]
    return "\n".join(lines)
