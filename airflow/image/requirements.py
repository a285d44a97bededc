"""Prints what pip is to install into the Airflow image, from pyproject.toml and requirements.lock next to this file.

`needed` prints the requirements of etl and of the stack; `pinned` prints constraints: the version that the image
brings for every package that it brings, as Airflow was released and tested with these, and the locked one for the rest.
"""

import re
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

# In the public image; named here so that a build on a smaller one gets them, or fails.
STACK = (
    "apache-airflow-providers-amazon",
    "apache-airflow-providers-celery",
    "apache-airflow-providers-fab",
    "apache-airflow-providers-postgres",
    "apache-airflow-providers-standard",
    "celery<5.7",  # the celery provider of Airflow 3.3 imports a name that celery 5.7 no longer has
    "redis",
)


def needed(pyproject: Path) -> list[str]:
    project = tomllib.loads(pyproject.read_text())["project"]
    return [*project["dependencies"], *project["optional-dependencies"]["channels"], *STACK]


def pinned(lock: Path) -> list[str]:
    installed = {_normal(one.metadata["Name"]): one.version for one in distributions()}
    locked = [line for line in lock.read_text().splitlines() if _normal(line.partition("==")[0]) not in installed]
    return [*(f"{name}=={version}" for name, version in sorted(installed.items())), *locked]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower().strip()


if __name__ == "__main__":
    here = Path(__file__).parent
    print(
        *(needed(here / "pyproject.toml") if sys.argv[1] == "needed" else pinned(here / "requirements.lock")), sep="\n"
    )
