"""Serves HTTP on 127.0.0.1 in threads of the tests' own process: what stubs and proxies of tests are built on."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


class LocalServer:
    """Listens at `url` while its `with` block lasts. `faults`: of a test's hooks; the first is raised at its end."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self.faults: list[BaseException] = []
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.place = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.place}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        if self.faults:
            raise self.faults[0]


class _Server(ThreadingHTTPServer):
    daemon_threads = True  # one waits on each idle connection of a client
    request_queue_size = 64
