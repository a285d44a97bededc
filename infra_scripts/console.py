"""What a person meets: results on stdout, progress on stderr, and a question before something is done."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from infra_scripts.errors import RefusedError


def result(text: str, *, facts: dict[str, Any], options: argparse.Namespace) -> None:
    """Print a command's result: the text, or with --json the facts as one object."""
    print(json.dumps(facts, indent=2, default=str) if options.json else text)


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def confirm(question: str, *, options: argparse.Namespace, word: str = "yes") -> None:
    """Go on when --yes was given or the person types `word`; else raise RefusedError.

    A `word` other than yes is a second word, for what loses data: --yes does not give it.
    """
    if options.yes and word == "yes":
        return
    if not sys.stdin.isatty():
        way = "Pass --yes to go on." if word == "yes" else f"It wants {word} typed by a person."
        raise RefusedError(f"{question} Nobody is there to answer, so nothing was done. {way}")
    print(f"{question} Type {word} to go on: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != word:
        raise RefusedError("Nothing was done.")
