"""The platform's database and its secret go in; the table stands, and Airflow's connection is a parameter."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from botocore.exceptions import ClientError

from infra_scripts.aws import aws_errors, error_code, open_session
from infra_scripts.console import progress, result
from infra_scripts.errors import AwsError, RefusedError, SettingsError
from infra_scripts.platform.source_archive import ROOT
from infra_scripts.platform.stack import platform_outputs
from infra_scripts.settings import read_settings

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_ssm import SSMClient

HELP = "make the table in the database, and keep Airflow's connection to it in Parameter Store"

PARAMETER = "stocks-database"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", metavar="H", help="reach the database here instead, by a tunnel: 127.0.0.1")
    parser.add_argument("--port", metavar="P", type=int, help="and on this port")


@dataclass(frozen=True)
class Login:
    """Who may do everything in the database."""

    username: str
    password: str = field(repr=False)

    def url(self, *, host: str, port: int | str, database: str) -> str:
        """A libpq URL, which Airflow takes too. Never without TLS.

        sslmode=require encrypts but proves no server's identity: who can put a server of his own in between gets the
        password. (verify-full would, with Amazon's certificates on every machine that connects.)
        """
        login = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}"
        return f"postgres://{login}@{host}:{port}/{database}?sslmode=require"


def run(options: argparse.Namespace, *, environment: Mapping[str, str]) -> int:
    """Make the table and what belongs to it where it is not there; then keep the URL where the instance reads it."""
    settings = read_settings(environment)
    session = open_session(settings)
    outputs = platform_outputs(session, settings=settings)
    host, port, database = (outputs[f"Database{part}"] for part in ("Host", "Port", "Name"))
    login = read_login(session.client("secretsmanager"), secret=outputs["DatabaseSecret"])
    where = f"{database} at {options.host or host}:{options.port or port}"
    parameter = settings.names.parameters + PARAMETER
    if not options.dry_run:
        progress(f"making the table in {where}")
        make_tables(login.url(host=options.host or host, port=options.port or port, database=database))
    ssm = session.client("ssm")
    url = login.url(host=host, port=port, database=database)
    changed = keep_parameter(ssm, name=parameter, value=url, dry_run=options.dry_run)
    facts = {
        "host": host,
        "port": int(port),
        "database": database,
        "user": login.username,
        "parameter": parameter,
        "parameter_changed": changed,
        "dry_run": options.dry_run,
    }
    result(_text(facts, where=where), facts=facts, options=options)
    return 0


def read_login(secrets: SecretsManagerClient, *, secret: str) -> Login:
    """The user and the password that the platform made. Raises RefusedError when the secret is no such pair."""
    with aws_errors(f"read the secret {secret}"):
        try:
            text = secrets.get_secret_value(SecretId=secret)["SecretString"]
        except ClientError as error:
            if error_code(error) != "ResourceNotFoundException":
                raise
            raise RefusedError(
                f"There is no secret {secret}. Run `python -m infra_scripts apply`, which makes it."
            ) from error
    try:
        facts = json.loads(text)
        return Login(username=str(facts["username"]), password=str(facts["password"]))
    except (ValueError, TypeError, KeyError):
        raise RefusedError(
            f"The secret {secret} is not JSON with username and password. Mend it in Secrets Manager."
        ) from None  # the original may quote it


def make_tables(url: str) -> None:
    """`python -m etl init-db`, the URL in its environment alone. Raises SettingsError or AwsError with what it says."""
    # libpq's own variables would overrule the URL, sslmode first of all
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    environment["MBD_DATABASE_URL"] = url
    command = [sys.executable, "-m", "etl", "init-db"]
    done = subprocess.run(command, env=environment, cwd=ROOT, check=False, capture_output=True, text=True)  # noqa: S603
    if done.returncode == 0:
        return
    said = done.stderr.strip().removeprefix("error: ").rpartition("\n")[2]
    if done.returncode == 3:  # etl's code for an outside service
        raise AwsError(
            f"{said} The database lets in MBD_MY_ADDRESS alone: is that still yours (init --my-address detect, then "
            "apply)? Or go through the instance: ssh -L 5433:HOST:5432, then init-db --host 127.0.0.1 --port 5433."
        )
    raise SettingsError(said)


def keep_parameter(ssm: SSMClient, *, name: str, value: str, dry_run: bool) -> bool:
    """Put the value as a SecureString unless it is there; returns whether it was (in a dry run: would be) put."""
    with aws_errors(f"keep the parameter {name}"):
        try:
            there = ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]
        except ClientError as error:
            if error_code(error) != "ParameterNotFound":
                raise
            there = ""
        if there != value and not dry_run:
            ssm.put_parameter(Name=name, Value=value, Type="SecureString", Overwrite=True)
    return there != value


def _text(facts: Mapping[str, object], *, where: str) -> str:
    if facts["dry_run"]:
        would = "would be written" if facts["parameter_changed"] else "would stay as it is"
        return f"Dry run: the table would be made in {where}; the parameter {facts['parameter']} {would}."
    lines = [f"The table is there, in {where}."]
    lines.append(
        f"The parameter {facts['parameter']} {'is written' if facts['parameter_changed'] else 'is up to date'}."
    )
    lines.append("The instance reads it when its stack starts (one that waits for it: within a minute).")
    lines.append("Next: python -m infra_scripts trigger --wait")
    return "\n".join(lines)
