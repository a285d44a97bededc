"""An Airflow that answers, and the environment of a warm function, which has read the password before."""

from collections.abc import Iterator

import pytest

from tests.support.airflow_stand_in import PASSWORD, USERNAME, AirflowStandIn
from trigger import secret

BUCKET = "de-mbd-predict-ada-lovelace-monitored-bucket"
PARAMETER = "/de-mbd-predict-ada-lovelace/airflow/trigger-password"


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[AirflowStandIn]:
    with AirflowStandIn() as server:
        monkeypatch.setenv("AIRFLOW_URL", server.url)
        monkeypatch.setenv("AIRFLOW_USERNAME", USERNAME)
        monkeypatch.setenv("AIRFLOW_PASSWORD_PARAMETER", PARAMETER)
        monkeypatch.setenv("MONITORED_BUCKET", BUCKET)
        monkeypatch.setenv("SOURCE_BUCKET", "de-mbd-predict-ada-lovelace-s3-source")
        for name in ("INSTANCE_ID", "AIRFLOW_CERTIFICATE_SHA256", "DRY_RUN"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(secret, "_secrets", {PARAMETER: PASSWORD})
        monkeypatch.setenv("NO_PROXY", "*")
        yield server
