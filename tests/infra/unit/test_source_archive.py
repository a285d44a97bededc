"""The archive that the instance runs: what is in it, and what never is."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from infra_scripts.errors import RefusedError
from infra_scripts.platform.source_archive import source_archive


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("airflow/Dockerfile", "etl/__init__.py", "pyproject.toml", "etl/__pycache__/x.pyc", "airflow/.env"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
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


def test_the_same_tree_gives_the_same_bytes_whatever_the_times(tree: Path) -> None:
    first = source_archive(tree)
    os.utime(tree / "pyproject.toml", (1, 1))
    assert source_archive(tree) == first


def test_secrets_and_caches_are_left_out_and_modes_kept(tree: Path) -> None:
    found = entries(source_archive(tree))
    assert set(found) == {"airflow/Dockerfile", "airflow/start.sh", "etl/__init__.py", "pyproject.toml"}
    assert found["airflow/start.sh"].mode == 0o755
    assert found["pyproject.toml"].mode == 0o644


def test_what_git_ignores_stays_here_and_new_files_go(tree: Path) -> None:
    subprocess.run(["git", "init", "-q", tree], check=True)
    (tree / ".gitignore").write_text("*.key\n")
    (tree / "airflow" / "tls.key").write_text("secret")
    found = entries(source_archive(tree))
    assert "airflow/tls.key" not in found
    assert "airflow/Dockerfile" in found


def test_half_a_repository_is_refused(tree: Path) -> None:
    (tree / "pyproject.toml").unlink()
    with pytest.raises(RefusedError, match=r"pyproject\.toml is not in"):
        source_archive(tree)
