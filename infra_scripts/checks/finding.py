"""One result of `check`: what was checked, how it is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """ok; warning: works, but somebody should know; error: does not work, or is not what the settings ask for."""

    level: Level
    what: str
    text: str
