"""Lists everything that the pipeline has in an account, each kind through its own service's API.

What the course's clean-up list names is in its words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import ClientError

from infra_scripts.aws import aws_errors, error_code
from infra_scripts.names import Names
from infra_scripts.platform.airflow_secrets import remaining
from infra_scripts.platform.machines import find_database
from infra_scripts.platform.mails import subscriptions
from infra_scripts.platform.stack import find_stack
from infra_scripts.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef

DATABASE = "PostgreSQL RDS instance"
SOURCE_BUCKET = "source S3 bucket"

_ABSENT = {"404", "NoSuchBucket", "NoSuchEntity", "ResourceNotFoundException", "NotFound", "NotFoundException"}
_GONE = ["terminated", "shutting-down"]
_LOGS = "/aws/lambda/"


@dataclass(frozen=True, kw_only=True)
class Item:
    """One line of the list: a kind of thing, and the names of those that exist."""

    kind: str
    found: tuple[str, ...]


def take(session: boto3.Session, *, settings: Settings) -> list[Item]:
    """Look for everything; an item with nothing found is gone."""
    names = settings.names
    looks: tuple[tuple[str, Callable[[], list[str]]], ...] = (
        ("trigger's stack", lambda: _stacks(session, *trigger_stacks(session, names=names))),
        ("event-based Lambda function", lambda: _functions(session, names)),
        ("event-based S3 bucket", lambda: monitored_buckets(session, names=names)),
        (DATABASE, lambda: [names.database] if find_database(session, identifier=names.database) else []),
        (SOURCE_BUCKET, lambda: bucket(session, name=names.source_bucket)),
        ("containerised Airflow pipeline", lambda: _instances(session, names)),
        ("SNS topics and subscriptions", lambda: _topics(session, names)),
        ("log group", lambda: log_groups(session, names=names)),
        ("EBS volume", lambda: _volumes(session, names)),
        ("Elastic IP", lambda: _elastic_ips(session, names)),
        ("security group", lambda: _groups(session, names)),
        ("IAM role", lambda: _roles(session, names)),
        ("database's secret", lambda: _secrets(session, names)),
        ("SSM parameters", lambda: remaining(session, settings=settings)),
        ("platform's stack", lambda: _stacks(session, names.platform_stack)),
    )
    items = []
    for kind, look in looks:
        with aws_errors(f"look for the {kind}"):
            items.append(Item(kind=kind, found=tuple(look())))
    return items


def bucket(session: boto3.Session, *, name: str) -> list[str]:
    """The bucket, where it is this account's: somebody else may have taken the name, which is global."""
    return [name] if name in own_buckets(session) else []


def own_buckets(session: boto3.Session) -> set[str]:
    with aws_errors("list the account's buckets"):
        return {one["Name"] for one in session.client("s3").list_buckets()["Buckets"]}


def snapshots(session: boto3.Session, *, settings: Settings) -> list[str]:
    """Snapshots that remain when the database is gone: the final one and manual ones."""
    identifier = settings.names.database
    with aws_errors(f"look for snapshots of {identifier}"):
        pages = session.client("rds").get_paginator("describe_db_snapshots")
        return [
            one["DBSnapshotIdentifier"]
            for page in pages.paginate(SnapshotType="manual")
            for one in page["DBSnapshots"]
            if one["DBInstanceIdentifier"] == identifier
        ]


def _unless_absent(call: Callable[[], object], *, name: str) -> list[str]:
    try:
        call()
    except ClientError as error:
        if error_code(error) in _ABSENT:
            return []
        raise
    return [name]


def log_groups(session: boto3.Session, *, names: Names) -> list[str]:
    """Those of the functions: an invocation that ends after the stack was removed makes its own again."""
    pages = session.client("logs").get_paginator("describe_log_groups")
    found = pages.paginate(logGroupNamePrefix=f"{_LOGS}{names.prefix}-")  # also of people whose name goes on
    every = [one["logGroupName"] for page in found for one in page["logGroups"]]
    return [name for name in every if names.is_function(name.removeprefix(_LOGS))]


def _functions(session: boto3.Session, names: Names) -> list[str]:
    pages = session.client("lambda").get_paginator("list_functions").paginate()
    every = [one["FunctionName"] for page in pages for one in page["Functions"]]
    return [name for name in every if names.is_function(name)]


def trigger_stacks(session: boto3.Session, *, names: Names) -> list[str]:
    """The name of each stage's stack of the trigger."""
    with aws_errors("look for the trigger's stacks"):
        pages = session.client("cloudformation").get_paginator("describe_stacks").paginate()
        every = [one for page in pages for one in page["Stacks"] if one["StackStatus"] != "DELETE_COMPLETE"]
    return [one["StackName"] for one in every if names.is_trigger_stack(one["StackName"])]


def monitored_buckets(session: boto3.Session, *, names: Names) -> list[str]:
    """The bucket of markers, and that of each other stage that is deployed."""
    stacks = {names.trigger_stack, *trigger_stacks(session, names=names)}
    wanted = {names.monitored_bucket + stack.removeprefix(names.trigger_stack) for stack in stacks}
    return sorted(wanted & own_buckets(session))


def _stacks(session: boto3.Session, *wanted: str) -> list[str]:
    found = [find_stack(session, name=name) for name in wanted]
    return [f"{one.name} ({one.state})" for one in found if one and one.state != "DELETE_COMPLETE"]


def _instances(session: boto3.Session, names: Names) -> list[str]:
    filters: list[FilterTypeDef] = [{"Name": "tag:Name", "Values": [names.instance]}]
    pages = session.client("ec2").get_paginator("describe_instances").paginate(Filters=filters)
    every = [one for page in pages for group in page["Reservations"] for one in group["Instances"]]
    return [one["InstanceId"] for one in every if one["State"]["Name"] not in _GONE]


def _volumes(session: boto3.Session, names: Names) -> list[str]:
    filters: list[FilterTypeDef] = [{"Name": "tag:Name", "Values": [names.instance]}]
    pages = session.client("ec2").get_paginator("describe_volumes").paginate(Filters=filters)
    return [one["VolumeId"] for page in pages for one in page["Volumes"] if one["State"] != "deleting"]


def _elastic_ips(session: boto3.Session, names: Names) -> list[str]:
    filters: list[FilterTypeDef] = [{"Name": "tag:Name", "Values": [names.address]}]
    found = session.client("ec2").describe_addresses(Filters=filters)["Addresses"]
    return [one["PublicIp"] for one in found]


def _groups(session: boto3.Session, names: Names) -> list[str]:
    filters: list[FilterTypeDef] = [{"Name": "group-name", "Values": [names.security_group]}]
    found = session.client("ec2").describe_security_groups(Filters=filters)["SecurityGroups"]
    return [one["GroupId"] for one in found]


def _roles(session: boto3.Session, names: Names) -> list[str]:
    iam = session.client("iam")
    return [
        *_unless_absent(lambda: iam.get_role(RoleName=names.role), name=names.role),
        *_unless_absent(
            lambda: iam.get_instance_profile(InstanceProfileName=names.role), name=f"instance profile {names.role}"
        ),
    ]


def _secrets(session: boto3.Session, names: Names) -> list[str]:
    client = session.client("secretsmanager")
    return _unless_absent(lambda: client.describe_secret(SecretId=names.database_secret), name=names.database_secret)


def _topics(session: boto3.Session, names: Names) -> list[str]:
    pages = session.client("sns").get_paginator("list_topics").paginate()
    every = [one["TopicArn"] for page in pages for one in page["Topics"]]
    mine = [arn for arn in every if arn.rpartition(":")[2] in {names.topic, names.alarm_topic}]
    return mine + [one["address"] for arn in mine for one in subscriptions(session, topic_arn=arn)]
