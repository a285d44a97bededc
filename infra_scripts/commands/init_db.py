"""`init-db`: creates the table in the platform's database, and stores Airflow's connection as an SSM parameter.

The master login is used here and nowhere else: Airflow loads as a role that has rights on the pipeline's tables only.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

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

HELP = "create the table in the database, and store Airflow's connection to it in Parameter Store"
EXAMPLES = ["init-db", "init-db --host 127.0.0.1 --port 5433"]

NO_ANSWER = "Is it running and reachable?"
"""How etl ends the message of a server that nothing was heard of (etl/table/refusals.py)."""
PARAMETER = "stocks-database"
LOADER = "stocks_loader"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", metavar="H", help="connect to this host instead, such as 127.0.0.1 for a tunnel")
    parser.add_argument("--port", metavar="P", type=int, help="connect to this port instead")


@dataclass(frozen=True)
class Login:
    """A user of the database and its password."""

    username: str
    password: str = field(repr=False)

    def url(self, *, host: str, port: int | str, database: str) -> str:
        """A libpq URL, which Airflow accepts too. Never without TLS.

        sslmode=require encrypts, but does not prove who the server is: an attacker in between could read the password.
        (verify-full would prove it, but needs Amazon's certificates on every machine that connects.)
        """
        login = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}"
        return f"postgres://{login}@{host}:{port}/{database}?sslmode=require"


def run(options: argparse.Namespace, *, environment: Mapping[str, str]) -> int:
    """Create the table and what belongs to it where it is missing; then store the URL where the instance reads it."""
    settings = read_settings(environment)
    session = open_session(settings)
    outputs = platform_outputs(session, settings=settings)
    host, port, database = (outputs[f"Database{part}"] for part in ("Host", "Port", "Name"))
    login = read_login(session.client("secretsmanager"), secret=outputs["DatabaseSecret"])
    where = f"{database} at {options.host or host}:{options.port or port}"
    parameter = settings.names.parameters + PARAMETER
    ssm = session.client("ssm")
    loader = Login(username=LOADER, password=_password_of_loader(ssm, name=parameter) or secrets.token_hex(24))
    if not options.dry_run:
        progress(f"creating the table in {where}")
        url = login.url(host=options.host or host, port=options.port or port, database=database)
        make_tables(url, loader_password=loader.password)
    url = loader.url(host=host, port=port, database=database)
    changed = store_parameter(ssm, name=parameter, value=url, dry_run=options.dry_run)
    facts = {
        "host": host,
        "port": int(port),
        "database": database,
        "user": loader.username,
        "parameter": parameter,
        "parameter_changed": changed,
        "dry_run": options.dry_run,
    }
    result(_outcome_text(facts, where=where), facts=facts, options=options)
    return 0


def read_login(client: SecretsManagerClient, *, secret: str) -> Login:
    """The user and password that the platform created. Raises RefusedError when the secret is missing or malformed."""
    with aws_errors(f"read the secret {secret}"):
        try:
            text = client.get_secret_value(SecretId=secret)["SecretString"]
        except ClientError as error:
            if error_code(error) != "ResourceNotFoundException":
                raise
            raise RefusedError(
                f"There is no secret {secret}. Run `python -m infra_scripts apply`, which creates it."
            ) from error
    try:
        facts = json.loads(text)
        return Login(username=str(facts["username"]), password=str(facts["password"]))
    except (ValueError, TypeError, KeyError):
        raise RefusedError(
            f"The secret {secret} is not JSON with username and password. Fix it in Secrets Manager."
        ) from None  # the original may quote it


def make_tables(url: str, *, loader_password: str) -> None:
    """Run `python -m etl init-db`, which takes both secrets from its environment.

    Raises its error as SettingsError or AwsError.
    """
    # libpq's own variables would override the URL, sslmode above all
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    environment |= {"MBD_DATABASE_URL": url, "MBD_LOADER_PASSWORD": loader_password}
    command = [sys.executable, "-m", "etl", "init-db", "--loader", LOADER]
    done = subprocess.run(command, env=environment, cwd=ROOT, check=False, capture_output=True, text=True)  # noqa: S603
    if done.returncode == 0:
        return
    message = done.stderr.strip().removeprefix("error: ").rpartition("\n")[2]
    if done.returncode == 3 and not message.endswith(NO_ANSWER):  # etl's code for an outside service
        raise AwsError(message)
    if done.returncode == 3:
        raise AwsError(
            f"{message} The database accepts only connections from MBD_MY_ADDRESS. If yours has changed, run init "
            "--my-address detect, then apply. Or connect through the instance: ssh -L 5433:HOST:5432, then init-db "
            "--host 127.0.0.1 --port 5433."
        )
    raise SettingsError(message)


def store_parameter(ssm: SSMClient, *, name: str, value: str, dry_run: bool) -> bool:
    """Store the value as a SecureString; returns whether it differed. A dry run stores nothing."""
    with aws_errors(f"store the parameter {name}"):
        there = _read_parameter(ssm, name=name)
        if there != value and not dry_run:
            ssm.put_parameter(Name=name, Value=value, Type="SecureString", Overwrite=True)
    return there != value


def _password_of_loader(ssm: SSMClient, *, name: str) -> str:
    """The password in the stored URL, so that a second init-db changes nothing; empty where another user is stored."""
    with aws_errors(f"read the parameter {name}"):
        parts = urlsplit(_read_parameter(ssm, name=name))
    return unquote(parts.password or "") if parts.username == LOADER else ""


def _read_parameter(ssm: SSMClient, *, name: str) -> str:
    try:
        return ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]
    except ClientError as error:
        if error_code(error) != "ParameterNotFound":
            raise
        return ""


def _outcome_text(facts: Mapping[str, object], *, where: str) -> str:
    if facts["dry_run"]:
        would = "would be written" if facts["parameter_changed"] else "would not change"
        return f"Dry run: the table would be created in {where}; the parameter {facts['parameter']} {would}."
    return "\n".join(
        [
            f"The table exists in {where}.",
            f"The parameter {facts['parameter']} {'was written' if facts['parameter_changed'] else 'is up to date'}.",
            "The instance reads it when Airflow starts; where Airflow waits for it, that is within a minute.",
            "Next: make deploy (once), then python -m infra_scripts trigger --wait",
        ]
    )
