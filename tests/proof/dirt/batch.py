"""What each way is given: a folder with the company files of a case, and an empty database."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

TABLE = "prices"  # what each way makes, in any schema
FIELDS = ("Date", "Open", "High", "Low", "Close", "Volume")

Said = dict[str, str]
"""By company: what a way reported about files and rows that it left out."""


@dataclass(frozen=True)
class Batch:
    """The files that the company index names, and nothing else. `url`: an empty PostgreSQL database."""

    folder: Path
    url: str

    def files(self) -> list[Path]:
        """In the order in which a shell or a glob lists them."""
        return sorted(self.folder.iterdir())


Way = Callable[[Batch], Said]
"""Loads a batch. Raises what its tool raises; what it reports instead of raising is returned."""


class ToolError(RuntimeError):
    """A program ended with an exit code that is not 0; the message is its last line."""


class CrashError(BaseException):
    """A program was killed by a signal. It is no Exception, so that it counts as a crash."""


def run_program(command: Sequence[str], *, script: str = "") -> str:
    """Its stdout. Raises ToolError or CrashError."""
    done = subprocess.run(command, input=script, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode < 0:
        raise CrashError(f"killed by signal {-done.returncode}")
    if done.returncode:
        raise ToolError(([line for line in (done.stdout + done.stderr).splitlines() if line] or ["(silent)"])[-1])
    return done.stdout


def company_name(file: Path) -> str:
    """Every way is given this: the company is the file's name, without the name of a compression."""
    return re.sub(r"\.(gz|zst)$", "", file.name, flags=re.IGNORECASE)
