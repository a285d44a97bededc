"""A story that fails is made as short as it can be, and a clock lets what is due happen while somebody sleeps."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from tests.proof.simulator.clock import Clock
from tests.proof.simulator.simulate import shorten

BEGIN = datetime(2026, 3, 9, tzinfo=UTC)


def test_only_events_that_the_failure_needs_are_left() -> None:
    played: list[int] = []

    def fails(story: Sequence[int]) -> bool:
        played.append(len(story))
        return {3, 58} <= set(story)

    short = shorten(range(100), fails, seconds=60)
    assert short == [3, 58]
    assert len(played) < 60, "halves are left out first"


def test_what_is_due_happens_while_somebody_sleeps_but_not_what_waits_until_nobody_does() -> None:
    clock, seen = Clock(BEGIN), []

    def sleep() -> None:
        clock.sleep(100)
        seen.append("slept")

    clock.after(1, sleep)
    clock.after(50, lambda: seen.append("meanwhile"))
    clock.after(60, lambda: seen.append("alone"), alone=True)
    clock.after(200, lambda: seen.append("later"))
    clock.run(BEGIN + timedelta(seconds=150))
    assert seen == ["meanwhile", "slept", "alone"]
    assert clock.now == BEGIN + timedelta(seconds=150)
