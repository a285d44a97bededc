"""`worker MODULE FUNCTION` runs a way on one batch after the other, each in a process of its own that may crash.

A line of JSON on stdin is a batch (`folder`, `url`); a line of JSON on stdout says how it ended. The tool is imported
once, before the first process is forked.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.proof.dirt.batch import Batch, Way

SECONDS = 180  # in which it must have ended
CPU_SECONDS = 60  # of a process
BYTES = 4 << 30  # of a process; what the instance has


def main(module: str, function: str) -> None:
    way: Way = getattr(importlib.import_module(f"tests.proof.dirt.way_{module}"), function)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        given = json.loads(line)
        print(json.dumps(_run(way, Batch(Path(given["folder"]), given["url"]))), file=answers, flush=True)


def _run(way: Way, batch: Batch) -> dict[str, Any]:
    report = batch.folder.with_name("report.json")
    child = os.fork()
    if child == 0:
        os.setsid()
        for output in (1, 2):  # where a tool may print what it likes
            os.dup2(os.open(os.devnull, os.O_WRONLY), output)
        resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        _load(way, batch, report)
    try:
        status = _wait(child)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what it may have left running
    if status is None:
        return {"error": f"stopped after {SECONDS} s", "crashed": True}
    if not report.exists():
        return {"error": f"ended with {os.waitstatus_to_exitcode(status)}", "crashed": True}
    ended: dict[str, Any] = json.loads(report.read_bytes())
    return ended


def _load(way: Way, batch: Batch, report: Path) -> None:
    """Does not return. A panic of a library in Rust is no Exception: it counts as a crash."""
    ended: dict[str, Any] = {}
    try:
        ended["said"] = way(batch)
    except Exception as error:
        ended["error"] = f"{type(error).__name__}: {error}"[:500]
    except BaseException as error:
        ended |= {"error": f"{type(error).__name__}: {error}"[:500], "crashed": True}
    report.write_text(json.dumps(ended), encoding="utf-8", errors="replace")
    os._exit(0)


def _wait(child: int) -> int | None:
    """Its status, or None if it had to be killed."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


if __name__ == "__main__":
    main(*sys.argv[1:])
