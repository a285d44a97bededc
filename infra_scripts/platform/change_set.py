"""What applying would do: a CloudFormation change set, told in plain words before anything is done."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import boto3

from infra_scripts.aws import aws_errors
from infra_scripts.errors import AwsError
from infra_scripts.platform.stack import Stack

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_cloudformation.type_defs import ChangeTypeDef, ResourceChangeTypeDef

Deed = Literal["made", "changed", "restarted", "perhaps replaced", "replaced", "removed"]
_DEEDS: tuple[Deed, ...] = ("made", "changed", "restarted", "perhaps replaced", "replaced", "removed")
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
    "Instance": "its disk: Airflow's history and logs; the next start sets it up again",
    "Address": "the address: AIRFLOW_URL and what points there",
}
# Of an instance with an EBS root, which ours always has, EC2 changes these by a stop and a start; CloudFormation calls
# that a replacement on condition.
_RESTARTS = {"UserData", "InstanceType"}


@dataclass(frozen=True, kw_only=True)
class Change:
    """What happens to one resource."""

    resource: str
    deed: Deed

    @property
    def noun(self) -> str:
        return NOUNS.get(self.resource, self.resource)

    @property
    def lost(self) -> str:
        """What is lost by it, or nothing."""
        return _LOST.get(self.resource, "") if self.deed in {"removed", "replaced", "perhaps replaced"} else ""


@dataclass(frozen=True, kw_only=True)
class ChangeSet:
    """A change set that waits at AWS: executed, or thrown away."""

    arn: str
    stack: str
    changes: tuple[Change, ...]

    def describe(self) -> list[str]:
        """Lines: what is made, changed, replaced, removed, then what would be lost."""
        if not self.changes:
            return ["Nothing to change: the platform is as the settings say."]
        lines = []
        for deed in _DEEDS:
            nouns = [change.noun for change in self.changes if change.deed == deed]
            if nouns:
                lines += [f"{deed.capitalize()} ({len(nouns)}):", *(f"  {noun}" for noun in nouns)]
        lines += [
            f"WARNING: the {change.noun} is {change.deed}; lost: {change.lost}."
            for change in self.changes
            if change.lost
        ]
        lines += [
            f"WARNING: the {change.noun} is stopped and started: a run that is going on is broken off. Its disk stays, "
            "and so do the settings of its first boot: docs/aws.md says how to change them."
            for change in self.changes
            if change.deed == "restarted"
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
    """A change set for the stack, thrown away at the end if it was not executed, and an empty new stack with it."""
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
        with aws_errors(f"throw away what was proposed for {name}"):
            _discard(cloudformation, stack=name, arn=arn)


def execute(session: boto3.Session, *, change_set: ChangeSet) -> None:
    """Begin to do it; when this returns, the stack's state is the change's, and `stack.wait` tells when it is over."""
    cloudformation = session.client("cloudformation")
    with aws_errors(f"begin to change {change_set.stack}"):
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
        raise AwsError(f"CloudFormation refuses this platform: {reason}")
    found = list(answer["Changes"])
    while token := answer.get("NextToken"):
        answer = cloudformation.describe_change_set(ChangeSetName=arn, NextToken=token)
        found += answer["Changes"]
    return tuple(_change(one) for one in found)


def _change(facts: ChangeTypeDef) -> Change:
    resource = facts["ResourceChange"]
    by_action: dict[str, Deed] = {"Add": "made", "Import": "made", "Remove": "removed"}
    by_replacement: dict[str, Deed] = {"True": "replaced", "Conditional": "perhaps replaced"}
    deed = by_action.get(resource["Action"]) or by_replacement.get(resource.get("Replacement", ""), "changed")
    if deed == "perhaps replaced" and resource["LogicalResourceId"] == "Instance" and _only_restarts(resource):
        deed = "restarted"
    return Change(resource=resource["LogicalResourceId"], deed=deed)


def _only_restarts(resource: ResourceChangeTypeDef) -> bool:
    targets = [detail.get("Target", {}) for detail in resource.get("Details", [])]
    conditional = {target.get("Name") for target in targets if target.get("RequiresRecreation") == "Conditionally"}
    return bool(conditional) and conditional <= _RESTARTS


def _discard(cloudformation: CloudFormationClient, *, stack: str, arn: str) -> None:
    """Nothing of it stays if it was not executed."""
    if cloudformation.describe_change_set(ChangeSetName=arn).get("ExecutionStatus") not in _NOT_EXECUTED:
        return
    if cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"] == "REVIEW_IN_PROGRESS":
        cloudformation.delete_stack(StackName=stack)
    else:
        cloudformation.delete_change_set(ChangeSetName=arn)
