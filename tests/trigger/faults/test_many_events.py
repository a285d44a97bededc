"""Fifty trigger events at once: each asks for one run, by its own id, which is the same at every delivery.

That Airflow makes only one run of an id is tested end to end; here a stand-in takes its place.
"""

from __future__ import annotations

import copy
import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import ThreadingHTTPServer

import pytest

from tests.support.airflow_stand_in import RUNS, AirflowStandIn, Answer, Request
from tests.support.paths import EVENTS
from trigger.handler import handler

AT_ONCE = 50
PUT = json.loads((EVENTS / "put.json").read_text())


def event(number: int) -> dict[str, object]:
    """The captured event, with another marker."""
    made: dict[str, object] = copy.deepcopy(PUT)
    made["Records"][0]["s3"]["object"]["key"] = f"batches/{number:03}.SUCCESS"  # type: ignore[index]
    return made


@pytest.fixture(autouse=True)
def _busy_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the stand-in accept many connections at once; it answers one request after the other."""
    deciding, answer = threading.Lock(), AirflowStandIn.answer

    def answer_alone(server: AirflowStandIn, request: Request) -> Answer | None:
        with deciding:
            return answer(server, request)

    monkeypatch.setattr(ThreadingHTTPServer, "request_queue_size", 1024)
    monkeypatch.setattr(AirflowStandIn, "answer", answer_alone)


@pytest.mark.parametrize("deliveries", [1, 2, 3])
def test_fifty_events_at_once_ask_for_fifty_runs_once_a_delivery(
    airflow: AirflowStandIn,
    deliveries: int,
) -> None:
    events = [event(number) for number in range(AT_ONCE)] * deliveries
    with ThreadPoolExecutor(len(events)) as pool:
        results = list(pool.map(lambda one: handler(one, None), events))
    outcomes = Counter(record["outcome"] for result in results for record in result["records"])
    assert outcomes == Counter(started=AT_ONCE, already_accepted=AT_ONCE * (deliveries - 1))
    assert len({record["dag_run_id"] for result in results for record in result["records"]}) == AT_ONCE
    assert sorted(conf["marker"]["key"] for conf in airflow.runs.values()) == [
        f"batches/{number:03}.SUCCESS" for number in range(AT_ONCE)
    ]
    assert airflow.calls().count(RUNS) == len(events)
