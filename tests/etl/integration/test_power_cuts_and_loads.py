"""A load after a power cut, from whatever it has left of the outputs: the right table, or the table as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import etl
from etl.audit import undo
from tests.proof.power.forgetful_disk import recorded, restore

if TYPE_CHECKING:
    from tests.support.batch_files import Files
    from tests.support.database import Database


def test_load_and_run_after_a_power_cut_at_any_moment_give_a_whole_batch_and_then_the_right_one(
    three: Files, database: Database, days: Callable[..., list[str]]
) -> None:
    job = three.job(report=False)
    three.load(database, job=job)
    old = database.table()
    three.put("aa.us.csv", days(7, price=10))
    three.put("bb.us.csv", days(10, price=21))
    with recorded(three.output) as recording:
        three.load(database, job=job)
    new, outputs = database.table(), three.outputs()
    loaded: list[str] = []
    for moment, tree in recording.states(lambda name: not name.startswith("work")):
        for is_committed in (False, True):  # PostgreSQL's disk is PostgreSQL's
            if not is_committed:
                undo(database.url, run=etl.Run.begin("undo"))
            before = database.table()
            assert before == (new if is_committed else old)
            restore(three.output, tree)
            try:
                etl.load(job, target=etl.Target(database.url, accept_shrunk=("all",)), run=etl.Run.begin("load"))
            except etl.EtlError:
                assert database.table() == before, moment
            else:
                loaded.append(moment)
                assert database.table() in (old, new), moment
            three.load(database, job=job)
            assert database.table() == new, moment
            assert three.outputs() == outputs, moment
    assert loaded, "no outputs could be loaded"
