"""The stacks of the heavy tests, each for all tests of its file."""

import os
from collections.abc import Iterator

import pytest

from tests.support.compose_system import LOGS, ComposeSystem, missing_docker


@pytest.fixture(scope="session")
def engine() -> None:
    """A Docker engine; who has asked for these tests and has none is told so by a failure."""
    if not os.environ.get("MBD_COMPOSE"):
        pytest.skip("It builds images and takes minutes: run it by make test-compose (MBD_COMPOSE=1).")
    if why_not := missing_docker():
        pytest.fail(why_not)


def _started(workers: int, tmp_path_factory: pytest.TempPathFactory, **settings: str) -> Iterator[ComposeSystem]:
    with ComposeSystem(tmp_path_factory.mktemp("compose"), workers=workers, settings=settings) as running:
        yield running
        for name, memory in sorted(running.memory().items()):
            print(
                f"{name:<16} peak {memory.peak / 2**20:5.0f} MiB with page cache, {memory.used / 2**20:5.0f} used now,"
                f" limit {memory.limit / 2**20:5.0f}"
            )


@pytest.fixture(scope="module")
def stack(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeSystem]:
    """LocalExecutor, as `make up` starts it."""
    yield from _started(0, tmp_path_factory)


@pytest.fixture(scope="module")
def celery_stack(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeSystem]:
    """CeleryExecutor with two workers, set up so that workers of other hosts may join."""
    settings = {"MBD_SHARDS": "4", "AIRFLOW_TLS": "on", "AIRFLOW_REMOTE_LOGS": LOGS}
    yield from _started(2, tmp_path_factory, **settings)
