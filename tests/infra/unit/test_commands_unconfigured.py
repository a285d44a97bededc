"""A new user without settings: each command says what is missing and what to do next."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import pytest

from infra_scripts import cli
from infra_scripts.cli import COMMANDS, main


@pytest.fixture(autouse=True)
def nothing_configured() -> object:
    with mock.patch.dict(os.environ, {"PATH": os.environ["PATH"], "AWS_EC2_METADATA_DISABLED": "true"}, clear=True):
        yield


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "init"])
def test_a_command_names_the_missing_settings_and_the_next_step(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--yes", "--env-file", str(tmp_path / ".env")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    for words in ("MBD_FIRST_NAME", "MBD_LAST_NAME", "AWS_REGION", "python -m infra_scripts init"):
        assert words in said.err
    assert f"error: {tmp_path / '.env'} is not there. " in said.err
    assert len(said.err.splitlines()) == 1
    assert not (tmp_path / ".env").exists()


def test_the_help_lists_the_commands_with_what_they_do(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = capsys.readouterr().out
    assert all(name in listed and command.HELP[:30] in listed for name, command in COMMANDS.items())


def test_without_a_command_the_help_is_printed_and_the_exit_code_is_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert all(f"\n    {command}" in printed.err for command in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_s_help_has_examples_that_can_be_typed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    shown = capsys.readouterr().out
    for example in COMMANDS[name].EXAMPLES:
        assert f"  python -m infra_scripts {example}\n" in shown
        assert cli._parser().parse_args(example.split()).command == name


@pytest.mark.parametrize(
    "words",
    [
        ["destroy"],
        ["apply", "--force"],
        ["apply", "--course-expires", "soon"],
        ["status", "--last", "-1"],
        ["trigger", "--timeout", "-1"],
        ["trigger", "--timeout", "inf"],
    ],
)
def test_a_wrong_call_is_one_line_and_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
