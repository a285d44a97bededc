"""Keeps what a program of proof has counted, and makes the table of a page from it.

Each program writes `tests/data/proof/NAME.json`; a page shows it as the generated part `proof: NAME`.
"""

from __future__ import annotations

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
) -> Path:
    """Writes what was counted today, by the command `how`: a figure for each thing counted, or one for each column."""
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.json"
    counted = {"day": f"{datetime.now(UTC):%Y-%m-%d}", "how": how, "columns": list(columns), "rows": dict(rows)}
    file.write_text(json.dumps(counted, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return file


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
