"""`make bench`: `python -m etl` against psql's \\copy of the ready combined file, in turn, on one embedded server.

Prints one Markdown table: medians, and ratios pair by pair within a round. After each run the table is compared with a
reference load (row count and checksum); a row that was not found equal shows no figure. With --peers it measures what
people use instead; with --growth it runs on 1, 2, 4 and 7 times the files.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.benchmarks import batches, report
from tests.benchmarks.batches import Batch
from tests.benchmarks.database import DLT_SCHEMA, Database, Fingerprint, copy_command
from tests.benchmarks.measurement import Command, CommandFailed, Figures, measure
from tests.benchmarks.report import BASE, FIRST, FIRST_INDEXED, INDEXED_BASE, Measured
from tests.support.paths import ROOT
from tests.support.postgres import PostgresServer

_ETL = (sys.executable, "-m", "etl")
_COMBINED = "historical_stock_data.csv"
_TENTH = 10
_RESTATED = 10
_GROWTH = (1, 2, 4, 7)
Start = Literal["plain", "ours", "kept"]
_INDEX_SQL = ROOT / "etl" / "table" / "sql" / "index.sql"


@dataclass(frozen=True)
class Reference:
    """A batch's combined file as `etl process` writes it, and the table that \\copy makes of it."""

    combined: Path
    exact: Fingerprint
    numeric: Fingerprint

    def sha256(self) -> str:
        return _sha256(self.combined)


@dataclass(frozen=True)
class Row:
    """A row of the printed table: a command, the table that it starts from and the one that it must leave.

    `start`: "plain" (nine columns, nothing else), "ours" (what init-db makes) or "kept" (as the row before left it).
    `scale`: by how much seconds are multiplied, for a command that loads only a part.
    """

    name: str
    command: Command
    start: Start
    leaves: Reference
    exact: bool = True
    schema: str = "public"
    scale: int = 1
    writes: Path | None = None
    """A combined file that must have the reference's bytes."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", metavar="PYTHON", type=Path, help="the Python that the peers are installed for")
    parser.add_argument("--growth", action="store_true", help="run on 1, 2, 4, 7 times the files instead")
    parser.add_argument("--only", metavar="TEXT", default="", help="only \\copy csv and rows with TEXT in their name")
    parser.add_argument("--files", type=int, default=200, help="of the generated batch, without MBD_REAL_BATCH (200)")
    options = parser.parse_args()
    if not Path("/proc/self/stat").exists():
        parser.exit(2, "error: server CPU is read from /proc, which only Linux has.\n")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        root = Path(folder)
        batch = batches.first_batch(root / "batch", generated_files=options.files)
        with PostgresServer(root / "postgres", databases=("stocks",)) as server:
            database = Database(server)
            if options.growth:
                _measure_growth(batch, root=root, database=database, rounds=options.rounds)
                return 0
            return _measure_rows(batch, root=root, database=database, options=options)


def _measure_rows(batch: Batch, *, root: Path, database: Database, options: argparse.Namespace) -> int:
    rows = _rows(batch, root=root, database=database, peers=options.peers)
    reruns = any(row.start == "kept" and options.only in row.name for row in rows)
    rows = [row for row in rows if row.name == BASE or options.only in row.name or (reruns and row.start != "plain")]
    print(report.heading(batch, rows=rows[0].leaves.exact.rows, database=database, peers=options.peers), flush=True)
    measured = {row.name: Measured(row.name, scale=row.scale) for row in rows}
    for number in range(1, options.rounds + 1):
        for row in rows:
            print(f"round {number} of {options.rounds}: {row.name}", file=sys.stderr, flush=True)
            _measure_row(row, database=database, into=measured[row.name])
    print(report.table(measured))
    return 1 if any(one.fault for one in measured.values()) else 0


def _rows(batch: Batch, *, root: Path, database: Database, peers: Path | None) -> list[Row]:
    """Everything that is measured, in the order of a round. Makes the batches and the references."""
    grown = batches.next_day(batch, root / "grown")
    changed = batches.restated(grown, root / "restated", companies=_RESTATED)
    base, day_after, restated = (
        _reference(one, root=root / f"reference-{one.folder.name}", database=database)
        for one in (batch, grown, changed)
    )
    output = root / "Output"

    def ours(name: str, one: Batch, start: Start, reference: Reference, *more: str) -> Row:
        return Row(name, _etl_run(one, output, *more), start, reference, writes=output / _COMBINED)

    rows = [
        Row(BASE, copy_command(database, base.combined), "plain", base),
        Row("psql \\copy text", copy_command(database, base.combined, form="(DELIMITER ',', NULL '')"), "plain", base),
    ]
    if _INDEX_SQL.exists():
        statement = _create_index()
        rows += [
            Row(INDEXED_BASE, copy_command(database, base.combined, then=statement), "plain", base),
            ours(FIRST, batch, "ours", base, "--no-index"),
            ours(FIRST_INDEXED, batch, "ours", base),
        ]
    else:
        rows.append(ours(FIRST, batch, "ours", base))
    rows += [
        ours("etl run, nothing changed", batch, "kept", base),
        ours("etl run, one new row a company", grown, "kept", day_after),
        ours(f"etl run, {_RESTATED} companies restated", changed, "kept", restated),
    ]
    return rows + (_peer_rows(batch, base, root=root, database=database, python=peers) if peers else [])


def _peer_rows(batch: Batch, base: Reference, *, root: Path, database: Database, python: Path) -> list[Row]:
    def peer(module: str, *arguments: Path) -> Command:
        return [python.absolute(), "-m", f"tests.benchmarks.peer_{module}", *arguments]

    places = (batch.stocks, batch.index, root / "peer.csv")
    tenth = batches.first_tenth(base.combined, root / "tenth.csv")
    part = _loaded(tenth, database=database)
    return [
        Row("polars, then \\copy", peer("polars", *places), "plain", base, exact=False),
        Row("duckdb, then \\copy", peer("duckdb", *places), "plain", base, exact=False),
        Row("pandas, then \\copy", peer("pandas", *places), "plain", base, exact=False),
        Row("dlt, no combined file", peer("dlt", *places), "plain", base, exact=False, schema=DLT_SCHEMA),
        Row("execute_values, load only", peer("execute_values", tenth), "plain", part, scale=_TENTH),
    ]


def _reference(batch: Batch, *, root: Path, database: Database) -> Reference:
    places = ("--source", batch.stocks, "--index", batch.index, "--output", root)
    _run([*_ETL, "process", "--quiet", *places], database=database)
    return _loaded(root / _COMBINED, database=database)


def _loaded(combined: Path, *, database: Database) -> Reference:
    database.make_plain_table()
    _run(copy_command(database, combined), database=database)
    return Reference(combined, database.fingerprint(exact=True), database.fingerprint(exact=False))


def _measure_row(row: Row, *, database: Database, into: Measured) -> None:
    if row.start == "plain":
        database.make_plain_table()
    elif row.start == "ours":
        database.make_our_tables()
    else:
        database.settle()
    try:
        figures = _run(row.command, database=database)
    except CommandFailed as error:
        into.fault = str(error)
        return
    found = database.fingerprint(exact=row.exact, schema=row.schema)
    wanted = row.leaves.exact if row.exact else row.leaves.numeric
    if found != wanted:
        into.fault = f"the table differs: {found.rows:,} rows, {wanted.rows:,} wanted"
    elif row.writes and _sha256(row.writes) != row.leaves.sha256():
        into.fault = "the combined file differs"
    into.runs.append(figures.times(row.scale))


def _measure_growth(batch: Batch, *, root: Path, database: Database, rounds: int) -> None:
    """`etl run` into empty tables on so many times the files; each table must be so many times the reference."""
    base = _reference(batch, root=root / "reference", database=database).exact
    print(report.heading(batch, rows=base.rows, database=database, peers=None), flush=True)
    grown = {copies: batches.manifold(batch, root / f"x{copies}", copies=copies) for copies in _GROWTH}
    runs: dict[int, list[Figures]] = {copies: [] for copies in _GROWTH}
    for number in range(1, rounds + 1):
        for copies, one in grown.items():
            print(f"round {number} of {rounds}: {copies} x", file=sys.stderr, flush=True)
            database.make_our_tables()
            runs[copies].append(_run(_etl_run(one, root / "Output"), database=database))
            found = database.fingerprint(exact=True, without="^copy[0-9]-")
            if found != Fingerprint(base.rows * copies, str(int(base.checksum) * copies)):
                raise SystemExit(f"{copies} x the files left {found.rows:,} rows that are not those wanted: no figure")
    print(report.growth({copies: (len(grown[copies].files()), runs[copies]) for copies in _GROWTH}, rows=base.rows))


def _etl_run(batch: Batch, output: Path, *more: str) -> Sequence[str | Path]:
    places = ("--source", batch.stocks, "--index", batch.index, "--output", output)
    return [*_ETL, "run", "--quiet", "--json", *places, *more]


def _run(command: Command, *, database: Database) -> Figures:
    return measure(command, environment=database.environment, postmaster=database.postmaster)


def _create_index() -> str:
    found = re.search(r"^CREATE\b[^;]*\bINDEX\b[^;]*;", _INDEX_SQL.read_text(), re.MULTILINE)
    if not found:
        raise SystemExit(f"{_INDEX_SQL} holds no CREATE INDEX")
    return found.group()


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main())
