"""What `make package` made, run as Lambda runs it: nothing but the two zips and the runtime's own client."""

import json
import os
import re
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

import trigger
from tests.support.airflow_stand_in import PASSWORD, TOKEN, AirflowStandIn
from tests.support.cloud import PARAMETER, Cloud
from tests.support.lambda_runtime import LambdaFunction, python
from tests.support.paths import EVENTS
from tests.support.trigger_build import zipped
from trigger.build import LARGEST_UNPACKED_BYTES, LARGEST_ZIP_BYTES


def event(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return loaded


def test_packaged_function_starts_a_run_with_nothing_but_its_zip_and_layer(
    cloud: Cloud, airflow: AirflowStandIn, tmp_path: Path
) -> None:
    cloud.ssm.put_parameter(Name=PARAMETER, Value=PASSWORD, Type="SecureString")
    python()
    settings = {name: value for name, value in os.environ.items() if re.match("AIRFLOW|AWS_|.*_BUCKET$", name)}
    with LambdaFunction("trigger.handler.handler", folder=tmp_path, environment=settings) as function:
        cold = function.invoke(event("put"))
        warm = function.invoke(event("hostile_key"))
        airflow.is_paused = True
        refused = function.invoke(event("put_again"))
        version = subprocess.run(
            [function.opt / "bin" / "aws", "--version"],
            env={"PATH": function.environment["PATH"], "PYTHONPYCACHEPREFIX": str(function.tmp)},
            capture_output=True,
            text=True,
            check=True,
        )
    print(f"cold {cold.elapsed_seconds:.2f} s, warm {warm.elapsed_seconds:.3f} s")
    for result, name in ((cold, "put"), (warm, "hostile_key")):
        assert (result.kind, result.body) == ("response", json.loads((EVENTS / f"{name}.expected.json").read_text()))
    assert warm.elapsed_seconds < cold.elapsed_seconds
    assert len(airflow.runs) == 2
    assert (refused.kind, refused.body["errorType"]) == ("error", "PausedDagError")
    assert "airflow dags unpause moving_big_data" in refused.body["errorMessage"]
    assert cloud.proxy.operations() == ["GetParameter"]
    log = function.log.read_text()
    assert "[INFO]" in log
    assert "started DagRun" in log
    assert PASSWORD not in log
    assert TOKEN not in log
    assert version.stdout.startswith("aws-cli/1.")
    assert not list(function.task.rglob("*.pyc"))
    assert not list(function.opt.rglob("*.pyc"))


def test_zip_has_the_code_that_is_tested_and_nothing_of_this_machine() -> None:
    [room] = trigger.__path__
    with zipfile.ZipFile(zipped("function")) as archive:
        packed = {name: archive.read(name) for name in archive.namelist() if name.startswith("trigger/")}
        others = {name.partition("/")[0] for name in archive.namelist()} - {"trigger"}
    tested = {f"trigger/{path.name}": path.read_bytes() for path in Path(room).glob("*.py") if path.stem != "build"}
    assert packed == tested
    assert {"requests", "urllib3", "certifi", "tzdata"} <= others  # Lambda's image need not have time zones
    assert not [
        name for name in others if name.partition("-")[0].lower() in ("boto3", "botocore", "awscli", "etl", "bin")
    ]


@pytest.mark.parametrize("name", ["function", "layer"])
def test_zip_holds_no_compiled_code_of_one_machine_and_is_the_same_when_made_again(name: str) -> None:
    with zipfile.ZipFile(zipped(name)) as archive:
        entries = archive.infolist()
    assert not [entry.filename for entry in entries if entry.filename.endswith((".so", ".pyc", ".exe"))]
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {oct(entry.external_attr >> 16) for entry in entries} <= {"0o100644", "0o100755"}


def test_zips_are_within_the_limits_of_lambda() -> None:
    unpacked = 0
    for name in ("function", "layer"):
        assert zipped(name).stat().st_size < LARGEST_ZIP_BYTES
        with zipfile.ZipFile(zipped(name)) as archive:
            unpacked += sum(entry.file_size for entry in archive.infolist())
    assert unpacked < LARGEST_UNPACKED_BYTES
