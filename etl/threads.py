"""Starts threads, all of a pool at once and after a look at the memory, and notices when one of them is gone.

Where memory is short, a new thread of Python may end before it says that it has begun, and a thread of a pool may end
without a word; who waits for it would wait for ever.
"""

from __future__ import annotations

import mmap
import resource
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_T = TypeVar("_T")
_STACK_BYTES = 8 << 20  # of a thread, unless RLIMIT_STACK says otherwise
_BESIDES_BYTES = 24 << 20  # with less than that, the work itself would find none
_LOOK_SECONDS = 1.0  # between two looks at whether the threads of a pool still run


class Pool(ThreadPoolExecutor):
    """A pool whose threads all run before it is given work.

    Raises MemoryError or RuntimeError where memory or threads are short.
    """

    def __init__(self, threads: int, *, name: str) -> None:
        check_room(threads)
        super().__init__(threads, thread_name_prefix=name)
        all_run = threading.Barrier(threads)

        def begin() -> threading.Thread:
            all_run.wait()
            return threading.current_thread()

        try:
            begun = [self.submit(begin) for _ in range(threads)]
            self._running = [one.result() for one in begun]
        except BaseException:
            all_run.abort()
            self.shutdown(wait=False, cancel_futures=True)
            raise

    def result_of(self, future: Future[_T]) -> _T:
        """What the work gave or raised. Raises MemoryError where the thread that did it is gone."""
        while True:
            try:
                return future.result(timeout=_LOOK_SECONDS)
            except TimeoutError:
                if future.done():  # it is the work's own
                    return future.result()
                if not all(thread.is_alive() for thread in self._running):
                    raise MemoryError("a thread has ended") from None


def check_room(threads: int) -> None:
    """Raise MemoryError where there is no room for so many threads more. Takes no memory."""
    stack, _ = resource.getrlimit(resource.RLIMIT_STACK)
    stack_bytes = _STACK_BYTES if stack == resource.RLIM_INFINITY else stack
    try:
        room = mmap.mmap(-1, threads * stack_bytes + _BESIDES_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"no room for {threads} threads") from error
    room.close()


def is_limited() -> bool:
    """Whether a limit on this process's own memory is set, with which a library that is not Python's may abort it."""
    limits = (resource.RLIMIT_AS, resource.RLIMIT_DATA)
    return any(resource.getrlimit(limit)[0] != resource.RLIM_INFINITY for limit in limits)
