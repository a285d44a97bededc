"""`check`: reports what is wrong or soon will be and how to fix it, and changes nothing."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from datetime import date

import boto3

from infra_scripts.aws import open_session
from infra_scripts.checks import account, airflow, exposure, platform
from infra_scripts.checks.before_apply import new_platform, tried
from infra_scripts.checks.finding import Finding
from infra_scripts.console import result
from infra_scripts.errors import RefusedError
from infra_scripts.platform import machines
from infra_scripts.platform.expiry import read_expiry
from infra_scripts.platform.proposal import choose_image
from infra_scripts.platform.stack import Stack, find_stack
from infra_scripts.settings import Settings, read_settings

HELP = "report what is wrong or soon will be, and how to fix it"
EXAMPLES = ["check", "check --json"]


def run(options: argparse.Namespace, *, environment: Mapping[str, str]) -> int:
    settings = read_settings(environment)
    session = open_session(settings)
    findings = list(_findings(session, settings=settings))
    text = "\n".join(f"{one.level:<7} {one.what:<12} {one.text}" for one in findings)
    facts = {"findings": [{"level": one.level, "what": one.what, "text": one.text} for one in findings]}
    result(text, facts=facts, options=options)
    return RefusedError.exit_code if any(one.level == "error" for one in findings) else 0


def _findings(session: boto3.Session, *, settings: Settings) -> Iterator[Finding]:
    yield Finding("ok", "names", f"{settings.source_bucket}, {settings.names.monitored_bucket}, {settings.names.topic}")
    yield account.login(session)
    yield from tried("region", lambda: [account.region(session, settings=settings)])
    stack = find_stack(session, name=settings.names.platform_stack)
    if stack is None:
        yield Finding("warning", "platform", "not there yet. Run plan, then apply.")
        image_id = choose_image(session, settings=settings, deployed=None)
        yield from new_platform(session, settings=settings, image_id=image_id)
        return
    if not stack.is_usable or not stack.outputs:
        yield Finding("error", "platform", f"{stack.name} is in state {stack.state}. Run apply, which says why.")
        return
    yield Finding("ok", "platform", f"{stack.name} is deployed")
    yield from _platform(session, stack=stack, settings=settings)


def _platform(session: boto3.Session, *, stack: Stack, settings: Settings) -> Iterator[Finding]:
    today = date.today()
    now = machines.read_machines(session, settings=settings, instance_id=stack.outputs["InstanceId"])
    expires = read_expiry(session, settings=settings)
    yield exposure.profile(stack, settings=settings, expires=expires, today=today)
    yield from tried(
        "open ports",
        lambda: [exposure.ports(session, stack=stack, settings=settings, expires=expires, today=today)],
    )
    yield from tried(
        "markers",
        lambda: exposure.monitored_bucket(session, stack=stack, settings=settings, expires=expires, today=today),
    )
    yield from tried("mails", lambda: [platform.mails(session, stack=stack, settings=settings)])
    yield from tried("secrets", lambda: [platform.secrets(session, settings=settings)])
    yield platform.database(now, today=today)
    yield from tried("image", lambda: [platform.image(session, stack=stack, today=today)])
    yield from tried(
        "Airflow",
        lambda: [airflow.check_airflow(session, instance_id=now.instance_id, instance_state=now.instance)],
    )
    trigger = find_stack(session, name=settings.names.trigger_stack)
    yield platform.trigger(trigger, settings=settings)
    if trigger:
        yield from tried("alarms", lambda: [platform.alarms(session, stack=stack, settings=settings)])
    yield platform.aws_cli(today=today)
