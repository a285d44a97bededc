"""A batch processed in shards on S3 (moto): the same bytes, copied by S3 itself where it can, whatever is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import etl
from etl.batch.storage import open_storage
from tests.support.batch_files import of_any_run, process
from tests.support.paths import ROOT
from tests.support.s3_proxy import S3Proxy
from tests.support.steps import chosen

if TYPE_CHECKING:
    from tests.support.aws_places import Bucket, Topic
    from tests.support.batch_files import Files
    from tests.support.database import Database
    from tests.support.moto import MotoServer

MIB = 1 << 20
OUTPUTS = (
    "historical_stock_data.csv", "rejected_rows.csv", "rejected_rows.jsonl", "flagged_rows.csv", "manifest.json",
)  # fmt: skip
# As Airflow's run ids are: signs that S3's keys and copy sources spell in their own way.
RUN = replace(etl.Run.begin("test"), run_id="manual__2026-11-22T11:08:34.5+00:00 ~=é")


def _shard(bucket: Bucket, number: int, *, of: int) -> etl.Receipt:
    return etl.process(bucket.job(reread=True), run=RUN, shard=number)


def _process_shards(bucket: Bucket, shards: int) -> None:
    etl.gate(bucket.job(), run=RUN, shards=shards)
    for number in range(shards):
        _shard(bucket, number, of=shards)


def _outputs(bucket: Bucket) -> dict[str, bytes]:
    return {name: of_any_run(name, bucket.get(f"Output/{name}")) for name in OUTPUTS}


def _untimed(receipt: etl.Receipt) -> etl.Receipt:
    files = replace(receipt.files, read=0, taken_over=0)
    return replace(receipt, run_id="", started_at=RUN.started_at, elapsed_seconds=0, steps={}, files=files)


@pytest.fixture
def large(sample: Files, make_files: Callable[[str], Files], bucket: Bucket) -> Bucket:
    """16 companies of 14,058 rows each, a combined file of 19 MB; some rows and files are refused."""
    files = make_files("large")
    content = (sample.source / "ge.us.csv").read_bytes()
    names = [f"ge{number}.us.csv" for number in range(16)]
    for number, name in enumerate(names):
        dirty = b"" if number % 3 else b"2020-01-02,=1,2,1,1,5,0\n"
        (files.source / name).write_bytes(b"" if number == 7 else content + dirty)
    files.name(*names)
    bucket.upload(files)
    return bucket


# --- the same bytes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [2, 3, 16])
def test_shards_over_and_under_5_mib_become_the_bytes_of_one_pass(large: Bucket, shards: int) -> None:
    alone = process(large.job(), run=RUN)
    expected = _outputs(large)
    assert len(expected["historical_stock_data.csv"]) > 3 * 6 * MIB
    assert expected["rejected_rows.csv"].count(b"\n") == 1 + 6
    large.put("Output/historical_stock_data.csv", b"old")
    _process_shards(large, shards)
    assert large.get("Output/historical_stock_data.csv") == b"old"
    combined = etl.combine(large.job(), run=RUN)
    assert _outputs(large) == expected
    assert _untimed(combined) == _untimed(alone)
    assert large.unfinished_uploads() == []


def test_small_shards_become_the_bytes_of_one_pass(sample: Files, bucket: Bucket) -> None:
    bucket.upload(sample)
    process(bucket.job(), run=RUN)
    expected = _outputs(bucket)
    _process_shards(bucket, 5)
    etl.combine(bucket.job(), run=RUN)
    assert _outputs(bucket) == expected


def test_table_and_receipt_are_those_of_one_pass(sample: Files, bucket: Bucket, database: Database) -> None:
    bucket.upload(sample)
    target = etl.Target(database.url)
    process(bucket.job(), run=RUN)
    alone, table = etl.load(bucket.job(), target=target, run=RUN), database.table()
    database.execute("TRUNCATE historical_stocks_data, loaded_companies, pipeline_runs")
    _process_shards(bucket, 3)
    etl.combine(bucket.job(), run=RUN)
    assert _untimed(etl.load(bucket.job(), target=target, run=RUN)) == _untimed(alone)
    assert database.table() == table
    again = etl.load(bucket.job(), target=target, run=RUN)
    assert (again.rows.inserted, again.rows.unchanged) == (0, alone.rows.inserted)


def test_large_shards_are_copied_by_s3(large: Bucket, proxied: Bucket, proxy: S3Proxy) -> None:
    _process_shards(large, 3)
    etl.combine(proxied.job(), run=RUN)
    reads = [request for request in proxy.gets("Output/work/") if request.key.endswith("historical_stock_data.csv")]
    assert reads == []
    copies = [request for request in proxy.requests if request.headers.get("x-amz-copy-source")]
    assert len(copies) == 3
    assert all("Output/work/" in request.headers["x-amz-copy-source"] for request in copies)


@pytest.mark.parametrize(
    "lengths",
    [
        [5 * MIB],
        [5 * MIB + 1],
        [40 * MIB + 3, 0, 1],
        [1, 40 * MIB, 5 * MIB, 5 * MIB - 1, 5 * MIB + 1, 1],
        [3 * MIB, 3 * MIB, 3 * MIB, 6 * MIB, 1, 0, 11 * MIB],
        [0, 0],
        [7 * MIB, 12 * MIB, 2 * MIB, 8 * MIB + 1],
    ],
    ids=str,
)
def test_files_of_any_length_are_put_one_behind_the_other(bucket: Bucket, lengths: list[int]) -> None:
    # moto refuses a part under 5 MiB that is not the last, as S3 does
    output = open_storage(f"s3://{bucket.name}/Output", aws=bucket.aws)
    contents = [random.Random(number).randbytes(length) for number, length in enumerate(lengths)]
    for number, content in enumerate(contents):
        bucket.put(f"Output/work/a b+c:é/{number}", content)
    with output.write("whole") as file:
        file.write(b"head\n")
        for number, length in enumerate(lengths):
            file.append(f"work/a b+c:é/{number}", length=length)
        file.write(b"foot\n")
    assert bucket.get("Output/whole") == b"head\n" + b"".join(contents) + b"foot\n"
    with output.write("whole") as file:
        for number, length in enumerate(lengths):
            file.append(f"work/a b+c:é/{number}", length=length)
    assert bucket.get("Output/whole") == b"".join(contents)


def test_parts_of_a_large_upload_are_listed_by_number_beyond_the_ninth(bucket: Bucket) -> None:
    output, length = open_storage(f"s3://{bucket.name}/Output", aws=bucket.aws), 5 * MIB + 1
    content = random.Random(1).randbytes(length + 11)
    bucket.put("Output/piece", content)
    with output.write("whole") as file:
        for start in range(11):
            file.append("piece", start=start, length=length)  # S3 copies each as a part of its own
    assert bucket.get("Output/whole") == b"".join(content[start : start + length] for start in range(11))


# --- what is gone, killed or left --------------------------------------------------------------------------------


def test_shard_that_is_gone_stops_the_batch_and_leaves_the_old_object(large: Bucket) -> None:
    large.put("Output/historical_stock_data.csv", b"old")
    _process_shards(large, 2)
    [*_, last] = sorted(key for key in large.keys("Output/work/") if key.endswith("historical_stock_data.csv"))
    large.s3.delete_object(Bucket=large.name, Key=last)
    with pytest.raises(etl.BatchError, match="Clear the whole run, from gate on, or put the marker again"):
        etl.combine(large.job(), run=RUN)
    assert large.get("Output/historical_stock_data.csv") == b"old"
    assert "Output/manifest.json" not in large.keys("Output/")
    assert large.unfinished_uploads() == []


def test_shards_are_removed_when_their_run_has_succeeded_and_kept_when_not(
    sample: Files, bucket: Bucket, topic: Topic
) -> None:
    bucket.upload(sample)
    _process_shards(bucket, 2)
    bucket.put("Output/work/run-another/plan.json", b"{}")
    for succeeded in (False, True):
        receipt = etl.combine(bucket.job(), run=RUN)
        bucket.put(f"Output/receipts/{RUN.run_id}.json", receipt.to_json().encode())
        etl.send_mail_of_run(bucket.job(), run=RUN, succeeded=succeeded, reason="the end", mailbox=topic.mailbox)
        assert len(topic.mails()) == 1
        assert (len(bucket.keys("Output/work/")) > 1) is not succeeded
    assert bucket.keys("Output/work/") == {"Output/work/run-another/plan.json"}


@pytest.mark.parametrize("folder", ["work", "parts"])
def test_objects_of_others_in_the_output_stay(three: Files, bucket: Bucket, folder: str) -> None:
    bucket.upload(three)
    own = {f"Output/{folder}/{name}" for name in ("thesis.txt", "run-times.csv", "old/run-1/a.csv")}
    for key in (*own, f"Output/{folder}/run-old/plan.json", f"Output/{folder}/run-{RUN.run_id}/plan.json"):
        bucket.put(key, b"mine")
    process(bucket.job(), run=RUN)
    assert bucket.keys(f"Output/{folder}/") == own


def test_gate_removes_the_leftovers_of_every_run_more_than_a_page_of_them(three: Files, bucket: Bucket) -> None:
    bucket.upload(three)
    bucket.on("before-parameter-build.s3.ListObjectsV2", lambda params, **_: params.update(MaxKeys=2))
    for number in range(7):
        bucket.put(f"Output/work/run-{number}/plan.json", b"{}")
    for number in range(2):
        bucket.s3.create_multipart_upload(Bucket=bucket.name, Key=f"Output/work/run-1/{number}-ab/rejected_rows.csv")
    bucket.put("Output/workofours", b"")
    bucket.s3.create_multipart_upload(Bucket=bucket.name, Key="Output/other")
    etl.gate(bucket.job(), run=RUN, shards=1)
    assert bucket.keys("Output/") == {"Output/workofours", f"Output/work/run-{RUN.run_id}/plan.json"}
    assert bucket.unfinished_uploads() == ["Output/other"]


CHILD = """
import sys, etl
from datetime import datetime, UTC
bucket, run_id, step, shards = sys.argv[1:]
place = f"s3://{bucket}"
index = f"{place}/CompanyNames/top_companies.txt"
job = etl.Job(f"{place}/Stocks", index, f"{place}/Output", reread=True)
run = etl.Run(run_id, datetime.now(UTC))
if step == "combine":
    etl.combine(job, run=run)
else:
    etl.process(job, run=run, shard=int(step))
"""
KILLS = int(os.environ.get("MBD_KILLS", "2"))  # of each step; CI has more


@pytest.mark.parametrize("step", ["1", "combine"])
def test_step_killed_at_any_moment_and_done_again_gives_the_same_bytes_and_leaves_nothing(
    large: Bucket, moto_server: MotoServer, proxy: S3Proxy, step: str
) -> None:
    def outputs() -> dict[str, Any]:
        found: dict[str, Any] = _outputs(large)
        facts = json.loads(found["manifest.json"])
        return found | {"manifest.json": {key: fact for key, fact in facts.items() if not key.endswith("_version")}}

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", CHILD, large.name, RUN.run_id, step, "2"],
            env={**os.environ, **moto_server.environment, "AWS_ENDPOINT_URL": proxy.url},
            cwd=ROOT,
        )

    process(large.job(), run=RUN)
    expected = outputs()
    large.put("Output/manifest.json", b"old")  # so that nothing of it is taken over
    _process_shards(large, 2)
    assert start().wait(60) == 0
    asked = [request.operation for request in proxy.requests]
    assert set(asked) >= {"CreateMultipartUpload", "CompleteMultipartUpload", "PutObject"}
    for at in chosen(asked, KILLS, seed=f"shards {step}"):
        large.put("Output/manifest.json", b"old")
        reached, released = proxy.hold_from(at)
        child = start()
        assert reached.wait(60), f"request {at} of {len(asked)}"
        child.kill()
        released.set()  # S3 does what it was asked for, and nobody hears of it
        assert child.wait(60) == -signal.SIGKILL
        if step != "combine":
            _shard(large, 1, of=2)
        etl.combine(large.job(), run=RUN)
        assert outputs() == expected, f"request {at} of {len(asked)}"
    etl.gate(large.job(), run=RUN)
    assert large.unfinished_uploads() == []
    assert large.keys("Output/work/") == {f"Output/work/run-{RUN.run_id}/plan.json"}
