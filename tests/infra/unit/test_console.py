"""Questions before something is done: who may answer, with which word, and what --yes covers."""

from __future__ import annotations

import argparse
import io

import pytest

from infra_scripts.console import confirm, result
from infra_scripts.errors import RefusedError, SettingsError
from infra_scripts.platform import template


class Keyboard(io.StringIO):
    """Somebody who types this."""

    def isatty(self) -> bool:
        return True


def asked(*, yes: bool = False) -> argparse.Namespace:
    return argparse.Namespace(yes=yes, json=False)


def test_the_right_word_continues(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", Keyboard("bucket-b\n"))
    confirm("The data is lost.", options=asked(), word="bucket-b")
    assert capsys.readouterr().err == "The data is lost. Type bucket-b to continue: "


@pytest.mark.parametrize("typed", ["", "\n", "no\n", "y\n", "bucket\n", "yes\n"])
def test_any_other_word_stops(typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Keyboard(typed))
    with pytest.raises(RefusedError, match="Nothing was done"):
        confirm("The data is lost.", options=asked(), word="bucket-b")


def test_yes_on_the_command_line_answers_plain_questions_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    confirm("Apply this?", options=asked(yes=True))
    with pytest.raises(RefusedError, match="A person has to type bucket-b"):
        confirm("The data is lost.", options=asked(yes=True), word="bucket-b")


def test_json_is_the_only_thing_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    result("text", facts={"a": 1}, options=argparse.Namespace(json=True))
    assert capsys.readouterr().out == '{\n  "a": 1\n}\n'


def test_user_data_stays_under_ec2s_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "#!/bin/bash" in template.render()
    monkeypatch.setattr(template, "_LARGEST_USER_DATA_BYTES", 1000)
    with pytest.raises(SettingsError, match=r"first_boot\.sh has .* EC2 accepts 1,000"):
        template.render()


def test_the_template_stays_under_cloudformations_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "_LARGEST_TEMPLATE_BYTES", 1000)
    with pytest.raises(SettingsError, match="CloudFormation accepts 1,000"):
        template.render()
