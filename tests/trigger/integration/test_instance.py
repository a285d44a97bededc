"""After a wake the instance of Airflow is running, or the error says why not."""

import json
import time

import pytest

from tests.support.airflow_stand_in import HANG_UP, HEALTH, PASSWORD, AirflowStandIn
from tests.support.aws_proxy import Answer, Call
from tests.support.cloud import PARAMETER, Cloud
from tests.support.paths import EVENTS
from trigger import airflow_client, errors, secret
from trigger.deadline import Deadline
from trigger.handler import handler
from trigger.instance import wake


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trigger.instance._PAUSE_SECONDS", 0.01)


def launch(cloud: Cloud) -> str:
    [image, *_] = cloud.ec2.describe_images()["Images"]
    [instance] = cloud.ec2.run_instances(ImageId=image["ImageId"], MinCount=1, MaxCount=1)["Instances"]
    return instance["InstanceId"]


def state(cloud: Cloud, instance: str) -> str:
    [reservation] = cloud.ec2.describe_instances(InstanceIds=[instance])["Reservations"]
    return reservation["Instances"][0]["State"]["Name"]


def soon(seconds: float = 40) -> Deadline:
    return Deadline(at=time.monotonic() + seconds)


def states(*names: str) -> list[Answer]:
    """Answers of describe-instances, in turn."""
    xml = (
        "<DescribeInstancesResponse><reservationSet><item><instancesSet><item><instanceId>i-1</instanceId>"
        "<instanceState><code>0</code><name>{}</name></instanceState></item></instancesSet></item></reservationSet>"
        "</DescribeInstancesResponse>"
    )
    return [Answer(200, xml.format(name).encode()) for name in names]


def scripted(cloud: Cloud, *names: str) -> None:
    answers = states(*names)

    def script(call: Call) -> Answer | None:
        if call.operation == "DescribeInstances":
            return answers.pop(0) if len(answers) > 1 else answers[0]
        return Answer(200, b"<StartInstancesResponse/>")

    cloud.proxy.script = script


def test_stopped_instance_is_started_and_waited_for(cloud: Cloud) -> None:
    instance = launch(cloud)
    cloud.ec2.stop_instances(InstanceIds=[instance])
    assert wake(instance, deadline=soon()) is True
    assert state(cloud, instance) == "running"
    assert cloud.proxy.operations() == ["DescribeInstances", "StartInstances", "DescribeInstances"]


def test_instance_that_is_stopping_is_started_after_it_has_stopped(cloud: Cloud) -> None:
    scripted(cloud, "stopping", "stopped", "running")
    assert wake("i-1", deadline=soon()) is True
    assert cloud.proxy.operations() == [*["DescribeInstances"] * 2, "StartInstances", "DescribeInstances"]


@pytest.mark.parametrize("then", [("running",), ("pending", "running")])
def test_instance_that_another_call_starts_between_two_looks_is_waited_for(cloud: Cloud, then: tuple[str, ...]) -> None:
    scripted(cloud, "stopping", "stopping", *then)
    assert wake("i-1", deadline=soon()) is True
    assert cloud.proxy.operations() == ["DescribeInstances"] * (2 + len(then))


def test_instance_that_does_not_stop_in_time_says_so(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trigger.instance._PAUSE_SECONDS", 60)
    scripted(cloud, "stopping")
    with pytest.raises(
        errors.NotReadyError, match=r"i-1 was not stopped in time \(it is still stopping\.\) Lambda tries"
    ):
        wake("i-1", deadline=soon(30))
    assert cloud.proxy.operations() == ["DescribeInstances"]


def test_start_that_runs_out_of_time_says_so_and_the_next_try_resumes(cloud: Cloud) -> None:
    scripted(cloud, "stopped", "pending")
    begun = time.monotonic()
    with pytest.raises(errors.NotReadyError, match=r"i-1 was not running in time .*Lambda tries again"):
        wake("i-1", deadline=soon(8))
    assert time.monotonic() - begun < 10
    assert cloud.proxy.operations().count("StartInstances") == 1
    cloud.proxy.calls.clear()
    scripted(cloud, "pending", "running")
    assert wake("i-1", deadline=soon()) is True
    assert wake("i-1", deadline=soon()) is False
    assert cloud.proxy.operations() == ["DescribeInstances"] * 3


def test_instance_that_is_terminated_is_not_started(cloud: Cloud) -> None:
    scripted(cloud, "terminated")
    with pytest.raises(errors.InstanceGoneError, match=r"i-1 is terminated.*Create a new one, set MBD_INSTANCE_ID"):
        wake("i-1", deadline=soon())
    assert cloud.proxy.operations() == ["DescribeInstances"]


def test_instance_that_aws_does_not_know_is_gone(cloud: Cloud) -> None:
    with pytest.raises(errors.InstanceGoneError, match=r"i-0123456789abcdef0 is unknown to AWS.*set MBD_INSTANCE_ID"):
        wake("i-0123456789abcdef0", deadline=soon())


def test_instance_that_stops_itself_after_it_was_seen_running_is_woken_again(
    cloud: Cloud, airflow: AirflowStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INSTANCE_ID", "i-1")
    monkeypatch.setattr(secret, "_secrets", {PARAMETER: PASSWORD})
    monkeypatch.setattr(airflow_client, "_HEALTH_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("trigger.instance.LOOK_AGAIN_SECONDS", 0.1)
    airflow.script(HEALTH, *[HANG_UP] * 10_000)
    answers = states("running", "stopping", "stopped", "running")

    def script(call: Call) -> Answer:
        if call.operation == "DescribeInstances":
            return answers.pop(0)
        airflow.scripted.clear()
        return Answer(200, b"<StartInstancesResponse/>")

    cloud.proxy.script = script
    [record] = handler(json.loads((EVENTS / "put.json").read_text()), None)["records"]
    assert record["outcome"] == "started"
    assert cloud.proxy.operations() == [*["DescribeInstances"] * 3, "StartInstances", "DescribeInstances"]
