"""Reads files of this package, which may be a folder or a part of a zip."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def read_package_file(path: Path) -> bytes:
    """The bytes of a file next to a module. Raises OSError where there is none."""
    loader: Any = (
        __spec__.loader
    )  # Python's own, of folder or zip; importlib.resources takes ten milliseconds to import
    content: bytes = loader.get_data(str(path))
    return content
