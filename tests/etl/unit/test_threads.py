"""Threads of a pool: all there before the first work, refused where they do not fit, and missed when one is gone."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading

import pytest

from etl.threads import Pool, check_room, is_limited
from tests.support.paths import ROOT


def test_threads_of_a_pool_all_run_before_it_is_given_work() -> None:
    before = threading.active_count()
    with Pool(5, name="test") as pool:
        assert threading.active_count() == before + 5
        assert pool.result_of(pool.submit(sum, (1, 2))) == 3
    assert threading.active_count() == before


def test_error_of_the_work_is_raised_as_it_is() -> None:
    def time_out() -> None:
        raise TimeoutError("the work's own")

    with Pool(1, name="test") as pool, pytest.raises(TimeoutError, match="the work's own"):
        pool.result_of(pool.submit(time_out))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_pool_whose_thread_is_gone_does_not_keep_its_owner_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etl.threads._LOOK_SECONDS", 0.01)
    pool = Pool(2, name="test")

    def end_thread(self: object) -> None:
        raise MemoryError  # as where there is no memory for what the pool does around the work

    with monkeypatch.context() as broken:
        broken.setattr("concurrent.futures.thread._WorkItem.run", end_thread)
        waiting = pool.submit(sum, (1, 2))
        with pytest.raises(MemoryError):
            pool.result_of(waiting)
    pool.shutdown(wait=False, cancel_futures=True)


def test_pool_that_gets_not_all_of_its_threads_gives_those_back_that_it_got(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start
    begun: list[threading.Thread] = []

    def start_three(self: threading.Thread) -> None:
        if len(begun) == 3:
            raise RuntimeError("can't start new thread")
        begun.append(self)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", start_three)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        Pool(5, name="test")
    for thread in begun:
        thread.join(10)
    assert not [thread for thread in begun if thread.is_alive()]


@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_room_is_looked_for_before_a_thread_is_started(limit: str) -> None:
    script = (
        "import resource, sys; from etl.threads import check_room, is_limited\n"
        "number = getattr(resource, sys.argv[1]); assert not is_limited(); check_room(100)\n"
        "resource.setrlimit(number, (400 << 20, resource.RLIM_INFINITY)); assert is_limited(); check_room(2)\n"
        "try: check_room(100)\n"
        "except MemoryError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", script, limit], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "no room for 100 threads\n", done.stderr
    assert not is_limited()
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY
    check_room(1)
