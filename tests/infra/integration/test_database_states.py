"""The commands against a database in its states in between, as AWS documents what it refuses then."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from tests.support.aws_proxy import Answer, AwsProxy, Call, refusal
from tests.support.person import Person
from tests.support.rds_states import RdsStates

PREFIX = "de-mbd-predict-ada-lovelace"
STACK = f"{PREFIX}-platform"
pytestmark = pytest.mark.usefixtures("at_once")


def changed_settings(person: Person, **settings: str) -> None:
    person.settings |= settings
    person.write_settings()


def test_first_apply_protects_the_database_after_its_creation_and_not_at_it(owner: Person, aws: AwsProxy) -> None:
    template = str(owner.client("cloudformation").get_template(StackName=STACK)["TemplateBody"])
    assert "DeletionProtection:" not in template.replace("No DeletionProtection here:", "")
    operations = aws.operations()
    assert operations.index("ExecuteChangeSet") < operations.index("ModifyDBInstance")
    [made] = owner.client("rds").describe_db_instances()["DBInstances"]
    assert made["DeletionProtection"] is True


def test_an_apply_that_was_killed_before_it_protected_the_database_does_it_the_next_time(owner: Person) -> None:
    owner.client("rds").modify_db_instance(DBInstanceIdentifier=f"{PREFIX}-rds", DeletionProtection=False)
    said = owner.says("check", "--json")
    [found] = [one for one in json.loads(said.out)["findings"] if one["what"] == "database"]
    assert (found["level"], "Run apply" in found["text"]) == ("warning", True)
    assert "The database is protected against deletion now." in owner.says("apply", "--yes").err
    assert owner.client("rds").describe_db_instances()["DBInstances"][0]["DeletionProtection"] is True


@pytest.mark.parametrize("state", ["ROLLBACK_COMPLETE", "ROLLBACK_FAILED"])
def test_a_failed_first_apply_says_why_and_removes_what_it_has_made(
    state: str, person: Person, aws: AwsProxy, aws_server: str
) -> None:
    refused = "The specified instance type is not eligible for Free Tier."
    rds = RdsStates(aws_server, "creating", "creating", "backing-up", "available")
    rds.after_execution = state
    rds.events = [
        (STACK, state, ""), ("Database", "DELETE_FAILED", "is not available"), ("Instance", "CREATE_FAILED", refused),
        (STACK, "CREATE_IN_PROGRESS", ""), ("Old", "CREATE_FAILED", "of an earlier attempt"),
    ]  # fmt: skip
    aws.script = rds
    said = person.says("apply", "--yes")
    assert said.code == 3
    assert f"Instance: {refused}" in said.err
    assert "an earlier attempt" not in said.err
    assert "What it had made is removed again. Fix the cause, then apply again." in said.err
    assert "is creating: waiting until that is over" in said.err
    assert person.client("cloudformation").list_stacks(StackStatusFilter=["CREATE_COMPLETE"])["StackSummaries"] == []
    assert person.client("rds").describe_db_instances()["DBInstances"] == []
    aws.script = lambda call: None
    assert person.says("apply", "--yes").code == 0


@pytest.mark.parametrize("state", ["UPDATE_ROLLBACK_COMPLETE", "UPDATE_FAILED"])
def test_a_change_that_aws_took_back_fails_apply_and_removes_nothing(
    state: str, owner: Person, aws: AwsProxy, aws_server: str
) -> None:
    rds = RdsStates(aws_server, "available")
    rds.after_execution = state
    rds.events = [(STACK, state, ""), ("Instance", "UPDATE_FAILED", "none of this type left")]
    aws.script = rds
    changed_settings(owner, MBD_INSTANCE_TYPE="t3.xlarge")
    said = owner.says("apply", "--yes")
    assert said.code == 3
    assert f"failed ({state})" in said.err
    assert "Instance: none of this type left" in said.err
    assert "DeleteStack" not in aws.operations()


def test_plan_leaves_a_failed_first_attempt_to_apply_which_removes_it(
    owner: Person, aws: AwsProxy, aws_server: str
) -> None:
    aws.script = rds = RdsStates(aws_server, "available")
    rds.stack_state = "ROLLBACK_FAILED"
    rds.events = [("Database", "CREATE_FAILED", "no more of these")]
    said = owner.says("plan")
    assert said.code == 1
    assert "Database: no more of these" in said.err
    assert "run apply: it removes the rest and creates the platform again" in said.err
    rds.events = []
    assert owner.says("apply", "--yes").code == 0
    assert "DeleteStack" in aws.operations()


def kept_day(owner: Person) -> str:
    return owner.client("ssm").get_parameter(Name=f"/{PREFIX}/airflow/course-expires")["Parameter"]["Value"]


def test_a_switch_of_profile_changes_no_tag_and_so_not_the_database(owner: Person) -> None:
    before = owner.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]["Tags"]
    changed_settings(owner, MBD_PROFILE="course")
    assert owner.says("apply", "--yes", "--course-expires", "2030-01-31").code == 0
    after = owner.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]["Tags"]
    assert after == before
    assert kept_day(owner) == "2030-01-31"
    for given, day in (((), "2030-01-31"), (("--course-expires", "2029-12-31"), "2029-12-31")):
        assert owner.says("apply", "--yes", *given).code == 0
        assert kept_day(owner) == day
    changed_settings(owner, MBD_PROFILE="default")
    assert owner.says("apply", "--yes").code == 0
    assert "course-expires" not in str(owner.client("ssm").describe_parameters()["Parameters"])


@pytest.mark.parametrize("states", [("stopped",), ("stopping", "stopped"), ("backing-up", "available")])
def test_apply_that_changes_the_database_makes_it_available_first(
    states: tuple[str, ...], person: Person, aws: AwsProxy, aws_server: str
) -> None:
    changed_settings(person, MBD_DATABASE_VERSION="16")
    assert person.says("apply", "--yes").code == 0
    changed_settings(person, MBD_DATABASE_VERSION="18")
    aws.script = rds = RdsStates(aws_server, *states)
    planned = person.says("plan")
    assert ("the database is stopped, and AWS changes only a running one" in planned.out) == (states[-1] == "stopped")
    rds.states = list(states)
    said = person.says("apply", "--yes")
    assert said.code == 0, said.err
    assert rds.executed_in == ["available"]


@pytest.mark.parametrize(("looks", "code"), [(3, 0), (100, 1)])
def test_apply_waits_a_while_where_rds_shows_a_started_database_as_stopped(
    looks: int, code: int, person: Person, aws: AwsProxy, aws_server: str
) -> None:
    changed_settings(person, MBD_DATABASE_VERSION="16")
    assert person.says("apply", "--yes").code == 0
    changed_settings(person, MBD_DATABASE_VERSION="18")
    rds = RdsStates(aws_server, "stopped")

    def late(call: Call) -> Answer | None:
        answer = rds(call)
        if call.operation == "StartDBInstance":
            rds.states = ["stopped"] * looks + rds.states
        return answer

    aws.script = late
    said = person.says("apply", "--yes")
    assert said.code == code, said.err
    assert rds.executed_in == ["available"] * (not code)
    assert aws.operations().count("StartDBInstance") == 1
    assert f"The database {PREFIX}-rds is stopped, and AWS changes only" in said.err or not code


def test_apply_that_cannot_make_the_database_available_changes_nothing(
    person: Person, aws: AwsProxy, aws_server: str
) -> None:
    changed_settings(person, MBD_DATABASE_VERSION="16")
    assert person.says("apply", "--yes").code == 0
    changed_settings(person, MBD_DATABASE_VERSION="18")
    aws.script = rds = RdsStates(aws_server, "storage-full")
    said = person.says("apply", "--yes")
    assert said.code == 1
    assert f"The database {PREFIX}-rds is storage-full, and AWS changes only one that is available" in said.err
    assert rds.executed_in == []


@pytest.mark.parametrize("state", ["stopped", "stopping", "backing-up", "available"])
def test_profile_course_ends_closed_from_every_state_of_the_database(
    state: str, person: Person, aws: AwsProxy, aws_server: str
) -> None:
    """Also where an earlier try ended in UPDATE_ROLLBACK_FAILED, as AWS does with a stopped database."""
    changed_settings(person, MBD_PROFILE="course")
    assert person.says("apply", "--yes").code == 0
    changed_settings(person, MBD_PROFILE="default")
    following = {"stopping": ["stopped"], "backing-up": ["available"]}.get(state, [])
    aws.script = rds = RdsStates(aws_server, state, *following)
    rds.stack_state = "UPDATE_ROLLBACK_FAILED"
    planned = person.says("plan")
    assert planned.code == 1
    assert "run apply: it starts the database, continues the rollback" in planned.err
    rds.states = [state, *following]
    said = person.says("apply", "--yes")
    assert said.code == 0, said.err
    operations = aws.operations()
    assert "ExecuteChangeSet" in operations[operations.index("ContinueUpdateRollback") :]
    ec2 = person.client("ec2")
    [group] = ec2.describe_security_groups(GroupNames=[f"{PREFIX}-security-group"])["SecurityGroups"]
    rules = ec2.describe_security_group_rules(Filters=[{"Name": "group-id", "Values": [group["GroupId"]]}])
    opened = [one for one in rules["SecurityGroupRules"] if not one["IsEgress"] and one.get("CidrIpv4") == "0.0.0.0/0"]
    assert opened == []


def test_stop_waits_for_a_backup_and_start_for_the_stop(owner: Person, aws: AwsProxy, aws_server: str) -> None:
    aws.script = rds = RdsStates(aws_server, "backing-up", "backing-up", "backing-up", "available")
    stopped = owner.says("stop", "--yes")
    assert stopped.code == 0, stopped.err
    assert "is backing-up: waiting until that is over" in stopped.err
    assert "StopDBInstance" in aws.operations()
    rds.states = ["stopping", "stopping", "stopped"]
    started = owner.says("start")
    assert started.code == 0, started.err
    assert "is stopping: waiting until that is over" in started.err
    assert "StartDBInstance" in aws.operations()


def instance_is(state: str) -> Answer:
    found = f"<instanceId>i-1</instanceId><instanceState><code>0</code><name>{state}</name></instanceState>"
    item = f"<item><instancesSet><item>{found}</item></instancesSet></item>"
    text = f"<DescribeInstancesResponse><reservationSet>{item}</reservationSet></DescribeInstancesResponse>"
    return Answer(200, text.encode(), {"Content-Type": "text/xml"})


def test_stop_stops_an_instance_that_is_starting(owner: Person, aws: AwsProxy) -> None:
    def starting(call: Call) -> Answer | None:
        is_asked = call.operation == "DescribeInstances" and "StopInstances" not in aws.operations()
        return instance_is("pending") if is_asked else None

    aws.script = starting
    assert owner.learns("stop", "--yes")["instance"] == "stopped"


def test_start_waits_for_an_instance_that_is_still_stopping(owner: Person, aws: AwsProxy) -> None:
    """As EC2 does: it starts only what has stopped."""
    assert owner.says("stop", "--yes").code == 0
    looks = ["stopping", "stopped"]

    def late(call: Call) -> Answer | None:
        match call.operation:
            case "DescribeInstances" if looks:
                return instance_is(looks.pop(0))
            case "StartInstances" if looks:
                return refusal(call, "IncorrectInstanceState", text="is not in a state from which it can be started")
        return None

    aws.script = late
    started = owner.says("start", "--json")
    assert started.code == 0, started.err
    assert "is still stopping: waiting until that is over" in started.err
    assert (json.loads(started.out)["instance"], looks) == ("running", [])


def test_a_stopping_database_has_a_date_on_which_aws_starts_it_again(
    owner: Person, aws: AwsProxy, aws_server: str
) -> None:
    aws.script = RdsStates(aws_server, "stopping")  # RDS names the day only once it is stopped
    assert re.search(r"database +stopping, .*AWS starts it again on 20", owner.says("status").out)


def test_stop_gives_no_wrong_advice_where_rds_shows_a_stopping_database_as_available(
    owner: Person, aws: AwsProxy, aws_server: str
) -> None:
    rds = RdsStates(aws_server, "available")

    def late(call: Call) -> Answer | None:
        answer = rds(call)
        if call.operation == "StopDBInstance":
            rds.states = ["available", *rds.states]
        return answer

    aws.script = late
    stopped = owner.says("stop", "--yes")
    assert (stopped.code, "Fix that in the RDS console" in stopped.out) == (0, False)
    assert "A marker wakes the instance but not the database" in stopped.out
    assert "database  stopping; AWS starts it again on 20" in stopped.out


def test_start_says_starting_where_rds_shows_a_started_database_as_stopped(
    owner: Person, aws: AwsProxy, aws_server: str
) -> None:
    rds = RdsStates(aws_server, "stopped")

    def late(call: Call) -> Answer | None:
        answer = rds(call)
        if call.operation == "StartDBInstance":
            rds.states = ["stopped"] * 2 + rds.states
        return answer

    aws.script = late
    started = owner.says("start", "--json")
    assert (started.code, json.loads(started.out)["database"]) == (0, "starting")


@pytest.mark.parametrize("protected_looks", [0, 3])
def test_teardown_waits_until_rds_shows_that_the_protection_is_lifted(
    protected_looks: int, owner: Person, aws: AwsProxy, aws_server: str
) -> None:
    """CloudFormation cannot delete a database that is being modified, or is still protected."""
    rds, seen, left = RdsStates(aws_server, "available"), [], [0]
    off, on = b"<DeletionProtection>false<", b"<DeletionProtection>true<"

    def late(call: Call) -> Answer | None:
        state = rds.state
        answer = rds(call)
        match call.operation:
            case "ModifyDBInstance":
                rds.states = ["available"] * max(1, protected_looks) + ["modifying"] * 2 + ["available"]
                left[0] = protected_looks
            case "DescribeDBInstances" if answer and left[0]:
                left[0] -= 1
                answer = replace(answer, body=answer.body.replace(off, on))
            case "DeleteStack":
                seen.append((state, left[0]))
        return answer

    aws.script = late
    assert owner.says("teardown", "--yes", "--delete-data").code == 0
    assert seen == [("available", 0)]
    assert len(rds.states) == 1


@pytest.mark.parametrize(
    "states",
    [("creating", "available"), ("backing-up", "available"), ("stopping", "stopped"), ("modifying", "available")],
)
def test_teardown_waits_until_the_database_can_be_deleted(
    states: tuple[str, ...], owner: Person, aws: AwsProxy, aws_server: str
) -> None:
    aws.script = RdsStates(aws_server, states[0], *states)
    said = owner.says("teardown", "--yes", "--delete-data")
    assert said.code == 0, said.err
    assert f"is {states[0]}: waiting until that is over" in said.err
    assert owner.client("rds").describe_db_instances()["DBInstances"] == []
