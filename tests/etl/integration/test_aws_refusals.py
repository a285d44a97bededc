"""What S3 and SNS refuse: each code that they document becomes the right class of error, with AWS's own sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import boto3
import pytest

import etl
from etl.batch.storage import Storage, open_storage
from etl.errors import FileChangedError
from etl.outcome.receipt import State
from tests.support.aws_stub import AwsStub, Page, model_errors, s3_error, sns_error

if TYPE_CHECKING:
    from pathlib import Path

SENTENCE = "What AWS says about it, in <its> own words"
TOPIC = "arn:aws:sns:eu-west-1:000000000000:topic"
COMMON = {  # in addition to the models': docs of S3's errors and of the errors that all services have
    "AccessDenied": 403, "AccessDeniedException": 403, "AccountProblem": 403, "AllAccessDisabled": 403,
    "AuthorizationHeaderMalformed": 400, "BadDigest": 400, "ConditionalRequestConflict": 409, "EntityTooLarge": 400,
    "ExpiredToken": 400, "IllegalLocationConstraintException": 400, "IncompleteBody": 400, "InternalError": 500,
    "InternalFailure": 500, "InvalidAccessKeyId": 403, "InvalidArgument": 400, "InvalidBucketName": 400,
    "InvalidBucketState": 409, "InvalidClientTokenId": 403, "InvalidObjectState": 403, "InvalidPart": 400,
    "InvalidPartOrder": 400, "InvalidPayer": 403, "InvalidRequest": 400, "InvalidSecurity": 403, "InvalidToken": 400,
    "InvalidURI": 400, "IncompleteSignature": 400, "KMS.DisabledException": 400, "KMS.InvalidKeyUsageException": 400,
    "KMS.KMSInvalidStateException": 400, "KMS.NotFoundException": 400, "KeyTooLongError": 400,
    "MalformedXML": 400, "MethodNotAllowed": 405, "MissingAuthenticationToken": 403, "NoSuchBucket": 404,
    "NotImplemented": 501, "NotSignedUp": 403, "OperationAborted": 409, "OptInRequired": 403,
    "PermanentRedirect": 301, "RequestExpired": 400, "RequestTimeout": 400, "RequestTimeTooSkewed": 403,
    "ServiceUnavailable": 503, "SignatureDoesNotMatch": 403, "SlowDown": 503, "TemporaryRedirect": 307,
    "Throttling": 400, "ThrottlingException": 400, "TokenRefreshRequired": 400, "TooManyRequestsException": 429,
    "UnrecognizedClientException": 403, "UserKeyMustBeSpecified": 400, "ValidationError": 400,
}  # fmt: skip
MAY_PASS = {  # with a status of 4xx, because the docs say to try again, or that a limit of requests was met
    "ConditionalRequestConflict", "KMSThrottling", "OperationAborted", "RequestTimeout", "Throttled", "Throttling",
    "ThrottlingException", "TooManyRequestsException", "NoSuchUpload", "SlowDown", "PriorRequestNotComplete",
}  # fmt: skip
NO_LONGER_THERE = {"NoSuchKey", "PreconditionFailed", "InvalidRange"}
ADVICE = {
    "AccessDenied": "Grant it to this role or user",
    "ExpiredToken": "Renew or correct them",
    "InvalidAccessKeyId": "Renew or correct them",
    "SignatureDoesNotMatch": "Renew or correct them",
    "InvalidClientTokenId": "Renew or correct them",
    "RequestTimeTooSkewed": "Set the clock",
    "AuthorizationHeaderMalformed": "Set AWS_REGION",
    "PermanentRedirect": "Set AWS_REGION",
    "NoSuchBucket": "Check the name and the region",
    "InvalidObjectState": "Restore it",
    "SlowDown": "Try again",
    "InternalError": "Try again",
}


def _put(place: Storage) -> None:
    with place.write("x.csv") as file:
        file.write(b"content")


OPERATIONS: dict[str, tuple[Callable[[Storage], object], str]] = {
    "list": (lambda place: place.listing(), "s3:ListBucket"),
    "find": (lambda place: place.find("x.csv"), "s3:ListBucket"),
    "read": (lambda place: place.read("x.csv"), "s3:GetObject"),
    "write": (_put, "s3:PutObject"),
}
S3_ERRORS = {**dict(model_errors("s3")), **COMMON}
SNS_ERRORS = {**COMMON, **dict(model_errors("sns"))}


@pytest.fixture(scope="module")
def stub() -> Iterator[AwsStub]:
    with AwsStub() as server:
        yield server


@pytest.fixture
def stub_aws(stub: AwsStub, new_session: Callable[[], boto3.Session], monkeypatch: pytest.MonkeyPatch) -> etl.Aws:
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    stub.requests.clear()
    return etl.Aws(session=new_session(), endpoint_url=stub.url)


def test_models_of_aws_have_errors_to_sweep() -> None:
    assert {"NoSuchBucket", "InvalidObjectState"} <= S3_ERRORS.keys()
    assert {"AuthorizationError", "KMSDisabled", "InvalidParameter"} <= SNS_ERRORS.keys()
    assert len(S3_ERRORS) > 50
    assert len(SNS_ERRORS) > 60


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_error_of_s3_is_sorted_by_whether_it_passes_and_keeps_its_sentence(
    stub: AwsStub, stub_aws: etl.Aws, operation: str
) -> None:
    do, right = OPERATIONS[operation]
    place = open_storage("s3://bucket/Stocks", aws=stub_aws)
    for code, status in S3_ERRORS.items():
        stub.page = s3_error(status, code, SENTENCE)
        if operation == "read" and code in NO_LONGER_THERE:
            with pytest.raises(FileChangedError):
                do(place)
            continue
        with pytest.raises(etl.EtlError) as raised:
            do(place)
        said = str(raised.value)
        passes = status >= 500 or code in MAY_PASS
        assert isinstance(raised.value, etl.ServiceError if passes else etl.SettingsError), said
        assert ("Try again." in said) == passes, said
        assert f"({code}: {SENTENCE})" in said, said
        assert ADVICE.get(code, "") in said
        if code in ("AccessDenied", "AccessDeniedException"):
            assert f"AWS denies {right} (" in said, said
        assert "HeadObject" not in said
        assert "HeadBucket" not in said
    assert not [request for request in stub.requests if request.startswith("HEAD")]


def test_each_error_of_sns_keeps_its_sentence_and_the_mail(stub: AwsStub, stub_aws: etl.Aws, tmp_path: Path) -> None:
    job, mailbox = (
        etl.Job(source="", company_index="", output=str(tmp_path), aws=stub_aws),
        etl.Mailbox(TOPIC, "a", "b"),
    )
    for number, (code, status) in enumerate(SNS_ERRORS.items()):
        stub.page = sns_error(status, code, SENTENCE)
        run = etl.Run(f"run{number}", datetime.now(UTC))
        receipt, refused = etl.send_mail(etl.Receipt.of_run(run, state=State.SUCCESS), job=job, mailbox=mailbox)
        assert refused
        assert f"{code}: {SENTENCE}" in refused, refused
        passes = status >= 500 or code in MAY_PASS
        assert ("Try again." in refused) == passes, refused
        if code in ("AuthorizationError", "AccessDenied", "KMSAccessDenied"):
            assert "AWS denies sns:Publish" in refused
        assert receipt.mail == "kept"
        assert (tmp_path / "notices" / f"run{number}.json").exists()


@pytest.mark.parametrize(
    ("sentence", "right"),
    [
        (
            "User: arn:aws:sts::1:assumed-role/r/i is not authorized to perform: kms:Decrypt on resource: k",
            "kms:Decrypt",
        ),
        ("User: arn:aws:iam::1:user/u is not authorized to perform: s3:ListBucket on resource: x", "s3:ListBucket"),
        ("Access Denied", "s3:GetObject"),
    ],
)
def test_right_that_is_missing_is_the_one_that_awss_sentence_names(
    stub: AwsStub, stub_aws: etl.Aws, sentence: str, right: str
) -> None:
    stub.page = s3_error(403, "AccessDenied", sentence)
    with pytest.raises(etl.SettingsError, match=rf"AWS denies {right} \(AccessDenied: {sentence}\)\. Grant it"):
        open_storage("s3://bucket/Stocks", aws=stub_aws).read("x.csv")


def test_old_signature_of_sns_is_a_matter_of_the_clock(stub: AwsStub, stub_aws: etl.Aws, tmp_path: Path) -> None:
    said = "Signature expired: 20261126T030000Z is now earlier than 20261126T041500Z (20261126T043000Z - 15 min.)"
    stub.page = sns_error(403, "SignatureDoesNotMatch", said)
    job = etl.Job(source="", company_index="", output=str(tmp_path), aws=stub_aws)
    receipt = etl.Receipt.of_run(etl.Run.begin("test"), state=State.SUCCESS)
    _, refused = etl.send_mail(receipt, job=job, mailbox=etl.Mailbox(TOPIC, "a", "b"))
    assert "Set the clock" in str(refused)


PAGES = {
    "login page": Page(200, "<!DOCTYPE html><html><body>Please <br> log in</body></html>", "text/html"),
    "well-formed page": Page(200, "<html><body>Please log in</body></html>", "text/html"),
    "no text": Page(200, "", "text/html"),
    "JSON": Page(200, '{"error": "no route"}', "application/json"),
    "page of a gateway": Page(502, "<html><body>Bad <hr> Gateway</body></html>", "text/html"),
    "page of a firewall": Page(403, "<html><body>Blocked <hr> by policy</body></html>", "text/html"),
}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_answer_of_something_else_than_sns_keeps_the_mail(
    stub: AwsStub, stub_aws: etl.Aws, tmp_path: Path, page: Page
) -> None:
    stub.page = page
    job = etl.Job(source="", company_index="", output=str(tmp_path), aws=stub_aws)
    receipt = etl.Receipt.of_run(etl.Run("one", datetime.now(UTC)), state=State.SUCCESS)
    receipt, refused = etl.send_mail(receipt, job=job, mailbox=etl.Mailbox(TOPIC, "a", "b"))
    assert str(refused).startswith("The mail was not sent: ")
    assert "\n" not in str(refused)
    assert receipt.mail == "kept"
    assert (tmp_path / "notices" / "one.json").exists()


@pytest.mark.parametrize("operation", ["list", "find", "write"])
@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_answer_of_something_else_than_s3_is_not_taken_for_an_empty_bucket_or_a_written_file(
    stub: AwsStub, stub_aws: etl.Aws, page: Page, operation: str
) -> None:
    stub.page = page
    with pytest.raises(etl.EtlError) as raised:
        OPERATIONS[operation][0](open_storage("s3://bucket/Stocks", aws=stub_aws))
    assert "\n" not in str(raised.value)
