"""Handlers of signals around calls of psycopg2: late, but never lost."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from etl.signals import defer_signals, end_on_signals


class ToldToEnd(Exception):
    """What the handler of these tests raises."""


@pytest.fixture(autouse=True)
def heard() -> Iterator[list[int]]:
    """The signals whose handler was called, which then raises."""
    calls: list[int] = []

    def end(number: int, _frame: object) -> None:
        calls.append(number)
        raise ToldToEnd

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGALRM)}
    for number in before:
        signal.signal(number, end)
    yield calls
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGALRM])
def test_handler_of_a_signal_within_the_block_is_called_when_it_is_left(heard: list[int], sent: signal.Signals) -> None:
    reached = False
    with pytest.raises(ToldToEnd), defer_signals():  # noqa: PT012  the block is what is tested
        signal.raise_signal(sent)
        reached = heard == []
    assert (reached, heard) == (True, [sent])


def test_signal_counts_more_than_the_error_that_it_caused(heard: list[int]) -> None:
    with pytest.raises(ToldToEnd), defer_signals():  # noqa: PT012  the block is what is tested
        signal.raise_signal(signal.SIGTERM)
        raise ValueError
    assert heard == [signal.SIGTERM]


def test_handler_is_called_at_once_where_python_works_within_the_block_and_held_again_behind_it(
    heard: list[int],
) -> None:
    with pytest.raises(ToldToEnd), defer_signals() as released:  # noqa: PT012  the block is what is tested
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(ToldToEnd), released():
            pytest.fail("the handler was not called")
        assert heard == [signal.SIGTERM]
        with pytest.raises(ToldToEnd), released():
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGTERM] * 2
    assert heard == [signal.SIGTERM] * 3


def test_handlers_stand_as_before_when_the_block_is_left() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)]
    with defer_signals() as released, released():
        pass
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)] == before


def test_other_threads_hold_nothing_because_no_handler_is_called_in_them(heard: list[int]) -> None:
    def work() -> int:
        with defer_signals() as released, released():
            return 1

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(work).result() == 1
    assert heard == []


def test_sigterm_ends_a_command_with_143_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, end_on_signals():
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 143
    assert capsys.readouterr().err.count("\n") == 1
    assert signal.set_wakeup_fd(-1) == -1
