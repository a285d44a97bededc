"""`policy`: prints the IAM policy that somebody needs: who sends the batches, or who operates the platform."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from importlib import resources

from infra_scripts.console import result
from infra_scripts.settings import read_settings

HELP = "print the IAM policy for who sends the batches, or for who operates the platform"
EXAMPLES = ["policy sender", "policy operator"]
_WHO = ("sender", "operator")
_CUT = 24  # of a stack's name, CloudFormation takes so many characters into the name of a bucket that has none


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "who", nargs="?", choices=_WHO, default="sender",
        help="sender: company files and the marker (the default); operator: these commands",
    )  # fmt: skip


def run(options: argparse.Namespace, *, environment: Mapping[str, str]) -> int:
    names = read_settings(environment).names
    text = resources.files("infra_scripts.platform").joinpath(f"policies/{options.who}.json").read_text("utf-8")
    policy = text.replace("PREFIX_CUT", names.prefix[:_CUT]).replace("PREFIX", names.prefix).rstrip()
    result(policy, facts=json.loads(policy), options=options)
    return 0
