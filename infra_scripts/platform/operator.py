"""Names who may put code into the source bucket: the one who runs `apply`."""

from __future__ import annotations

import re

import boto3

from infra_scripts.aws import aws_errors

_SESSION = re.compile(r"arn:(?P<partition>[\w-]+):sts::(?P<account>\d+):assumed-role/(?P<role>[^/]+)/.*")


def operator_pattern(session: boto3.Session) -> str:
    """The ARN patterns that match `aws:PrincipalArn` of this login, separated by commas.

    For a session AWS gives the role without its path, and the policy sees the role with it (SSO's roles have one).
    """
    with aws_errors("ask AWS who is logged in"):
        arn = session.client("sts").get_caller_identity()["Arn"]
    match = _SESSION.fullmatch(arn)
    if match is None:
        return str(arn)
    role = f"arn:{match['partition']}:iam::{match['account']}:role"
    return f"{role}/{match['role']},{role}/*/{match['role']}"
