"""Where things are in the repository."""

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
