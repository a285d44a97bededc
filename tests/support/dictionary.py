"""Reads the comments of the schema, and makes the dictionary page and dbt's sources of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from etl.table.database import sql
from tests.support.paths import ROOT

DBT_SOURCES = ROOT / "docs" / "dbt" / "models" / "sources.yml"
_FILES = ("schema", "journal_schema", "lists_schema", "readers_schema")
_SHARED = "stock_prices"  # whose comments its columns have in other views too
_COMMENT = re.compile(
    r"^COMMENT ON (VIEW|TABLE|COLUMN|FUNCTION) ([\w.]+(?:\([^)]*\))?) IS '((?:[^']|'')*)';", re.MULTILINE
)
_TESTS: dict[str, list[Any]] = {  # what dbt is to try, by column
    "stock_data_status.company_name": ["not_null", "unique"],
    "stock_latest_prices.company_name": ["not_null", "unique"],
    "stock_latest_prices.close_value": ["not_null"],
    "stock_batch_status.state": ["not_null"],
}


@dataclass(frozen=True)
class Relation:
    """A view or function that readers may use: what it is, and what each column means."""

    name: str
    description: str
    columns: dict[str, str] = field(default_factory=dict)


def read_dictionary() -> list[Relation]:
    """What the role stock_prices_reader may read, in the order of the schema's grants, and the function as-of last."""
    text = "\n".join(sql(name) for name in _FILES)
    comments = {(kind, name): says.replace("''", "'") for kind, name, says in _COMMENT.findall(text)}
    granted = re.findall(r"GRANT SELECT ON ([\w\s,]+?)\s+TO stock_prices_reader", text)
    names = [name for some in granted for name in re.split(r",\s*", some)]
    [copies] = re.findall(r"ARRAY\[([^\]]+)\] LOOP", text)
    with_shared = re.findall(r"'(\w+)'", copies)
    shared = _columns_of(_SHARED, comments)
    found = [
        Relation(
            name,
            comments["VIEW", name],
            (shared if name in with_shared else {}) | _columns_of(name, comments),
        )
        for name in names
    ]
    return found + [Relation(name, says) for (kind, name), says in comments.items() if kind == "FUNCTION"]


def page() -> str:
    """The generated part of docs/dictionary.md."""
    relations = read_dictionary()
    shared = next(one.columns for one in relations if one.name == _SHARED)
    parts = []
    for one in relations:
        parts.append(f"\n### {one.name.partition('(')[0]}\n\n{_sentence(one.description)}\n")
        own = {
            name: says
            for name, says in one.columns.items()
            if one.name == _SHARED or name not in shared or shared[name] != says
        }
        if len(own) < len(one.columns):
            parts.append(f"\nIts columns are those of `{_SHARED}`{', and:' if own else '.'}\n")
        if own:
            rows = "\n".join(f"| `{name}` | {says} |" for name, says in own.items())
            parts.append(f"\n| column | what it is |\n| --- | --- |\n{rows}\n")
    return "".join(parts) + "\n"


def dbt_sources() -> str:
    """docs/dbt/models/sources.yml."""
    [days] = re.findall(r"interval '(\d+) days' AS late_after", sql("readers_schema"))
    tables = []
    for one in read_dictionary():
        if "(" in one.name:
            continue
        table: dict[str, Any] = {"name": one.name, "description": one.description}
        if one.name == "stock_batch_status":
            table["config"] = {
                "loaded_at_field": "loaded_at",
                "freshness": {"warn_after": {"count": int(days), "period": "day"}},
            }
        table["columns"] = [
            {"name": name, "description": says}
            | ({"data_tests": tests} if (tests := _TESTS.get(f"{one.name}.{name}")) else {})
            for name, says in one.columns.items()
        ]
        tables.append(table)
    source = {
        "name": "moving_big_data",
        "description": "Daily share prices of the companies of the index; docs/reading.md explains them.",
        "schema": "public",
        "tables": tables,
    }
    head = "# Generated from the comments of etl/table/sql: run python -m tests.support.docs --write\n"
    return head + yaml.safe_dump({"version": 2, "sources": [source]}, sort_keys=False, width=110, allow_unicode=True)


def _columns_of(name: str, comments: dict[tuple[str, str], str]) -> dict[str, str]:
    prefix = f"{name}."
    return {
        of.removeprefix(prefix): says
        for (kind, of), says in comments.items()
        if kind == "COLUMN" and of.startswith(prefix)
    }


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
