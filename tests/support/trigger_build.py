"""What `make package` builds, for tests that run it; they fail if it is missing or older than the code."""

from pathlib import Path

import pytest

import trigger

[_ROOM] = trigger.__path__
_BUILD = Path(_ROOM) / ".build"


def layer() -> Path:
    """The awscli layer, unpacked: what Lambda shows as /opt."""
    return _built("layer")


def zipped(name: str) -> Path:
    """`function` or `layer`, as it is uploaded."""
    return _built(f"{name}.zip")


def _built(name: str) -> Path:
    path = _BUILD / name
    if not path.exists():
        pytest.fail(f"trigger/.build/{name} is missing. Run: make package", pytrace=False)
    code = max(source.stat().st_mtime for kind in ("*.py", "*.lock") for source in Path(_ROOM).glob(kind))
    if path.suffix == ".zip" and path.stat().st_mtime < code:
        pytest.fail(f"trigger/.build/{name} is older than the code in trigger/. Run: make package", pytrace=False)
    return path
