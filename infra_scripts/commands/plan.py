"""`plan`: settings go in; what apply would change, open and cost comes out, and nothing is changed."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from datetime import date
from typing import Any

from infra_scripts.aws import open_session
from infra_scripts.console import result
from infra_scripts.platform import template
from infra_scripts.platform.change_set import ChangeSet
from infra_scripts.platform.costs import describe_costs, monthly_costs
from infra_scripts.platform.course_profile import COURSE_SWITCHES, describe_exposure, world_ports
from infra_scripts.platform.proposal import proposal, settled
from infra_scripts.platform.stack import Stack
from infra_scripts.settings import Settings, read_settings

HELP = "tell what apply would change, open and cost"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add --course-expires, which apply has too."""
    parser.add_argument(
        "--course-expires", metavar="DATE", type=_day, help="profile course: the day on which `check` calls it over"
    )


def run(options: argparse.Namespace, *, environment: Mapping[str, str]) -> int:
    settings = read_settings(environment)
    session = open_session(settings)
    deployed = settled(session, settings=settings)
    with proposal(session, settings=settings, deployed=deployed, expires=options.course_expires) as change_set:
        result(
            "\n".join(describe(change_set, settings=settings, deployed=deployed)),
            facts=facts(change_set, settings=settings, deployed=deployed),
            options=options,
        )
    return 0


def describe(change_set: ChangeSet, *, settings: Settings, deployed: Stack | None) -> list[str]:
    """The whole plan as lines."""
    return [
        f"{change_set.stack} in {settings.region}, profile {settings.profile}.",
        "",
        *change_set.describe(),
        *_describe_upgrade(_upgrade(settings, deployed=deployed)),
        "",
        *describe_exposure(settings),
        "",
        *describe_costs(settings),
    ]


def facts(change_set: ChangeSet, *, settings: Settings, deployed: Stack | None) -> dict[str, Any]:
    """The same for --json."""
    return {
        "stack": change_set.stack,
        "region": settings.region,
        "profile": settings.profile,
        "changes": [
            {"resource": one.resource, "what": one.noun, "deed": one.deed, "lost": one.lost}
            for one in change_set.changes
        ],
        "database_upgrade": _upgrade(settings, deployed=deployed),
        "open_to_the_world": world_ports(settings),
        "course_switches": [switch for switch, _ in COURSE_SWITCHES] if settings.profile == "course" else [],
        "usd_a_month": monthly_costs(settings),
        "usd_a_month_stopped": monthly_costs(settings, hours=0),
    }


def _upgrade(settings: Settings, *, deployed: Stack | None) -> dict[str, str] | None:
    """From which major version of PostgreSQL to which, where MBD_DATABASE_VERSION asks for that."""
    before, wanted = template.deployed_version(deployed), template.database_version(settings, deployed=deployed)
    return {"from": before, "to": wanted} if before and wanted != before else None


def _describe_upgrade(upgrade: Mapping[str, str] | None) -> list[str]:
    if upgrade is None:
        return []
    return [
        f"WARNING: PostgreSQL goes from {upgrade['from']} to {upgrade['to']}. This cannot be undone (only the snapshot "
        "that AWS makes before it has the old version), and the database is down meanwhile: some ten minutes or more.",
    ]


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day such as 2027-01-31") from None
