"""Reads and checks the platform's settings from the environment and .env."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from infra_scripts.errors import SettingsError
from infra_scripts.names import Names

Profile = Literal["default", "course"]
Transport = Literal["ssm", "http"]
MARKING_EMAIL = "edsa.predicts@explore-ai.net"  # as the course's brief has it
DATABASE_VERSIONS = ("14", "15", "16", "17", "18")  # PostgreSQL's major ones, as platform.yml allows them

_NOT_PUBLIC = tuple(
    (kind, tuple(map(ipaddress.IPv4Network, networks.split())))
    for kind, networks in (
        ("a private address of a home or office network (RFC 1918)", "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16"),
        ("your machine's own address for itself (loopback)", "127.0.0.0/8"),
        ("an address that a machine without a network gives itself (link-local)", "169.254.0.0/16"),
        ("an address that a provider shares among customers (carrier-grade NAT, RFC 6598)", "100.64.0.0/10"),
        ("an address for documentation (RFC 5737)", "192.0.2.0/24 198.51.100.0/24 203.0.113.0/24"),
        ("an address of many machines at once (multicast)", "224.0.0.0/4"),
    )
)
_PURPOSE = {
    "MBD_FIRST_NAME": "your first name, part of every resource's name",
    "MBD_LAST_NAME": "your last name, part of every resource's name",
    "AWS_REGION": "the region for everything, such as eu-west-1",
}
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every command needs, and what only `plan` and `apply` need (empty where it is not set)."""

    names: Names
    region: str
    profile: Profile = "default"
    source_bucket: str
    email: str = ""
    my_address: str = ""
    """The IPv4 address or network that may connect to SSH and PostgreSQL, as CIDR: `203.0.113.7/32`."""
    key_name: str = ""
    image_id: str = ""
    instance_type: str = "t2.medium"
    database_version: str = ""
    """PostgreSQL's major version; empty: the deployed one, or for a new database the profile's."""
    backup_days: int = 7
    """How many days AWS keeps the database's daily backups; an account on the free plan may have 1."""
    reserves_concurrency: bool = False
    """Whether the trigger's function reserves a place of the account's Lambda quota."""
    marking_email: str = MARKING_EMAIL
    """Who else gets the mails in profile course."""
    transport: Transport = "ssm"
    """How the trigger reaches Airflow: through Systems Manager, which needs no open port, or by HTTP."""
    scale_to_zero: bool = False
    """Whether the instance stops itself after a run's mail; the trigger wakes it."""
    trigger_dry_run: bool = False
    """Whether the trigger only logs what it would start."""

    @property
    def subscribers(self) -> tuple[str, ...]:
        """The addresses that should get the mails."""
        everybody = (self.email, self.marking_email) if self.profile == "course" else (self.email,)
        return tuple(address for address in everybody if address)


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read and check all settings. Raises one SettingsError that names everything missing."""
    missing = [f"{name} ({purpose})" for name, purpose in _PURPOSE.items() if not environment.get(name, "").strip()]
    if missing:
        raise SettingsError(
            f"Missing: {'; '.join(missing)}. Run `python -m infra_scripts init`, which asks and writes .env."
        )
    profile = _choice(environment, "MBD_PROFILE", choices=("default", "course"))
    names = Names(environment["MBD_FIRST_NAME"].strip(), environment["MBD_LAST_NAME"].strip())
    return Settings(
        names=names,
        region=_region(environment["AWS_REGION"].strip()),
        profile="course" if profile == "course" else "default",
        source_bucket=environment.get("MBD_SOURCE_BUCKET", "").strip() or names.source_bucket,
        email=valid_email(environment.get("MBD_EMAIL", ""), variable="MBD_EMAIL"),
        my_address=valid_address(environment.get("MBD_MY_ADDRESS", "")),
        key_name=environment.get("MBD_KEY_NAME", "").strip(),
        image_id=environment.get("MBD_IMAGE_ID", "").strip(),
        instance_type=environment.get("MBD_INSTANCE_TYPE", "").strip() or "t2.medium",
        database_version=_database_version(environment.get("MBD_DATABASE_VERSION", "").strip()),
        backup_days=_backup_days(environment.get("MBD_BACKUP_DAYS", "").strip()),
        reserves_concurrency=environment.get("MBD_RESERVED_CONCURRENCY", "").strip() not in ("", "none"),
        marking_email=valid_email(environment.get("MBD_MARKING_EMAIL", ""), variable="MBD_MARKING_EMAIL")
        or MARKING_EMAIL,
        transport="http" if _transport(environment) == "http" else "ssm",
        scale_to_zero=_choice(environment, "MBD_SCALE_TO_ZERO", choices=("off", "on")) == "on",
        trigger_dry_run=environment.get("MBD_TRIGGER_DRY_RUN", "").strip().lower() in ("1", "on", "true", "yes"),
    )


def valid_email(text: str, *, variable: str) -> str:
    """The address without surrounding blanks; empty where it is not set."""
    text = text.strip()
    if text and not _EMAIL.fullmatch(text):
        raise SettingsError(f"{variable} is {text!r}, which is not a mail address such as name@example.org. Fix it.")
    return text


def valid_address(text: str) -> str:
    """An IPv4 address or network as CIDR. Most of the internet is refused: profile course is for that."""
    text = text.strip()
    if not text:
        return ""
    try:
        network = ipaddress.IPv4Network(text if "/" in text else f"{text}/32")
    except ValueError:
        raise SettingsError(
            f"MBD_MY_ADDRESS is {text!r}, which is not an IPv4 address or network such as 203.0.113.7/32."
        ) from None
    if network.prefixlen < 8:
        raise SettingsError(
            f"MBD_MY_ADDRESS is {text}, which lets {network.num_addresses:,} addresses connect. Set it to your own, "
            "such as 203.0.113.7/32. For the brief's open rules, set MBD_PROFILE=course."
        )
    return str(network)


def public_address(text: str) -> str:
    """The address as `valid_address` has it. Raises SettingsError for one that AWS can never see: it lets nobody in."""
    address = valid_address(text)
    if not address:
        return ""
    network = ipaddress.IPv4Network(address)
    kind = next((kind for kind, within in _NOT_PUBLIC if any(map(network.subnet_of, within))), "")
    if kind or network.is_private:
        raise SettingsError(
            f"MBD_MY_ADDRESS is {text.strip()}, {kind or 'which is no address of the internet'}. AWS sees your public "
            "address instead, so this would let nobody in. Run: python -m infra_scripts init --my-address detect"
        )
    return address


def _region(text: str) -> str:
    if not _REGION.fullmatch(text):
        raise SettingsError(f"AWS_REGION is {text!r}, which is not a region such as eu-west-1. Fix it.")
    return text


def _database_version(text: str) -> str:
    if text and text not in DATABASE_VERSIONS:
        raise SettingsError(
            f"MBD_DATABASE_VERSION is {text!r}. Set it to one of {', '.join(DATABASE_VERSIONS)}, or leave it out."
        )
    return text


def _backup_days(text: str) -> int:
    if text and not (text.isdecimal() and 1 <= int(text) <= 35):
        raise SettingsError(f"MBD_BACKUP_DAYS is {text!r}. Set it to a number from 1 to 35, or leave it out (7).")
    return int(text or 7)


def _transport(environment: Mapping[str, str]) -> str:
    """As MBD_TRANSPORT says, else http where AIRFLOW_URL is set: the trigger's deployment has the same rule."""
    default, other = ("http", "ssm") if environment.get("AIRFLOW_URL", "").strip() else ("ssm", "http")
    return _choice(environment, "MBD_TRANSPORT", choices=(default, other))


def _choice(environment: Mapping[str, str], variable: str, *, choices: tuple[str, str]) -> str:
    """The variable's value, or the first choice where it is not set."""
    text = environment.get(variable, "").strip() or choices[0]
    if text not in choices:
        raise SettingsError(f"{variable} is {text!r}. Set it to {choices[0]} or {choices[1]}.")
    return text
