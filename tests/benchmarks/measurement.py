"""Runs one command and measures what it cost itself, what it cost the server, and what others did. Linux only."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import sysconf
from pathlib import Path

from tests.support.paths import ROOT

_LAUNCHER = Path(__file__).with_name("launcher.py")
_TICKS_A_SECOND = sysconf("SC_CLK_TCK")

Command = Sequence[str | Path]


@dataclass(frozen=True)
class Figures:
    """Seconds, and MB at the peak of the largest of its processes. Server CPU is exact to some 10 ms.

    `others`: how many cores all other programs of the machine kept busy meanwhile.
    """

    wall: float
    client_cpu: float
    server_cpu: float
    peak_mb: float
    others: float

    def times(self, factor: float) -> Figures:
        wall, client, server = (round(one * factor, 3) for one in (self.wall, self.client_cpu, self.server_cpu))
        return Figures(wall, client, server, round(self.peak_mb, 1), round(self.others, 2))


class CommandFailed(RuntimeError):
    """The command's exit code and the last line that it wrote to stderr."""


def measure(command: Command, *, environment: Mapping[str, str], postmaster: int) -> Figures:
    """Run it in the repository's root with its whole start-up. Raises CommandFailed."""
    before = _backends(postmaster)
    busy, cpu, begun = _busy(), _server_cpu(postmaster), time.monotonic()
    launcher = [sys.executable, "-I", "-S", str(_LAUNCHER)]
    done = subprocess.run(
        [*launcher, *map(str, command)], env=dict(environment), cwd=ROOT, capture_output=True, text=True, check=True
    )
    _wait_for_end_of_others(postmaster, before)
    cpu = _server_cpu(postmaster) - cpu
    code, wall, client_cpu, peak_kib = done.stdout.split()
    others = max(0.0, _busy() - busy - cpu - float(client_cpu)) / (time.monotonic() - begun)
    if code != "0":
        raise CommandFailed(f"exit code {code}: {(done.stderr.strip().splitlines() or ['(silent)'])[-1]}")
    return Figures(float(wall), float(client_cpu), cpu, float(peak_kib) * 1024 / 1e6, others)


def _busy() -> float:
    """CPU seconds of all processes of this machine so far."""
    user, nice, system, _, _, irq, soft_irq, *_ = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + irq + soft_irq) / _TICKS_A_SECOND


def _server_cpu(postmaster: int) -> float:
    """CPU seconds of the server's processes, those that ended included: the postmaster has waited for them."""
    ticks = sum(sum(map(int, _stat(pid)[11:15])) for pid in [postmaster, *_backends(postmaster)])
    return ticks / _TICKS_A_SECOND


def _wait_for_end_of_others(postmaster: int, before: set[int]) -> None:
    """A client is gone a moment before its backend is; what it cost is known when the postmaster has waited for it."""
    deadline = time.monotonic() + 10
    while not _backends(postmaster) <= before:
        if time.monotonic() > deadline:
            raise CommandFailed("a server process outlives its client by 10 s")
        time.sleep(0.01)


def _backends(postmaster: int) -> set[int]:
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return {pid for pid in pids if (stat := _stat(pid)) and int(stat[1]) == postmaster}


def _stat(pid: int) -> list[str]:
    """Fields of /proc/{pid}/stat from the state on (proc(5), field 3); empty when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
