"""The checker of histories finds what is wrong in histories that were made wrong on purpose, and nothing else."""

from __future__ import annotations

import json
from collections import Counter

from tests.proof.histories.checker import Verdict, check

OLD, NEW = {"a": "old", "b": "old"}, {"a": "new", "b": "new"}


class Story:
    """Makes a history line by line."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.count = 0

    def begin(self, who: str, does: str) -> int:
        self.count += 1
        self.lines.append(json.dumps({"op": self.count, "who": who, "does": does}))
        return self.count

    def end(self, op: int, **facts: object) -> None:
        self.lines.append(json.dumps({"op": op, **facts}))

    def load(self, number: int, batch: dict[str, str]) -> None:
        self.commit(self.begin("loader", "load"), number, batch)

    def commit(self, op: int, number: int, batch: dict[str, str]) -> None:
        self.end(op, number=number, batch={name: {"rows": rows, "span": "1"} for name, rows in batch.items()})

    def undo(self, number: int, *, undid: int) -> None:
        self.end(self.begin("loader", "undo"), number=number, undid=undid)

    def saw(self, op: int, *seen: dict[str, str], as_of: int | None = None) -> None:
        asked = {} if as_of is None else {"as_of": as_of}
        self.end(op, saw=[{"kind": "rows", "companies": companies, **asked} for companies in seen])

    def read(self, *seen: dict[str, str], who: str = "reader", as_of: int | None = None) -> None:
        self.saw(self.begin(who, "table"), *seen, as_of=as_of)

    @property
    def verdict(self) -> Verdict:
        return check(self.lines)


def two_loads() -> Story:
    story = Story()
    story.load(1, OLD)
    story.load(2, NEW)
    return story


def test_reads_of_the_batch_before_and_behind_each_load_are_right() -> None:
    story = Story()
    story.read({})
    story.load(1, OLD)
    story.read(OLD)
    story.load(2, NEW)
    story.read(NEW)
    assert story.verdict == Verdict(Counter(table=3), Counter(load=2), Counter(), 2, ())


def test_read_during_a_load_may_see_either_batch() -> None:
    for seen in (OLD, NEW):
        story = Story()
        story.load(1, OLD)
        load, read = story.begin("loader", "load"), story.begin("reader", "table")
        story.saw(read, seen)
        story.commit(load, 2, NEW)
        assert story.verdict.anomalies == ()
        assert story.verdict.began_during == Counter(load=1, any=1)


def test_read_of_half_a_batch_is_found_and_named() -> None:
    story = two_loads()
    story.read({"a": "new", "b": "old"})
    assert story.verdict.anomalies == ("operation 3, table by reader saw no committed batch: batch 2 but for b",)


def test_read_that_lacks_a_company_is_found() -> None:
    story = two_loads()
    story.read({"a": "new"})
    assert story.verdict.anomalies == ("operation 3, table by reader saw no committed batch: batch 2 but for b",)


def test_read_of_a_batch_that_was_replaced_before_it_began_is_found() -> None:
    story = two_loads()
    story.read(OLD)
    assert story.verdict.anomalies == (
        "operation 3, table by reader saw batch 1, which was not current while it lasted",
    )


def test_read_of_a_batch_that_was_committed_after_it_had_ended_is_found() -> None:
    story = Story()
    story.load(1, OLD)
    story.read(NEW)
    story.load(2, NEW)
    assert story.verdict.anomalies == (
        "operation 2, table by reader saw batch 2, which was not current while it lasted",
    )


def test_session_that_goes_back_is_found() -> None:
    for other in ("reader", "another reader"):
        story = Story()
        story.load(1, OLD)
        load = story.begin("loader", "load")
        story.read(NEW)
        story.read(OLD, who=other)
        story.commit(load, 2, NEW)
        assert story.verdict.anomalies == (
            f"operation 4, table by {other} saw batch 1, and batch 2 had been seen before it began",
        )


def test_readers_who_overlap_may_see_different_batches() -> None:
    story = Story()
    story.load(1, OLD)
    load, early, late = (story.begin(who, "load" if who == "loader" else "table") for who in ("loader", "r1", "r2"))
    story.saw(late, NEW)
    story.saw(early, OLD)
    story.commit(load, 2, NEW)
    assert story.verdict.anomalies == ()


def test_same_content_in_two_batches_binds_later_reads_to_the_older_one() -> None:
    story = Story()
    story.load(1, OLD)
    load = story.begin("loader", "load")
    story.read(OLD)
    story.commit(load, 2, OLD)
    load = story.begin("loader", "load")
    story.read(OLD)
    story.read(NEW)
    story.commit(load, 3, NEW)
    assert story.verdict.anomalies == ()


def test_two_queries_of_one_transaction_must_see_the_same_batch() -> None:
    story = Story()
    story.load(1, OLD)
    load = story.begin("loader", "load")
    story.read(OLD, NEW)
    story.commit(load, 2, NEW)
    [anomaly] = story.verdict.anomalies
    assert anomaly.endswith("saw no committed batch: batch 1 but for what its queries saw are different batches")


def test_load_that_says_it_committed_nothing_must_not_be_seen() -> None:
    story = Story()
    story.load(1, OLD)
    story.end(story.begin("loader", "refused"), nothing="too many rejected rows")
    story.read(NEW)
    assert len(story.verdict.anomalies) == 1
    assert story.verdict.writes == Counter(load=1, refused=1)


def test_commit_that_nobody_recorded_is_found() -> None:
    story = Story()
    story.load(2, OLD)
    assert story.verdict.anomalies == ("the commits are numbered [2]: one is missing or there twice",)


def test_batch_of_one_loader_leaves_the_companies_of_the_other() -> None:
    story = Story()
    story.load(1, {"a": "old"})
    story.load(2, {"b": "old"})
    story.read(OLD)
    story.read({"b": "old"})
    assert len(story.verdict.anomalies) == 1


def test_commits_count_in_their_own_order_not_in_the_order_of_the_lines() -> None:
    story = Story()
    first, second = story.begin("loader 1", "load"), story.begin("loader 2", "load")
    story.commit(second, 2, NEW)
    story.commit(first, 1, OLD)
    story.read(NEW)
    story.read(OLD)
    assert len(story.verdict.anomalies) == 1


def test_undo_brings_the_batch_before_back() -> None:
    story = two_loads()
    story.undo(3, undid=2)
    story.read(OLD)
    assert story.verdict.anomalies == ()
    story.read(NEW)
    assert len(story.verdict.anomalies) == 1


def test_as_of_gives_the_earlier_batch_and_no_other() -> None:
    story = two_loads()
    story.read(OLD, as_of=1)
    story.read(NEW, as_of=2)
    assert story.verdict.anomalies == ()
    story.read(NEW, as_of=1)
    assert len(story.verdict.anomalies) == 1


def test_as_of_an_undone_load_gives_what_was_before_it() -> None:
    story = two_loads()
    story.undo(3, undid=2)
    story.read(OLD, as_of=2)
    story.undo(4, undid=1)
    story.read({}, as_of=3)
    story.read({}, as_of=1)
    story.load(5, NEW)
    story.read({}, as_of=4)
    story.read(NEW, as_of=5)
    assert story.verdict.anomalies == ()
    story.read(OLD, as_of=1)
    assert len(story.verdict.anomalies) == 1


def test_read_that_failed_and_operation_that_never_ended_are_found() -> None:
    story = Story()
    story.end(story.begin("reader", "table"), failed="canceling statement due to lock timeout")
    story.begin("loader", "load")
    assert story.verdict.anomalies == (
        "operation 2, load by loader, never ended",
        "operation 1, table by reader failed: canceling statement due to lock timeout",
    )
