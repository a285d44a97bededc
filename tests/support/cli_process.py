"""`python -m etl ...` as a process of its own, in a session of its own: what is left of it can be found."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.paths import ROOT

if TYPE_CHECKING:
    from tests.support.batch_files import Files


def start(
    command: str,
    *options: str,
    files: Files,
    url: str,
    environment: Mapping[str, str] | None = None,
    before: Callable[[], None] | None = None,
) -> subprocess.Popen[str]:
    """Begin `run`, `process` or `load` on a batch in folders; `before` is called in the child before it is etl."""
    return subprocess.Popen(
        [sys.executable, "-m", "etl", *arguments(command, *options, files=files)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=before,  # noqa: PLW1509  no thread of a test runs while it is called
        env={**os.environ, "MBD_DATABASE_URL": url, **(environment or {})},
        cwd=ROOT,
    )


def arguments(command: str, *options: str, files: Files) -> list[str]:
    """Of `python -m etl`, for `run`, `process` or `load` on a batch in folders."""
    places = [] if command == "load" else ["--source", str(files.source), "--index", str(files.index)]
    return [command, *places, "--output", str(files.output), "--quiet", *options]


def processes_of_session(leader: int) -> list[int]:
    """The processes that are left of the session that `leader` opened."""
    left = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.getsid(int(entry.name)) == leader:
                left.append(int(entry.name))
        except (ProcessLookupError, PermissionError):
            continue
    return left
