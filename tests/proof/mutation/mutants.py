# ruff: noqa: ANN401 - parso ships no types that mypy takes
"""Prints the mutants of modules: small changes of their code, each a line of JSON with the whole changed module.

Run by the Python of .venv-mutation: PYTHON mutants.py FILE... The operators are cosmic-ray's and a few of our own. Left
out is what no behaviour depends on: type annotations, log lines, texts, arguments of decorators.
"""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator, operator_names
from parso.python.tree import Keyword, Name

# Of cosmic-ray's operators those that are not implied by another: a comparison has seven replacements there.
_COMPARISONS = [
    "Eq_NotEq", "NotEq_Eq", "Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE",
    "GtE_Gt", "GtE_Lt", "Is_IsNot", "IsNot_Is",
]  # fmt: skip
_ARITHMETIC = ["Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "Mod_Mul", "FloorDiv_Div"]
_OTHERS = [
    "AddNot",
    "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue",
    "ReplaceAndWithOr",
    "ReplaceOrWithAnd",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "ExceptionReplacer",
    "NumberReplacer",
    "RemoveDecorator",
    "ZeroIterationForLoop",
    "ReplaceUnaryOperator_Delete_Not",
    "ReplaceUnaryOperator_USub_UAdd",
]
_CHOSEN = {
    *(f"core/ReplaceComparisonOperator_{pair}" for pair in _COMPARISONS),
    *(f"core/ReplaceBinaryOperator_{pair}" for pair in _ARITHMETIC),
    *(f"core/{name}" for name in _OTHERS),
}


class _Own(Operator):  # type: ignore[misc]  # cosmic-ray ships no types
    """An operator that changes a node in as many ways as `ways` yields."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        for part in self.ways(node):
            yield part.start_pos, part.end_pos

    def ways(self, node: Any) -> list[Any]:
        raise NotImplementedError

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


class RemoveStatement(_Own):
    """A call whose answer nobody takes, or a change of an attribute, an item or a counter, becomes `pass`."""

    def ways(self, node: Any) -> list[Any]:
        if node.type != "simple_stmt":
            return []
        first = node.children[0]
        changes = first.type == "expr_stmt" and (
            first.children[0].type == "atom_expr" or first.children[1].type == "augassign" or _is_augmented(first)
        )
        return (
            [first]
            if first.type == "atom_expr" or (changes and _function(node).rpartition(".")[2] != "__init__")
            else []
        )

    def mutate(self, node: Any, index: int) -> Any:
        first = node.children[0]
        node.children[0] = Keyword("pass", first.start_pos, prefix=first.get_first_leaf().prefix)
        return node


class ReturnNone(_Own):
    """A function returns nothing."""

    def ways(self, node: Any) -> list[Any]:
        returns = node.type == "return_stmt" and len(node.children) > 1
        return [node.children[1]] if returns and node.children[1].get_code().strip() != "None" else []

    def mutate(self, node: Any, index: int) -> Any:
        node.children[1] = Name("None", node.children[1].start_pos, prefix=" ")
        return node


class DropArgument(_Own):
    """A call is made without one of its named arguments."""

    def ways(self, node: Any) -> list[Any]:
        if node.type not in ("arglist", "trailer"):
            return []
        return [one for one in node.children if one.type == "argument" and one.children[1] == "="]

    def mutate(self, node: Any, index: int) -> Any:
        return _without(node, self.ways(node)[index])


class DropEntry(_Own):
    """A dictionary is made without one of its entries."""

    def ways(self, node: Any) -> list[Any]:
        if node.type != "dictorsetmaker" or ":" not in node.children:
            return []
        return [one for one, colon in zip(node.children, node.children[1:], strict=False) if colon == ":"]

    def mutate(self, node: Any, index: int) -> Any:
        key = self.ways(node)[index]
        at = node.children.index(key)
        del node.children[at + 1 : at + 3]
        return _without(node, key)


class AddNotToFilter(_Own):
    """A comprehension takes what it left out."""

    def ways(self, node: Any) -> list[Any]:
        return [node.children[1]] if node.type == "comp_if" else []

    def mutate(self, node: Any, index: int) -> Any:
        condition = node.children[1]
        text = condition.get_code()
        node.children[1] = Name(f" not ({text.strip()})", condition.start_pos)
        return node


class NegateIn(_Own):
    """`in` becomes `not in`, and the other way."""

    def ways(self, node: Any) -> list[Any]:
        if node.type != "comparison":
            return []
        return [one for one in node.children[1::2] if one.get_code().split() in (["in"], ["not", "in"])]

    def mutate(self, node: Any, index: int) -> Any:
        operator = self.ways(node)[index]
        text = " in" if len(operator.get_code().split()) > 1 else " not in"
        node.children[node.children.index(operator)] = Name(text, operator.start_pos)
        return node


_OWN: tuple[_Own, ...] = (RemoveStatement(), ReturnNone(), DropArgument(), DropEntry(), AddNotToFilter(), NegateIn())


def mutants(source: str) -> Iterator[dict[str, object]]:
    """Each mutant of a module. `function` is its qualified name, empty where the module's own code is changed."""
    tree = get_ast(source)
    operators = [(name.partition("/")[2], get_operator(name)()) for name in operator_names() if name in _CHOSEN]
    seen = {source}
    for name, operator in [*operators, *((type(one).__name__, one) for one in _OWN)]:
        places = [node for node in ast_nodes(tree) for _ in operator.mutation_positions(node)]
        for number, node in enumerate(places):
            if _is_left_out(node, operator=name):
                continue
            changed = mutate_code(source, operator, number)
            if changed is None or changed in seen or not _compiles(changed):
                continue
            seen.add(changed)
            line, old, new = _difference(source, changed)
            yield {
                "operator": name,
                "function": _function(node),
                "line": line,
                "old": old,
                "new": new,
                "source": changed,
            }


def _is_left_out(node: Any, *, operator: str) -> bool:
    if node.type == "operator" and node.parent.type in ("parameters", "typedargslist"):
        return True  # the * between arguments
    child = node
    while (parent := child.parent) is not None:
        match parent.type:
            case "annassign" if child is parent.children[1]:
                return True
            case "tfpdef" if child is not parent.children[0]:
                return True
            case "funcdef" if child.get_previous_leaf() == "->":
                return True
            case "fstring" | "import_from" | "import_name":
                return True
            case "decorator" if operator != "RemoveDecorator":
                return True
            case "if_stmt" if parent.children[1].get_code().strip() == "TYPE_CHECKING":
                return True
            case "simple_stmt" if parent.get_first_leaf().value == "log":
                return True
        child = parent
    return node.type == "simple_stmt" and node.get_first_leaf().value == "log"


def _function(node: Any) -> str:
    """The function that a node is in, as Python's `__qualname__`; empty where it runs at import."""
    names: list[str] = []
    child = node
    in_function = False
    while (parent := child.parent) is not None:
        if parent.type == "funcdef" and (in_function or child is parent.children[-1]):
            names = [parent.name.value, *(["<locals>", *names] if names else [])]
            in_function = True
        elif parent.type == "classdef" and in_function:
            names = [parent.name.value, *names]
        child = parent
    return ".".join(names)


def _is_augmented(statement: Any) -> bool:
    """Is it `name += value`, or the like?"""
    return statement.children[1].get_code().strip() in ("+=", "-=", "|=")


def _without(node: Any, part: Any) -> Any:
    """The node without this child, and without the comma behind it, or, of the last one, before it."""
    at = node.children.index(part)
    if at + 1 < len(node.children) and node.children[at + 1] == ",":
        del node.children[at : at + 2]
    elif at and node.children[at - 1] == ",":
        del node.children[at - 1 : at + 1]
    else:
        del node.children[at]
    return node


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def _difference(source: str, changed: str) -> tuple[int, str, str]:
    """The number of the first line that differs, and the lines that differ, before and after, without indentation."""
    before, after = source.splitlines(), changed.splitlines()
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    [*spans] = [(a, b, c, d) for tag, a, b, c, d in matcher.get_opcodes() if tag != "equal"]
    first, last = spans[0][0], spans[-1][1]
    old = " ".join(" ".join(before[first:last]).split())
    new = " ".join(" ".join(after[spans[0][2] : spans[-1][3]]).split())
    return first + 1, old, new


if __name__ == "__main__":
    for file in sys.argv[1:]:
        for mutant in mutants(Path(file).read_text(encoding="utf-8")):
            print(json.dumps({"module": file, **mutant}))
