"""The real batch: an archive named by MBD_REAL_BATCH goes in, a folder with Stocks/ and CompanyNames/ comes out."""

import os
import tarfile
from pathlib import Path

MISSING = "MBD_REAL_BATCH does not name the archive of the real batch (stocks-1000.tar.xz): set it to run this"

_NAMED = os.environ.get("MBD_REAL_BATCH")  # before tests take all MBD_ variables out of the environment


def archive() -> Path | None:
    """Where the archive is, or None when the environment does not say."""
    return Path(_NAMED) if _NAMED else None


def unpack(target: Path) -> Path:
    """Unpack it into `target`. Raises RuntimeError when the environment names no archive."""
    found = archive()
    if found is None:
        raise RuntimeError(MISSING)
    with tarfile.open(found) as packed:
        packed.extractall(target, filter="data")
    return target
