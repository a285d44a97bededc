"""Every reader of .env finds the same values in tests/data/contracts/sample.env, which has more than plain lines."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from infra_scripts.environment import read_file, write_values
from infra_scripts.instance import idle_stop
from tests.support.compose_system import docker_environment, make_env, missing_docker
from tests.support.paths import ROOT

CONTRACTS = ROOT / "tests" / "data" / "contracts"
EXPECTED: dict[str, str] = json.loads((CONTRACTS / "sample.env.json").read_text(encoding="utf-8"))
NODE = """
const parsed = require("dotenv").parse(require("fs").readFileSync(process.argv[1]));
console.log(JSON.stringify(require("dotenv-expand").expand({parsed, processEnv: {}}).parsed));
"""  # as osls does: lib/cli/load-dotenv.js


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A repository of its .env and the scripts."""
    shutil.copy(CONTRACTS / "sample.env", tmp_path / ".env")
    (tmp_path / "airflow").mkdir()
    shutil.copy(ROOT / "airflow" / "make_env.sh", tmp_path / "airflow")
    return tmp_path


def output(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True, env=docker_environment())
    assert done.returncode == 0, done.stderr
    return done.stdout


def by_compose(folder: Path) -> dict[str, str]:
    if missing := missing_docker():
        pytest.skip(missing)
    lines = "".join(f"      {name}: ${{{name}-not set}}\n" for name in EXPECTED)
    (folder / "compose.yml").write_text(f"services:\n  a:\n    image: a\n    environment:\n{lines}")
    found = output("docker", "compose", "--file", "compose.yml", "config", "--format", "json", cwd=folder)
    environment: dict[str, str] = json.loads(found)["services"]["a"]["environment"]
    return environment


def by_dotenv(folder: Path) -> dict[str, str]:
    if not shutil.which("node") or not (ROOT / "node_modules" / "dotenv").exists():
        pytest.skip("node or the Serverless Framework is missing: npm ci")
    found: dict[str, str] = json.loads(output("node", "-e", NODE, folder / ".env", cwd=ROOT))
    return found


def by_infra_scripts(folder: Path) -> dict[str, str]:
    return read_file(folder / ".env")


def by_make_env(folder: Path) -> dict[str, str]:
    """up.sh and write_env.sh ask it too."""
    return {name: output("airflow/make_env.sh", "value", name, cwd=folder) for name in EXPECTED}


def by_idle_stop(folder: Path) -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return {name: idle_stop._setting(name) for name in EXPECTED}


READERS: list[Callable[[Path], dict[str, str]]] = [by_compose, by_dotenv, by_infra_scripts, by_make_env, by_idle_stop]


@pytest.mark.parametrize("reader", READERS)
def test_each_reader_finds_the_values_that_compose_finds(
    reader: Callable[[Path], dict[str, str]], folder: Path
) -> None:
    assert reader(folder) == EXPECTED


@pytest.mark.parametrize("reader", READERS)
def test_what_make_env_and_apply_write_is_read_alike(reader: Callable[[Path], dict[str, str]], folder: Path) -> None:
    make_env(folder, environment={"MBD_TOPIC_ARN": "arn with # and blanks"})
    assert read_file(folder / ".env")["MBD_TOPIC_ARN"] == "arn with # and blanks"
    write_values(folder / ".env", {"EXPORTED": "a # b", "INDENTED": "it is", "REPEATED": "3", "NEW": 'say "yes"'})
    assert read_file(folder / ".env")["NEW"] == 'say "yes"'
    found = reader(folder)
    changed = {"EXPORTED": "a # b", "INDENTED": "it is", "REPEATED": "3"}
    assert {name: found[name] for name in EXPECTED} == {**EXPECTED, **changed}
