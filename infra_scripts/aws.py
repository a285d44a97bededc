"""Opens one session with AWS, and translates its errors into what to do next."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import boto3
from botocore import exceptions as botocore_errors
from botocore.config import Config

from infra_scripts.errors import AwsError, DeniedError, SettingsError
from infra_scripts.settings import Settings

_CLIENT_CONFIG = Config(
    connect_timeout=10,
    read_timeout=60,
    retries={"mode": "standard"},
    max_pool_connections=32,
    user_agent_extra="moving-big-data",
)

_DENIED = {
    "AccessDenied",
    "AccessDeniedException",
    "UnauthorizedOperation",
    "AuthorizationError",
    "AuthorizationErrorException",
}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
_WRONG_LOGIN = {
    "InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId", "SignatureDoesNotMatch",
    "AuthFailure", "InvalidToken", "IncompleteSignature", "MissingAuthenticationToken", "InvalidSignatureException",
}  # fmt: skip
_NOT_ALLOWED = re.compile(r"not authorized to perform:? ([a-z0-9-]+:[A-Za-z]+)(?: on resource:? (\S+))?")


class _Session(boto3.Session):
    """Creates the client of a service once: reading a service's description takes longer than most calls."""

    def __init__(self, *, region: str) -> None:
        super().__init__(region_name=region)
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:  # type: ignore[override]  # noqa: ANN401
        if service not in self._clients:
            elsewhere = {"region_name": "us-east-1"} if service == "freetier" else {}  # the only region that has it
            self._clients[service] = super().client(service, config=_CLIENT_CONFIG, **elsewhere)  # type: ignore[call-overload]
        return self._clients[service]


def open_session(settings: Settings) -> boto3.Session:
    """Open a session with the login that AWS's tools find (environment, profile, SSO, role), in the settings' region.

    Each client has our timeouts and retries; AWS_ENDPOINT_URL points it at an emulator.
    """
    try:
        return _Session(region=settings.region)
    except botocore_errors.ProfileNotFound as error:
        raise SettingsError(
            f"{error}. Fix AWS_PROFILE, or create the profile with `aws configure --profile NAME`."
        ) from error


@contextlib.contextmanager
def aws_errors(doing: str) -> Iterator[None]:
    """Translate what boto3 raises inside into InfraError; `doing` completes "Could not ...": "create the bucket x"."""
    try:
        yield
    except botocore_errors.ClientError as error:
        raise _translated(error, doing=doing) from error
    except (botocore_errors.NoCredentialsError, botocore_errors.PartialCredentialsError) as error:
        raise SettingsError(
            f"Could not {doing}: no AWS login was found. Run `aws configure` (or `aws sso login`), or set AWS_PROFILE "
            "or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
        ) from error
    except (
        botocore_errors.UnauthorizedSSOTokenError,
        botocore_errors.SSOTokenLoadError,
        botocore_errors.TokenRetrievalError,
    ) as error:
        raise SettingsError(f"Could not {doing}: the SSO login has expired. Run `aws sso login`.") from error
    except botocore_errors.NoRegionError as error:
        raise SettingsError(f"Could not {doing}: no region is set. Set AWS_REGION in .env.") from error
    except (botocore_errors.HTTPClientError, botocore_errors.ConnectionError) as error:
        raise AwsError(
            f"Could not {doing}: AWS cannot be reached ({error}). Check the network and AWS_REGION, then run it again."
        ) from error
    except botocore_errors.WaiterError as error:
        raise AwsError(f"Could not {doing}: {error}. Run it again: it continues where it stopped.") from error
    except botocore_errors.BotoCoreError as error:
        raise AwsError(f"Could not {doing}: {error}.") from error


def error_code(error: botocore_errors.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _translated(error: botocore_errors.ClientError, *, doing: str) -> AwsError | SettingsError:
    code, text = error_code(error), str(error.response.get("Error", {}).get("Message", ""))
    if code in _DENIED or (code == "403" and error.operation_name.startswith("Head")):
        return DeniedError(f"Could not {doing}: your AWS login may not {_denied_action(error, text=text)}.")
    if code in _EXPIRED:
        return AwsError(f"Could not {doing}: the AWS login has expired. Log in again (`aws sso login`), then retry.")
    if code in _WRONG_LOGIN:
        return AwsError(
            f"Could not {doing}: AWS does not accept this login ({code}). Check the access key and its secret, "
            "AWS_PROFILE and the machine's clock. `aws sts get-caller-identity` shows who you are."
        )
    return AwsError(f"Could not {doing}: {code}: {text}".rstrip(". ") + ".")


def _denied_action(error: botocore_errors.ClientError, *, text: str) -> str:
    """`s3:CreateBucket on arn:...`, where AWS's message has it; else the operation's name."""
    match = _NOT_ALLOWED.search(text)
    if match:
        resource = (match[2] or "").strip('.,"')
        place = f" on {resource}" if resource else ""
        if "explicit deny" in text and "/Scripts/" in resource:
            return f"do {match[1]}{place}. Only the one who ran apply last may put code there: run apply, or ask them"
        return f"do {match[1]}{place}. Ask for that permission"
    return f"do {error.operation_name} ({text or 'access denied'}). Ask for that permission"
