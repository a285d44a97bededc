"""What `make bench` prints: measured rows go in, Markdown comes out."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import median

from tests.benchmarks.batches import Batch
from tests.benchmarks.database import Database
from tests.benchmarks.measurement import Figures
from tests.support import real_batch

BASE = "psql \\copy csv"
INDEXED_BASE = "psql \\copy csv, then CREATE INDEX"
FIRST = "etl run, first load, no index"
FIRST_INDEXED = "etl run, first load with index"
_OURS = ("psycopg2-binary",)
_PEERS = ("polars", "duckdb", "pandas", "dlt", "psycopg2")


@dataclass
class Measured:
    """A row's runs, one a round, and why they do not count: `fault` is empty where every run was found equal."""

    name: str
    scale: int = 1
    runs: list[Figures] = field(default_factory=list)
    fault: str = ""


def heading(batch: Batch, *, rows: int, database: Database, peers: Path | None) -> str:
    """Batch, machine, versions, load: what a figure means nothing without."""
    kind = "Real" if real_batch.archive() else "Generated"
    ours = f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in _OURS)
    lines = [
        f"{kind} batch: {len(batch.files()):,} files, {batch.size_bytes() / 1e6:.0f} MB, {rows:,} rows.",
        f"Machine: {_processor()}, {os.cpu_count()} cores, Linux {platform.release()}; "
        f"load average at the start {os.getloadavg()[0]:.1f}.",
        f"Versions: PostgreSQL {database.version}, {ours}.",
    ]
    if peers:
        lines.append(f"Peers: {_peer_versions(database, peers)}.")
    return "\n".join(lines) + "\n"


def table(measured: Mapping[str, Measured]) -> str:
    """One line a row; ratios are to \\copy csv of the same round, database time to the first load without an index."""
    lines: list[tuple[str, ...]] = [
        ("", "wall s", "x \\copy csv (least to most)", "client CPU s", "server CPU s", "peak MB", "database time",
         "equal")
    ]  # fmt: skip
    base, first = measured[BASE], measured.get(FIRST)
    for one in measured.values():
        name = f"{one.name} (a tenth of the rows, x {one.scale})" if one.scale > 1 else one.name
        if one.fault or base.fault or not one.runs:
            lines.append((name, *["-"] * 6, f"no: {one.fault or base.fault}"))
            continue
        ratios = _ratios(one, base, of="wall")
        rerun = one.name.startswith("etl run") and one.name not in (FIRST, FIRST_INDEXED)
        lines.append(
            (
                name,
                f"{_median(one.runs, 'wall'):.2f}",
                f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
                f"{_median(one.runs, 'client_cpu'):.2f}",
                f"{_median(one.runs, 'server_cpu'):.2f}",
                f"{max(run.peak_mb for run in one.runs):.0f}",
                f"{median(_ratios(one, first, of='server_cpu')):.3f} x" if first and rerun and not first.fault else "",
                "yes",
            )
        )
    text = f"Medians of {len(base.runs)} rounds.\n\n{_markdown(lines)}"
    indexed, by_hand = measured.get(FIRST_INDEXED), measured.get(INDEXED_BASE)
    if indexed and by_hand and not indexed.fault and not by_hand.fault:
        ratios = _ratios(indexed, by_hand, of="wall")
        text += f"\n\n`{FIRST_INDEXED}` against `{INDEXED_BASE}`: {median(ratios):.2f} x "
        text += f"({min(ratios):.2f} to {max(ratios):.2f})."
    return text


def growth(measured: Mapping[int, tuple[int, list[Figures]]], *, rows: int) -> str:
    """One line a size: times the files -> how many files there were, and its runs."""
    lines = [("files", "rows", "wall s", "wall s a million rows", "client CPU s", "server CPU s", "peak MB", "equal")]
    for times, (files, runs) in measured.items():
        wall = _median(runs, "wall")
        lines.append(
            (
                f"{times} x = {files:,}",
                f"{rows * times:,}",
                f"{wall:.2f}",
                f"{wall / (rows * times) * 1e6:.2f}",
                f"{_median(runs, 'client_cpu'):.2f}",
                f"{_median(runs, 'server_cpu'):.2f}",
                f"{max(run.peak_mb for run in runs):.0f}",
                "yes",
            )
        )
    return f"Medians of {len(runs)} rounds.\n\n{_markdown(lines)}"


def _median(runs: list[Figures], figure: str) -> float:
    return float(median(getattr(run, figure) for run in runs))


def _ratios(one: Measured, base: Measured, *, of: str) -> list[float]:
    return [getattr(run, of) / getattr(beside, of) for run, beside in zip(one.runs, base.runs, strict=True)]


def _markdown(lines: Iterable[tuple[str, ...]]) -> str:
    head, *body = lines
    widths = [max(len(line[column]) for line in (head, *body)) for column in range(len(head))]
    rule = tuple("-" * (width - 1) + (":" if column else "-") for column, width in enumerate(widths))
    aligned = (
        [
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in (head, rule, *body)
    )
    return "\n".join(f"| {' | '.join(line)} |" for line in aligned)


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found.group(1) if found else platform.machine()


def _peer_versions(database: Database, python: Path) -> str:
    """Of the peers in that Python; imports each, so that none is imported for the first time in a measured run."""
    names = ", ".join(_PEERS)
    told = f"(f'{{one.__name__}} {{one.__version__.split()[0]}}' for one in ({names}))"
    program = f"import {names}\nprint(', '.join({told}))"
    done = subprocess.run([python, "-c", program], env=database.environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()
