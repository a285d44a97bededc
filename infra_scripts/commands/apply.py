"""`apply`: creates the platform, or changes it to what the settings say, and writes what other parts need into .env."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import boto3

from infra_scripts.aws import open_session
from infra_scripts.checks.before_apply import new_platform
from infra_scripts.checks.finding import describe_problems
from infra_scripts.console import confirm, progress, result
from infra_scripts.environment import write_values
from infra_scripts.errors import AwsError, RefusedError
from infra_scripts.platform import airflow_secrets, database, expiry
from infra_scripts.platform.change_set import ChangeSet, execute
from infra_scripts.platform.mails import subscribe_missing, subscribe_to_alarms, subscribed
from infra_scripts.platform.proposal import (
    add_expiry_option,
    changes_database,
    choose_image,
    describe_proposal,
    proposal,
    proposal_facts,
    settled,
)
from infra_scripts.platform.repair import FAILED_CREATIONS, remove_failed_creation
from infra_scripts.platform.stack import Stack, failures, platform_outputs, wait
from infra_scripts.settings import Settings, read_settings

HELP = "create the platform, or change it to what the settings say"
EXAMPLES = ["apply", "apply --dry-run", "apply --yes --course-expires 2027-01-31"]
configure = add_expiry_option


def run(options: argparse.Namespace, *, environment: Mapping[str, str]) -> int:
    settings = read_settings(environment)
    session = open_session(settings)
    deployed = settled(session, settings=settings, may_repair=not options.dry_run)
    state = database.current_state(session, identifier=settings.names.database) if deployed else ""
    if not options.dry_run and not (deployed and deployed.is_usable):
        _refuse_what_aws_would(session, settings=settings)
    before = subscribed(session, outputs=deployed.outputs if deployed else {})
    with proposal(session, settings=settings, deployed=deployed) as change_set:
        described = describe_proposal(change_set, settings=settings, deployed=deployed, database_state=state)
        if options.dry_run:
            facts = proposal_facts(change_set, settings=settings, deployed=deployed)
            result(described, facts=facts, options=options)
            return 0
        progress(described)
        if change_set.changes:
            _confirm_changes(change_set, settings=settings, options=options)
        made = airflow_secrets.make_missing(session, settings=settings)
        if made:
            progress(f"Created {len(made)} secrets for Airflow under {settings.names.parameters}.")
        expiry.keep_expiry(session, settings=settings, wanted=options.course_expires)
        if changes_database(change_set):
            database.start_database(session, identifier=settings.names.database)
        if change_set.changes:
            execute(session, change_set=change_set)
            _finish(session, settings=settings)
    if settings.profile == "default":
        expiry.forget_expiry(session, settings=settings)
    if database.protect(session, identifier=settings.names.database):
        progress("The database is protected against deletion now.")
    outputs = platform_outputs(session, settings=settings)
    written = write_values(options.env_file, _variables(outputs, settings=settings))
    text = [f"{name:<18} {value}" for name, value in outputs.items()]
    text.append(f"{options.env_file}: {'wrote ' + ', '.join(written) if written else 'nothing to change'}.")
    asked = subscribe_missing(session, outputs=outputs, settings=settings, before=before)
    if asked:
        text.append(f"AWS has just sent a mail to {' and to '.join(asked)}: click the link in it to confirm.")
    for address in (alarms := subscribe_to_alarms(session, outputs=outputs, settings=settings)):
        text.append(f"AWS has just sent a mail about the alarms to {address}: click the link in it to confirm.")
    text.append(_next(deployed, settings=settings))
    facts = {"outputs": outputs, "changes": len(change_set.changes), "written": written, "asked_to_confirm": asked}
    facts["asked_to_confirm_alarms"] = alarms
    result("\n".join(text), facts=facts, options=options)
    return 0


def _next(deployed: Stack | None, *, settings: Settings) -> str:
    was_course = deployed is not None and deployed.parameters.get("Profile") == "course"
    if was_course and settings.profile == "default":
        return "The monitored bucket stays open to the world until the trigger is deployed again. Next: `make deploy`."
    return "Next: python -m infra_scripts upload BATCH"


def _refuse_what_aws_would(session: boto3.Session, *, settings: Settings) -> None:
    """Raises RefusedError, before anything is made, with everything that AWS would refuse half-way."""
    image_id = choose_image(session, settings=settings, deployed=None)
    problems = [one for one in new_platform(session, settings=settings, image_id=image_id) if one.level != "ok"]
    errors = [f"{one.what}: {one.text}" for one in problems if one.level == "error"]
    if errors:
        raise RefusedError(f"AWS would refuse this platform, so nothing was made. {' '.join(errors)}")
    if problems:
        progress(describe_problems(problems).strip())


def _confirm_changes(change_set: ChangeSet, *, settings: Settings, options: argparse.Namespace) -> None:
    lost = [change.noun for change in change_set.changes if change.lost and change.action != "perhaps replaced"]
    if lost:
        confirm(f"This loses data ({', '.join(lost)}).", options=options, word=settings.names.prefix)
    else:
        confirm("Apply this?", options=options)


def _finish(session: boto3.Session, *, settings: Settings) -> None:
    name = settings.names.platform_stack
    progress("CloudFormation is working. A new database takes some ten minutes. After Ctrl-C, apply again continues.")
    stack = wait(session, name=name)
    if stack is None or stack.state not in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}:
        state = stack.state if stack else "gone"
        reasons = failures(session, name=name) if stack else "it was deleted"
        left = ""
        if state in FAILED_CREATIONS:
            remove_failed_creation(session, settings=settings)
            left = "What it had made is removed again. "
        raise AwsError(f"The change of {name} failed ({state}): {reasons}. {left}Fix the cause, then apply again.")


def _variables(outputs: Mapping[str, str], *, settings: Settings) -> dict[str, str]:
    """What compose, the trigger and the DAG read from .env.

    AIRFLOW_URL without MBD_TRANSPORT means http, so the two are written together.
    """
    url = f"https://{outputs['StaticIp']}:8080" if settings.transport == "http" else "http://127.0.0.1:8080"
    return {
        "MBD_TOPIC_ARN": outputs["TopicArn"],
        "MBD_INSTANCE_ID": outputs["InstanceId"],
        "MBD_TRANSPORT": settings.transport,
        "AIRFLOW_URL": url,
    }
