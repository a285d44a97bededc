"""Where things are in the repository."""

import os
import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
SAMPLE = DATA / "sample"
"""A small real batch: 40 company files, 5 of them of 0 bytes, and the index."""

CASES = DATA / "cases"
EVENTS = DATA / "events"
CONTRACTS = DATA / "contracts"
DAGS = ROOT / "airflow" / "dags"
VERSION_0_1 = DATA / "version_0_1"
"""A batch, outputs, a database and a .env as version 0.1.0 left them."""


def folder_in_memory(*, needed_bytes: int) -> Path | None:
    """Where files are in memory, for servers whose disk is not what is tested; None where there is no such room."""
    memory = Path("/dev/shm")
    has_room = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > needed_bytes
    return memory if has_room else None
