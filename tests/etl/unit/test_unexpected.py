"""An error that nobody expects, thrown into every way in: one line, code 3, receipt and mail kept, no traceback."""

from __future__ import annotations

import ast
import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import etl
from etl import cli
from etl.errors import FileChangedError, ShortOfMemoryError, UnexpectedError, as_etl_error
from etl.outcome.receipt import State
from tests.support.company_files import FIRST, LAST, company_file
from tests.support.paths import DAGS

FOUND_BY_THE_DAG = {
    node.attr
    for node in ast.walk(ast.parse((DAGS / "moving_big_data.py").read_text()))
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "etl"
}
DATABASE = "postgresql://127.0.0.1:1/none"


class Surprise(Exception):
    """Nobody knows this error."""


SURPRISES = [
    Surprise("with\nmany\x1b[31m lines and postgresql://user:s3cret@host/name password=s3cret"),
    Surprise(),
    TypeError("unsupported operand"),
    KeyError("x"),
    UnicodeEncodeError("ascii", "×", 0, 1, "ordinal not in range"),
    RecursionError("maximum recursion depth exceeded"),
    FileChangedError("x.csv"),
    OSError(28, "No space left on device"),
    AssertionError(),
    StopIteration(),
    MemoryError(),
    RuntimeError("can't start new thread"),
]


@pytest.fixture
def batch(tmp_path: Path) -> etl.Job:
    """A batch of one company."""
    (tmp_path / "Stocks").mkdir()
    (tmp_path / "Stocks" / "a.csv").write_bytes(company_file(FIRST, LAST))
    (tmp_path / "index.txt").write_text("a.csv")
    return etl.Job(str(tmp_path / "Stocks"), str(tmp_path / "index.txt"), str(tmp_path / "Output"))


def thrower(error: Exception) -> Callable[..., Any]:
    def throw(*_: object, **__: object) -> Any:  # noqa: ANN401
        raise error

    return throw


COMMANDS = {
    "run": ("--source", "S", "--index", "I", "--output", "O", "--database-url", DATABASE),
    "process": ("--source", "S", "--index", "I", "--output", "O"),
    "load": ("--output", "O", "--database-url", DATABASE),
    "init-db": ("--database-url", DATABASE),
    "grant-reader": ("ada", "--database-url", DATABASE),
    "history": ("--database-url", DATABASE),
    "check": ("--database-url", DATABASE),
    "rejected": ("--database-url", DATABASE),
    "report": ("--database-url", DATABASE, "--output", "O"),
    "diff": ("RUN", "--database-url", DATABASE),
    "undo": ("--yes", "--database-url", DATABASE),
    "trace": ("a.csv", "2020-01-02", "--database-url", DATABASE),
    "verify": ("--database-url", DATABASE),
}


def test_sweep_knows_every_command() -> None:
    assert COMMANDS.keys() == cli._COMMANDS.keys()


@pytest.mark.parametrize("error", SURPRISES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("name", COMMANDS)
def test_command_ends_with_one_line_and_code_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, error: Exception
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(cli._COMMANDS, name, thrower(error))
    assert cli.main([name, *COMMANDS[name]]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.splitlines() == [err.removesuffix("\n")]
    assert err.removesuffix("\n").isprintable()
    assert "s3cret" not in err


INNERMOST = [
    "etl.files.process.check_company_file",
    "etl.batch.storage._Folder.listing",
    "etl.files.manifest.Manifest.to_json",
]


def patch(monkeypatch: pytest.MonkeyPatch, place: str, error: Exception) -> None:
    parts = place.split(".")
    at = next(number for number in range(len(parts), 0, -1) if ".".join(parts[:number]) in sys.modules)
    owner: Any = sys.modules[".".join(parts[:at])]
    for part in parts[at:-1]:
        owner = getattr(owner, part)
    monkeypatch.setattr(owner, parts[-1], thrower(error))


@pytest.mark.parametrize("error", SURPRISES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("place", INNERMOST)
def test_surprise_deep_inside_a_run_leaves_its_receipt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], batch: etl.Job, place: str, error: Exception
) -> None:
    patch(monkeypatch, place, error)
    places = ["--source", batch.source, "--index", batch.company_index, "--output", batch.output]
    code = cli.main(["process", *places, "--quiet", "--json"])
    out, err = capsys.readouterr()
    [path] = (Path(batch.output) / "receipts").iterdir()
    receipt = json.loads(path.read_text())
    assert (receipt["state"], err) == ("failed", f"error: {receipt['error']}\n")
    assert json.loads(out)["error"] == receipt["error"]
    assert code == 3
    assert "\n" not in receipt["error"]
    assert not list(Path(batch.output).rglob("*.partial"))


RUN = etl.Run("run", datetime(2026, 1, 1, tzinfo=UTC))
TARGET = etl.Target(DATABASE)
MAILBOX = etl.Mailbox("arn:aws:sns:eu-west-1:000000000000:topic", "ada", "lovelace")
FUNCTIONS: dict[str, Callable[[etl.Job], object]] = {
    "gate": lambda job: etl.gate(job, run=RUN),
    "process": lambda job: etl.process(job, run=RUN),
    "combine": lambda job: etl.combine(job, run=RUN),
    "load": lambda job: etl.load(job, target=TARGET, run=RUN),
    "run": lambda job: etl.run(job, target=TARGET, run=RUN),
    "record_start": lambda job: etl.record_start(job, run=RUN),
    "record_failure": lambda job: etl.record_failure(Surprise(), job=job, target=TARGET, run=RUN),
    "forget_work": lambda job: etl.forget_work(job, run=RUN),
    "read_history": lambda job: etl.read_history(DATABASE),
    "datasets": lambda job: etl.datasets(etl.Receipt.of_run(RUN, state=State.SUCCESS), job=job, target=TARGET),
    "send_mail": lambda job: etl.send_mail(etl.Receipt.of_run(RUN, state=State.SUCCESS), job=job, mailbox=MAILBOX),
    "send_mail_of_run": lambda job: etl.send_mail_of_run(
        job, run=RUN, succeeded=True, reason="success", mailbox=MAILBOX
    ),
}
WORK_NOTHING = {  # functions of the face that the DAG calls and that reach nothing outside
    "Aws", "CompanyFileProgress", "Dataset", "Datasets", "EtlError", "Job", "Marker", "Policy", "Receipt", "Run",
    "ServiceError", "Settings", "SettingsError",
    "Target", "as_etl_error", "database_dsn", "read_channels", "read_mailbox", "read_names", "read_policy",
    "read_settings",
    "receipt_text",
    "source_bucket",
}  # fmt: skip


def test_sweep_knows_every_function_that_the_dag_calls() -> None:
    assert FUNCTIONS.keys() >= FOUND_BY_THE_DAG - WORK_NOTHING


@pytest.mark.parametrize("error", SURPRISES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_of_the_face_raises_nothing_but_errors_of_etl(
    monkeypatch: pytest.MonkeyPatch, batch: etl.Job, name: str, error: Exception
) -> None:
    patch(monkeypatch, "etl.pipeline.open_storage", error)
    patch(monkeypatch, "etl.pipeline.last_receipts", error)
    patch(monkeypatch, "etl.pipeline.record_run", error)
    monkeypatch.setattr("etl.batch.aws.Aws.sns", property(thrower(error)))
    if name in ("record_failure", "forget_work", "send_mail"):
        FUNCTIONS[name](batch)  # they raise nothing at all
        return
    with pytest.raises(etl.EtlError) as raised:
        FUNCTIONS[name](batch)
    assert "\n" not in str(raised.value)
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize("error", SURPRISES, ids=lambda error: type(error).__name__)
def test_mail_that_meets_a_surprise_is_kept_as_a_notice(
    monkeypatch: pytest.MonkeyPatch, batch: etl.Job, error: Exception
) -> None:
    monkeypatch.setattr("etl.batch.aws.Aws.sns", property(thrower(error)))
    with pytest.raises(etl.ServiceError, match=r"The mail was not sent: .* It is kept in"):
        FUNCTIONS["send_mail_of_run"](batch)
    notice = json.loads((Path(batch.output) / "notices" / "run.json").read_text())
    assert notice["Subject"] == "Ada_Lovelace_Pipeline_Failure"


def test_surprise_is_named_with_its_class_its_text_and_the_place_that_it_came_through(batch: etl.Job) -> None:
    with pytest.raises(UnexpectedError) as raised:
        etl.gate(batch, run=None)  # type: ignore[arg-type]
    said = str(raised.value)
    assert said.startswith("An error that was not expected: AttributeError in etl/pipeline.py, line ")
    assert "'NoneType' object has no attribute 'run_id'" in said
    assert "The table holds the old batch or the new one, whole." in said


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("can't start new thread"),
        OSError(12, "Cannot allocate memory"),
        BlockingIOError(11, "Resource temporarily unavailable"),
        ImportError("x.so: failed to map segment from shared object"),
    ],
)
def test_shortage_of_memory_or_threads_is_said_as_that(error: Exception) -> None:
    found = as_etl_error(error)
    assert isinstance(found, ShortOfMemoryError)
    assert "emory" in str(found)
    assert found.exit_code == 3


@pytest.mark.parametrize("place", ["source", "company_index", "output"])
def test_path_that_is_not_utf_8_is_refused_in_one_line_and_leaves_a_receipt_where_it_can(
    capsys: pytest.CaptureFixture[str], batch: etl.Job, tmp_path: Path, place: str
) -> None:
    broken = os.fsdecode(bytes(tmp_path / "M") + b"\xfcller")
    os.mkdir(broken)
    places = {"source": batch.source, "company_index": batch.company_index, "output": batch.output, place: broken}
    options = [text for name, path in places.items() for text in (f"--{name.replace('_', '-')}", path)]
    assert cli.main(["process", *options, "--quiet"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert r"M\udcfcller' is not UTF-8" in err
    if place != "output":
        [path] = (Path(batch.output) / "receipts").iterdir()
        assert "is not UTF-8" in json.loads(path.read_text())["error"]
