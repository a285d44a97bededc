"""Scripts/ as `upload` leaves it, after nothing but a download of that folder: each script runs as it lies there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import etl
from tests.support.account import Account, RunCommand
from tests.support.brief import BRIEF
from tests.support.paths import SAMPLE
from tests.support.process import HOST

OUTPUTS = ("historical_stock_data.csv", "rejected_rows.csv", "flagged_rows.csv")
PYTHON = str(Path(sys._base_executable))  # type: ignore[attr-defined]  # without the packages of .venv
BATCH = [str(SAMPLE / "Stocks"), str(SAMPLE / "CompanyNames" / "top_companies.txt")]
mounts = [
    pytest.mark.skipif(shutil.which("s3fs") is None, reason="s3fs is missing: apt-get install s3fs"),
    pytest.mark.skipif(not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse is missing or closed to us"),
]


@pytest.fixture
def scripts(command: RunCommand, account: Account, tmp_path: Path) -> Path:
    """The folder, downloaded."""
    done = command("upload", SAMPLE)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "laptop" / "Scripts"
    folder.mkdir(parents=True)
    for key in account.keys("Scripts/") - {"Scripts/"}:
        (folder / key.removeprefix("Scripts/")).write_bytes(account.get(key))
    return folder


@pytest.fixture(scope="module")
def of_the_pipeline(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the DAG's calls make of the same batch."""
    job = etl.Job(source=BATCH[0], company_index=BATCH[1], output=str(tmp_path_factory.mktemp("Output")))
    run = etl.Run.begin("dag")
    etl.gate(job, run=run)
    etl.process(job, run=run)
    return {name: (Path(job.output) / name).read_bytes() for name in OUTPUTS}


def run_alone(*line: str | Path, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(folder), "NO_PROXY": HOST, **variables}
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=90, check=False)


def test_processing_script_needs_python_alone_and_makes_the_pipelines_bytes(
    scripts: Path, tmp_path: Path, of_the_pipeline: dict[str, bytes]
) -> None:
    isolated = [PYTHON, "-I", "-S"]  # no site-packages, no folder of its own on the path
    done = run_alone(*isolated, "data_processing.py", *BATCH, tmp_path / "Output", folder=scripts)
    assert done.returncode == 0, done.stderr
    assert {name: (tmp_path / "Output" / name).read_bytes() for name in OUTPUTS} == of_the_pipeline
    assert "Processed 76,653 rows of 35 companies" in done.stdout


def test_processing_script_says_what_it_lacks_and_shows_no_traceback(scripts: Path, tmp_path: Path) -> None:
    isolated = [PYTHON, "-I", "-S", "data_processing.py"]
    in_s3 = run_alone(*isolated, "s3://bucket/Stocks", BATCH[1], tmp_path / "Output", folder=scripts)
    assert (in_s3.returncode, in_s3.stderr.count("\n")) == (2, 1), in_s3.stderr
    assert "which s3:// places need" in in_s3.stderr
    (scripts / "etl.zip").unlink()
    alone = run_alone(*isolated, *BATCH, tmp_path / "Output", folder=scripts)
    assert (alone.returncode, alone.stderr.count("\n")) == (1, 1), alone.stderr
    assert "Download all of Scripts/" in alone.stderr


@pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="/dev/fuse is missing")
def test_mounting_script_gives_s3fs_the_briefs_options(scripts: Path, tmp_path: Path) -> None:
    s3fs = tmp_path / "bin" / "s3fs"
    s3fs.parent.mkdir()
    s3fs.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/given; exit 1\n')
    s3fs.chmod(0o755)
    path = f"{s3fs.parent}:/usr/bin:/bin"
    done = run_alone("bash", "mount_source.sh", "mount", folder=scripts, PATH=path, MBD_PYTHON=PYTHON)
    assert done.returncode == 3, done.stderr
    bucket, mount_point, _, options = (tmp_path / "given").read_text().split()
    wanted = BRIEF["mount"]
    assert (bucket, mount_point) == (BRIEF["names"]["source_bucket"], wanted["point"].replace("~", str(scripts)))
    assert f"url={wanted['url']}" in options.split(",")
    assert [one for one in wanted["options"] if not any(given.startswith(one) for given in options.split(","))] == []
    assert "curldbg" not in options


@pytest.mark.parametrize("place", [pytest.param(name, marks=mounts) for name in ("a download", "the mount itself")])
def test_mounting_script_knows_its_bucket_and_invokes_the_processing_script_next_to_it(
    place: str, scripts: Path, account: Account, of_the_pipeline: dict[str, bytes], tmp_path: Path
) -> None:
    home = tmp_path / "home of a student"
    home.mkdir()
    (home / ".passwd-s3fs").touch(mode=0o600)
    (home / ".passwd-s3fs").write_text("testing:testing\n")
    login = {"AWS_ENDPOINT_URL": account.url, "HOME": str(home), "MBD_PYTHON": PYTHON}
    script, mount_point = scripts / "mount_source.sh", home / "s3-drive"
    try:
        if place == "the mount itself":
            mounted = run_alone("bash", script, "mount", folder=scripts, **login)
            assert mounted.returncode == 0, mounted.stderr
            script = mount_point / "Scripts" / "mount_source.sh"
            options = ["findmnt", "-n", "-o", "OPTIONS", "--mountpoint", str(mount_point)]
            assert "allow_other" in subprocess.run(options, check=True, capture_output=True, text=True).stdout
        done = run_alone("bash", script, folder=home, **login)
        assert done.returncode == 0, done.stderr
        assert {name: account.get(f"Output/{name}") for name in OUTPUTS} == of_the_pipeline
        is_mounted = os.path.ismount(mount_point)
        assert is_mounted == (place == "the mount itself")
    finally:
        if os.path.ismount(mount_point):
            subprocess.run(["umount", "-l", mount_point], check=True)
