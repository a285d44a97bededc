"""How long a call may wait, by the time that Lambda leaves it."""

import time
from types import SimpleNamespace

import pytest

from trigger.deadline import Deadline


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that only sleeping moves."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(time, "sleep", lambda seconds: setattr(clock, "now", clock.now + seconds))
    return clock


def test_milliseconds_that_lambda_leaves_are_waited_for_but_for_five_seconds() -> None:
    context = SimpleNamespace(get_remaining_time_in_millis=lambda: 60_000)
    assert Deadline.of(context).seconds_left() == 55


def test_outside_of_lambda_a_call_has_a_minute() -> None:
    assert Deadline.of(None).seconds_left() == 60


def test_sleep_that_would_pass_the_deadline_is_refused_at_once(clock: SimpleNamespace) -> None:
    deadline = Deadline.of(SimpleNamespace(get_remaining_time_in_millis=lambda: 20_000))
    assert [deadline.sleep(5.0) for _ in range(4)] == [True, True, False, False]
    assert (clock.now, deadline.seconds_left()) == (1010, 5)


def test_last_calls_have_a_little_of_the_reserve_and_a_part_is_of_the_time_that_is_left(clock: SimpleNamespace) -> None:
    deadline = Deadline.of(SimpleNamespace(get_remaining_time_in_millis=lambda: 20_000))
    assert deadline.for_last_calls().seconds_left() == 19
    clock.now += 5
    assert deadline.part(0.5).seconds_left() == 5
    clock.now += 11
    assert deadline.for_last_calls().seconds_left() == 3
