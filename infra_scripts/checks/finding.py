"""One result of `check`: what was checked, how it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """ok; warning: works, but somebody should know; error: does not work, or is not what the settings ask for."""

    level: Level
    what: str
    text: str


def describe_problems(problems: Sequence[Finding]) -> str:
    """What AWS would refuse, or what could not be asked, to be printed below a plan; empty where all is well."""
    if not problems:
        return ""
    return "\n".join(["", "", "Before apply:", *(f"  {one.level:<7} {one.what:<12} {one.text}" for one in problems)])
