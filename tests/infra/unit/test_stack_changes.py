"""Changes of a stack: described in plain words, waited for, and explained when they fail."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from infra_scripts.checks.airflow import judge
from infra_scripts.errors import AwsError
from infra_scripts.platform import change_set, stack
from infra_scripts.platform.change_set import Change, ChangeSet
from infra_scripts.platform.mails import subscriptions
from infra_scripts.platform.stack import failures, find_stack, wait

NOW = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)


class Session(boto3.Session):
    """One client, whose answers are written down."""

    def __init__(self, service: Any) -> None:  # noqa: ANN401
        super().__init__("testing", "testing", region_name="eu-west-1")
        self.made = super().client(service)

    def client(self, *_: Any, **__: Any) -> Any:  # noqa: ANN401
        return self.made


@pytest.fixture
def session() -> Session:
    return Session("cloudformation")


@pytest.fixture
def answers(session: Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stubber]:
    monkeypatch.setattr(stack, "POLL_SECONDS", 0)
    monkeypatch.setattr(change_set, "POLL_SECONDS", 0)
    with Stubber(session.made) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def described(state: str) -> dict[str, Any]:
    return {"Stacks": [{"StackName": "p", "StackStatus": state, "CreationTime": NOW}]}


def event(resource: str, state: str, reason: str = "") -> dict[str, Any]:
    return {
        "StackId": "1", "EventId": resource + state, "StackName": "p", "LogicalResourceId": resource,
        "ResourceStatus": state, "ResourceStatusReason": reason, "Timestamp": NOW,
    }  # fmt: skip


def test_waiting_reports_each_resource_once_and_ends_with_the_stack(
    session: Session, answers: Stubber, capsys: pytest.CaptureFixture[str]
) -> None:
    begun = [event("p", "UPDATE_IN_PROGRESS"), event("Old", "CREATE_COMPLETE")]
    first = [event("Topic", "CREATE_COMPLETE"), event("Topic", "CREATE_IN_PROGRESS"), *begun]
    last = [event("p", "UPDATE_COMPLETE"), event("Database", "CREATE_COMPLETE"), *first]
    for state, events in (("UPDATE_IN_PROGRESS", first), ("UPDATE_COMPLETE", last)):
        answers.add_response("describe_stacks", described(state), {"StackName": "p"})
        answers.add_response("describe_stack_events", {"StackEvents": events}, {"StackName": "p"})
    ended = wait(session, name="p")
    assert ended is not None
    assert ended.state == "UPDATE_COMPLETE"
    assert capsys.readouterr().err.splitlines() == [
        "10:00:00 Topic: create complete",
        "10:00:00 Database: create complete",
    ]


def test_waiting_for_a_deletion_ends_when_the_stack_is_gone(session: Session, answers: Stubber) -> None:
    answers.add_response("describe_stacks", described("DELETE_IN_PROGRESS"))
    answers.add_response("describe_stack_events", {"StackEvents": []})
    answers.add_client_error("describe_stacks", "ValidationError", "Stack with id p does not exist")
    assert wait(session, name="p") is None


def test_a_stack_that_is_about_to_begin_is_waited_for(session: Session, answers: Stubber) -> None:
    for state in ("REVIEW_IN_PROGRESS", "CREATE_IN_PROGRESS", "CREATE_COMPLETE"):
        answers.add_response("describe_stacks", described(state))
        answers.add_response("describe_stack_events", {"StackEvents": []})
    assert wait(session, name="p") is not None


def test_a_failure_names_the_resources_that_failed_on_their_own_account(session: Session, answers: Stubber) -> None:
    events = [
        event("Instance", "CREATE_FAILED", "Resource creation cancelled"),
        event("Database", "CREATE_FAILED", "db.t3.micro is not offered here"),
        event("Topic", "CREATE_COMPLETE"),
    ]
    answers.add_response("describe_stack_events", {"StackEvents": events})
    assert failures(session, name="p") == "Database: db.t3.micro is not offered here"


def test_another_refusal_than_absence_is_an_error(session: Session, answers: Stubber) -> None:
    answers.add_client_error("describe_stacks", "ValidationError", "1 validation error detected")
    with pytest.raises(AwsError, match="1 validation error"):
        find_stack(session, name="p")


def proposed_with(
    session: Session,
    answers: Stubber,
    changes: list[dict[str, Any]],
    *,
    second_page: list[dict[str, Any]] | None = None,
    **facts: str,
) -> ChangeSet:
    def page(changes: list[dict[str, Any]]) -> dict[str, Any]:
        listed = [{"Type": "Resource", "ResourceChange": one} for one in changes]
        return {"Status": "CREATE_COMPLETE", "Changes": listed}

    arn = "arn:aws:cloudformation:c"
    answers.add_response("create_change_set", {"Id": arn, "StackId": "1"})
    answers.add_response("describe_change_set", {"Status": "CREATE_IN_PROGRESS"})
    if second_page is None:
        answers.add_response("describe_change_set", {**page(changes), **facts})
    else:
        answers.add_response("describe_change_set", {**page(changes), "NextToken": "2"})
        answers.add_response("describe_change_set", page(second_page), {"ChangeSetName": arn, "NextToken": "2"})
    answers.add_response("describe_change_set", {"Status": "CREATE_COMPLETE", "ExecutionStatus": "AVAILABLE"})
    answers.add_response("describe_stacks", described("UPDATE_COMPLETE"))
    answers.add_response("delete_change_set", {})
    deployed = stack.Stack(name="p", state="UPDATE_COMPLETE")
    with change_set.proposed(session, name="p", template="{}", parameters={}, tags={}, deployed=deployed) as found:
        return found


def test_what_would_be_lost_is_in_the_warnings(session: Session, answers: Stubber) -> None:
    found = proposed_with(
        session,
        answers,
        [
            {"Action": "Add", "LogicalResourceId": "SshFromMe"},
            {"Action": "Modify", "LogicalResourceId": "Role", "Replacement": "False"},
            {"Action": "Modify", "LogicalResourceId": "Database", "Replacement": "True"},
            {"Action": "Modify", "LogicalResourceId": "Instance", "Replacement": "Conditional"},
            {"Action": "Remove", "LogicalResourceId": "SourceBucket"},
        ],
    )
    assert [change.action for change in found.changes] == ["made", "changed", "replaced", "perhaps replaced", "removed"]
    warnings = [line for line in found.describe() if line.startswith("WARNING")]
    assert len(warnings) == 3
    assert "the database is replaced, which loses all its rows" in warnings[0]


def test_changes_of_every_page_are_in_the_plan(session: Session, answers: Stubber) -> None:
    added = {"Action": "Add", "LogicalResourceId": "SshFromMe"}
    removed = {"Action": "Remove", "LogicalResourceId": "Database"}
    found = proposed_with(session, answers, [added], second_page=[removed])
    assert [change.action for change in found.changes] == ["made", "removed"]


def test_nothing_to_change_is_no_failure(session: Session, answers: Stubber) -> None:
    found = proposed_with(
        session, answers, [], Status="FAILED", StatusReason="The submitted information didn't contain changes."
    )
    assert found.describe() == ["Nothing to change: the platform matches the settings."]


def test_a_refused_change_set_is_reported_and_discarded(session: Session, answers: Stubber) -> None:
    with pytest.raises(AwsError, match="Template error"):
        proposed_with(session, answers, [], Status="FAILED", StatusReason="Template error: x")


def test_a_change_set_that_is_gone_with_its_stack_does_not_hide_why_the_change_failed(
    session: Session, answers: Stubber
) -> None:
    arn = "arn:aws:cloudformation:c"
    answers.add_response("create_change_set", {"Id": arn, "StackId": "1"})
    answers.add_response("describe_change_set", {"Status": "CREATE_COMPLETE", "Changes": []})
    answers.add_client_error("describe_change_set", "ChangeSetNotFound", f"ChangeSet [{arn}] does not exist")
    with (
        pytest.raises(AwsError, match="no more of these"),
        change_set.proposed(session, name="p", template="{}", parameters={}, tags={}, deployed=None),
    ):
        raise AwsError("Database: no more of these")


def test_a_loss_belongs_to_removal_and_replacement_only() -> None:
    assert Change(resource="Database", action="changed").lost == ""
    assert Change(resource="Database", action="removed").lost
    assert Change(resource="Topic", action="removed").lost == ""


def test_a_subscription_that_nobody_confirmed_is_pending() -> None:
    session = Session("sns")
    listed = [
        {"Endpoint": "a@example.org", "Protocol": "email", "SubscriptionArn": "PendingConfirmation"},
        {"Endpoint": "b@example.org", "Protocol": "email", "SubscriptionArn": "arn:aws:sns:eu-west-1:1:t:2"},
    ]
    with Stubber(session.made) as stubber:
        stubber.add_response("list_subscriptions_by_topic", {"Subscriptions": listed})
        found = subscriptions(session, topic_arn="arn:aws:sns:eu-west-1:1:t")
    assert [one["state"] for one in found] == ["not confirmed: click the link in AWS's mail", "confirmed"]


@pytest.mark.parametrize(
    ("status", "output", "error", "level"),
    [
        ("Success", 'active\n[{"dag_id": "moving_big_data", "is_paused": "False"}]', "", "ok"),
        ("Success", 'active\n[{"is_paused": true}]', "", "error"),
        ("Success", "active\n", "", "warning"),
        ("Failed", "inactive\n", "", "error"),
        ("Failed", "active\n", "service scheduler is not running", "error"),
        ("TimedOut", "", "", "error"),
    ],
)
def test_what_the_instance_says_of_airflow_is_judged(status: str, output: str, error: str, level: str) -> None:
    finding = judge(status=status, output=output, error=error)
    assert finding.level == level
    if error:
        assert error in finding.text
