"""Writing .env changes nothing else in it, and nobody else can read it. (Reading: test_env_readers.py.)"""

from __future__ import annotations

from pathlib import Path

import pytest

from infra_scripts.environment import read_environment, read_file, remove_values, write_values
from infra_scripts.errors import SettingsError


def test_no_file_is_no_variables(tmp_path: Path) -> None:
    assert read_file(tmp_path / "none") == {}


def test_a_malformed_line_is_named_without_its_content(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("A=1\nsecret hunter2\n")
    with pytest.raises(SettingsError, match=r"line 2 is not NAME=value") as caught:
        read_file(file)
    assert "hunter2" not in str(caught.value)


def test_the_process_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("A=file\nB=file\n")
    assert read_environment(file, process={"A": "process"}) == {"A": "process", "B": "file"}


def test_written_values_keep_their_lines_and_the_rest_stays(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("# first\nA=1\n#B=commented\nC='x y'\n")
    assert write_values(file, {"A": "2", "B": "new one", "C": "x y"}) == ["A", "B"]
    assert file.read_text() == "# first\nA=2\n#B=commented\nC='x y'\nB='new one'\n"
    assert read_file(file) == {"A": "2", "B": "new one", "C": "x y"}


def test_of_two_lines_none_keeps_the_old_value(tmp_path: Path) -> None:
    """Compose takes the last one."""
    file = tmp_path / ".env"
    file.write_text("A=1\nB=1\nA=2\n")
    write_values(file, {"A": "3"})
    assert file.read_text() == "A=3\nB=1\nA=3\n"


def test_writing_the_same_again_touches_nothing(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    write_values(file, {"A": "1"})
    before = file.stat()
    assert write_values(file, {"A": "1"}) == []
    assert file.stat().st_ino == before.st_ino


def test_removed_values_take_their_lines_with_them_and_the_rest_stays(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("# A=first\nA=1\n#B=commented\nexport C='x y'\nAB=3\n")
    assert remove_values(file, ["C", "A", "D"]) == ["C", "A"]
    assert file.read_text() == "# A=first\n#B=commented\nAB=3\n"
    assert file.stat().st_mode & 0o777 == 0o600
    before = file.stat()
    assert remove_values(file, ["A"]) == []
    assert file.stat().st_ino == before.st_ino
    assert remove_values(tmp_path / "none", ["A"]) == []


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("A=1\n")
    file.chmod(0o644)
    (tmp_path / ".env.new").touch(mode=0o644)  # left behind by a kill
    write_values(file, {"B": "2"})
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [".env"]


@pytest.mark.parametrize("value", ["two\nlines", "a 'quote'"])
def test_a_value_that_env_cannot_hold_is_refused(value: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        write_values(tmp_path / ".env", {"A": value})
    assert not (tmp_path / ".env").exists()
