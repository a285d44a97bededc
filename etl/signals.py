"""Signals: SIGTERM or SIGINT goes in, a command that unwinds comes out, also from within libpq, which hears neither."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from types import FrameType
from typing import Protocol
from weakref import WeakSet

_GRACE_SECONDS = 1.0  # in which whatever does not wait in libpq has ended
_LAST_SECONDS = 10  # after which what is not cleared by then is left to the next run, which clears it


class Line(Protocol):
    """A connection, by its socket's number."""

    def fileno(self) -> int: ...


lines: WeakSet[Line] = WeakSet()
"""The open connections on which a silent server may keep us waiting."""


@contextmanager
def heard_signals() -> Iterator[None]:
    """Within the block SIGTERM ends the process as Ctrl-C does: files are cleared, the transaction is rolled back.

    Python's own handlers run only when libpq returns, which a silent server can prevent for ever. So a thread hears of
    the signal too, and hangs up on the database until the block ends. It ends the process where ten seconds do not do.
    """
    heard, tell = socket.socketpair()
    tell.setblocking(False)
    signal.signal(signal.SIGTERM, _terminate)
    before = signal.set_wakeup_fd(tell.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(heard,), name="signals", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        tell.close()
        watcher.join()
        heard.close()


Released = Callable[[], AbstractContextManager[None]]


@contextmanager
def held_signals() -> Iterator[Released]:
    """Around a call of psycopg2: handlers of signals are called after it, not by the Python that it calls meanwhile.

    There psycopg2 would swallow what they raise, and the command would go on. Yields a context for Python that it calls
    on purpose and that may take long, in which they are called at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield nullcontext  # handlers are called in the main thread only
        return
    held: list[tuple[int, FrameType | None]] = []
    found = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)}
    handlers = {number: handler for number, handler in found.items() if callable(handler)}

    def hold() -> None:
        for number in handlers:
            signal.signal(number, lambda sent, frame: held.append((sent, frame)))

    def release() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        while held:
            sent, frame = held.pop(0)
            handlers[signal.Signals(sent)](sent, frame)

    @contextmanager
    def released() -> Iterator[None]:
        release()
        try:
            yield
        finally:
            hold()

    hold()
    try:
        yield released
    finally:
        release()


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    print(
        "terminated: the table holds the old batch or the new one, whole; run it again when you like", file=sys.stderr
    )
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
    for line in list(lines):
        # One that was closed meanwhile says so by an error of its own library.
        with suppress(Exception), socket.socket(fileno=os.dup(line.fileno())) as own:
            own.shutdown(socket.SHUT_RDWR)
