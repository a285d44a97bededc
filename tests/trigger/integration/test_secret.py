"""The password is read from SSM through the layer's CLI, once while the function is warm, and only Airflow gets it."""

import json
import logging
import subprocess
import traceback
from typing import Any

import pytest

from tests.support.airflow_stand_in import LOGIN, PASSWORD, TOKEN, AirflowStandIn
from tests.support.aws_proxy import refusing
from tests.support.cloud import PARAMETER, Cloud
from tests.support.paths import EVENTS
from trigger import errors
from trigger.handler import handler

EVENT: dict[str, Any] = json.loads((EVENTS / "put.json").read_text())


def put(cloud: Cloud, password: str) -> None:
    cloud.ssm.put_parameter(Name=PARAMETER, Value=password, Type="SecureString", Overwrite=True)


def run() -> str | None:
    [record] = handler(EVENT, None)["records"]
    return record["outcome"]


def shown(error: BaseException) -> list[str]:
    """Everything that an error could show, including its causes."""
    texts = traceback.format_exception(error)
    at: BaseException | None = error
    while at:
        texts += [str(at), repr(at), repr(at.args)]
        at = at.__cause__ or at.__context__
    return texts


def test_password_is_read_once_while_the_function_is_warm_and_shown_nowhere(
    cloud: Cloud, airflow: AirflowStandIn, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put(cloud, PASSWORD)
    caplog.set_level(logging.DEBUG)
    children: list[str] = []
    real = subprocess.run

    def look(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        children.append(repr((args, kwargs)))
        return real(*args, **kwargs)

    monkeypatch.setattr(subprocess, "run", look)
    assert [run(), run(), run()] == ["started", "already_accepted", "already_accepted"]
    assert cloud.proxy.operations() == ["GetParameter"]
    assert cloud.proxy.calls[0].parameters == {"Name": PARAMETER, "WithDecryption": True}
    assert len(children) == 1
    assert PASSWORD not in caplog.text + children[0]
    assert TOKEN not in caplog.text + children[0]


def test_changed_password_is_read_again_once_after_a_refused_login(cloud: Cloud, airflow: AirflowStandIn) -> None:
    put(cloud, PASSWORD)
    assert run() == "started"
    airflow.password = "changed-MARKED-1d"
    put(cloud, airflow.password)
    assert run() == "already_accepted"
    assert airflow.calls().count(LOGIN) == 3
    assert cloud.proxy.operations() == ["GetParameter"] * 2


def test_wrong_password_is_read_again_but_not_tried_twice(
    cloud: Cloud, airflow: AirflowStandIn, caplog: pytest.LogCaptureFixture
) -> None:
    put(cloud, wrong := "wrong-MARKED-77")
    caplog.set_level(logging.DEBUG)
    with pytest.raises(errors.LoginRefusedError, match="password in its SSM parameter") as raised:
        run()
    assert airflow.calls() == [LOGIN]
    assert cloud.proxy.operations() == ["GetParameter"] * 2
    assert wrong not in "".join([caplog.text, *shown(raised.value)])


def test_missing_parameter_is_reported_with_the_command_that_puts_it(cloud: Cloud, airflow: AirflowStandIn) -> None:
    with pytest.raises(errors.SecretError, match=rf"{PARAMETER} cannot be read.*ParameterNotFound.*put-parameter"):
        run()
    assert airflow.requests == []


def test_forbidden_parameter_is_reported_with_what_to_allow(cloud: Cloud, airflow: AirflowStandIn) -> None:
    put(cloud, PASSWORD)
    cloud.proxy.script = refusing("GetParameter", "AccessDeniedException")
    with pytest.raises(errors.SecretError, match=r"AccessDeniedException.*Allow the function's role GetParameter"):
        run()
    assert airflow.requests == []


def test_aws_that_is_down_is_no_fault_of_the_parameter(
    cloud: Cloud, airflow: AirflowStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    cloud.proxy.script = refusing("GetParameter", "InternalServerError", status=500)
    with pytest.raises(errors.AwsFailedError, match="InternalServerError"):
        run()
