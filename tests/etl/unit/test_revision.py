"""Which version of the code runs, in a clone, in an unpacked archive, and without either."""

import subprocess
import tomllib
from pathlib import Path

import pytest

import etl
from etl.cli import main
from etl.files import native
from tests.support.paths import ROOT

RELEASED = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that the library takes for its own."""
    folder = tmp_path / "etl"
    folder.mkdir()
    monkeypatch.setattr("etl.revision._PACKAGE", folder)
    return folder


def version() -> str:
    return etl.code_version.__wrapped__()


def test_version_is_the_release_where_nothing_more_is_known(package: Path) -> None:
    assert version() == RELEASED


def test_version_is_what_the_archive_says(package: Path) -> None:
    (package / "version.txt").write_text("0.2.0+564af1d.dirty\n")
    assert version() == "0.2.0+564af1d.dirty"


def test_version_in_a_clone_names_the_commit_and_marks_a_dirty_tree(package: Path) -> None:
    def git(*words: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        line = ["git", "-C", str(package.parent), *identity, *words]
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()

    (package / "a.py").write_text("1")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    git("tag", "v0.1")
    commit = git("rev-parse", "--short", "HEAD")
    assert version() == f"{RELEASED}+{commit}"
    (package / "a.py").write_text("2")
    assert version() == f"{RELEASED}+{commit}.dirty"


def test_command_line_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"Moving Big Data {etl.code_version()}, {native.describe()}\n"
