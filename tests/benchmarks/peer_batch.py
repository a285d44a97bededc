"""What the peers share: the names in the index, and psql's \\copy of the file that they made."""

import ast
import os
import subprocess
from pathlib import Path

TABLE = "historical_stocks_data"
PEER_SCHEMA = "peer"  # for a peer that makes its own table


def company_files(stocks: Path, index: Path) -> list[Path]:
    """The files that the index names, in its order, without those of 0 bytes."""
    names: tuple[str, ...] = ast.literal_eval(f"({index.read_text().strip().rstrip(',')},)")
    return [stocks / name for name in names if (stocks / name).stat().st_size]


def copy_into_table(combined: Path) -> None:
    statement = f"\\copy historical_stocks_data FROM '{combined}' CSV"
    subprocess.run(["psql", os.environ["MBD_DATABASE_URL"], "--no-psqlrc", "-qc", statement], check=True)
