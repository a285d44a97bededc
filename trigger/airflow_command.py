"""Starts a DagRun by a command that SSM runs on the instance, which needs no open port for that.

SSM's agent fetches the command and reports its output. A shell runs the command, so no text of an event appears in it
as it is: the conf travels as base64, and the run's id has only harmless characters.
"""

import base64
import json
import logging
import time
from collections.abc import Mapping

from trigger import aws_cli, errors, instance
from trigger.airflow_client import DAG_ID
from trigger.deadline import Deadline
from trigger.states import Outcome

log = logging.getLogger(__name__)

AIRFLOW_FOLDER = "/opt/moving-big-data"
_POLL_SECONDS = 2.0
_NOT_READY_SECONDS = 10.0
_UNFINISHED = {"Pending", "InProgress", "Delayed"}
# SSM gives up after both together. Without the first, an instance that comes up an hour later would run the command.
_DELIVERY_SECONDS = 60
_EXECUTION_SECONDS = 300

_SCRIPT = """\
set -u
cd {folder} || {{ echo no_airflow; exit 0; }}
inside() {{ docker compose exec -T scheduler "$@" </dev/null; }}
# An instance that is about to stop itself stops the api-server first, and only then looks for runs.
is_open() {{ docker compose exec -T api-server true </dev/null >/dev/null 2>&1; }}
is_open || {{ echo not_ready; exit 0; }}
if ! details=$(inside airflow dags details {dag_id} --output json 2>&1); then
  case $details in *"DAG: {dag_id} does not exist"*) echo unknown_dag ;; *) echo not_ready ;; esac
  exit 0
fi
case $details in *'"is_paused": "True"'*) echo paused; exit 0 ;; esac
conf=$(printf %s {conf} | base64 -d)
if answer=$(inside airflow dags trigger {dag_id} --run-id {dag_run_id} --conf "$conf" --output json 2>&1 >/dev/null)
then
  word=started
else
  case $answer in *DagRunAlreadyExists*) word=already_accepted ;; *) word=refused ;; esac
fi
# If it was stopped meanwhile, that look may have come before this run. The next command prints already_accepted.
is_open || word=not_ready
echo $word
"""


def start_run(*, instance_id: str, dag_run_id: str, conf: Mapping[str, object], deadline: Deadline) -> Outcome:
    """Ask for one DagRun; returns STARTED or ALREADY_ACCEPTED. Waits for an instance and an Airflow that still start.

    An instance that was seen running may have been about to stop itself, so it is woken again meanwhile.
    """
    script = command(dag_run_id=dag_run_id, conf=conf)
    while True:
        word = _run_on_instance(script, instance_id=instance_id, deadline=deadline)
        match word:
            case Outcome.STARTED | Outcome.ALREADY_ACCEPTED:
                return Outcome(word)
            case "not_ready" if deadline.sleep(_NOT_READY_SECONDS):
                instance.wake(instance_id, deadline=deadline)
            case "not_ready":
                raise errors.NotReadyError(
                    f"Airflow on instance {instance_id} was not up in time. Lambda tries again; if that does not help, "
                    f"run `docker compose ps` in {AIRFLOW_FOLDER} there."
                )
            case "paused":
                raise errors.PausedDagError(
                    f"DAG {DAG_ID} is paused in Airflow on instance {instance_id}: it would accept a run and never "
                    f"start it. Unpause it (`airflow dags unpause {DAG_ID}`), then redrive the event."
                )
            case "unknown_dag":
                raise errors.UnknownDagError(
                    f"Airflow on instance {instance_id} has no DAG {DAG_ID}. Run `airflow dags list-import-errors` "
                    "there, fix the DAG, then redrive the event."
                )
            case "refused":
                raise errors.RefusedRunError(
                    f"Airflow on instance {instance_id} refused to make DagRun {dag_run_id}. Check DAG {DAG_ID} for "
                    "import errors and for params that this conf does not satisfy, then redrive the event."
                )
            case _:
                raise errors.WrongApiError(
                    f"The command on instance {instance_id} found no Airflow of this pipeline ({word[:80]!r}). "
                    f"Install it in {AIRFLOW_FOLDER} there, then redrive the event."
                )


def command(*, dag_run_id: str, conf: Mapping[str, object]) -> str:
    """The shell script that starts the run on the instance and prints what happened, in one word."""
    encoded = base64.b64encode(json.dumps(conf).encode()).decode()
    return _SCRIPT.format(folder=AIRFLOW_FOLDER, dag_id=DAG_ID, dag_run_id=dag_run_id, conf=encoded)


def _run_on_instance(script: str, *, instance_id: str, deadline: Deadline) -> str:
    """The last line that the script printed, or "not_ready" while SSM cannot reach the instance.

    Also "not_ready" if the instance stopped meanwhile: if it runs the command nevertheless, the next one prints
    already_accepted.
    """
    try:
        invocation = _send_script(script, instance_id=instance_id, deadline=deadline)
    except errors.AwsRefusedError as error:
        if error.code == "InvalidInstanceId":  # until the agent of an instance that just started has registered
            return "not_ready"
        raise
    looked_at = time.monotonic()
    while True:
        if not deadline.sleep(_POLL_SECONDS):
            _cancel(invocation, deadline=deadline)
            raise errors.NoAnswerError(
                f"The command on instance {instance_id} gave no answer in time, and was cancelled. A repeat is safe: "
                "it starts no second run."
            )
        if time.monotonic() - looked_at >= instance.LOOK_AGAIN_SECONDS:
            if instance.wake(instance_id, deadline=deadline):
                return "not_ready"
            looked_at = time.monotonic()
        word = _answer(invocation, deadline=deadline)
        if word is not None:
            return word


def _send_script(script: str, *, instance_id: str, deadline: Deadline) -> dict[str, str]:
    """Send the command; returns what identifies its invocation on this instance."""
    request = {
        "InstanceIds": [instance_id],
        "DocumentName": "AWS-RunShellScript",
        "Parameters": {"commands": [script], "executionTimeout": [str(_EXECUTION_SECONDS)]},
        "TimeoutSeconds": _DELIVERY_SECONDS,
        "Comment": f"start a run of {DAG_ID}",
    }
    match aws_cli.call("ssm", "send-command", request, deadline=deadline):
        case {"Command": {"CommandId": str(command_id)}}:
            return {"CommandId": command_id, "InstanceId": instance_id}
        case _:
            raise errors.AwsFailedError("aws ssm send-command returned no command id.")


def _answer(invocation: dict[str, str], *, deadline: Deadline) -> str | None:
    """The last line that the command printed, "not_ready" where no agent said so in time, None while it is not over."""
    try:
        answer = aws_cli.call("ssm", "get-command-invocation", invocation, deadline=deadline)
    except errors.AwsRefusedError as error:
        if error.code == "InvocationDoesNotExist":  # for a moment after it was sent
            return None
        raise
    if answer.get("Status") in _UNFINISHED:
        return None
    if str(answer.get("StatusDetails", "")).replace(" ", "") == "DeliveryTimedOut":
        return "not_ready"  # if it runs nevertheless, the next one prints already_accepted
    if answer.get("Status") != "Success":
        raise errors.ServerFailedError(
            f"The command on instance {invocation['InstanceId']} ended as {answer.get('Status')}. See Run Command in "
            "the Systems Manager console. A repeat is safe."
        )
    return str(answer.get("StandardOutputContent", "")).strip().rpartition("\n")[2]


def _cancel(invocation: dict[str, str], *, deadline: Deadline) -> None:
    """Withdraw the command, so that no run starts after a report that none did."""
    request = {"CommandId": invocation["CommandId"], "InstanceIds": [invocation["InstanceId"]]}
    try:
        aws_cli.call("ssm", "cancel-command", request, deadline=deadline.for_last_calls())
    except errors.TriggerError as error:
        log.warning("the command %s was not cancelled: %s", invocation["CommandId"], error)
