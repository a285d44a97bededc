"""`plan`: shows what `apply` would change, open and cost, and changes nothing."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from infra_scripts.aws import open_session
from infra_scripts.checks.before_apply import new_platform
from infra_scripts.checks.finding import describe_problems
from infra_scripts.console import result
from infra_scripts.platform.database import current_state
from infra_scripts.platform.proposal import choose_image, describe_proposal, proposal, proposal_facts, settled
from infra_scripts.settings import read_settings

HELP = "show what apply would change, open and cost"
EXAMPLES = ["plan", "plan --json"]


def run(options: argparse.Namespace, *, environment: Mapping[str, str]) -> int:
    settings = read_settings(environment)
    session = open_session(settings)
    deployed = settled(session, settings=settings)
    state = current_state(session, identifier=settings.names.database) if deployed else ""
    problems = []
    if not (deployed and deployed.is_usable):
        image_id = choose_image(session, settings=settings, deployed=None)
        problems = [one for one in new_platform(session, settings=settings, image_id=image_id) if one.level != "ok"]
    with proposal(session, settings=settings, deployed=deployed) as change_set:
        result(
            describe_proposal(change_set, settings=settings, deployed=deployed, database_state=state)
            + describe_problems(problems),
            facts=proposal_facts(change_set, settings=settings, deployed=deployed)
            | {"problems": [{"level": one.level, "what": one.what, "text": one.text} for one in problems]},
            options=options,
        )
    return 0
