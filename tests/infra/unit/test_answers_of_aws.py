"""What AWS answers in several pages, late, or with versions and names that moto has not."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber

from infra_scripts.checks import account, airflow, exposure, platform
from infra_scripts.commands import apply, start
from infra_scripts.commands.status import last_runs
from infra_scripts.errors import AwsError
from infra_scripts.platform import change_set
from infra_scripts.platform.airflow_secrets import delete_all, remaining
from infra_scripts.platform.change_set import ChangeSet
from infra_scripts.platform.costs import describe_costs, monthly_costs
from infra_scripts.platform.images import find_image, root_device
from infra_scripts.platform.machines import Machines
from infra_scripts.platform.proposal import choose_network
from infra_scripts.platform.stack import Stack
from infra_scripts.platform.template import database_version
from infra_scripts.settings import read_settings
from tests.support.person import SETTINGS as WRITTEN

SETTINGS = read_settings(WRITTEN)
PATH = "/de-mbd-predict-ada-lovelace/airflow/"
NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


class Session(boto3.Session):
    """One client, whose answers are written down in their order."""

    def __init__(self, service: Any) -> None:  # noqa: ANN401
        super().__init__("testing", "testing", region_name="eu-west-1")
        self.made = super().client(service)
        self.stubber = Stubber(self.made)
        self.stubber.activate()
        self.answers: Callable[..., None] = self.stubber.add_response

    def client(self, *_: Any, **__: Any) -> Any:  # noqa: ANN401
        return self.made


def test_the_last_runs_are_the_newest_of_every_page_by_their_time() -> None:
    """Not by their names: those of manual runs begin otherwise."""
    session = Session("s3")
    times = {"manual__a": 5, "marker_b": 1, "marker_c": 9, "manual__d": 7, "marker_e": 3}
    listed = [
        {"Key": f"Output/receipts/{name}.json", "LastModified": NOON + timedelta(minutes=minutes)}
        for name, minutes in times.items()
    ]
    asked = {"Bucket": "b", "Prefix": "Output/receipts/"}
    page = {"Contents": listed[:2], "IsTruncated": True, "NextContinuationToken": "2"}
    session.answers("list_objects_v2", page, asked)
    session.answers("list_objects_v2", {"Contents": listed[2:]}, asked | {"ContinuationToken": "2"})
    for name in ("marker_c", "manual__d", "manual__a"):
        content = json.dumps({"run_id": name, "state": "success"}).encode()
        body = StreamingBody(io.BytesIO(content), len(content))
        session.answers("get_object", {"Body": body}, {"Bucket": "b", "Key": f"Output/receipts/{name}.json"})
    assert [one["run_id"] for one in last_runs(session, bucket="b", count=3)] == ["marker_c", "manual__d", "manual__a"]


def test_parameters_of_every_page_are_deleted_ten_at_a_time() -> None:
    """`apply`, `init-db`, `upload` and the operator make more than ten together."""
    session = Session("ssm")
    names = [f"{PATH}{number:02}" for number in range(12)]
    for _ in range(2):
        asked = {"Path": PATH, "Recursive": True, "WithDecryption": False}
        session.answers("get_parameters_by_path", {"Parameters": named(names[:10]), "NextToken": "2"}, asked)
        session.answers("get_parameters_by_path", {"Parameters": named(names[10:])}, asked | {"NextToken": "2"})
    assert remaining(session, settings=SETTINGS) == names
    session.answers("delete_parameters", {}, {"Names": names[:10]})
    session.answers("delete_parameters", {}, {"Names": names[10:]})
    delete_all(session, settings=SETTINGS)
    session.stubber.assert_no_pending_responses()


def named(names: list[str]) -> list[dict[str, str]]:
    return [{"Name": name} for name in names]


def test_a_change_counts_as_begun_once_cloudformation_has_begun_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until then the stack shows the state of the change before, which would pass for the end of this one."""
    monkeypatch.setattr(change_set, "POLL_SECONDS", 0)
    session, arn = Session("cloudformation"), "arn:aws:cloudformation:c"
    session.answers("execute_change_set", {}, {"ChangeSetName": arn})
    for state in ("AVAILABLE", "AVAILABLE", "EXECUTE_IN_PROGRESS"):
        session.answers("describe_change_set", {"ExecutionStatus": state}, {"ChangeSetName": arn})
    change_set.execute(session, change_set=ChangeSet(arn=arn, stack="p", changes=()))
    session.stubber.assert_no_pending_responses()


def test_a_change_set_may_make_roles_with_names() -> None:
    session, asked = Session("cloudformation"), list[dict[str, Any]]()
    session.made.meta.events.register(
        "provide-client-params.cloudformation.CreateChangeSet", lambda params, **_: asked.append(params)
    )
    session.stubber.add_client_error("create_change_set", "AccessDenied")
    with (
        pytest.raises(Exception, match="CreateChangeSet"),
        change_set.proposed(session, name="p", template="{}", parameters={}, tags={}, deployed=None),
    ):
        pass
    assert asked[0]["Capabilities"] == ["CAPABILITY_NAMED_IAM"]


def deployed(state: str = "UPDATE_COMPLETE", **parameters: str) -> Stack:
    return Stack(name="p", state=state, parameters=parameters)


def test_a_platform_without_a_named_network_keeps_none() -> None:
    """Another one would replace its security group."""
    assert choose_network(Session("ec2"), deployed=deployed(NetworkId="")) == ""
    assert choose_network(Session("ec2"), deployed=deployed(NetworkId="vpc-1")) == "vpc-1"


def test_another_image_has_its_own_root_device() -> None:
    """Else the instance would have a small disk that is not encrypted, and one that it does not use."""
    session, before = Session("ec2"), deployed(ImageId="ami-1", RootDevice="/dev/sda1")
    data = {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 500}}
    root = {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 8}}
    found = {"ImageId": "ami-2", "RootDeviceName": "/dev/xvda", "BlockDeviceMappings": [root, data]}
    for _ in range(2):
        session.answers("describe_images", {"Images": [found]}, {"ImageIds": ["ami-2"]})
    assert root_device(session, image_id="ami-1", deployed=before) == "/dev/sda1"
    assert root_device(session, image_id="ami-2", deployed=before) == "/dev/xvda"
    image = find_image(session, image_id="ami-2")
    assert image is not None
    assert image.gigabytes == 8


def test_version_of_a_stack_that_was_never_made_is_none() -> None:
    newest = database_version(SETTINGS, deployed=None)
    assert database_version(SETTINGS, deployed=deployed("REVIEW_IN_PROGRESS", DatabaseVersion="14")) == newest
    wanted = read_settings({**WRITTEN, "MBD_DATABASE_VERSION": "17"})
    assert database_version(wanted, deployed=deployed(DatabaseVersion="16")) == "17"


def test_an_instance_type_without_a_price_costs_what_nobody_knows() -> None:
    settings = read_settings({**WRITTEN, "MBD_INSTANCE_TYPE": "m6i.large"})
    assert monthly_costs(settings) is None
    assert describe_costs(settings)[0].startswith("Cost: not known for m6i.large")


@pytest.mark.parametrize("state", ["UPDATE_ROLLBACK_COMPLETE", "UPDATE_ROLLBACK_FAILED", "UPDATE_FAILED"])
def test_a_change_that_cloudformation_took_back_is_no_success(state: str) -> None:
    session = Session("cloudformation")
    name = SETTINGS.names.platform_stack
    stack = {"StackName": name, "StackStatus": state, "CreationTime": NOON}
    event = {"StackId": "s", "EventId": "e", "StackName": name, "Timestamp": NOON, "LogicalResourceId": "Database"}
    failed = event | {"ResourceStatus": "UPDATE_FAILED", "ResourceStatusReason": "no such class"}
    session.answers("describe_stacks", {"Stacks": [stack]})
    for _ in range(2):
        session.answers("describe_stack_events", {"StackEvents": [failed]})
    with pytest.raises(AwsError, match=rf"failed \({state}\): Database: no such class\. Fix the cause"):
        apply._finish(session, settings=SETTINGS)


@pytest.mark.parametrize(
    ("states", "calls"),
    [(["stopping", "stopped"], ["start_instances"]), (["stopped"], ["start_instances"]), (["running"], [])],
)
def test_a_stopping_instance_is_started_when_it_has_stopped(
    states: list[str], calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """EC2 refuses to start an instance that is still stopping."""
    session = Session("ec2")
    monkeypatch.setattr(start, "open_session", lambda _: session)
    outputs = {"InstanceId": "i-1", "StaticIp": "10.0.0.1"}
    monkeypatch.setattr(start, "platform_outputs", lambda *_, **__: outputs)
    monkeypatch.setattr(start, "settled_state", lambda *_, **__: "available")
    monkeypatch.setattr("infra_scripts.platform.machines.read_machines", lambda *_, **__: machines(instance=states[0]))
    if len(states) > 1:
        found = {"InstanceId": "i-1", "State": {"Name": states[1]}}
        session.answers("describe_instances", {"Reservations": [{"Instances": [found]}]})
    for call in calls:
        session.answers(call, {}, {"InstanceIds": ["i-1"]})
    options = argparse.Namespace(dry_run=False, json=True)
    assert start.run(options, environment=WRITTEN) == 0
    session.stubber.assert_no_pending_responses()


def machines(**facts: Any) -> Machines:  # noqa: ANN401
    sound = {"instance_id": "i-1", "instance": "running", "database_id": "d", "database": "available"}
    return Machines(**{**sound, "database_version": "16.9", "database_is_protected": True, **facts})


@pytest.mark.parametrize(
    ("facts", "today", "level", "words"),
    [
        ({}, date(2026, 11, 27), "ok", "available, PostgreSQL 16.9, supported until 2029-02-28"),
        ({}, date(2028, 12, 1), "warning", "supported until 2029-02-28. Set MBD_DATABASE_VERSION to a newer version"),
        ({"database_version": "99.1"}, date(2026, 11, 27), "warning", "its end of support is not known here"),
        ({"database_is_protected": False}, date(2026, 11, 27), "warning", "anybody may delete it. Run apply"),
        ({"database": "absent"}, date(2026, 11, 27), "error", "is gone. Run apply, which creates a new, empty one"),
    ],
)
def test_check_says_how_long_the_minor_version_that_runs_is_supported(
    facts: dict[str, Any], today: date, level: str, words: str
) -> None:
    found = platform.database(machines(**facts), today=today)
    assert found.level == level
    assert words in found.text


@pytest.mark.parametrize(("today", "level"), [(date(2026, 11, 27), "warning"), (date(2026, 11, 28), "error")])
def test_profile_course_is_accepted_on_its_last_day_and_not_after_it(today: date, level: str) -> None:
    settings = read_settings({**WRITTEN, "MBD_PROFILE": "course"})
    last = date(2026, 11, 27)
    found = exposure.profile(deployed(Profile="course"), settings=settings, expires=last, today=today)
    assert found.level == level


def test_a_port_that_all_of_ipv6_reaches_is_open_to_the_world() -> None:
    session = Session("ec2")
    rule = {"IsEgress": False, "IpProtocol": "tcp", "FromPort": 8080, "ToPort": 8080, "CidrIpv6": "::/0"}
    session.answers("describe_security_group_rules", {"SecurityGroupRules": [rule]})
    stack = Stack(name="p", state="CREATE_COMPLETE", outputs={"SecurityGroupId": "sg-1"})
    found = exposure.ports(session, stack=stack, settings=SETTINGS, expires=None, today=date(2026, 11, 27))
    assert (found.level, "Somebody opened 8080 to the world in sg-1" in found.text) == ("error", True)


@pytest.mark.parametrize(("who", "level"), [("root", "warning"), ("user/ada", "ok")])
def test_a_login_as_the_accounts_root_is_warned_of(who: str, level: str) -> None:
    session = Session("sts")
    session.answers("get_caller_identity", {"Arn": f"arn:aws:iam::123456789012:{who}"})
    assert account.login(session).level == level


def test_airflow_is_asked_until_the_command_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(airflow, "_POLL_SECONDS", 0)
    session = Session("ssm")
    session.answers("send_command", {"Command": {"CommandId": "0" * 36}})
    session.stubber.add_client_error("get_command_invocation", "InvocationDoesNotExist")
    for state in ("Pending", "Delayed", "InProgress"):
        session.answers("get_command_invocation", {"Status": state})
    printed = 'active\n[{"dag_id": "moving_big_data", "is_paused": "False"}]'
    session.answers("get_command_invocation", {"Status": "Success", "StandardOutputContent": printed})
    assert airflow.check_airflow(session, instance_id="i-0123456789", instance_state="running").level == "ok"
    session.stubber.assert_no_pending_responses()
