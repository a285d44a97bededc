"""One thing that `check` looked at: what, how it is, and what to do where it is not well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "look", "BAD"]


@dataclass(frozen=True)
class Finding:
    """ok: well; look: works, but somebody should know; BAD: does not work, or is not as it was asked for."""

    level: Level
    what: str
    text: str
