"""The ways that are compared, in the order of the table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    USUAL = "usual"
    CAREFUL = "with care"
    OURS = "this project"


@dataclass(frozen=True)
class Compared:
    """`module` and `function`: where its code is, in `way_{module}.py`. `package`: whose version is kept."""

    tool: str
    what: str
    kind: Kind
    module: str
    function: str
    package: str = ""

    @property
    def name(self) -> str:
        return f"{self.tool}, {self.what}" if self.what else self.tool


WAYS = (
    Compared("psql `\\copy`", "text columns", Kind.USUAL, "psql", "text"),
    Compared("psql `\\copy`", "typed columns", Kind.USUAL, "psql", "typed"),
    Compared("psql `\\copy`", "staging table and checks", Kind.CAREFUL, "psql", "careful"),
    Compared("pandas `to_sql`", "usual", Kind.USUAL, "pandas", "usual", "pandas"),
    Compared("pandas `to_sql`", "with care", Kind.CAREFUL, "pandas", "careful", "pandas"),
    Compared("polars", "usual", Kind.USUAL, "polars", "usual", "polars"),
    Compared("polars", "with care", Kind.CAREFUL, "polars", "careful", "polars"),
    Compared("duckdb", "usual", Kind.USUAL, "duckdb", "usual", "duckdb"),
    Compared("duckdb", "with care", Kind.CAREFUL, "duckdb", "careful", "duckdb"),
    Compared("dlt", "usual", Kind.USUAL, "dlt", "usual", "dlt"),
    Compared("dlt", "with a data contract", Kind.CAREFUL, "dlt", "careful", "dlt"),
    Compared("sling", "usual", Kind.USUAL, "sling", "usual", "sling_linux_amd64"),
    Compared("sling", "a table with constraints", Kind.CAREFUL, "sling", "careful", "sling_linux_amd64"),
    Compared("this project", "", Kind.OURS, "etl", "usual"),
)
