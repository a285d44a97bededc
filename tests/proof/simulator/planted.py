"""Bugs that a reviewer would fear, planted into the product one at a time: the simulator has to find each."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import timedelta, timezone
from importlib import import_module
from typing import Any
from unittest import mock

import etl
import etl.table.database
import trigger.alarm
import trigger.watchdog
from etl.batch.storage import Listed
from etl.errors import MissingFilesError
from etl.outcome.receipt import MailState
from etl.table.journal import Consent
from tests.proof.simulator.amazon import MONITORED
from trigger import aws_cli, s3_event
from trigger import mail as trigger_mail
from trigger.errors import TriggerError


@contextmanager
def _doubled_mail() -> Iterator[None]:
    """Now and then a mail is sent twice."""
    pipeline: Any = import_module("etl.pipeline")
    send, sent = pipeline.send, []

    def twice(receipt: etl.Receipt, **options: Any) -> Any:  # noqa: ANN401
        sent.append(receipt)
        if len(sent) % 5 == 0:
            send(receipt, **options)
        return send(receipt, **options)

    with mock.patch.object(pipeline, "send", twice):
        yield


@contextmanager
def _marker_lost() -> Iterator[None]:
    """The trigger takes an error for an answer."""
    module: Any = import_module("trigger.handler")
    handle = module.handler

    def careless(event: object, context: object) -> Any:  # noqa: ANN401
        try:
            return handle(event, context)
        except TriggerError:
            markers = s3_event.read_records(event, monitored_bucket=MONITORED)
            ids = [marker.dag_run_id for marker in markers if isinstance(marker, s3_event.Marker)]
            return {"records": [{"outcome": "started", "dag_run_id": run_id} for run_id in ids]}

    with mock.patch.object(module, "handler", careless):
        yield


def _run_id_without_put() -> AbstractContextManager[object]:
    """A marker's key makes the run's id: another put of it is taken for the same event."""
    same = property(lambda marker: s3_event.marker_name(marker.bucket, marker.key, marker.event_time)[-10:])
    return mock.patch.object(s3_event.Marker, "dag_run_id", same)


@contextmanager
def _run_id_of_delivery() -> Iterator[None]:
    """Each delivery of an event makes another id."""
    handler: Any = import_module("trigger.handler")
    start, numbers = handler._start, itertools.count()

    def begin(marker: s3_event.Marker, **options: Any) -> Any:  # noqa: ANN401
        return start(replace(marker, put_id=f"{marker.put_id} {next(numbers)}"), **options)

    with mock.patch.object(handler, "_start", begin):
        yield


@contextmanager
def _commit_before_ledger() -> Iterator[None]:
    load: Any = import_module("etl.table.load")._Load
    commit = load.commit

    def early(transaction: Any, record: Any, *, combined: Any) -> None:  # noqa: ANN401
        if not transaction._target.dry_run:
            transaction._connection.commit()
        commit(transaction, record, combined=combined)

    with mock.patch.object(load, "commit", early):
        yield


@contextmanager
def _without(module: str, name: str) -> Iterator[None]:
    """One named query is not asked any more."""

    def some(cursor: Any, asked: str, **values: object) -> list[tuple[Any, ...]]:  # noqa: ANN401
        return [] if asked == name else etl.table.database.query(cursor, asked, **values)

    with mock.patch(f"{module}.query", some):
        yield


@contextmanager
def _ledger_after_undo() -> Iterator[None]:
    with _without("etl.table.undo", "restore_ledger"), mock.patch("etl.table.undo._correct_ledger"):
        yield


@contextmanager
def _alarm_before_mail() -> Iterator[None]:
    """The record that prevents a second mail is written before the first one is sent."""

    def hasty(name: str, text: str, *, settings: Any, deadline: Any) -> bool:  # noqa: ANN401
        record = f"{trigger.alarm.ALARMS}{name}.json"
        if trigger.alarm.exists(record, settings=settings, deadline=deadline):
            return False
        content = json.dumps({"text": text}).encode()
        aws_cli.run(["s3", "cp", "-", f"s3://{settings.source_bucket}/{record}"], given=content, deadline=deadline)
        trigger_mail.publish(text, subject=trigger_mail.failure_subject(settings), settings=settings, deadline=deadline)
        return True

    with mock.patch("trigger.watchdog.raise_alarm", hasty), mock.patch("trigger.report.raise_alarm", hasty):
        yield


def _mail_not_looked_at() -> AbstractContextManager[object]:
    """The watchdog is content with a run that ended, mail or not."""
    return mock.patch.object(trigger.watchdog, "has_mail", trigger.watchdog.has_ended)


def _everybody_consents() -> AbstractContextManager[object]:
    """No company is held back, though its file lost days."""
    return mock.patch.object(Consent, "of", return_value=Consent(to_all=True))


@contextmanager
def _winter_time() -> Iterator[None]:
    """Clocks are never put forward for MBD_EXPECT_BY."""
    expectation: Any = import_module("trigger.expectation")
    with mock.patch.object(expectation, "_zone", return_value=timezone(timedelta(hours=1))):
        yield


@contextmanager
def _old_version_taken_over() -> Iterator[None]:
    """A file whose size did not change is taken for the same file."""
    last: Any = import_module("etl.files.last_outputs").LastOutputs
    find = last.find

    def by_size(outputs: Any, name: str, listed: Listed) -> Any:  # noqa: ANN401
        record = outputs.manifest.files.get(name) if outputs.manifest else None
        if record and record.size_bytes == listed.size_bytes and record.version:
            listed = replace(listed, version=record.version)
        return find(outputs, name, listed)

    with mock.patch.object(last, "find", by_size):
        yield


@contextmanager
def _error_swallowed() -> Iterator[None]:
    """A mail that SNS refuses is not kept."""
    mail: Any = import_module("etl.outcome.mail")
    with mock.patch.object(mail, "_keep", return_value=(MailState.KEPT, "")):
        yield


def _nothing_loads() -> AbstractContextManager[object]:
    """Each load meets an error of its own."""
    return mock.patch.object(etl, "load", side_effect=KeyError("rows"))


def _no_batch_is_whole() -> AbstractContextManager[object]:
    """The gate refuses each batch."""
    error = MissingFilesError("1 of 5 company files is not there.", listed=5, missing=("a.us.csv",))
    return mock.patch.object(etl, "gate", side_effect=error)


def _losses_are_held() -> AbstractContextManager[object]:
    """A company that lost any day is held back."""
    return mock.patch("etl.table.journal.LARGEST_LOSS", 0.0)


BUGS: Mapping[str, Callable[[], AbstractContextManager[object]]] = {
    "every fifth mail is sent twice": _doubled_mail,
    "the trigger takes an error for an answer": _marker_lost,
    "the put is not in the run's id": _run_id_without_put,
    "each delivery makes a run": _run_id_of_delivery,
    "rows are committed before the ledger": _commit_before_ledger,
    "an undo forgets the ledger": _ledger_after_undo,
    "a lost COMMIT is not asked about": lambda: _without("etl.table.load", "find_attempt"),
    "no journal of what grew": lambda: _without("etl.table.growth", "journal_ranges"),
    "an alarm is recorded before it is mailed": _alarm_before_mail,
    "the watchdog does not look at the mail": _mail_not_looked_at,
    "companies that lost days are loaded": _everybody_consents,
    "no summer time": _winter_time,
    "a file of the same size is the same file": _old_version_taken_over,
    "a refused mail is not kept": _error_swallowed,
    "nothing is ever loaded": _nothing_loads,
    "no batch is whole": _no_batch_is_whole,
    "a company that lost one day of many is held": _losses_are_held,
}
