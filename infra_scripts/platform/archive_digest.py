"""Keeps the SHA-256 of the code that `upload` sends in Parameter Store, where the instance compares it."""

from __future__ import annotations

import hashlib

import boto3

from infra_scripts.aws import aws_errors
from infra_scripts.settings import Settings

PARAMETER = "archive-sha256"


def keep_digest(session: boto3.Session, *, settings: Settings, archive: bytes) -> None:
    """Store it. Who may only write company files cannot, so the instance runs no code of theirs."""
    name = settings.names.parameters + PARAMETER
    with aws_errors(f"store the parameter {name}"):
        session.client("ssm").put_parameter(
            Name=name, Value=hashlib.sha256(archive).hexdigest(), Type="String", Overwrite=True
        )
