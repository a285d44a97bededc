"""A new user with nothing configured: each command says what is missing and the next step."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import pytest

from infra_scripts.cli import COMMANDS, main


@pytest.fixture(autouse=True)
def nothing_configured() -> object:
    with mock.patch.dict(os.environ, {"PATH": os.environ["PATH"], "AWS_EC2_METADATA_DISABLED": "true"}, clear=True):
        yield


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "init"])
def test_a_command_says_what_is_missing_and_what_comes_next(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--yes", "--env-file", str(tmp_path / ".env")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    for words in ("MBD_FIRST_NAME", "MBD_LAST_NAME", "AWS_REGION", "python -m infra_scripts init"):
        assert words in said.err
    assert len(said.err.splitlines()) == 1
    assert not (tmp_path / ".env").exists()


def test_the_commands_are_listed_with_what_they_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = capsys.readouterr().out
    assert all(command in listed for command in COMMANDS)


@pytest.mark.parametrize("words", [[], ["destroy"], ["apply", "--force"], ["apply", "--course-expires", "soon"]])
def test_a_wrong_call_is_one_line_and_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
