"""Begins processes of the product in milliseconds: forks of one that has imported everything and opened nothing.

The nursery itself does nothing but wait for orders and fork; it has one thread, no connection and no open file of the
batch. Each child does one step with the product's own code, and ends or is killed.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import struct
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import etl
from etl import cli as command
from etl.batch import aws as etl_aws
from etl.options import build_parser
from tests.proof.every_fault import calls as calls_of
from tests.proof.every_fault.calls import Calls
from tests.support.paths import ROOT

SECONDS = 300  # more than any step takes on a busy machine: a child that is not done by then hangs
RETRY, FAILED = 3, 1  # how a task ends that Airflow may try again, and one that it may not
_MARKER = etl.Marker("monitored", "batch.SUCCESS", "etag")
SHARDS = 2
_NUMBER = struct.Struct("i")


@dataclass(frozen=True)
class Order:
    """One process: what it does, for which run, and which of its calls meet a fault."""

    step: str
    """`run` (the command, which does it all), or a task of the DAG: gate, process 0, process 1, load, mail."""
    name: str
    """What the names of its calls begin with."""
    run_id: str
    root: str
    source: str
    company_index: str
    output: str
    database: str
    topic: str
    log: str
    printed: str
    closed_port: int
    reason: str = ""
    """Of a run that has ended: how, as Airflow puts it."""
    faults: dict[str, str] = field(default_factory=dict)

    @property
    def job(self) -> etl.Job:
        return etl.Job(source=self.source, company_index=self.company_index, output=self.output)

    @property
    def run(self) -> etl.Run:
        return etl.Run(self.run_id, datetime.now(UTC), marker=_MARKER)

    @property
    def target(self) -> etl.Target:
        return etl.Target(self.database, lock_timeout_seconds=calls_of.LOCK_SECONDS)

    @property
    def mailbox(self) -> etl.Mailbox:
        return etl.Mailbox(self.topic, "ada", "lovelace")


class Nursery:
    """A process that forks, and ends with the one that gives it orders.

    It imports what the product does and nothing of the judge's, so that a fork is cheap.
    """

    def __init__(self) -> None:
        orders, self._orders = os.pipe()
        self._answers, answers = os.pipe()
        command = [sys.executable, "-m", "tests.proof.every_fault.nursery", str(orders), str(answers)]
        self._process = subprocess.Popen(command, pass_fds=(orders, answers), cwd=ROOT)
        os.close(orders)
        os.close(answers)

    def do(self, order: Order) -> int:
        """Have one step done: its exit code, negative where a signal ended it. Raises TimeoutError where it hangs."""
        os.write(self._orders, json.dumps(asdict(order)).encode() + b"\n")
        child = self._answer()
        if not select.select([self._answers], [], [], SECONDS)[0]:
            os.kill(child, signal.SIGABRT)
            self._answer()
            raise TimeoutError(f"{order.name} was not done after {SECONDS} s")
        return self._answer()

    def _answer(self) -> int:
        return int(_NUMBER.unpack(os.read(self._answers, _NUMBER.size))[0])


def _serve(orders: TextIO, answers: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one that gives orders ends us
    _make_clients()
    _warm()
    gc.collect()
    gc.freeze()  # what is there already is no garbage of a child
    for line in orders:
        order = Order(**json.loads(line))
        assert threading.active_count() == 1
        child = os.fork()
        if child == 0:
            orders.close()
            _child(order)
        os.write(answers, _NUMBER.pack(child))
        _, status = os.waitpid(child, 0)
        os.write(answers, _NUMBER.pack(os.waitstatus_to_exitcode(status)))


def _warm() -> None:
    """Import and compile what a run would otherwise do in each process."""
    from etl.files.last_outputs import rules_digest  # noqa: PLC0415
    from etl.outcome import pictures, report  # noqa: F401, PLC0415

    parser = build_parser()
    setattr(command, "build_parser", lambda: parser)  # noqa: B010  mypy would refuse it
    etl.code_version()
    rules_digest()
    report._template()
    report._dictionary()


def _make_clients() -> None:
    """boto3's clients, made once by the product's own code: they have sent nothing when a child gets them."""
    original, made = etl_aws.Aws._client, {}

    def client(aws: etl.Aws, service: str, **options: Any) -> Any:  # noqa: ANN401
        if service not in made:
            made[service] = original(aws, service, **options)
        return made[service]

    setattr(etl_aws.Aws, "_client", client)  # noqa: B010  mypy would refuse it
    aws = etl.Aws()
    _ = aws.s3, aws.sns


def _child(order: Order) -> None:
    code = 99
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        printed = os.open(order.printed, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for number in (1, 2):
            os.dup2(printed, number)
        sys.stdout = os.fdopen(os.dup(1), "w")
        sys.stderr = os.fdopen(os.dup(2), "w")
        calls_of.hurry()
        counted = Calls(order.name, order.root, Path(order.log), order.faults, order.run_id)
        counted.watch_files()
        counted.hook_files()
        counted.hook_database(closed_port=order.closed_port)
        counted.hook_aws()
        code = _command(order) if order.step == "run" else _task(order)
        sys.stdout.flush()
        sys.stderr.flush()
        counted.end()
    except BaseException:
        import traceback  # noqa: PLC0415

        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _command(order: Order) -> int:
    """`mbd run`, as a person or a cron job calls it."""
    etl.Run.begin = classmethod(lambda cls, prefix: order.run)  # type: ignore[assignment]
    places = {
        "source": order.source, "index": order.company_index, "output": order.output,
        "lock-timeout": str(calls_of.LOCK_SECONDS), "database-url": order.database, "topic-arn": order.topic,
        "first-name": "ada", "last-name": "lovelace",
    }  # fmt: skip
    arguments = [f"--{name}={value}" for name, value in places.items()]
    return command.main(["run", "--quiet", *arguments])


def _task(order: Order) -> int:
    """A task of the DAG, as airflow/dags/moving_big_data.py does it, without Airflow."""
    job, run = order.job, order.run
    if order.step == "mail":
        try:
            succeeded = order.reason == "success"
            etl.send_mail_of_run(job, run=run, succeeded=succeeded, reason=order.reason, mailbox=order.mailbox)
        except etl.ServiceError as error:
            print(f"error: {error}", file=sys.stderr)
            return RETRY
        return 0
    try:
        if not order.step.startswith("process"):  # a shard leaves the receipt as it is
            etl.record_start(job, run=run)
        if order.step == "gate":
            etl.gate(job, run=run, shards=SHARDS)
        elif order.step == "load":
            etl.combine(job, run=run)
            etl.load(job, target=order.target, run=run)
        else:
            etl.process(job, run=run, shard=int(order.step.split()[1]))
    except Exception as failure:  # as the DAG's `attempt` does
        stopped = etl.as_etl_error(failure)
        print(f"error: {stopped}", file=sys.stderr)
        etl.record_failure(stopped, job=job, target=order.target, run=run)
        return RETRY if isinstance(stopped, etl.ServiceError) else FAILED
    return 0


if __name__ == "__main__":
    _serve(os.fdopen(int(sys.argv[1])), int(sys.argv[2]))
