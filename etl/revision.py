"""Says which version of the code runs: it goes into receipts and mails."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path

from etl.package_files import read_package_file

RELEASE = "0.2.0"
_PACKAGE = Path(__file__).parent


@cache
def code_version() -> str:
    """Such as `0.2.0+564af1d`, with `.dirty` at the end where files differ from that commit.

    As `upload` has written it into its archives (version.txt); in a clone of the repository as git has it; elsewhere
    the release that these files are of, or come after.
    """
    with suppress(OSError):
        return read_package_file(_PACKAGE / "version.txt").decode().strip()
    if not (_PACKAGE.parent / ".git").exists():
        return RELEASE
    command = ["git", "-C", str(_PACKAGE), "describe", "--always", "--exclude=*", "--dirty=.dirty"]
    try:
        described = subprocess.run(command, check=True, capture_output=True, text=True, timeout=10)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return RELEASE
    return f"{RELEASE}+{described.stdout.strip()}"
