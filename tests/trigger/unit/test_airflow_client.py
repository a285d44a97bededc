"""Each way in which Airflow does not start a run has its own error, is asked for once, and shows no secret."""

import logging
import socket
import time
import traceback
from collections.abc import Callable

import pytest

from tests.support.airflow_stand_in import (
    DAG,
    HANG_UP,
    HEALTH,
    KEEP_WAITING,
    LOGIN,
    PASSWORD,
    RUNS,
    TOKEN,
    USERNAME,
    WEB_PAGE,
    AirflowStandIn,
    Answer,
)
from trigger import airflow_client, errors
from trigger.airflow_client import Access, Server, log_in, require_unpaused, start_run, wait_until_healthy
from trigger.deadline import Deadline

ECHO = {"detail": f"you sent {PASSWORD} and {TOKEN}"}  # a body that gives away all it knows
CONF = {"marker": {"bucket": "b", "key": "k.SUCCESS", "etag": "e"}, "requested_at": "2026-11-22T08:00:00+00:00"}


def start(airflow: AirflowStandIn, *, dag_run_id: str = "marker_1") -> str:
    access = log_in(Server(url=airflow.url), username=USERNAME, password=PASSWORD)
    require_unpaused(access)
    return start_run(access, dag_run_id=dag_run_id, conf=CONF)


def scripted(call: str, status: int, body: object = ECHO, **headers: str) -> Callable[[AirflowStandIn], None]:
    return lambda airflow: airflow.script(call, Answer(status, body, headers))


def silent(call: str, answer: Answer) -> Callable[[AirflowStandIn], None]:
    return lambda airflow: airflow.script(call, answer)


def other_password(airflow: AirflowStandIn) -> None:
    airflow.password = "another"


def pause(airflow: AirflowStandIn) -> None:
    airflow.is_paused = True


UNKNOWN = {"detail": "The Dag with ID: `moving_big_data` was not found"}
FAILURES: dict[str, tuple[Callable[[AirflowStandIn], None], type[errors.TriggerError], str]] = {
    "wrong password": (
        other_password,
        errors.LoginRefusedError,
        "refused the login of user 'trigger'.*password in its SSM parameter",
    ),
    "login: no such path": (scripted(LOGIN, 404), errors.WrongApiError, "/auth/token answered 404.*AIRFLOW_URL"),
    "login: path below the root": (scripted(LOGIN, 405), errors.WrongApiError, "answered 405.*root of Airflow 3"),
    "login: other form": (scripted(LOGIN, 422), errors.WrongApiError, "answered 422"),
    "login: redirect": (scripted(LOGIN, 307, Location="/stolen"), errors.WrongApiError, "answered 307"),
    "login: web page": (scripted(LOGIN, 201, WEB_PAGE), errors.WrongApiError, "201 without a usable access_token"),
    "login: list": (scripted(LOGIN, 201, [TOKEN]), errors.WrongApiError, "201 without a usable access_token"),
    "login: token for two headers": (
        scripted(LOGIN, 201, {"access_token": f"{TOKEN}\r\nX: y"}),
        errors.WrongApiError,
        "201 without a usable access_token",
    ),
    "login: forbidden": (scripted(LOGIN, 403), errors.AccessDeniedError, "/auth/token answered 403.*role"),
    "login: server error": (scripted(LOGIN, 500), errors.ServerFailedError, "/auth/token answered 500"),
    "login: hangs up": (silent(LOGIN, HANG_UP), errors.UnreachableError, "/auth/token found no working connection"),
    "login: no answer": (silent(LOGIN, KEEP_WAITING), errors.NoAnswerError, "/auth/token got no answer within 0.7 s"),
    "dag: other version": (
        scripted(DAG, 404, {"error": "/api/v1 has been removed"}),
        errors.WrongApiError,
        "answered 404.*no /api/v1 or /api/v2",
    ),
    "dag: plain 404": (scripted(DAG, 404, {"detail": "Not Found"}), errors.WrongApiError, "answered 404"),
    "dag: web page": (scripted(DAG, 200, WEB_PAGE), errors.WrongApiError, "answered 200 without is_paused"),
    "dag: unknown": (scripted(DAG, 404, UNKNOWN), errors.UnknownDagError, "no DAG moving_big_data.*import errors"),
    "dag: token refused": (scripted(DAG, 401), errors.AccessDeniedError, "answered 401.*API_AUTH__JWT_SECRET"),
    "dag: not allowed": (scripted(DAG, 403), errors.AccessDeniedError, "answered 403.*role"),
    "dag: server error": (scripted(DAG, 502, WEB_PAGE), errors.ServerFailedError, "answered 502"),
    "dag: paused": (pause, errors.PausedDagError, "moving_big_data is paused.*airflow dags unpause moving_big_data"),
    "run: stale dag": (scripted(RUNS, 404, UNKNOWN), errors.UnknownDagError, "no DAG moving_big_data"),
    "run: import errors": (scripted(RUNS, 400), errors.RefusedRunError, "refused to make DagRun marker_1 .400"),
    "run: other contract": (scripted(RUNS, 422), errors.RefusedRunError, "refused to make DagRun marker_1 .422"),
    "run: not allowed": (scripted(RUNS, 403), errors.AccessDeniedError, "dagRuns answered 403"),
    "run: too many": (scripted(RUNS, 429), errors.ServerFailedError, "dagRuns answered 429"),
    "run: server error": (scripted(RUNS, 503), errors.ServerFailedError, "dagRuns answered 503.*repeat is safe"),
    "run: hangs up": (silent(RUNS, HANG_UP), errors.UnreachableError, "dagRuns found no working connection"),
    "run: no answer": (silent(RUNS, KEEP_WAITING), errors.NoAnswerError, "dagRuns got no answer.*repeat is safe"),
    "airflow is down": (AirflowStandIn.stop, errors.UnreachableError, "no working connection.*api-server is up"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failure_has_its_own_error_is_not_repeated_and_shows_no_secret(
    name: str, airflow: AirflowStandIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(airflow_client, "TIMEOUT_SECONDS", (0.7, 0.7))
    caplog.set_level(logging.DEBUG)
    arrange, kind, text = FAILURES[name]
    arrange(airflow)
    with pytest.raises(kind, match=text) as raised:
        start(airflow)
    assert type(raised.value) is kind
    assert len(airflow.calls()) == len(set(airflow.calls()))
    assert "POST /stolen" not in airflow.calls()
    assert airflow.runs == {}
    seen = [caplog.text, *traceback.format_exception(raised.value)]
    error: BaseException | None = raised.value
    while error:
        seen += [str(error), repr(error), repr(error.args)]
        error = error.__cause__ or error.__context__
    assert not [shown for shown in seen if PASSWORD in shown or TOKEN in shown]


def test_host_that_takes_no_connection_is_given_up_after_the_connect_timeout(
    airflow: AirflowStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(airflow_client, "TIMEOUT_SECONDS", (0.3, 5.0))
    with socket.socket() as listening, socket.socket() as first:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)  # the queue holds one; Linux leaves the next without an answer
        first.connect(listening.getsockname())
        server = Server(url=f"http://127.0.0.1:{listening.getsockname()[1]}")
        with pytest.raises(errors.UnreachableError, match=r"no connection within 0.3 s.*security group"):
            log_in(server, username=USERNAME, password=PASSWORD)


def test_run_is_asked_for_with_the_token_and_exactly_the_fields_of_the_contract(airflow: AirflowStandIn) -> None:
    assert start(airflow) == "started"
    login, dag, run = airflow.requests
    assert (login.call, dag.call, run.call) == (LOGIN, DAG, RUNS)
    assert login.authorization is None
    assert dag.authorization == run.authorization == f"Bearer {TOKEN}"
    assert run.body == {"dag_run_id": "marker_1", "logical_date": None, "conf": CONF}


def test_run_that_is_there_already_is_no_error_and_no_second_run(airflow: AirflowStandIn) -> None:
    assert start(airflow) == "started"
    assert start(airflow) == "already_accepted"
    assert list(airflow.runs) == ["marker_1"]


def test_netrc_file_does_not_replace_the_token(
    airflow: AirflowStandIn, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    netrc = tmp_path_factory.mktemp("home") / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    assert start(airflow) == "started"


def test_token_has_no_repr() -> None:
    assert TOKEN not in repr(Access(server=Server(url="https://airflow.example"), token=TOKEN))


HEALTHY = {part: {"status": "healthy"} for part in ("metadatabase", "scheduler", "dag_processor")}


def wait(airflow: AirflowStandIn, *, seconds: float, wake: Callable[[], object] = lambda: None) -> None:
    wait_until_healthy(Server(url=airflow.url), deadline=Deadline(at=time.monotonic() + seconds), wake=wake)


def test_airflow_that_is_starting_is_waited_for_until_every_part_is_healthy(
    airflow: AirflowStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(airflow_client, "_HEALTH_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(airflow_client, "TIMEOUT_SECONDS", (5.0, 2.0))
    starting: list[object] = [{**HEALTHY, part: {"status": "unhealthy"}} for part in HEALTHY]
    starting += [{**HEALTHY, "dag_processor": {"status": None}}, {"metadatabase": {"status": "healthy"}}]
    down = [HANG_UP, KEEP_WAITING, Answer(502, WEB_PAGE), Answer(503, HEALTHY), Answer(504), Answer(429)]
    answers = [*down, *(Answer(200, body) for body in starting)]
    airflow.script(HEALTH, *answers, Answer(200, {**HEALTHY, "triggerer": {"status": "unhealthy"}}))
    wait(airflow, seconds=20)
    assert airflow.calls() == [HEALTH] * (len(answers) + 1)


def test_airflow_that_stays_unhealthy_is_given_up_in_time_saying_which_part_is(
    airflow: AirflowStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(airflow_client, "_HEALTH_PAUSE_SECONDS", 0.05)
    airflow.script(HEALTH, *[Answer(200, {**HEALTHY, "scheduler": {"status": "unhealthy"}})] * 1000)
    begun = time.monotonic()
    with pytest.raises(errors.NotReadyError, match=r"not up in time .answered 200; not healthy: scheduler.*docker"):
        wait(airflow, seconds=2)
    assert time.monotonic() - begun < 20
    assert len(airflow.calls()) > 2


def test_airflow_that_is_down_is_given_up_with_the_connection_error(
    airflow: AirflowStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    airflow.stop()
    with pytest.raises(errors.NotReadyError, match=r"not up in time .*found no working connection"):
        wait(airflow, seconds=0.2)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (Answer(404, {"detail": "Not Found"}), "answered 404, which Airflow 3 never does"),
        (Answer(401), "answered 401"),
        (Answer(307, headers={"Location": "/stolen"}), "answered 307"),
        (Answer(204, ""), "answered 204"),
        (Answer(200, WEB_PAGE), "answered 200 without Airflow's health"),
        (Answer(200, {"status": "ok"}), "answered 200 without Airflow's health"),
        (Answer(200, [HEALTHY]), "answered 200 without Airflow's health"),
    ],
)
def test_server_that_is_no_airflow_is_not_waited_for(answer: Answer, text: str, airflow: AirflowStandIn) -> None:
    airflow.script(HEALTH, answer)
    with pytest.raises(errors.WrongApiError, match=rf"monitor/health {text}.*Set AIRFLOW_URL to the root of Airflow 3"):
        wait(airflow, seconds=20)
    assert airflow.calls() == [HEALTH]


def test_instance_is_woken_again_now_and_then_while_airflow_is_not_up(
    airflow: AirflowStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(airflow_client, "_HEALTH_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr("trigger.instance.LOOK_AGAIN_SECONDS", 0.5)
    airflow.script(HEALTH, *[HANG_UP] * 1000)
    woken: list[int] = []

    def wake() -> None:
        woken.append(len(airflow.calls()))
        if len(woken) == 2:
            airflow.scripted.clear()  # it runs, and so does Airflow

    wait(airflow, seconds=20, wake=wake)
    assert len(woken) == 2
    assert woken[0] > 2
    assert len(airflow.calls()) == woken[1] + 1
