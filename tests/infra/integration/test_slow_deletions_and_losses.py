"""What AWS does slowly or in part, where moto does it at once: deletions; and changes that lose data."""

from __future__ import annotations

from urllib.parse import parse_qs, quote, urlsplit

import pytest

from tests.support.aws_proxy import Answer, AwsProxy, Call, refusal
from tests.support.person import Person

PREFIX = "de-mbd-predict-ada-lovelace"
STACK = f"{PREFIX}-platform"
pytestmark = pytest.mark.usefixtures("at_once")


def answer(call: Call, inside: str) -> Answer:
    name = call.operation
    body = f"<{name}Response><{name}Result>{inside}</{name}Result></{name}Response>"
    return Answer(200, body.encode(), {"Content-Type": "text/xml"})


class SlowDeletion:
    """A script: once its deletion is asked for, the stack is in these states, one a look; then as in moto."""

    def __init__(self, *states: str, reason: str = "") -> None:
        self.left, self._reason = list(states), reason
        self._is_asked, self._state = False, ""

    def __call__(self, call: Call) -> Answer | None:
        member = f"<StackName>{STACK}</StackName><StackId>1</StackId>"
        moment = "2026-11-26T10:00:00Z"
        self._is_asked = self._is_asked or call.operation == "DeleteStack"
        if not self._is_asked or call.parameters.get("StackName") != STACK:
            return None
        if call.operation == "DescribeStacks":
            self._state = self.left.pop(0) if self.left else ""
            status = f"<StackStatus>{self._state}</StackStatus><CreationTime>{moment}</CreationTime>"
            return answer(call, f"<Stacks><member>{member}{status}</member></Stacks>") if self._state else None
        if call.operation == "DescribeStackEvents" and self._state:
            failed = (
                f"<member>{member}<EventId>1</EventId><LogicalResourceId>Database</LogicalResourceId>"
                f"<ResourceStatus>DELETE_FAILED</ResourceStatus><Timestamp>{moment}</Timestamp>"
                f"<ResourceStatusReason>{self._reason}</ResourceStatusReason></member>"
            )
            return answer(call, f"<StackEvents>{failed * (self._state == 'DELETE_FAILED')}</StackEvents>")
        return None


def test_teardown_waits_until_the_stack_is_gone(owner: Person, aws: AwsProxy) -> None:
    aws.script = slow = SlowDeletion("DELETE_IN_PROGRESS", "DELETE_IN_PROGRESS")
    said = owner.says("teardown", "--yes", "--delete-data")
    assert said.code == 0, said.err
    assert slow.left == []


def test_teardown_says_why_the_stack_was_not_deleted(owner: Person, aws: AwsProxy) -> None:
    aws.script = SlowDeletion("DELETE_IN_PROGRESS", "DELETE_FAILED", reason="it is in use")
    said = owner.says("teardown", "--yes", "--delete-data")
    assert said.code == 3
    assert f"{STACK} was not deleted (DELETE_FAILED): Database: it is in use" in said.err


DENIED = "User: u is not authorized to perform: s3:DeleteObjectVersion on resource: "


@pytest.mark.parametrize(
    ("key", "code", "text", "said_so"),
    [
        ("Stocks/wex.us.csv", "InternalError", "We encountered an error", "InternalError: We encountered an error."),
        ("Stocks/wex.us.csv", "AccessDenied", "Access Denied", "may not do DeleteObjects (Access Denied). Ask for"),
        (
            "Scripts/moving-big-data.tar.gz",
            "AccessDenied",
            f'{DENIED}"arn:aws:s3:::b/Scripts/moving-big-data.tar.gz" with an explicit deny in a resource-based policy',
            "moving-big-data.tar.gz. Only the one who ran apply last may put code there: run apply, or ask them.",
        ),
    ],
    ids=["error", "denied", "code of another operator"],
)
def test_teardown_stops_where_s3_refuses_to_delete_an_object(
    key: str, code: str, text: str, said_so: str, owner: Person, aws: AwsProxy
) -> None:
    owner.client("s3").put_object(Bucket=f"{PREFIX}-s3-source", Key=key, Body=b"x")
    refused = f"<Key>{key}</Key><Code>{code}</Code><Message>{text}</Message>"

    def refuse(call: Call) -> Answer | None:
        is_deletion = call.method == "POST" and "?delete" in call.target
        body = f"<DeleteResult><Error>{refused}</Error></DeleteResult>"
        return Answer(200, body.encode(), {"Content-Type": "application/xml"}) if is_deletion else None

    aws.script = refuse
    said = owner.says("teardown", "--yes", "--delete-data")
    assert said.code == 3
    assert f"Could not delete 1 objects of {PREFIX}-s3-source, such as {key}: " in said.err
    assert said_so in said.err
    assert "DeleteStack" not in aws.operations()
    assert owner.client("rds").describe_db_instances()["DBInstances"][0]["DeletionProtection"] is True


def test_teardown_deletes_more_secrets_than_one_page_or_one_call_has(owner: Person) -> None:
    ssm = owner.client("ssm")
    for number in range(15):  # with those of `apply` three pages of ten
        ssm.put_parameter(Name=f"/{PREFIX}/airflow/extra-{number:02}", Value="x", Type="SecureString")
    said = owner.says("teardown", "--yes", "--delete-data")
    assert said.code == 0, said.err
    assert ssm.describe_parameters()["Parameters"] == []


def test_teardown_deletes_objects_whose_keys_xml_cannot_carry(owner: Person, aws: AwsProxy) -> None:
    """As S3 documents it: listings in URL encoding where they are asked for, and MalformedXML of DeleteObjects."""
    strange = ["\x01.SUCCESS", "a\x0b b+c", "\ufffe"]

    def listed(call: Call, kind: str, item: str, *keys: str, then: str = "") -> Answer:
        assert "encoding-type=url" in call.target
        items = "".join(
            f"<{item}><Key>{quote(k)}</Key><VersionId>1</VersionId><UploadId>1</UploadId></{item}>" for k in keys
        )
        more = f"<NextKeyMarker>{quote(then)}</NextKeyMarker><NextUploadIdMarker>1</NextUploadIdMarker>" * bool(then)
        rest = f"{more}<IsTruncated>{str(bool(then)).lower()}</IsTruncated><EncodingType>url</EncodingType>"
        return Answer(200, f"<List{kind}Result>{items}{rest}</List{kind}Result>".encode(), {"Content-Type": "text/xml"})

    def as_s3(call: Call) -> Answer | None:
        match call.method, parse_qs(urlsplit(call.target).query, keep_blank_values=True):
            case "POST", {"delete": _}:
                if any(key.encode() in call.body for key in strange):
                    return refusal(call, "MalformedXML", text="The XML you provided was not well-formed")
                return Answer(200, b"<DeleteResult/>", {"Content-Type": "text/xml"})
            case "GET", {"versions": _}:
                return listed(call, "Versions", "Version", *strange, "Stocks/wex.us.csv")
            case "GET", {"uploads": _, "key-marker": [marker], "upload-id-marker": [upload]}:
                assert (marker, upload) == (strange[1], "1")
                return listed(call, "MultipartUploads", "Upload", strange[2])
            case "GET", {"uploads": _}:
                return listed(call, "MultipartUploads", "Upload", *strange[:2], then=strange[1])
            case "DELETE", _:
                return Answer(204, b"")
        return None

    aws.script = as_s3
    said = owner.says("teardown", "--yes", "--delete-data")
    assert said.code == 0, said.err
    deletions = [(call.key, "uploadId" in call.target) for call in aws.calls if call.method == "DELETE"]
    assert deletions == [(key, is_upload) for is_upload in (False, True) for key in strange]
    [together] = [call.body for call in aws.calls if call.method == "POST" and "?delete" in call.target]
    assert b"Stocks/wex.us.csv" in together


def test_apply_with_yes_alone_loses_no_data(owner: Person, aws: AwsProxy) -> None:
    replaced, removed = "<Action>Modify</Action><Replacement>True</Replacement>", "<Action>Remove</Action>"
    state = "<Status>CREATE_COMPLETE</Status><ExecutionStatus>AVAILABLE</ExecutionStatus>"
    for resource, loss in (("Database", replaced), ("SourceBucket", replaced), ("Database", removed)):
        change = f"<ResourceChange>{loss}<LogicalResourceId>{resource}</LogicalResourceId></ResourceChange>"
        changes = f"{state}<Changes><member><Type>Resource</Type>{change}</member></Changes>"

        def loses(call: Call, changes: str = changes) -> Answer | None:
            if call.operation == "ExecuteChangeSet":
                return refusal(call, "NobodyAsked")
            return answer(call, changes) if call.operation == "DescribeChangeSet" else None

        aws.script = loses
        aws.calls.clear()
        said = owner.says("apply", "--yes")
        assert said.code == 1
        assert "This loses data (" in said.err
        assert f"A person has to type {PREFIX}." in said.err
        assert "ExecuteChangeSet" not in aws.operations()
