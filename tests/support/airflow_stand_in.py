"""A real HTTP server on 127.0.0.1 that answers as Airflow 3.3.2's REST API does, or as a test scripts it."""

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

USERNAME = "trigger"
PASSWORD = "password-MARKED-7f3a"
TOKEN = "token.MARKED-9c1e"

HEALTH = "GET /api/v2/monitor/health"
LOGIN = "POST /auth/token"
DAG = "GET /api/v2/dags/moving_big_data"
RUNS = "POST /api/v2/dags/moving_big_data/dagRuns"

WEB_PAGE = "<!doctype html><title>Airflow</title>"


@dataclass(frozen=True)
class Answer:
    """One scripted answer. Status 0 hangs up without one; a negative status keeps the caller waiting."""

    status: int
    body: object = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


HANG_UP = Answer(0)
KEEP_WAITING = Answer(-1)


@dataclass(frozen=True)
class Request:
    call: str  # such as "POST /auth/token"
    authorization: str | None
    body: Any


class AirflowStandIn:
    """Airflow with one DAG; `runs` has the accepted runs, `requests` every request."""

    def __init__(self) -> None:
        self.password = PASSWORD
        self.is_paused = False
        self.runs: dict[str, Any] = {}
        self.requests: list[Request] = []
        self.scripted: dict[str, list[Answer]] = {}
        self._released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "AirflowStandIn":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        self._released.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def script(self, call: str, *answers: Answer) -> None:
        """Set the next answers to this call; after them come the usual ones."""
        self.scripted[call] = list(answers)

    def calls(self) -> list[str]:
        return [request.call for request in self.requests]

    def answer(self, request: Request) -> Answer | None:
        self.requests.append(request)
        if self.scripted.get(request.call):
            answer = self.scripted[request.call].pop(0)
            if answer.status < 0:
                self._released.wait(30)
            return answer if answer.status > 0 else None
        if request.call == HEALTH:
            return Answer(200, {part: {"status": "healthy"} for part in ("metadatabase", "scheduler", "dag_processor")})
        if request.call == LOGIN:
            if request.body != {"username": USERNAME, "password": self.password}:
                return Answer(401, {"detail": "Invalid credentials"})
            return Answer(201, {"access_token": TOKEN})
        if request.authorization != f"Bearer {TOKEN}":
            return Answer(403, {"detail": "Invalid JWT token"})
        if request.call == DAG:
            return Answer(200, {"dag_id": "moving_big_data", "is_paused": self.is_paused, "is_stale": False})
        if request.call == RUNS:
            if set(request.body) != {"dag_run_id", "logical_date", "conf"} or request.body["logical_date"] is not None:
                return Answer(422, {"detail": "Field required or not permitted"})
            if request.body["dag_run_id"] in self.runs:
                return Answer(409, {"detail": {"reason": "Unique constraint violation"}})
            self.runs[request.body["dag_run_id"]] = request.body["conf"]
            return Answer(200, {**request.body, "state": "queued"})
        return Answer(404, {"error": "API route not found"})


def _handler_of(airflow: AirflowStandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = json.loads(raw) if raw else None
            request = Request(f"{self.command} {self.path}", self.headers.get("Authorization"), body)
            answer = airflow.answer(request)
            if answer is None:
                self.close_connection = True
                return
            text = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Log nothing: tests look at the trigger's own log."""

    return Handler
