"""Checks, before anything is made, what AWS would refuse half-way: plan, quotas, names, image, public buckets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import boto3
from botocore.exceptions import ClientError

from infra_scripts.aws import aws_errors, error_code
from infra_scripts.checks import account
from infra_scripts.checks.finding import Finding, Level
from infra_scripts.errors import InfraError
from infra_scripts.platform import inventory
from infra_scripts.platform.account_plan import FREE_PLAN_BACKUP_DAYS, find_free_plan
from infra_scripts.platform.images import DISK_GIGABYTES, find_image
from infra_scripts.platform.stack import find_stack
from infra_scripts.settings import Settings

_UNRESERVED = 100  # AWS keeps as many concurrent executions for functions without a reservation
_ARCHITECTURE = "x86_64"  # of Airflow's public image


def new_platform(session: boto3.Session, *, settings: Settings, image_id: str) -> Iterator[Finding]:
    """Everything that a new platform needs. A check that fails becomes a finding, and the others still run."""
    checks: tuple[tuple[str, Callable[[], Iterable[Finding]]], ...] = (
        ("account", lambda: account.room(session, settings=settings)),
        ("plan", lambda: [_plan(session, settings=settings)]),
        ("image", lambda: _image(session, image_id=image_id, instance_type=settings.instance_type)),
        ("buckets", lambda: _buckets(session, settings=settings)),
        ("Lambda", lambda: [_concurrency(session, settings=settings)]),
        ("public access", lambda: _public_access(session) if settings.profile == "course" else []),
    )
    for what, check in checks:
        yield from tried(what, check, level="warning")


def tried(what: str, check: Callable[[], Iterable[Finding]], *, level: Level = "error") -> list[Finding]:
    """The findings of a check, or one of this level that says why it failed."""
    try:
        return list(check())
    except InfraError as error:
        return [Finding(level, what, str(error))]


def _plan(session: boto3.Session, *, settings: Settings) -> Finding:
    free = find_free_plan(session)
    if free is None:
        return Finding("ok", "plan", "the account is not on the free plan, which refuses some types and backups")
    wrong = []
    if settings.instance_type not in free.instance_types:
        way = f"Set MBD_INSTANCE_TYPE={free.proposed_type}" if free.proposed_type else "No type there is large enough"
        wrong.append(f"it refuses {settings.instance_type} (allowed: {', '.join(free.instance_types)}). {way}")
    if settings.backup_days > FREE_PLAN_BACKUP_DAYS:
        wrong.append(f"it refuses {settings.backup_days} days of backups. Set MBD_BACKUP_DAYS={FREE_PLAN_BACKUP_DAYS}")
    if wrong:
        text = "; ".join(wrong)
        return Finding("error", "plan", f"The account is on AWS's free plan: {text}; or upgrade the plan in Billing.")
    return Finding("ok", "plan", f"free plan, which allows {settings.instance_type} and a day of backups")


def _image(session: boto3.Session, *, image_id: str, instance_type: str) -> Iterator[Finding]:
    image = find_image(session, image_id=image_id)
    if image is None:
        yield Finding("error", "image", f"This account sees no image {image_id} in this region. Fix MBD_IMAGE_ID.")
        return
    wrong = []
    if image.architecture not in (_ARCHITECTURE, ""):
        wrong.append(f"is for {image.architecture} processors, and Airflow's image needs {_ARCHITECTURE}")
    if image.state != "available":
        wrong.append(f"is {image.state}")
    if image.gigabytes > DISK_GIGABYTES:
        wrong.append(f"needs a disk of {image.gigabytes} GB, and the instance has {DISK_GIGABYTES}")
    if wrong:
        yield Finding("error", "image", f"{image_id} {' and '.join(wrong)}. Set MBD_IMAGE_ID to another image.")
    else:
        yield Finding("ok", "image", f"{image_id} ({image.name or 'no name'})")
    architectures = _architectures(session, instance_type=instance_type)
    if architectures and _ARCHITECTURE not in architectures:
        text = f"{instance_type} has {', '.join(architectures)} processors. Set MBD_INSTANCE_TYPE to an x86_64 type."
        yield Finding("error", "processor", text)


def _architectures(session: boto3.Session, *, instance_type: str) -> list[str]:
    """Of this type; none where the region does not have it, which another check reports."""
    with aws_errors(f"read the architecture of {instance_type}"):
        found = session.client("ec2").describe_instance_types(
            Filters=[{"Name": "instance-type", "Values": [instance_type]}]
        )["InstanceTypes"]
    return [str(name) for one in found for name in one["ProcessorInfo"]["SupportedArchitectures"]]


def _buckets(session: boto3.Session, *, settings: Settings) -> Iterator[Finding]:
    own = inventory.own_buckets(session)
    has_trigger = find_stack(session, name=settings.names.trigger_stack) is not None
    for name in (settings.names.source_bucket, settings.names.monitored_bucket):
        if name == settings.names.monitored_bucket and has_trigger:
            continue
        if name in own:
            text = f"{name} is in this account already, and in no stack. Empty and delete it, or use other names."
            yield Finding("error", "bucket", text)
        elif _is_taken(session, name=name):
            text = f"{name} belongs to somebody else (names are global). Change MBD_FIRST_NAME or MBD_LAST_NAME."
            yield Finding("error", "bucket", text)
        else:
            yield Finding("ok", "bucket", f"{name} is free (after a teardown AWS may refuse it for an hour)")


def _is_taken(session: boto3.Session, *, name: str) -> bool:
    """Whether a bucket of this name exists; S3 answers 403 or a redirection for one of somebody else."""
    with aws_errors(f"ask whether the name {name} is free"):
        try:
            session.client("s3").head_bucket(Bucket=name)
        except ClientError as error:
            if error_code(error) in {"404", "NoSuchBucket"}:
                return False
            if error_code(error) not in {"403", "301", "AccessDenied"}:
                raise
    return True


def _concurrency(session: boto3.Session, *, settings: Settings) -> Finding:
    with aws_errors("read the quota of Lambda"):
        limit = session.client("lambda").get_account_settings()["AccountLimit"]["ConcurrentExecutions"]
    if settings.reserves_concurrency and limit <= _UNRESERVED:
        text = (
            f"The account's quota is {limit} concurrent executions, and AWS keeps {_UNRESERVED} unreserved. Leave "
            "MBD_RESERVED_CONCURRENCY out (nothing needs it), or request more in Service Quotas."
        )
        return Finding("error", "Lambda", text)
    return Finding("ok", "Lambda", f"the quota is {limit} concurrent executions")


def _public_access(session: boto3.Session) -> Iterator[Finding]:
    """Whether the account refuses the public bucket policy that profile course asks for."""
    number = session.client("sts").get_caller_identity()["Account"]
    with aws_errors("read the account's Block Public Access"):
        try:
            answer = session.client("s3control").get_public_access_block(AccountId=number)
        except ClientError as error:
            if error_code(error) != "NoSuchPublicAccessBlockConfiguration":
                raise
            answer = {"PublicAccessBlockConfiguration": {}}
    block = answer["PublicAccessBlockConfiguration"]
    on = [name for name in ("BlockPublicPolicy", "RestrictPublicBuckets") if block.get(name)]
    if on:
        text = (
            f"The account's Block Public Access ({', '.join(on)}) refuses the public bucket of profile course. Switch "
            "these off in the S3 console (Block Public Access settings for this account), or set MBD_PROFILE=default."
        )
        yield Finding("error", "public access", text)
    else:
        yield Finding("ok", "public access", "the account allows the public bucket of profile course")
