"""`plan`: shows what `apply` would change, open and cost, and changes nothing."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from infra_scripts.aws import open_session
from infra_scripts.console import result
from infra_scripts.platform.database import current_state
from infra_scripts.platform.proposal import add_expiry_option, describe_proposal, proposal, proposal_facts, settled
from infra_scripts.settings import read_settings

HELP = "show what apply would change, open and cost"
EXAMPLES = ["plan", "plan --json"]
configure = add_expiry_option


def run(options: argparse.Namespace, *, environment: Mapping[str, str]) -> int:
    settings = read_settings(environment)
    session = open_session(settings)
    deployed = settled(session, settings=settings)
    state = current_state(session, identifier=settings.names.database) if deployed else ""
    with proposal(session, settings=settings, deployed=deployed) as change_set:
        result(
            describe_proposal(change_set, settings=settings, deployed=deployed, database_state=state),
            facts=proposal_facts(change_set, settings=settings, deployed=deployed),
            options=options,
        )
    return 0
