"""Reads the states of the instance and the database, and when AWS starts the database on its own."""

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

_DAYS_STOPPED = 7  # docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_StopInstance.html


@dataclass(frozen=True, kw_only=True)
class Machines:
    """The state of each; `absent` where there is none."""

    instance_id: str
    instance: str
    database_id: str
    database: str
    database_version: str = ""
    database_is_protected: bool = False
    """Whether nobody can delete it by mistake; `apply` switches that on."""
    database_starts_itself: datetime | None = None
    """When AWS starts a stopped database again, in any case."""


def in_seven_days() -> datetime:
    """When AWS starts a database again that is stopped now."""
    return datetime.now().astimezone() + timedelta(days=_DAYS_STOPPED)


def read_machines(session: boto3.Session, *, settings: Settings, instance_id: str) -> Machines:
    """Both states. Where AWS gives no date for a stopped database, it is seven days from now."""
    database = find_database(session, identifier=settings.names.database)
    status = database["DBInstanceStatus"] if database else "absent"
    starts = database.get("AutomaticRestartTime") if database else None
    if starts is None and status in {"stopped", "stopping"}:
        starts = in_seven_days()
    return Machines(
        instance_id=instance_id,
        instance=_instance_state(session, instance_id=instance_id),
        database_id=settings.names.database,
        database=status,
        database_version=database["EngineVersion"] if database else "",
        database_is_protected=bool(database and database.get("DeletionProtection")),
        database_starts_itself=starts,
    )


def find_database(session: boto3.Session, *, identifier: str) -> DBInstanceTypeDef | None:
    with aws_errors(f"read the database {identifier}"):
        try:
            client = session.client("rds")
            return client.describe_db_instances(DBInstanceIdentifier=identifier)["DBInstances"][0]
        except ClientError as error:
            if error_code(error) in {"DBInstanceNotFound", "DBInstanceNotFoundFault"}:
                return None
            raise


def _instance_state(session: boto3.Session, *, instance_id: str) -> str:
    with aws_errors(f"read the instance {instance_id}"):
        try:
            found = session.client("ec2").describe_instances(InstanceIds=[instance_id])
        except ClientError as error:
            if error_code(error).startswith("InvalidInstanceID"):
                return "absent"
            raise
    states = [one["State"]["Name"] for group in found["Reservations"] for one in group["Instances"]]
    return states[0] if states else "absent"
