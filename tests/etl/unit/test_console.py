"""What a command prints reaches whoever reads it, whatever that is, and never decides how the command ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.company_files import FIRST, LAST, company_file
from tests.support.paths import ROOT

NAME = "öl株.csv"


@pytest.fixture
def places(tmp_path: Path) -> list[str]:
    """The options of a batch of a company whose name ASCII has not."""
    (tmp_path / "Stöcks").mkdir()
    (tmp_path / "Stöcks" / NAME).write_bytes(company_file(FIRST, LAST))
    (tmp_path / "Stöcks" / "none.csv").write_bytes(b"")
    (tmp_path / "index.txt").write_text(f"{NAME}, none.csv", encoding="utf-8")
    paths = {"source": "Stöcks", "index": "index.txt", "output": "Output"}
    return [text for option, name in paths.items() for text in (f"--{option}", str(tmp_path / name))]


def start(*arguments: str, shell: str = "", environment: dict[str, str] | None = None, **options: Any) -> Any:  # noqa: ANN401
    """`python -m etl process ...`; `shell`: what is done with its streams, as a shell writes it."""
    command = [sys.executable, "-m", "etl", "process", *arguments]
    return subprocess.run(
        ["/bin/sh", "-c", f'"$@" {shell}', "sh", *command],
        cwd=ROOT, env={**os.environ, **(environment or {})}, capture_output=True, check=False, timeout=60, **options,
    )  # fmt: skip


ASCII = {"PYTHONIOENCODING": "ascii", "LANG": "C", "LC_ALL": "C"}


@pytest.mark.parametrize("index", ["index.txt", "none.txt"])
def test_terminal_of_ascii_gets_escapes_and_the_same_exit_code(places: list[str], index: str) -> None:
    arguments = [argument.replace("index.txt", index) for argument in places]
    plain, escaped = start(*arguments), start(*arguments, environment=ASCII)
    assert escaped.returncode == plain.returncode == (0 if index == "index.txt" else 2)
    assert b"Traceback" not in escaped.stderr
    assert escaped.stdout.isascii()
    if index == "index.txt":
        assert rb"St\u00f6cks" in escaped.stdout
    else:
        assert rb"none.txt" in escaped.stderr


def test_json_on_a_terminal_of_ascii_is_json(places: list[str]) -> None:
    done = start(*places, "--json", environment=ASCII)
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert json.loads(done.stdout)["source"].endswith("Stöcks")


@pytest.mark.parametrize("json_option", [[], ["--json"]])
@pytest.mark.parametrize(
    "shell",
    ["| true", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "2>&1 | true", "2>/dev/full"],
)
def test_streams_that_nobody_reads_change_neither_exit_code_nor_outputs(
    places: list[str], tmp_path: Path, shell: str, json_option: list[str]
) -> None:
    done = start(*places, *json_option, shell=shell)
    assert (tmp_path / "Output" / "manifest.json").exists()
    assert (tmp_path / "Output" / "historical_stock_data.csv").read_text(encoding="utf-8").count(NAME) == 2
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
    if "|" not in shell:
        assert done.returncode == 0


@pytest.mark.parametrize("index", ["index.txt", "none.txt"])
def test_reader_that_has_gone_away_does_not_turn_a_failed_run_into_a_good_one(places: list[str], index: str) -> None:
    arguments = [argument.replace("index.txt", index) for argument in places]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "etl", "process", *arguments, "--json", "--quiet"],
        cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, check=False, timeout=60,
    )  # fmt: skip
    os.close(writing)
    assert done.returncode == (0 if index == "index.txt" else 2)
    assert done.stderr.count(b"\n") == (0 if index == "index.txt" else 1)


def test_result_that_finds_no_room_is_one_line_and_code_3_and_the_outputs_are_there(
    places: list[str], tmp_path: Path
) -> None:
    done = start(*places, "--quiet", shell=">/dev/full")
    assert done.returncode == 3
    assert done.stderr.count(b"\n") == 1
    assert b"No space left on device" in done.stderr
    assert (tmp_path / "Output" / "manifest.json").exists()
