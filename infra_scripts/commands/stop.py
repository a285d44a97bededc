"""`stop`: stops the instance and the database, so that AWS charges no hours, and says when AWS starts them again."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace

from infra_scripts.aws import aws_errors, open_session
from infra_scripts.console import confirm, progress, result
from infra_scripts.platform import machines
from infra_scripts.platform.database import settled_state
from infra_scripts.platform.stack import platform_outputs
from infra_scripts.settings import read_settings

HELP = "stop the instance and the database, so that AWS charges no hours"
EXAMPLES = ["stop", "stop --yes"]


def run(options: argparse.Namespace, *, environment: Mapping[str, str]) -> int:
    settings = read_settings(environment)
    session = open_session(settings)
    instance_id = platform_outputs(session, settings=settings)["InstanceId"]
    now = machines.read_machines(session, settings=settings, instance_id=instance_id)
    stops_instance = now.instance in {"running", "pending"}
    stops_database = now.database not in {"absent", "stopped", "stopping"}
    if options.dry_run:
        text = f"Would stop: instance {_yes_no(stops_instance)}, database {_yes_no(stops_database)}."
        result(text, facts={"instance": stops_instance, "database": stops_database}, options=options)
        return 0
    if stops_instance or stops_database:
        confirm("This ends a run in progress.", options=options)
    if stops_instance:
        with aws_errors(f"stop the instance {instance_id}"):
            session.client("ec2").stop_instances(InstanceIds=[instance_id])
        progress(f"The instance {instance_id} is stopping.")
    stops_database = stops_database and settled_state(session, identifier=now.database_id) == "available"
    if stops_database:
        with aws_errors(f"stop the database {now.database_id}"):
            session.client("rds").stop_db_instance(DBInstanceIdentifier=now.database_id)
        progress(f"The database {now.database_id} is stopping.")
    now = machines.read_machines(session, settings=settings, instance_id=instance_id)
    if stops_database and now.database == "available":  # RDS may show the state of before for a moment
        now = replace(now, database="stopping", database_starts_itself=machines.in_seven_days())
    lines = [
        f"instance  {now.instance}, until `start` or a marker wakes it",
        f"database  {now.database}"
        + (f"; AWS starts it again on {now.database_starts_itself:%Y-%m-%d}" if now.database_starts_itself else ""),
    ]
    if stops_database or now.database in {"stopped", "stopping"}:
        lines.append("A marker wakes the instance but not the database, so its run would fail. Run `start` first.")
    else:
        lines.append("AWS stops only a database that is available. Fix that in the RDS console, then run stop again.")
    lines.append("You still pay for the disks, the address and the secret (see `plan`).")
    facts = {
        "instance": now.instance,
        "database": now.database,
        "database_starts_itself": now.database_starts_itself,
    }
    result("\n".join(lines), facts=facts, options=options)
    return 0


def _yes_no(answer: bool) -> str:
    return "yes" if answer else "no"
