"""Keeps Airflow's secrets in SSM's Parameter Store: created once as strong random values, never read here."""

from __future__ import annotations

import base64
import secrets
from typing import TYPE_CHECKING

import boto3
from botocore.exceptions import ClientError

from infra_scripts.aws import aws_errors, error_code
from infra_scripts.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient

NAMES = (
    "trigger-password",
    "admin-password",
    "metadata-password",
    "fernet-key",
    "jwt-secret",
    "secret-key",
    "redis-password",
)


def make_missing(session: boto3.Session, *, settings: Settings) -> list[str]:
    """Create the missing secrets as SecureString; returns their names. Existing ones keep their values."""
    ssm = session.client("ssm")
    path = settings.names.parameters
    with aws_errors(f"create Airflow's secrets under {path}"):
        there = set(_there(ssm, path=path))
        missing = [name for name in NAMES if path + name not in there]
        for name in missing:
            try:
                ssm.put_parameter(
                    Name=path + name,
                    Value=_random(name),
                    Type="SecureString",
                    Description="Secret of Moving Big Data's Airflow",
                    Tags=[{"Key": "Project", "Value": "moving-big-data"}],
                )
            except ClientError as error:
                if error_code(error) != "ParameterAlreadyExists":  # somebody else has just created it
                    raise
    return missing


def remaining(session: boto3.Session, *, settings: Settings) -> list[str]:
    """The names of all parameters under the path, whoever created them."""
    with aws_errors(f"list the secrets under {settings.names.parameters}"):
        return _there(session.client("ssm"), path=settings.names.parameters)


def delete_all(session: boto3.Session, *, settings: Settings) -> None:
    names = remaining(session, settings=settings)
    with aws_errors(f"delete the secrets under {settings.names.parameters}"):
        for first in range(0, len(names), 10):  # SSM takes ten at a time
            session.client("ssm").delete_parameters(Names=names[first : first + 10])


def _there(ssm: SSMClient, *, path: str) -> list[str]:
    pages = ssm.get_paginator("get_parameters_by_path").paginate(Path=path, Recursive=True, WithDecryption=False)
    return [one["Name"] for page in pages for one in page["Parameters"]]


def _random(name: str) -> str:
    """32 random bytes: base64 for a Fernet key, else hexadecimal digits, which need no quoting anywhere."""
    if name == "fernet-key":
        return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_hex(32)
