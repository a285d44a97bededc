"""One whole local system for all end-to-end tests: it takes some 20 seconds to start."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import SAMPLE
from tests.support.system import CHANNEL_SECRET, LINEAGE, LocalSystem
from tests.support.webhook import Webhook


@pytest.fixture(scope="session")
def webhook() -> Iterator[Webhook]:
    """The channel that runs are reported to; its URL is a secret."""
    with Webhook() as hook:
        yield hook


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory, webhook: Webhook) -> Iterator[LocalSystem]:
    home = tmp_path_factory.mktemp("system")
    lineage = {"type": "file", "log_file_path": str(home / LINEAGE), "append": True}
    settings = {
        "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(lineage),
        "MBD_CHANNELS": f"json://{webhook.place}/{CHANNEL_SECRET}",
    }
    with LocalSystem(home, settings=settings) as running:
        yield running


@pytest.fixture
def sample(system: LocalSystem) -> dict[str, Path]:
    """The sample batch, uploaded anew: every company file and the index."""
    files = {path.name: path for path in (SAMPLE / "Stocks").iterdir()}
    *_, uploaded = system.upload(files, index=(SAMPLE / "CompanyNames" / "top_companies.txt").read_bytes())
    assert uploaded == len(files)
    return files
