"""One name for one thing: each help, next step and page has the same commands, in the same order."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from infra_scripts.cli import _parser
from tests.support.docs import PAGES
from tests.support.paths import ROOT

WALK = (
    "init", "plan", "apply", "upload", "init-db", "make deploy", "trigger", "status", "make undeploy", "teardown",
)  # fmt: skip
NEXT = {  # what each command names as the next step, as its file has it
    "init": ["plan"],
    "apply": ["upload"],
    "upload": ["init-db", "make deploy", "trigger"],
    "init_db": ["make deploy", "trigger"],
    "trigger": ["status"],
}
_STEP = re.compile(r"(?<![\w-])(?:python -m infra_scripts |`)?(make (?:un)?deploy|init-db|" + "|".join(
    name for name in WALK if " " not in name and name != "init-db") + r")(?![\w-])")  # fmt: skip


def steps_in(text: str) -> list[str]:
    """The steps that a text names, each where it first occurs."""
    return list(dict.fromkeys(found[1] for found in _STEP.finditer(text)))


def in_the_walks_order(steps: list[str]) -> bool:
    return [WALK.index(step) for step in steps] == sorted(WALK.index(step) for step in steps)


def section(page: Path, heading: str) -> str:
    text = page.read_text(encoding="utf-8")
    return re.split(r"^#", text.partition(f"{heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def test_help_has_the_whole_walk() -> None:
    assert steps_in(_parser().epilog or "") == list(WALK)


def test_readme_has_the_walk_in_its_order() -> None:
    block = section(ROOT / "README.md", "## On AWS").split("```")[1]
    commands = "\n".join(line.partition("#")[0] for line in block.splitlines())
    assert steps_in(commands) == [step for step in WALK if step != "status"]


def test_page_about_aws_numbers_the_walk_in_its_order() -> None:
    numbered = re.findall(
        r"^\d+\. `([^`]+)`", section(ROOT / "docs" / "aws.md", "## From zero to the first mail"), re.M
    )
    steps = [step for words in numbered for step in steps_in(words)]
    assert steps == [step for step in WALK[:7] if step != "status"]


def test_rehearsal_goes_the_whole_walk_in_its_order() -> None:
    code = (ROOT / "tests" / "system" / "demo_platform.py").read_text(encoding="utf-8")
    body = code.partition("def rehearse")[2].partition("\ndef ")[0]
    called = re.findall(r"student\.(?:types\(\s*f?\"([\w-]+)|(deploys|undeploys)\()", body)
    assert [typed or f"make {played.removesuffix('s')}" for typed, played in called] == list(WALK)


@pytest.mark.parametrize("command", NEXT)
def test_a_next_step_is_one_that_follows_in_the_walk(command: str) -> None:
    text = (ROOT / "infra_scripts" / "commands" / f"{command}.py").read_text(encoding="utf-8")
    named = re.findall(r'Next: ([^"]*)"', text)
    assert named, "the command ends with a next step"
    here = WALK.index(command.replace("_", "-"))
    steps = [steps_in(one) for one in named]
    assert NEXT[command] in steps
    for one in steps:
        assert in_the_walks_order(one)
        assert all(WALK.index(step) >= here for step in one), one


def test_nobody_is_sent_to_serverless_where_make_has_a_word() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "infra_scripts", "etl", "airflow", "trigger", "serverless.yml", "README.md"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    files = [*(ROOT / name for name in listed.stdout.split()), *PAGES]
    found = [
        f"{file.relative_to(ROOT)}: {match[0]}"
        for file in files
        if file.suffix in (".py", ".js", ".yml", ".sh", ".md")
        for match in re.finditer(r"serverless (?:deploy|remove)\b", file.read_text(encoding="utf-8"))
        if file.name != "trigger.md"  # which says what make calls
    ]
    assert found == []
