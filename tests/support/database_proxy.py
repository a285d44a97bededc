"""A proxy before PostgreSQL: connections pass through it until one reaches the byte at which a fault strikes it."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

_COMMIT = b"Q" + struct.pack("!I", 11) + b"COMMIT\0"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Fault:
    """What happens to a connection, once so many bytes were passed on in one direction: no byte goes any further."""

    how: Literal["cut", "reset", "stall"]
    to_server: bool
    at_byte: int | None = None
    """None: COMMIT itself when it goes to the server, the answer to COMMIT when it comes from there."""


class DatabaseProxy:
    """Listens while its `with` block lasts; the first `times` connections that come so far are struck by `fault`."""

    def __init__(self, server_port: int, fault: Fault | None = None, *, times: int = 1) -> None:
        self.server_port, self.fault, self.times_left = server_port, fault, times
        self.most_passed = {True: 0, False: 0}
        """The most bytes that one connection had passed on, to the server (True) and from it (False)."""
        self.struck = threading.Event()
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for one in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._listener.close()

    def url(self, url: str, port: int) -> str:
        """The database at `url`, whose server listens on `port`, seen through this proxy."""
        return url.replace(f":{port}/", f":{self.port}/")

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self.server_port))
                except OSError:
                    client.close()
                    continue
                self._sockets += [client, server]
                self._start(self._serve, client, server)

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        with client, server, contextlib.suppress(OSError):
            self._pass_on(client, server)

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        passed = {True: 0, False: 0}
        is_committing = False
        while True:
            for origin in select.select([client, server], [], [])[0]:
                to_server = origin is client
                goal = server if to_server else client
                block = origin.recv(1 << 16)
                if not block:
                    return
                reached = self._reached(block, to_server=to_server, passed=passed[to_server], after=is_committing)
                if reached is not None:
                    goal.sendall(block[:reached])
                    self.times_left -= 1
                    self.struck.set()
                    self._strike(client, server)
                    return
                is_committing = to_server and block.endswith(_COMMIT)
                goal.sendall(block)
                passed[to_server] += len(block)
                self.most_passed[to_server] = max(self.most_passed[to_server], passed[to_server])

    def _reached(self, block: bytes, *, to_server: bool, passed: int, after: bool) -> int | None:
        """How much of this block still passes, when it is the one at which the fault strikes."""
        fault = self.fault
        if fault is None or not self.times_left or to_server is not fault.to_server:
            return None
        if fault.at_byte is not None:
            left = fault.at_byte - passed
            return left if left < len(block) else None
        return 0 if (block.endswith(_COMMIT) if to_server else after) else None

    def _strike(self, client: socket.socket, server: socket.socket) -> None:
        assert self.fault
        if self.fault.how == "reset":
            for one in (client, server):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        elif self.fault.how == "stall":
            self._over.wait()
