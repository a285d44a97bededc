"""Reads the settings of the deployed pipeline from the environment."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from etl.batch.policy import Choice, Policy
from etl.errors import SettingsError
from etl.outcome.channels import Channels
from etl.outcome.mail import Mailbox

_SET_BY = {
    "MBD_FIRST_NAME": "the first name in bucket names and mail subjects",
    "MBD_LAST_NAME": "the last name in bucket names and mail subjects",
    "MBD_TOPIC_ARN": "the SNS topic that the mails go to",
}

DEFAULT_GRACE_SECONDS = 300
MOST_DAYS = 36_500  # a century; PostgreSQL counts no further back than 4713 BC
_MOST_SHARDS = 64  # past it a shard of a batch of 1000 files is not worth its task


@dataclass(frozen=True)
class Settings:
    """What a run needs to know in addition to its batch, its database and its AWS login."""

    mailbox: Mailbox
    grace_seconds: float
    """How long gate waits for files that the company index names."""
    shards: int
    """Into how many shards, processed in parallel, a batch is divided."""
    journal_days: float | None = None
    """Entries of the journal that are older are let go; None keeps them all."""
    most_grace_seconds: ClassVar[int] = 29 * 60
    """The DAG gives a task a minute more: then Airflow ends it, and nobody hears what it waited for."""


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the MBD_ variables. Raises one SettingsError that names everything missing and what it is for."""
    mailbox = read_mailbox(environment)
    grace = environment.get("MBD_GATE_GRACE_SECONDS") or str(DEFAULT_GRACE_SECONDS)
    try:
        grace_seconds = parse_seconds(grace)
    except ValueError as error:
        raise SettingsError(f"MBD_GATE_GRACE_SECONDS is {grace!r}: {error}.") from error
    if grace_seconds > (most := Settings.most_grace_seconds):
        raise SettingsError(f"MBD_GATE_GRACE_SECONDS is {grace!r}. The gate waits {most} seconds at most.")
    days = read_journal_days(environment)
    return Settings(mailbox=mailbox, grace_seconds=grace_seconds, shards=_shards(environment), journal_days=days)


def read_journal_days(environment: Mapping[str, str]) -> float | None:
    """MBD_JOURNAL_DAYS; None keeps the whole journal. Raises SettingsError."""
    text = environment.get("MBD_JOURNAL_DAYS")
    try:
        return parse_days(text) if text else None
    except ValueError as error:
        raise SettingsError(f"MBD_JOURNAL_DAYS is {text!r}: {error}.") from error


def read_mailbox(environment: Mapping[str, str]) -> Mailbox:
    """Read what a mail needs and nothing else, so that another setting that is wrong can still be reported by mail."""
    missing = [f"{name} ({purpose})" for name, purpose in _SET_BY.items() if not environment.get(name)]
    if missing:
        raise SettingsError(f"Missing from the environment (see .env.example): {', '.join(missing)}.")
    return Mailbox(environment["MBD_TOPIC_ARN"], environment["MBD_FIRST_NAME"], environment["MBD_LAST_NAME"])


def read_policy(
    environment: Mapping[str, str],
    *,
    max_rejected: str | None = None,
    allow_missing: str | None = None,
    given_as: Callable[[str], str],
) -> Policy:
    """What somebody chose for this run, or else what MBD_MAX_REJECTED and MBD_ALLOW_MISSING say.

    `given_as` makes of a name what it is called where it was given, such as "the option --max-rejected". Raises
    SettingsError for what cannot be read.
    """
    chosen: dict[str, Choice | None] = {}
    for name, value in (("max_rejected", max_rejected), ("allow_missing", allow_missing)):
        variable = f"MBD_{name.upper()}"
        choice = Choice(value, given_as(name)) if value else None
        if choice is None and environment.get(variable):
            choice = Choice(environment[variable], f"the setting {variable}")
        chosen[name] = choice
    return Policy(**chosen)


def read_channels(environment: Mapping[str, str]) -> Channels:
    """Read MBD_CHANNELS (URLs, separated by blanks) and MBD_METRICS_NAMESPACE. A wrong one stops nothing."""
    return Channels(
        urls=tuple(environment.get("MBD_CHANNELS", "").split()),
        metrics_namespace=environment.get("MBD_METRICS_NAMESPACE", "").strip(),
    )


def _shards(environment: Mapping[str, str]) -> int:
    number = environment.get("MBD_SHARDS") or "1"
    if not re.fullmatch("[1-9][0-9]?", number) or int(number) > _MOST_SHARDS:
        raise SettingsError(f"MBD_SHARDS is {number!r}. Set a whole number from 1 to {_MOST_SHARDS}, or leave it out.")
    return int(number)


def parse_days(text: str) -> float:
    """A number of days that may be part of one. Raises ValueError for what is none, or reaches back over a century."""
    days = float(text)
    if not 0 <= days <= MOST_DAYS:
        raise ValueError(f"not a number of days from 0 to {MOST_DAYS:,}")
    return days


def parse_seconds(text: str) -> float:
    """A span of time. Raises ValueError for what is none, infinite ones and NaN among it."""
    seconds = float(text)
    if not 0 <= seconds < math.inf:
        raise ValueError("not a number of seconds")
    return seconds


def source_bucket(environment: Mapping[str, str]) -> str | None:
    """MBD_SOURCE_BUCKET, or the bucket that the names make: `de-mbd-predict-{first}-{last}-s3-source`."""
    if named := environment.get("MBD_SOURCE_BUCKET"):
        return named
    first, last = environment.get("MBD_FIRST_NAME"), environment.get("MBD_LAST_NAME")
    return f"de-mbd-predict-{first}-{last}-s3-source".lower() if first and last else None
