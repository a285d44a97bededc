"""Brings a stack whose last change failed half-way to where it can be changed again."""

from __future__ import annotations

import boto3

from infra_scripts.aws import aws_errors
from infra_scripts.console import progress
from infra_scripts.errors import AwsError
from infra_scripts.platform.database import prepare_deletion, start_database
from infra_scripts.platform.stack import Stack, failures, wait
from infra_scripts.settings import Settings

FAILED_CREATIONS = {"CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED"}


def finish_rollback(session: boto3.Session, *, settings: Settings) -> Stack | None:
    """End a rollback that failed. Mostly the database was stopped, which AWS does not change: it is started first."""
    name = settings.names.platform_stack
    progress(f"The last change of {name} failed, and so did its rollback: {failures(session, name=name)}.")
    start_database(session, identifier=settings.names.database)
    with aws_errors(f"continue the rollback of {name}"):
        session.client("cloudformation").continue_update_rollback(StackName=name)
    progress("CloudFormation is continuing the rollback.")
    stack = wait(session, name=name)
    if stack is None or not stack.is_usable:
        raise AwsError(
            f"The rollback of {name} failed again: {failures(session, name=name)}. "
            "Fix the cause, then run the same command again."
        )
    return stack


def remove_failed_creation(session: boto3.Session, *, settings: Settings) -> None:
    """Remove what is left of a stack whose creation failed. It never held data."""
    name = settings.names.platform_stack
    progress(f"Removing what the failed attempt left of {name}.")
    prepare_deletion(session, identifier=settings.names.database)
    delete_stack(session, name=name)


def delete_stack(session: boto3.Session, *, name: str) -> None:
    """Delete the stack and wait until it is gone. Raises AwsError with the reasons when it is not."""
    with aws_errors(f"delete the stack {name}"):
        session.client("cloudformation").delete_stack(StackName=name)
    stack = wait(session, name=name)
    if stack and stack.state != "DELETE_COMPLETE":
        raise AwsError(
            f"{name} was not deleted ({stack.state}): {failures(session, name=name)}. Fix the cause, then run teardown."
        )
