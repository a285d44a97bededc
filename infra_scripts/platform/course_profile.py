"""Describes what a profile opens, and to whom."""

from __future__ import annotations

from infra_scripts.settings import Settings

IMAGE = "ami-05f67f34b041e3b67"  # edsa-airflow-ami, which an account sees only where its owner shares it
IMAGE_REGION = "eu-west-1"

COURSE_SWITCHES = (
    ("PostgreSQL (5432) from All IPv4", "anybody may try passwords on the database"),
    ("all traffic from All IPv4", "every port of instance and database is open, also SSH (22) and Airflow's 8080"),
    ("three AWS managed FullAccess policies", "anybody who gets into the instance can read, change and delete every "
     "bucket, topic and data API database of the account"),
    ("RDS may take the role too", "a database of the account has the same rights through it"),
    ("public monitored bucket (in the trigger's stack)", "anybody may read it, and put a marker, which starts a run"),
    ("PostgreSQL 14", "community support ended on 2026-11-12, Amazon's ends on 2027-02-28"),
    ("the marking address is subscribed", "somebody else gets every mail of the pipeline"),
)  # fmt: skip


def describe_image(image_id: str) -> str:
    """One line: whether a new instance gets the brief's image, and if not, which one."""
    if image_id == IMAGE:
        return f"The instance gets the brief's image {IMAGE}."
    return (
        f"The brief's image {IMAGE} is in {IMAGE_REGION}, and this account does not see it here. "
        f"The instance gets the newest Ubuntu 24.04 ({image_id})."
    )


def world_ports(settings: Settings) -> list[str]:
    """The ports that anybody on the internet reaches."""
    return ["22 (SSH)", "5432 (PostgreSQL)", "all others"] if settings.profile == "course" else []


def describe_exposure(settings: Settings) -> list[str]:
    """Lines: the ports open to the world, and in profile course what each of its switches opens."""
    ports = world_ports(settings)
    if not ports:
        return [f"Open to the world: nothing. SSH (22) and PostgreSQL (5432) are open to {settings.my_address} only."]
    return [
        f"OPEN TO THE WORLD: ports {', '.join(ports)}. Profile course takes the brief literally:",
        *(f"  {switch}: {opens}." for switch, opens in COURSE_SWITCHES),
    ]
