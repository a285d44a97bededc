"""Keeps what each seed came to in a file, so that a long run goes on where it was interrupted, and adds runs up.

A line for each seed. What other code than today's came to does not count in the file: whatever was played before a
change says nothing about what is there after it. A sum of runs says how many of its days are of the newest code.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT
from tests.support.proof import FOLDER

_PLAYED = (
    *(f"{folder}/**/*" for folder in ("etl", "trigger", "airflow/dags", "tests/proof/simulator")),
    *(f"tests/support/{name}.py" for name in ("airflow_stand_in", "company_editions", "database")),
)
"""What is simulated, and what simulates it."""
_CODE = {".py", ".sql", ".cpp", ".html"}
_NOT_PLAYED = {f"tests/proof/simulator/{name}.py" for name in ("simulate", "results", "planted")}
"""The command, what it keeps, and bugs that no seed meets unless they are asked for."""


@dataclass
class Outcome:
    """What a simulation came to."""

    seed: int
    days: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    kind: str = ""
    """Which promise was broken; empty where none was."""
    detail: str = ""
    log: list[str] = field(default_factory=list)
    seconds: float = 0.0
    """Of this process's own work."""


@dataclass
class Total:
    """What seeds in a row came to, together: from `seed` on, each asked for `asked` days."""

    seed: int
    asked: int
    code: str
    """The newest code that was played; the seeds before may have been played by code before it."""
    seeds: int = 0
    days: int = 0
    newest_days: int = 0
    """Those of the newest code."""
    broken: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, outcomes: Iterable[Outcome]) -> Total:
        for one in outcomes:
            self.seeds += 1
            self.days += one.days
            self.newest_days += one.days
            self.broken += bool(one.kind)
            self.seconds += one.seconds
            self.counts.update(one.counts)
        return self

    def as_json(self) -> dict[str, object]:
        return {**vars(self), "seconds": round(self.seconds, 1), "counts": dict(sorted(self.counts.items()))}

    @classmethod
    def of_json(cls, kept: Mapping[str, Any]) -> Total:
        return cls(**{**kept, "counts": Counter(kept["counts"])})


def kept_total(asked: int, folder: Path = FOLDER, root: Path = ROOT) -> Total | None:
    """What was kept of runs of so many days for each seed, for today's code to go on."""
    file = folder / "simulator.json"
    kept = json.loads(file.read_text(encoding="utf-8")).get("total") if file.exists() else None
    total = Total.of_json(kept) if kept else None
    if not total or total.asked != asked:
        return None
    if total.code != code_of(root):
        total.code, total.newest_days = code_of(root), 0
    return total


class Results:
    """The outcomes of one file that today's code had, by seed, when asked for so many days."""

    def __init__(self, file: Path, *, days: int, root: Path = ROOT) -> None:
        self._file, self._days, self._code = file, days, code_of(root)
        self.outcomes: dict[int, Outcome] = {}
        for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
            kept = json.loads(line)
            if (kept.pop("code"), kept.pop("asked")) == (self._code, days):
                self.outcomes[kept["seed"]] = Outcome(**{**kept, "counts": Counter(kept["counts"])})

    def add(self, outcome: Outcome) -> None:
        self.outcomes[outcome.seed] = outcome
        line = json.dumps({"code": self._code, "asked": self._days, **vars(outcome)}, ensure_ascii=False)
        with self._file.open("a", encoding="utf-8") as into:
            into.write(f"{line}\n")


def code_of(root: Path) -> str:
    """A hash of all source files that a simulation plays, without its tests and its command."""
    found = {path.relative_to(root) for pattern in _PLAYED for path in root.glob(pattern) if path.suffix in _CODE}
    digest = hashlib.sha256()
    for path in sorted(found):
        is_left_out = path.name.startswith("test_") or path.as_posix() in _NOT_PLAYED
        if ".build" not in path.parts and not is_left_out:  # the first is the trigger's package
            digest.update(f"{path}\0".encode() + hashlib.sha256((root / path).read_bytes()).digest())
    return digest.hexdigest()[:16]
