"""`teardown`: removes everything, data only after a second confirmation, and verifies that each item is gone."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

import boto3
from botocore.exceptions import ClientError

from infra_scripts.aws import aws_errors, open_session
from infra_scripts.console import confirm, progress, result
from infra_scripts.environment import read_file, remove_values
from infra_scripts.errors import RefusedError
from infra_scripts.platform import airflow_secrets, inventory
from infra_scripts.platform.database import prepare_deletion
from infra_scripts.platform.inventory import Item
from infra_scripts.platform.repair import delete_stack
from infra_scripts.platform.stack import find_stack
from infra_scripts.settings import Settings, read_settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import (
        DeleteMarkerEntryTypeDef,
        ErrorTypeDef,
        ObjectIdentifierTypeDef,
        ObjectVersionTypeDef,
    )

    Version = DeleteMarkerEntryTypeDef | ObjectVersionTypeDef

HELP = "remove everything, and verify that it is gone"
EXAMPLES = ["teardown --dry-run", "teardown", "teardown --yes --delete-data --delete-snapshots"]
_LAST_COPIES = " The database's snapshots go too, the last copies of its rows."
_DATA = {inventory.SOURCE_BUCKET, inventory.DATABASE}
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # w3.org/TR/xml/#charsets
_WRITTEN_BY_APPLY = ("MBD_TOPIC_ARN", "MBD_INSTANCE_ID", "AIRFLOW_URL")  # and MBD_TRANSPORT


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--delete-data",
        action="store_true",
        help="agree to lose the source bucket's objects and the database",
    )
    parser.add_argument(
        "--delete-snapshots",
        action="store_true",
        help="delete the database's snapshots too; otherwise the final one stays and costs",
    )


def run(options: argparse.Namespace, *, environment: Mapping[str, str]) -> int:
    settings = read_settings(environment)
    session = open_session(settings)
    items = inventory.take(session, settings=settings)
    there = [item for item in items if item.found]
    if options.dry_run:
        _report(session, items, settings=settings, options=options)
        return 0
    snapshots = inventory.snapshots(session, settings=settings) if options.delete_snapshots else []
    for item in there:
        progress(f"found  {item.kind}: {', '.join(item.found)}")
    if snapshots:
        progress(f"found  snapshots: {', '.join(snapshots)}")
    if there or snapshots:
        _confirm_loss(there, settings=settings, options=options)
    if there:
        _refuse_while_trigger_exists(session, settings=settings)
        _remove(session, settings=settings)
    if options.delete_snapshots:
        _delete_snapshots(session, settings=settings)
    left = inventory.take(session, settings=settings)
    _report(session, left, settings=settings, options=options)
    if any(item.found for item in left):
        progress("What is left belongs to no stack. Remove it in the console, then run teardown again.")
        return RefusedError.exit_code
    _clean(options.env_file)
    return 0


def _clean(env_file: Path) -> None:
    """Remove what `apply` wrote about the platform. What a person set stays, and so do the secrets of `make env`.

    `apply` also writes MBD_TRANSPORT: `ssm` is the default, but `http` was somebody's choice.
    """
    stale = [*_WRITTEN_BY_APPLY, *(["MBD_TRANSPORT"] if read_file(env_file).get("MBD_TRANSPORT") == "ssm" else [])]
    if removed := remove_values(env_file, stale):
        progress(f"{env_file}: removed {', '.join(removed)}, which apply had written. Your settings and secrets stay.")


def _confirm_loss(there: list[Item], *, settings: Settings, options: argparse.Namespace) -> None:
    if _DATA & {item.kind for item in there} and not options.delete_data:
        confirm(
            "This deletes the company files, all outputs and receipts, and the table's rows (--delete-data agrees)."
            + _LAST_COPIES * options.delete_snapshots,
            options=options,
            word=settings.names.source_bucket,
        )
    else:
        confirm("This removes all of the above." + _LAST_COPIES * options.delete_snapshots, options=options)


def _refuse_while_trigger_exists(session: boto3.Session, *, settings: Settings) -> None:
    """Only the Serverless Framework can remove the trigger's stacks, and it needs empty buckets: empty them."""
    stacks = inventory.trigger_stacks(session, names=settings.names)
    if not stacks:
        return
    for bucket in inventory.monitored_buckets(session, names=settings.names):
        empty(session, bucket=bucket)
    stages = [stack.removeprefix(settings.names.trigger_stack)[1:] for stack in stacks]
    commands = [f"`make undeploy{f' STAGE={stage}' if stage else ''}`" for stage in stages]
    raise RefusedError(
        f"The trigger is still deployed (stack {', '.join(stacks)}). Its bucket is empty now. "
        f"Run {' and '.join(commands)}, then teardown again."
    )


def _remove(session: boto3.Session, *, settings: Settings) -> None:
    name = settings.names.platform_stack
    if inventory.bucket(session, name=settings.names.source_bucket):
        empty(session, bucket=settings.names.source_bucket)
    prepare_deletion(session, identifier=settings.names.database)
    if find_stack(session, name=name):
        progress(
            f"CloudFormation is deleting {name}. This takes some ten minutes. After Ctrl-C, teardown again continues."
        )
        delete_stack(session, name=name)
    for group in inventory.log_groups(session, names=settings.names):
        with aws_errors(f"delete the log group {group}"):
            session.client("logs").delete_log_group(logGroupName=group)
    airflow_secrets.delete_all(session, settings=settings)


def empty(session: boto3.Session, *, bucket: str) -> None:
    """Delete every version of every object, and unfinished uploads."""
    s3 = session.client("s3")
    gone = 0
    with aws_errors(f"empty the bucket {bucket}"):
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
            versions = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            if not versions:
                continue
            if refused := _delete(s3, versions, bucket=bucket):
                first = refused[0]
                with aws_errors(f"delete {len(refused)} objects of {bucket}, such as {first.get('Key')}"):
                    code, text = first.get("Code", ""), first.get("Message", "")
                    raise ClientError({"Error": {"Code": code, "Message": text}}, "DeleteObjects")
            gone += len(versions)
            progress(f"{bucket}: {gone:,} versions deleted")
        for uploads in _uploads(s3, bucket=bucket):
            for key, upload_id in uploads:
                s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)


def _delete(s3: S3Client, versions: Sequence[Version], *, bucket: str) -> Sequence[ErrorTypeDef]:
    """Delete these versions; returns S3's refusals. A key that XML cannot carry would fail the call for many."""
    together: list[ObjectIdentifierTypeDef] = []
    for one in versions:
        if _NOT_IN_XML.search(one["Key"]):
            s3.delete_object(Bucket=bucket, Key=one["Key"], VersionId=one["VersionId"])
        else:
            together.append({"Key": one["Key"], "VersionId": one["VersionId"]})
    if not together:
        return []
    return s3.delete_objects(Bucket=bucket, Delete={"Objects": together, "Quiet": True}).get("Errors", [])


def _uploads(s3: S3Client, *, bucket: str) -> Iterator[list[tuple[str, str]]]:
    """Key and id of each unfinished upload, by page; asks for URL encoding, as a key may be none that XML can carry."""
    after: dict[str, Any] = {}
    is_last = False
    while not is_last:
        page = s3.list_multipart_uploads(Bucket=bucket, EncodingType="url", **after)
        read = unquote_plus if page.get("EncodingType") == "url" else str
        yield [(read(one["Key"]), one["UploadId"]) for one in page.get("Uploads", [])]
        is_last = not page.get("IsTruncated")
        if not is_last:
            after = {"KeyMarker": read(page["NextKeyMarker"]), "UploadIdMarker": page["NextUploadIdMarker"]}


def _delete_snapshots(session: boto3.Session, *, settings: Settings) -> None:
    for snapshot in inventory.snapshots(session, settings=settings):
        with aws_errors(f"delete the snapshot {snapshot}"):
            session.client("rds").delete_db_snapshot(DBSnapshotIdentifier=snapshot)


def _report(session: boto3.Session, items: list[Item], *, settings: Settings, options: argparse.Namespace) -> None:
    """Print the list, ticked where a thing is gone, and what stays on purpose."""
    kept = inventory.snapshots(session, settings=settings)
    lines = [f"[{' ' if item.found else 'x'}] {item.kind:<30} {', '.join(item.found) or 'gone'}" for item in items]
    if kept:
        lines.append(f"Kept, and charged for: snapshots {', '.join(kept)}. `teardown --delete-snapshots` deletes them.")
    if settings.key_name:
        lines.append(f"Yours, and not touched: the key pair {settings.key_name}.")
    facts = {"left": {item.kind: list(item.found) for item in items if item.found}, "snapshots": kept}
    result("\n".join(lines), facts=facts, options=options)
