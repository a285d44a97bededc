"""Creates a CloudFormation change set, describes it in plain words, and executes or discards it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import boto3
from botocore.exceptions import ClientError

from infra_scripts.aws import aws_errors, error_code
from infra_scripts.errors import AwsError
from infra_scripts.platform.stack import Stack

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudformation.type_defs import ChangeTypeDef, ResourceChangeTypeDef

Action = Literal["made", "changed", "restarted", "perhaps replaced", "replaced", "removed"]
_ACTIONS: tuple[Action, ...] = ("made", "changed", "restarted", "perhaps replaced", "replaced", "removed")
POLL_SECONDS = 3.0
_NOT_EXECUTED = {"AVAILABLE", "UNAVAILABLE"}

NOUNS = {
    "SecurityGroup": "security group",
    "SshFromMe": "rule: SSH from my address",
    "PostgresFromMe": "rule: PostgreSQL from my address",
    "SshFromGroup": "rule: SSH inside the group",
    "PostgresFromGroup": "rule: PostgreSQL from the instance",
    "CourseSsh": "rule: SSH from the whole world",
    "CoursePostgres": "rule: PostgreSQL from the whole world",
    "CourseEverything": "rule: everything from the whole world",
    "Role": "the instance's role",
    "InstanceProfile": "the role's instance profile",
    "SourceBucket": "source bucket",
    "SourceBucketPolicy": "the source bucket's policy",
    "DatabaseSecret": "the database's password",
    "DatabaseParameters": "the database's parameter group",
    "Database": "database",
    "Instance": "instance",
    "Address": "Elastic IP",
    "Topic": "mail topic and its subscriptions",
}
_LOST = {
    "SourceBucket": "everything in it: company files, outputs and receipts",
    "Database": "all its rows (AWS keeps a final snapshot)",
    "Instance": "its disk with Airflow's history and logs (the next start sets it up again)",
    "Address": "the address that AIRFLOW_URL and others point to",
}
# Of an instance with an EBS root, as ours is, EC2 changes these by a stop and a start; CloudFormation calls that a
# conditional replacement.
_RESTARTS = {"UserData", "InstanceType"}


@dataclass(frozen=True, kw_only=True)
class Change:
    """What happens to one resource."""

    resource: str
    action: Action

    @property
    def noun(self) -> str:
        return NOUNS.get(self.resource, self.resource)

    @property
    def lost(self) -> str:
        """The data that this loses, or an empty text."""
        return _LOST.get(self.resource, "") if self.action in {"removed", "replaced", "perhaps replaced"} else ""


@dataclass(frozen=True, kw_only=True)
class ChangeSet:
    """A change set at AWS that is not executed yet."""

    arn: str
    stack: str
    changes: tuple[Change, ...]

    def describe(self) -> list[str]:
        """Lines: what is made, changed, replaced or removed, then a warning for everything that is lost."""
        if not self.changes:
            return ["Nothing to change: the platform matches the settings."]
        lines = []
        for action in _ACTIONS:
            nouns = [change.noun for change in self.changes if change.action == action]
            if nouns:
                lines += [f"{action.capitalize()} ({len(nouns)}):", *(f"  {noun}" for noun in nouns)]
        lines += [
            f"WARNING: the {change.noun} is {change.action}, which loses {change.lost}."
            for change in self.changes
            if change.lost
        ]
        lines += [
            f"WARNING: the {change.noun} is stopped and started, which ends a run in progress. It keeps its disk and "
            "the settings of its first boot (docs/aws.md says how to change those)."
            for change in self.changes
            if change.action == "restarted"
        ]
        return lines


@contextmanager
def proposed(
    session: boto3.Session,
    *,
    name: str,
    template: str,
    parameters: dict[str, str],
    tags: dict[str, str],
    deployed: Stack | None,
) -> Iterator[ChangeSet]:
    """A change set for the stack. If it is not executed, it is discarded at the end, and an empty new stack with it."""
    cloudformation = session.client("cloudformation")
    is_new = deployed is None or deployed.state == "REVIEW_IN_PROGRESS"
    with aws_errors(f"ask CloudFormation what would change in {name}"):
        made = cloudformation.create_change_set(
            StackName=name,
            ChangeSetName=f"infra-scripts-{time.time_ns()}",
            ChangeSetType="CREATE" if is_new else "UPDATE",
            TemplateBody=template,
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
    arn = made["Id"]
    try:
        with aws_errors(f"read what would change in {name}"):
            found = ChangeSet(arn=arn, stack=name, changes=_changes(cloudformation, arn=arn))
        yield found
    finally:
        with aws_errors(f"discard the change set of {name}"):
            _discard(cloudformation, stack=name, arn=arn)


def execute(session: boto3.Session, *, change_set: ChangeSet) -> None:
    """Start the change. Afterwards the stack's state is that of the change, and `stack.wait` waits for its end."""
    cloudformation = session.client("cloudformation")
    with aws_errors(f"start the change of {change_set.stack}"):
        cloudformation.execute_change_set(ChangeSetName=change_set.arn)
        while cloudformation.describe_change_set(ChangeSetName=change_set.arn).get("ExecutionStatus") in _NOT_EXECUTED:
            time.sleep(POLL_SECONDS)


def _changes(cloudformation: CloudFormationClient, *, arn: str) -> tuple[Change, ...]:
    while True:
        answer = cloudformation.describe_change_set(ChangeSetName=arn)
        if answer["Status"] in {"CREATE_COMPLETE", "FAILED"}:
            break
        time.sleep(POLL_SECONDS)
    reason = answer.get("StatusReason", "")
    if answer["Status"] == "FAILED" and "didn't contain changes" not in reason and "No updates" not in reason:
        raise AwsError(f"CloudFormation refuses this change: {reason}")
    found = list(answer["Changes"])
    while token := answer.get("NextToken"):
        answer = cloudformation.describe_change_set(ChangeSetName=arn, NextToken=token)
        found += answer["Changes"]
    return tuple(_change(one) for one in found)


def _change(facts: ChangeTypeDef) -> Change:
    resource = facts["ResourceChange"]
    by_action: dict[str, Action] = {"Add": "made", "Import": "made", "Remove": "removed"}
    by_replacement: dict[str, Action] = {"True": "replaced", "Conditional": "perhaps replaced"}
    action = by_action.get(resource["Action"]) or by_replacement.get(resource.get("Replacement", ""), "changed")
    if action == "perhaps replaced" and resource["LogicalResourceId"] == "Instance" and _only_restarts(resource):
        action = "restarted"
    return Change(resource=resource["LogicalResourceId"], action=action)


def _only_restarts(resource: ResourceChangeTypeDef) -> bool:
    targets = [detail.get("Target", {}) for detail in resource.get("Details", [])]
    conditional = {target.get("Name") for target in targets if target.get("RequiresRecreation") == "Conditionally"}
    return bool(conditional) and conditional <= _RESTARTS


def _discard(cloudformation: CloudFormationClient, *, stack: str, arn: str) -> None:
    """Remove the change set if it was not executed, and the stack that was created only to hold it."""
    try:
        found = cloudformation.describe_change_set(ChangeSetName=arn)
    except ClientError as error:
        if error_code(error) not in {"ChangeSetNotFound", "ChangeSetNotFoundException"}:
            raise
        return  # with its stack, whose creation failed
    if found.get("ExecutionStatus") not in _NOT_EXECUTED:
        return
    if cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"] == "REVIEW_IN_PROGRESS":
        cloudformation.delete_stack(StackName=stack)
    else:
        cloudformation.delete_change_set(ChangeSetName=arn)
