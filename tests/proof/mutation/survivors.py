"""The changes of code that no test notices, each with the reason: survivors.toml, its list for docs/guarantees.md."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT

FILE = Path(__file__).with_name("survivors.toml")
Key = tuple[str, str, str, str]
"""Module, function, the code as it is, the code as changed; white space as one blank."""


def read_survivors() -> dict[Key, str]:
    """The reason why each survivor may stay."""
    facts: dict[str, list[dict[str, Any]]] = tomllib.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    return {
        (group["module"], function, old, new): group["why"]
        for group in facts.get("group", [])
        for function, old, new in group["changes"]
    }


def outdated() -> Iterator[str]:
    """Entries whose code is gone."""
    for module, _, old, _ in read_survivors():
        if old not in " ".join((ROOT / module).read_text(encoding="utf-8").split()):
            yield f"{module}: {old}"


def block() -> str:
    """The list for the page: a row for each reason of a module."""
    groups = tomllib.loads(FILE.read_text(encoding="utf-8"))["group"]
    rows = "\n".join(f"| `{group['module']}` | {len(group['changes'])} | {group['why']} |" for group in groups)
    return f"\n| module | changes | why no test notices them |\n|---|---|---|\n{rows}\n\n"
