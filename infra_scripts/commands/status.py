"""`status`: shows the state of stacks, instance, database and subscriptions, and the receipts of the last runs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

import boto3

from infra_scripts.aws import aws_errors, open_session
from infra_scripts.console import result
from infra_scripts.platform import machines
from infra_scripts.platform.mails import subscriptions
from infra_scripts.platform.stack import find_stack, platform_outputs
from infra_scripts.settings import read_settings

HELP = "show the state of instance, database, subscriptions and the last runs"
EXAMPLES = ["status", "status --last 20"]
_RECEIPTS = "Output/receipts/"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--last", metavar="N", type=_count, default=5, help="how many runs to show (default: 5)")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def run(options: argparse.Namespace, *, environment: Mapping[str, str]) -> int:
    settings = read_settings(environment)
    session = open_session(settings)
    outputs = platform_outputs(session, settings=settings)
    platform = find_stack(session, name=settings.names.platform_stack)
    trigger = find_stack(session, name=settings.names.trigger_stack)
    now = machines.read_machines(session, settings=settings, instance_id=outputs["InstanceId"])
    mails = subscriptions(session, topic_arn=outputs["TopicArn"])
    runs = last_runs(session, bucket=outputs["SourceBucket"], count=options.last)
    facts = {
        "platform": platform.state if platform else "absent",
        "trigger": trigger.state if trigger else "absent",
        "instance": now.instance,
        "static_ip": outputs["StaticIp"],
        "database": now.database,
        "database_version": now.database_version,
        "database_host": outputs["DatabaseHost"],
        "database_port": int(outputs["DatabasePort"]),
        "database_name": outputs["DatabaseName"],
        "database_starts_itself": now.database_starts_itself,
        "subscriptions": mails,
        "runs": runs,
    }
    restart = f", AWS starts it again on {now.database_starts_itself:%Y-%m-%d}" if now.database_starts_itself else ""
    lines = [
        f"platform      {facts['platform']}, profile {outputs['Profile']}, {settings.region}",
        f"trigger       {facts['trigger']}" + ("" if trigger else ": run make deploy"),
        f"instance      {now.instance}, {now.instance_id} at {outputs['StaticIp']}",
        f"database      {now.database}, PostgreSQL {now.database_version}{restart}",
        f"              {outputs['DatabaseName']} at {outputs['DatabaseHost']}:{outputs['DatabasePort']}",
        *(f"mail          {one['address']}: {one['state']}" for one in mails),
        *(_describe_run(one) for one in runs),
    ]
    if not runs:
        lines.append("runs          none yet: run upload, then trigger")
    result("\n".join(lines), facts=facts, options=options)
    return 0


def last_runs(session: boto3.Session, *, bucket: str, count: int) -> list[dict[str, Any]]:
    """The last `count` receipts, newest first; one that cannot be read has the state `unreadable`."""
    s3 = session.client("s3")
    with aws_errors(f"read receipts in s3://{bucket}/{_RECEIPTS}"):
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=_RECEIPTS)
        objects = [one for page in pages for one in page.get("Contents", []) if one["Key"].endswith(".json")]
        newest = sorted(objects, key=lambda one: one["LastModified"], reverse=True)[:count]
        texts = {one["Key"]: s3.get_object(Bucket=bucket, Key=one["Key"])["Body"].read() for one in newest}
    return [_receipt(key, text) for key, text in texts.items()]


def _receipt(key: str, text: bytes) -> dict[str, Any]:
    try:
        receipt = json.loads(text)
        return {
            name: receipt.get(name) for name in ("run_id", "state", "started_at", "elapsed_seconds", "rows", "error")
        }
    except (ValueError, AttributeError):
        return {"run_id": key, "state": "unreadable"}


def _describe_run(run: Mapping[str, Any]) -> str:
    rows = run.get("rows") or {}
    started = str(run.get("started_at") or "")[:19].replace("T", " ")
    moved = f", {rows['inserted']:,} rows inserted" if rows.get("inserted") is not None else ""
    error = f": {run['error']}" if run.get("error") else ""
    return f"run           {started} {run['state']}{moved}{error} ({run['run_id']})"
