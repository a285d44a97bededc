"""`start`: starts the database and the instance again, and Airflow with the instance."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from infra_scripts.aws import aws_errors, open_session
from infra_scripts.console import progress, result
from infra_scripts.platform import machines
from infra_scripts.platform.database import settled_state
from infra_scripts.platform.stack import platform_outputs
from infra_scripts.settings import read_settings

HELP = "start the database and the instance again"
EXAMPLES = ["start", "start --dry-run"]


def run(options: argparse.Namespace, *, environment: Mapping[str, str]) -> int:
    settings = read_settings(environment)
    session = open_session(settings)
    outputs = platform_outputs(session, settings=settings)
    now = machines.read_machines(session, settings=settings, instance_id=outputs["InstanceId"])
    if options.dry_run:
        text = f"Would start what is stopped. The instance is {now.instance}, the database is {now.database}."
        result(text, facts={"instance": now.instance, "database": now.database}, options=options)
        return 0
    if now.instance == "stopping":
        progress(f"The instance {now.instance_id} is still stopping: waiting until that is over.")
        with aws_errors(f"wait until {now.instance_id} has stopped"):
            session.client("ec2").get_waiter("instance_stopped").wait(InstanceIds=[now.instance_id])
    starts_database = settled_state(session, identifier=now.database_id) == "stopped"
    if starts_database:
        with aws_errors(f"start the database {now.database_id}"):
            session.client("rds").start_db_instance(DBInstanceIdentifier=now.database_id)
        progress(f"The database {now.database_id} is starting.")
    if now.instance in {"stopped", "stopping"}:
        with aws_errors(f"start the instance {now.instance_id}"):
            session.client("ec2").start_instances(InstanceIds=[now.instance_id])
        progress(f"The instance {now.instance_id} is starting.")
    now = machines.read_machines(session, settings=settings, instance_id=now.instance_id)
    # RDS may show the state of before for a moment.
    database = "starting" if starts_database and now.database == "stopped" else now.database
    lines = [
        f"instance  {now.instance}, at {outputs['StaticIp']}; Airflow answers a few minutes later",
        f"database  {database}",
    ]
    result("\n".join(lines), facts={"instance": now.instance, "database": database}, options=options)
    return 0
