"""Checks the deployed platform: mails, secrets, database, and the image of the instance."""

from __future__ import annotations

import json
import re
from datetime import date
from importlib import resources

import boto3
from botocore.exceptions import ClientError

from infra_scripts.aws import aws_errors, error_code
from infra_scripts.checks.finding import Finding
from infra_scripts.platform import airflow_secrets, machines
from infra_scripts.platform.mails import alarm_topic_arn, subscriptions
from infra_scripts.platform.source_archive import ROOT
from infra_scripts.platform.stack import Stack
from infra_scripts.settings import Settings

_WARN_DAYS = 120
_UBUNTU = re.compile(r"ubuntu/images.*-(\d\d\.\d\d)-")  # ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-amd64-server-...


def mails(session: boto3.Session, *, stack: Stack, settings: Settings) -> Finding:
    """Whether every address of the settings gets the mails, and who else does."""
    found = subscriptions(session, topic_arn=stack.outputs["TopicArn"])
    addresses = [one["address"] for one in found]
    missing = [address for address in settings.subscribers if address not in addresses]
    pending = [one["address"] for one in found if one["state"] != "confirmed"]
    others = [address for address in addresses if address not in settings.subscribers]
    if missing:
        who = ", ".join(missing)
        return Finding("error", "mails", f"{who}: not subscribed (SNS drops who does not confirm in 48 h). Run apply.")
    if not found:
        return Finding("error", "mails", "Nobody is subscribed to the topic. Set MBD_EMAIL and run apply.")
    if pending:
        return Finding("error", "mails", f"{', '.join(pending)}: not confirmed. Click the link in AWS's mail.")
    if others:
        return Finding(
            "warning", "mails", f"{', '.join(others)} gets them too, but is not in .env (see the topic in SNS)"
        )
    return Finding("ok", "mails", f"{len(found)} confirmed")


def trigger(stack: Stack | None, *, settings: Settings) -> Finding:
    """Whether the trigger is deployed, and starts runs."""
    if stack is None:
        return Finding("warning", "trigger", "not deployed. Run make deploy.")
    if not stack.is_usable:
        return Finding("error", "trigger", stack.state)
    if settings.trigger_dry_run:
        text = f"{stack.state}, but MBD_TRIGGER_DRY_RUN is on: markers start no run. Set it to off, then make deploy."
        return Finding("warning", "trigger", text)
    return Finding("ok", "trigger", stack.state)


def secrets(session: boto3.Session, *, settings: Settings) -> Finding:
    there = set(airflow_secrets.remaining(session, settings=settings))
    missing = [name for name in airflow_secrets.NAMES if settings.names.parameters + name not in there]
    if missing:
        text = f"Missing under {settings.names.parameters}: {', '.join(missing)}. Run apply, which creates them."
        return Finding("error", "secrets", text)
    return Finding("ok", "secrets", f"{len(there)} under {settings.names.parameters}")


def database(now: machines.Machines, *, today: date) -> Finding:
    """Whether it is running, and how long its version is supported."""
    if now.database == "absent":
        return Finding("error", "database", f"{now.database_id} is gone. Run apply, which creates a new, empty one.")
    if starts := now.database_starts_itself:
        return Finding("warning", "database", f"{now.database}; AWS starts it again on {starts:%Y-%m-%d}")
    if not now.database_is_protected:
        return Finding(
            "warning", "database", f"{now.database}, and anybody may delete it. Run apply, which protects it."
        )
    ends = support_ends("postgresql", now.database_version.partition(".")[0])
    text = f"{now.database}, PostgreSQL {now.database_version}"
    if ends is None:
        return Finding("warning", "database", f"{text}: its end of support is not known here")
    text = f"{text}, supported until {ends}"
    if (ends - today).days < _WARN_DAYS:
        return Finding("warning", "database", f"{text}. Set MBD_DATABASE_VERSION to a newer version and run apply.")
    return Finding("ok", "database", text)


def image(session: boto3.Session, *, stack: Stack, today: date) -> Finding:
    """Which Ubuntu the instance was created from, by the image's name, and how long that is supported."""
    image_id = stack.parameters.get("ImageId", "")
    with aws_errors(f"look up the image {image_id}"):
        try:
            found = session.client("ec2").describe_images(ImageIds=[image_id])["Images"]
        except ClientError as error:
            if not error_code(error).startswith("InvalidAMIID"):
                raise
            found = []
    if not found:
        return Finding("warning", "image", f"{image_id}: AWS does not show it any more, so its content is not known")
    name = found[0].get("Name") or "no name"
    version = _UBUNTU.search(name)
    ends = support_ends("ubuntu", version[1]) if version else None
    if version is None or ends is None:
        return Finding("warning", "image", f"{image_id} ({name}): its end of support is not known here")
    text = f"Ubuntu {version[1]} ({image_id}), supported until {ends}"
    if (ends - today).days < _WARN_DAYS:
        return Finding("warning", "image", f"{text}. With a newer MBD_IMAGE_ID, apply replaces the instance.")
    return Finding("ok", "image", text)


def aws_cli(*, today: date) -> Finding:
    """How long the AWS CLI in the trigger's layer is supported, by the layer's lock."""
    lock = (ROOT / "trigger" / "layer.lock").read_text("utf-8")
    match = re.search(r"^awscli==(\d+)\.", lock, re.MULTILINE)
    ends = support_ends("aws-cli", match[1]) if match else None
    if match is None or ends is None:
        return Finding("warning", "AWS CLI", "the end of support of the CLI in the trigger's layer is not known here")
    text = f"version {match[1]} in the trigger's layer, supported until {ends}"
    if (ends - today).days < _WARN_DAYS:
        return Finding("warning", "AWS CLI", f"{text}. Put a newer one into trigger/layer.lock, then make deploy.")
    return Finding("ok", "AWS CLI", text)


def alarms(session: boto3.Session, *, stack: Stack, settings: Settings) -> Finding:
    """Whether somebody gets the alarms about the trigger's functions."""
    found = subscriptions(session, topic_arn=alarm_topic_arn(stack.outputs, settings=settings))
    pending = [one["address"] for one in found if one["state"] != "confirmed"]
    if settings.email and settings.email not in [one["address"] for one in found]:
        text = f"{settings.email}: not subscribed (SNS drops who does not confirm in 48 h). Run apply."
        return Finding("warning", "alarms", text)
    if not found:
        return Finding("warning", "alarms", "nobody gets them. Set MBD_EMAIL and run apply.")
    if pending:
        return Finding(
            "warning", "alarms", f"{', '.join(pending)}: not confirmed. Click the link in AWS's second mail."
        )
    return Finding("ok", "alarms", f"{len(found)} confirmed")


def support_ends(product: str, version: str) -> date | None:
    """The last day of support according to support.json, or None for a version that it does not list."""
    table = json.loads(resources.files("infra_scripts.platform").joinpath("support.json").read_text("utf-8"))
    day = table[product].get(version)
    return date.fromisoformat(day) if day else None
