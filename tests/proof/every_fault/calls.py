"""Counts what a process asks of the outside, and lets the calls that it is given meet a fault.

A call is one thing that others could see or refuse: a file that is opened, read, written, renamed or removed, a
request to S3 or SNS, a connection, a statement, a block of a COPY, a commit. Its name is the same in every run: what it
does, to what, and a number where it is done again. So a fault strikes the same call whatever other threads do, and no
clock is asked. Long because every way out of a process is here.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import botocore.httpsession
import obstore
import psycopg2
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError
from psycopg2 import extensions

from etl.batch import s3, s3_upload
from etl.table import connection as database_connection
from etl.table.database import QUERIES
from tests.support.s3_proxy import Request

KINDS = {
    "error": "refused: an error is answered, and nothing is done",
    "lost": "done, but the answer is lost, however often the client asks again; of a write, half is done",
    "repeated": "done, but the answer is lost once: the client asks again",
    "silent": "not done, and nothing is heard until the client's own limit; a database's session stays, with its locks",
    "killed": "SIGKILL just before the call",
}
LOOK, CHANGE = ("error",), ("error", "lost", "killed")
STATEMENT, CONNECT = ("error", "lost", "silent", "killed"), ("error", "lost", "silent")
BLOCK, ROLLBACK = ("error", "killed"), ("lost", "killed")
S3_LOOK, S3_CHANGE = ("error", "repeated", "silent"), ("error", "lost", "repeated", "silent", "killed")

_REFUSED = (
    "DO $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$"
)
_NAMES = {text: name for name, text in QUERIES.items()}
_LOOKS = ("stat", "lstat", "fstat", "scandir", "listdir", "fsync", "fdatasync")
_CHANGES = ("mkdir", "rmdir", "unlink", "remove", "replace", "rename", "truncate", "link", "symlink")
_NO_SPACE = {"write", "open", "mkdir", "truncate"}
FILE_CALLS = ("open", "read", "write", "close", "flock", *_LOOKS, *_CHANGES)
S3_CALLS = (
    "ListObjectsV2", "GetObject", "GetObject by obstore", "ListMultipartUploads", "PutObject", "CreateMultipartUpload",
    "UploadPart", "UploadPartCopy", "CompleteMultipartUpload", "AbortMultipartUpload", "DeleteObjects",
)  # fmt: skip
SQL_CALLS = ("connect", "commit", "rollback", "block", "execute", "copy")
SNS_CALLS = ("Publish",)


@dataclass
class Calls:
    """The calls of one process; `faults`: by the name of a call, the kind of fault that it meets."""

    step: str
    """What this process does; the names of its calls begin with it."""
    root: str
    """The folder of the batch: files elsewhere are not counted."""
    log: Path
    faults: Mapping[str, str] = field(default_factory=dict)
    run_id: str = ""

    def __post_init__(self) -> None:
        self._seen, self._lock = Counter[str](), threading.Lock()
        self._write, self._kill = os.write, os.kill
        self._lines = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._stuck: dict[str, str] = {}  # requests that meet the same fault however often the client asks again
        self._paths: dict[int, str] = {}  # of open files and folders, by number
        self._kept: list[int] = []  # sockets of sessions that fell silent: open while this process lives
        self._inside = threading.local()  # whether this thread is in a call that was counted

    def reach(self, name: str, kinds: Collection[str]) -> str:
        """Note a call that is about to be made, and give the kind of fault that it meets, if any."""
        thread = threading.current_thread().name
        with self._lock:
            self._seen[name] += 1
            number = self._seen[name]
            identity = f"{self.step}: {name}" + (f" #{number}" if number > 1 else "")
            kind = self.faults.get(identity, "")
            self._note({"call": identity, "kinds": list(kinds), "thread": "" if thread == "MainThread" else thread})
            if kind:
                self._note({"struck": identity})
        if kind == "killed":
            self._kill(os.getpid(), signal.SIGKILL)
        return kind

    def end(self) -> None:
        """Note that the work is done: a process may be killed behind its last call too."""
        self.reach("end", ("killed",))

    def _note(self, facts: Mapping[str, Any]) -> None:
        self._write(self._lines, json.dumps(facts).encode() + b"\n")

    # --- files -----------------------------------------------------------------------------------------------------

    def _name_of(self, path: Any, dir_fd: int | None = None) -> str:  # noqa: ANN401  whatever names a file
        """A path below the root, without what differs from run to run; empty for any other."""
        if isinstance(path, int):
            return self._paths.get(path, "")
        text = os.fsdecode(path)
        if dir_fd is not None and dir_fd in self._paths:
            return f"{self._paths[dir_fd]}/{self._same_everywhere(text)}"
        if not os.path.isabs(text):
            return ""
        if text != self.root and not text.startswith(self.root + "/"):
            return ""
        return self._same_everywhere(text[len(self.root) + 1 :] or ".")

    def _same_everywhere(self, text: str) -> str:
        if self.run_id:
            text = re.sub(r"marker_run\d+_x", "EARLIER", text.replace(self.run_id, "RUN"))
        return re.sub(r"((?:^|/)\d+-)[0-9a-f]{8}\b", r"\1SHARD", text)

    def _file(self, what: str, name: str, act: Callable[[], Any], *, kinds: Collection[str]) -> Any:  # noqa: ANN401
        kind = self.reach(f"{what} {name}", kinds)
        if kind == "error":
            number = 28 if what.partition(" ")[0] in _NO_SPACE and len(kinds) > 1 else 5  # ENOSPC, EIO
            raise OSError(number, os.strerror(number), name)
        before, self._inside.counted = getattr(self._inside, "counted", False), True
        try:
            done = act()
        finally:
            self._inside.counted = before
        if kind == "lost":
            raise OSError(5, os.strerror(5), name)
        return done

    def hook_files(self) -> None:
        """Count what Python code does to files, by any of its functions."""
        for what in _LOOKS:
            setattr(os, what, self._hooked(what, getattr(os, what), LOOK))
        for what in _CHANGES:
            setattr(os, what, self._hooked(what, getattr(os, what), CHANGE))
        opened, fd_opened, flock, closed = io.open, os.open, fcntl.flock, os.close

        def open_file(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
            name = self._name_of(file)
            if not name or isinstance(file, int):
                return opened(file, mode, *arguments, **options)
            assert "b" in mode, "the product writes bytes"
            kinds = CHANGE if set(mode) & set("wax+") else LOOK

            def act() -> io.FileIO:
                return _CountedFile(os.fspath(file), mode.replace("b", ""), self, name)

            raw = self._file(f"open {mode.replace('b', '')}", name, act, kinds=kinds)
            if "+" in mode:
                return io.BufferedRandom(raw)
            return io.BufferedReader(raw) if mode.startswith("r") else io.BufferedWriter(raw)

        def open_number(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:  # noqa: ANN401
            name = self._name_of(path, dir_fd)
            if not name:
                return fd_opened(path, flags, mode, dir_fd=dir_fd)
            kinds = CHANGE if flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR) else LOOK
            number: int = self._file("open", name, lambda: fd_opened(path, flags, mode, dir_fd=dir_fd), kinds=kinds)
            self._paths[number] = name
            return number

        def lock(file: Any, operation: int) -> None:  # noqa: ANN401
            number = file if isinstance(file, int) else file.fileno()
            name = self._paths.get(number, "")
            if not name:
                return flock(file, operation)
            self._file("flock", name, lambda: flock(number, operation), kinds=LOOK)
            return None

        def close(number: int) -> None:
            self._paths.pop(number, None)
            closed(number)

        io.open = open_file
        os.open, os.close, fcntl.flock = open_number, close, lock  # type: ignore[assignment]

    def _hooked(self, what: str, real: Callable[..., Any], kinds: Collection[str]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
            directory = options.get("dir_fd", options.get("src_dir_fd"))
            name = self._name_of(arguments[0], directory) if arguments else ""
            if not name:
                return real(*arguments, **options)
            return self._file(what, name, lambda: real(*arguments, **options), kinds=kinds)

        return call

    def watch_files(self) -> None:
        """Note each change below the root that CPython itself sees and nothing above has counted."""

        def see(event: str, arguments: tuple[Any, ...]) -> None:
            if event not in _SEEN_BY_PYTHON or getattr(self._inside, "counted", False):
                return
            if self._name_of(arguments[0]) if isinstance(arguments[0], str | bytes | os.PathLike) else "":
                self._note({"escaped": f"{event} {self._name_of(arguments[0])}"})

        sys.addaudithook(see)

    # --- PostgreSQL ------------------------------------------------------------------------------------------------

    def hook_database(self, *, closed_port: int) -> None:
        """Count connections, statements, blocks of a COPY, commits and rollbacks of psycopg2."""
        connect = psycopg2.connect

        def connect_counted(
            dsn: str,
            *,
            connection_factory: Any = None,  # noqa: ANN401
            cursor_factory: Any = None,  # noqa: ANN401
            **options: Any,  # noqa: ANN401
        ) -> Any:  # noqa: ANN401
            if connection_factory is None:  # the question after a refusal
                return connect(dsn, **options)
            kind = self.reach("connect to the database", CONNECT)
            if kind == "error":
                dsn = extensions.make_dsn(dsn, port=closed_port)
            if kind == "silent":
                raise psycopg2.OperationalError("connection to server failed: timeout expired")
            made = connect(
                dsn,
                connection_factory=_connection_class(connection_factory, self),
                cursor_factory=_cursor_class(cursor_factory, self),
                **options,
            )
            if kind == "lost":
                made.close()
                raise psycopg2.OperationalError("server closed the connection unexpectedly")
            return made

        psycopg2.connect = connect_counted  # type: ignore[assignment]

    def statement(self, connection: Any, name: str, act: Callable[[], None], kinds: Collection[str]) -> None:  # noqa: ANN401
        """Do a statement, unless it meets a fault: then libpq's own error comes of it."""
        kind = self.reach(name, kinds)
        if not kind:
            act()
            return
        plain = extensions.cursor(connection)
        if kind == "error":
            plain.execute(_REFUSED)
        if kind == "lost":
            act()
            cut(connection)
        if kind == "silent":
            self._kept.append(_mute(connection))
        plain.execute("SELECT 1")

    # --- AWS -------------------------------------------------------------------------------------------------------

    def hook_aws(self) -> None:
        """Count what botocore sends, attempt by attempt, and what obstore reads."""
        send, get = botocore.httpsession.URLLib3Session.send, obstore.get

        def send_counted(session: Any, request: Any) -> Any:  # noqa: ANN401
            name, kinds = self._request(request)
            is_again = "attempt=1;" not in f"{_text(request.headers.get('amz-sdk-request', 'attempt=1'))};"
            kind = self._stuck.get(name, "") if is_again else ""
            if not kind:
                kind = self.reach(name, kinds)
                self._stuck[name] = kind if kind in ("lost", "silent") else ""
            if kind == "error":
                return _refusal(request)
            if kind == "silent":
                raise ReadTimeoutError(endpoint_url=request.url)
            answer = send(session, request)
            if kind in ("lost", "repeated"):
                raise ConnectionClosedError(endpoint_url=request.url)
            return answer

        def get_counted(store: Any, path: str, **options: Any) -> Any:  # noqa: ANN401
            span = (options.get("options") or {}).get("range", "")
            name = f"GetObject by obstore {self._same_everywhere(path)} {span}".rstrip()
            if self.reach(name, LOOK):
                raise obstore.exceptions.GenericError("error sending request")
            return get(store, path, **options)

        setattr(botocore.httpsession.URLLib3Session, "send", send_counted)  # noqa: B010  mypy would refuse it
        obstore.get = get_counted

    def _request(self, request: Any) -> tuple[str, Collection[str]]:  # noqa: ANN401
        target = request.url.split("://", 1)[1].partition("/")[2]
        parameters = parse_qs(urlsplit(request.url).query, keep_blank_values=True)
        asked = Request(request.method, f"/{target}", request.headers)
        if not target:
            action = re.search(rb"Action=(\w+)", _bytes(request.body))
            return f"sns {action[1].decode() if action else '?'}", S3_CHANGE
        operation = asked.operation
        if request.headers.get("x-amz-copy-source"):
            operation = "UploadPartCopy"
        if request.method == "POST" and "delete" in parameters:
            operation = "DeleteObjects"
        where = asked.key or unquote(next(iter(parameters.get("prefix", [""]))))
        part = "".join(f" part {number}" for number in parameters.get("partNumber", []))
        span = _text(request.headers.get("Range", ""))
        name = f"s3 {operation or request.method} {self._same_everywhere(where)}{part} {span}".rstrip()
        return name, S3_LOOK if request.method in ("GET", "HEAD") else S3_CHANGE


_SEEN_BY_PYTHON = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink"}


class _CountedFile(io.FileIO):
    """A file whose reads and writes are calls."""

    def __init__(self, path: str, mode: str, calls: Calls, name: str) -> None:
        super().__init__(path, mode)
        self._calls, self._name = calls, name
        self._numbers = calls._paths
        self._numbers[self.fileno()] = name

    def readinto(self, buffer: Any) -> Any:  # noqa: ANN401
        return self._calls._file("read", self._name, lambda: io.FileIO.readinto(self, buffer), kinds=LOOK)

    def readall(self) -> Any:  # noqa: ANN401
        return self._calls._file("read", self._name, lambda: io.FileIO.readall(self), kinds=LOOK)

    def write(self, content: Any) -> Any:  # noqa: ANN401
        kind = self._calls.reach(f"write {self._name}", CHANGE)
        if kind:
            if kind == "lost":
                io.FileIO.write(self, bytes(content)[: len(content) // 2])
            raise OSError(28, os.strerror(28), self._name)
        return io.FileIO.write(self, content)

    def truncate(self, size: Any = None) -> Any:  # noqa: ANN401
        return self._calls._file("truncate", self._name, lambda: io.FileIO.truncate(self, size), kinds=CHANGE)

    def close(self) -> None:
        if self.closed:
            return
        self._numbers.pop(self.fileno(), None)
        if not self.writable():
            super().close()
            return
        kind = self._calls.reach(f"close {self._name}", LOOK)
        super().close()  # Linux releases the number also when it answers by an error
        if kind:
            raise OSError(5, os.strerror(5), self._name)


def _connection_class(base: type[Any], calls: Calls) -> type[Any]:
    class Counted(base):  # type: ignore[misc]
        def commit(self) -> None:
            calls.statement(self, "commit", super().commit, STATEMENT)

        def rollback(self) -> None:
            if self.closed or self.get_transaction_status() == extensions.TRANSACTION_STATUS_IDLE:
                super().rollback()  # nothing is sent
            else:
                calls.statement(self, "rollback", super().rollback, ROLLBACK)

    return Counted


def _cursor_class(base: type[Any], calls: Calls) -> type[Any]:
    class Counted(base):  # type: ignore[misc]
        def execute(self, query: Any, values: Any = None) -> None:  # noqa: ANN401
            name = _NAMES.get(query) or " ".join(str(query).split()[:4])
            calls.statement(self.connection, f"execute {name}", lambda: base.execute(self, query, values), STATEMENT)

        def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:  # noqa: ANN401
            name = _NAMES.get(sql, "of another name")
            blocks = _Blocks(file, self.connection, calls, f"block of {name}")
            calls.statement(
                self.connection, f"copy {name}", lambda: base.copy_expert(self, sql, blocks, size), STATEMENT
            )

    return Counted


class _Blocks:
    """What a COPY reads: each block is a call, and the connection may break before it."""

    def __init__(self, file: Any, connection: Any, calls: Calls, name: str) -> None:  # noqa: ANN401
        self._file, self._connection, self._calls, self._name = file, connection, calls, name

    def read(self, size: int) -> Any:  # noqa: ANN401
        if self._calls.reach(self._name, BLOCK):
            cut(self._connection)
        return self._file.read(size)


def cut(connection: Any) -> None:  # noqa: ANN401
    """Break the connection: the server hears of it."""
    with socket.socket(fileno=os.dup(connection.fileno())) as own:
        own.shutdown(socket.SHUT_RDWR)


def _mute(connection: Any) -> int:  # noqa: ANN401
    """Break the connection for the client alone: the server's session goes on, and keeps what it holds."""
    number = connection.fileno()
    kept = os.dup(number)
    one, other = socket.socketpair()
    other.close()
    os.dup2(one.fileno(), number)
    one.close()
    return kept


def _refusal(request: Any) -> AWSResponse:  # noqa: ANN401
    """What AWS answers when a right is missing: no client asks again."""
    body = "<Error><Code>AccessDenied</Code><Message>injected</Message></Error>"
    if b"Action=" in _bytes(request.body)[:4000]:
        body = f'<ErrorResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/">{body}</ErrorResponse>'
    return AWSResponse(request.url, 403, HTTPHeaders(), _Body(body.encode()))


class _Body(io.BytesIO):
    """A body as botocore reads it."""

    def stream(self, **_: Any) -> Iterator[bytes]:  # noqa: ANN401
        yield self.read()


def _text(value: Any) -> str:  # noqa: ANN401
    return value.decode() if isinstance(value, bytes) else str(value)


def _bytes(body: Any) -> bytes:  # noqa: ANN401
    return body.encode() if isinstance(body, str) else bytes(body) if isinstance(body, bytes | bytearray) else b""


def hurry() -> None:
    """Cut short what a fault makes a process wait for: pauses before another attempt, and locks of lost sessions.

    How often something is tried stays. One thread a pool, so that a call has the same number in every run. obstore's
    client of a bucket is made once a process, as it costs as much as ten requests.
    """
    sleep, opened = time.sleep, database_connection.open_connection

    def open_connection(url: str, *, lock_timeout_seconds: float = 60, snapshot: bool = False) -> Any:  # noqa: ANN401
        return opened(url, lock_timeout_seconds=min(lock_timeout_seconds, LOCK_SECONDS), snapshot=snapshot)

    time.sleep = lambda seconds: sleep(min(float(seconds), 0.01))
    database_connection.open_connection = open_connection
    os.cpu_count = lambda: 1
    setattr(sys.modules["etl.table.load"], "_PAUSES_SECONDS", (0.01, 0.01, 0.01))  # noqa: B010  hidden by a function
    objects = s3._objects
    made: dict[str, Any] = {}

    def objects_once(aws: Any, bucket: str) -> Any:  # noqa: ANN401
        if bucket not in made:
            made[bucket] = objects(aws, bucket)
        return made[bucket]

    s3._objects = objects_once
    for module in (s3, s3_upload):
        for name, value in (("CONCURRENT_REQUESTS", 1), ("BLOCK_BYTES", _BLOCK_BYTES)):
            setattr(module, name, value)
    s3_upload._LEAST_PART_BYTES, s3_upload._COPIED_PART_BYTES = 8 << 10, 16 << 10


LOCK_SECONDS = 0.1
_BLOCK_BYTES = 24 << 10  # so that the small batch's combined file takes several parts, of which some are copied
