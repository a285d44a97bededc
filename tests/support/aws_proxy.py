"""A reverse proxy in front of the moto server: it records each AWS call, and a test may answer one instead."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.http_server import LocalServer

_NOT_PASSED_ON = {"connection", "keep-alive", "transfer-encoding", "expect", "content-length"}


@dataclass(frozen=True)
class Call:
    """One call as it was on the wire."""

    method: str
    target: str
    headers: Message = field(repr=False)
    body: bytes

    @property
    def operation(self) -> str:
        """AWS's name for it, such as `GetParameter`; for S3 the method and whether it is about a key: `HEAD key`."""
        if named := self.headers.get("X-Amz-Target"):
            return str(named).rpartition(".")[2]
        if b"Action=" in self.body:
            return parse_qs(self.body.decode())["Action"][0]
        return f"{self.method} {'key' if self.key else 'bucket'}"

    @property
    def parameters(self) -> dict[str, Any]:
        """Of a service that takes JSON or form fields."""
        if self.headers.get("X-Amz-Target"):
            loaded: dict[str, Any] = json.loads(self.body)
            return loaded
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}

    @property
    def key(self) -> str:
        return unquote(urlsplit(self.target).path.removeprefix("/").partition("/")[2])


@dataclass(frozen=True)
class Answer:
    """What AWS would answer. KEEP_WAITING keeps the caller waiting until the test is over."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


KEEP_WAITING = Answer(0, b"")
Script = Callable[[Call], Answer | None]


def refusal(call: Call, code: str, *, status: int = 400, text: str = "as the test wants it") -> Answer:
    """An error in the format of the service that was called."""
    if call.headers.get("X-Amz-Target"):
        return Answer(status, json.dumps({"__type": code, "message": text}).encode(), {"x-amzn-errortype": code})
    error = f"<Error><Code>{code}</Code><Message>{text}</Message></Error>"
    if call.headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
        inside = f"<Errors>{error}</Errors>" if "Instance" in call.operation else error
        return Answer(status, f"<ErrorResponse>{inside}</ErrorResponse>".encode())
    return Answer(status, error.encode())


def refusing(operation: str, code: str, *, status: int = 400, times: int = 1000) -> Script:
    """Answer the next calls of one operation with an error."""
    left = [times]

    def script(call: Call) -> Answer | None:
        if call.operation != operation or not left[0]:
            return None
        left[0] -= 1
        return refusal(call, code, status=status)

    return script


class AwsProxy(LocalServer):
    """Listens during its `with` block; `script` is asked before a call is passed on to moto."""

    def __init__(self, server_url: str) -> None:
        self.calls: list[Call] = []
        self.script: Script = lambda call: None
        self.released = threading.Event()
        super().__init__(_handler(self, urlsplit(server_url).netloc))

    def operations(self) -> list[str]:
        return [call.operation for call in self.calls]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.released.set()
        super().__exit__(kind, error, trace)

    def received(self, call: Call) -> Answer | None:
        self.calls.append(call)
        try:
            return self.script(call)
        except Exception as error:
            self.faults.append(error)
            return refusal(call, "ScriptFailed")


def _handler(proxy: AwsProxy, upstream: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = proxy.received(call := Call(self.command, self.path, self.headers, body))
            if answer is KEEP_WAITING:
                proxy.released.wait(30)
                self.close_connection = True
                return
            self._send(answer or self._upstream(call))

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer

        def _upstream(self, call: Call) -> Answer:
            connection = HTTPConnection(upstream, timeout=30)
            passed = {name: value for name, value in self.headers.items() if name.lower() not in _NOT_PASSED_ON}
            connection.request(call.method, call.target, call.body, passed)
            response = connection.getresponse()
            answer = Answer(response.status, response.read(), dict(response.getheaders()))
            connection.close()
            return answer

        def _send(self, answer: Answer) -> None:
            self.send_response(answer.status)
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in _NOT_PASSED_ON}
            length = answer.headers.get("Content-Length") if self.command == "HEAD" else None
            for name, value in {**kept, "Content-Length": length or str(len(answer.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: `proxy.calls` has it."""

    return Handler
