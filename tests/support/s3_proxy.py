"""A reverse proxy before the moto server: every request is noted as it was on the wire, and a test may answer it."""

from __future__ import annotations

import re
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import Message
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.support.http_server import LocalServer

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect"}
_OPERATIONS = {  # by method, whether there is a key, and the parameter that tells; of those that etl calls
    ("HEAD", False, ""): "HeadBucket",
    ("GET", False, "list-type"): "ListObjectsV2",
    ("GET", False, "uploads"): "ListMultipartUploads",
    ("GET", True, ""): "GetObject",
    ("PUT", True, ""): "PutObject",
    ("PUT", True, "partNumber"): "UploadPart",
    ("POST", True, "uploads"): "CreateMultipartUpload",
    ("POST", True, "uploadId"): "CompleteMultipartUpload",
    ("DELETE", True, "uploadId"): "AbortMultipartUpload",
}


@dataclass(frozen=True)
class Request:
    """One request as its client sent it; `key` is empty for one of the bucket."""

    method: str
    target: str
    headers: Message = field(repr=False)

    @property
    def key(self) -> str:
        return unquote(urlsplit(self.target).path.removeprefix("/").partition("/")[2])

    @property
    def operation(self) -> str:
        """What AWS calls it."""
        parameters = parse_qs(urlsplit(self.target).query, keep_blank_values=True)
        told = next((name for name in ("list-type", "partNumber", "uploads", "uploadId") if name in parameters), "")
        return _OPERATIONS.get((self.method, bool(self.key), told), "")

    @property
    def range(self) -> str:
        return self.headers.get("Range", "")

    @property
    def if_match(self) -> str:
        return self.headers.get("If-Match", "")

    @property
    def token(self) -> str:
        return self.headers.get("x-amz-security-token", "")

    @property
    def signed_by(self) -> tuple[str, str]:
        """The access key and the region that the signature names."""
        found = re.search(r"Credential=([^/]+)/\d{8}/([^/]+)/s3/aws4_request", self.headers.get("Authorization", ""))
        return (found[1], found[2]) if found else ("", "")

    @property
    def client(self) -> str:
        """The program that sent it: `object_store` or `Boto3`."""
        return self.headers.get("User-Agent", "").partition("/")[0]


@dataclass(frozen=True)
class Refusal:
    """An answer of S3 that is an error."""

    status: int
    code: str
    sentence: str = "said the test"


@dataclass(frozen=True)
class Cut:
    """The bucket's answer, its body broken off in the middle."""


@dataclass(frozen=True)
class HangUp:
    """No answer: the connection is reset when the request is there, and nothing of it is passed on."""


Hook = Callable[[Request], Refusal | Cut | HangUp | None]


class S3Proxy(LocalServer):
    """Listens while its `with` block lasts; `hook` is called before a request is passed on."""

    def __init__(self, server_url: str) -> None:
        self.requests: list[Request] = []
        self.hook: Hook = lambda request: None
        self.most_gets_at_once = 0
        """The most GETs of objects that were under way at one time, hook and bucket waited for."""
        self._gets_now, self._lock = 0, threading.Lock()
        super().__init__(_handler(self, urlsplit(server_url).netloc))

    def gets(self, prefix: str = "") -> list[Request]:
        """The GETs of objects under `prefix`, in the order in which they came."""
        return [
            request for request in self.requests if request.operation == "GetObject" and request.key.startswith(prefix)
        ]

    def hold_from(self, number: int) -> tuple[threading.Event, threading.Event]:
        """Stop the request of this number, and all after it: an event that it came, and one that lets them go on."""
        self.requests.clear()
        reached, released = threading.Event(), threading.Event()

        def hold(_: Request) -> None:
            if len(self.requests) >= number:
                reached.set()
                released.wait(60)

        self.hook = hold
        return reached, released

    def received(self, request: Request) -> Refusal | Cut | HangUp | None:
        """What the hook wants done with a request; its own failure is kept for the end of the `with` block."""
        with self._lock:
            self.requests.append(request)
            if request.operation == "GetObject":
                self._gets_now += 1
                self.most_gets_at_once = max(self.most_gets_at_once, self._gets_now)
        try:
            return self.hook(request)
        except Exception as error:
            self.faults.append(error)
            return Refusal(400, "HookFailed")

    def ready(self, request: Request) -> None:
        """Called when an answer is there, before any of it is sent: its client may ask the next from then on."""
        with self._lock:
            self._gets_now -= request.operation == "GetObject"


def _handler(proxy: S3Proxy, upstream: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = Request(self.command, self.path, self.headers)
            wanted = proxy.received(request)
            if isinstance(wanted, HangUp):
                proxy.ready(request)
                self.close_connection = True
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                return
            if isinstance(wanted, Refusal):
                text = f"<Error><Code>{wanted.code}</Code><Message>{wanted.sentence}</Message></Error>".encode()
                status, headers, content = wanted.status, [("Content-Type", "application/xml")], text
                length = str(len(text))
            else:
                status, headers, content, length = self._ask(body)
            proxy.ready(request)
            self.send_response_only(status)
            for name, value in headers:
                self.send_header(name, value)
            if length:
                self.send_header("Content-Length", length)
            self.end_headers()
            if isinstance(wanted, Cut):
                self.close_connection = True
                content = content[: len(content) // 2]
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on

        def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes, str]:
            """Status, headers, body and length of the bucket's answer to this request."""
            connection = HTTPConnection(upstream, timeout=30)
            try:
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in _end_to_end(self.headers):
                    connection.putheader(name, value)
                connection.endheaders(body)
                answer = connection.getresponse()
                content = answer.read()
            finally:
                connection.close()
            headers = [(name, value) for name, value in _end_to_end(answer.msg) if name.lower() != "content-length"]
            whole = self.command == "HEAD" or answer.status in {204, 304}
            length = answer.headers.get("Content-Length", "") if whole else str(len(content))
            return answer.status, headers, content, length

        def log_message(self, format: str, *args: Any) -> None:  # noqa: ANN401  as the base class has it
            """Print nothing."""

    return Handler


def _end_to_end(headers: Message) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP]
