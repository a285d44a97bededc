"""`upload` against moto: everything once, nothing twice, the rest after an interruption, and its error messages."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from tests.support.account import MONITORED_BUCKET, SOURCE_BUCKET, Account, RunCommand
from tests.support.aws_proxy import AwsProxy, Call
from tests.support.paths import ROOT, SAMPLE

SCRIPTS = {
    "Scripts/data_processing.py",
    "Scripts/insert_query.sql",
    "Scripts/mount_source.sh",
    "Scripts/course_environment.sh",
    "Scripts/etl.zip",
    "Scripts/moving-big-data.tar.gz",
}
FOLDERS = {"CompanyNames/", "Output/", "Scripts/", "Stocks/"}


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    return shutil.copytree(SAMPLE, tmp_path / "batch")


def test_a_batch_is_put_whole_with_the_scripts(command: RunCommand, batch: Path, account: Account) -> None:
    files = {f"Stocks/{path.name}": path for path in (batch / "Stocks").iterdir()}
    (batch / "Stocks" / ".DS_Store").write_bytes(b"of somebody's laptop")
    done = command("upload", batch, "--json")
    assert done.returncode == 0, done.stderr
    keys = account.keys()
    assert keys == {*files, "CompanyNames/top_companies.txt", *SCRIPTS, *FOLDERS}
    assert all(account.get(key) == path.read_bytes() for key, path in files.items())
    assert account.get("Scripts/insert_query.sql") == (ROOT / "etl" / "table" / "sql" / "insert_query.sql").read_bytes()
    facts = json.loads(done.stdout)
    assert (facts["sent"], facts["already_there"]) == (facts["files"], 0)
    with tarfile.open(fileobj=io.BytesIO(account.get("Scripts/moving-big-data.tar.gz"))) as tar:
        assert "airflow/docker-compose.yml" in tar.getnames()


def test_the_instance_finds_the_digest_of_the_code_that_was_sent(command: RunCommand, account: Account) -> None:
    assert command("upload").returncode == 0
    kept = account.ssm.get_parameter(Name="/de-mbd-predict-ada-lovelace/airflow/archive-sha256")["Parameter"]
    assert kept["Value"] == hashlib.sha256(account.get("Scripts/moving-big-data.tar.gz")).hexdigest()


def test_the_second_time_only_what_differs_is_sent(command: RunCommand, batch: Path, account: Account) -> None:
    command("upload", batch)
    changed, grown = sorted((batch / "Stocks").iterdir())[:2]
    changed.write_bytes(changed.read_bytes().replace(b"1", b"2"))  # the same length
    grown.write_bytes(grown.read_bytes() + b"2026-11-20,1,1,1,1,1,0\n")
    facts = json.loads(command("upload", batch, "--json").stdout)
    assert facts["sent"] == 2
    assert account.get(f"Stocks/{changed.name}") == changed.read_bytes()
    assert json.loads(command("upload", batch, "--json").stdout)["sent"] == 0


def test_dry_run_counts_and_puts_nothing(command: RunCommand, batch: Path, account: Account) -> None:
    done = command("upload", batch, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "would be sent (dry run)" in done.stdout
    assert account.keys() == set()
    # The instance would refuse the code that it has by the digest of one that was never sent.
    assert account.ssm.describe_parameters()["Parameters"] == []


def test_without_a_batch_only_the_scripts_are_put(command: RunCommand, account: Account) -> None:
    done = command("upload")
    assert done.returncode == 0
    assert "upload BATCH" in done.stdout
    assert account.keys() == SCRIPTS | FOLDERS


def test_batch_of_another_size_than_the_courses_dataset_is_noted_in_its_profile_only(
    command: RunCommand, batch: Path
) -> None:
    course = command("upload", batch, changes={"MBD_PROFILE": "course"})
    assert (course.returncode, "Note: the course's dataset has 7,192 company files." in course.stdout) == (0, True)
    assert "7,192" not in command("upload", batch).stdout


def test_a_file_that_the_index_names_and_nobody_has_is_reported(
    command: RunCommand, batch: Path, account: Account
) -> None:
    (batch / "Stocks" / "ge.us.csv").unlink()
    done = command("upload", batch)
    assert done.returncode == 1
    assert "1 company files named by the index are neither" in done.stderr
    assert "ge.us.csv" in done.stderr
    account.put("Stocks/ge.us.csv", b"put earlier, by another batch")
    assert command("upload", batch).returncode == 0


@pytest.mark.parametrize("key", ["Stocks/ge.us.csv", "CompanyNames/top_companies.txt"])
def test_an_object_that_somebody_else_wrote_meanwhile_is_reported(
    key: str, command: RunCommand, batch: Path, account: Account
) -> None:
    def all_was_sent(call: Call) -> None:
        if call.operation == "PutParameter":
            account.put(key, b"of another batch")

    with AwsProxy(account.url) as aws:
        aws.script = all_was_sent
        done = command("upload", batch, changes={"AWS_ENDPOINT_URL": aws.url})
    assert done.returncode == 1
    assert f"1 objects in {SOURCE_BUCKET} are not what was sent (first: {key})" in done.stderr
    assert command("upload", batch).returncode == 0


def test_an_interrupted_upload_continues_where_it_stopped(
    command: RunCommand, surroundings: dict[str, str], env_file: Path, tmp_path: Path, account: Account
) -> None:
    batch = tmp_path / "many"
    (batch / "Stocks").mkdir(parents=True)
    (batch / "CompanyNames").mkdir()
    names = [f"c{number:04}.us.csv" for number in range(1500)]
    for name in names:
        (batch / "Stocks" / name).write_text(name)
    (batch / "CompanyNames" / "top_companies.txt").write_text(",".join(names))
    line = [sys.executable, "-m", "infra_scripts", "upload", str(batch), "--env-file", str(env_file)]
    child = subprocess.Popen(line, env=surroundings, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not account.keys("Stocks/") and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGINT)
    _, said = child.communicate(timeout=30)
    assert child.returncode == 130, said
    put = len(account.keys("Stocks/"))
    assert 0 < put < 1500
    facts = json.loads(command("upload", batch, "--json").stdout)
    assert facts["already_there"] >= put
    assert facts["company_files_in_bucket"] == 1500
    assert hashlib.md5(account.get("Stocks/c1499.us.csv")).hexdigest() == hashlib.md5(b"c1499.us.csv").hexdigest()


def test_what_is_missing_is_reported_with_the_next_step(command: RunCommand, batch: Path, account: Account) -> None:
    nothing = command("upload", batch / "Stocks")
    assert nothing.returncode == 2
    assert "There is no folder" in nothing.stderr
    (batch / "CompanyNames" / "top_companies.txt").unlink()
    no_index = command("upload", batch)
    assert no_index.returncode == 2
    assert "There is no company index" in no_index.stderr
    account.s3.delete_bucket(Bucket=SOURCE_BUCKET)
    no_bucket = command("upload")
    assert no_bucket.returncode == 1
    assert "Run `python -m infra_scripts apply` first" in no_bucket.stderr


def test_nothing_configured_names_what_is_missing(command: RunCommand, env_file: Path) -> None:
    env_file.unlink()
    for name in ("upload", "init-db", "trigger"):
        done = command(name)
        assert done.returncode == 2
        assert "MBD_FIRST_NAME" in done.stderr
        assert "python -m infra_scripts init" in done.stderr


def test_an_unknown_login_and_none_have_messages_of_their_own(
    command: RunCommand, batch: Path, account: Account
) -> None:
    account.check_logins(from_now_on=True)
    unknown = command("upload", batch)
    assert unknown.returncode == 3
    assert "AWS does not accept this login" in unknown.stderr
    none = command("upload", batch, changes={"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""})
    assert none.returncode == 2
    assert "no AWS login was found" in none.stderr


def test_a_missing_permission_is_named(command: RunCommand, batch: Path, account: Account) -> None:
    login = account.reader_login()
    account.check_logins(from_now_on=True)
    done = command("upload", batch, changes=login)
    assert done.returncode == 3
    assert "PutObject" in done.stderr
    account.check_logins(from_now_on=False)
    assert not account.keys("Stocks/")
    assert not account.keys(bucket=MONITORED_BUCKET)
