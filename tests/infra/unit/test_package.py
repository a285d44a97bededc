"""The shape of the package: who imports whom, and the drawn tree of errors."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from infra_scripts import errors
from tests.support.paths import ROOT

PACKAGE = ROOT / "infra_scripts"
LAYERS = ("commands", "checks", "platform")  # each may import what comes after it; the modules at the top come last


def imported(file: Path) -> Iterator[str]:
    """The modules of the package that a file imports, without the package's name."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("infra_scripts"):
            inside = (node.module or "").removeprefix("infra_scripts").removeprefix(".")
            yield from (f"{inside}.{alias.name}".removeprefix(".") for alias in node.names)


def layer(module: str) -> int:
    room = module.partition(".")[0]
    return LAYERS.index(room) if room in LAYERS else len(LAYERS)


def test_modules_import_only_from_layers_that_come_after_theirs() -> None:
    wrong = []
    for file in PACKAGE.rglob("*.py"):
        module = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
        for other in imported(file):
            is_back = layer(other) < layer(module) and module != "cli"
            is_sideways = module.startswith("commands.") and other.startswith("commands.")
            if is_back or is_sideways or module.startswith("instance.") or other.startswith("instance."):
                wrong.append(f"{module} imports {other}")
    assert not wrong


def test_the_drawn_tree_of_errors_is_that_of_the_classes() -> None:
    def draw(kind: type[Exception], *, depth: int) -> Iterator[tuple[int, str, int]]:
        yield depth, kind.__name__, getattr(kind, "exit_code", 0)
        for child in kind.__subclasses__():
            yield from draw(child, depth=depth + 1)

    drawn = []
    code = errors.InfraError.exit_code
    for line in (errors.__doc__ or "").splitlines():
        name = next((word for word in line.split() if word.endswith("Error")), "")
        if (name and line.endswith(name)) or "── " in line:
            rest = line.split(name, 1)[1].strip()
            code = int(rest.partition(":")[0]) if rest[:1].isdigit() else code
            drawn.append((line.index(name) // 4, name, code))
    assert drawn == list(draw(errors.InfraError, depth=0))
    assert all(name.endswith("Error") for _, name, _ in drawn)
