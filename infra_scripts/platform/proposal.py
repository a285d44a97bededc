"""The platform's stack: what is deployed and the settings go in, a change set that can be executed comes out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta

import boto3
from botocore.exceptions import ClientError

from infra_scripts.aws import aws_errors, error_code
from infra_scripts.console import progress
from infra_scripts.errors import RefusedError, SettingsError
from infra_scripts.platform import template
from infra_scripts.platform.change_set import ChangeSet, proposed
from infra_scripts.platform.stack import Stack, failures, find_stack, wait
from infra_scripts.settings import Settings

COURSE_DAYS = 14
NEWEST_UBUNTU = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"


def settled(session: boto3.Session, *, settings: Settings) -> Stack | None:
    """The stack once nobody works on it, or None. Raises RefusedError where a person has to mend it first."""
    name = settings.names.platform_stack
    stack = find_stack(session, name=name)
    if stack is not None and stack.is_busy:
        progress(f"CloudFormation is still at work on {name} ({stack.state}): waiting for it.")
        stack = wait(session, name=name)
    if stack is None or stack.state == "DELETE_COMPLETE":
        return None
    if stack.stands or stack.state == "REVIEW_IN_PROGRESS":
        return stack
    reason = failures(session, name=name)
    if stack.state == "UPDATE_ROLLBACK_FAILED":
        raise RefusedError(
            f"The last change of {name} failed, and taking it back failed too: {reason}. Mend the cause, then "
            f"`aws cloudformation continue-update-rollback --stack-name {name}`, then run this again."
        )
    raise RefusedError(
        f"{name} is the rest of a try that failed ({stack.state}): {reason}. "
        "Mend the cause, run `python -m infra_scripts teardown`, then apply again."
    )


@contextmanager
def proposal(
    session: boto3.Session, *, settings: Settings, deployed: Stack | None, expires: date | None
) -> Iterator[ChangeSet]:
    """What would change, as `proposed` has it."""
    with proposed(
        session,
        name=settings.names.platform_stack,
        template=template.render(),
        parameters=template.parameters(
            settings, deployed=deployed, image_id=image(session, settings=settings, deployed=deployed)
        ),
        tags=template.tags(settings, expires=expiry(deployed, wanted=expires)),
        deployed=deployed,
    ) as change_set:
        yield change_set


def expiry(deployed: Stack | None, *, wanted: date | None) -> date:
    """When profile course is over: as wanted, as it was said before, or in two weeks."""
    if wanted:
        return wanted
    before = deployed.tags.get(template.EXPIRES) if deployed else None
    return date.fromisoformat(before) if before else date.today() + timedelta(days=COURSE_DAYS)


def image(session: boto3.Session, *, settings: Settings, deployed: Stack | None) -> str:
    """The image that the settings name, or the one in use (a newer one would replace the instance), or the newest."""
    named = settings.image_id or (deployed.parameters.get("ImageId") if deployed and deployed.stands else "")
    if named:
        return named
    with aws_errors("look for the newest image of Ubuntu"):
        try:
            found = session.client("ssm").get_parameter(Name=NEWEST_UBUNTU)
        except ClientError as error:
            if error_code(error) != "ParameterNotFound":
                raise
            raise SettingsError(
                f"Canonical publishes no image of Ubuntu in {settings.region} (SSM parameter {NEWEST_UBUNTU}). "
                "Set MBD_IMAGE_ID to an image there."
            ) from error
    return found["Parameter"]["Value"]
