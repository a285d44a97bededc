"""The command line: exit codes, one clear line on stderr for what stops it, results alone on stdout."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import etl
from etl.cli import main
from etl.options import build_parser
from tests.support.company_files import FIRST, LAST, company_file
from tests.support.paths import ROOT, SAMPLE

COMMANDS = ["run", "process", "load", "init-db", "history", "check"]
PROCESS = ["process", "--source", "Stocks", "--index", "index.txt", "--output", "Output", "--quiet"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with a source of two files and their index; no setting of the machine shines through."""
    for name in ("DATABASE_URL", "TOPIC_ARN", "FIRST_NAME", "LAST_NAME"):
        monkeypatch.delenv(f"MBD_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Stocks").mkdir()
    for name in ("a.csv", "b.csv"):
        (tmp_path / "Stocks" / name).write_bytes(company_file(FIRST, LAST))
    (tmp_path / "index.txt").write_text("'a.csv', 'b.csv'")
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "hostile.txt").write_text("'a.csv', '../b.csv'")
    (tmp_path / "missing.txt").write_text("'a.csv', 'c.csv', 'd.csv'")
    handler = signal.getsignal(signal.SIGTERM)
    yield tmp_path
    signal.signal(signal.SIGTERM, handler)


def command(arguments: list[str]) -> int:
    """The exit code, also where argparse leaves by itself."""
    try:
        return main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        pytest.param([*PROCESS, "--source", "nowhere"], 2, "No such folder: nowhere", id="no such source"),
        pytest.param([*PROCESS, "--source", "index.txt"], 2, "No such folder: index.txt", id="source is a file"),
        pytest.param([*PROCESS, "--source", "ftp://host/x"], 2, "neither a folder nor s3://", id="source elsewhere"),
        pytest.param([*PROCESS, "--index", "absent.txt"], 2, "No such file: absent.txt", id="no such index"),
        pytest.param([*PROCESS, "--index", "Stocks"], 2, "Cannot read Stocks: Is a directory", id="index is a folder"),
        pytest.param([*PROCESS, "--output", "index.txt"], 2, "Cannot make the folder index.txt", id="output is a file"),
        pytest.param([*PROCESS, "--output", ""], 2, "folder", id="output of an unset variable"),
        pytest.param([*PROCESS, "--index", "empty.txt"], 1, "names no company file", id="index empty"),
        pytest.param([*PROCESS, "--index", "hostile.txt"], 1, "cannot be a company file: '../b.csv'", id="hostile"),
        pytest.param([*PROCESS, "--index", "missing.txt"], 1, "/Stocks (c.csv, d.csv). Upload", id="missing files"),
        pytest.param([*PROCESS, "--since", "2030-01-01"], 1, "No row is dated 2030-01-01", id="since too late"),
        pytest.param([*PROCESS, "--since", "yesterday"], 2, "'yesterday' is not an ISO date such as", id="bad since"),
        pytest.param([*PROCESS, "--since", "2020-W01-1"], 2, "'2020-W01-1' is not an ISO date", id="since week"),
        pytest.param([*PROCESS, "--grace", "nan"], 2, "--grace", id="grace for ever"),
        pytest.param([*PROCESS, "--grace", "2147484"], 2, "is not a number of seconds from 0 to 2,147,483", id="grace"),
        pytest.param(["load", "--output", "O", "--lock-timeout", "2147484"], 2, "from 0 to 2,147,483", id="lock"),
        pytest.param([*PROCESS, "--max-rejected", "1" * 5000], 2, "is no number of rows", id="max rejected"),
        pytest.param([*PROCESS, "--allow-missing", "9" * 5000, "--index", "missing.txt"], 1, "2 of 3", id="consent"),
        pytest.param([*PROCESS, "--column-aliases", "Close=\udcff"], 2, "is not UTF-8: 'Close=\\udcff'", id="aliases"),
        pytest.param([*PROCESS, "--allow-missing", "\udcff"], 2, "'\\udcff', by the option --allow-missing, is not UTF",
                     id="consent not UTF-8"),
        pytest.param([*PROCESS, "--output", "/proc/x"], 2, "Cannot make the folder /proc/x", id="output in /proc"),
        pytest.param(["run", *PROCESS[1:], "--output", "", "--dry-run", "--database-url", "host=x"], 2,
                     "'' is neither a folder nor", id="dry run into an unset variable"),
        pytest.param(["run", *PROCESS[1:], "--output", "s3://", "--dry-run", "--database-url", "host=x"], 2,
                     "'s3://' names no bucket", id="dry run into no bucket"),
        pytest.param(["run", *PROCESS[1:]], 2, "No database is named. Pass --database-url", id="run without database"),
        pytest.param(["load", "--output", "Output"], 2, "No database is named", id="load without database"),
        pytest.param(["load", "--output", "Output", "--journal-days", "9999999"], 2, "from 0 to 36,500", id="days"),
        pytest.param(["init-db"], 2, "No database is named", id="init-db without database"),
        pytest.param(["history"], 2, "No database is named", id="history without database"),
        pytest.param(["history", "--last", "-1"], 2, "'-1' is not a whole number from 1 on", id="history of -1 run"),
        pytest.param(["history", "--last", "0"], 2, "'0' is not a whole number from 1 on", id="history of no run"),
        pytest.param(["check"], 2, "Nothing to check: name --source", id="nothing to check"),
        pytest.param([*PROCESS, "--topic-arn", "arn:x"], 2, "Set MBD_FIRST_NAME and MBD_LAST_NAME", id="mail nameless"),
        pytest.param([*PROCESS, "--topic-arn", "arn:x", "--first-name", "José", "--last-name", "X"], 2,
                     "'José' cannot be part of bucket names", id="mail with a name that cannot be"),
    ],
)  # fmt: skip
def test_what_stops_a_command_is_one_line_on_stderr_and_an_exit_code(
    arguments: list[str], code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert told in err
    assert err.splitlines() == [err.removesuffix("\n")], "one line, not more"


@pytest.mark.parametrize("url", ["not a url", "http://[::1"])
def test_endpoint_of_aws_that_is_none_is_a_fault_of_the_settings(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    assert command([*PROCESS, "--source", "s3://de-mbd-x/Stocks"]) == 2
    assert "Cannot set up the client of s3: " in (err := capsys.readouterr().err)
    assert err.endswith("Correct AWS_ENDPOINT_URL.\n")


@pytest.mark.parametrize("url", ["postgresql://user:s3cret@host:x/db", "user:s3cret", "host=a password=s3cret port"])
def test_database_url_that_cannot_be_read_is_refused_without_its_password(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["history", "--database-url", url]) == 2
    out, err = capsys.readouterr()
    assert "database" in err
    assert "s3cret" not in out + err
    assert "Traceback" not in err


def test_process_tells_the_receipt_on_stdout_and_progress_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert command([argument for argument in PROCESS if argument != "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Processed 4 rows of 2 companies.\n")
    assert err == "company files: 2 of 2\n"


def test_quiet_process_says_nothing_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(PROCESS) == 0
    assert capsys.readouterr().err == ""


def test_quarantined_file_leaves_the_exit_code_0(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "Stocks" / "b.csv").write_bytes(b"")
    assert command(PROCESS) == 0
    assert "b.csv: empty: 0 bytes" in capsys.readouterr().out


def test_batch_without_a_usable_file_exits_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.csv", "b.csv"):
        (folder / "Stocks" / name).write_bytes(b"")
    assert command(PROCESS) == 1
    assert "No company file of the batch is usable (2 x empty: 0 bytes)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["process", "run"])
def test_grace_says_what_it_waits_for_unless_quiet(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    database = ["--database-url", "postgresql://127.0.0.1:1/x"] if name == "run" else []
    arguments = [name, *PROCESS[1:], *database, "--index", "missing.txt", "--grace", "0.1"]
    assert command([argument for argument in arguments if argument != "--quiet"]) == 1
    assert command(arguments) == 1
    waiting, error, error_of_quiet = capsys.readouterr().err.splitlines()
    assert waiting == "Waiting up to 0 s for 2 of 3 company files: c.csv, d.csv"
    assert error == error_of_quiet


def test_json_is_one_object_on_stdout_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert command([*PROCESS[:-1], "--json"]) == 0
    out, err = capsys.readouterr()
    facts = json.loads(out)
    assert out.count("\n") == 1
    assert (facts["state"], facts["rows"]["accepted"], facts["files"]["accepted"]) == ("success", 4, 2)
    assert err == "company files: 2 of 2\n"


def test_json_of_a_failed_run_is_its_receipt_and_the_line_on_stderr_stays(capsys: pytest.CaptureFixture[str]) -> None:
    assert command([*PROCESS, "--json", "--index", "missing.txt"]) == 1
    out, err = capsys.readouterr()
    facts = json.loads(out)
    assert (facts["state"], facts["files"]["missing"], facts["files"]["listed"]) == ("failed", 2, 3)
    assert err == f"error: {facts['error']}\n"


def test_failed_run_leaves_its_receipt_in_the_output(folder: Path) -> None:
    assert command([*PROCESS, "--index", "missing.txt"]) == 1
    [path] = (folder / "Output" / "receipts").iterdir()
    facts = json.loads(path.read_text())
    assert (facts["state"], f"{facts['run_id']}.json") == ("failed", path.name)


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_tells_every_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command([*([name] if name else []), "--help"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"usage: mbd {name}".rstrip())
    assert all(f"  {other}" in out for other in ([] if name else COMMANDS))
    assert err == ""


@pytest.mark.parametrize("arguments", [[], ["move"], ["process"], ["process", "--source", "Stocks", "--no-such"]])
def test_wrong_usage_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert command(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_check_tries_everything_and_tells_the_worst(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["check", "--source", "Stocks", "--index", "index.txt"]) == 0
    assert capsys.readouterr().out.count("ok ") == 4
    assert command(["check", "--source", "Stocks", "--index", "missing.txt", "--output", "index.txt"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert [(line[:6].strip(), line[7:21].strip()) for line in lines] == [
        *(("ok", "checker"), ("ok", "source"), ("ok", "company index")), *(("error", "batch"), ("error", "output"))
    ]  # fmt: skip


def test_check_of_an_output_that_the_first_run_makes(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert command(["check", "--output", "new/Output"]) == 0
    assert "the folder is not there yet; the first run makes it" in capsys.readouterr().out
    assert not (folder / "new").exists()
    assert command(["check", "--output", "index.txt/Output"]) == 2
    assert "error  output" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "value"), [("MBD_JOURNAL_DAYS", "abc"), ("MBD_COLUMN_ALIASES", "Closing=x")])
def test_check_refuses_the_settings_that_a_run_refuses(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert command(["check", "--source", "Stocks"]) == 2
    assert value in capsys.readouterr().err


def test_folder_of_the_same_relative_name_elsewhere_is_another_source(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output, other = folder / "Output", folder / "other"
    shutil.copytree(folder / "Stocks", other / "Stocks", copy_function=shutil.copy2)
    changed = next((other / "Stocks").iterdir())
    before = changed.stat()
    changed.write_text(changed.read_text().replace("1", "2"))
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))  # as an archive unpacks it
    process = ["process", "--source", "Stocks", "--index", str(folder / "index.txt"), "--output", str(output), "--json"]
    read = []
    for place in (folder, folder, other):
        monkeypatch.chdir(place)
        assert command(process) == 0
        receipt = json.loads(capsys.readouterr().out)
        read.append((receipt["source"], receipt["files"]["read"]))
    assert read == [(str(folder / "Stocks"), 2), (str(folder / "Stocks"), 0), (str(other / "Stocks"), 2)]


def test_check_ends_with_the_worst_code_also_where_a_lesser_fault_is_told_behind_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MBD_CHANNELS", "nosuch://x")
    assert command(["check", "--database-url", "postgresql://127.0.0.1:1/x"]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert [line[:21].split() for line in lines] == [["ok", "checker"], ["error", "database"], ["error", "channel"]]


def test_options_of_a_load_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    targets: list[etl.Target] = []

    def load(_: etl.Job, *, target: etl.Target, run: etl.Run) -> etl.Receipt:
        targets.append(target)
        raise etl.BatchError(run.run_id)

    monkeypatch.setattr("etl.load", load)
    options = ("--reload", "--dry-run", "--lock-timeout", "7", "--no-table-index", "--journal-days", "3")
    named = ("--output", "Output", "--database-url", "host=x", "--accept-shrunk", "a.csv", "b.csv")
    assert command(["load", *named, *options]) == 1
    wanted = etl.Target("host=x", reload=True, dry_run=True, lock_timeout_seconds=7, table_index=False)
    assert targets == [replace(wanted, journal_days=3, accept_shrunk=("a.csv", "b.csv"))]


def test_days_of_the_journal_that_are_set_to_nothing_keep_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MBD_JOURNAL_DAYS", "")
    assert build_parser().parse_args(["load", "--output", "Output"]).journal_days is None


def test_module_runs_as_a_command(folder: Path) -> None:
    arguments = ["--source", str(SAMPLE / "Stocks"), "--index", str(SAMPLE / "CompanyNames" / "top_companies.txt")]
    done = subprocess.run(
        [sys.executable, "-m", "etl", "process", *arguments, "--output", str(folder / "Output"), "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "company files: 40 of 40\n")
    assert json.loads(done.stdout)["files"] == {
        "listed": 40, "accepted": 35, "quarantined": 5, "missing": 0, "read": 40, "taken_over": 0
    }  # fmt: skip


def test_processing_script_runs_alone_and_fails_as_the_command_does(folder: Path) -> None:
    def script(index: str) -> subprocess.CompletedProcess[str]:
        arguments = [str(folder / "Stocks"), str(folder / index), str(folder / "Output")]
        return subprocess.run(
            [sys.executable, "-m", "etl.data_processing", *arguments],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip

    done, failed = script("index.txt"), script("missing.txt")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Processed 4 rows of 2 companies.\n")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("error: 2 of 3 company files")
    assert failed.stderr.count("\n") == 1
