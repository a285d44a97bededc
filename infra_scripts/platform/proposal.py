"""Proposes a change of the platform: a change set that `apply` can execute, described for `plan` and `apply`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from typing import Any

import boto3
from botocore.exceptions import ClientError

from infra_scripts.aws import aws_errors, error_code
from infra_scripts.console import progress
from infra_scripts.errors import RefusedError, SettingsError
from infra_scripts.platform import course_profile, template
from infra_scripts.platform.change_set import ChangeSet, proposed
from infra_scripts.platform.costs import describe_costs, monthly_costs
from infra_scripts.platform.course_profile import COURSE_SWITCHES, describe_exposure, world_ports
from infra_scripts.platform.images import root_device
from infra_scripts.platform.operator import operator_pattern
from infra_scripts.platform.repair import FAILED_CREATIONS, finish_rollback, remove_failed_creation
from infra_scripts.platform.stack import Stack, failures, find_stack, wait
from infra_scripts.settings import Settings

NEWEST_UBUNTU = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"


def add_expiry_option(parser: argparse.ArgumentParser) -> None:
    """Add --course-expires, which `plan` and `apply` have."""
    parser.add_argument(
        "--course-expires",
        metavar="DATE",
        type=_day,
        help="profile course only: the last day on which `check` accepts it (default: as deployed, else in two weeks)",
    )


def settled(session: boto3.Session, *, settings: Settings, may_repair: bool = False) -> Stack | None:
    """The stack, once no change is in progress, or None.

    What a failed change left is repaired where `may_repair`, else RefusedError says that `apply` does it. Also raises
    RefusedError where a person has to fix something first.
    """
    name = settings.names.platform_stack
    stack = find_stack(session, name=name)
    if stack is not None and stack.is_busy:
        progress(f"CloudFormation is still changing {name} ({stack.state}): waiting for it.")
        stack = wait(session, name=name)
    if stack is None or stack.state == "DELETE_COMPLETE":
        return None
    if stack.is_usable or stack.state == "REVIEW_IN_PROGRESS":
        return stack
    if may_repair and stack.state == "UPDATE_ROLLBACK_FAILED":
        return finish_rollback(session, settings=settings)
    if may_repair and stack.state in FAILED_CREATIONS:
        remove_failed_creation(session, settings=settings)
        return None
    reason = failures(session, name=name)
    if stack.state == "UPDATE_ROLLBACK_FAILED":
        raise RefusedError(
            f"The last change of {name} failed, and so did its rollback: {reason}. Fix the cause, then run apply: it "
            "starts the database, continues the rollback, and goes on from there."
        )
    if stack.state in FAILED_CREATIONS:
        raise RefusedError(
            f"{name} is left over from a failed attempt ({stack.state}): {reason}. "
            "Fix the cause, then run apply: it removes the rest and creates the platform again."
        )
    raise RefusedError(
        f"{name} is in state {stack.state}: {reason}. "
        "Fix the cause, run `python -m infra_scripts teardown`, then apply again."
    )


@contextmanager
def proposal(session: boto3.Session, *, settings: Settings, deployed: Stack | None) -> Iterator[ChangeSet]:
    """The change set from what is deployed to what the settings say. See `proposed`."""
    image_id = choose_image(session, settings=settings, deployed=deployed)
    if settings.profile == "course" and not settings.image_id and not (deployed and deployed.is_usable):
        progress(course_profile.describe_image(image_id))
    with proposed(
        session,
        name=settings.names.platform_stack,
        template=template.render(),
        parameters=template.parameters(
            settings,
            deployed=deployed,
            image_id=image_id,
            network_id=choose_network(session, deployed=deployed),
            root_device=root_device(session, image_id=image_id, deployed=deployed),
            operator=operator_pattern(session),
        ),
        tags=template.tags(settings),
        deployed=deployed,
    ) as change_set:
        yield change_set


def describe_proposal(
    change_set: ChangeSet, *, settings: Settings, deployed: Stack | None, database_state: str = ""
) -> str:
    """What would change, be open and cost, as text."""
    return "\n".join(
        [
            f"{change_set.stack} in {settings.region}, profile {settings.profile}.",
            "",
            *change_set.describe(),
            *_describe_upgrade(_upgrade(settings, deployed=deployed)),
            *_describe_start(change_set, database_state=database_state),
            "",
            *describe_exposure(settings),
            "",
            *describe_costs(settings),
        ]
    )


def proposal_facts(change_set: ChangeSet, *, settings: Settings, deployed: Stack | None) -> dict[str, Any]:
    """The same for --json."""
    return {
        "stack": change_set.stack,
        "region": settings.region,
        "profile": settings.profile,
        "changes": [
            {"resource": one.resource, "what": one.noun, "action": one.action, "lost": one.lost}
            for one in change_set.changes
        ],
        "database_upgrade": _upgrade(settings, deployed=deployed),
        "open_to_the_world": world_ports(settings),
        "course_switches": [switch for switch, _ in COURSE_SWITCHES] if settings.profile == "course" else [],
        "usd_a_month": monthly_costs(settings),
        "usd_a_month_stopped": monthly_costs(settings, hours=0),
    }


def choose_image(session: boto3.Session, *, settings: Settings, deployed: Stack | None) -> str:
    """The image that the settings name, else the one in use (another would replace the instance), else the profile's.

    That is the newest Ubuntu; in profile course the brief's own image, where the account can see it.
    """
    named = settings.image_id or (deployed.parameters.get("ImageId") if deployed and deployed.is_usable else "")
    if named:
        return named
    if settings.profile == "course" and _sees_brief_image(session, settings=settings):
        return course_profile.IMAGE
    with aws_errors("look up the newest Ubuntu image"):
        try:
            found = session.client("ssm").get_parameter(Name=NEWEST_UBUNTU)
        except ClientError as error:
            if error_code(error) != "ParameterNotFound":
                raise
            raise SettingsError(
                f"Canonical publishes no Ubuntu image in {settings.region} (SSM parameter {NEWEST_UBUNTU}). "
                "Set MBD_IMAGE_ID to an image in that region."
            ) from error
    return found["Parameter"]["Value"]


def choose_network(session: boto3.Session, *, deployed: Stack | None) -> str:
    """The default VPC for a new platform; a deployed one keeps what it has, which for an older one is no name."""
    if deployed and deployed.is_usable:
        return deployed.parameters.get("NetworkId", "")
    with aws_errors("look for the default network"):
        answer = session.client("ec2").describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])
    if not answer["Vpcs"]:
        raise RefusedError("There is no default network. Create it: aws ec2 create-default-vpc")
    return answer["Vpcs"][0]["VpcId"]


def _sees_brief_image(session: boto3.Session, *, settings: Settings) -> bool:
    if settings.region != course_profile.IMAGE_REGION:
        return False
    wanted = course_profile.IMAGE
    with aws_errors(f"look for the image {wanted}"):
        answer = session.client("ec2").describe_images(Filters=[{"Name": "image-id", "Values": [wanted]}])
    return bool(answer["Images"])


def _upgrade(settings: Settings, *, deployed: Stack | None) -> dict[str, str] | None:
    """From which major version of PostgreSQL to which, where MBD_DATABASE_VERSION asks for it."""
    before, wanted = template.deployed_version(deployed), template.database_version(settings, deployed=deployed)
    return {"from": before, "to": wanted} if before and wanted != before else None


def _describe_upgrade(upgrade: Mapping[str, str] | None) -> list[str]:
    if upgrade is None:
        return []
    return [
        f"WARNING: PostgreSQL is upgraded from {upgrade['from']} to {upgrade['to']}. This cannot be undone: only the "
        "snapshot that AWS takes before it has the old version. The database is down for ten minutes or more.",
    ]


def changes_database(change_set: ChangeSet) -> bool:
    """Whether an existing database is changed: AWS does that only while it is available."""
    return any(one.resource == "Database" and one.action != "made" for one in change_set.changes)


def _describe_start(change_set: ChangeSet, *, database_state: str) -> list[str]:
    if database_state not in {"stopped", "stopping"} or not changes_database(change_set):
        return []
    return [
        "WARNING: the database is stopped, and AWS changes only a running one: apply starts it first. Stop it again "
        "with `stop`."
    ]


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date such as 2027-01-31") from None
