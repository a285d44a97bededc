"""start_airflow.sh builds only when the code has changed, and starts what is there when a build fails.

`docker` is a stand-in that notes how it was called; a test says which commands fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

DIGEST = f"apache/airflow@sha256:{'a' * 64}"
PINNED = f"apache/airflow:3.3.2-python3.13@sha256:{'a' * 64}"
UP = "compose up --detach --no-build --wait"
PRUNE = ["image prune --force", "builder prune --force --filter until=24h"]


class Instance:
    """The instance's folder with a version of the code, and what its Docker has and can do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "opt"
        for name in ("infra_scripts/instance/start_airflow.sh", "airflow/Dockerfile"):
            (self.folder / name).parent.mkdir(parents=True)
            shutil.copy(ROOT / name, self.folder / name)
        self.state = folder / "state"
        self.state.mkdir()
        self.calls = folder / "calls"
        docker = folder / "bin" / "docker"
        docker.parent.mkdir()
        docker.write_text(
            f"""#!/bin/bash
echo "$* [${{AIRFLOW_IMAGE:-tag}}]" >>{self.calls}
case "$*" in
  "pull "*) [ -e {self.state}/registry ] && touch {self.state}/base ;;
  "image inspect --format"*) [ -e {self.state}/digest ] && echo {DIGEST} ;;
  "image inspect moving-big-data-airflow") [ -e {self.state}/image ] ;;
  "image inspect apache/airflow"*) [ -e {self.state}/base ] ;;
  "compose up"*) [ ! -e {self.state}/unhealthy ] ;;
  *prune*) [ ! -e {self.state}/busy ] ;;
  "compose build"*) [ -e {self.state}/registry ] && touch {self.state}/image ;;
esac
"""
        )
        docker.chmod(0o755)

    def has(self, *names: str) -> None:
        for file in self.state.iterdir():
            file.unlink()
        for name in names:
            (self.state / name).touch()

    def starts(self, version: str) -> tuple[int, list[str], str]:
        """Exit code, calls of docker, and what it said."""
        (self.folder / ".version").write_text(f"{version}\n")
        self.calls.write_text("")
        done = subprocess.run(
            ["bash", self.folder / "infra_scripts/instance/start_airflow.sh"],
            env={"PATH": f"{self.calls.parent / 'bin'}:{os.environ['PATH']}"}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        calls = [line for line in self.calls.read_text().splitlines() if not line.startswith("image inspect")]
        return done.returncode, calls, done.stdout + done.stderr


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    return Instance(tmp_path)


def test_the_image_is_built_once_for_a_version_and_then_only_started(instance: Instance) -> None:
    instance.has("registry", "digest")
    code, calls, _ = instance.starts("one")
    assert (code, calls) == (
        0,
        ["pull --quiet apache/airflow:3.3.2-python3.13 [tag]", f"compose build --quiet [{PINNED}]",
         f"{UP} [{PINNED}]", *(f"{line} [{PINNED}]" for line in PRUNE)],
    )  # fmt: skip
    code, calls, _ = instance.starts("one")
    assert (code, [call.partition(" [")[0] for call in calls]) == (0, [UP])


def test_a_start_without_the_registry_needs_nothing_of_it(instance: Instance) -> None:
    instance.has("registry", "digest")
    instance.starts("one")
    instance.has("image", "base")
    code, calls, _ = instance.starts("one")
    assert (code, [call.partition(" [")[0] for call in calls]) == (0, [UP])


def test_every_later_build_has_the_base_of_the_first_one(instance: Instance) -> None:
    instance.has("registry", "digest")
    instance.starts("one")
    instance.has("registry", "image")  # somebody has removed the base, whose tag is of another image by now
    code, calls, _ = instance.starts("two")
    assert (code, calls[0]) == (0, f"compose build --quiet [{PINNED}]")


def test_a_build_that_fails_starts_the_image_that_is_there_and_is_tried_again(instance: Instance) -> None:
    instance.has("registry")
    instance.starts("one")
    instance.has("image")
    code, calls, said = instance.starts("two")
    assert (code, calls[-1]) == (0, f"{UP} [tag]")
    assert "the build of two failed; starting the image of one" in said
    instance.has("image", "registry")
    assert "built moving-big-data-airflow from two" in instance.starts("two")[2]


def test_without_any_image_a_failed_build_is_an_error(instance: Instance) -> None:
    code, calls, said = instance.starts("one")
    assert (code, [call for call in calls if " up " in call]) == (1, [])
    assert "This is tried again in a minute" in said


def test_what_nothing_uses_is_removed_once_a_new_image_runs(instance: Instance) -> None:
    instance.has("registry", "unhealthy")
    code, calls, _ = instance.starts("one")
    assert (code, [call for call in calls if "prune" in call]) == (1, [])
    instance.has("registry")
    _, calls, _ = instance.starts("two")
    assert [call.partition(" [")[0] for call in calls[-3:]] == [UP, *PRUNE]


def test_an_image_that_cannot_be_removed_does_not_fail_the_start(instance: Instance) -> None:
    instance.has("registry", "busy")
    code, _, said = instance.starts("one")
    assert (code, "could not be removed" in said) == (0, True)
