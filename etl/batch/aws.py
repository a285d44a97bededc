"""Makes AWS clients with our timeouts and retries, and translates their errors."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from etl.errors import EtlError, FileRefusedError, ServiceError, SettingsError

if TYPE_CHECKING:
    import boto3
    from botocore.exceptions import ClientError
    from mypy_boto3_cloudwatch import CloudWatchClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sns import SNSClient

CONCURRENT_REQUESTS = 16
"""Requests in flight at once: S3 answers a small GET in tens of milliseconds, so 1000 files need many under way."""

_DENIED = {
    "AccessDenied", "AccessDeniedException", "AuthorizationError", "AuthorizationErrorException", "KMSAccessDenied",
    "NotAuthorized", "UnauthorizedAccess", "UnauthorizedOperation", "403",
}  # fmt: skip
_CREDENTIALS = {
    "AuthFailure", "ExpiredToken", "ExpiredTokenException", "IncompleteSignature", "InvalidAccessKeyId",
    "InvalidClientTokenId", "InvalidSecurity", "InvalidToken", "MissingAuthenticationToken", "SignatureDoesNotMatch",
    "TokenRefreshRequired", "UnrecognizedClientException", "401",
}  # fmt: skip
_CLOCK = {"RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"}
_REGION = {
    "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect", "Redirect",
    "TemporaryRedirect", "301", "302", "307", "308",
}  # fmt: skip
_MISSING = {"NoSuchBucket", "NoSuchKey", "NotFound", "NotFoundException", "ResourceNotFound", "404"}
_PASSING = {  # although they are 4xx, or come in the body of a 200; in addition to all throttling
    "BandwidthLimitExceeded", "ConditionalRequestConflict", "InternalError", "LimitExceededException",
    "OperationAborted", "PriorRequestNotComplete", "ProvisionedThroughputExceededException", "RequestLimitExceeded",
    "RequestTimeout", "RequestTimeoutException", "ServiceUnavailable", "SlowDown", "TooManyRequestsException",
    "TransactionInProgressException",
    "NoSuchUpload",  # another writer of the same object has ended it
}  # fmt: skip
_ACTIONS = {  # IAM's names; any other operation of S3 has its own
    "CompleteMultipartUpload": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "DeleteObjects": "s3:DeleteObject",
    "GetTopicAttributes": "sns:GetTopicAttributes",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "ListObjectsV2": "s3:ListBucket",
    "Publish": "sns:Publish",
    "UploadPart": "s3:PutObject",
    "UploadPartCopy": "s3:PutObject",
}
_NAMED_ACTION = re.compile(r"not authorized to perform: ([\w-]+:\w+)")
_OLD_SIGNATURE = re.compile(r"Signature (expired|not yet current)")  # how services other than S3 speak of a clock
_LONGEST_SENTENCE = 500  # characters of AWS's own words that are passed on


@dataclass(frozen=True)
class Aws:
    """Where AWS is and who we are there: boto3's own defaults (profile, role, AWS_ENDPOINT_URL) unless given.

    The region is also that of AWS_REGION, where boto3 finds none.
    """

    session: boto3.Session | None = field(default=None, repr=False)
    endpoint_url: str | None = None

    @cached_property
    def own_session(self) -> boto3.Session:
        """The session that was given, or one of boto3's defaults. Raises SettingsError without a usable profile."""
        import boto3  # noqa: PLC0415  a run on folders needs none of it, and it takes 0.3 s

        with aws_errors("set up a session"):
            own = self.session or boto3.Session()
            if self.session is None and not own.region_name:  # boto3 reads AWS_DEFAULT_REGION alone
                own = boto3.Session(region_name=os.environ.get("AWS_REGION") or None)
            return own

    @cached_property
    def s3(self) -> S3Client:
        """A thread-safe S3 client, made once. Raises SettingsError without a usable profile."""
        return self._client("s3", attempts=5, connect_timeout=10, read_timeout=60)

    @cached_property
    def sns(self) -> SNSClient:
        """An SNS client, made once; it gives up soon, as an Airflow callback is killed after 50 seconds.

        Raises SettingsError without a region or a usable profile.
        """
        return self._client("sns", attempts=3, connect_timeout=3, read_timeout=8)

    @cached_property
    def cloudwatch(self) -> CloudWatchClient:
        """A CloudWatch client, made once; it gives up sooner than the others, as nothing depends on it.

        Raises SettingsError without a region or a usable profile.
        """
        return self._client("cloudwatch", attempts=2, connect_timeout=2, read_timeout=3)

    def _client(self, service: str, *, attempts: int, connect_timeout: float, read_timeout: float) -> Any:  # noqa: ANN401
        from botocore.config import Config  # noqa: PLC0415  as above

        # "standard" retries throttling, 5xx and resets with backoff, and nothing else: a denied request fails at once.
        config = Config(
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            max_pool_connections=CONCURRENT_REQUESTS + 4,
        )
        action = f"set up the client of {service}"
        try:
            with aws_errors(action):
                return self.own_session.client(service, config=config, endpoint_url=self.endpoint_url)  # type: ignore[call-overload]
        except ValueError as error:
            raise SettingsError(f"Cannot {action}: {error}. Correct AWS_ENDPOINT_URL.") from error


def _expects_role() -> bool:
    """Whether the instance's role should give the credentials: where airflow/service.yml lets botocore wait for it."""
    return "AWS_METADATA_SERVICE_NUM_ATTEMPTS" in os.environ and "AWS_PROFILE" not in os.environ


@contextmanager
def aws_errors(action: str) -> Iterator[None]:
    """Translate botocore's errors of `action` ("list s3://bucket/Stocks/") into SettingsError or ServiceError."""
    from botocore import exceptions as boto  # noqa: PLC0415  as above
    from botocore.parsers import ResponseParserError  # noqa: PLC0415

    try:
        yield
    except boto.ClientError as error:
        raise _error_of(error, action) from error
    except ResponseParserError as error:
        raise ServiceError(
            f"Cannot {action}: what answered is not AWS. Is a proxy or a login page in between, or is the endpoint "
            "wrong? Try again."
        ) from error
    except (boto.CredentialRetrievalError, boto.MetadataRetrievalError) as error:
        raise ServiceError(f"Cannot {action}: {error} Try again.") from error
    except (boto.NoCredentialsError, boto.PartialCredentialsError) as error:
        if isinstance(error, boto.NoCredentialsError) and _expects_role():
            raise ServiceError(
                f"Cannot {action}: the instance's role gave no credentials, and none are set. Try again; if that does "
                "not help, attach the role to the instance, or set AIRFLOW_CONN_AWS_DEFAULT."
            ) from error
        raise SettingsError(
            f"Cannot {action}: no AWS credentials. Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        ) from error
    except (boto.NoRegionError, boto.InvalidRegionError, boto.ProfileNotFound) as error:
        raise SettingsError(
            f"Cannot {action}: {error} Set AWS_REGION and AWS_PROFILE, or correct AWS_DEFAULT_REGION."
        ) from error
    except (boto.ConnectionError, boto.HTTPClientError, boto.IncompleteReadError) as error:
        raise ServiceError(f"Cannot {action}: no answer from AWS ({type(error).__name__}). Try again.") from error
    except boto.BotoCoreError as error:
        raise SettingsError(f"Cannot {action}: {error}") from error


def field_of(answer: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401  as botocore types it
    """A field that AWS always sends: an answer without it comes from something else, whatever its status.

    Raises what aws_errors translates.
    """
    from botocore.parsers import ResponseParserError  # noqa: PLC0415  as above

    if name not in answer:
        raise ResponseParserError(f"an answer without {name}")
    return answer[name]


def code_of(error: ClientError) -> str:
    """The code of AWS's error, or its HTTP status where it names none."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", "")
    return str(error.response.get("Error", {}).get("Code", "")) or str(status)


def is_denied(error: ClientError) -> bool:
    """Whether a right is missing; S3 also says so of an object that is not there to who may not list the bucket."""
    return code_of(error) in _DENIED


def file_refused(error: ClientError, action: str) -> FileRefusedError | None:
    """The refusal of one object. None where the error is not the object's: it would meet any other one too."""
    code = code_of(error)
    if _may_pass(error) or code in _CREDENTIALS | _CLOCK | _REGION | {"NoSuchBucket"}:
        return None
    if code in _DENIED:
        reason = f"AWS denies {_denied_action(error)} ({_sentence(error)})"
    elif code == "InvalidObjectState":
        reason = f"it is archived and has to be restored first ({_sentence(error)})"
    else:
        reason = f"AWS refuses it ({_sentence(error)})"
    return FileRefusedError(str(_error_of(error, action)), reason=reason)


def _error_of(error: ClientError, action: str) -> EtlError:
    code, sentence = code_of(error), _sentence(error)
    if _may_pass(error):
        return ServiceError(f"Cannot {action}: AWS failed ({sentence}). Try again.")
    if code in _DENIED:
        return SettingsError(
            f"Not allowed to {action}: AWS denies {_denied_action(error)} ({sentence}). Grant it to this role or user."
        )
    if code in _CLOCK or _OLD_SIGNATURE.search(sentence):
        return SettingsError(f"Cannot {action}: AWS finds this machine's clock wrong ({sentence}). Set the clock.")
    if code in _CREDENTIALS:
        return SettingsError(f"Cannot {action}: AWS refuses the credentials ({sentence}). Renew or correct them.")
    if code in _REGION:
        return SettingsError(
            f"Cannot {action}: it is in another region ({sentence}). Set AWS_REGION to its region, and so "
            "AWS_DEFAULT_REGION where that is set, which comes first."
        )
    if code in _MISSING:
        return SettingsError(f"Cannot {action}: it does not exist ({sentence}). Check the name and the region.")
    if code == "InvalidObjectState":
        return SettingsError(f"Cannot {action}: it is archived ({sentence}). Restore it, then run it again.")
    return SettingsError(f"Cannot {action}: AWS refuses it ({sentence}). Correct that, then run it again.")


def _may_pass(error: ClientError) -> bool:
    """5xx and throttling do, other 4xx do not."""
    code = code_of(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code.isdigit():
        status = int(code)
    return status >= 500 or status == 429 or code in _PASSING or "throttl" in code.lower()


def _denied_action(error: ClientError) -> str:
    """IAM's name of the right that is missing: what AWS's sentence names, which may be KMS's, or the operation's."""
    named = _NAMED_ACTION.search(_sentence(error))
    return named[1] if named else _ACTIONS.get(error.operation_name, f"s3:{error.operation_name}")


def _sentence(error: ClientError) -> str:
    """AWS's code and own words, on one line."""
    words = " ".join(str(error.response.get("Error", {}).get("Message") or "").split())
    words = "".join(sign for sign in words if sign.isprintable())[:_LONGEST_SENTENCE].rstrip(". ")
    return f"{code_of(error)}: {words}" if words else code_of(error)
