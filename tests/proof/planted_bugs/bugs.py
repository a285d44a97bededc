"""Reads the planted bugs: patches, each of which says what it breaks and which tests must find it.

A patch begins with comment lines: `# What it breaks.`, then `# found by tests/...::test_...` for each of its tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
_FOUND_BY = "# found by "


@dataclass(frozen=True)
class Bug:
    """One bug that a reviewer would fear."""

    patch: Path
    what: str
    tests: tuple[str, ...]
    """Node ids of pytest, from the root of the repository."""

    @property
    def name(self) -> str:
        return self.patch.stem

    @classmethod
    def read(cls, patch: Path) -> Bug:
        lines = [line for line in patch.read_text(encoding="utf-8").splitlines() if line.startswith("# ")]
        tests = tuple(line.removeprefix(_FOUND_BY) for line in lines if line.startswith(_FOUND_BY))
        return cls(patch, lines[0].removeprefix("# "), tests)


def read_bugs(folder: Path = FOLDER) -> list[Bug]:
    """The bugs of a folder, by number."""
    return [Bug.read(patch) for patch in sorted(folder.glob("*.patch"))]


def table() -> str:
    """The table of the page: each bug, and the test that finds it."""
    rows = "\n".join(f"| {bug.what} | {', '.join(map(_short, bug.tests))} |" for bug in read_bugs())
    return f"\n| planted | found by |\n|---|---|\n{rows}\n\n"


def _short(test: str) -> str:
    """The name of a test, which tells where it is by itself."""
    return f"`{test.partition('::')[2]}`"
