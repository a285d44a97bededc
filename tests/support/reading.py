"""Runs the examples of docs/reading.md and of the notebook on two editions of the sample, and writes their outputs.

python -m tests.support.reading --write     renews both

On the page an example is a block of sql or python with a block of text behind it; each is run as a reader's login. The
editions were loaded on days of the page, a week apart; here they are loaded today, and days are replaced on the way.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pandas as pd

import etl
from etl.table.roles import make_reader
from etl.table.schema import make_tables
from tests.support.batch_files import Files
from tests.support.database import Database
from tests.support.paths import ROOT, SAMPLE
from tests.support.postgres import PostgresServer, postgres_binaries

PAGE = ROOT / "docs" / "reading.md"
NOTEBOOK = ROOT / "docs" / "prices.ipynb"
READER = "ada"
_TODAY, _DAYS_BETWEEN = (
    date(2026, 11, 26),
    8,
)  # of the page: the second edition's day, and how long before the first came
_NEXT_DAY, _EX_DIVIDEND = "2017-11-13", "2017-11-10"  # of the second edition: a new trading day, a dividend's day
_DIVIDEND = 0.9875
_EXAMPLE = re.compile(r"```(sql|python)\n([^`]*)```\n\n```text\n([^`]*)```")


def load_editions(database: Database, folder: Path) -> dict[str, str]:
    """Load the sample, and eight days later its second edition. Returns a reader's environment."""
    files = Files(folder)
    for name in ("Stocks", "CompanyNames"):
        shutil.copytree(SAMPLE / name, folder / name)
    make_tables(database.url)
    _load(files, database, _TODAY - timedelta(days=_DAYS_BETWEEN))
    _second_edition(files.source)
    _load(files, database, _TODAY)
    password = "only for this database"
    make_reader(database.url, name=READER, password=password)
    url = f"postgresql://{READER}:{password.replace(' ', '%20')}@127.0.0.1:{database.server.port}/{database.name}"
    return {"MBD_DATABASE_URL": url, "PGTZ": "UTC", "TZ": "UTC"}


def _load(files: Files, database: Database, day: date) -> None:
    began = datetime(*_shown(day).timetuple()[:3], 6, 0, 3, tzinfo=UTC)
    run = etl.Run(run_id=f"marker_{began:%Y-%m-%dT%H:%M:%SZ}_aac3424847_f7cf4efb", started_at=began)
    etl.run(files.job(), target=etl.Target(database.url), run=run)
    for table in ("loads", "loaded_companies"):
        database.execute(
            f"UPDATE {table} SET loaded_at = %s WHERE run_id = %s", began + timedelta(seconds=3), run.run_id
        )


def _second_edition(source: Path) -> None:
    """A day later: a dividend of ge, a corrected price of blj, tlk without a column, pso without the new day."""
    for path in source.iterdir():
        lines = path.read_text().splitlines()
        if len(lines) < 2 or path.name == "pso.us.csv":
            continue
        header, *rows = lines
        _, *prices, volume, interest = rows[-1].split(",")
        moved = 1 + (sum(path.name.encode()) % 41 - 20) / 1000  # by up to 2 percent, each company its own
        values = [f"{float(price) * moved:.5g}" for price in prices]
        rows.append(",".join([_NEXT_DAY, *values, volume, interest]))
        if path.name == "ge.us.csv":
            rows = [row if row[:10] >= _EX_DIVIDEND else _times(row, _DIVIDEND) for row in rows]
        if path.name == "blj.us.csv":
            rows = [row.replace(",11.936,", ",11.578,") if row.startswith("2008-01-16") else row for row in rows]
        if path.name == "tlk.us.csv":
            header = header.replace("Open,", "First,", 1)
        path.write_text("\n".join([header, *rows]) + "\n")


def _times(row: str, factor: float) -> str:
    fields = row.split(",")
    return ",".join([fields[0], *(f"{float(price) * factor:.5g}" for price in fields[1:5]), *fields[5:]])


def made_page(text: str, environment: dict[str, str]) -> str:
    """The page with the output of each example as it is now."""
    names: dict[str, Any] = {}
    with _environment(environment), pd.option_context("display.width", 120, "display.max_columns", 12):
        return _EXAMPLE.sub(lambda found: _with_output(found, names, environment), text)


def _with_output(found: re.Match[str], names: dict[str, Any], environment: dict[str, str]) -> str:
    language, code, _ = found.groups()
    output = _psql(_here(code), environment) if language == "sql" else _python(_here(code), names)
    lines = "\n".join(line.rstrip() for line in _there(output).strip("\n").splitlines())
    return f"```{language}\n{code}```\n\n```text\n{lines}\n```"


def _psql(query: str, environment: dict[str, str]) -> str:
    command: list[str | Path] = [
        postgres_binaries() / "psql",
        "-X",
        "-q",
        "-v",
        "ON_ERROR_STOP=1",
        environment["MBD_DATABASE_URL"],
    ]
    done = subprocess.run(
        command, input=query, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    return done.stdout + done.stderr


def _python(code: str, names: dict[str, Any]) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(PAGE), "exec"), names)
    return printed.getvalue()


def made_notebook(text: str, environment: dict[str, str]) -> str:
    """The notebook with its outputs as they are now, without what differs between machines."""
    notebook = nbformat.reads(_here(text), as_version=4)  # type: ignore[no-untyped-call]
    with _environment(environment), tempfile.TemporaryDirectory() as folder:
        client = nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3")
        kernel = client.create_kernel_manager()
        kernel.transport, kernel.ip = "ipc", f"{folder}/kernel"  # sockets that no other user, and no other run, reaches
        client.execute()
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.execution_count = None
            for output in cell.outputs:
                output.pop("execution_count", None)
                output.get("data", {}).pop("text/html", None)
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return _there(nbformat.writes(notebook, indent=1)) + "\n"  # type: ignore[no-untyped-call]


def without_pictures(text: str) -> str:
    """The notebook with each picture as a word: other versions of matplotlib draw other bytes."""
    return re.sub(r'"image/png": "[^"]*"', '"image/png": "a picture"', text)


def _shown(day: date) -> date:
    """The day here that the page calls `day`."""
    return datetime.now(UTC).date() + (day - _TODAY)


def _days() -> list[tuple[str, str]]:
    shown = [_TODAY - timedelta(days=back) for back in range(_DAYS_BETWEEN + 1)]
    return [(day.isoformat(), _shown(day).isoformat()) for day in shown]


def _here(text: str) -> str:
    """Days of the page as days of now."""
    return _replaced(text, dict(_days()))


def _there(text: str) -> str:
    return _replaced(text, {here: there for there, here in _days()})


def _replaced(text: str, days: dict[str, str]) -> str:
    return re.sub("|".join(days), lambda found: days[found[0]], text)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Any:  # noqa: ANN401  a context manager
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.reading", description=__doc__)
    parser.add_argument("--write", action="store_true", required=True, help="renew the outputs")
    parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        PostgresServer(Path(folder) / "postgres", databases=("stocks",)) as server,
    ):
        database = Database(server.url("stocks"), server, "stocks")
        environment = load_editions(database, Path(folder) / "batch")
        PAGE.write_text(made_page(PAGE.read_text(encoding="utf-8"), environment), encoding="utf-8")
        NOTEBOOK.write_text(made_notebook(NOTEBOOK.read_text(encoding="utf-8"), environment), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
