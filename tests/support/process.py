"""Runs one server as a child: command, environment and log file in; a process that leaves nothing behind out."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import requests

HOST = "127.0.0.1"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h

Command = Sequence[str | Path | int]


class StackError(RuntimeError):
    """A stand-in did not start; the message names the log file that says why."""


class Process:
    """One child that leads its own session, logs to a file, and is gone with all its descendants after `stop`."""

    def __init__(
        self,
        command: Command,
        *,
        environment: Mapping[str, str],
        log: Path,
        account: str | None = None,
        stop: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.log = log
        self._signal = stop
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                [str(part) for part in command],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=log.parent,
                user=account,
                group=pwd.getpwnam(account).pw_gid if account else None,
                extra_groups=[] if account else None,
                start_new_session=True,
                preexec_fn=functools.partial(_stop_with_parent, stop),  # noqa: PLW1509
            )

    def has_died(self) -> bool:
        return self._child.poll() is not None

    def wait(self, *, seconds: float) -> int:
        return self._child.wait(seconds)

    def ask_to_stop(self) -> None:
        if not self.has_died():
            self._child.send_signal(self._signal)

    def stop(self, *, seconds: float = 5) -> None:
        self.ask_to_stop()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(seconds)
        for pid in _session_members(self._child.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._child.wait()


def _stop_with_parent(sent: signal.Signals) -> None:
    """Runs in the child before exec: the kernel sends `sent` when the thread that started us ends, however it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(sent))


def run(command: Command, *, environment: Mapping[str, str], log: Path, account: str | None = None) -> None:
    process = Process(command, environment=environment, log=log, account=account)
    try:
        code = process.wait(seconds=120)
    finally:
        process.stop()
    if code != 0:
        raise StackError(f"{Path(str(command[0])).name} ended with {code}. Its last lines, from {log}:\n{_tail(log)}")


def wait_until(holds: Callable[[], bool], *, processes: Sequence[Process], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        for process in processes:
            if process.has_died():
                raise StackError(
                    f"A server died while starting. Its last lines, from {process.log}:\n{_tail(process.log)}"
                )
        if time.monotonic() > deadline:
            logs = ", ".join(str(process.log) for process in processes)
            raise StackError(f"Not healthy after {seconds:.0f} s. Read {logs}.")
        time.sleep(0.2)


def get_json(url: str) -> Any:  # noqa: ANN401
    """The JSON at `url`, or None while nothing answers there properly."""
    try:
        answer = requests.get(url, timeout=5)
        return answer.json() if answer.ok else None
    except requests.RequestException:
        return None


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


def write_private(path: Path, text: str, *, owner: str | None = None) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
    if owner:
        shutil.chown(path, owner)


def clean_environment() -> dict[str, str]:
    """Ours without what would point Airflow or boto3 at something real."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "AWS_"))}
    return {**inherited, "AWS_EC2_METADATA_DISABLED": "true", "NO_PROXY": HOST, "no_proxy": HOST}


def _session_members(leader: int) -> list[int]:
    """Processes of the session that `leader` opened; a process group would miss Airflow's tasks."""
    members = []
    for pid in [leader, *(int(entry.name) for entry in Path("/proc").glob("[0-9]*"))]:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(pid) == leader:
                members.append(pid)
    return members


def _tail(log: Path, *, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
