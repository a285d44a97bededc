"""Says which version of the code runs: it goes into receipts and mails."""

from __future__ import annotations

import subprocess
from functools import cache
from importlib import metadata, resources
from pathlib import Path

_PACKAGE = resources.files("etl")  # a folder, or a part of a zip


@cache
def code_version() -> str:
    """Such as `0.2.0+564af1d`, with `.dirty` at the end where files differ from that commit.

    As `upload` has written it into its archives (version.txt); in a clone of the repository as git has it; elsewhere
    the package's own version.
    """
    shipped = _PACKAGE / "version.txt"
    if shipped.is_file():
        return shipped.read_text(encoding="utf-8").strip()
    try:
        released = metadata.version("moving-big-data")
    except metadata.PackageNotFoundError:  # files that nobody installed
        released = "unknown"
    folder = Path(str(_PACKAGE))
    if not (folder.parent / ".git").exists():
        return released
    command = ["git", "-C", str(folder), "describe", "--always", "--exclude=*", "--dirty=.dirty"]
    try:
        described = subprocess.run(command, check=True, capture_output=True, text=True, timeout=10)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return released
    return f"{released}+{described.stdout.strip()}"
