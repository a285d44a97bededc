"""Finds out whether the account is on AWS's free plan, and what that plan allows."""

from __future__ import annotations

from dataclasses import dataclass

import boto3
from botocore.exceptions import ClientError

from infra_scripts.aws import aws_errors, error_code

FREE_PLAN_BACKUP_DAYS = 1  # RDS refuses more with FreeTierRestrictionError
# Those of the free plan's types that have an x86_64 processor and the 4 GiB that Airflow needs, the brief's size first.
_LARGE_ENOUGH = ("c7i-flex.large", "m7i-flex.large")


@dataclass(frozen=True, kw_only=True)
class FreePlan:
    """What an account on the free plan may use."""

    instance_types: tuple[str, ...]

    @property
    def proposed_type(self) -> str:
        """The instance type to use there, or an empty text where none is large enough."""
        return next((name for name in _LARGE_ENOUGH if name in self.instance_types), "")


def find_free_plan(session: boto3.Session) -> FreePlan | None:
    """What the free plan allows, or None for an account that is not on it."""
    with aws_errors("ask for the account's plan"):
        try:
            plan = session.client("freetier").get_account_plan_state()
        except ClientError as error:
            if error_code(error) != "ResourceNotFoundException":  # an account from before there were plans
                raise
            return None
    if plan["accountPlanType"] != "FREE":
        return None
    with aws_errors("ask which instance types the free plan has"):
        pages = session.client("ec2").get_paginator("describe_instance_types")
        found = [
            one["InstanceType"]
            for page in pages.paginate(Filters=[{"Name": "free-tier-eligible", "Values": ["true"]}])
            for one in page["InstanceTypes"]
        ]
    return FreePlan(instance_types=tuple(sorted(found)))
