"""The instance and the database: their states, and when AWS acts on them by itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import ClientError

from infra_scripts.aws import aws_errors, error_code
from infra_scripts.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_rds.type_defs import DBInstanceTypeDef

DAYS_STOPPED = 7  # docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_StopInstance.html


@dataclass(frozen=True, kw_only=True)
class Machines:
    """How the two are now; `absent` where there is none."""

    instance_id: str
    instance: str
    instance_since: datetime | None = None
    database_id: str
    database: str
    database_version: str = ""
    database_starts_itself: datetime | None = None
    """When AWS starts a stopped database again."""


def look(session: boto3.Session, *, settings: Settings, instance_id: str) -> Machines:
    """Both states. A stopped database whose date AWS does not tell is taken to start in seven days at the latest."""
    state, since = _instance(session, instance_id=instance_id)
    database = find_database(session, identifier=settings.names.database)
    status = database["DBInstanceStatus"] if database else "absent"
    starts = database.get("AutomaticRestartTime") if database else None
    if starts is None and status in {"stopped", "stopping"}:
        starts = datetime.now().astimezone() + timedelta(days=DAYS_STOPPED)
    return Machines(
        instance_id=instance_id,
        instance=state,
        instance_since=since,
        database_id=settings.names.database,
        database=status,
        database_version=database["EngineVersion"] if database else "",
        database_starts_itself=starts,
    )


def find_database(session: boto3.Session, *, identifier: str) -> DBInstanceTypeDef | None:
    with aws_errors(f"look at the database {identifier}"):
        try:
            client = session.client("rds")
            return client.describe_db_instances(DBInstanceIdentifier=identifier)["DBInstances"][0]
        except ClientError as error:
            if error_code(error) in {"DBInstanceNotFound", "DBInstanceNotFoundFault"}:
                return None
            raise


def _instance(session: boto3.Session, *, instance_id: str) -> tuple[str, datetime | None]:
    with aws_errors(f"look at the instance {instance_id}"):
        try:
            found = session.client("ec2").describe_instances(InstanceIds=[instance_id])
        except ClientError as error:
            if error_code(error).startswith("InvalidInstanceID"):
                return "absent", None
            raise
    for group in found["Reservations"]:
        for one in group["Instances"]:
            return one["State"]["Name"], one.get("LaunchTime")
    return "absent", None
