"""The archive that the instance runs: what is in it, and what never is."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from infra_scripts.errors import RefusedError
from infra_scripts.platform.source_archive import source_archive
from tests.support.paths import ROOT

ADDED = {"etl/version.txt", "infra_scripts/instance_env.sh", "infra_scripts/idle_stop.py"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("airflow/Dockerfile", "etl/__init__.py", "pyproject.toml", "etl/__pycache__/x.pyc", "airflow/.env"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "0.2.0"\n')
    (tmp_path / "airflow" / "start.sh").write_text("#!/bin/sh\n")
    (tmp_path / "airflow" / "start.sh").chmod(0o755)
    return tmp_path


def entries(packed: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        return {entry.name: entry for entry in tar}


def test_the_repository_s_archive_has_what_the_image_and_the_instance_need() -> None:
    names = set(entries(source_archive()))
    assert {
        "airflow/dags/moving_big_data.py",
        "etl/table/sql/insert_query.sql",
        "infra_scripts/instance/write_env.sh",
        "infra_scripts/instance/idle_stop.py",
        "pyproject.toml",
        "requirements.lock",
        "README.md",
    } <= names
    assert not [name for name in names if name.startswith(("tests/", ".git/", ".venv/")) or "__pycache__" in name]


def test_everything_that_the_image_is_built_from_is_in_the_archive() -> None:
    dockerfile = (ROOT / "airflow" / "Dockerfile").read_text()
    copied = [word for line in re.findall(r"^COPY (.+)$", dockerfile, re.MULTILINE) for word in line.split()[:-1]]
    sources = {word for word in copied if not word.startswith("--")} | set(
        re.findall(r"bind,source=([^,]+)", dockerfile)
    )
    assert {"etl", "pyproject.toml", "airflow/image/requirements.py"} <= sources
    names = set(entries(source_archive()))
    assert not [source for source in sources if not any(f"{name}/".startswith(f"{source}/") for name in names)]


def test_the_same_tree_gives_the_same_bytes_whatever_the_times(tree: Path) -> None:
    first = source_archive(tree)
    os.utime(tree / "pyproject.toml", (1, 1))
    assert source_archive(tree) == first


def test_secrets_and_caches_are_left_out_and_modes_kept(tree: Path) -> None:
    found = entries(source_archive(tree))
    assert set(found) - ADDED == {"airflow/Dockerfile", "airflow/start.sh", "etl/__init__.py", "pyproject.toml"}
    assert found["airflow/start.sh"].mode == 0o755
    assert found["pyproject.toml"].mode == 0o644


def test_what_git_ignores_stays_here_and_new_files_go(tree: Path) -> None:
    subprocess.run(["git", "init", "-q", tree], check=True)
    (tree / ".gitignore").write_text("*.key\n")
    (tree / "airflow" / "tls.key").write_text("secret")
    found = entries(source_archive(tree))
    assert "airflow/tls.key" not in found
    assert "airflow/Dockerfile" in found


def git(tree: Path, *arguments: str) -> str:
    name = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    return subprocess.run(["git", "-C", tree, *name, *arguments], check=True, capture_output=True, text=True).stdout


def archived_version(tree: Path) -> str:
    with tarfile.open(fileobj=io.BytesIO(source_archive(tree))) as tar:
        file = tar.extractfile("etl/version.txt")
        assert file is not None
        return file.read().decode()


def test_outside_git_the_version_is_that_of_the_project(tree: Path) -> None:
    assert archived_version(tree) == "0.2.0\n"


@pytest.fixture
def clean(tree: Path) -> str:
    """The version of `tree` when all of it is committed."""
    (tree / "README.md").write_text("read me")
    (tree / ".gitignore").write_text("__pycache__\n.env\n")
    git(tree, "init", "-q")
    git(tree, "add", ".")
    git(tree, "commit", "-q", "-m", "all of it")
    return f"0.2.0+{git(tree, 'rev-parse', '--short', 'HEAD').strip()}"


def test_a_committed_tree_has_the_version_of_its_commit(tree: Path, clean: str) -> None:
    git(tree, "tag", "v9")
    (tree / "notes.txt").write_text("this does not go into the archive")
    (tree / "etl" / "__pycache__" / "y.pyc").write_text("nor does this")
    assert archived_version(tree) == f"{clean}\n"


@pytest.mark.parametrize("kind", ["changed", "staged", "new", "deleted", "renamed"])
def test_a_tree_that_differs_from_its_commit_is_marked_as_dirty(kind: str, tree: Path, clean: str) -> None:
    match kind:
        case "changed" | "staged":
            (tree / "etl" / "__init__.py").write_text("other")
        case "new":
            (tree / "etl" / "new.py").write_text("untracked")
        case "deleted":
            (tree / "README.md").unlink()
        case "renamed":
            git(tree, "mv", "etl/__init__.py", "notes.py")
    if kind == "staged":
        git(tree, "add", ".")
    assert archived_version(tree) == f"{clean}.dirty\n"


def test_units_of_an_instance_that_was_set_up_before_still_find_their_scripts(tree: Path) -> None:
    """They call infra_scripts/instance_env.sh and infra_scripts/idle_stop.py."""
    (tree / "infra_scripts" / "instance").mkdir(parents=True)
    (tree / "infra_scripts" / "instance" / "write_env.sh").write_text("echo wrote\n")
    (tree / "infra_scripts" / "instance" / "idle_stop.py").write_text("print(__name__, 'stopped')\n")
    with tarfile.open(fileobj=io.BytesIO(source_archive(tree))) as tar:
        tar.extractall(tree / "instance", filter="data")
    for command, printed in (
        (["bash", "infra_scripts/instance_env.sh"], "wrote\n"),
        ([sys.executable, "infra_scripts/idle_stop.py"], "__main__ stopped\n"),
    ):
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tree / "instance")
        assert done.stdout == printed


def test_half_a_repository_is_refused(tree: Path) -> None:
    (tree / "pyproject.toml").unlink()
    with pytest.raises(RefusedError, match=r"pyproject\.toml is not in"):
        source_archive(tree)
