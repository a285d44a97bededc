"""The platform as it stands: open ports, expiry, mails, machines, versions."""

from __future__ import annotations

import json
from datetime import date
from importlib import resources

import boto3

from infra_scripts import machines, stack_secrets
from infra_scripts.aws import CLIENT_CONFIG, aws_errors
from infra_scripts.finding import Finding
from infra_scripts.settings import Settings
from infra_scripts.stack import Stack
from infra_scripts.status import subscriptions
from infra_scripts.template import EXPIRES

_WARN_DAYS = 120
_WORLD = {"0.0.0.0/0", "::/0"}


def profile(stack: Stack, *, settings: Settings, today: date) -> Finding:
    """Profile course has a date; the day after it, this is BAD."""
    deployed = stack.parameters.get("Profile", "")
    if deployed != settings.profile:
        return Finding("look", "profile", f"{deployed} is deployed, .env says {settings.profile}: apply makes it so.")
    if deployed != "course":
        return Finding("ok", "profile", deployed)
    expires = stack.tags.get(EXPIRES, "")
    if not expires or date.fromisoformat(expires) < today:
        ended = expires or "(no date)"
        return Finding(
            "BAD",
            "profile",
            f"course ended on {ended}, and everything is open: MBD_PROFILE=default and apply, or teardown",
        )
    return Finding("look", "profile", f"course: everything is open to the world until {expires}")


def ports(session: boto3.Session, *, stack: Stack) -> Finding:
    """The security group's real rules: what anybody reaches, whoever opened it."""
    group = stack.outputs["SecurityGroupId"]
    with aws_errors(f"read the rules of {group}"):
        pages = session.client("ec2", config=CLIENT_CONFIG).get_paginator("describe_security_group_rules")
        rules = [
            rule
            for page in pages.paginate(Filters=[{"Name": "group-id", "Values": [group]}])
            for rule in page["SecurityGroupRules"]
            if not rule["IsEgress"] and {rule.get("CidrIpv4"), rule.get("CidrIpv6")} & _WORLD
        ]
    opened = sorted("all" if rule["IpProtocol"] == "-1" else _range(rule["FromPort"], rule["ToPort"]) for rule in rules)
    if not opened:
        return Finding("ok", "open ports", "nothing is open to the world")
    if stack.parameters.get("Profile") == "course":
        return Finding("look", "open ports", f"open to the world, as profile course has it: {', '.join(opened)}")
    return Finding(
        "BAD",
        "open ports",
        f"Somebody opened {', '.join(opened)} to the world in {group}. Remove the rule in the console.",
    )


def mails(session: boto3.Session, *, stack: Stack) -> Finding:
    found = subscriptions(session, topic_arn=stack.outputs["TopicArn"])
    pending = [one["address"] for one in found if one["state"] != "confirmed"]
    if not found:
        return Finding("BAD", "mails", "Nobody is subscribed to the topic. Set MBD_EMAIL and apply.")
    if pending:
        return Finding("BAD", "mails", f"{', '.join(pending)} did not confirm: open AWS's mail there and click.")
    return Finding("ok", "mails", f"{len(found)} confirmed")


def secrets(session: boto3.Session, *, settings: Settings) -> Finding:
    there = set(stack_secrets.remaining(session, settings=settings))
    missing = [name for name in stack_secrets.NAMES if settings.names.parameters + name not in there]
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
        return Finding("look", "database", f"{text}: go to a newer one before that (profile default does)")
    return Finding("ok", "database", text)


def image(*, today: date) -> Finding:
    ends = support_ends("ubuntu", "24.04")
    if ends is None or (ends - today).days < _WARN_DAYS:
        return Finding("look", "image", f"Ubuntu 24.04 is supported until {ends}: move platform.yml to a newer one")
    return Finding("ok", "image", f"Ubuntu 24.04, supported until {ends}")


def support_ends(product: str, version: str) -> date | None:
    """The last day of support by support.json, or None for a version that it does not have."""
    table = json.loads(resources.files("infra_scripts").joinpath("support.json").read_text("utf-8"))
    day = table[product].get(version)
    return date.fromisoformat(day) if day else None


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
