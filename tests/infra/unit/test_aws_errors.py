"""Errors of AWS become messages that say what happened and what to do, with an exit code for scripts."""

from __future__ import annotations

import pytest
from botocore import exceptions as botocore_errors

from infra_scripts.aws import aws_errors
from infra_scripts.errors import AwsError, DeniedError, InfraError, SettingsError


def refusal(code: str, message: str = "", operation: str = "CreateBucket") -> botocore_errors.ClientError:
    return botocore_errors.ClientError({"Error": {"Code": code, "Message": message}}, operation)


def translated(error: Exception) -> InfraError:
    with pytest.raises(InfraError) as caught, aws_errors("make the bucket b"):
        raise error
    assert caught.value.__cause__ is error
    assert str(caught.value).startswith("Could not make the bucket b: ")
    return caught.value


@pytest.mark.parametrize(
    ("code", "message", "action"),
    [
        (
            "AccessDenied",
            "User: arn:aws:iam::1:user/x is not authorized to perform: s3:CreateBucket on resource: "
            '"arn:aws:s3:::b" because no identity-based policy allows the s3:CreateBucket action',
            "s3:CreateBucket on arn:aws:s3:::b.",
        ),
        (
            "UnauthorizedOperation",
            "You are not authorized to perform this operation. User: arn:aws:iam::1:user/x is not authorized to "
            "perform: ec2:DescribeVpcs because no identity-based policy allows the ec2:DescribeVpcs action",
            "ec2:DescribeVpcs.",
        ),
        ("AccessDeniedException", "", "CreateBucket (access denied)."),
    ],
)
def test_the_missing_permission_is_named(code: str, message: str, action: str) -> None:
    error = translated(refusal(code, message))
    assert isinstance(error, DeniedError)
    assert error.exit_code == 3
    assert f"your AWS login may not do {action} Ask for that permission." in str(error)


def test_a_denied_head_request_is_reported_although_it_has_no_message() -> None:
    assert isinstance(translated(refusal("403", "Forbidden", "HeadBucket")), DeniedError)


@pytest.mark.parametrize("code", ["InvalidClientTokenId", "SignatureDoesNotMatch", "AuthFailure", "InvalidAccessKeyId"])
def test_a_wrong_login_is_no_missing_permission(code: str) -> None:
    error = translated(refusal(code))
    assert not isinstance(error, DeniedError)
    assert "does not accept this login" in str(error)


@pytest.mark.parametrize("code", ["ExpiredToken", "ExpiredTokenException", "RequestExpired"])
def test_an_expired_login_says_to_log_in_again(code: str) -> None:
    assert "has expired. Log in again" in str(translated(refusal(code)))


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (botocore_errors.NoCredentialsError(), SettingsError, "no AWS login was found. Run `aws configure`"),
        (
            botocore_errors.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"),
            SettingsError,
            "no AWS login was found",
        ),
        (botocore_errors.UnauthorizedSSOTokenError(), SettingsError, "Run `aws sso login`"),
        (botocore_errors.NoRegionError(), SettingsError, "Set AWS_REGION"),
        (botocore_errors.EndpointConnectionError(endpoint_url="https://x"), AwsError, "AWS cannot be reached"),
        (
            botocore_errors.ReadTimeoutError(endpoint_url="https://x"),
            AwsError,
            "AWS cannot be reached",
        ),
        (
            botocore_errors.WaiterError("db_instance_available", "Max attempts exceeded", {}),
            AwsError,
            "Run it again: it continues where it stopped",
        ),
        (refusal("LimitExceeded", "Too many."), AwsError, "LimitExceeded: Too many."),
    ],
)
def test_each_other_failure_says_what_to_do(error: Exception, kind: type[InfraError], words: str) -> None:
    said = translated(error)
    assert type(said) is kind
    assert words in str(said)


def test_code_that_only_the_operator_may_put_says_what_to_do() -> None:
    resource = "arn:aws:s3:::de-mbd-predict-ada-lovelace-s3-source/Scripts/moving-big-data.tar.gz"
    text = (
        "User: arn:aws:iam::123456789012:user/bob is not authorized to perform: s3:PutObject on resource: "
        f'"{resource}" with an explicit deny in a resource-based policy'
    )
    said = str(translated(refusal("AccessDenied", text)))
    assert f"may not do s3:PutObject on {resource}. Only the one who ran apply last may put code there" in said


def test_an_error_of_ours_passes_untouched() -> None:
    ours = AwsError("as it is")
    with pytest.raises(AwsError) as caught, aws_errors("make the bucket b"):
        raise ours
    assert caught.value is ours
