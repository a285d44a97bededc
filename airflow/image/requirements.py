"""Prints what pip is to install into the Airflow image, from pyproject.toml and requirements.lock next to this file.

`needed` prints the requirements of etl and of the stack; `pinned` prints constraints: the version that the image
brings for every package that it brings, as Airflow was released and tested with these, and the locked one for the rest.
`hashed REPORT` prints, with the hashes of the lock, what pip would install by its report of a dry run.
"""

import json
import re
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path

# In the public image; named here so that a build on a smaller one fails.
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
    locked = [line.partition(" --hash")[0].rstrip() for line in _lines(lock) if _name(line) not in installed]
    return [*(f"{name}=={version}" for name, version in sorted(installed.items())), *locked]


def hashed(lock: Path, report: Path) -> list[str]:
    found = [one["metadata"] for one in json.loads(report.read_text())["install"]]
    wanted = {f"{_normal(one['name'])}=={one['version']}" for one in found}
    lines = {f"{_name(line)}=={re.split('[=; ]+', line)[1]}": line for line in _lines(lock)}
    if missing := sorted(wanted - set(lines)):
        raise SystemExit(f"Neither in the image nor in {lock.name}: {', '.join(missing)}. Build on the public image.")
    return [lines[one] for one in sorted(wanted)]


def _lines(lock: Path) -> list[str]:
    """One line for each locked package, with its hashes."""
    return lock.read_text().replace("\\\n", "").splitlines()


def _name(line: str) -> str:
    return _normal(line.partition("==")[0])


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower().strip()


if __name__ == "__main__":
    here = Path(__file__).parent
    lock = here / "requirements.lock"
    match sys.argv[1:]:
        case ["needed"]:
            wanted = needed(here / "pyproject.toml")
        case ["pinned"]:
            wanted = pinned(lock)
        case ["hashed", report]:
            wanted = hashed(lock, Path(report))
        case _:
            raise SystemExit(__doc__)
    print(*wanted, sep="\n")
