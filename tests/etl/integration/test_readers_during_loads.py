"""What a reader sees who asks while a load is under way: the batch before or the batch after, never between."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from etl.files.combined_file import CombinedFile
from etl.table.load import _Load
from etl.table.runs import RunRecord
from tests.proof.histories.checker import Verdict, check
from tests.proof.histories.workload import WRITES, History, record
from tests.support.proof import keep

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.database import Database

LOADS = int(os.environ.get("MBD_HISTORY_LOADS", "24"))
SESSIONS = 3
KEEP = "MBD_KEEP_PROOF" in os.environ


def test_each_read_is_one_committed_batch_and_no_reader_goes_back(
    make_files: Callable[[str], Files], database: Database, tmp_path: Path
) -> None:
    history = History(tmp_path / "history.jsonl")
    record(history, database=database, batches=[make_files("one"), make_files("two")], loads=LOADS, sessions=SESSIONS)
    verdict = check(history.path.read_text().splitlines())
    assert verdict.anomalies == (), "\n".join(verdict.anomalies[:10])
    assert verdict.writes.total() == LOADS
    assert database.rows("SELECT count(*) FROM loads") == [(verdict.batches,)]
    writes_nothing = verdict.writes["refused"] + verdict.writes["dry run"]
    assert verdict.batches == LOADS - writes_nothing, "a load has failed that had no reason to"
    assert verdict.reads.total() > LOADS
    if LOADS >= 100:
        assert set(verdict.began_during) == {"any", *WRITES}, "no read fell into one kind of write"
    if KEEP:
        keep("histories", f"make test-histories LOADS={LOADS}", figures_of(verdict))


def figures_of(verdict: Verdict) -> dict[str, int | float | str]:
    by_kind = ", ".join(f"{count:,} {kind}" for kind, count in sorted(verdict.writes.items()))
    return {
        "loads and undos by two loaders at once": verdict.writes.total(),
        "which were": by_kind,
        "batches committed": verdict.batches,
        f"reads by {SESSIONS} sessions": verdict.reads.total(),
        "which were of": ", ".join(f"{count:,} {kind}" for kind, count in sorted(verdict.reads.items())),
        "reads that began while a load or an undo was under way": verdict.began_during["any"],
        "of these: an undo": verdict.began_during["undo"],
        "reads that were no committed batch, were not current, or went back": len(verdict.anomalies),
    }


def test_load_that_commits_rows_before_its_ledger_is_found(
    make_files: Callable[[str], Files], database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = History(tmp_path / "history.jsonl")

    commit = _Load.commit

    def commit_before(load: _Load, record: RunRecord, *, combined: CombinedFile) -> None:
        load.cursor.connection.commit()
        history.wait_for_reads(10 * SESSIONS)
        commit(load, record, combined=combined)

    monkeypatch.setattr(_Load, "commit", commit_before)
    record(history, database=database, batches=[make_files("one")], loads=3, sessions=SESSIONS)
    anomalies = check(history.path.read_text().splitlines()).anomalies
    assert any("transaction" in anomaly and "saw no committed batch" in anomaly for anomaly in anomalies)


@pytest.mark.parametrize("reload", [False, True])
def test_reader_of_prices_table_and_ledger_sees_one_batch_while_a_copy_stands_still(
    three: Files, database: Database, days: Callable[..., list[str]], reload: bool
) -> None:
    three.load(database)
    three.put("cc.us.csv", days(20, price=31)[2:])
    before = database.table(), database.ledger(), database.states()
    with ThreadPoolExecutor(1) as pool:
        with database.copy_stopped_at("2001-01-12") as stopped:
            loading = pool.submit(three.load, database, reload=reload)
            stopped()
            assert (database.table(), database.ledger(), database.states()) == before
            assert len(database.rows("SELECT * FROM stock_prices")) == 35
        receipt = loading.result(10)
    assert database.count() == 33
    assert receipt.rows.unchanged == 15


def test_snapshot_of_a_reader_outlives_the_load(three: Files, database: Database) -> None:
    three.load(database)
    reader = database.session()
    reader.set_session(isolation_level="REPEATABLE READ", readonly=True)
    with reader.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM historical_stocks_data")
        three.name("aa.us.csv")
        three.load(database, reload=True)
        cursor.execute("SELECT * FROM historical_stocks_data ORDER BY company_name, stock_date")
        assert len(cursor.fetchall()) == 35
    reader.close()
