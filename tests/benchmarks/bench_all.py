"""`make bench-all`: everything that docs/performance.md says, into tests/data/performance.json; 20 minutes when idle.

The file keeps the figures of an idle machine and of a busy one: which of them this was is measured too. It is written
after each part, so that a stop loses only the part that is under way.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks import report
from tests.benchmarks.bench_reader import measure_reader
from tests.benchmarks.bench_run import measure_growth, measure_rows, measured_batch
from tests.benchmarks.bench_s3 import measure_s3
from tests.support import real_batch

_PEERS = ("polars", "duckdb", "chdb", "pandas", "pyarrow", "dlt", "connectorx", "adbc-driver-postgresql",
          "sling_linux_amd64", "ingestr")  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench-all", description=__doc__)
    parser.add_argument("--peers", metavar="PYTHON", type=Path, required=True, help="the Python that has the peers")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if real_batch.archive() is None:
        parser.exit(2, f"error: {real_batch.MISSING}\n")
    peers, rounds = options.peers, options.rounds
    facts: dict[str, Any] = {
        "day": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": report.machine(),
        "peers": _versions(peers),
    }
    with measured_batch() as (batch, root, database):
        places: dict[str, Any] = {"root": root, "database": database}
        facts["batch"] = report.batch_facts(batch)
        facts["machine"]["versions"]["PostgreSQL"] = database.version
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "run": lambda: measure_rows(batch, **places, peers=peers, rounds=rounds),
            "reader": lambda: measure_reader(batch, **places, peers=peers, rounds=rounds),
            "s3": lambda: measure_s3(batch, **places),
            "growth": lambda: measure_growth(batch, **places),
        }
        for name, measured in parts.items():
            facts[name] = measured()
            kind = report.write(facts)
    print(f"{report.heading(facts)}\n{report.targets({kind: facts})}\n\n{report.run_table(facts['run'])}")
    print(f"\nWritten to {report.FILE} as {kind}. Then: python -m tests.support.docs --write")
    return 1 if any(one.get("fault") for one in facts["run"].values()) else 0


def _versions(python: Path) -> dict[str, str]:
    """Of the peers, those that are installed for that Python."""
    program = (
        "import importlib.metadata as m\n"
        f"for name in {_PEERS}:\n"
        "    try: print(name, m.version(name))\n"
        "    except m.PackageNotFoundError: pass"
    )
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True)
    return dict(line.split() for line in done.stdout.splitlines())


if __name__ == "__main__":
    sys.exit(main())
