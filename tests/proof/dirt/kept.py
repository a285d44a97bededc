"""Keeps what `make compare-dirt` found, the outcome of each case by each way, and writes what the docs say of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tests.proof.dirt.cases import contestable, dirty_cases
from tests.proof.dirt.judge import Outcome
from tests.proof.dirt.ways import WAYS, Kind
from tests.support import proof
from tests.support.paths import DATA

FILE = DATA / "dirt.json"
_NAMES = tuple(way.name for way in WAYS)
_LETTERS = {outcome.value[0]: outcome for outcome in Outcome}


def keep(tried: Mapping[str, Mapping[str, Outcome]], *, versions: Mapping[str, str]) -> None:
    """`tried`: by way, the outcomes of cases. Writes them, and what they count for the table of the docs.

    Where only some ways or cases were tried, the others stay as they were kept.
    """
    facts, before = read()
    there = {case.folder.name for case in dirty_cases()}
    table = {
        case: dict(zip(facts["ways"], outcomes, strict=True)) for case, outcomes in before.items() if case in there
    }
    for way, outcomes in tried.items():
        for case, outcome in outcomes.items():
            table.setdefault(case, {})[way] = outcome
    if untried := [case for case, outcomes in table.items() if not outcomes.keys() >= set(_NAMES)]:
        raise SystemExit(f"error: {untried[0]} was not tried in every way. Run it without WAYS.")
    _write({case: [table[case][way] for way in _NAMES] for case in sorted(table)}, versions=versions)


def _write(table: Mapping[str, Sequence[Outcome]], *, versions: Mapping[str, str]) -> None:
    facts = {
        "day": f"{datetime.now(UTC):%Y-%m-%d}",
        "versions": dict(versions),
        "letters": {letter: outcome.value for letter, outcome in _LETTERS.items()},
        "ways": list(_NAMES),
        "cases": {case: "".join(outcome.value[0] for outcome in outcomes) for case, outcomes in table.items()},
    }
    FILE.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    proof.keep("dirt", "make compare-dirt KEEP=1", rows(table), columns=("way", *Outcome))


def read() -> tuple[dict[str, Any], dict[str, list[Outcome]]]:
    """The facts, and the outcomes by case."""
    facts: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return facts, {case: [_LETTERS[letter] for letter in letters] for case, letters in facts["cases"].items()}


def rows(table: Mapping[str, Sequence[Outcome]]) -> dict[str, list[str]]:
    """The table of the docs: for each way and outcome, how many of all cases, and how many that are not contestable."""
    return {
        way: [f"{of_all[outcome]} ({sure[outcome]})" for outcome in Outcome]
        for way, (of_all, sure) in counts(table).items()
    }


def counts(table: Mapping[str, Sequence[Outcome]]) -> dict[str, tuple[Counter[Outcome], Counter[Outcome]]]:
    """By way: how many cases had each outcome, of all cases and without the contestable ones."""
    sure = [outcomes for case, outcomes in table.items() if case not in contestable()]
    return {
        way.name: (Counter(one[number] for one in table.values()), Counter(one[number] for one in sure))
        for number, way in enumerate(WAYS)
    }


def sentence() -> str:
    """What the README says."""
    _, table = read()
    counted = counts(table)

    def silent(kind: Kind) -> tuple[str, str]:
        """The least and the most of the ways: of all cases, and of those that are not contestable."""
        of_kind = [counted[way.name] for way in WAYS if way.kind is kind]
        of_all, sure = (sorted(counts[Outcome.SILENT] for counts in column) for column in zip(*of_kind, strict=True))
        return f"{of_all[0]} to {of_all[-1]}", f"{sure[0]} to {sure[-1]}"

    (usual, usual_sure), (careful, careful_sure) = silent(Kind.USUAL), silent(Kind.CAREFUL)
    ours = counted[WAYS[-1].name][0][Outcome.SILENT]
    return (
        f"Of {len(table)} batches with a dirty file in them, psql, pandas, polars, duckdb, dlt and sling load {usual} "
        f"silently wrong as they are usually configured ({usual_sure} of the {_sure(table)} that are not contestable), "
        f"{careful} ({careful_sure}) where written with care, and this project {ours or 'none'}: "
        "[docs/comparison.md](docs/comparison.md)."
    )


def heading() -> str:
    """The generated line above the table: how many cases, which versions."""
    facts, table = read()
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return f"\n{len(table)} cases; in brackets, the {_sure(table)} that are not contestable. {versions}.\n\n"


def contestable_table() -> str:
    rows = "\n".join(f"| `{case}` | {reason} |" for case, reason in contestable().items())
    return f"\n| case | what else may be right |\n|---|---|\n{rows}\n\n"


def _sure(table: Mapping[str, Sequence[Outcome]]) -> int:
    return sum(case not in contestable() for case in table)
