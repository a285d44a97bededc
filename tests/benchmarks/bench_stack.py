"""`make bench-stack`: a batch through the compose stack: seconds of each step, and each container's peak working set.

Needs Docker on this machine. MBD_REAL_BATCH=archive measures the real batch; --workers N takes the Celery stack. Each
run loads into an empty table. "Airflow" is what passes from trigger to mail beside the steps. Prints Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks import batches
from tests.support import ending
from tests.support.compose_system import ComposeSystem, docker, missing_docker

_STEPS = ("gate", "process", "combine", "load")
_SECONDS_BETWEEN_SAMPLES = 0.2
_SURROUNDINGS = ("moto", "target", "init")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-stack", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0, help="Celery workers; 0 (without it): LocalExecutor")
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--files", type=int, default=200, help="of the generated batch, without MBD_REAL_BATCH (200)")
    options = parser.parse_args()
    if why_not := missing_docker():
        parser.exit(2, f"error: {why_not}\n")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        batch = batches.first_batch(Path(folder, "batch"), generated_files=options.files)
        Path(folder, "stack").mkdir()
        settings = {"MBD_SHARDS": str(options.shards)}
        with ComposeSystem(Path(folder, "stack"), workers=options.workers, settings=settings) as system:
            *_, uploaded = system.upload({path.name: path for path in batch.files()}, index=batch.index.read_bytes())
            print(f"{uploaded:,} files, {batch.size_bytes() / 1e6:.0f} MB, {os.cpu_count()} cores\n")
            print("|", " | ".join(("run", "load average", "trigger to mail", *_STEPS, "Airflow")), "|")
            print("|---" * (4 + len(_STEPS)) + "|")
            with working_sets(system) as peaks:
                for number in range(options.runs):
                    print(_measured(system, f"bench_{number}"), flush=True)
    print("\n| container | peak working set, MiB |\n|---|---|")
    for name, size in sorted(peaks.items()):
        print(f"| {name} | {size / 2**20:.0f} |")
    print(f"| sum | {sum(peaks.values()) / 2**20:.0f} |")
    return 0


def _measured(system: ComposeSystem, run_id: str) -> str:
    """One run into an empty table, as a row of the printed one."""
    ending.empty_table(system)
    busy, begun = os.getloadavg()[0], time.monotonic()
    system.start(run_id)
    mail = system.receive_mail(seconds=900)
    elapsed = time.monotonic() - begun
    if mail.subject != ending.SUBJECTS["success"]:
        raise SystemExit(f"The run failed:\n{mail.text}")
    steps = json.loads(system.output(f"receipts/{run_id}.json"))["steps"]
    seconds = [steps.get(step, 0.0) for step in _STEPS]
    cells = [f"{busy:.1f}", *(f"{one:.1f} s" for one in (elapsed, *seconds, elapsed - sum(seconds)))]
    return f"| {' | '.join((run_id, *cells))} |"


@contextmanager
def working_sets(system: ComposeSystem) -> Iterator[dict[str, int]]:
    """While the block lasts, the peaks so far: bytes by container, without those around the stack.

    The working set is memory in use without the page cache that the kernel would give back first.
    """
    groups = {
        name.removeprefix(f"{system.project}-"): _control_group(container)
        for name, container in system.containers().items()
        if not name.removeprefix(f"{system.project}-").startswith(_SURROUNDINGS)
    }
    peaks = dict.fromkeys(groups, 0)
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(_SECONDS_BETWEEN_SAMPLES):
            for name, group in groups.items():
                peaks[name] = max(peaks[name], _working_set(group))

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        ended.set()
        thread.join()


def _control_group(container: str) -> Path:
    """Where the kernel accounts for a container's memory, in version 1 or 2 of control groups."""
    pid = docker("inspect", "--format", "{{.State.Pid}}", container).strip()
    lines = [line.split(":", 2) for line in Path("/proc", pid, "cgroup").read_text().splitlines()]
    first = [path for _, controllers, path in lines if "memory" in controllers.split(",")]
    [path] = first or [path for _, controllers, path in lines if not controllers]
    return Path(f"/sys/fs/cgroup{'/memory' if first else ''}{path}")


def _working_set(group: Path) -> int:
    version_2 = (group / "memory.current").exists()
    used = int((group / ("memory.current" if version_2 else "memory.usage_in_bytes")).read_text())
    stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return used - int(stat["inactive_file" if version_2 else "total_inactive_file"])


if __name__ == "__main__":
    raise SystemExit(main())
