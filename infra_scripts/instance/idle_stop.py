"""Stops the instance when Airflow has had nothing to do for a while. A timer runs it on the instance.

With --maintain it upgrades Docker and reboots instead, where that is due: both would end a run. An instance that stops
itself is hardly up when the timers for upgrades would do their work, so it does what is due before it stops.

It uses only the standard library of Python 3.10 (Ubuntu 22.04), as it runs on the instance's own Python. It shuts the
machine down, which for this instance means "stop"; the trigger starts it again when the next marker comes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

DAG_ID = "moving_big_data"
IDLE_MINUTES = 10.0  # after a run's end; its mail is sent within seconds
MINUTES_AFTER_BOOT = 20.0  # time for Airflow to start, for a late marker, for a person who started the instance
_UNFINISHED = ("queued", "running")
_UTC = timezone.utc  # noqa: UP017  datetime.UTC came with Python 3.11
_REBOOT_REQUIRED = Path("/run/reboot-required")  # unattended-upgrades writes it
_DOCKER = re.compile(r"^((?:docker|containerd|runc)[\w.+-]*)/", re.MULTILINE)
_COMPOSE = ("docker", "compose")
_APT = ("apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300")
_SESSION_WORKER = "ssm-session-worker"  # the agent of Systems Manager starts one for each session


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The state of the instance at one moment; times in UTC."""

    now: datetime
    booted_at: datetime
    unfinished_runs: int
    last_run_ended_at: datetime | None
    dag_processor_is_healthy: bool
    """The dag-processor sends the mails: while it is down, one may be waiting."""
    people: int
    """Logins at a terminal or by SSH, and sessions of Systems Manager: shells and port forwardings."""


def reason_to_stay(facts: Facts, *, idle_minutes: float = IDLE_MINUTES) -> str | None:
    """Why the instance has to stay up, or None when it may stop."""
    if facts.unfinished_runs:
        return f"{facts.unfinished_runs} unfinished runs"
    if not facts.dag_processor_is_healthy:
        return "the dag-processor is not healthy, so a mail may be waiting"
    if facts.people:
        return f"{facts.people} people are logged in"
    up = _minutes(facts.now, since=facts.booted_at)
    if up < MINUTES_AFTER_BOOT:
        return f"up for {up:.0f} of at least {MINUTES_AFTER_BOOT:.0f} minutes"
    if facts.last_run_ended_at is not None:
        idle = _minutes(facts.now, since=facts.last_run_ended_at)
        if idle < idle_minutes:
            return f"idle for {idle:.0f} of {idle_minutes:.0f} minutes"
    return None


def main(arguments: Sequence[str] = ()) -> int:
    maintains = "--maintain" in arguments
    try:
        with _alone():
            reason = _look()
            if maintains and not _is_due():
                return 0
            if reason is None:
                packages = _fetch_docker() if maintains else _upgrade_before_stop()
                reason = _look() or _close_door(then=partial(_upgrade_and_end, packages, reboots=maintains))
    except (OSError, subprocess.SubprocessError) as error:
        _say(f"staying up: {_why(error)}")
        return 1
    done = "rebooting" if maintains else "stopping this instance; the next marker wakes it"
    _say(f"staying up: {reason}" if reason else f"nothing to do: {done}")
    return 0


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Wait for the look of the other timer to end: it may hold the API closed."""
    directory = os.open(".", os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _look() -> str | None:
    """Why the instance has to stay up now, or None. Opens the API where an earlier look has left it closed."""
    try:
        if _is_left_closed():
            _output(*_COMPOSE, "start", "api-server")
            return "an earlier look was broken off and left the API closed; it is open again"
        return reason_to_stay(gather(), idle_minutes=float(os.environ.get("MBD_IDLE_MINUTES") or IDLE_MINUTES))
    except (OSError, ValueError, KeyError) as error:  # Airflow is down or starting; stopping would hide that
        return f"Airflow's state is not known ({type(error).__name__}: {error})"
    except subprocess.SubprocessError as error:
        return _why(error)


def _is_left_closed() -> bool:
    """Whether of an Airflow that is up only the API is stopped, and nobody is starting or stopping the whole."""
    exited = _output(*_COMPOSE, "ps", "--all", "--services", "--status", "exited").split()
    if "api-server" not in exited or "scheduler" in exited:
        return False
    return _output("systemctl", "show", "--property=ActiveState", "--value", "moving-big-data").strip() == "active"


def _is_due() -> bool:
    return _REBOOT_REQUIRED.exists() or bool(_upgrades_of_docker())


def _upgrades_of_docker() -> list[str]:
    """Packages that unattended-upgrades leaves out, as an upgrade restarts every container; without those on hold."""
    upgradable = _DOCKER.findall(_output("apt", "list", "--upgradable"))
    held = _output("apt-mark", "showhold").split() if upgradable else []
    return [package for package in upgradable if package not in held]


def _fetch_docker() -> list[str]:
    """Download the upgrade of Docker while the API is open, where most of what can fail does; returns its packages."""
    if not _upgrades_of_docker():
        return []
    _output(*_APT, "update", seconds=300)
    packages = _upgrades_of_docker()
    if packages:
        _output(*_APT, "install", "--only-upgrade", "--download-only", *packages, seconds=600)
    return packages


def _upgrade_before_stop() -> list[str]:
    """Install security updates, at most once a day, as the system's own timers would, and download Docker's."""
    with _going_on("the security updates"):
        _output("systemctl", "start", "apt-daily.service", "apt-daily-upgrade.service", seconds=900)
    with _going_on("the download of Docker's upgrade"):
        return _fetch_docker()
    return []


@contextlib.contextmanager
def _going_on(what: str) -> Iterator[None]:
    """Stop the instance also when this fails."""
    try:
        yield
    except (OSError, subprocess.SubprocessError) as error:
        _say(f"{what} failed, and the next stop tries again: {_why(error)}")


def _upgrade_and_end(packages: Sequence[str], *, reboots: bool) -> None:
    with contextlib.nullcontext() if reboots else _going_on("the upgrade of Docker"):
        if packages:
            _output(*_APT, "install", "--only-upgrade", *packages, seconds=900)
    _output(*(("systemctl", "reboot") if reboots else ("shutdown", "-h", "now")))


def gather() -> Facts:
    """Ask Airflow and this machine. Raises OSError, ValueError or KeyError when Airflow gives no proper answer."""
    airflow = _Airflow(_url())
    login = {"username": "trigger", "password": _setting("AIRFLOW_TRIGGER_PASSWORD")}
    if not login["password"]:
        raise ValueError("AIRFLOW_TRIGGER_PASSWORD is not set in .env")
    token = str(airflow.ask("/auth/token", body=login)["access_token"])
    runs = f"/api/v2/dags/{DAG_ID}/dagRuns"
    states = "&".join(f"state={state}" for state in _UNFINISHED)
    unfinished = airflow.ask(f"{runs}?{states}&limit=1", token=token)["total_entries"]
    ended = airflow.ask(f"{runs}?state=success&state=failed&order_by=-end_date&limit=1", token=token)["dag_runs"]
    health = airflow.ask("/api/v2/monitor/health")
    return Facts(
        now=datetime.now(_UTC),
        booted_at=datetime.fromtimestamp(time.time() - _seconds_up(), _UTC),
        unfinished_runs=int(unfinished),
        last_run_ended_at=datetime.fromisoformat(ended[0]["end_date"].replace("Z", "+00:00")) if ended else None,
        dag_processor_is_healthy=health["dag_processor"]["status"] == "healthy",
        people=len(_output("who").splitlines()) + _sessions(),
    )


def _url() -> str:
    """Where Airflow answers on this machine: at the address that compose publishes it on, and nowhere else."""
    scheme = "https" if _setting("AIRFLOW_TLS") == "on" else "http"
    bind = _setting("AIRFLOW_BIND").strip("[]")
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind, bind)  # noqa: S104  it is compared
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{_setting('AIRFLOW_PORT') or 8080}"


@dataclass(frozen=True)
class _Airflow:
    url: str

    def ask(self, path: str, *, token: str = "", body: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401
        """The JSON of one answer."""
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=headers)  # noqa: S310  http(s), ours
        # This is our own machine: its self-signed certificate need not be verified.
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        with urllib.request.urlopen(request, timeout=20, context=tls) as answer:  # noqa: S310
            return json.load(answer)


def _close_door(*, then: Callable[[], None]) -> str | None:
    """Accept no more runs, check once more, then act; returns the reason to stay when a run came in between.

    A trigger that finds the API closed is retried by Lambda, and then wakes the stopped instance. Whatever goes wrong,
    the API is open again afterwards: Docker starts no container that was stopped on purpose.
    """
    has_acted = False
    try:
        _output(*_COMPOSE, "stop", "--timeout", "20", "api-server")
        reason = _late_runs()
        if reason is None:
            then()
            has_acted = True
    finally:
        if not has_acted:
            _output(*_COMPOSE, "start", "api-server")
    return reason


def _late_runs() -> str | None:
    list_runs = ["exec", "-T", "scheduler", "airflow", "dags", "list-runs", DAG_ID, "--output", "json"]
    try:
        late = sum(run["state"] in _UNFINISHED for run in _runs(_output(*_COMPOSE, *list_runs)))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return f"the last check failed ({error})"
    return f"{late} runs came in just now" if late else None


def _runs(printed: str) -> Sequence[Mapping[str, str]]:
    """The list that `airflow dags list-runs --output json` prints, among whatever warnings."""
    begins = re.search(r"^\[\s*(?=[{\]])", printed, re.MULTILINE)
    if begins is None:
        raise ValueError("Airflow printed no list of runs")
    found: Sequence[Mapping[str, str]] = json.JSONDecoder().raw_decode(printed[begins.start() :])[0]
    return found


def _setting(name: str) -> str:
    """A value of .env, as docker compose reads it."""
    return _output("bash", "airflow/make_env.sh", "value", name)


def _seconds_up() -> float:
    return float(Path("/proc/uptime").read_text().split()[0])


def _sessions() -> int:
    """How many sessions of Systems Manager there are, which `who` does not list.

    Reads whole command lines, as the kernel cuts a command's name off at 15 characters.
    """
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # a process that has just ended
            commands.append(path.read_bytes().partition(b"\0")[0].decode(errors="replace"))
    return sum(Path(command).name == _SESSION_WORKER for command in commands)


def _minutes(now: datetime, *, since: datetime) -> float:
    return (now - since).total_seconds() / 60


def _output(*command: str, seconds: float = 120) -> str:
    # No package asks a question, and none restarts the unit that this is.
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1"}
    return subprocess.run(  # noqa: S603
        command, check=True, capture_output=True, text=True, timeout=seconds, env=quiet
    ).stdout


def _why(error: BaseException) -> str:
    """The error with the last line that its command printed about it, after the one in whose handling it came up."""
    before = f"{_why(error.__context__)}; then " if error.__context__ else ""
    printed = (error.stderr or "").strip() if isinstance(error, subprocess.CalledProcessError) else ""
    return before + (f"{error}: {printed.splitlines()[-1]}" if printed else str(error))


def _say(text: str) -> None:
    print(f"{datetime.now(_UTC):%Y-%m-%dT%H:%M:%SZ} idle_stop: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
