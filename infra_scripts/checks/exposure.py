"""Checks what anybody on the internet can reach, and whether profile course still allows it."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import ClientError

from infra_scripts.aws import aws_errors, error_code
from infra_scripts.checks.finding import Finding
from infra_scripts.platform.stack import Stack
from infra_scripts.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import PolicyStatusTypeDef, PublicAccessBlockConfigurationTypeDef

_WORLD = {"0.0.0.0/0", "::/0"}


def profile(stack: Stack, *, settings: Settings, expires: date | None, today: date) -> Finding:
    """Which profile is deployed. Profile course has a last day; from the next day on it is an error."""
    deployed = stack.parameters.get("Profile", "")
    if deployed == "course" and _is_over(expires, today=today):
        ended = expires or "(no date)"
        return Finding(
            "error", "profile",
            f"course ended on {ended}, and everything is still open. Set MBD_PROFILE=default, then run apply and "
            "make deploy; or run teardown.",
        )  # fmt: skip
    if deployed != settings.profile:
        return Finding("warning", "profile", f"{deployed} is deployed, but .env says {settings.profile}. Run apply.")
    if deployed != "course":
        return Finding("ok", "profile", deployed)
    return Finding("warning", "profile", f"course: everything is open to the world until {expires}")


def ports(session: boto3.Session, *, stack: Stack, settings: Settings, expires: date | None, today: date) -> Finding:
    """What the security group's actual rules open to anybody, whoever added them."""
    group = stack.outputs["SecurityGroupId"]
    with aws_errors(f"read the rules of {group}"):
        pages = session.client("ec2").get_paginator("describe_security_group_rules")
        rules = [
            rule
            for page in pages.paginate(Filters=[{"Name": "group-id", "Values": [group]}])
            for rule in page["SecurityGroupRules"]
            if not rule["IsEgress"] and {rule.get("CidrIpv4"), rule.get("CidrIpv6")} & _WORLD
        ]
    opened = sorted("all" if rule["IpProtocol"] == "-1" else _range(rule["FromPort"], rule["ToPort"]) for rule in rules)
    if not opened:
        return Finding("ok", "open ports", "nothing is open to the world")
    if _is_meant_open(stack, settings=settings, expires=expires, today=today):
        return Finding("warning", "open ports", f"open to the world, as profile course says: {', '.join(opened)}")
    if stack.parameters.get("Profile") == "course":
        text = f"Profile course left {', '.join(opened)} open to the world. Set MBD_PROFILE=default and run apply."
        return Finding("error", "open ports", text)
    text = f"Somebody opened {', '.join(opened)} to the world in {group}. Remove the rule in the console."
    return Finding("error", "open ports", text)


def monitored_bucket(
    session: boto3.Session, *, stack: Stack, settings: Settings, expires: date | None, today: date
) -> list[Finding]:
    """Whether anybody may put markers, which the trigger's stack decides. No finding while there is no bucket."""
    bucket, what = settings.names.monitored_bucket, "markers"
    s3 = session.client("s3")
    with aws_errors(f"read who may put markers into {bucket}"):
        try:
            block, policy = _block(s3, bucket=bucket), _policy(s3, bucket=bucket)
        except ClientError as error:
            if error_code(error) != "NoSuchBucket":
                raise
            return []
    if block.get("RestrictPublicBuckets") or not policy.get("IsPublic"):
        if len(block) == 4 and all(block.values()):
            return [Finding("ok", what, f"only users of this account may put markers into {bucket}")]
        return [Finding("warning", what, f"{bucket} is closed, but without its block of public access")]
    if _is_meant_open(stack, settings=settings, expires=expires, today=today):
        return [Finding("warning", what, f"anybody may put markers into {bucket}, as profile course says")]
    text = f"Anybody may put markers into {bucket}, and so start runs."
    return [Finding("error", what, f"{text} With MBD_PROFILE=default, `make deploy` closes it; `apply` does not.")]


def _block(s3: S3Client, *, bucket: str) -> PublicAccessBlockConfigurationTypeDef:
    try:
        return s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    except ClientError as error:
        if error_code(error) != "NoSuchPublicAccessBlockConfiguration":
            raise
        return {}


def _policy(s3: S3Client, *, bucket: str) -> PolicyStatusTypeDef:
    try:
        return s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]
    except ClientError as error:
        if error_code(error) != "NoSuchBucketPolicy":
            raise
        return {}


def _is_over(expires: date | None, *, today: date) -> bool:
    return expires is None or expires < today


def _is_meant_open(stack: Stack, *, settings: Settings, expires: date | None, today: date) -> bool:
    """Whether profile course is deployed, still wanted, and not over."""
    is_course = stack.parameters.get("Profile") == "course" == settings.profile
    return is_course and not _is_over(expires, today=today)


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
