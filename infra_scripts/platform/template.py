"""Renders platform.yml for CloudFormation, with its parameters and tags."""

from __future__ import annotations

import textwrap
from importlib import resources

from infra_scripts.errors import SettingsError
from infra_scripts.platform.stack import Stack
from infra_scripts.settings import Settings, public_address

DATABASE_VERSION = {"default": "18", "course": "14"}
_LARGEST_USER_DATA_BYTES = 16_384 - 1_000  # EC2's limit, minus the lines that the template puts before the script
_LARGEST_TEMPLATE_BYTES = 51_200  # CloudFormation's, for a template that is not in a bucket
_PLACE = "              # first_boot.sh\n"


def render() -> str:
    """platform.yml with first_boot.sh inside. Raises SettingsError when either is larger than AWS accepts."""
    package = resources.files("infra_scripts")
    script = package.joinpath("instance/first_boot.sh").read_text("ascii")
    if len(script) > _LARGEST_USER_DATA_BYTES:
        raise SettingsError(f"first_boot.sh has {len(script):,} bytes; EC2 accepts {_LARGEST_USER_DATA_BYTES:,}.")
    platform = package.joinpath("platform/platform.yml").read_text("utf-8")
    before, place, after = platform.partition(_PLACE)
    if not place:
        raise SettingsError("platform.yml has no line `# first_boot.sh`, which the script would replace.")
    template = before + textwrap.indent(script, " " * 14) + after
    if len(template.encode()) > _LARGEST_TEMPLATE_BYTES:
        raise SettingsError(
            f"The template has {len(template):,} bytes; CloudFormation accepts {_LARGEST_TEMPLATE_BYTES:,}."
        )
    return template


def parameters(
    settings: Settings,
    *,
    deployed: Stack | None,
    image_id: str,
    network_id: str = "",
    root_device: str = "/dev/sda1",
    operator: str = "",
) -> dict[str, str]:
    """The template's parameters; `operator` has the ARN patterns of who may put code.

    Raises SettingsError where one that the platform needs is missing or unusable.
    """
    missing = {
        "MBD_EMAIL (the address that gets the mails)": not settings.email,
        "MBD_MY_ADDRESS (the IPv4 address that may connect)": not settings.my_address,
    }
    if any(missing.values()):
        names = "; ".join(name for name, is_missing in missing.items() if is_missing)
        raise SettingsError(f"Missing: {names}. Run `python -m infra_scripts init`, or write it into .env.")
    if settings.source_bucket != settings.names.source_bucket:
        raise SettingsError(
            f"MBD_SOURCE_BUCKET is {settings.source_bucket}, but the platform's is {settings.names.source_bucket}, and "
            "the instance may read no other. Leave MBD_SOURCE_BUCKET out."
        )
    if settings.transport == "http" and settings.profile == "default":
        raise SettingsError(
            "The trigger would reach Airflow by HTTP (MBD_TRANSPORT=http, or AIRFLOW_URL without MBD_TRANSPORT). That "
            "needs port 8080 open to the world, which only profile course has. Set MBD_TRANSPORT=ssm, which needs no "
            "open port."
        )
    return {
        "Profile": settings.profile,
        "Prefix": settings.names.prefix,
        "FirstName": settings.names.first,
        "LastName": settings.names.last,
        "Email": settings.email,
        "MyAddress": public_address(settings.my_address),
        "NetworkId": network_id,
        "KeyName": settings.key_name,
        "ImageId": image_id,
        "RootDevice": root_device,
        "InstanceType": settings.instance_type,
        "Transport": settings.transport,
        "ScaleToZero": "on" if settings.scale_to_zero else "off",
        "DatabaseVersion": database_version(settings, deployed=deployed),
        "BackupDays": str(settings.backup_days),
        "OperatorArns": operator,
        "MarkingEmail": settings.marking_email,
    }


def database_version(settings: Settings, *, deployed: Stack | None) -> str:
    """PostgreSQL's major version: MBD_DATABASE_VERSION, else the deployed one, else the profile's.

    AWS cannot go back to an older one, so only the explicit setting changes a deployed database. Raises SettingsError
    where that names an older version.
    """
    before = deployed_version(deployed)
    wanted = settings.database_version or before or DATABASE_VERSION[settings.profile]
    if before and int(wanted) < int(before):
        raise SettingsError(
            f"MBD_DATABASE_VERSION is {wanted}, but the database has PostgreSQL {before}, and AWS cannot downgrade. "
            f"Set it to {before} or newer, or leave it out."
        )
    return wanted


def deployed_version(deployed: Stack | None) -> str:
    """The major version of the deployed database, or an empty text."""
    return deployed.parameters.get("DatabaseVersion", "") if deployed and deployed.is_usable else ""


def tags(settings: Settings) -> dict[str, str]:
    """The stack's tags, which CloudFormation passes on to everything that it creates.

    Nothing that changes is among them: a new tag would change the database, which AWS refuses while it is stopped.
    """
    return {"Project": "moving-big-data", "Owner": f"{settings.names.first} {settings.names.last}"}
