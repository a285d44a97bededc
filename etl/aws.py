"""AWS: a boto3 session goes in, clients with our timeouts and retries come out; their errors are translated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    InvalidRegionError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
)

from etl.errors import ServiceError, SettingsError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sns import SNSClient

CONCURRENT_REQUESTS = 16
"""Requests in flight at once: S3 answers a small GET in tens of milliseconds, so 1000 files need many under way."""

# "standard" retries throttling, 5xx and resets with backoff, and nothing else: a denied request fails at once.
_CONFIG = Config(
    retries={"mode": "standard", "total_max_attempts": 5},
    connect_timeout=10,
    read_timeout=60,
    max_pool_connections=CONCURRENT_REQUESTS + 4,
)
# A mail is sent from an Airflow callback, which is killed after 50 seconds.
_SNS_CONFIG = Config(retries={"mode": "standard", "total_max_attempts": 3}, connect_timeout=3, read_timeout=8)
_DENIED = {"AccessDenied", "AccessDeniedException", "AuthorizationError", "403"}
_CREDENTIALS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidClientTokenId", "ExpiredToken", "AuthFailure"}
_MISSING = {"NoSuchBucket", "NoSuchKey", "NotFound", "NotFoundException", "404", "InvalidParameter"}


@dataclass(frozen=True)
class Aws:
    """Where AWS is and who we are there: boto3's own defaults (profile, role, AWS_ENDPOINT_URL) unless given."""

    session: boto3.Session | None = field(default=None, repr=False)
    endpoint_url: str | None = None

    def s3(self) -> S3Client:
        """A thread-safe S3 client. Raises SettingsError without a usable profile."""
        with aws_errors("set up S3"):
            return self._session().client("s3", config=_CONFIG, endpoint_url=self.endpoint_url)

    def sns(self) -> SNSClient:
        """An SNS client. Raises SettingsError without a region or a usable profile."""
        with aws_errors("set up SNS"):
            return self._session().client("sns", config=_SNS_CONFIG, endpoint_url=self.endpoint_url)

    def _session(self) -> boto3.Session:
        return self.session or boto3.Session()


@contextmanager
def aws_errors(action: str) -> Iterator[None]:
    """Translate botocore's errors of `action` ("list s3://bucket/Stocks/") into SettingsError or ServiceError."""
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in _DENIED:
            raise SettingsError(
                f"Not allowed to {action}: AWS denies {error.operation_name}. Grant that action to this role or user."
            ) from error
        if code in _CREDENTIALS:
            raise SettingsError(
                f"Cannot {action}: AWS refuses the credentials ({code}). Renew or mend them."
            ) from error
        if code in _MISSING:
            raise SettingsError(
                f"Cannot {action}: it does not exist ({code}). Check the name and the region."
            ) from error
        raise ServiceError(f"Cannot {action}: {error.operation_name} failed with {code}. Try again.") from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise SettingsError(
            f"Cannot {action}: no AWS credentials. Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        ) from error
    except (NoRegionError, InvalidRegionError, ProfileNotFound) as error:
        raise SettingsError(f"Cannot {action}: {error} Set AWS_REGION and AWS_PROFILE.") from error
    except (ConnectionError, HTTPClientError) as error:
        raise ServiceError(f"Cannot {action}: no answer from AWS ({type(error).__name__}). Try again.") from error
    except BotoCoreError as error:
        raise SettingsError(f"Cannot {action}: {error}") from error
