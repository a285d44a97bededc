"""What `make demo` refuses before it starts anything, what it makes of a batch, and how it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from etl.batch.company_index import parse_index
from tests.support.paths import ROOT, SAMPLE
from tests.support.showing import DemoError, only_one, write_tool
from tests.system import demo

FILE = "Date,Open,High,Low,Close,Volume,OpenInt\n" + "".join(
    f"2017-11-{day:02},1,2,0.5,1.5,7,0\n" for day in range(1, 18)
)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.system.demo", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_without_options_the_batch_is_the_sample() -> None:
    batch = demo.read_batch(None, None)
    assert len(batch.files) == 40
    assert all(path.parent == SAMPLE / "Stocks" for path in batch.files.values())


def test_without_an_index_all_csv_files_of_the_folder_are_the_batch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("b.us.csv", "a.us.csv", "notes.txt"):
        (tmp_path / name).write_text(FILE)
    (tmp_path / "folder.csv").mkdir()
    batch = demo.read_batch(tmp_path, None)
    assert list(batch.files) == list(parse_index(batch.index).names) == ["a.us.csv", "b.us.csv"]
    assert "all 2 CSV files" in capsys.readouterr().out


def test_wrong_folder_or_index_is_reported_before_anything_is_started(tmp_path: Path) -> None:
    (tmp_path / "Stocks").mkdir()
    (tmp_path / "Stocks" / "a.us.csv").write_text(FILE)
    (tmp_path / "index.txt").write_text("a.us.csv, b.us.csv, c.us.csv")
    for options, words in (
        (("--stocks", tmp_path / "none"), "There is no folder"),
        (("--stocks", tmp_path), f"There are no CSV files in {tmp_path}. Did you mean {tmp_path / 'Stocks'}?"),
        (("--stocks", tmp_path / "Stocks", "--index", tmp_path / "none"), "There is no company index"),
        (("--stocks", tmp_path / "Stocks", "--index", tmp_path / "index.txt"), "2 of the 3 company files"),
    ):
        done = run(*options)
        assert done.returncode == 2
        assert done.stderr.startswith(f"\nThe demo failed: {words}")
        assert "Starting the system" not in done.stdout


def test_second_demo_names_the_first_and_a_third_may_begin_when_that_has_ended(tmp_path: Path) -> None:
    refused = pytest.raises(DemoError, match=r"already running here \(process \d+\).*kill \d+")
    with only_one(tmp_path), refused, only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_first_signal_unwinds_everything_and_a_second_does_not_interrupt_that(sent: signal.Signals) -> None:
    code = f"""
import os, time
from tests.support.showing import end_in_order
end_in_order()
try:
    os.kill(os.getpid(), {int(sent)})
    time.sleep(60)
except KeyboardInterrupt:
    os.kill(os.getpid(), {int(sent)})
    print("unwound")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "unwound\n"), done.stderr


def test_tool_runs_its_command_in_an_environment_of_its_own_that_nobody_else_reads(tmp_path: Path) -> None:
    tool = tmp_path / "bin" / "say"
    write_tool(tool, environment={"WHAT": "it works"}, command="'/bin/sh' -c 'echo \"$WHAT $0\"'")
    assert tool.stat().st_mode & 0o777 == 0o700
    assert subprocess.check_output([tool, "well"], text=True) == "it works well\n"


def test_next_edition_has_a_row_for_the_next_weekday_and_multiplies_all_but_the_last_rows() -> None:
    before, after = FILE.splitlines(), demo.next_edition(FILE.encode(), factor=0.5).decode().splitlines()
    assert after[0] == before[0]
    assert after[1] == "2017-11-01,0.5,1,0.25,0.75,7,0"
    assert after[-11:-1] == before[-10:]
    assert after[-1] == "2017-11-20,1,2,0.5,1.5,7,0"  # the 17th is a Friday
    grown = demo.next_edition(FILE.encode(), factor=1).decode().splitlines()
    assert grown == [*before, after[-1]]


@pytest.mark.parametrize(
    "content", [b"", b"Date,Open\n2017-11-01,1\n", FILE.replace("2017", '"2017').encode(), b"\xff"]
)
def test_file_that_is_not_plain_has_no_next_edition(content: bytes) -> None:
    assert demo.next_edition(content, factor=0.5) == content
