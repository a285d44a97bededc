"""Starts the EC2 instance that Airflow runs on, and waits until it is running."""

import logging

from trigger import aws_cli
from trigger.deadline import Deadline
from trigger.errors import AwsFailedError, AwsRefusedError, InstanceGoneError, NotReadyError

log = logging.getLogger(__name__)

LOOK_AGAIN_SECONDS = 15.0
"""Look at the instance this often while Airflow is awaited: it may have been about to stop itself."""
_PAUSE_SECONDS = 5.0  # between two looks at an instance that is stopping


def wake(instance_id: str, *, deadline: Deadline) -> bool:
    """Start the instance unless it runs; returns whether it had to be started.

    Raises NotReadyError when time is up first: the next try continues from where the instance is then.
    """
    state = _state(instance_id, deadline=deadline)
    if state == "running":
        return False
    while state == "stopping":
        if not deadline.sleep(_PAUSE_SECONDS):
            raise _not_ready(instance_id, wanted="stopped", why="it is still stopping.")
        state = _state(instance_id, deadline=deadline)  # the CLI's waiter would miss a start by another call meanwhile
    if state not in ("running", "pending", "stopped"):
        raise InstanceGoneError(
            f"Instance {instance_id} is {state} and cannot be started. Create a new one, set MBD_INSTANCE_ID to its "
            "id, deploy, then redrive the event."
        )
    if state == "stopped":
        aws_cli.call("ec2", "start-instances", {"InstanceIds": [instance_id]}, deadline=deadline)
        log.info("started instance %s", instance_id)
    if state != "running":
        _wait_until_running(instance_id, deadline=deadline)
    return True


def _state(instance_id: str, *, deadline: Deadline) -> str:
    try:
        answer = aws_cli.call("ec2", "describe-instances", {"InstanceIds": [instance_id]}, deadline=deadline)
    except AwsRefusedError as error:
        if error.code.startswith("InvalidInstanceID"):  # AWS forgets an instance an hour after it was terminated
            return "unknown to AWS in this region"
        raise
    match answer:
        case {"Reservations": [{"Instances": [{"State": {"Name": str(state)}}, *_]}, *_]}:
            return state
        case _:
            return "terminated"


def _wait_until_running(instance_id: str, *, deadline: Deadline) -> None:
    try:
        aws_cli.run(["ec2", "wait", "instance-running", "--instance-ids", instance_id], deadline=deadline)
    except AwsFailedError as error:
        raise _not_ready(instance_id, wanted="running", why=str(error)) from error


def _not_ready(instance_id: str, *, wanted: str, why: str) -> NotReadyError:
    return NotReadyError(
        f"Instance {instance_id} was not {wanted} in time ({why}) Lambda tries again; if that does not help, look at "
        "the instance in the EC2 console."
    )
