"""Keeps what a program of proof has counted, and makes the table of a page from it.

Each program writes `tests/data/proof/NAME.json`; a page shows it as the generated part `proof: NAME`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.support.paths import ROOT

FOLDER = ROOT / "tests" / "data" / "proof"


def keep(
    name: str,
    how: str,
    rows: Mapping[str, int | float | str | Sequence[str]],
    folder: Path = FOLDER,
    *,
    columns: Sequence[str] = ("what", "figure"),
    total: Mapping[str, object] | None = None,
) -> Path:
    """Writes what was counted today, by the command `how`: a figure for each thing counted, or one for each column.

    `total` is what a later run needs to add its own to it.
    """
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.json"
    counted = {"day": f"{datetime.now(UTC):%Y-%m-%d}", "how": how, "columns": list(columns), "rows": dict(rows)}
    counted |= {"total": total} if total else {}
    file.write_text(json.dumps(counted, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return file


def share(text: str) -> float:
    """What an option `--share` takes: 0.1 is a tenth, 1 is all."""
    if not 0 < float(text) <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share: 0.1 is a tenth, 1 is all")
    return float(text)


def _figures(name: str) -> dict[str, int]:
    rows: dict[str, int] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["rows"]
    return rows


def sentence() -> str:
    """What was played, for who reads one sentence."""
    faults, pairs, days = _figures("every_fault"), _figures("pairs_of_faults"), _figures("simulator")
    wrong = faults[WRONG_FAULTS] + pairs[WRONG_FAULTS] + days["promises broken"]
    return (
        f"\nPlayed against it: {_of(faults)} single faults of a small batch, from a refusal to a "
        f"kill, {_both(pairs):,} pairs of them, and {days['simulated days']:,} simulated days. "
        f"{'Nothing was' if not wrong else f'{wrong:,} times something was'} lost, doubled or silent "
        "([how](docs/guarantees.md#every-fault)).\n\n"
    )


def summary() -> str:
    """What the page begins with: how much was tried of each kind, and how often something was not as it must be."""
    faults, pairs = _figures("every_fault"), _figures("pairs_of_faults")
    days, reads = _figures("simulator"), _figures("histories")
    bugs, changes = _figures("planted_bugs"), json.loads((FOLDER / "mutation.json").read_text())["rows"]["all"]
    tried = f"all {changes[1]}" if changes[1] == changes[0] else f"{changes[1]} of {changes[0]}"
    rows: list[tuple[str, str, int | str]] = [
        ("[single faults](#every-fault) of a small batch", _of(faults), faults[WRONG_FAULTS]),
        ("pairs of them", f"{_both(pairs):,}", pairs[WRONG_FAULTS]),
        ("[simulated days](#simulated-days)", f"{days['simulated days']:,}", days["promises broken"]),
        ("[reads during loads](#histories)", f"{reads['reads by 3 sessions']:,}", reads[WRONG_READS]),
        ("[planted bugs](#planted-bugs)", f"{bugs['bugs planted']:,}", bugs["bugs planted"] - bugs["of these: found"]),
        ("[small changes of the code](#mutation-score)", tried, f"{changes[3]}, each with its reason"),
    ]
    lines = "\n".join(f"| {what} | {tried} | {wrong} |" for what, tried, wrong in rows)
    return f"\n| what was tried | how many | lost, doubled, silent or unnoticed |\n| --- | --- | --- |\n{lines}\n\n"


def all_pairs() -> str:
    """How many pairs there are, and how long they would take at the speed of the run that was kept."""
    pairs = _figures("pairs_of_faults")
    seconds = pairs["seconds"] / (pairs["single faults played"] + pairs[PAIRS])
    days = round(seconds * pairs[PAIRS_THAT_DIFFER] / 86_400)
    return (
        f"\nNot all pairs were played. There are {pairs[PAIRS_THAT_DIFFER]:,}, where first faults that leave the same "
        f"behind count once.\nThe second run below took {seconds:.1f} s a case. At that speed, all of them would take "
        f"the same machine some {days} days.\n\n"
    )


PAIRS = "pairs of faults played"
PAIRS_OF_ONE = "of these: one fault ended the run before the other was reached"
PAIRS_THAT_DIFFER = "pairs that there are, where first faults that leave the same behind count once"
WRONG_FAULTS = "batches lost, doubled or silent, receipts that do not balance, files or uploads left over"
WRONG_READS = "reads that were no committed batch, were not current, or went back"


def _both(pairs: Mapping[str, int]) -> int:
    """The pairs of which both faults were met."""
    return pairs[PAIRS] - pairs[PAIRS_OF_ONE]


def _of(faults: Mapping[str, int]) -> str:
    played, total = faults["single faults played"], faults["single faults that there are"]
    return f"all {played:,}" if played == total else f"{played:,} of {total:,}"


def block(name: str) -> str:
    """The table of one program: what it counted, and its figures."""
    kept = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    columns = kept.get("columns", ["what", "figure"])
    lines = [columns, ["---"] * len(columns)]
    for what, figures in kept["rows"].items():
        shown = figures if isinstance(figures, list) else [f"{figures:,}" if isinstance(figures, int) else f"{figures}"]
        lines.append([what, *shown])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"\n`{kept['how']}`, {kept['day']}:\n\n{table}\n\n"
