"""Keeps what a program of proof has counted, and makes the table of a page from it.

Each program writes `tests/data/proof/NAME.json`; a page shows it as the generated part `proof: NAME`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from tests.support.paths import ROOT

FOLDER = ROOT / "tests" / "data" / "proof"


def keep(name: str, how: str, rows: Mapping[str, int | float | str], folder: Path = FOLDER) -> Path:
    """Writes what was counted today, by the command `how`: a figure for each thing counted."""
    file = folder / f"{name}.json"
    counted = {"day": f"{datetime.now(UTC):%Y-%m-%d}", "how": how, "rows": dict(rows)}
    file.write_text(json.dumps(counted, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return file


def block(name: str) -> str:
    """The table of one program: what it counted, and its figure."""
    kept = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    rows = "\n".join(
        f"| {what} | {figure:,} |" if isinstance(figure, int) else f"| {what} | {figure} |"
        for what, figure in kept["rows"].items()
    )
    return f"\n`{kept['how']}`, {kept['day']}:\n\n| what | figure |\n|---|---|\n{rows}\n\n"
