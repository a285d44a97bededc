"""The stacks of the heavy tests, each for all tests of its file."""

import os
from collections.abc import Iterator

import pytest

from tests.compose.compose_system import ComposeSystem, missing_docker

if not os.environ.get("MBD_COMPOSE"):
    _WHY_NOT: str | None = "It builds images and takes minutes: run it by make test-compose (MBD_COMPOSE=1)."
else:
    _WHY_NOT = missing_docker()


def _started(workers: int, tmp_path_factory: pytest.TempPathFactory, **settings: str) -> Iterator[ComposeSystem]:
    if _WHY_NOT:
        pytest.skip(_WHY_NOT)
    with ComposeSystem(tmp_path_factory.mktemp("compose"), workers=workers, settings=settings) as running:
        yield running
        for name, memory in sorted(running.memory().items()):
            print(
                f"{name:<16} peak {memory.peak / 2**20:5.0f} MiB with page cache, {memory.used / 2**20:5.0f} used now,"
                f" limit {memory.limit / 2**20:5.0f}"
            )


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeSystem]:
    """LocalExecutor, as `make up` starts it."""
    yield from _started(0, tmp_path_factory)


@pytest.fixture(scope="module")
def celery_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeSystem]:
    """CeleryExecutor with two workers."""
    yield from _started(2, tmp_path_factory, MBD_SHARDS="4")
