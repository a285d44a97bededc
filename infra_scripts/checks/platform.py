"""The platform as it stands: mails, secrets, machines, versions."""

from __future__ import annotations

import json
import re
from datetime import date
from importlib import resources

import boto3
from botocore.exceptions import ClientError

from infra_scripts.aws import aws_errors, error_code
from infra_scripts.checks.finding import Finding
from infra_scripts.commands.status import subscriptions
from infra_scripts.platform import airflow_secrets, machines
from infra_scripts.platform.stack import Stack
from infra_scripts.settings import Settings

_WARN_DAYS = 120
_UBUNTU = re.compile(r"ubuntu/images.*-(\d\d\.\d\d)-")  # ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-...


def mails(session: boto3.Session, *, stack: Stack, settings: Settings) -> Finding:
    """Whether all whom the settings name get the mails, and who else does."""
    found = subscriptions(session, topic_arn=stack.outputs["TopicArn"])
    addresses = [one["address"] for one in found]
    missing = [address for address in settings.subscribers if address not in addresses]
    pending = [one["address"] for one in found if one["state"] != "confirmed"]
    others = [address for address in addresses if address not in settings.subscribers]
    if missing:
        who = ", ".join(missing)
        return Finding("BAD", "mails", f"{who}: not subscribed (SNS forgets who did not click in 48 hours). Apply.")
    if not found:
        return Finding("BAD", "mails", "Nobody is subscribed to the topic. Set MBD_EMAIL and apply.")
    if pending:
        return Finding("BAD", "mails", f"{', '.join(pending)} did not confirm: open AWS's mail there and click.")
    if others:
        return Finding("look", "mails", f"{', '.join(others)} gets them too, and .env does not say so (SNS, the topic)")
    return Finding("ok", "mails", f"{len(found)} confirmed")


def secrets(session: boto3.Session, *, settings: Settings) -> Finding:
    there = set(airflow_secrets.remaining(session, settings=settings))
    missing = [name for name in airflow_secrets.NAMES if settings.names.parameters + name not in there]
    if missing:
        return Finding(
            "BAD", "secrets", f"Missing under {settings.names.parameters}: {', '.join(missing)}. Apply makes them."
        )
    return Finding("ok", "secrets", f"{len(there)} under {settings.names.parameters}")


def database(now: machines.Machines, *, today: date) -> Finding:
    """Whether it runs, and how long its version is supported."""
    if now.database == "absent":
        return Finding(
            "BAD", "database", f"{now.database_id} is gone. Apply makes a new one, from which rows are missing."
        )
    if now.database_starts_itself:
        return Finding(
            "look", "database", f"{now.database}; AWS starts it by itself on {now.database_starts_itself:%Y-%m-%d}"
        )
    ends = support_ends("postgresql", now.database_version.partition(".")[0])
    if ends is None:
        return Finding(
            "look", "database", f"{now.database}, PostgreSQL {now.database_version}: no date of support is known"
        )
    text = f"{now.database}, PostgreSQL {now.database_version}, supported until {ends}"
    if (ends - today).days < _WARN_DAYS:
        return Finding("look", "database", f"{text}: MBD_DATABASE_VERSION and apply go to a newer one")
    return Finding("ok", "database", text)


def image(session: boto3.Session, *, stack: Stack, today: date) -> Finding:
    """What the instance was made of, by the name that AWS has for it, and how long that is supported."""
    image_id = stack.parameters.get("ImageId", "")
    with aws_errors(f"look at the image {image_id}"):
        try:
            found = session.client("ec2").describe_images(ImageIds=[image_id])["Images"]
        except ClientError as error:
            if not error_code(error).startswith("InvalidAMIID"):
                raise
            found = []
    if not found:
        return Finding("look", "image", f"{image_id}: AWS does not show it (any more), so what it holds is not known")
    name = found[0].get("Name") or "without a name"
    version = _UBUNTU.search(name)
    ends = support_ends("ubuntu", version[1]) if version else None
    if version is None or ends is None:
        return Finding("look", "image", f"{image_id} ({name}): how long it is supported is not known here")
    text = f"Ubuntu {version[1]} ({image_id}), supported until {ends}"
    if (ends - today).days < _WARN_DAYS:
        return Finding("look", "image", f"{text}: name a newer one as MBD_IMAGE_ID; apply then replaces the instance")
    return Finding("ok", "image", text)


def support_ends(product: str, version: str) -> date | None:
    """The last day of support by support.json, or None for a version that it does not have."""
    table = json.loads(resources.files("infra_scripts.platform").joinpath("support.json").read_text("utf-8"))
    day = table[product].get(version)
    return date.fromisoformat(day) if day else None
