"""Runs the packaged function as Lambda does, from the unpacked zips."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.support.paths import ROOT
from tests.support.process import Command, Process
from tests.support.trigger_build import zipped
from trigger.build import RUNTIME

_LOCK = Path(__file__).with_name("awslambdaric.lock")
_VENV = ROOT / ".venv-lambda"  # kept, as make keeps .venv
_API = "/2018-06-01/runtime"

# As Lambda's own bootstrap: function and layer are on sys.path, not in a variable that a child would inherit.
_BOOTSTRAP = """\
import sys
sys.path[:0] = sys.argv[1:3]
from awslambdaric.__main__ import main
main(["awslambdaric", sys.argv[3]])
"""


@cache
def python() -> Path:
    """A Python with Lambda's runtime client and nothing else; skips the test where that cannot be installed."""
    base = _base()
    print(f"the packaged function runs on {base}")
    executable, installed = _VENV / "bin" / "python", _VENV / _LOCK.name
    wanted = f"{_LOCK.read_text()}# {base}\n"
    if installed.exists() and installed.read_text() == wanted:
        return executable
    pip = [sys.executable, "-m", "pip", f"--python={executable}", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([base, "-m", "venv", "--clear", "--without-pip", _VENV], check=True)
    pip += ["--no-deps", "--require-hashes", "--requirement", str(_LOCK)]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        pytest.skip(f"awslambdaric cannot be installed from PyPI (pip install -r {_LOCK.name}): {said}")
    installed.write_text(wanted)
    return executable


def _base() -> str:
    """Lambda's version of Python if this machine has it, else the one that runs the tests."""
    uv = Path(sys.executable).with_name("uv")
    if not uv.exists():
        return sys.executable
    found = subprocess.run(
        [uv, "python", "find", RUNTIME, "--offline", "--no-project"],
        env={**os.environ, "PYENV_VERSION": RUNTIME},  # else pyenv's shim for it is found but does not run
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or sys.executable


@dataclass(frozen=True)
class Result:
    """What the function posted for one event."""

    kind: str  # response, or error
    body: Any
    elapsed_seconds: float


class LambdaFunction:
    """One warm function; `invoke` gives it an event. Its folder has what Lambda has in /var/task, /opt and /tmp."""

    def __init__(self, handler: str, *, folder: Path, environment: Mapping[str, str]) -> None:
        self.task, self.opt, self.tmp = (folder / name for name in ("task", "opt", "tmp"))
        for name, target in (("function", self.task), ("layer", self.opt)):
            with zipfile.ZipFile(zipped(name)) as archive:
                archive.extractall(target)
        (self.opt / "bin" / "aws").chmod(0o755)  # zipfile drops the mode that Lambda keeps
        self.tmp.mkdir()
        self.log = folder / "function.log"
        self._handler = handler
        self._events: queue.Queue[bytes | None] = queue.Queue()
        self._results: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _runtime_api(self._events, self._results))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.environment = {
            "PATH": f"{_VENV / 'bin'}{os.pathsep}{os.defpath}",
            "HOME": str(self.tmp),
            "TMPDIR": str(self.tmp),
            "PYTHONDONTWRITEBYTECODE": "1",  # task and layer are read-only to Lambda
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.server_port}",
            "AWS_LAMBDA_FUNCTION_NAME": "trigger",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
            "AWS_LAMBDA_LOG_GROUP_NAME": "g",
            "AWS_LAMBDA_LOG_STREAM_NAME": "s",
            "LAMBDA_TASK_ROOT": str(self.task),
            "NO_PROXY": "*",
            **environment,
        }
        self._process: Process | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._events.put(None)
        if self._process:
            self._process.stop(seconds=1)
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def invoke(self, event: object, *, seconds: float = 60) -> Result:
        """Give it an event and wait. The first call starts the function, so it measures a cold start."""
        begun = time.monotonic()
        if self._process is None:
            command: Command = [python(), "-c", _BOOTSTRAP, self.task, self.opt / "python", self._handler]
            self._process = Process(command, environment=self.environment, log=self.log)
        self._events.put(json.dumps(event).encode())
        try:
            kind, body = self._results.get(timeout=seconds)
        except queue.Empty:
            pytest.fail(f"the function gave no answer within {seconds:.0f} s:\n{self.log.read_text()}")
        return Result(kind, body, time.monotonic() - begun)


def _runtime_api(
    events: queue.Queue[bytes | None], results: queue.Queue[tuple[str, Any]]
) -> type[BaseHTTPRequestHandler]:
    """https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html"""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            assert self.path == f"{_API}/invocation/next", self.path
            event = events.get()
            if event is None:
                self.close_connection = True
                return
            self.send_response(200)
            self.send_header("Lambda-Runtime-Aws-Request-Id", "11111111-2222-3333-4444-555555555555")
            self.send_header("Lambda-Runtime-Deadline-Ms", str(int((time.time() + 60) * 1000)))
            self.send_header("Lambda-Runtime-Invoked-Function-Arn", "arn:aws:lambda:eu-west-1:000000000000:function:f")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(event)))
            self.end_headers()
            self.wfile.write(event)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            results.put((self.path.rpartition("/")[2], json.loads(body)))
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing."""

    return Handler
