"""An Airflow that answers, and an environment in which the handler finds it."""

from collections.abc import Iterator

import pytest

from tests.unit.trigger.airflow_server import PASSWORD, USERNAME, AirflowServer

BUCKET = "de-mbd-predict-ada-lovelace-monitored-bucket"


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[AirflowServer]:
    with AirflowServer() as server:
        monkeypatch.setenv("AIRFLOW_URL", server.url)
        monkeypatch.setenv("AIRFLOW_USERNAME", USERNAME)
        monkeypatch.setenv("AIRFLOW_PASSWORD", PASSWORD)
        monkeypatch.setenv("MONITORED_BUCKET", BUCKET)
        monkeypatch.setenv("NO_PROXY", "*")
        yield server
