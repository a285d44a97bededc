"""`python -m etl run`, `process` and `load` killed at any step: the next run gives the same table and files."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import etl
from tests.support import steps
from tests.support.cli_process import arguments
from tests.support.figures import check_ledger

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.database import Database
    from tests.support.figures import Figures

KILLS = int(os.environ.get("MBD_KILLS", "3"))  # of each command; CI has more, and MBD_KILLS=1000 is each step once
FILES = {"truncate", "write", "flush", "fsync", "replace"}
STATEMENTS = {"execute", "copy_expert", "block", "commit"}
STEPS = {"run": FILES | STATEMENTS | {"mkdir"}, "process": FILES | {"mkdir"}, "load": FILES | STATEMENTS}
"""What a command does at least; or else the kills would miss it."""


@dataclass(frozen=True)
class Change:
    """A batch that follows an old one, and what the two leave in the table and in the outputs."""

    database: Database
    new: Files
    kept: Path
    """Folders `old` and `new`: copies of the outputs."""
    tables: tuple[list[Any], list[Any]]
    files: tuple[dict[str, Any], dict[str, Any]]

    def begin(self, command: str) -> None:
        """The table is that of the old batch; the outputs too, or for a load those that it is to load."""
        self.database.execute("TRUNCATE historical_stocks_data, loaded_companies, pipeline_runs")
        self._put(self.kept / "old")
        etl.load(self.new.job(), target=etl.Target(self.database.url), run=etl.Run.begin("old"))
        self._put(self.kept / ("new" if command == "load" else "old"))

    def _put(self, outputs: Path) -> None:
        shutil.rmtree(self.new.output)
        shutil.copytree(outputs, self.new.output)


@pytest.fixture
def change(sample: Files, make_files: Callable[[str], Files], database: Database) -> Change:
    """Of the sample 12 companies, of which the old batch has 9: one without its end, one without its beginning."""
    old = make_files("old")
    names = sorted(path.name for path in sample.source.iterdir() if 0 < path.stat().st_size < 200_000)[:12]
    sample.name(*names, "bxg.us.csv")  # which is empty
    old.name(*names[:9])
    for number, name in enumerate(names[:9]):
        header, *rows = (sample.source / name).read_bytes().splitlines(keepends=True)
        (old.source / name).write_bytes(header + b"".join({2: rows[:-9], 5: rows[9:]}.get(number, rows)))
    tables, files = [], []
    kept_outputs = sample.root / "kept"
    for name, batch in (("old", old), ("new", sample)):
        batch.load(database, job=batch.job(output=str(sample.output)))
        shutil.copytree(sample.output, kept_outputs / name)
        tables.append(database.table())
        files.append(outputs_of(sample))
    return Change(database, sample, kept_outputs, (tables[0], tables[1]), (files[0], files[1]))


@pytest.mark.parametrize("command", STEPS)
def test_run_after_a_kill_at_any_moment_gives_the_same_table_and_file(
    change: Change, figures: Figures, tmp_path: Path, command: str
) -> None:
    new, database, log = change.new, change.database, tmp_path / "steps"
    program, environment = ["etl", *arguments(command, files=new)], {"MBD_DATABASE_URL": database.url}
    change.begin(command)
    child = steps.start(*program, log=log, environment=environment)
    _, said = child.communicate(timeout=120)
    assert child.returncode == 0, said
    taken = steps.steps(log)
    assert set(taken) >= STEPS[command]
    for at in steps.chosen(taken, KILLS, seed=command):
        change.begin(command)
        child = steps.start(*program, log=log, environment=environment, at=at)
        _, said = child.communicate(timeout=120)
        moment = f"killed before step {at} of {len(taken)}: {steps.steps(log)[-3:]}"
        assert child.returncode == -signal.SIGKILL, f"{moment}: {said}"
        assert database.table() in change.tables, f"{moment}: half a batch is visible"
        check_ledger(database)
        expect_whole(outputs_of(new), change.files, moment=moment)
        new.load(database)
        assert outputs_of(new) == change.files[1], moment
        figures.check_truth(new, database)
        assert database.table() == change.tables[1], moment
        assert {path.name for path in new.output.iterdir() if path.is_dir()} == {"receipts", "reports"}, moment
        # The receipt of the killed run itself, half written, has a name that no later run writes again.
        assert [path for path in new.output.rglob("*.partial") if path.parent.name != "receipts"] == [], moment
        figures.counts["commands_killed"] += 1


def outputs_of(files: Files) -> dict[str, Any]:
    """The outputs by name; of the manifest its facts, less when the other outputs were written."""
    found: dict[str, Any] = {name: one for name, one in files.outputs().items() if not name.endswith(".partial")}
    facts = json.loads(found["manifest.json"])
    found["manifest.json"] = {key: fact for key, fact in facts.items() if not key.endswith("_version")}
    return found


def expect_whole(found: dict[str, Any], known: tuple[dict[str, Any], dict[str, Any]], *, moment: str) -> None:
    """Each output is whole, the old or the new one; and the manifest is the new one only where the others are."""
    assert all(content in (known[0][name], known[1][name]) for name, content in found.items()), moment
    if found["manifest.json"] == known[1]["manifest.json"]:
        assert found == known[1], moment
