"""`make compare-dirt`: every dirty case through every way, judged row by row; some 20 minutes on two cores.

Each way loads each case into an empty database, in a process of its own (worker.py). The exit code is 1 when a case
does not come out right through this project; what the peers do is theirs, and only printed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

import psycopg2
from psycopg2 import sql

from tests.proof.dirt import kept
from tests.proof.dirt.batch import TABLE
from tests.proof.dirt.cases import dirty_cases, lay_out
from tests.proof.dirt.judge import Outcome, Ran, Row, judge, rows_of
from tests.proof.dirt.ways import WAYS, Compared, Kind
from tests.support.case_folder import Case
from tests.support.paths import ROOT
from tests.support.postgres import PostgresServer, postgres_binaries

_OUR_TABLE = "historical_stocks_data"
_SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
_LOADED = f"""
    SELECT table_schema, table_name, array_agg(column_name::text ORDER BY ordinal_position)
    FROM information_schema.columns
    WHERE table_name IN ('{TABLE}', '{_OUR_TABLE}') AND table_schema !~ '(^pg_|_staging$)'
    GROUP BY table_schema, table_name
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="make compare-dirt", description=__doc__)
    parser.add_argument("--peers", metavar="PYTHON", type=Path, required=True, help="the Python that has the peers")
    parser.add_argument("--cases", default="", help="only these, between blanks, and say how each ended")
    parser.add_argument("--ways", default="", help="only ways with this in their name")
    parser.add_argument("--keep", action="store_true", help=f"put the outcomes into {kept.FILE.name} and docs")
    options = parser.parse_args()
    named = options.cases.split()
    cases = [case for case in dirty_cases() if not named or case.folder.name in named]
    ways = [way for way in WAYS if options.ways in way.name]
    if unknown := set(named) - {case.folder.name for case in cases}:
        parser.error(f"no such case about company files: {', '.join(sorted(unknown))}")
    if not ways:
        parser.error(f"no such way: {options.ways}. There are: {'; '.join(way.name for way in WAYS)}")
    with tempfile.TemporaryDirectory(prefix="dirt-") as folder:
        root = Path(folder)
        databases = [f"way_{number}" for number in range(len(ways))]
        with PostgresServer(root / "postgres", databases=databases) as server:
            with ThreadPoolExecutor(os.cpu_count()) as threads:
                places = [(root / name, server.url(name)) for name in databases]
                tried = [
                    threads.submit(_try_way, way, cases, root=place, url=url, peers=options.peers, aloud=bool(named))
                    for way, (place, url) in zip(ways, places, strict=True)
                ]
                outcomes = [one.result() for one in tried]
            version = _scalar(server.url("postgres"), "SHOW server_version")
    for way, of in zip(ways, outcomes, strict=True):
        counts = Counter(of.values())
        print(f"{way.name}: " + ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome]))
    if options.keep:
        tried_ways = {way.name: of for way, of in zip(ways, outcomes, strict=True)}
        kept.keep(tried_ways, versions={"PostgreSQL": version.split()[0], **_versions(options.peers)})
        print(f"Written to {kept.FILE.relative_to(ROOT)}. Then: python -m tests.support.docs --write")
    ours = [of for way, of in zip(ways, outcomes, strict=True) if way.kind is Kind.OURS]
    return int(any(outcome is not Outcome.RIGHT for of in ours for outcome in of.values()))


def _try_way(
    way: Compared, cases: Sequence[Case], *, root: Path, url: str, peers: Path, aloud: bool
) -> dict[str, Outcome]:
    outcomes = {}
    python = Path(sys.executable) if way.kind is Kind.OURS else peers.absolute()
    with _worker(way, python=python) as worker:
        for number, case in enumerate(cases, start=1):
            name = case.folder.name
            folder, _, expected = lay_out(case, root / name)
            _empty(url)
            ran = _ask(worker, {"folder": str(folder), "url": url})
            found = _found(url)
            outcomes[name] = judge(ran, found=found, expected=expected)
            shutil.rmtree(root / name)
            if aloud:
                _say(f"{name}: {way.name}: {outcomes[name]} {ran}")
                _say(f"  further {dict(found - expected)}, missing {dict(expected - found)}")
            elif number % 25 == 0 or number == len(cases):
                _say(f"{way.name}: {number} of {len(cases)}")
    return outcomes


@contextmanager
def _worker(way: Compared, *, python: Path) -> Iterator[subprocess.Popen[str]]:
    path = f"{postgres_binaries()}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "TZ": "UTC"}
    command = [str(python), "-m", "tests.proof.dirt.worker", way.module, way.function]
    with subprocess.Popen(
        command, env=environment, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as worker:
        yield worker
        _pipe(worker.stdin).close()


def _ask(worker: subprocess.Popen[str], batch: dict[str, str]) -> Ran:
    print(json.dumps(batch), file=_pipe(worker.stdin), flush=True)
    return Ran(**json.loads(_pipe(worker.stdout).readline()))


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def _empty(url: str) -> None:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        cursor.execute("SET client_min_messages = warning")
        cursor.execute(_SCHEMAS)
        for (schema,) in cursor.fetchall():
            cursor.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
        cursor.execute("CREATE SCHEMA public")


def _found(url: str) -> Counter[Row]:
    """The rows of the loaded table, all values as text; none where it was not made."""
    with closing(psycopg2.connect(url, options="-c timezone=UTC")) as connection, connection.cursor() as cursor:
        cursor.execute(_LOADED)
        tables: list[tuple[str, str, list[str]]] = cursor.fetchall()
        if not tables:
            return Counter()
        [(schema, table, columns)] = tables
        values = sql.SQL(", ").join(sql.Identifier(column) + sql.SQL("::text") for column in columns)
        cursor.execute(sql.SQL("SELECT {} FROM {}").format(values, sql.Identifier(schema, table)))
        return rows_of(columns, cursor.fetchall())


def _scalar(url: str, query: str) -> str:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return str((cursor.fetchone() or ("",))[0])


def _versions(python: Path) -> dict[str, str]:
    packages = sorted({way.package for way in WAYS if way.package})
    program = "import importlib.metadata as m, sys; print(*(m.version(name) for name in sys.argv[1:]))"
    done = subprocess.run([python, "-c", program, *packages], capture_output=True, text=True, check=True)
    return dict(zip(packages, done.stdout.split(), strict=True))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
