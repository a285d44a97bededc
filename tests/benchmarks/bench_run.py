"""`make bench`: `python -m etl run` against psql's \\copy of the ready combined file, in turn, on one embedded server.

Prints Markdown: medians, and ratios pair by pair within a round. After each run the table is compared with a reference
load (row count and checksum); a row that was not found equal shows no figure. With --peers it measures what people use
instead; with --growth it runs on 1, 2, 4 and 7 times the files.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from etl.table.database import QUERIES
from tests.benchmarks import batches, report
from tests.benchmarks.batches import Batch
from tests.benchmarks.database import COLUMNS, DLT_SCHEMA, Database, Fingerprint, copy_command
from tests.benchmarks.measurement import Command, CommandFailed, Figures, measure
from tests.benchmarks.peer_batch import PEER_SCHEMA
from tests.support.postgres import PostgresServer

_ETL = (sys.executable, "-m", "etl")
_COMBINED = "historical_stock_data.csv"
_TENTH = 10
_RESTATED = 10
_GROWTH = (1, 2, 4, 7)
_INDEX = QUERIES["build_table_index"]
_OLD_INDEX = "CREATE INDEX old ON historical_stocks_data (company_name, stock_date)"
Start = Literal["plain", "ours", "kept"]


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

    `start`: "plain" (nine columns, nothing else), "ours" (what init-db makes, and no output) or "kept" (table and
    output as the row before left them). `rounds`: at most so many, for one that takes long. `scale`: by how much
    seconds are multiplied, for a command that loads only a part. `needs`: what must be installed for it.
    """

    name: str
    command: Command
    start: Start
    leaves: Reference
    exact: bool = True
    schema: str = "public"
    rounds: int = 99
    scale: int = 1
    needs: str = ""
    reads: Batch | None = None
    """What is found at the places of `etl run`."""


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
    machine = report.machine()
    with measured_batch(generated_files=options.files) as (batch, root, database):
        if options.growth:
            facts = {"growth": measure_growth(batch, root=root, database=database)}
        else:
            peers = options.peers
            run = measure_rows(
                batch, root=root, database=database, peers=peers, rounds=options.rounds, only=options.only
            )
            facts = {"run": run}
        print(report.heading({"machine": machine, "batch": report.batch_facts(batch), **facts}))
    print(report.growth(facts["growth"]) if options.growth else report.run_table(facts["run"]))
    return 1 if any(one.get("fault") for one in facts.get("run", {}).values()) else 0


@contextmanager
def measured_batch(*, generated_files: int = 200) -> Iterator[tuple[Batch, Path, Database]]:
    """The batch in a folder of its own, that folder, and a server with an empty database."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        root = Path(folder)
        batch = batches.first_batch(root / "batch", generated_files=generated_files)
        with PostgresServer(root / "postgres", databases=("stocks",)) as server:
            yield batch, root, Database(server)


def measure_rows(
    batch: Batch, *, root: Path, database: Database, peers: Path | None, rounds: int, only: str = ""
) -> dict[str, Any]:
    """By the row's name: its runs, one a round, or why they do not count (`fault`), or what is `missing`."""
    rows = _rows(batch, root=root, database=database)
    if peers:
        rows += _peer_rows(batch, rows[0].leaves, root=root, database=database, python=peers)
    reruns = any(row.start == "kept" and only in row.name for row in rows)
    rows = [row for row in rows if row.name == report.BASE or only in row.name or (reruns and row.start != "plain")]
    measured: dict[str, Any] = {row.name: {"scale": row.scale, "runs": []} for row in rows}
    measured[report.BASE]["rows"] = rows[0].leaves.exact.rows
    for row in rows:
        if peers and row.needs and not is_there(row.needs, python=peers):
            measured[row.name] = {"missing": row.needs}
    for number in range(1, rounds + 1):
        for row in rows:
            into = measured[row.name]
            if "missing" not in into and number <= row.rounds:
                print(f"round {number} of {rounds}: {row.name}", file=sys.stderr, flush=True)
                _measure_row(row, root=root, database=database, into=into)
    return measured


def _rows(batch: Batch, *, root: Path, database: Database) -> list[Row]:
    """\\copy and ours, in the order of a round. Makes the batches and the references."""
    grown = batches.next_day(batch, root / "grown")
    changed = batches.restated(grown, root / "restated", companies=_RESTATED)
    base, day_after, restated = (
        _reference(one, root=root / f"reference-{one.folder.name}", database=database)
        for one in (batch, grown, changed)
    )
    without = ("--no-table-index",)
    first = etl_run(root, *without)
    return [
        Row(report.BASE, copy_command(database, base.combined), "plain", base),
        Row("psql \\copy text", copy_command(database, base.combined, form="(DELIMITER ',', NULL '')"), "plain", base),
        Row(report.INDEXED_BASE, copy_command(database, base.combined, then=_INDEX), "plain", base),
        Row(report.OLD_INDEXED_BASE, copy_command(database, base.combined, then=_OLD_INDEX), "plain", base),
        Row(report.FIRST_PYTHON, ["env", "MBD_NATIVE=off", *first], "ours", base, reads=batch),
        Row(report.FIRST, first, "ours", base, reads=batch),
        Row(report.FIRST_INDEXED, etl_run(root), "ours", base, reads=batch),
        Row(report.UNCHANGED, etl_run(root), "kept", base, reads=batch),
        Row(report.NEW_ROWS, etl_run(root), "kept", day_after, reads=grown),
        Row(report.RESTATED, etl_run(root), "kept", restated, reads=changed),
        Row(report.FIRST_PAGE, etl_run(root, page=True), "ours", base, reads=batch),
        Row(report.UNCHANGED_PAGE, etl_run(root, page=True), "kept", base, reads=batch),
    ]


def _peer_rows(batch: Batch, base: Reference, *, root: Path, database: Database, python: Path) -> list[Row]:
    places = (batch.stocks, batch.index, root / "peer.csv")
    tenth = batches.first_tenth(base.combined, root / "tenth.csv")
    part = _loaded(tenth, database=database)

    def peer(name: str, module: str, *arguments: str | Path, needs: str, **more: Any) -> Row:  # noqa: ANN401
        command = [python.absolute(), "-m", f"tests.benchmarks.peer_{module}", *arguments]
        return Row(name, command, "plain", more.pop("leaves", base), needs=needs, **more)

    slow: dict[str, Any] = {"rounds": 1}
    ready = _with_header(base.combined, root / "ready.csv")
    loads_tenth: dict[str, Any] = {"leaves": part, "scale": _TENTH, **slow}
    ready_tenth = _with_header(tenth, root / "ready-tenth.csv")
    own = {"schema": PEER_SCHEMA}
    return [
        peer(report.POLARS, "polars", "copy", *places, needs="polars", exact=False),
        peer("duckdb, then \\copy", "duckdb", "copy", *places, needs="duckdb", exact=False),
        peer("chdb, then \\copy", "chdb", *places, needs="chdb", exact=False, rounds=3),
        peer("duckdb, INSERT by its postgres extension (no combined file)", "duckdb", "scanner", *places,
             needs="duckdb_extension_postgres_scanner", exact=False, rounds=3),
        peer("polars, ADBC ingest (no combined file)", "polars", "adbc", *places, needs="adbc_driver_postgresql",
             exact=False, **slow),
        peer("dlt (no combined file)", "dlt", *places, needs="dlt", exact=False, schema=DLT_SCHEMA, **slow),
        peer("pandas, then \\copy", "pandas", *places, needs="pandas", exact=False, **slow),
        peer("sling, load only", "loader", "sling", ready, needs="sling_linux_amd64", **own, **slow),
        peer("ingestr, load only", "loader", "ingestr", ready_tenth, needs="bin/ingestr", **own, **loads_tenth),
        peer("pgloader, load only", "loader", "pgloader", ready_tenth, needs="bin/pgloader", **loads_tenth),
        peer("psycopg2 execute_values, load only", "execute_values", tenth, needs="psycopg2", **loads_tenth),
    ]  # fmt: skip


def is_there(needed: str, *, python: Path) -> bool:
    """A module of that Python; or with bin/ a program next to it or on the PATH."""
    if needed.startswith("bin/"):
        name = needed.removeprefix("bin/")
        return bool(shutil.which(name, path=str(python.absolute().parent)) or shutil.which(name))
    program = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({needed!r}) is None)"
    return subprocess.run([python, "-c", program], check=False).returncode == 0


def _with_header(combined: Path, target: Path) -> Path:
    with combined.open("rb") as source, target.open("wb") as file:
        file.write(",".join(COLUMNS).encode() + b"\n")
        shutil.copyfileobj(source, file)
    return target


def _reference(batch: Batch, *, root: Path, database: Database) -> Reference:
    places = ("--source", batch.stocks, "--company-index", batch.index, "--output", root)
    _run([*_ETL, "process", "--quiet", *places], database=database)
    return _loaded(root / _COMBINED, database=database)


def _loaded(combined: Path, *, database: Database) -> Reference:
    database.make_plain_table()
    _run(copy_command(database, combined), database=database)
    return Reference(combined, database.fingerprint(exact=True), database.fingerprint(exact=False))


def _measure_row(row: Row, *, root: Path, database: Database, into: dict[str, Any]) -> None:
    if row.start == "plain":
        database.make_plain_table()
    elif row.start == "ours":
        start_from_nothing(root, database=database)
    else:
        database.settle()
    if row.reads:
        lay(row.reads, root=root)
    try:
        figures = _run(row.command, database=database)
    except CommandFailed as error:
        into["fault"] = str(error)
        return
    found = database.fingerprint(exact=row.exact, schema=row.schema)
    wanted = row.leaves.exact if row.exact else row.leaves.numeric
    if found != wanted:
        into["fault"] = f"the table differs: {found.rows:,} rows, {wanted.rows:,} wanted"
    elif row.reads and _sha256(root / "Output" / _COMBINED) != row.leaves.sha256():
        into["fault"] = "the combined file differs"
    into["runs"].append(asdict(figures.times(row.scale)))


def measure_growth(batch: Batch, *, root: Path, database: Database) -> dict[str, Any]:
    """A first load with the index of so many times the files, and an unchanged rerun of it."""
    base = _reference(batch, root=root / "reference", database=database).exact
    measured: dict[str, Any] = {}
    for copies in _GROWTH:
        print(f"{copies} x the files", file=sys.stderr, flush=True)
        one = batches.manifold(batch, root / f"x{copies}", copies=copies)
        start_from_nothing(root, database=database)
        lay(one, root=root)
        first = _run(etl_run(root), database=database)
        database.settle()
        again = _run(etl_run(root), database=database)
        found = database.fingerprint(exact=True, without="^copy[0-9]-")
        if found != Fingerprint(base.rows * copies, str(int(base.checksum) * copies)):
            raise SystemExit(f"{copies} x the files left {found.rows:,} rows that are not those wanted: no figure")
        measured[str(copies)] = {
            "files": len(one.files()),
            "rows": found.rows,
            "first": asdict(first.times(1)),
            "again": asdict(again.times(1)),
        }
    return measured


def start_from_nothing(root: Path, *, database: Database) -> None:
    """Empty tables as init-db makes them, and no output of an earlier run, which would be taken over."""
    database.make_our_tables()
    shutil.rmtree(root / "Output", ignore_errors=True)


def lay(batch: Batch, *, root: Path) -> None:
    """Put the batch at the place where every run looks: days come and go under one name."""
    place = root / "today"
    place.unlink(missing_ok=True)
    place.symlink_to(batch.folder)


def etl_run(root: Path, *more: str, page: bool = False) -> Sequence[str | Path]:
    """A run of the batch in `today`; the report page, which nobody else's load writes, is measured apart."""
    today = Batch(root / "today")
    places = ("--source", today.stocks, "--company-index", today.index, "--output", root / "Output")
    return [*_ETL, "run", "--quiet", "--json", *places, *([] if page else ["--no-report"]), *more]


def _run(command: Command, *, database: Database) -> Figures:
    return measure(command, environment=database.environment, postmaster=database.postmaster)


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(main())
