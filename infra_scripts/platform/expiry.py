"""Keeps the last day of profile course as an SSM parameter next to Airflow's secrets.

Not as a tag of the stack: a changed tag changes every resource, and AWS refuses to change a stopped database.
"""

from __future__ import annotations

from datetime import date, timedelta

import boto3
from botocore.exceptions import ClientError

from infra_scripts.aws import aws_errors, error_code
from infra_scripts.settings import Settings

COURSE_DAYS = 14
_PARAMETER = "course-expires"


def read_expiry(session: boto3.Session, *, settings: Settings) -> date | None:
    """The last day on which `check` accepts profile course, or None where none is kept."""
    with aws_errors("read the last day of profile course"):
        try:
            found = session.client("ssm").get_parameter(Name=settings.names.parameters + _PARAMETER)
        except ClientError as error:
            if error_code(error) != "ParameterNotFound":
                raise
            return None
    return date.fromisoformat(found["Parameter"]["Value"])


def keep_expiry(session: boto3.Session, *, settings: Settings, wanted: date | None) -> None:
    """In profile course, keep the day: as wanted, else as kept, else in two weeks."""
    if settings.profile != "course":
        return
    before = read_expiry(session, settings=settings)
    day = wanted or before or date.today() + timedelta(days=COURSE_DAYS)
    if day != before:
        with aws_errors("keep the last day of profile course"):
            session.client("ssm").put_parameter(
                Name=settings.names.parameters + _PARAMETER, Value=day.isoformat(), Type="String", Overwrite=True
            )


def forget_expiry(session: boto3.Session, *, settings: Settings) -> None:
    """Once profile default is deployed, which has no last day."""
    with aws_errors("forget the last day of profile course"):
        session.client("ssm").delete_parameters(Names=[settings.names.parameters + _PARAMETER])
