"""Ends a command promptly on SIGTERM or Ctrl-C, even while libpq, which hears neither, is blocking."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from types import FrameType
from typing import Protocol
from weakref import WeakSet

from etl.threads import check_room

ENDED = "the table holds the old batch or the new one, whole"
AGAIN = "; run it again when you like"
_GRACE_SECONDS = 1.0  # in which whatever does not wait in libpq has ended
_LAST_SECONDS = 10  # after what is not removed by then is left to the next run


class Connection(Protocol):
    """A database connection, by its socket's number."""

    def fileno(self) -> int: ...


open_connections: WeakSet[Connection] = WeakSet()
"""Those on which a silent server may keep us waiting."""


@contextmanager
def end_on_signals(words: str = ENDED + AGAIN) -> Iterator[None]:
    """Within the block SIGTERM ends the process as Ctrl-C does: files are removed, the transaction is rolled back.

    It is answered with `words`, on stderr.

    Python's own handlers run only when libpq returns, which a silent server can prevent for ever. So a thread notices
    the signal too, and closes the connections until the block ends. After ten seconds it ends the process.
    """
    check_room(1)
    heard, wakeup = socket.socketpair()
    wakeup.setblocking(False)
    signal.signal(signal.SIGTERM, partial(_terminate, words))
    before = signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(heard,), name="signals", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        wakeup.close()
        watcher.join()
        heard.close()


HearSignals = Callable[[], AbstractContextManager[None]]


@contextmanager
def defer_signals() -> Iterator[HearSignals]:
    """Around a call of psycopg2: signals are handled after it, not in the Python code that it calls back.

    There psycopg2 would swallow what the handlers raise, and the command would go on. Yields a context for callbacks
    that may take long, in which signals are handled at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield nullcontext  # handlers are called in the main thread only
        return
    deferred: list[tuple[int, FrameType | None]] = []
    found = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)}
    handlers = {number: handler for number, handler in found.items() if callable(handler)}

    def defer() -> None:
        for number in handlers:
            signal.signal(number, lambda sent, frame: deferred.append((sent, frame)))

    def handle() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        while deferred:
            sent, frame = deferred.pop(0)
            handlers[signal.Signals(sent)](sent, frame)

    @contextmanager
    def hear_signals() -> Iterator[None]:
        handle()
        try:
            yield
        finally:
            defer()

    defer()
    try:
        yield hear_signals
    finally:
        handle()


def _terminate(words: str, _signal: int, _frame: FrameType | None) -> None:
    print(f"terminated: {words}", file=sys.stderr)
    raise SystemExit(143)


def _watch(heard: socket.socket) -> None:
    ending, begun = 0, 0.0
    while True:
        try:
            sent = heard.recv(1)
        except TimeoutError:
            _hang_up()
            if time.monotonic() - begun > _LAST_SECONDS:
                os._exit(128 + ending)
            continue
        if not sent:
            return
        if sent[0] in (signal.SIGTERM, signal.SIGINT):
            ending, begun = sent[0], time.monotonic()
            heard.settimeout(_GRACE_SECONDS)


def _hang_up() -> None:
    for connection in list(open_connections):
        # One that was closed meanwhile says so by an error of its own library.
        with suppress(Exception), socket.socket(fileno=os.dup(connection.fileno())) as own:
            own.shutdown(socket.SHUT_RDWR)
