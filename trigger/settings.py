"""Reads the settings of the functions from their environment, and refuses unusable ones."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from trigger.errors import SettingsError

log = logging.getLogger(__name__)

# What sets each variable of a function; serverless.yml fills them from .env.
SET_BY = {
    "AIRFLOW_URL": "AIRFLOW_URL in .env: the root of Airflow, such as https://airflow.example:8080",
    "AIRFLOW_USERNAME": "serverless.yml: an Airflow user who may start the DAG",
    "AIRFLOW_PASSWORD_PARAMETER": "serverless.yml: the name of the SSM parameter with that user's password",
    "MONITORED_BUCKET": "serverless.yml: the bucket that markers are put into",
    "SOURCE_BUCKET": "serverless.yml: the bucket with Stocks/ and Output/",
    "TOPIC_ARN": "MBD_TOPIC_ARN in .env: the SNS topic that mails go to",
    "FIRST_NAME": "MBD_FIRST_NAME in .env",
    "LAST_NAME": "MBD_LAST_NAME in .env",
    "KEPT_EVENTS_URL": "serverless.yml: the queue of events that wait for a redrive",
}
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How to reach Airflow: by HTTP at `airflow_url`, or without one by SSM on the instance. Empty is not set."""

    airflow_url: str  # no trailing slash, no user information
    username: str
    password_parameter: str
    certificate_sha256: str  # hex; of Airflow's own certificate, where no authority signed it
    instance_id: str  # started if it is not running
    monitored_bucket: str
    dry_run: bool


@dataclass(frozen=True, kw_only=True)
class MailSettings:
    """Where failure mails go, and what they and the watchdog refer to."""

    topic_arn: str
    first_name: str
    last_name: str
    source_bucket: str
    monitored_bucket: str
    kept_events_url: str
    stage: str


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read all settings once; raise one SettingsError that names everything missing and what sets it."""
    by_ssm = not environment.get("AIRFLOW_URL", "").strip() and bool(environment.get("INSTANCE_ID", "").strip())
    names = ["MONITORED_BUCKET", "SOURCE_BUCKET"]
    _require(
        environment, names if by_ssm else ["AIRFLOW_URL", "AIRFLOW_USERNAME", "AIRFLOW_PASSWORD_PARAMETER", *names]
    )
    _refuse_own_output(environment)
    certificate = _fingerprint(environment.get("AIRFLOW_CERTIFICATE_SHA256", ""))
    return Settings(
        airflow_url="" if by_ssm else _airflow_url(environment["AIRFLOW_URL"].strip(), is_pinned=bool(certificate)),
        username=environment.get("AIRFLOW_USERNAME", ""),
        password_parameter=environment.get("AIRFLOW_PASSWORD_PARAMETER", "").strip(),
        certificate_sha256=certificate,
        instance_id=environment.get("INSTANCE_ID", "").strip(),
        monitored_bucket=environment["MONITORED_BUCKET"].strip(),
        dry_run=is_dry_run(environment),
    )


def read_mail_settings(environment: Mapping[str, str]) -> MailSettings:
    """The same for the functions that send mails."""
    names = ["TOPIC_ARN", "FIRST_NAME", "LAST_NAME", "SOURCE_BUCKET", "MONITORED_BUCKET", "KEPT_EVENTS_URL"]
    _require(environment, names)
    _refuse_own_output(environment)
    values = {name.lower(): environment[name].strip() for name in names}
    return MailSettings(**values, stage=environment.get("STAGE", "").strip() or "prod")


def is_dry_run(environment: Mapping[str, str]) -> bool:
    """Whether the trigger only logs which runs it would start."""
    return environment.get("DRY_RUN", "").strip().lower() in ("1", "on", "true", "yes")


def _require(environment: Mapping[str, str], names: list[str]) -> None:
    missing = [f"{name} ({SET_BY[name]})" for name in names if not environment.get(name, "").strip()]
    if missing:
        noun = "setting is" if len(missing) == 1 else "settings are"
        raise SettingsError(
            f"{len(missing)} {noun} missing from the function's environment: {'; '.join(missing)}. "
            "Set them, deploy, then redrive the event."
        )


def _refuse_own_output(environment: Mapping[str, str]) -> None:
    """Refuse a function that listens to the bucket that the pipeline writes to: it could start itself forever."""
    if environment["MONITORED_BUCKET"].strip() == environment["SOURCE_BUCKET"].strip():
        raise SettingsError(
            f"MONITORED_BUCKET and SOURCE_BUCKET are both {environment['SOURCE_BUCKET']!r}: the pipeline would listen "
            "to its own output. Use a separate bucket for markers, deploy, then redrive the event."
        )


def _fingerprint(text: str) -> str:
    """64 hex digits, as openssl prints them (colons and upper case are fine); empty if nothing is pinned."""
    digits = text.strip().replace(":", "").lower()
    if digits and not _FINGERPRINT.fullmatch(digits):
        raise SettingsError(
            "AIRFLOW_CERTIFICATE_SHA256 is not a SHA-256 fingerprint (64 hex digits). Read it on the instance with "
            "`openssl x509 -noout -fingerprint -sha256`, set it in .env, deploy, then redrive the event."
        )
    return digits


def _airflow_url(url: str, *, is_pinned: bool) -> str:
    """The root URL of Airflow. An unusable one is refused and never quoted, as it may hold a password."""
    if "@" in url:
        raise SettingsError(
            "AIRFLOW_URL contains a user name or password (something before an @), which would end up in logs. Set it "
            "without: the user is AIRFLOW_USERNAME, and the password is in an SSM parameter."
        )
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "?" in url or "#" in url or not url.isprintable() or " " in url:
        raise SettingsError(
            "AIRFLOW_URL is not the address of a web server. Set it to http:// or https:// with Airflow's host and "
            "port, without query or fragment, such as https://airflow.example:8080."
        )
    if parts.scheme == "http" and is_pinned:
        raise SettingsError(
            "AIRFLOW_URL is plain http, which has no certificate, but AIRFLOW_CERTIFICATE_SHA256 pins one. "
            "Set the URL to https://, or leave the fingerprint out; deploy, then redrive the event."
        )
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost"):
        log.warning(
            "AIRFLOW_URL is plain http to %r: anyone on the network can read the password. Use https.",
            parts.hostname,
        )
    return url.rstrip("/")
