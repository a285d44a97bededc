# ruff: noqa: ANN401 - YAML is of any shape
"""Resolves a CloudFormation template with parameters to the resources that it would create."""

from __future__ import annotations

import re
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """Reads CloudFormation's short forms as what they mean."""


def _short_form(loader: _Loader, tag: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)  # type: ignore[arg-type]
    return {tag if tag in {"Ref", "Condition"} else f"Fn::{tag}": value}


_Loader.add_multi_constructor("!", _short_form)


def read(text: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.load(text, _Loader)
    return loaded


def resolved(platform: dict[str, Any], *, parameters: dict[str, str]) -> dict[str, Any]:
    """The resources whose condition holds, with parameters filled in; references to other resources stay."""
    values = {name: facts.get("Default", "") for name, facts in platform["Parameters"].items()}
    values |= parameters | {"AWS::Partition": "aws", "AWS::Region": "eu-west-1", "AWS::AccountId": "1"}

    def holds(condition: Any) -> bool:
        if isinstance(condition, str):
            return holds(platform["Conditions"][condition])
        if "Condition" in condition:
            return holds(condition["Condition"])
        if "Fn::Not" in condition:
            return not holds(condition["Fn::Not"][0])
        left, right = (walk(one) for one in condition["Fn::Equals"])
        return bool(left == right)

    def fill(text: str, more: dict[str, Any]) -> str:
        return re.sub(r"\$\{([\w:.]+)\}", lambda found: str((values | more).get(found[1], found[0])), text)

    def walk(node: Any) -> Any:
        match node:
            case {"Ref": "AWS::NoValue"}:
                return None
            case {"Ref": name}:
                return values.get(name, node)
            case {"Fn::If": [condition, yes, no]}:
                return walk(yes if holds(condition) else no)
            case {"Fn::Sub": str() as text}:
                return fill(text, {})
            case {"Fn::Sub": [text, more]}:
                return fill(text, {name: walk(value) for name, value in more.items()})
            case {"Fn::FindInMap": [table, row, column]}:
                return platform["Mappings"][table][row][column]
            case dict():
                return {
                    key: value for key, value in ((key, walk(one)) for key, one in node.items()) if value is not None
                }
            case list():
                return [value for value in map(walk, node) if value is not None]
        return node

    return {
        name: walk(resource)
        for name, resource in platform["Resources"].items()
        if "Condition" not in resource or holds(resource["Condition"])
    }
