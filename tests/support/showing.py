"""What a demo needs to behave at a terminal: titles, one at a time, and an end by Ctrl-C that leaves nothing behind."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn


class DemoError(Exception):
    """The demo cannot begin, or something did not hold; the text says what."""

    def __init__(self, message: str, *, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def title(text: str) -> None:
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"\n{bold}{text}{plain}", flush=True)


def indented(text: str) -> None:
    print("".join(f"  {line}".rstrip() + "\n" for line in text.splitlines()), end="", flush=True)


@contextmanager
def only_one(state: Path) -> Iterator[None]:
    """Hold the folder's lock while the block lasts. Raises DemoError where another demo does."""
    state.mkdir(exist_ok=True)
    with (state / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            pid = lock.read().strip()
            raise DemoError(
                f"A demo is already running here (process {pid}). Press Ctrl-C in its terminal, or run: kill {pid}"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def end_in_order() -> None:
    """Let Ctrl-C, a closed terminal and `kill` unwind every `with` block; a second Ctrl-C does not interrupt that."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt

    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, interrupt)


def write_tool(path: Path, *, environment: Mapping[str, str], command: str) -> None:
    """A program that runs a command in an environment of its own. Only its owner may read it: it holds passwords."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"export {name}='{value}'" for name, value in environment.items()]
    path.touch(mode=0o700)
    path.write_text("\n".join(["#!/bin/sh", *lines, f'exec {command} "$@"', ""]))
