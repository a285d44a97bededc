"""The course's way to the files: s3fs mounts a bucket of moto, and the processing script runs on the mount."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from etl.data_processing import data_processing, extract_companies_from_index, get_path_to_company_data
from tests.support.account import SOURCE_BUCKET, Account
from tests.support.paths import ROOT, SAMPLE

SCRIPT = str(ROOT / "infra_scripts" / "course" / "mount_source.sh")
pytestmark = [
    pytest.mark.skipif(shutil.which("s3fs") is None, reason="s3fs is missing: apt-get install s3fs"),
    pytest.mark.skipif(
        not os.access("/dev/fuse", os.R_OK | os.W_OK),
        reason="/dev/fuse is missing or closed to us; in a container: --device /dev/fuse --cap-add SYS_ADMIN",
    ),
]
Mount = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def mount_point(tmp_path: Path) -> Path:
    return tmp_path / "mount"


@pytest.fixture
def mount(account: Account, surroundings: dict[str, str], mount_point: Path) -> Iterator[Mount]:
    """Runs mount_source.sh as a person would; nothing stays mounted."""
    account.put_sample()
    login = Path(surroundings["HOME"]) / ".passwd-s3fs"
    login.touch(mode=0o600)
    login.write_text("testing:testing\n")
    environment = {**surroundings, "MBD_FIRST_NAME": "Ada", "MBD_LAST_NAME": "Lovelace", "MBD_PYTHON": sys.executable}

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        line = [SCRIPT, *arguments, "--mount-point", str(mount_point)]
        return subprocess.run(line, env=environment, check=False, capture_output=True, text=True, timeout=90)

    yield call
    if is_in_kernel(mount_point):
        subprocess.run(["umount", "-l", mount_point], check=True)


def is_in_kernel(mount_point: Path) -> bool:
    return f" {mount_point} " in Path("/proc/self/mountinfo").read_text()


def s3fs_of(mount_point: Path) -> int:
    """The pid of the s3fs that serves this mount point."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # of a process that has just ended
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if words[0] == b"s3fs" and str(mount_point).encode() in words:
                return int(entry.name)
    raise AssertionError(f"no s3fs serves {mount_point}")


def processed_directly(tmp_path: Path) -> dict[str, bytes]:
    """Output of the processing script on the same files in a folder."""
    companies = extract_companies_from_index(str(SAMPLE / "CompanyNames" / "top_companies.txt"))
    data_processing(get_path_to_company_data(companies, str(SAMPLE / "Stocks")), str(tmp_path / "direct"))
    names = ("historical_stock_data.csv", "rejected_rows.csv", "flagged_rows.csv")
    return {name: (tmp_path / "direct" / name).read_bytes() for name in names}


def test_processing_on_the_mount_gives_the_same_bytes_as_without_it(
    mount: Mount, mount_point: Path, account: Account, tmp_path: Path
) -> None:
    done = mount()
    assert done.returncode == 0, done.stderr
    assert "Processed 76,653 rows of 35 companies" in done.stdout
    direct = processed_directly(tmp_path)
    assert {name: account.get(f"Output/{name}") for name in direct} == direct
    assert len(direct["historical_stock_data.csv"]) > 1_000_000
    assert not is_in_kernel(mount_point)


def test_mounting_twice_is_mounting_once_and_a_run_leaves_that_mount(mount: Mount, mount_point: Path) -> None:
    assert mount("mount").returncode == 0
    first = s3fs_of(mount_point)
    again = mount("mount")
    assert (again.returncode, s3fs_of(mount_point)) == (0, first), again.stderr
    assert mount("run").returncode == 0
    assert is_in_kernel(mount_point)
    assert [mount("unmount").returncode, mount("unmount").returncode] == [0, 0]
    assert not is_in_kernel(mount_point)


def test_a_mount_that_has_died_is_replaced(mount: Mount, mount_point: Path, account: Account) -> None:
    assert mount("mount").returncode == 0
    os.kill(s3fs_of(mount_point), signal.SIGKILL)
    with pytest.raises(OSError, match="not connected"):
        wait_until_gone(mount_point)
    done = mount()
    assert done.returncode == 0, done.stderr
    assert "has died" in done.stderr
    assert "Output/historical_stock_data.csv" in account.keys("Output/")
    assert not is_in_kernel(mount_point)


def wait_until_gone(mount_point: Path) -> None:
    for _ in range(50):
        os.stat(mount_point)
        time.sleep(0.1)


def test_a_login_that_s3_refuses_is_a_settings_error(mount: Mount, mount_point: Path, account: Account) -> None:
    account.check_logins(from_now_on=True)
    done = mount()
    assert done.returncode == 2, done.stderr
    assert f"S3 refuses the login for the bucket {SOURCE_BUCKET}" in done.stderr
    assert "testing:testing" not in done.stderr + done.stdout
    assert not is_in_kernel(mount_point)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o602])
def test_a_password_file_that_others_may_read_is_refused(mount: Mount, surroundings: dict[str, str], mode: int) -> None:
    (Path(surroundings["HOME"]) / ".passwd-s3fs").chmod(mode)
    done = mount("mount")
    assert done.returncode == 2
    assert "chmod 600" in done.stderr


def test_no_such_bucket_and_no_answer_have_messages_of_their_own(mount: Mount, mount_point: Path) -> None:
    nowhere = mount("mount", "--bucket", "no-such-bucket-here")
    assert nowhere.returncode == 2
    assert "There is no bucket no-such-bucket-here" in nowhere.stderr
    silent = mount("mount", "--endpoint", "http://127.0.0.1:9")
    assert silent.returncode == 3, silent.stderr
    assert "did not answer" in silent.stderr or "could not mount" in silent.stderr
    assert not is_in_kernel(mount_point)


def test_another_bucket_on_the_mount_point_is_not_used(mount: Mount, account: Account) -> None:
    account.s3.create_bucket(Bucket="another-one", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    assert mount("mount", "--bucket", "another-one").returncode == 0
    done = mount("run")
    assert done.returncode == 2
    assert "already holds s3fs:another-one" in done.stderr


def test_the_exit_code_is_that_of_the_processing_script(mount: Mount, mount_point: Path, account: Account) -> None:
    account.s3.delete_object(Bucket=SOURCE_BUCKET, Key="Stocks/ge.us.csv")
    done = mount()
    assert done.returncode == 1
    assert "ge.us.csv" in done.stderr
    assert not is_in_kernel(mount_point)


def test_a_stopped_run_unmounts_first(
    mount: Mount, mount_point: Path, surroundings: dict[str, str], tmp_path: Path
) -> None:
    slow = tmp_path / "python"
    slow.write_text('#!/bin/sh\ncase "$*" in *--help) ;; *) exec sleep 60 ;; esac\n')
    slow.chmod(0o755)
    line = [SCRIPT, "run", "--bucket", SOURCE_BUCKET, "--mount-point", str(mount_point), "--python", str(slow)]
    started = time.monotonic()
    run = subprocess.Popen(line, env=surroundings, stderr=subprocess.PIPE)
    assert run.stderr is not None
    assert b"is mounted" in run.stderr.readline()
    time.sleep(0.5)
    run.send_signal(signal.SIGTERM)
    _, said = run.communicate(timeout=30)
    assert run.returncode == 128 + signal.SIGTERM
    assert b"is unmounted" in said
    assert time.monotonic() - started < 30
    assert not is_in_kernel(mount_point)


def test_a_run_stopped_while_it_mounts_leaves_nothing_mounted(mount_point: Path, surroundings: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and answers nothing
        options = ["--endpoint", f"http://127.0.0.1:{silent.getsockname()[1]}", "--python", sys.executable]
        line = [SCRIPT, "run", "--bucket", SOURCE_BUCKET, "--mount-point", str(mount_point), *options]
        login = Path(surroundings["HOME"]) / ".passwd-s3fs"
        login.touch(mode=0o600)
        login.write_text("testing:testing\n")
        run = subprocess.Popen(line, env=surroundings, stderr=subprocess.DEVNULL)
        for _ in range(100):
            if is_in_kernel(mount_point):
                break
            time.sleep(0.1)
        else:
            raise AssertionError("s3fs did not mount within 10 s.")
        run.send_signal(signal.SIGTERM)
    code = run.wait(timeout=60)
    left = is_in_kernel(mount_point)
    if left:
        subprocess.run(["umount", "-l", mount_point], check=True)
    assert (code, left) == (-signal.SIGTERM, False)


def test_usage_is_shown_and_unknown_options_are_refused() -> None:
    shown = subprocess.run([SCRIPT, "--help"], check=True, capture_output=True, text=True)
    assert "usage: mount_source.sh" in shown.stdout
    refused = subprocess.run([SCRIPT, "--frob"], check=False, capture_output=True, text=True)
    assert refused.returncode == 2
