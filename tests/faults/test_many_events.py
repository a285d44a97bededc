"""Fifty trigger events at once, each delivered twice, before an Airflow that answers as the real one does."""

from __future__ import annotations

import copy
import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.unit.trigger.airflow_server import AirflowServer, Answer, Request
from tests.unit.trigger.conftest import airflow  # noqa: F401  a fixture of this file too
from trigger.handler import handler

if TYPE_CHECKING:
    from tests.faults.conftest import Figures

EVENTS = 50
PUT = json.loads((Path(__file__).parents[1] / "events" / "put.json").read_text())


def event(number: int) -> dict[str, object]:
    """The captured event, of another marker."""
    made: dict[str, object] = copy.deepcopy(PUT)
    made["Records"][0]["s3"]["object"]["key"] = f"batches/{number:03}.SUCCESS"  # type: ignore[index]
    return made


@pytest.fixture(autouse=True)
def _busy_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in, as a server that takes in many connections at once and decides by a unique key of its database."""
    deciding, answer = threading.Lock(), AirflowServer.answer

    def answer_alone(server: AirflowServer, request: Request) -> Answer | None:
        with deciding:
            return answer(server, request)

    monkeypatch.setattr(ThreadingHTTPServer, "request_queue_size", 1024)
    monkeypatch.setattr(AirflowServer, "answer", answer_alone)


@pytest.mark.parametrize("deliveries", [1, 2, 3])
def test_fifty_events_at_once_become_fifty_runs_however_often_they_are_delivered(
    airflow: AirflowServer,  # noqa: F811
    figures: Figures,
    deliveries: int,
) -> None:
    events = [event(number) for number in range(EVENTS)] * deliveries
    with ThreadPoolExecutor(len(events)) as pool:
        results = list(pool.map(lambda one: handler(one, None), events))
    outcomes = Counter(record["outcome"] for result in results for record in result["records"])
    assert outcomes == Counter(started=EVENTS, already_accepted=EVENTS * (deliveries - 1))
    assert sorted(conf["marker"]["key"] for conf in airflow.runs.values()) == [
        f"batches/{number:03}.SUCCESS" for number in range(EVENTS)
    ]
    assert len(airflow.runs) == EVENTS
    figures.counts["events_at_once"] = max(figures.counts["events_at_once"], len(events))
