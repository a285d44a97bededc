"""A server that speaks as much of PostgreSQL's protocol as it takes to refuse a connection, in any language."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SSL_REQUEST, _GSS_REQUEST = 80877103, 80877104


def refusal(message: str, *, sqlstate: str, severity: str = "FATAL", encoding: str = "utf-8") -> bytes:
    """An ErrorResponse, which a server sends instead of asking for a password."""
    fields = {"S": severity, "V": "FATAL", "C": sqlstate, "M": message}
    body = b"".join(name.encode() + text.encode(encoding) + b"\0" for name, text in fields.items()) + b"\0"
    return b"E" + struct.pack("!I", len(body) + 4) + body


@contextmanager
def stub_database(answer: bytes, *, speaks_postgres: bool = True) -> Iterator[int]:
    """Answers every connection with these bytes, then closes it. Yields its port.

    It lets TLS be asked for and declines; one that does not speak PostgreSQL answers to whatever comes first.
    """
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client, contextlib.suppress(OSError):
                    client.settimeout(5)
                    while (first := client.recv(4096)) and speaks_postgres:
                        if len(first) != 8 or struct.unpack("!II", first)[1] not in (_SSL_REQUEST, _GSS_REQUEST):
                            break
                        client.sendall(b"N")
                    if first:
                        client.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
