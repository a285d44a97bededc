"""The work tree goes in; what the instance needs of it, as one .tar.gz, comes out: the same files, the same bytes."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

from infra_scripts.errors import RefusedError

KEY = "Scripts/moving-big-data.tar.gz"
ROOT = Path(__file__).resolve().parents[2]

# What the image is built of, and what the instance runs itself.
_CONTENTS = (
    "airflow", "etl", "infra_scripts",
    "pyproject.toml", "requirements.lock", "README.md", "CHANGELOG.md", ".dockerignore", ".env.example",
)  # fmt: skip
_LEFT_OUT = {"__pycache__", ".ruff_cache", ".mypy_cache", ".env", "node_modules", "logs"}
_MODIFIED = 1_577_836_800  # 2020-01-01: a wheel's zip knows no time before 1980


def source_archive(root: Path = ROOT) -> bytes:
    """The archive. Raises RefusedError when this is not the whole repository."""
    files = sorted(_files(root))
    missing = [name for name in ("airflow", "etl", "pyproject.toml") if not (root / name).exists()]
    if missing:
        raise RefusedError(f"{', '.join(missing)} is not in {root}. Run upload from a whole clone of the repository.")
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for name in files:
            content = (root / name).read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), _MODIFIED
            entry.mode = 0o755 if os.access(root / name, os.X_OK) else 0o644
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _files(root: Path) -> Iterator[str]:
    """Paths below the root; what git ignores, secrets above all, stays here."""
    try:
        command = [
            "git",
            "-C",
            str(root),
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
            "--",
            *_CONTENTS,
        ]
        names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")  # noqa: S603
    except (OSError, subprocess.CalledProcessError):  # no git, or a copy without its history
        found = (path for name in _CONTENTS for path in ((root / name), *(root / name).rglob("*")))
        names = [path.relative_to(root).as_posix() for path in found]
    for name in names:
        if name and not _LEFT_OUT & set(Path(name).parts) and (root / name).is_file():
            yield name
