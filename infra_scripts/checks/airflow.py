"""Checks through Systems Manager, which needs no open port, that Airflow answers and the DAG is on."""

from __future__ import annotations

import re
import time

import boto3
from botocore.exceptions import ClientError

from infra_scripts.aws import aws_errors, error_code
from infra_scripts.checks.finding import Finding

_COMMANDS = (
    "systemctl is-active moving-big-data",
    "cd /opt/moving-big-data",
    "docker compose exec -T scheduler airflow dags details moving_big_data --output json",
)
_LOG = "/var/log/moving-big-data.log"
_WAIT_SECONDS, _POLL_SECONDS = 90, 2.0
_PAUSED = re.compile(r"is_paused\W+(true|false)", re.IGNORECASE)


def check_airflow(session: boto3.Session, *, instance_id: str, instance_state: str) -> Finding:
    if instance_state != "running":
        return Finding("warning", "Airflow", f"not asked, as the instance is {instance_state}. Run `start` first.")
    ssm = session.client("ssm")
    with aws_errors(f"ask Airflow on {instance_id}"):
        try:
            sent = ssm.send_command(
                InstanceIds=[instance_id],
                DocumentName="AWS-RunShellScript",
                Parameters={"commands": ["set -e", *_COMMANDS]},
            )
        except ClientError as error:
            if error_code(error) != "InvalidInstanceId":
                raise
            return Finding("error", "Airflow", f"{instance_id} is still starting, or its Systems Manager agent is off.")
        command_id = sent["Command"]["CommandId"]
        deadline = time.monotonic() + _WAIT_SECONDS
        while time.monotonic() < deadline:
            try:
                answer = ssm.get_command_invocation(CommandId=command_id, InstanceId=instance_id)
            except ClientError as error:
                if error_code(error) != "InvocationDoesNotExist":  # right after it was sent
                    raise
            else:
                if answer["Status"] not in {"Pending", "InProgress", "Delayed"}:
                    return judge(
                        status=answer["Status"],
                        output=answer.get("StandardOutputContent", ""),
                        error=answer.get("StandardErrorContent", ""),
                    )
            time.sleep(_POLL_SECONDS)
    return Finding("error", "Airflow", f"no answer within {_WAIT_SECONDS} s (see {_LOG} on the instance)")


def judge(*, status: str, output: str, error: str) -> Finding:
    """What the output of the commands means."""
    paused = _PAUSED.search(output)
    if status != "Success":
        last_line = (error.strip() or output.strip() or status).splitlines()[-1]
        return Finding("error", "Airflow", f"does not answer: {last_line} (see {_LOG} on the instance)")
    if not paused:
        return Finding("warning", "Airflow", "answers, but does not say whether the DAG is paused")
    if paused[1].lower() == "true":
        return Finding("error", "Airflow", "its DAG is paused, so no marker starts a run. Switch it on.")
    return Finding("ok", "Airflow", "answers, and the DAG moving_big_data is on")
