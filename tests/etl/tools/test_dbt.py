"""docs/dbt, checked by dbt itself: it parses, the views have its columns, and freshness is that of the last load."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from etl.table.roles import make_reader
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.database import Database

_DBT = ROOT / ".venv-dbt" / "bin" / "dbt"
pytestmark = pytest.mark.skipif(not _DBT.exists(), reason="dbt is not installed: make .venv-dbt/.ready")
Dbt = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def dbt(three: Files, database: Database, tmp_path: Path) -> Dbt:
    """Runs a command of dbt as a reader of three loaded companies, on a copy of the project."""
    three.load(database)
    make_reader(database.url, name="dbt_reader", password="only for this test")
    project = tmp_path / "dbt"
    shutil.copytree(ROOT / "docs" / "dbt", project)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PGHOST": "127.0.0.1",
        "PGPORT": str(database.server.port),
        "PGDATABASE": database.name,
        "PGUSER": "dbt_reader",
        "PGPASSWORD": "only for this test",
        "PGSSLMODE": "disable",  # the test's server has no certificate
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [
            str(_DBT),
            "--no-use-colors",
            "--no-version-check",
            *arguments,
            "--project-dir",
            ".",
            "--profiles-dir",
            ".",
        ]
        return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)

    return run


def test_dbt_parses_the_sources_without_a_warning(dbt: Dbt) -> None:
    done = dbt("--warn-error", "parse")
    assert done.returncode == 0, done.stdout


def test_dbt_finds_every_column_that_it_is_to_test(dbt: Dbt) -> None:
    done = dbt("--warn-error", "test")
    assert done.returncode == 0, done.stdout
    assert "ERROR=0" in done.stdout
    assert "PASS=" in done.stdout


def test_dbt_says_how_fresh_the_last_load_is(dbt: Dbt, database: Database) -> None:
    assert dbt("source", "freshness").returncode == 0
    database.execute("UPDATE loads SET loaded_at = now() - interval '5 days'")
    done = dbt("source", "freshness")
    assert "WARN" in done.stdout
    assert json.dumps(done.stdout).count("ERROR STALE") == 0
