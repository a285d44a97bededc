"""`apply`: makes the platform as the settings say, or changes it to that, and writes what others need into .env."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import boto3

from infra_scripts.aws import aws_errors, open_session
from infra_scripts.commands import plan
from infra_scripts.commands.status import subscriptions
from infra_scripts.console import confirm, progress, result
from infra_scripts.environment import write_values
from infra_scripts.errors import AwsError
from infra_scripts.platform import airflow_secrets
from infra_scripts.platform.change_set import ChangeSet, execute
from infra_scripts.platform.proposal import proposal, settled
from infra_scripts.platform.stack import Stack, failures, platform_outputs, wait
from infra_scripts.settings import Settings, read_settings

HELP = "make the platform as the settings say, or change it to that"


def configure(parser: argparse.ArgumentParser) -> None:
    plan.configure(parser)


def run(options: argparse.Namespace, *, environment: Mapping[str, str]) -> int:
    if options.dry_run:
        return plan.run(options, environment=environment)
    settings = read_settings(environment)
    session = open_session(settings)
    deployed = settled(session, settings=settings)
    before = _subscribed(session, outputs=deployed.outputs if deployed else {})
    with proposal(session, settings=settings, deployed=deployed, expires=options.course_expires) as change_set:
        progress("\n".join(plan.describe(change_set, settings=settings, deployed=deployed)))
        if change_set.changes:
            _ask(change_set, settings=settings, options=options)
        made = airflow_secrets.make_missing(session, settings=settings)
        if made:
            progress(f"Made {len(made)} secrets of the Airflow stack under {settings.names.parameters}.")
        if change_set.changes:
            execute(session, change_set=change_set)
            _finish(session, name=change_set.stack)
    outputs = platform_outputs(session, settings=settings)
    written = write_values(options.env_file, _variables(outputs, settings=settings))
    text = [f"{name:<18} {value}" for name, value in outputs.items()]
    text.append(f"Written into {options.env_file}: {', '.join(written)}." if written else ".env had all of it.")
    asked = _subscribe(session, outputs=outputs, settings=settings, before=before)
    if asked:
        text.append(f"Confirm the mail that AWS has just sent to {' and to '.join(asked)}.")
    text.append(_next(deployed, settings=settings))
    facts = {"outputs": outputs, "changes": len(change_set.changes), "written": written, "asked_to_confirm": asked}
    result("\n".join(text), facts=facts, options=options)
    return 0


def _subscribed(session: boto3.Session, *, outputs: Mapping[str, str]) -> set[str]:
    """The addresses that SNS has, confirmed or not."""
    arn = outputs.get("TopicArn")
    return {one["address"] for one in subscriptions(session, topic_arn=arn)} if arn else set()


def _subscribe(
    session: boto3.Session, *, outputs: Mapping[str, str], settings: Settings, before: set[str]
) -> list[str]:
    """Subscribe who is to get the mails and is not; returns whom AWS has asked since `before`, for the stack too.

    CloudFormation asks once: it does not notice that SNS deletes what nobody confirms within 48 hours.
    """
    there = _subscribed(session, outputs=outputs)
    for address in settings.subscribers:
        if address not in there:
            with aws_errors(f"subscribe {address} to {outputs['TopicArn']}"):
                session.client("sns").subscribe(TopicArn=outputs["TopicArn"], Protocol="email", Endpoint=address)
    return [address for address in settings.subscribers if address not in before]


def _next(deployed: Stack | None, *, settings: Settings) -> str:
    was_course = deployed is not None and deployed.parameters.get("Profile") == "course"
    if was_course and settings.profile == "default":
        return "The monitored bucket stays open to the world until its own stack is deployed anew. Next: `make deploy`."
    return "Next: upload, init-db, then `make deploy`."


def _ask(change_set: ChangeSet, *, settings: Settings, options: argparse.Namespace) -> None:
    lost = [change.noun for change in change_set.changes if change.lost and change.deed != "perhaps replaced"]
    if lost:
        confirm(f"This loses data ({', '.join(lost)}).", options=options, word=settings.names.prefix)
    else:
        confirm("Apply this?", options=options)


def _finish(session: boto3.Session, *, name: str) -> None:
    progress("CloudFormation is at work; a new database takes some ten minutes. Ctrl-C is safe: apply again goes on.")
    stack = wait(session, name=name)
    if stack is None or stack.state not in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}:
        state = stack.state if stack else "gone"
        raise AwsError(
            f"{name} is not as planned ({state}): {failures(session, name=name) if stack else 'it was deleted'}. "
            "Mend the cause, then apply again."
        )


def _variables(outputs: Mapping[str, str], *, settings: Settings) -> dict[str, str]:
    """What compose, the trigger and the DAG read from .env."""
    url = f"https://{outputs['StaticIp']}:8080" if settings.transport == "http" else "http://127.0.0.1:8080"
    return {
        "MBD_TOPIC_ARN": outputs["TopicArn"],
        "MBD_INSTANCE_ID": outputs["InstanceId"],
        "MBD_TRANSPORT": settings.transport,
        "AIRFLOW_URL": url,
    }
