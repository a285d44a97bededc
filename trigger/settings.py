"""The environment of the function goes in; settings that are complete and usable, or one SettingsError, come out."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from trigger.errors import SettingsError

log = logging.getLogger(__name__)

SET_BY = {
    "AIRFLOW_URL": "environment in serverless.yml; the root of Airflow, such as https://airflow.example:8080",
    "AIRFLOW_USERNAME": "environment in serverless.yml; an Airflow user who may start the DAG",
    "AIRFLOW_PASSWORD": "environment in serverless.yml, taken from .env; that user's password",
    "MONITORED_BUCKET": "environment in serverless.yml; the bucket that markers are put into",
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    airflow_url: str  # no trailing slash, no user information
    username: str
    password: str = field(repr=False)
    monitored_bucket: str


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read all settings once; raise one SettingsError that names everything missing and what sets it."""
    missing = [f"{name} ({setter})" for name, setter in SET_BY.items() if not environment.get(name, "").strip()]
    if missing:
        noun = "setting is" if len(missing) == 1 else "settings are"
        raise SettingsError(
            f"{len(missing)} {noun} missing from the function's environment: {'; '.join(missing)}. "
            "Set what is named, deploy, then redrive the event."
        )
    return Settings(
        airflow_url=_airflow_url(environment["AIRFLOW_URL"].strip()),
        username=environment["AIRFLOW_USERNAME"],
        password=_password(environment),
        monitored_bucket=environment["MONITORED_BUCKET"].strip(),
    )


def _airflow_url(url: str) -> str:
    """The root URL of Airflow; a URL that cannot be used is refused and never quoted, as it may hold a password."""
    if "@" in url:
        raise SettingsError(
            "AIRFLOW_URL holds user information (something before an @), which would end up in logs. "
            "Set it without, and put the login into AIRFLOW_USERNAME and AIRFLOW_PASSWORD."
        )
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "?" in url or "#" in url or not url.isprintable() or " " in url:
        raise SettingsError(
            "AIRFLOW_URL is not the address of a web server. Set it to http:// or https://, host and port of Airflow, "
            "without query or fragment, such as https://airflow.example:8080."
        )
    if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost"):
        log.warning(
            "AIRFLOW_URL is plain http to %r: the password crosses the network readable. Put TLS in front of Airflow.",
            parts.hostname,
        )
    return url.rstrip("/")


def _password(environment: Mapping[str, str]) -> str:
    """The one place that knows where the password is kept."""
    return environment["AIRFLOW_PASSWORD"]
