"""Reads one CloudFormation stack: its state, its outputs, and why it failed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import ClientError

from infra_scripts.aws import aws_errors, error_code
from infra_scripts.console import progress
from infra_scripts.errors import RefusedError
from infra_scripts.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import StackEventTypeDef, StackTypeDef

POLL_SECONDS = 3.0
_STARTS = {"CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS", "REVIEW_IN_PROGRESS"}


@dataclass(frozen=True, kw_only=True)
class Stack:
    """What CloudFormation says of a stack."""

    name: str
    state: str
    outputs: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def is_busy(self) -> bool:
        return self.state.endswith("_IN_PROGRESS") and self.state != "REVIEW_IN_PROGRESS"

    @property
    def is_usable(self) -> bool:
        """Whether it can be used and updated: neither a mere change set, nor the rest of a failed first attempt."""
        return self.state in {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"}


def find_stack(session: boto3.Session, *, name: str) -> Stack | None:
    """The stack of this name, or None where there is none."""
    with aws_errors(f"read the stack {name}"):
        try:
            stacks = session.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
        except ClientError as error:
            if error_code(error) == "ValidationError" and "does not exist" in str(error):
                return None
            raise
    return _read_stack(stacks[0]) if stacks else None


def platform_outputs(session: boto3.Session, *, settings: Settings) -> dict[str, str]:
    """The platform's outputs by name. Raises RefusedError while there are none."""
    name = settings.names.platform_stack
    stack = find_stack(session, name=name)
    if stack is None:
        raise RefusedError(f"There is no platform yet (stack {name}). Run `python -m infra_scripts apply` first.")
    if not stack.outputs:
        raise RefusedError(
            f"The platform is not ready: its stack {name} is in state {stack.state}. "
            "Run `python -m infra_scripts apply`, which continues where it stopped."
        )
    return stack.outputs


def wait(session: boto3.Session, *, name: str) -> Stack | None:
    """Wait until CloudFormation is done with the stack, and report progress. None when the stack is gone."""
    reported: set[str] = set()
    while True:
        stack = find_stack(session, name=name)
        if stack is not None:
            for text in reversed(_finished(session, stack=stack)):
                if text not in reported:
                    reported.add(text)
                    progress(text)
        if stack is None or not (stack.is_busy or stack.state == "REVIEW_IN_PROGRESS"):
            return stack
        time.sleep(POLL_SECONDS)


def failures(session: boto3.Session, *, name: str) -> str:
    """Why the last change failed: each resource that failed on its own account, with AWS's reason."""
    reasons = [
        f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason given')}"
        for event in _last_change(session, name=name)
        if event["ResourceStatus"].endswith("_FAILED") and "cancelled" not in event.get("ResourceStatusReason", "")
    ]
    return "; ".join(dict.fromkeys(reversed(reasons))) or "AWS gives no reason"


def _finished(session: boto3.Session, *, stack: Stack) -> list[str]:
    """Each resource that the current change has finished, newest first."""
    return [
        f"{event['Timestamp']:%H:%M:%S} {event['LogicalResourceId']}: "
        + event["ResourceStatus"].replace("_", " ").lower()
        for event in _last_change(session, name=stack.name)
        if event["LogicalResourceId"] != stack.name and event["ResourceStatus"].endswith(("_COMPLETE", "_FAILED"))
    ]


def _last_change(session: boto3.Session, *, name: str) -> Iterator[StackEventTypeDef]:
    """The events of the last change, its rollback included, newest first."""
    with aws_errors(f"read the events of the stack {name}"):
        for page in session.client("cloudformation").get_paginator("describe_stack_events").paginate(StackName=name):
            for event in page["StackEvents"]:
                if event["LogicalResourceId"] == name and event["ResourceStatus"] in _STARTS:
                    return
                yield event


def _read_stack(facts: StackTypeDef) -> Stack:
    return Stack(
        name=facts["StackName"],
        state=facts["StackStatus"],
        outputs={one["OutputKey"]: one["OutputValue"] for one in facts.get("Outputs", [])},
        parameters={one["ParameterKey"]: one.get("ParameterValue", "") for one in facts.get("Parameters", [])},
        tags={one["Key"]: one["Value"] for one in facts.get("Tags", [])},
    )
