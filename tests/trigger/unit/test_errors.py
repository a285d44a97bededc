"""The tree drawn at the top of trigger/errors.py is the tree of the classes."""

import ast
import re
from pathlib import Path

import trigger
from trigger import errors

ENTRY = re.compile(r"(?P<indent>[│ ]*)[├└]── (?P<name>\w+)")


def drawn() -> dict[str, str]:
    """The parent of each class in the drawing."""
    above, parents = ["TriggerError"], {}
    for line in (errors.__doc__ or "").splitlines():
        if entry := ENTRY.match(line):
            depth = len(entry["indent"]) // 4 + 1
            parents[entry["name"]] = above[depth - 1]
            above[depth:] = [entry["name"]]
    return parents


def test_drawing_shows_every_error_class_below_its_base() -> None:
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and kind is not errors.TriggerError]
    assert drawn() == {kind.__name__: kind.__base__.__name__ for kind in classes if kind.__base__}
    assert errors.TriggerError.__base__ is Exception


def test_every_exception_class_is_in_errors_and_ends_in_error() -> None:
    [package] = trigger.__path__
    for module in Path(package).glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.ClassDef) and any(
                "Exception" in ast.unparse(b) or "Error" in ast.unparse(b) for b in node.bases
            ):
                assert module.name == "errors.py", node.name
                assert node.name.endswith("Error")
