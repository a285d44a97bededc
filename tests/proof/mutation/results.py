"""Reads what was found out about each mutant, as long as the code around it is the same.

A result is a line of JSON with the mutant's `name`, whether it was found (`killed`), and as `within` a hash of the
function that it is in. It counts until that function changes. Tests that have changed since are not noticed: only a run
from nothing asks them all again.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def read_results(file: Path, *, within: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The last result of each mutant; `within`: of each mutant by its name, the hash of its function as it is now."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else ()
    return {
        one["name"]: one for one in map(json.loads, lines) if within.get(one["name"], "") == one.get("within", None)
    }


def hash_of_function(source: str, function: str) -> str:
    """The hash of a function's text, by its `__qualname__`; where that is empty, of what runs at import.

    A function inside of another one counts as a part of that.
    """
    lines = source.splitlines()
    spans = {name: (_first_line(node), node.end_lineno or 0) for name, node in _functions(ast.parse(source))}
    if function:
        first, last = spans[function.partition(".<locals>")[0]]
        text = lines[first - 1 : last]
    else:
        bodies = {line for node in ast.walk(ast.parse(source)) if isinstance(node, _Function) for line in _body(node)}
        text = [line for number, line in enumerate(lines, 1) if number not in bodies]
    return hashlib.sha256("\n".join(text).encode()).hexdigest()[:16]


def _functions(tree: ast.Module | ast.ClassDef, outer: str = "") -> list[tuple[str, _Function]]:
    """The functions and methods of a module with their names, but for those inside of another."""
    found: list[tuple[str, _Function]] = []
    for node in tree.body:
        if isinstance(node, _Function):
            found.append((f"{outer}{node.name}", node))
        elif isinstance(node, ast.ClassDef):
            found += _functions(node, f"{outer}{node.name}.")
    return found


def _first_line(node: _Function) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _body(node: _Function) -> range:
    """The lines of a function that do not run at import."""
    return range(node.body[0].lineno, (node.end_lineno or 0) + 1)
