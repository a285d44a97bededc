"""Prints results to stdout and progress to stderr, and asks before something is done."""

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
    """Return when --yes was given or the person types `word`; else raise RefusedError.

    A `word` other than yes is for what loses data: --yes does not answer it.
    """
    if options.yes and word == "yes":
        return
    if not sys.stdin.isatty():
        way = "Pass --yes to continue." if word == "yes" else f"A person has to type {word}."
        raise RefusedError(f"{question} There is no terminal to ask at, so nothing was done. {way}")
    print(f"{question} Type {word} to continue: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip() != word:
        raise RefusedError("Nothing was done.")
