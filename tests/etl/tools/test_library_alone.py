"""The library as a data scientist installs it: the wheel, in a venv of its own, with its locked dependencies only."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.paths import ROOT

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.database import Database

_MOST_PACKAGES = 20  # five that we name, and what they need


def _run(*command: object, **options: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new venv with the wheel in it, and nothing of this repository."""
    folder = tmp_path_factory.mktemp("alone")
    _run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=ROOT)
    [wheel] = folder.glob("*.whl")
    uv = Path(sys.executable).with_name("uv")
    _run(uv, "venv", "--quiet", "--python", sys.executable, folder / "venv")
    python = folder / "venv" / "bin" / "python"
    command = [uv, "pip", "install", "--quiet", "--python", python, "--constraints", ROOT / "requirements.lock", wheel]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode and "Failed to fetch" in done.stderr:
        pytest.skip(f"no package index is reachable: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return python


def test_it_brings_few_packages_and_the_locked_versions(python: Path) -> None:
    names = _run(
        python,
        "-c",
        "from importlib.metadata import distributions as d; print(*(f'{x.name}=={x.version}' for x in d()))",
    ).split()
    locked = (ROOT / "requirements.lock").read_text()
    names = [re.sub("[_.]+", "-", name.partition("==")[0].lower()) + "==" + name.partition("==")[2] for name in names]
    others = [name for name in names if not name.startswith("moving-big-data")]
    assert len(others) <= _MOST_PACKAGES
    assert [name for name in others if name not in locked] == []
    assert not [name for name in others if "airflow" in name]


def test_it_reads_prices_and_companies(python: Path, three: Files, database: Database, tmp_path: Path) -> None:
    three.load(database)
    script = "import etl; print(len(etl.read_prices('AA')), etl.companies()['state'].tolist())"
    environment = {"PATH": os.environ["PATH"], "MBD_DATABASE_URL": database.url}
    out = _run(python, "-W", "error", "-c", script, cwd=tmp_path, env=environment)
    assert out == "5 ['stale', 'stale', 'fresh']\n"
