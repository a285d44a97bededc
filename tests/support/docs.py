"""Writes the generated parts of the docs, or reports which are out of date, and the words that we do not use.

python -m tests.support.docs --check | --write

A generated part is between `<!-- generated: NAME -->` and `<!-- end -->` on a page of docs/.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import re
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any

import infra_scripts.cli
from etl.files.rules import FlagRule, QuarantineReason, RowRule
from etl.options import build_parser
from etl.outcome.delivery import ChannelState
from etl.outcome.receipt import MailState, State
from etl.table.restatements import Kind
from tests.benchmarks import report
from tests.proof.dirt import kept as dirt
from tests.proof.mutation import survivors
from tests.proof.planted_bugs import bugs
from tests.support import dictionary, figures, proof
from tests.support.paths import ROOT

PAGES = sorted((ROOT / "docs").glob("*.md"))
_WITH_GENERATED_PARTS = [ROOT / "README.md", *PAGES]
TEXTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", ".env.example")),
    *PAGES,
]
WORDS = ROOT / "tests" / "support" / "words.txt"
PROMISES = ROOT / "tests" / "data" / "guarantees.toml"
LONGEST_LINE, LONGEST_README = 300, 150  # characters, lines

NOT_IN_ENV_FILE = {  # what product code calls so, but nobody writes into .env
    "AIRFLOW_PASSWORD_PARAMETER", "AIRFLOW_USERNAME",  # of the Lambda functions: serverless.yml sets them
    "MBD_CONF", "MBD_IDLE_MINUTES", "MBD_PARAMETERS", "MBD_SWAP_MIB",  # of the instance: docs/aws.md
    "MBD_VERSION", "AIRFLOW_IMAGE",  # of the image: up.sh and the instance set them
    "MBD_LOADER_PASSWORD",  # of init-db --loader: the platform's init-db sets it
    "MBD_READER_PASSWORD",  # of grant-reader: docs/reading.md
    "MBD_NATIVE",  # off: a doubt about the native checker, docs/command-line.md
    "MBD_SOURCE", "AIRFLOW_FOLDER",  # names in code, no variables
    "MBD_MOUNT_POINT", "MBD_PYTHON",  # of mount_source.sh: its --help
}  # fmt: skip
_READERS = {  # who reads a setting, by the files that name it
    "pipeline": ("etl", "airflow/dags"),
    "Airflow stack": ("airflow/*.yml", "airflow/*.sh", "airflow/image", "airflow/Dockerfile"),
    "trigger": ("trigger", "serverless.yml"),
    "platform": ("infra_scripts",),
}
_ENUMERATIONS: dict[str, type[StrEnum]] = {
    "quarantine reasons": QuarantineReason,
    "row rules": RowRule,
    "flag rules": FlagRule,
    "states of a receipt": State,
    "states of a mail": MailState,
    "states of a channel": ChannelState,
    "kinds of a restatement": Kind,
}
_BLOCK = re.compile(r"(<!-- generated: (.+?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def blocks() -> dict[str, Callable[[], str]]:
    """Each generated part by its name, and what makes it."""
    made: dict[str, Callable[[], str]] = {
        "commands of mbd": lambda: _commands(build_parser()),
        "options of mbd": lambda: _options(build_parser()),
        "commands of infra_scripts": lambda: _commands(infra_scripts.cli._parser()),
        "options of infra_scripts": lambda: _options(infra_scripts.cli._parser()),
        "number of promises": _number_of_promises,
        "proofs": proof.summary,
        "proofs in a sentence": proof.sentence,
        "all pairs of faults": proof.all_pairs,
        "dictionary": dictionary.page,
        "figures": lambda: figures.block(json.loads(figures.FILE.read_text(encoding="utf-8"))),
        "dirt: heading": dirt.heading,
        "dirt: contestable cases": dirt.contestable_table,
        "planted bugs": bugs.table,
        "changes that no test notices": survivors.block,
        **report.blocks(),
    }
    for file in proof.FOLDER.glob("*.json"):
        made[f"proof: {file.stem}"] = lambda name=file.stem: proof.block(name)  # type: ignore[misc]
    for section in env_sections():
        made[f"settings: {section}"] = lambda section=section: _settings(section)  # type: ignore[misc]
    for section in dict.fromkeys(promise["section"] for promise in read_promises()):
        made[f"promises: {section}"] = lambda section=section: _promises(section)  # type: ignore[misc]
    for name, kind in _ENUMERATIONS.items():
        made[name] = lambda kind=kind: enumeration(kind)  # type: ignore[misc]
    return made


def renew(page: str, made: dict[str, Callable[[], str]]) -> str:
    """The page with each generated part as it should be now."""
    return _BLOCK.sub(lambda found: found[1] + (made[found[2]]() if found[2] in made else found[3]) + found[4], page)


def block_names() -> list[str]:
    """The names of all generated parts, as the pages name them."""
    return [found[2] for page in _WITH_GENERATED_PARTS for found in _BLOCK.finditer(page.read_text(encoding="utf-8"))]


def stale_pages() -> list[Path]:
    """The pages with a generated part that is out of date, and dbt's sources when they are."""
    made = blocks()
    stale = [page for page in _WITH_GENERATED_PARTS if (text := page.read_text(encoding="utf-8")) != renew(text, made)]
    sources = dictionary.DBT_SOURCES
    return stale + [sources] * (sources.read_text(encoding="utf-8") != dictionary.dbt_sources())


def long_lines() -> list[str]:
    """One line for each line of a text that is too long to read, and for a README that has become a manual."""
    texts = {file: file.read_text(encoding="utf-8").splitlines() for file in TEXTS}
    readme = texts[ROOT / "README.md"]
    return [
        f"{file.relative_to(ROOT)}:{number}: longer than {LONGEST_LINE} characters"
        for file, lines in texts.items()
        for number, line in enumerate(lines, start=1)
        if len(line) > LONGEST_LINE
    ] + [f"README.md: {len(readme)} lines; what is over {LONGEST_README} belongs into docs/"] * (
        len(readme) > LONGEST_README
    )


def words_we_do_not_use() -> dict[str, str]:
    """Each word or phrase of words.txt, and what we write instead."""
    lines = [line for line in WORDS.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    pairs = [line.partition(":") for line in lines]
    return {word.strip(): instead.strip() for words, _, instead in pairs for word in words.split(",")}


def find_words(files: list[Path]) -> list[str]:
    """One line for each place where such a word occurs: file, line, word, and what to write instead."""
    instead = words_we_do_not_use()
    pattern = re.compile(r"\b(" + "|".join(map(re.escape, instead)) + r")\b", re.IGNORECASE)
    return [
        f"{file.relative_to(ROOT)}:{number}: {found[1]} -> {instead[found[1].lower()]}"
        for file in files
        for number, line in enumerate(_written(file).splitlines(), start=1)
        for found in pattern.finditer(line)
    ]


def _written(file: Path) -> str:
    """The file's text without what code says by itself: the help of commands and options is found in the code."""
    text, of_code = file.read_text(encoding="utf-8"), r"(?s)<!-- generated: (?:commands|options) of .*?<!-- end -->"
    return re.sub(of_code, lambda found: "\n" * found[0].count("\n"), text)


def product_files() -> list[Path]:
    return _tracked("etl", "trigger", "airflow", "infra_scripts", "serverless.yml", "Makefile")


def env_sections() -> dict[str, list[tuple[list[str], str, str]]]:
    """The settings of .env.example by section: names, their value (default or example) and purpose, in its order."""
    sections: dict[str, list[tuple[list[str], str, str]]] = {}
    purpose: list[str] = []
    setting = re.compile(r"(#?)([A-Z][A-Z0-9_]+)=(.*)")
    was_setting = False
    for line in (ROOT / ".env.example").read_text(encoding="utf-8").splitlines():
        if line.startswith("# --- "):
            rows = sections.setdefault(line.removeprefix("# --- "), [])
        elif not line or not sections:
            purpose = []
        elif found := setting.fullmatch(line):
            optional, name, value = found.groups()
            shown = f"`{value}`" if value and optional else "" if optional else "must be set"
            if was_setting:
                names, values, _ = rows[-1]
                values = shown if shown == values else ", ".join(filter(None, (values, shown)))
                rows[-1] = ([*names, name], values, rows[-1][2])
            else:
                rows.append(([name], shown, " ".join(purpose)))
            purpose = []
        else:
            purpose.append(line.removeprefix("# "))
        was_setting = bool(setting.fullmatch(line))
    return sections


def variables_of_product_code() -> dict[str, set[str]]:
    """Each MBD_ and AIRFLOW_ variable that product code names, with who reads it. Airflow's own (AIRFLOW__) are not."""
    found: dict[str, set[str]] = {}
    for reader, places in _READERS.items():
        for file in _tracked(*places):
            for name in _variables(_without_comments(file.read_text(encoding="utf-8"))):
                found.setdefault(name, set()).add(reader)
    return found


def variables_of_tests() -> set[str]:
    """The MBD_ variables that only the tests and what starts them know, and what `.ci/run` takes under other names."""
    files = [file for file in _tracked("tests/*.py", ".ci/run", "Makefile") if file != Path(__file__)]
    named = {name for file in files for name in _variables(file.read_text(encoding="utf-8"))}
    of_ci = set(re.findall(r"\$\{([A-Z_]+):[-+]", (ROOT / ".ci" / "run").read_text(encoding="utf-8")))
    ours = {name for name in named if name.startswith("MBD_")} | of_ci - {"STANDIN", "TMPDIR"}
    return ours - set(variables_of_product_code())


def read_promises() -> list[dict[str, Any]]:
    promises: list[dict[str, Any]] = tomllib.loads(PROMISES.read_text(encoding="utf-8"))["promise"]
    return promises


def _variables(text: str) -> list[str]:
    return re.findall(
        r"\b(?:(?:MBD|AIRFLOW)_[A-Z0-9][A-Z0-9_]*[A-Z0-9]|AWS_REGION|COMPOSE_FILE|OPENLINEAGE_URL)\b", text
    )


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith(("#", "//", "--")))


def _tracked(*places: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *places], cwd=ROOT, capture_output=True, check=True, text=True
    )
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.suffix not in (".lock", ".zip") and path.is_file()]


def _settings(section: str) -> str:
    readers = variables_of_product_code()
    rows = []
    for names, value, purpose in env_sections()[section]:
        who = set().union(*(readers.get(name, set()) for name in names))
        quoted = ", ".join(f"`{name}`" for name in names)
        rows.append((quoted, value, purpose, ", ".join(reader for reader in _READERS if reader in who)))
    return _table(("variable", "default", "what it is", "who reads it"), rows)


def _subcommands(parser: argparse.ArgumentParser) -> argparse._SubParsersAction[Any]:
    return next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))


def _commands(parser: argparse.ArgumentParser) -> str:
    helps = _subcommands(parser)._choices_actions
    return _table(("command", "what it does"), [(f"`{one.dest}`", one.help or "") for one in helps])


def _options(parser: argparse.ArgumentParser) -> str:
    """One row an option; commands that have it with the same help share the row."""
    commands = _subcommands(parser).choices
    rows: dict[tuple[str, str], list[str]] = {}
    for command, own in commands.items():
        for action in own._actions:
            if action.help == argparse.SUPPRESS or "--help" in action.option_strings:
                continue
            value = "" if action.nargs == 0 else f" {action.metavar or action.dest.upper()}"
            spellings = [f"`{spelling}{value}`" for spelling in action.option_strings] or [f"`{value.strip()}`"]
            text = (action.help or "").replace("%%", "%") + (
                " (must be given)" if action.required and action.option_strings else ""
            )
            rows.setdefault((", ".join(spellings), text), []).append(f"`{command}`")
    return _table(
        ("option", "of the commands", "what it is"),
        [(name, "all" if len(of) == len(commands) else " ".join(of), text) for (name, text), of in rows.items()],
    )


def enumeration(kind: type[StrEnum]) -> str:
    """The members of an enumeration: value, and the string below it in the source, where members have one."""
    [tree] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    below: dict[str, str] = {}
    for one, following in pairwise(tree.body):
        match one, following:
            case ast.Assign(targets=[ast.Name(id=member)]), ast.Expr(value=ast.Constant(value=str(text))):
                below[member] = text
    values = [f"`{re.sub('{[^}]*}', '…', member.value)}`" for member in kind]
    if not below:
        return _table(("text",), [(value,) for value in values])
    rows = [(value, " ".join(below[member.name].split())) for value, member in zip(values, kind, strict=True)]
    return _table(("text", "what it means"), rows)


def _promises(section: str) -> str:
    rows = [(one["when"], one["what"]) for one in read_promises() if one["section"] == section]
    return _table(("when", "what happens"), rows)


def _number_of_promises() -> str:
    promises = read_promises()
    tests = {test for one in promises for test in one.get("tests", ())}
    cases = {case for one in promises for case in one.get("cases", ())}
    return f"\n{len(promises)} promises, proved by {len(tests)} tests and {len(cases)} cases of dirty input.\n\n"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A Markdown table; a `|` inside a cell is escaped."""
    cells = [head, tuple("---" for _ in head), *(tuple(cell.replace("|", r"\|") for cell in row) for row in rows)]
    return "\n" + "\n".join("| " + " | ".join(row) + " |" for row in cells) + "\n\n"


def _report() -> Iterator[str]:
    for page in stale_pages():
        yield f"{page.relative_to(ROOT)}: out of date. Run: python -m tests.support.docs --write"
    yield from long_lines()
    yield from find_words([*TEXTS, *product_files()])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.docs", description=__doc__)
    parser.add_argument("--write", action="store_true", help="renew the generated parts")
    parser.add_argument("--check", action="store_true", help="report what is out of date, and words that we do not use")
    options = parser.parse_args()
    if options.write:
        made = blocks()
        for page in _WITH_GENERATED_PARTS:
            page.write_text(renew(page.read_text(encoding="utf-8"), made), encoding="utf-8")
        dictionary.DBT_SOURCES.write_text(dictionary.dbt_sources(), encoding="utf-8")
    wrong = list(_report()) if options.check else []
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
