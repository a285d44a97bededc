"""`etl/__init__.py` is the whole public face: this is what stands on it."""

import ast
import subprocess
import sys
from pathlib import Path

import etl

FACE = [
    *(
        "Aws",
        "BatchError",
        "CompanyFileProgress",
        "EtlError",
        "Job",
        "Mailbox",
        "Receipt",
        "Run",
        "ServiceError",
        "Settings",
        "SettingsError",
        "Shard",
    ),
    *(
        "Target",
        "combine",
        "conclude",
        "gate",
        "load",
        "process",
        "read_mailbox",
        "read_prices",
        "read_receipt",
        "read_settings",
    ),
    *("record_failure", "record_start", "run", "source_bucket", "split"),
]


def test_public_face_is_exactly_this_in_order() -> None:
    assert etl.__all__ == FACE == sorted(FACE)


def test_every_name_of_the_face_is_there_and_documented() -> None:
    for name in FACE:
        assert getattr(etl, name).__doc__


def test_every_error_of_the_face_has_its_exit_code() -> None:
    codes = {error: error.exit_code for error in (etl.BatchError, etl.SettingsError, etl.ServiceError)}
    assert codes == {etl.BatchError: 1, etl.SettingsError: 2, etl.ServiceError: 3}
    assert all(issubclass(error, etl.EtlError) for error in codes)


def test_face_holds_no_logic() -> None:
    body = ast.parse(Path(etl.__file__).read_text()).body
    assert [type(node) for node in body[1:-1]] == [ast.ImportFrom] * (len(body) - 2)
    assert isinstance(body[-1], ast.Assign)


def test_importing_etl_loads_neither_airflow_nor_the_trigger_nor_pandas() -> None:
    # pandas costs half a second, which no load needs
    script = "import sys, etl; print(sorted({'airflow', 'trigger', 'requests', 'pandas'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
