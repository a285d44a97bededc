"""Makes Markdown of what the benchmarks measured; docs/performance.md has it from tests/data/performance.json.

That file holds the last figures of two kinds of load: "idle" and "busy", when other programs use the machine too.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from tests.support import real_batch
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from tests.benchmarks.batches import Batch

FILE = ROOT / "tests" / "data" / "performance.json"
KINDS = ("idle", "busy")
IDLE_CORES = 0.25
"""Others may keep so many cores busy, in the median of all runs, before the machine counts as busy."""

BASE = "psql \\copy csv"
INDEXED_BASE = "psql \\copy csv, then our index by company and day"
OLD_INDEXED_BASE = "psql \\copy csv, then one by company and text"
FIRST = "mbd run, first load, no index"
FIRST_PYTHON = "mbd run, the same without the native checker"
FIRST_INDEXED = "mbd run, first load with index"
UNCHANGED = "mbd run, nothing changed"
NEW_ROWS = "mbd run, one new row in each company"
RESTATED = "mbd run, ten companies restated"
FIRST_PAGE = "mbd run, first load with index and report page"
UNCHANGED_PAGE = "mbd run, nothing changed, with report page"
POLARS = "polars, then \\copy"
READ, READ_BEFORE = "etl.read_prices()", "read_prices() of version 0.1"
ONE_DAY = "one day across companies"

Facts = Mapping[str, Any]


def machine() -> dict[str, Any]:
    """The machine, and its load before anything of ours has run."""
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "processor": found.group(1) if found else platform.machine(),
        "cores": os.cpu_count(),
        "linux": ".".join(platform.release().split(".")[:2]),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("psycopg2-binary", "pandas", "obstore")},
        "load_average": round(os.getloadavg()[0], 1),
    }


def batch_facts(batch: Batch) -> dict[str, Any]:
    kind = "real" if real_batch.archive() else "generated"
    return {"kind": kind, "files": len(batch.files()), "mb": round(batch.size_bytes() / 1e6)}


def others(facts: Facts) -> float:
    """How many cores other programs kept busy, in the median of all measured runs."""
    return float(median(_values(facts, "others")))


def kind_of(facts: Facts) -> str:
    return "idle" if others(facts) <= IDLE_CORES else "busy"


def heading(facts: Facts) -> str:
    """Batch, machine, versions, load: what a figure means nothing without."""
    where, batch = facts["machine"], facts["batch"]
    rows = f", {facts['run'][BASE]['rows']:,} rows" if "run" in facts else ""
    named = {"Python": where["python"], **where["versions"], **facts.get("peers", {})}
    return (
        f"Batch: {batch['kind']}, {batch['files']:,} files, {batch['mb']} MB{rows}.\n"
        f"Machine: {where['processor']}, {where['cores']} cores, Linux {where['linux']}.\n"
        f"Load: average at the start {where['load_average']}; other programs used {others(facts):.2f} cores "
        "while ours was measured (median).\n"
        f"Versions: {', '.join(f'{name} {number}' for name, number in named.items())}.\n"
    )


def run_table(rows: Facts) -> str:
    """One line a row; ratios are to \\copy csv of the same round."""
    head = ("", "x \\copy csv (least to most)", "wall s", "client CPU s / M rows", "server CPU s / M rows", "peak MB",
            "rounds")  # fmt: skip
    lines: list[tuple[str, ...]] = [head]
    base, count = rows[BASE], rows[BASE].get("rows", 0)
    for name, one in rows.items():
        if fault := _fault(one, base):
            lines.append((name, *["-"] * (len(head) - 2), fault))
            continue
        part = f" (a tenth of the rows, x {one['scale']})" if one["scale"] > 1 else ""
        lines.append(
            (
                name + part,
                _spread(_ratios(one, base)),
                f"{_median(one, 'wall'):.2f}",
                f"{_median(one, 'client_cpu') / count * 1e6:.2f}",
                f"{_median(one, 'server_cpu') / count * 1e6:.2f}",
                f"{max(run['peak_mb'] for run in one['runs']):.0f}",
                str(len(one["runs"])),
            )
        )
    return _markdown(lines)


def growth(sizes: Facts) -> str:
    """One line a size: its first load with the index, and the unchanged rerun."""
    lines: list[tuple[str, ...]] = [
        ("files", "rows", "first load s", "s / M rows", "client CPU s / M rows", "peak MB", "unchanged again s",
         "x its first load", "peak MB")
    ]  # fmt: skip
    for times, one in sizes.items():
        first, again, millions = one["first"], one["again"], one["rows"] / 1e6
        lines.append(
            (
                f"{times} x = {one['files']:,}",
                f"{one['rows']:,}",
                f"{first['wall']:.1f}",
                f"{first['wall'] / millions:.2f}",
                f"{first['client_cpu'] / millions:.2f}",
                f"{first['peak_mb']:.0f}",
                f"{again['wall']:.2f}",
                f"{again['wall'] / first['wall']:.3f}",
                f"{again['peak_mb']:.0f}",
            )
        )
    return _markdown(lines)


def s3(facts: Facts) -> str:
    """What each run from S3 asked for, and what reading costs the client."""
    lines: list[tuple[str, ...]] = [
        ("run", "GETs of company files", "pages of the listing", "writes", "other requests", "client CPU s")
    ]
    for name, one in facts["runs"].items():
        counts = [one[what] for what in ("gets", "pages", "writes", "other")]
        lines.append((name, *(f"{count:,}" for count in counts), f"{one['client_cpu']:.2f}"))
    text = _markdown(lines)
    if reading := facts.get("reading"):
        text += (
            f"\n\nReading {reading['objects']:,} objects from nginx, {reading['at_once']} at once, takes "
            f"{reading['seconds']['etl']:.2f} s of client CPU; with boto3 alone {reading['seconds']['boto3']:.2f} s."
        )
    return text


def readers(facts: Facts) -> str:
    """Everything as a DataFrame, by ours and by others; then queries; then what a reader sees during loads."""
    whole: list[tuple[str, ...]] = [("the whole table as a DataFrame", "s", "x before", "client CPU s", "peak MB")]
    before = facts["whole"][READ_BEFORE]
    for name, one in facts["whole"].items():
        if fault := _fault(one, before):
            whole.append((name, fault, "-", "-", "-"))
            continue
        peak = max(run["peak_mb"] for run in one["runs"])
        cells = f"{_median(one, 'seconds'):.2f}", f"{median(_ratios(one, before, of='seconds')):.2f}"
        whole.append((name, *cells, f"{_median(one, 'client_cpu'):.2f}", f"{peak:.0f}"))
    queries: list[tuple[str, ...]] = [("query of `stock_prices`", "rows", "ms (least to most)")]
    queries += [(name, f"{one['rows']:,}", _spread(one["ms"], digits=1)) for name, one in facts["queries"].items()]
    loads: list[tuple[str, ...]] = [("one company's rows, asked for during", "longest answer s", "rows seen")]
    loads += [
        (name, f"{one['longest']:.2f}", " or ".join(f"{count:,}" for count in one["counts"]))
        for name, one in facts["loads"].items()
    ]
    return "\n\n".join(_markdown(lines) for lines in (whole, queries, loads))


def targets(kinds: Mapping[str, Facts]) -> str:
    """What was to be reached, and what was, by kind of load."""
    shown = [kind for kind in KINDS if kind in kinds]
    lines: list[tuple[str, ...]] = [("what", "at most", "stretch", *shown)]
    for what, unit, most, stretch, figure in _TARGETS:
        cells = []
        for kind in shown:
            found = figure(kinds[kind])
            reached = "-" if found is None else "stretch" if found <= stretch else "yes" if found <= most else "no"
            cells.append("-" if found is None else f"{_short(found)}{unit}: {reached}")
        lines.append((what, f"{_short(most)}{unit}", f"{_short(stretch)}{unit}", *cells))
    return _markdown(lines, numbers=False)


def blocks() -> dict[str, Callable[[], str]]:
    """The generated parts of docs/performance.md, by name."""
    kinds = read() if FILE.exists() else {}
    shown = next((kinds[kind] for kind in KINDS if kind in kinds), None)
    parts: dict[str, Callable[[Facts], str]] = {
        "run": run_table,
        "growth": growth,
        "s3": s3,
        "reader": readers,
    }
    made: dict[str, Callable[[], str]] = {
        f"performance: {name}": lambda name=name, make=make: _block(make, shown, name)  # type: ignore[misc]
        for name, make in parts.items()
    }
    headings = [
        f"**{kind.capitalize()}**, {kinds[kind]['day']}:\n\n{_listed(kinds[kind])}" for kind in KINDS if kind in kinds
    ]
    made["performance: machine"] = lambda: "\n" + "\n\n".join(headings) + "\n\n"
    made["performance: targets"] = lambda: f"\n{targets(kinds)}\n\n"
    return made


def _block(make: Callable[[Facts], str], facts: Facts | None, part: str) -> str:
    return f"\n{make(facts[part]) if facts and part in facts else 'Not measured yet.'}\n\n"


def read() -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return facts


def write(facts: Facts) -> str:
    """Keep the figures of this kind of load next to those of the other; returns the kind."""
    kind = kind_of(facts)
    kept = {**(read() if FILE.exists() else {}), kind: facts}
    FILE.write_text(json.dumps({one: kept[one] for one in KINDS if one in kept}, indent=1) + "\n", encoding="utf-8")
    return kind


def _wall(name: str, *, to: str = BASE, of: str = "wall") -> Callable[[Facts], float | None]:
    def figure(facts: Facts) -> float | None:
        one, base = (facts.get("run", {}).get(row, {"missing": row}) for row in (name, to))
        return None if _fault(one, base) else median(_ratios(one, base, of=of))

    return figure


def _peak(facts: Facts) -> float | None:
    sizes = facts.get("growth", {}).values()
    return max((one[run]["peak_mb"] for one in sizes for run in ("first", "again")), default=None)


def _again(facts: Facts) -> float | None:
    largest = max(facts.get("growth", {}).values(), key=lambda one: one["files"], default=None)
    return largest and largest["again"]["wall"] / largest["first"]["wall"]


def _requests(facts: Facts) -> float | None:
    one = facts.get("s3", {}).get("runs", {}).get("nothing changed")
    if not one:
        return None
    # The plan and the receipt are written; they are no outputs, and count with the others.
    return float("inf") if one["gets"] or one["outputs"] else one["writes"] + one["other"]


def _reading(*, to: Callable[[Mapping[str, Any]], str]) -> Callable[[Facts], float | None]:
    def figure(facts: Facts) -> float | None:
        whole = {name: one for name, one in facts.get("reader", {}).get("whole", {}).items() if one.get("runs")}
        return median(_ratios(whole[READ], whole[to(whole)], of="seconds")) if READ in whole else None

    return figure


def _fastest(whole: Mapping[str, Any]) -> str:
    return min(
        (name for name in whole if name not in (READ, READ_BEFORE)), key=lambda name: _median(whole[name], "seconds")
    )


def _one_day(facts: Facts) -> float | None:
    found = facts.get("reader", {}).get("queries", {}).get(ONE_DAY)
    return median(found["ms"]) if found else None


_TARGETS: Sequence[tuple[str, str, float, float, Callable[[Facts], float | None]]] = (
    ("first load without index, to `\\copy`", " x", 1.1, 1.0, _wall(FIRST)),
    ("its client CPU, to that of polars with `\\copy`", " x", 0.6, 0.5, _wall(FIRST, to=POLARS, of="client_cpu")),
    ("building the index, to the one before (with `\\copy`)", " x", 1.2, 1.0, _wall(INDEXED_BASE, to=OLD_INDEXED_BASE)),
    ("peak memory, 1000 to 7000 files", " MB", 60, 40, _peak),
    ("unchanged batch of 1000 files, to `\\copy`", " x", 0.3, 0.2, _wall(UNCHANGED)),
    ("unchanged batch of 7000 files, to its first load", " x", 0.05, 0.02, _again),
    ("ten companies restated, to `\\copy`", " x", 0.4, 0.3, _wall(RESTATED)),
    ("one new row in each of 995 companies, to `\\copy`", " x", 0.7, 0.5, _wall(NEW_ROWS)),
    ("requests of an unchanged run in S3, besides the listing", "", 10, 10, _requests),
    ("`read_prices()` of everything, to that of 0.1", " x", 0.5, 0.5, _reading(to=lambda _: READ_BEFORE)),
    ("the same, to the fastest peer that gives a DataFrame", " x", 1.0, 1.0, _reading(to=_fastest)),
    ("one day across companies by `stock_prices`", " ms", 15, 5, _one_day),
)  # fmt: skip


def _listed(facts: Facts) -> str:
    return "\n".join(f"- {line}" for line in heading(facts).strip().splitlines())


def _fault(one: Mapping[str, Any], base: Mapping[str, Any]) -> str:
    if missing := one.get("missing"):
        return f"not installed: {missing}"
    fault = one.get("fault") or base.get("fault")
    return f"no figure: {fault}" if fault else "" if one["runs"] else "not measured"


def _values(facts: object, name: str) -> list[float]:
    if isinstance(facts, Mapping):
        own = [facts[name]] if isinstance(facts.get(name), float | int) else []
        return own + [value for one in facts.values() for value in _values(one, name)]
    return [value for one in facts for value in _values(one, name)] if isinstance(facts, list) else []


def _median(one: Mapping[str, Any], figure: str) -> float:
    return float(median(run[figure] for run in one["runs"]))


def _ratios(one: Mapping[str, Any], base: Mapping[str, Any], *, of: str = "wall") -> list[float]:
    """Run by run within a round; who runs seldom does so in the first rounds."""
    return [run[of] / other[of] for run, other in zip(one["runs"], base["runs"], strict=False)]


def _spread(values: Sequence[float], *, digits: int = 2) -> str:
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def _short(number: float) -> str:
    return f"{number:.3f}" if number < 0.1 else f"{number:.2f}" if number < 2 else f"{number:.0f}"


def _markdown(lines: Iterable[tuple[str, ...]], *, numbers: bool = True) -> str:
    head, *body = lines
    widths = [max(len(line[column]) for line in (head, *body)) for column in range(len(head))]
    rule = tuple("-" * (width - 1) + (":" if column and numbers else "-") for column, width in enumerate(widths))
    aligned = (
        [
            cell.rjust(width) if column and numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in (head, rule, *body)
    )
    return "\n".join(f"| {' | '.join(line)} |".rstrip() for line in aligned)
