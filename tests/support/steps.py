"""Runs a program that gets a signal at its n-th step: how fast a machine is does not decide where that is.

python -m tests.support.steps LOG NUMBER SIGNAL (MODULE | -c CODE) ARGUMENTS...

A step is what shows outside the program: an SQL statement, a block that a COPY takes, a commit, a write to a file, a
rename, a removal, something sent through a socket. Python's profiler sees them in the main thread just before they
happen, whatever functions of ours make them. Each is a line of LOG. The signal comes before the step of this number; 0
is none.
"""

from __future__ import annotations

import io
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType

from psycopg2.extensions import connection, cursor

from tests.support.paths import ROOT

_OF_FILE_SYSTEM = {"rename", "replace", "remove", "unlink", "mkdir", "rmdir", "fsync"}
_SEEN = {"rename", "replace", "commit", "CompleteMultipartUpload"}
_OF: tuple[tuple[type, set[str]], ...] = (
    (io.FileIO, {"write", "truncate"}),
    (io.BufferedWriter, {"write", "flush", "truncate"}),
    (io.TextIOWrapper, {"write", "flush", "truncate"}),
    (cursor, {"execute", "copy_expert"}),
    (connection, {"commit"}),
    (socket.socket, {"send", "sendall"}),
)


def start(
    *program: str,
    log: Path,
    environment: Mapping[str, str],
    at: int = 0,
    sent: signal.Signals = signal.SIGKILL,
) -> subprocess.Popen[str]:
    """Begin a program (`etl run ...` or `-c CODE ...`); it gets `sent` before step `at`, where that is not 0."""
    log.unlink(missing_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.steps", str(log), str(at), sent.name, *program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, **environment},
        cwd=ROOT,
    )


def steps(log: Path) -> list[str]:
    """The steps that a program has taken, in their order; of one that was killed, the last did not happen."""
    return log.read_text().splitlines()


def chosen(taken: Sequence[str], count: int, *, seed: str) -> list[int]:
    """Numbers of steps, the same for the same seed: one of each kind, then another of each, while there are more.

    Of the kinds that others see at once, two at a time and before the rest: a wrong order shows between these.
    """
    numbers = list(range(1, len(taken) + 1))
    random.Random(seed).shuffle(numbers)
    before, turn_of = Counter[str](), {}
    for number in numbers:
        kind = taken[number - 1]
        turn_of[number] = (before[kind] // 2, 0) if kind in _SEEN else (before[kind], 1)
        before[kind] += 1
    return sorted(numbers, key=turn_of.__getitem__)[:count]


def main(log: str, number: str, sent: str, program: str, *arguments: str) -> None:
    sys.dont_write_bytecode = True  # a file that an import writes is no step of the program
    raised = signal.Signals[sent]
    lines = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    left = int(number)

    def take(step: str) -> None:
        nonlocal left
        os.write(lines, f"{step}\n".encode())
        left -= 1
        if left == 0:
            os.kill(os.getpid(), raised)

    sys.argv = [program, *(arguments[1:] if program == "-c" else arguments)]
    sys.setprofile(_profiler(take))
    if program == "-c":
        exec(arguments[0], {"__name__": "__main__"})
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)


def _profiler(take: Callable[[str], None]) -> Callable[[FrameType, str, object], None]:
    copying: list[FrameType] = []  # the frame that waits for a COPY: the `read` that is called from there gives blocks

    def profile(frame: FrameType, event: str, function: object) -> None:
        if event == "call" and frame.f_back in copying and frame.f_code.co_name == "read":
            take("block")
        elif event == "c_call" and (step := _step(function)):
            if step == "copy_expert":
                copying[:] = [frame]
            take(step)
        elif event in ("c_return", "c_exception") and frame in copying and _step(function) == "copy_expert":
            copying.clear()

    return profile


def _step(function: object) -> str:
    """What a call into C does outside the program, or nothing."""
    name, of = getattr(function, "__name__", ""), getattr(function, "__self__", None)
    if name in _OF_FILE_SYSTEM and of is sys.modules["posix"]:
        return str(name)
    if of is sys.stdout or of is sys.stderr:
        return ""
    return next((str(name) for kind, names in _OF if name in names and isinstance(of, kind)), "")


if __name__ == "__main__":
    main(*sys.argv[1:])
