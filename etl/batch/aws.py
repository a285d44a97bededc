"""Makes AWS clients with our timeouts and retries, and translates their errors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from etl.errors import ServiceError, SettingsError

if TYPE_CHECKING:
    import boto3
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sns import SNSClient

CONCURRENT_REQUESTS = 16
"""Requests in flight at once: S3 answers a small GET in tens of milliseconds, so 1000 files need many under way."""

_DENIED = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "403"}
_CREDENTIALS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidClientTokenId", "ExpiredToken", "AuthFailure"}
_MISSING = {"NoSuchBucket", "NoSuchKey", "NotFound", "NotFoundException", "404", "InvalidParameter"}


@dataclass(frozen=True)
class Aws:
    """Where AWS is and who we are there: boto3's own defaults (profile, role, AWS_ENDPOINT_URL) unless given."""

    session: boto3.Session | None = field(default=None, repr=False)
    endpoint_url: str | None = None

    @cached_property
    def own_session(self) -> boto3.Session:
        """The session that was given, or one of boto3's defaults. Raises SettingsError without a usable profile."""
        import boto3  # noqa: PLC0415  a run on folders needs none of it, and it takes 0.3 s

        with aws_errors("set up a session"):
            return self.session or boto3.Session()

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

    def _client(self, service: str, *, attempts: int, connect_timeout: float, read_timeout: float) -> Any:  # noqa: ANN401
        from botocore.config import Config  # noqa: PLC0415  as above

        # "standard" retries throttling, 5xx and resets with backoff, and nothing else: a denied request fails at once.
        config = Config(
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            max_pool_connections=CONCURRENT_REQUESTS + 4,
        )
        with aws_errors(f"set up the client of {service}"):
            return self.own_session.client(service, config=config, endpoint_url=self.endpoint_url)  # type: ignore[call-overload]


def _expects_role() -> bool:
    """Whether the instance's role should give the credentials: where airflow/service.yml lets botocore wait for it."""
    return "AWS_METADATA_SERVICE_NUM_ATTEMPTS" in os.environ and "AWS_PROFILE" not in os.environ


@contextmanager
def aws_errors(action: str) -> Iterator[None]:
    """Translate botocore's errors of `action` ("list s3://bucket/Stocks/") into SettingsError or ServiceError."""
    from botocore import exceptions as boto  # noqa: PLC0415  as above

    try:
        yield
    except boto.ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in _DENIED:
            raise SettingsError(
                f"Not allowed to {action}: AWS denies {error.operation_name}. Grant that action to this role or user."
            ) from error
        if code in _CREDENTIALS:
            raise SettingsError(
                f"Cannot {action}: AWS refuses the credentials ({code}). Renew or correct them."
            ) from error
        if code in _MISSING:
            raise SettingsError(
                f"Cannot {action}: it does not exist ({code}). Check the name and the region."
            ) from error
        raise ServiceError(f"Cannot {action}: {error.operation_name} failed with {code}. Try again.") from error
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
        raise SettingsError(f"Cannot {action}: {error} Set AWS_REGION and AWS_PROFILE.") from error
    except (boto.ConnectionError, boto.HTTPClientError, boto.IncompleteReadError) as error:
        raise ServiceError(f"Cannot {action}: no answer from AWS ({type(error).__name__}). Try again.") from error
    except boto.BotoCoreError as error:
        raise SettingsError(f"Cannot {action}: {error}") from error
