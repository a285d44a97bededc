"""Wires the real code of trigger, DAG and library into a simulated world: one clock, failing calls, dying processes.

Real: trigger/*.py with the reading of the CLI's answers, the callables of airflow/dags/moving_big_data.py, all of etl,
PostgreSQL, and of S3 a folder or a moto server. Modelled: Airflow (airflow_rules.py, and for HTTP the stand-in of the
trigger's tests), Lambda's and SQS's repeats, EC2, the AWS CLI's process, SNS.

A process dies between two calls to the outside: whatever it calls later, and whatever its clean-up calls, does nothing.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn, Self
from unittest import mock
from urllib.parse import urlsplit

import psycopg2
import requests
from botocore.exceptions import EndpointConnectionError
from psycopg2 import extensions

import etl
import trigger.handler
import trigger.redrive
import trigger.report
import trigger.watchdog
from etl.errors import ServiceError, UnexpectedError
from tests.proof.simulator.airflow_rules import AirflowRules, DagRun, KilledError, TaskFailedError
from tests.proof.simulator.amazon import (
    INSTANCE,
    KEPT_EVENTS,
    MONITORED,
    PASSWORD_PARAMETER,
    SOURCE,
    TOPIC,
    Amazon,
    Bucket,
    Instance,
    Put,
)
from tests.proof.simulator.clock import Clock
from tests.proof.simulator.sessions import Sessions
from tests.support.airflow_stand_in import PASSWORD, USERNAME, AirflowStandIn, Request
from tests.support.database import Database
from tests.support.paths import DAGS
from trigger import secret
from trigger.errors import TriggerError

_IDLE_SECONDS = 10 * 60.0  # idle_stop.py
_CALLBACK_SECONDS = 50.0  # Airflow ends a callback then
_PACE_SECONDS = 0.05  # from one call to the outside to the next
_REPEATS_SECONDS = (60.0, 120.0)  # of Lambda's asynchronous calls
_VISIBLE_AGAIN_SECONDS, _MOST_RECEIVES = 720.0, 5  # of the queue of failed events (serverless.yml)
_TASKS = ("gate", "process", "load")


class PromiseBrokenError(BaseException):
    """Something that was promised does not hold. `kind` distinguishes promises.

    No Exception: what it passes through must not take it for a failure of its own.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


@dataclass(eq=False)
class Process:
    """One process, while it does something."""

    role: str
    about: str = ""
    limit: datetime | None = None
    """When Lambda ends it."""
    on_instance: bool = False
    began: datetime | None = None
    dead: str = ""
    hit: list[str] = field(default_factory=list)
    """What went wrong around it."""
    found_airflow: str = ""
    """How it found Airflow, where that could not do what it was asked for."""
    error: etl.EtlError | None = None
    """What stopped it, as a task names it."""

    def stop(self, why: str) -> None:
        self.dead = self.dead or why
        self.hit.append(why)


@dataclass
class Hit:
    """A fault at the `count`-th call of a process of this role, among those that begin or end so, from some time on."""

    role: str
    what: str
    count: int
    kind: str
    """refuse, lose the answer, kill before, kill after, hang."""
    since: datetime
    seconds: float = 0.0


@dataclass(frozen=True)
class Mail:
    """What SNS took."""

    at: datetime
    subject: str
    text: str
    process: Process


class World:
    """The system and what is around it. `watch` is called after each call of the watchdog that ended well."""

    def __init__(
        self,
        *,
        begin: datetime,
        folder: Path,
        bucket: Bucket,
        database: Database,
        aws: etl.Aws | None,
        settings: Mapping[str, str],
        sleeps: bool,
    ) -> None:
        self.clock = Clock(begin)
        self.folder, self.bucket, self.database, self._aws = folder, bucket, database, aws
        self.settings, self._sleeps = dict(settings), sleeps
        self.mails: list[Mail] = []
        self.puts: list[Put] = []
        self.down: dict[str, datetime] = {}
        """Services that answer nobody, and until when."""
        self.hits: list[Hit] = []
        self.log: list[str] = []
        self.counts: dict[str, int] = {}
        self.watched: Callable[[Process], object] = lambda _: None
        self.loaded: Callable[[DagRun, str], object] = lambda *_: None
        self.passed: Callable[[DagRun, Process], object] = lambda *_: None
        self.stopped: Callable[[DagRun, Process], object] = lambda *_: None
        self.concluded: Callable[[DagRun, Process], object] = lambda *_: None
        self.reported: Callable[[Put, Process, list[str]], object] = lambda *_: None
        self.committed: Callable[[], object] = lambda: None
        self._stack: list[Process] = []
        self.dag = load_dag()
        self.instance = Instance(self.clock, started=self._instance_started, stopped=self._instance_stopped)
        tasks = self.dag.tasks
        self.airflow = AirflowRules(
            self.clock,
            self,
            tasks=_TASKS,
            retries=tasks["load"].retries,
            pauses=lambda tried: tasks["load"].retry_delay.total_seconds() * 3 ** (tried - 1),
            timeout=self.dag.dag.dagrun_timeout,
        )
        self.rest = AirflowStandIn()
        self.amazon = Amazon(
            self.clock, source=bucket, instance=self.instance, outside=self.outside, publish=self._take_mail
        )
        self.amazon.password = PASSWORD
        self._patches = ExitStack()
        self._look_in = psycopg2.connect(database.url)
        self._look_in.autocommit = True
        self._sessions = Sessions(import_module("etl.table.connection")._Connection)

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """The answer of the database to who looks in from outside, without faults."""
        with self._look_in.cursor() as cursor:
            cursor.execute(query, values or None)
            return cursor.fetchall() if cursor.description else []

    # --- what happens -------------------------------------------------------------------------------------------

    def say(self, text: str) -> None:
        self.log.append(f"{self.clock.now:%a %d %b %H:%M:%S}  {text}")

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def put_marker(self, key: str, *, deliveries: list[float], is_lost: bool = False) -> Put:
        """Put a marker; S3 sends its event after so many seconds, once for each."""
        put = Put(key, self.clock.now, len(self.puts) + 1, is_lost=is_lost)
        self.puts.append(put)
        self.amazon.puts[key] = put
        self.say(f"marker {key!r} is put")
        for seconds in [] if is_lost else deliveries:
            self.clock.after(seconds, partial(self._invoke, put, put.event(), 1))
        return put

    def _invoke(self, put: Put, event: dict[str, Any], attempt: int) -> None:
        process = Process("trigger", put.key, limit=self.clock.now + timedelta(seconds=900))
        try:
            answer = self.call(process, lambda: trigger.handler.handler(event, self._context(process)))
        except (TriggerError, KilledError) as error:
            self.say(f"trigger fails ({attempt}) for {put.key!r}: {_brief(error)}")
            if attempt <= len(_REPEATS_SECONDS):
                self.clock.after(_REPEATS_SECONDS[attempt - 1], partial(self._invoke, put, event, attempt + 1))
            else:
                failure = {
                    "requestContext": {"requestId": f"r{put.number}", "approximateInvokeCount": attempt},
                    "requestPayload": event,
                    "responsePayload": {"errorMessage": str(error), "errorType": type(error).__name__},
                }
                self.clock.after(5, partial(self._report, put, json.dumps(failure), 1))
            return
        for record in answer["records"]:
            self.say(f"trigger: {record['outcome']} {record.get('dag_run_id')}")
            put.run_ids.add(str(record.get("dag_run_id")))

    def _report(self, put: Put, failure: str, received: int) -> None:
        process = Process("report", put.key, limit=self.clock.now + timedelta(seconds=120))
        runs = [run for run in self.airflow.runs.values() if run.conf.get("marker", {}).get("key") == put.key]
        begun = [run.run_id for run in runs if self.bucket.read(f"Output/receipts/{run.run_id}.json")]
        try:
            event = {"Records": [{"body": failure}]}
            self.call(process, lambda: trigger.report.handler(event, self._context(process)))
        except (TriggerError, KilledError) as error:
            self.say(f"report fails ({received}): {_brief(error)}")
            if received < _MOST_RECEIVES:
                self.clock.after(_VISIBLE_AGAIN_SECONDS, partial(self._report, put, failure, received + 1))
            else:
                self.amazon.kept.append(failure)
        self.reported(put, process, begun)

    def watch(self, attempt: int = 1) -> None:
        """The watchdog, as its schedule calls it."""
        process = Process("watchdog", limit=self.clock.now + timedelta(seconds=300))
        try:
            found = self.call(process, lambda: trigger.watchdog.handler({}, self._context(process)))
        except (TriggerError, KilledError) as error:
            self.say(f"watchdog fails ({attempt}): {_brief(error)}")
            if attempt <= len(_REPEATS_SECONDS):
                self.clock.after(_REPEATS_SECONDS[attempt - 1], partial(self.watch, attempt + 1))
            return
        if any(found.values()):
            self.say(f"watchdog: {found}")
        self.count("calls of the watchdog")
        self.watched(process)

    def redrive(self, event: object = None) -> None:
        """A person redrives kept events, or one marker."""
        process = Process("redrive", limit=self.clock.now + timedelta(seconds=900))
        try:
            found = self.call(process, lambda: trigger.redrive.handler(event, self._context(process)))
        except (TriggerError, KilledError) as error:
            self.say(f"redrive fails: {_brief(error)}")
        else:
            self.say(f"redrive: {found}")

    def take_down(self, service: str, seconds: float) -> None:
        self.count("outages")
        self.say(f"{service} is down for {seconds:.0f} s")
        self.down[service] = max(self.down.get(service, self.clock.now), self.clock.now + timedelta(seconds=seconds))

    def kill_airflow(self, seconds: float) -> None:
        """Kill scheduler, dag-processor and api-server; they are back later."""
        if not self.airflow.is_up:
            return
        self.count("outages")
        self.say(f"Airflow is killed, and back in {seconds:.0f} s")
        self._instance_stopped()
        self.clock.after(seconds, self._instance_started)

    def _instance_stopped(self) -> None:
        self.airflow.go_down()
        for process in self._stack:
            if process.on_instance:
                process.stop("Airflow was killed")

    def _instance_started(self) -> None:
        if self.instance.state == "running" and not self.airflow.is_up:
            self.say("Airflow is up")
            self.airflow.come_up()

    def stop_when_idle(self) -> None:
        if (
            self._sleeps
            and self.airflow.is_idle_for(_IDLE_SECONDS)
            and self.instance.state == "running"
            and self.airflow.is_up
        ):
            self.say("the instance stops, as it is idle")
            self.instance.stop()

    # --- what Airflow asks for ----------------------------------------------------------------------------------

    def ask(self, run_id: str, conf: dict[str, Any]) -> None:
        """A person starts a run by the form."""
        self.airflow.ask(run_id, conf)

    def do_task(self, run: DagRun, task: str, given: Any) -> Any:  # noqa: ANN401  whatever tasks return
        process = Process(task, run.run_id, on_instance=True)
        run.under_way, run.error = process, ""
        if task == "gate":
            run.planned_since = self.clock.now
        self.say(f"{task} of {run.run_id}, try {run.tries[task]}")
        arguments = [] if given is None else [given]
        how = "killed"
        try:
            with mock.patch.object(self.dag.module, "get_current_context", return_value=self._context_of(run)):
                made = self.call(process, lambda: self.dag.tasks[task].python_callable(*arguments))
            how = "success"
            self.passed(run, process)
            return made
        except KilledError as killed:
            self.say(f"{task} is killed: {killed}")
            raise
        except self.dag.failures as failure:
            may_retry = type(failure) is self.dag.failures[0]
            how = "failed" if may_retry else "refused"
            self.say(f"{task} fails: {_brief(failure)}")
            if isinstance(process.error, UnexpectedError):
                raise PromiseBrokenError("an error that nobody expects", f"{task}: {failure}") from failure
            self.stopped(run, process)
            if may_retry is not isinstance(process.error, ServiceError):
                raise PromiseBrokenError(f"a failure is {how}", repr(process.error)) from failure
            run.error = "" if process.hit else str(failure)
            raise TaskFailedError(str(failure), may_retry=may_retry) from failure
        finally:
            run.under_way = None
            if task == "load":
                self.loaded(run, how)

    def call_back(self, run: DagRun) -> None:
        limit = self.clock.now + timedelta(seconds=_CALLBACK_SECONDS)
        process = Process("mail", run.run_id, limit=limit, on_instance=True)
        context = {**self._context_of(run), "reason": run.reason}
        self.say(f"{run.run_id} has ended: {run.state} ({run.reason})")
        self.count("runs")
        callback = self.dag.dag.on_success_callback if run.state == "success" else self.dag.dag.on_failure_callback
        try:
            self.call(process, lambda: callback(context) if callback else None)
        except (KilledError, etl.EtlError) as error:
            self.say(f"the callback fails: {_brief(error)}")
        self.concluded(run, process)

    def _context_of(self, run: DagRun) -> dict[str, Any]:
        params = {**self.dag.params, **{name: run.conf[name] for name in self.dag.params if name in run.conf}}
        return {"params": params, "dag_run": run, "outlet_events": _Events()}

    # --- processes and their calls ------------------------------------------------------------------------------

    def call(self, process: Process, act: Callable[[], Any]) -> Any:  # noqa: ANN401  whatever it returns
        self._stack.append(process)
        process.began = self.clock.now
        try:
            value = act()
            self._look(process)
        except (TriggerError, etl.EtlError) as error:
            is_explained = process.hit or process.found_airflow or self.instance.state != "running"
            if not is_explained:
                raise PromiseBrokenError("it failed without a reason", f"{process.role}: {error!r}") from error
            raise
        except self.dag.failures:
            raise
        except Exception as error:
            raise PromiseBrokenError("an error that nobody expects", f"{process.role}: {error!r}") from error
        finally:
            self._stack.pop()
        return value

    def outside(
        self,
        service: str,
        what: str,
        act: Callable[[], Any],
        *,
        refuse: Callable[[], Any],
    ) -> Any:  # noqa: ANN401  whatever `act` gives
        """One call to the outside, by the process that is under way: `act`, or a fault that is due in its place."""
        if not self._stack:
            return act()
        process = self._stack[-1]
        self._look(process)
        self.clock.sleep(_PACE_SECONDS)
        self._look(process)
        if service in self.down and self.clock.now < self.down[service]:
            process.hit.append(f"{service} is down")
            return refuse()
        hit = self._due_hit(process, what)
        if hit is None:
            return act()
        self.say(f"{hit.kind}: {what}, by {process.role} {process.about}")
        self.count(f"faults: {hit.kind}")
        process.hit.append(hit.kind)
        match hit.kind:
            case "refuse":
                return refuse()
            case "lose the answer":
                act()
                return refuse()
            case "kill before":
                process.stop("killed")
            case "kill after":
                with suppress(Exception):  # nobody hears of it
                    act()
                process.stop("killed")
            case "hang":
                self.clock.sleep(hit.seconds)
        self._look(process)
        return act()

    def _due_hit(self, process: Process, what: str) -> Hit | None:
        for hit in self.hits:
            is_it = not hit.what or what.startswith(hit.what) or what.endswith(hit.what)
            if hit.role == process.role and is_it and hit.since <= self.clock.now:
                hit.count -= 1
                if hit.count <= 0:
                    self.hits.remove(hit)
                    return hit
        return None

    def _look(self, process: Process) -> None:
        if process.limit and self.clock.now > process.limit:
            process.stop("its time was up")
        if process.dead:
            raise KilledError(process.dead)

    def _context(self, process: Process) -> SimpleNamespace:
        """Lambda's."""

        def remaining() -> int:
            return int(((process.limit or self.clock.now) - self.clock.now).total_seconds() * 1000)

        return SimpleNamespace(get_remaining_time_in_millis=remaining)

    def _take_mail(self, subject: str, text: str) -> None:
        self.mails.append(Mail(self.clock.now, subject, text, self._stack[-1]))
        self.count("mails")
        self.say(f"mail {subject}: {text.splitlines()[0][:110]}")

    # --- the wiring ---------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._patch(stack)
            self._patches = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._patches.close()
        self._sessions.close()
        self._look_in.close()
        self.rest._server.server_close()

    def _patch(self, stack: ExitStack) -> None:
        ticking = SimpleNamespace(monotonic=self.clock.monotonic, sleep=self.clock.sleep)
        for module in ("etl.batch.gate", "etl.table.load", "trigger.deadline", "trigger.airflow_client"):
            stack.enter_context(mock.patch(f"{module}.time", ticking))
        now = self.clock.datetimes()
        for module in ("trigger.handler", "trigger.alarm", "trigger.redrive", "trigger.watchdog"):
            stack.enter_context(mock.patch(f"{module}.datetime", now))
        for module in ("etl.outcome.receipt", "etl.outcome.report"):
            stack.enter_context(mock.patch(f"{module}.datetime", now))
        stack.enter_context(mock.patch.dict(os.environ, self._environment()))
        stack.enter_context(mock.patch.object(secret, "_secrets", {}))
        for module in ("etl.files.process", "etl.batch.s3_upload"):
            stack.enter_context(mock.patch(f"{module}.Pool", _Here))
        self._patch_storage(stack)
        self._patch_database(stack)
        self._patch_airflow(stack)
        stack.enter_context(mock.patch.object(etl.Aws, "sns", property(lambda _: _Topic(self))))
        run = SimpleNamespace(run=self.amazon.run, DEVNULL=None, TimeoutExpired=TimeoutError)
        stack.enter_context(mock.patch("trigger.aws_cli.subprocess", run))
        stack.enter_context(
            mock.patch("trigger.aws_cli.tempfile", SimpleNamespace(NamedTemporaryFile=self.amazon.file))
        )
        stack.enter_context(mock.patch("trigger.aws_cli._environment", dict))  # of a process that is not started

    def _environment(self) -> dict[str, str]:
        return {
            "AIRFLOW_URL": "http://127.0.0.1:8080",
            "AIRFLOW_USERNAME": USERNAME,
            "AIRFLOW_PASSWORD_PARAMETER": PASSWORD_PARAMETER,
            "MONITORED_BUCKET": MONITORED,
            "SOURCE_BUCKET": SOURCE,
            "TOPIC_ARN": TOPIC,
            "FIRST_NAME": "Ada",
            "LAST_NAME": "Lovelace",
            "KEPT_EVENTS_URL": KEPT_EVENTS,
            "INSTANCE_ID": INSTANCE,
            **_OF_THE_DAG,
            **self.settings,
        }

    def _patch_storage(self, stack: ExitStack) -> None:
        place: Any = import_module("etl.batch.storage")._Folder
        writer: Any = import_module("etl.batch.storage")._PartialFile
        if self._aws:
            place, writer = import_module("etl.batch.s3").S3Prefix, import_module("etl.batch.s3_upload").Upload
            stack.enter_context(mock.patch("etl.batch.s3.CONCURRENT_REQUESTS", 1))
        for name in ("listing", "find", "read", "remove"):
            self._wrap(stack, place, name)
        self._wrap_writer(stack, writer)

    def _wrap(self, stack: ExitStack, place: Any, name: str) -> None:  # noqa: ANN401  a class
        method = getattr(place, name)

        def wrapped(instance: Any, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
            what = f"{name} {' '.join(map(str, arguments[:1]))}"
            return self.outside(
                "storage", what, lambda: method(instance, *arguments, **options), refuse=lambda: _unavailable(name)
            )

        stack.enter_context(mock.patch.object(place, name, wrapped))

    def _wrap_writer(self, stack: ExitStack, writer: Any) -> None:  # noqa: ANN401  a class
        """A file appears when its writer is left, or does not."""
        leave = writer.__exit__

        def wrapped(instance: Any, kind: Any, error: Any, trace: Any) -> Any:  # noqa: ANN401
            if kind is not None:
                return leave(instance, kind, error, trace)

            def give_up() -> NoReturn:
                with suppress(Exception):
                    failure = ServiceError("S3 does not answer")
                    leave(instance, ServiceError, failure, None)
                _unavailable("write")

            try:
                what = f"write {getattr(instance, '_path', '') or getattr(instance, '_url', '')}"
                return self.outside("storage", what, lambda: leave(instance, None, None, None), refuse=give_up)
            except KilledError:
                with suppress(Exception):
                    leave(instance, KilledError, None, None)
                raise

        stack.enter_context(mock.patch.object(writer, "__exit__", wrapped))

    def _patch_database(self, stack: ExitStack) -> None:
        module: Any = import_module("etl.table.connection")
        cursor, connection, readable = module._Cursor, module._Connection, module._readable_dsn

        def closed_port() -> int:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                return int(free.getsockname()[1])

        def dsn(url: str) -> str:
            made = readable(url)
            refused: list[bool] = []
            self.outside("database", "connect", lambda: None, refuse=lambda: refused.append(True))
            return extensions.make_dsn(made, port=closed_port()) if refused else made

        def cut(one: Any, act: Callable[[], Any]) -> Any:  # noqa: ANN401
            """The server ends the session, and the call meets that."""
            pid = one.info.backend_pid
            with suppress(psycopg2.Error):
                self.rows("SELECT pg_terminate_backend(%s)", pid)
                for _ in range(5000):
                    if not self.rows("SELECT FROM pg_stat_activity WHERE pid = %s", pid):
                        break
                    time.sleep(0.001)
            return act()

        def execute(one: Any, query: Any, vars: Any = None) -> None:  # noqa: ANN401
            act = lambda: original_execute(one, query, vars)  # noqa: E731
            what = f"SQL {' '.join(str(query).split())[:60]} ..."
            self.outside("database", what, act, refuse=lambda: cut(one.connection, act))

        def copy_expert(one: Any, sql: Any, file: Any, size: int = 8192) -> None:  # noqa: ANN401
            act = lambda: original_copy(one, sql, file, size)  # noqa: E731
            self.outside("database", "COPY", act, refuse=lambda: cut(one.connection, act))

        def commit(one: Any) -> None:  # noqa: ANN401
            def act() -> None:
                original_commit(one)
                if self._stack:
                    self.committed()

            def refuse() -> None:
                cut(one, lambda: original_commit(one))
                with extensions.cursor(one) as other:  # there was nothing to commit any more
                    other.execute("SELECT 1")

            self.outside("database", "COMMIT", act, refuse=refuse)

        original_execute, original_copy, original_commit = cursor.execute, cursor.copy_expert, connection.commit
        stack.enter_context(mock.patch.object(cursor, "execute", execute))
        stack.enter_context(mock.patch.object(cursor, "copy_expert", copy_expert))
        stack.enter_context(mock.patch.object(connection, "commit", commit))
        stack.enter_context(mock.patch.object(module, "_readable_dsn", dsn))
        stack.enter_context(mock.patch.object(psycopg2, "connect", self._sessions.connect))

    def _patch_airflow(self, stack: ExitStack) -> None:
        """HTTP to Airflow, and what its tasks ask Airflow for."""

        def send(_: Any, request: requests.PreparedRequest, **__: Any) -> requests.Response:  # noqa: ANN401
            call = f"{request.method} {urlsplit(str(request.url)).path}"

            def act() -> requests.Response:
                asking = self._stack[-1]
                if not self.airflow.is_up:
                    asking.found_airflow = "down"
                    raise requests.ConnectionError("nobody listens")
                if self.airflow.is_paused:
                    asking.found_airflow = "paused"
                body = json.loads(request.body) if request.body else None
                self.rest.is_paused = self.airflow.is_paused
                answer = self.rest.answer(Request(call, request.headers.get("Authorization"), body))
                self.rest.requests.clear()
                for run_id, conf in self.rest.runs.items():
                    if run_id not in self.airflow.runs:
                        self.airflow.ask(run_id, conf)
                response = requests.Response()
                response.request, response.url = request, str(request.url)
                response.status_code = answer.status if answer else 500
                response._content = json.dumps(answer.body if answer else {}).encode()
                return response

            def refuse() -> NoReturn:
                raise requests.ReadTimeout("no answer")

            return self.outside("airflow", call, act, refuse=refuse)

        stack.enter_context(mock.patch("requests.adapters.HTTPAdapter.send", send))
        # It reads each variable of the environment at each call.
        stack.enter_context(mock.patch("requests.sessions.get_environ_proxies", return_value={}))
        module = self.dag.module
        named = etl.as_etl_error

        def name(failure: Exception) -> etl.EtlError:
            self._stack[-1].error = error = named(failure)
            return error

        stack.enter_context(mock.patch.object(etl, "as_etl_error", name))
        if self._aws is None:
            stack.enter_context(mock.patch.object(module, "job_of", self._job_of))
        else:
            session, url = self._aws.session, self._aws.endpoint_url
            hook = SimpleNamespace(get_session=lambda: session, conn_config=SimpleNamespace(endpoint_url=url))
            stack.enter_context(mock.patch.object(module, "AwsBaseHook", return_value=hook))
        where = extensions.parse_dsn(self.database.url)
        found = SimpleNamespace(
            host=where["host"],
            port=int(where["port"]),
            login=where["user"],
            password=where.get("password"),
            schema=where["dbname"],
            extra_dejson={},
        )
        stack.enter_context(mock.patch.object(module, "Connection", SimpleNamespace(get=lambda _: found)))
        stack.enter_context(mock.patch.object(module, "emit_lineage"))

    def _job_of(self, params: Mapping[str, Any]) -> etl.Job:
        """The DAG's, on folders."""
        return etl.Job(
            source=str(self.folder / "Stocks"),
            company_index=str(self.folder / "CompanyNames" / "top_companies.txt"),
            output=str(self.folder / "Output" / "dry-run" if params["dry_run"] else self.folder / "Output"),
            reread=params["reread"],
            dry_run=params["dry_run"],
        )


_OF_THE_DAG = {
    "MBD_FIRST_NAME": "Ada",
    "MBD_LAST_NAME": "Lovelace",
    "MBD_TOPIC_ARN": TOPIC,
    "MBD_SOURCE_BUCKET": SOURCE,
}


@dataclass(frozen=True)
class Dag:
    """The deployed DAG, as a module that was imported."""

    module: ModuleType
    dag: Any
    tasks: Mapping[str, Any]
    params: Mapping[str, Any]
    failures: tuple[type[Exception], type[Exception]]
    """What its tasks raise: that may be tried again, and that may not."""


@cache
def load_dag() -> Dag:
    """Airflow is imported for it, which takes seconds; set AIRFLOW_HOME first."""
    with mock.patch.dict(os.environ, _OF_THE_DAG):
        spec = importlib.util.spec_from_file_location("simulated_dag", DAGS / "moving_big_data.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        dag = module.moving_big_data()
    for name in ("airflow.task", "trigger", "etl"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    logging.getLogger("airflow.task").propagate = False
    params = {name: param.value for name, param in module.PARAMS.items()}
    failures = (module.AirflowException, module.AirflowFailException)
    return Dag(module, dag, {name: dag.get_task(name) for name in _TASKS}, params, failures)


class _Events:
    """In the place of Airflow's: a run's outlets."""

    extra: object = None

    def __getitem__(self, _: object) -> _Events:
        return self

    def add(self, *_: object, **__: object) -> None: ...


class _Here:
    """A pool of threads that does everything at once, here."""

    def __init__(self, threads: int, *, name: str) -> None: ...

    def submit(self, act: Callable[..., Any], *arguments: Any) -> Future[Any]:  # noqa: ANN401
        done: Future[Any] = Future()
        try:
            done.set_result(act(*arguments))
        except Exception as error:
            done.set_exception(error)
        return done

    def result_of(self, future: Future[Any]) -> Any:  # noqa: ANN401
        return future.result()

    def shutdown(self, *, wait: bool = True, cancel_futures: bool = False) -> None: ...


@dataclass(frozen=True)
class _Topic:
    """SNS, for etl."""

    world: World

    def publish(self, *, TopicArn: str, Subject: str, Message: str) -> dict[str, str]:
        def refuse() -> NoReturn:
            raise EndpointConnectionError(endpoint_url="https://sns.eu-west-1.amazonaws.com/")

        assert TopicArn == TOPIC
        self.world.outside("sns", "publish", lambda: self.world._take_mail(Subject, Message), refuse=refuse)
        return {"MessageId": "m"}


def _unavailable(name: str) -> NoReturn:
    raise ServiceError(f"Cannot {name}: AWS failed (ServiceUnavailable). Try again.")


def _brief(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error)[:160]}"


@contextmanager
def quiet() -> Iterator[None]:
    """Let the product's own loggers say nothing."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
