"""Packs the work tree for Scripts/: all that the instance needs, and etl for the processing script.

The same files give the same bytes.
"""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

from infra_scripts.errors import RefusedError

KEY = "Scripts/moving-big-data.tar.gz"
LIBRARY_KEY = "Scripts/etl.zip"
ROOT = Path(__file__).resolve().parents[2]

# What the image is built from, and what the instance runs itself.
_CONTENTS = (
    "airflow", "etl", "infra_scripts", "pyproject.toml", "hatch_build.py", "requirements.lock",
    "README.md", "CHANGELOG.md", ".dockerignore", ".env.example",
)  # fmt: skip
_VERSION = "etl/version.txt"
_LEFT_OUT = {"__pycache__", ".ruff_cache", ".mypy_cache", ".env", "node_modules", "logs"}
# The units of an instance that was set up by version 0.1.0 call these.
_OLD_PATHS = {
    "infra_scripts/instance_env.sh": 'exec bash "$(dirname "$0")/instance/write_env.sh"\n',
    "infra_scripts/idle_stop.py": (
        "import pathlib, runpy\n"
        "runpy.run_path(str(pathlib.Path(__file__).parent / 'instance' / 'idle_stop.py'), run_name='__main__')\n"
    ),
}
_MODIFIED = 1_577_836_800  # 2020-01-01: a wheel's zip knows no time before 1980


def source_archive(root: Path = ROOT) -> bytes:
    """The archive, with the version of the code in etl/version.txt. Raises RefusedError outside a whole repository."""
    missing = [name for name in ("airflow", "etl", "pyproject.toml") if not (root / name).exists()]
    if missing:
        raise RefusedError(f"{', '.join(missing)} is not in {root}. Run upload from a whole clone of the repository.")
    contents = {name: ((root / name).read_bytes(), os.access(root / name, os.X_OK)) for name in _files(root)}
    contents[_VERSION] = (f"{version(root)}\n".encode(), False)
    contents |= {name: (text.encode(), False) for name, text in _OLD_PATHS.items()}
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for name, (content, is_program) in sorted(contents.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), _MODIFIED
            entry.mode = 0o755 if is_program else 0o644
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def library(root: Path = ROOT) -> bytes:
    """The modules of etl as a zip that Python imports from; data_processing.py in Scripts/ finds it next to itself.

    Its etl/__init__.py is empty: the public face would need psycopg2, which a laptop need not have.
    """
    names = [name for name in _files(root) if name.startswith("etl/") and name.endswith((".py", ".cpp", ".sql"))]
    contents = {name: (root / name).read_bytes() for name in names}
    contents |= {"etl/__init__.py": b"", _VERSION: f"{version(root)}\n".encode()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in sorted(contents.items()):
            file.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def version(root: Path = ROOT) -> str:
    """`0.2.0+564af1d`, with `.dirty` behind it where the archive differs from the commit; outside git `0.2.0`."""
    number = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    commit = _git(root, "rev-parse", "--short", "HEAD")
    if commit is None:
        return str(number)
    status = _git(root, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", *_CONTENTS) or ""
    is_dirty = any(_is_packed(entry[3:]) for entry in status.split("\0"))  # "XY name"
    return f"{number}+{commit.strip()}{'.dirty' if is_dirty else ''}"


def _files(root: Path) -> Iterator[str]:
    """Paths below the root. What git ignores, above all secrets, is left out."""
    listed = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *_CONTENTS)
    if listed is None:
        found = (path for name in _CONTENTS for path in ((root / name), *(root / name).rglob("*")))
        names = [path.relative_to(root).as_posix() for path in found]
    else:
        names = listed.split("\0")
    return (name for name in names if _is_packed(name) and (root / name).is_file())


def _is_packed(name: str) -> bool:
    return bool(name) and not _LEFT_OUT & set(Path(name).parts)


def _git(root: Path, *arguments: str) -> str | None:
    """What git prints, or None without git or in a copy without its history."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True)  # noqa: S603, S607
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout
