"""One whole local system for all end-to-end tests: it takes some 20 seconds to start."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import SAMPLE
from tests.support.system import LINEAGE, LocalSystem


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSystem]:
    home = tmp_path_factory.mktemp("system")
    lineage = {"type": "file", "log_file_path": str(home / LINEAGE), "append": True}
    with LocalSystem(home, settings={"AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(lineage)}) as running:
        yield running


@pytest.fixture
def sample(system: LocalSystem) -> dict[str, Path]:
    """The sample batch, uploaded anew: every company file and the index."""
    files = {path.name: path for path in (SAMPLE / "Stocks").iterdir()}
    *_, uploaded = system.upload(files, index=(SAMPLE / "CompanyNames" / "top_companies.txt").read_bytes())
    assert uploaded == len(files)
    return files
