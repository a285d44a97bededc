"""`check`: looks for what is wrong or soon will be, tells how to mend it, and changes nothing."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from datetime import date

import boto3

from infra_scripts.aws import open_session
from infra_scripts.checks import account, airflow, exposure, platform
from infra_scripts.checks.finding import Finding
from infra_scripts.console import result
from infra_scripts.errors import InfraError, RefusedError
from infra_scripts.platform import machines
from infra_scripts.platform.stack import Stack, find_stack
from infra_scripts.settings import Settings, read_settings

HELP = "look for what is wrong or soon will be, and tell how to mend it"


def run(options: argparse.Namespace, *, environment: Mapping[str, str]) -> int:
    settings = read_settings(environment)
    session = open_session(settings)
    findings = list(_findings(session, settings=settings))
    text = "\n".join(f"{one.level:<5} {one.what:<12} {one.text}" for one in findings)
    facts = {"findings": [{"level": one.level, "what": one.what, "text": one.text} for one in findings]}
    result(text, facts=facts, options=options)
    return RefusedError.exit_code if any(one.level == "BAD" for one in findings) else 0


def _findings(session: boto3.Session, *, settings: Settings) -> Iterator[Finding]:
    yield Finding("ok", "names", f"{settings.source_bucket}, {settings.names.monitored_bucket}, {settings.names.topic}")
    yield account.login(session)
    yield from _tried("region", lambda: [account.region(session, settings=settings)])
    stack = find_stack(session, name=settings.names.platform_stack)
    if stack is None:
        yield Finding("look", "platform", "not there yet: `plan`, then `apply`")
        yield from _tried("account", lambda: account.room(session, settings=settings))
        return
    if not stack.stands or not stack.outputs:
        yield Finding("BAD", "platform", f"{stack.name} is in state {stack.state}: `apply` tells why and goes on")
        return
    yield Finding("ok", "platform", f"{stack.name} stands")
    yield from _platform(session, stack=stack, settings=settings)


def _platform(session: boto3.Session, *, stack: Stack, settings: Settings) -> Iterator[Finding]:
    today = date.today()
    now = machines.look(session, settings=settings, instance_id=stack.outputs["InstanceId"])
    yield exposure.profile(stack, settings=settings, today=today)
    yield from _tried("open ports", lambda: [exposure.ports(session, stack=stack, settings=settings, today=today)])
    yield from _tried(
        "markers", lambda: exposure.monitored_bucket(session, stack=stack, settings=settings, today=today)
    )
    yield from _tried("mails", lambda: [platform.mails(session, stack=stack, settings=settings)])
    yield from _tried("secrets", lambda: [platform.secrets(session, settings=settings)])
    yield platform.database(now, today=today)
    yield from _tried("image", lambda: [platform.image(session, stack=stack, today=today)])
    yield from _tried(
        "Airflow",
        lambda: [airflow.look(session, instance_id=now.instance_id, instance_state=now.instance)],
    )
    trigger = find_stack(session, name=settings.names.trigger_stack)
    yield (
        Finding("ok" if trigger.stands else "BAD", "trigger", trigger.state)
        if trigger
        else Finding("look", "trigger", "not deployed: `npx serverless deploy`")
    )


def _tried(what: str, look: Callable[[], list[Finding] | Iterator[Finding]]) -> list[Finding]:
    """One check that cannot be made is a finding, and the others go on."""
    try:
        return list(look())
    except InfraError as error:
        return [Finding("BAD", what, str(error))]
