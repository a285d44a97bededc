"""A batch whose source, index and output are S3 (moto): the same bytes, whole objects only, faults told apart."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest

import etl
from etl.batch.storage import open_storage
from etl.errors import FileChangedError
from etl.files.rules import LARGEST_FILE_BYTES
from etl.files.shards import _write_manifest
from etl.outcome.receipt import read_receipt
from tests.support.batch_files import process
from tests.support.paths import ROOT
from tests.support.s3_proxy import Cut, Refusal, Request, S3Proxy

if TYPE_CHECKING:
    from etl.batch.storage import Storage
    from etl.files.manifest import Manifest
    from etl.files.shards import Outputs
    from tests.support.aws_places import Bucket
    from tests.support.batch_files import Files
    from tests.support.commands import Command
    from tests.support.database import Database
    from tests.support.moto import MotoServer

Days = Callable[..., list[str]]
COMBINED, MANIFEST = "Output/historical_stock_data.csv", "Output/manifest.json"
_PART_BYTES = 8 << 20


def _run(bucket: Bucket, database: Database, **changes: Any) -> etl.Receipt:  # noqa: ANN401  whatever a Job takes
    return etl.run(bucket.job(**changes), target=etl.Target(database.url), run=etl.Run.begin("test"))


def _process(bucket: Bucket, **changes: Any) -> etl.Receipt:  # noqa: ANN401  whatever a Job takes
    return process(bucket.job(), run=etl.Run.begin("test"), **changes)


def _refusal(code: str, status: int) -> tuple[SimpleNamespace, dict[str, Any]]:
    """An answer of AWS, as botocore takes it from a before-call hook."""
    return SimpleNamespace(status_code=status), {
        "Error": {"Code": code, "Message": "said the test"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }


@pytest.fixture
def large(make_files: Callable[[str], Files], sample: Files) -> Files:
    """Companies whose combined file needs two parts: 8 copies of the largest file of the sample, 1.2 MB each."""
    files = make_files("large")
    files.put_copies(sample.source / "ge.us.csv", count=8)
    return files


def test_batch_in_s3_gives_the_table_and_the_bytes_of_the_batch_in_folders(
    sample: Files, bucket: Bucket, database: Database, empty_database: Database, command: Command
) -> None:
    bucket.upload(sample)
    in_s3 = _run(bucket, database)
    assert command("init-db", "--database-url", empty_database.url).code == 0
    in_folders = sample.load(empty_database)
    assert bucket.get(COMBINED) == sample.combined
    assert database.table() == empty_database.table()
    assert (in_s3.rows, in_s3.files, in_s3.quarantined) == (in_folders.rows, in_folders.files, in_folders.quarantined)
    again = _run(bucket, database)
    assert (again.rows.inserted, again.rows.unchanged) == (0, in_s3.rows.accepted)


def test_outputs_and_receipts_lie_where_they_belong(three: Files, bucket: Bucket, database: Database) -> None:
    bucket.upload(three)
    receipt = _run(bucket, database)
    assert bucket.keys("Output/") == {
        COMBINED,
        MANIFEST,
        "Output/rejected_rows.csv",
        "Output/rejected_rows.jsonl",
        "Output/flagged_rows.csv",
        f"Output/receipts/{receipt.run_id}.json",
        f"Output/reports/{receipt.run_id}.html",
        "Output/reports/latest.html",
        "Output/reports/months.json",
    }
    assert json.loads(bucket.get(f"Output/receipts/{receipt.run_id}.json")) == json.loads(receipt.to_json())
    manifest = json.loads(bucket.get(MANIFEST))
    assert [part["company_name"] for part in manifest["slices"]] == ["aa.us.csv", "bb.us.csv", "cc.us.csv"]
    assert bucket.get("Output/rejected_rows.csv") == b"file,line,column,value,reason\n"
    kept = read_receipt(receipt.run_id, output=bucket.job().open_output())
    assert kept is not None
    assert kept.to_json() == receipt.to_json()


def test_process_then_load_from_s3_reads_only_the_changed_slice(
    three: Files, proxied: Bucket, proxy: S3Proxy, database: Database, days: Days
) -> None:
    proxied.upload(three)
    _run(proxied, database)
    three.put("bb.us.csv", days(10, price=21))
    proxied.upload(three)
    _process(proxied)
    proxy.requests.clear()
    receipt = etl.load(proxied.job(), target=etl.Target(database.url), run=etl.Run.begin("test"))
    assert (receipt.rows.inserted, receipt.rows.deleted, receipt.rows.unchanged) == (10, 10, 25)
    _, part, _ = json.loads(proxied.get(MANIFEST))["slices"]
    assert {(get.key, get.range) for get in proxy.gets()} == {
        (MANIFEST, ""),
        (COMBINED, f"bytes={part['offset']}-{part['offset'] + part['length'] - 1}"),
        ("Output/reports/months.json", ""),
    }


def test_prefix_with_or_without_a_slash_and_a_whole_bucket_are_places(three: Files, bucket: Bucket) -> None:
    bucket.upload(three)
    for path in three.source.iterdir():
        bucket.put(path.name, path.read_bytes())
    for source in ("Stocks/", "Stocks", ""):
        receipt = process(bucket.job(source=f"s3://{bucket.name}/{source}"), run=etl.Run.begin("test"))
        assert receipt.rows.accepted == 35
    assert receipt.source == f"s3://{bucket.name}/"


def test_files_in_folders_below_the_source_are_not_taken_for_company_files(three: Files, bucket: Bucket) -> None:
    bucket.upload(three)
    bucket.put("Stocks/old/aa.us.csv", b"nothing")
    bucket.put("Stocks/", b"")
    bucket.put("StocksOfYesterday/dd.us.csv", b"nothing")
    assert _process(bucket).notes == ()


def test_more_files_than_one_list_answers_with_are_all_found(bucket: Bucket, three: Files) -> None:
    bucket.upload(three)
    bucket.on("provide-client-params.s3.ListObjectsV2", lambda params, **_: params.update(MaxKeys=2))
    assert _process(bucket).files.accepted == 3


def test_unchanged_batch_reads_no_company_file_and_writes_at_most_the_manifest(
    sample: Files, bucket: Bucket, proxied: Bucket, proxy: S3Proxy, database: Database
) -> None:
    bucket.upload(sample)
    for number in range(1100):  # a second page of the listing
        bucket.put(f"Stocks/other{number:04}.us.csv", b"")
    first = _run(proxied, database)
    assert first.files.read == len(proxy.gets("Stocks/")) > 30
    proxy.requests.clear()
    second = _run(proxied, database)
    assert (second.files.read, second.files.taken_over) == (0, first.files.read)
    assert (second.rows.inserted, second.rows.unchanged) == (0, first.rows.accepted)
    assert proxy.gets("Stocks/") == []
    written = [request.key for request in proxy.requests if request.key and request.method in ("PUT", "POST")]
    reports = [f"Output/reports/{second.run_id}.html", "Output/reports/latest.html"]
    plan, receipt = f"Output/work/run-{second.run_id}/plan.json", f"Output/receipts/{second.run_id}.json"
    assert written == [plan, MANIFEST, receipt, *reports]  # once: which files were read and which taken over
    pages = [one for one in proxy.requests if one.operation == "ListObjectsV2" and "prefix=Stocks" in one.target]
    assert len(pages) == 2
    assert len(proxy.requests) - len(pages) <= 17, [f"{one.method} {one.target}" for one in proxy.requests]
    proxy.requests.clear()
    assert _run(proxied, database, report=False).rows.unchanged == first.rows.accepted
    assert len(proxy.requests) - len(pages) <= 10, [f"{one.method} {one.target}" for one in proxy.requests]


def test_combined_file_over_8_mib_is_uploaded_in_parts(large: Files, bucket: Bucket) -> None:
    bucket.upload(large)
    parts: list[int] = []
    bucket.on("provide-client-params.s3.UploadPart", lambda params, **_: parts.append(len(params["Body"])))
    _process(bucket)
    process(large.job(), run=etl.Run.begin("test"))
    assert parts == [_PART_BYTES, len(large.combined) - _PART_BYTES]
    assert bucket.get(COMBINED) == large.combined
    assert bucket.unfinished_uploads() == []
    assert "-2" in bucket.s3.head_object(Bucket=bucket.name, Key=COMBINED)["ETag"]


def test_large_combined_file_in_s3_is_loaded_from_there(large: Files, bucket: Bucket, database: Database) -> None:
    bucket.upload(large)
    _process(bucket)
    receipt = etl.load(bucket.job(), target=etl.Target(database.url), run=etl.Run.begin("test"))
    assert receipt.rows.inserted == receipt.rows.accepted == database.count() == 8 * 14_058


@pytest.mark.parametrize("stop", [etl.BatchError, KeyboardInterrupt])
def test_process_that_stops_leaves_no_upload_and_the_old_object(
    large: Files, bucket: Bucket, stop: type[BaseException]
) -> None:
    bucket.upload(large)
    bucket.put(COMBINED, b"the old one")
    begun: list[str] = []
    bucket.on("provide-client-params.s3.CreateMultipartUpload", lambda params, **_: begun.append(params["Key"]))

    def at_the_end(*, done: int, total: int) -> None:
        if done == total:
            raise stop

    with pytest.raises(stop):
        _process(bucket, progress=at_the_end)
    assert begun == [COMBINED]
    assert bucket.unfinished_uploads() == []
    assert {key for key in bucket.keys("Output/") if "/work/" not in key} == {COMBINED}
    assert bucket.get(COMBINED) == b"the old one"


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
def test_upload_that_is_denied_names_the_action_and_leaves_the_old_object(
    large: Files, bucket: Bucket, database: Database, operation: str
) -> None:
    bucket.upload(large)
    bucket.put(COMBINED, b"the old one")
    calls: list[str] = []

    def deny(**_: object) -> object:
        calls.append(operation)
        return _refusal("AccessDenied", 403)

    bucket.on(f"before-call.s3.{operation}", deny)
    with pytest.raises(
        etl.SettingsError,
        match=r"Not allowed to write .*: AWS denies s3:PutObject \(AccessDenied: said the test\)\. Grant",
    ):
        _run(bucket, database)
    assert set(calls) == {operation}
    assert len(calls) <= 2
    assert bucket.unfinished_uploads() == []
    assert bucket.get(COMBINED) == b"the old one"
    assert (database.count(), database.ledger(), database.states()) == (0, [], [])


@pytest.mark.parametrize(
    ("operation", "told"),
    [
        ("ListObjectsV2", r"Not allowed to list s3://.*/Stocks/.* s3:ListBucket"),
        ("GetObject", r"Not allowed to read s3://.*/top_companies\.txt.* s3:GetObject"),
        ("PutObject", r"Not allowed to write s3://.*/Output/.* s3:PutObject"),
        (
            "ListMultipartUploads",
            r"Not allowed to clear unfinished uploads of s3://.*/Output/work/.* s3:ListBucketMultipartUploads",
        ),
    ],
)
def test_denied_request_is_not_tried_again_and_names_its_action(
    three: Files, proxied: Bucket, proxy: S3Proxy, database: Database, operation: str, told: str
) -> None:
    proxied.upload(three)
    proxy.hook = lambda request: Refusal(403, "AccessDenied") if request.operation == operation else None
    with pytest.raises(etl.SettingsError, match=rf"{told} \(AccessDenied: said the test\)\. Grant"):
        _run(proxied, database)
    calls = [request.client for request in proxy.requests if request.operation == operation]
    assert calls == (["object_store", "Boto3"] if operation == "GetObject" else ["Boto3"])
    assert database.count() == 0


def test_object_that_s3_refuses_to_remove_stops_the_gate_and_names_the_right(three: Files, bucket: Bucket) -> None:
    bucket.upload(three)
    bucket.put("Output/work/run-killed/plan.json", b"{}")
    refused = {"Key": "Output/work/run-killed/plan.json", "Code": "AccessDenied", "Message": "said the test"}
    answer = SimpleNamespace(status_code=200), {"Errors": [refused], "ResponseMetadata": {}}
    bucket.on("before-call.s3.DeleteObjects", lambda **_: answer)
    told = r"Not allowed to remove s3://.*/Output/work/run-: AWS denies s3:DeleteObject \(AccessDenied: said the test\)"
    with pytest.raises(etl.SettingsError, match=told):
        etl.gate(bucket.job(), run=etl.Run.begin("test"))


def test_stale_upload_of_a_killed_run_is_cleared_by_the_next_and_no_other(large: Files, bucket: Bucket) -> None:
    bucket.upload(large)
    for key in (COMBINED, COMBINED, "Output/historical_stock_data.csv.other"):
        bucket.s3.create_multipart_upload(Bucket=bucket.name, Key=key)
    _process(bucket)
    assert bucket.unfinished_uploads() == ["Output/historical_stock_data.csv.other"]


def test_stale_upload_that_ends_while_it_is_cleared_is_no_error(large: Files, bucket: Bucket) -> None:
    bucket.upload(large)
    stale = bucket.s3.create_multipart_upload(Bucket=bucket.name, Key=COMBINED)["UploadId"]

    def end_first(params: dict[str, Any], **_: object) -> None:
        if params["UploadId"] == stale:
            bucket.s3.abort_multipart_upload(Bucket=bucket.name, Key=COMBINED, UploadId=stale)

    bucket.on("provide-client-params.s3.AbortMultipartUpload", end_first)
    assert _process(bucket).files.accepted == 8
    assert bucket.unfinished_uploads() == []


def test_upload_that_is_begun_twice_because_the_answer_was_lost_leaves_none(
    large: Files, proxied: Bucket, proxy: S3Proxy
) -> None:
    proxied.upload(large)
    begun: list[str] = []

    def lose_the_first_answer(request: Request) -> Cut | None:
        if request.operation != "CreateMultipartUpload":
            return None
        begun.append(request.key)
        return Cut() if len(begun) == 1 else None

    proxy.hook = lose_the_first_answer
    _process(proxied)
    assert begun == [COMBINED, COMBINED]
    assert proxied.unfinished_uploads() == []
    assert "-2" in proxied.s3.head_object(Bucket=proxied.name, Key=COMBINED)["ETag"]


def _replace_at_get(bucket: Bucket, proxy: S3Proxy, key: str, contents: list[bytes]) -> None:
    """Put the next of `contents` under `key` just before each GET of it."""

    def put_next(request: Request) -> None:
        if (request.operation, request.key) == ("GetObject", key) and contents:
            bucket.put(key, contents.pop(0))

    proxy.hook = put_next


def test_file_replaced_between_list_and_get_is_read_again_once(
    three: Files, proxied: Bucket, proxy: S3Proxy, days: Days
) -> None:
    proxied.upload(three)
    three.put("bb.us.csv", days(12, price=22))
    _replace_at_get(proxied, proxy, "Stocks/bb.us.csv", [(three.source / "bb.us.csv").read_bytes()])
    receipt = _process(proxied)
    assert (receipt.files.accepted, receipt.rows.accepted) == (3, 37)
    versions = [get.if_match for get in proxy.gets("Stocks/bb.us.csv")]
    assert len(set(versions)) == len(versions) == 2
    assert all(get.if_match for get in proxy.gets("Stocks/")), "a company file is read with the ETag that was listed"
    process(three.job(), run=etl.Run.begin("test"))
    assert proxied.get(COMBINED) == three.combined


def test_file_replaced_by_one_that_is_too_large_is_not_read(three: Files, proxied: Bucket, proxy: S3Proxy) -> None:
    proxied.upload(three)
    _replace_at_get(proxied, proxy, "Stocks/bb.us.csv", [bytes(LARGEST_FILE_BYTES + 1)])
    [one] = _process(proxied).quarantined
    assert (one.file, one.reason.partition(":")[0]) == ("bb.us.csv", "too large")
    assert len(proxy.gets("Stocks/bb.us.csv")) == 1


def test_file_replaced_while_its_first_read_fails_is_read_again_as_it_is_listed_then(
    three: Files, proxied: Bucket, proxy: S3Proxy, days: Days
) -> None:
    proxied.upload(three)
    three.put("bb.us.csv", days(12, price=22))

    def replace_and_fail(request: Request) -> Refusal | None:
        if (request.operation, request.key) != ("GetObject", "Stocks/bb.us.csv") or len(proxy.gets(request.key)) > 1:
            return None
        proxied.put(request.key, (three.source / "bb.us.csv").read_bytes())
        return Refusal(503, "SlowDown")

    proxy.hook = replace_and_fail
    assert _process(proxied).rows.accepted == 37
    gets = proxy.gets("Stocks/bb.us.csv")
    assert [get.client for get in gets] == ["object_store", "Boto3", "object_store"]
    assert gets[0].if_match == gets[1].if_match != gets[2].if_match
    assert json.loads(proxied.get(MANIFEST))["files"]["bb.us.csv"][0] == gets[2].if_match


def test_file_replaced_twice_while_it_is_read_is_quarantined(
    three: Files, proxied: Bucket, proxy: S3Proxy, database: Database
) -> None:
    proxied.upload(three)
    _run(proxied, database)
    places = database.places()
    proxy.requests.clear()
    _replace_at_get(proxied, proxy, "Stocks/bb.us.csv", [b"one", b"two", b"three"])
    receipt = _run(proxied, database, reread=True)
    assert [(entry.file, entry.reason) for entry in receipt.quarantined] == [
        ("bb.us.csv", "replaced or removed while it was read, twice")
    ]
    assert len(proxy.gets("Stocks/bb.us.csv")) == 2
    assert database.places() == places


def test_file_removed_between_list_and_get_is_quarantined(three: Files, proxied: Bucket, proxy: S3Proxy) -> None:
    proxied.upload(three)

    def remove(request: Request) -> None:
        if (request.operation, request.key) == ("GetObject", "Stocks/aa.us.csv"):
            proxied.s3.delete_object(Bucket=proxied.name, Key="Stocks/aa.us.csv")

    proxy.hook = remove
    receipt = _process(proxied)
    assert [entry.file for entry in receipt.quarantined] == ["aa.us.csv"]
    assert receipt.files.accepted == 2
    assert [request.client for request in proxy.gets("Stocks/aa.us.csv")] == ["object_store", "Boto3"]


@pytest.fixture
def many(make_files: Callable[[str], Files], days: Days) -> Files:
    """32 companies of two rows each."""
    files = make_files("many")
    names = [f"c{number:02}.us.csv" for number in range(32)]
    for name in names:
        files.put(name, days(2))
    files.name(*names)
    return files


def test_16_files_are_read_at_once(many: Files, proxied: Bucket, proxy: S3Proxy) -> None:
    proxied.upload(many)
    all_under_way = threading.Barrier(16, timeout=30)

    def hold(request: Request) -> None:
        if request.operation == "GetObject" and request.key.startswith("Stocks/"):
            all_under_way.wait()  # BrokenBarrierError when fewer than 16 come

    proxy.hook = hold
    assert _process(proxied).files.accepted == 32
    assert proxy.most_gets_at_once == 16
    assert len(proxy.gets("Stocks/")) == 32


def test_slowest_file_first_keeps_the_order_of_the_index(three: Files, proxied: Bucket, proxy: S3Proxy) -> None:
    proxied.upload(three)
    others_came = threading.Semaphore(0)

    def hold(request: Request) -> None:
        if request.operation != "GetObject" or not request.key.startswith("Stocks/"):
            return
        if request.key == "Stocks/aa.us.csv":
            assert others_came.acquire(timeout=30)
            assert others_came.acquire(timeout=30)
        else:
            others_came.release()

    proxy.hook = hold
    _process(proxied)
    assert proxy.most_gets_at_once >= 2
    process(three.job(), run=etl.Run.begin("test"))
    assert proxied.get(COMBINED) == three.combined


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ({"source": "s3://de-mbd-nowhere/Stocks"}, "list s3://de-mbd-nowhere/Stocks/: it does not exist"),
        ({"output": "s3://de-mbd-nowhere/Output"}, "s3://de-mbd-nowhere/Output/work/run-: it does not exist"),
        ({"index": "s3://{bucket}/CompanyNames/none.txt"}, "No such file: s3://{bucket}/CompanyNames/none.txt"),
        ({"index": "s3://{bucket}/CompanyNames/"}, "names a folder"),
        ({"source": "s3://Not_A_Bucket/Stocks"}, "names no bucket"),
        ({"source": "gs://{bucket}/Stocks"}, "neither a folder nor s3://bucket/prefix"),
    ],
)
@pytest.mark.usefixtures("aws_environment")
def test_place_that_does_not_exist_is_one_line_and_exit_code_2(
    three: Files, bucket: Bucket, database: Database, command: Command, place: dict[str, str], told: str
) -> None:
    bucket.upload(three)
    job = bucket.job()
    places = {"source": job.source, "index": job.company_index, "output": job.output}
    places |= {option: url.format(bucket=bucket.name) for option, url in place.items()}
    options = [text for option, url in places.items() for text in (f"--{option}", url)]
    answer = command("run", *options, "--database-url", database.url, "--quiet")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("\n") == 1
    assert told.format(bucket=bucket.name) in answer.err
    assert database.count() == 0


def test_missing_file_is_named_without_a_get(three: Files, proxied: Bucket, proxy: S3Proxy, database: Database) -> None:
    proxied.upload(three)
    proxied.s3.delete_object(Bucket=proxied.name, Key="Stocks/bb.us.csv")
    with pytest.raises(etl.BatchError, match=r"1 of 3 company files .* \(bb\.us\.csv\)\. Upload them"):
        _run(proxied, database)
    assert [get.key for get in proxy.gets()] == ["CompanyNames/top_companies.txt"]


def test_gate_waits_for_a_file_that_comes_within_the_grace(three: Files, bucket: Bucket) -> None:
    bucket.upload(three)
    bucket.s3.delete_object(Bucket=bucket.name, Key="Stocks/bb.us.csv")
    lists: list[str] = []

    def come_late(params: dict[str, Any], **_: object) -> None:
        lists.append(params["Prefix"])
        if lists == ["Stocks/"] * 2:
            bucket.put("Stocks/bb.us.csv", (three.source / "bb.us.csv").read_bytes())

    bucket.on("provide-client-params.s3.ListObjectsV2", come_late)
    assert set(etl.gate(bucket.job(grace_seconds=1), run=etl.Run.begin("test")).names) == {
        "aa.us.csv",
        "bb.us.csv",
        "cc.us.csv",
    }
    assert lists == ["Stocks/", "Stocks/", "Output/work/run-"]


@pytest.mark.usefixtures("hurried_retries")
def test_server_error_of_s3_is_tried_again(three: Files, proxied: Bucket, proxy: S3Proxy) -> None:
    proxied.upload(three)
    failures = [Refusal(503, "SlowDown"), Refusal(500, "InternalError")]
    proxy.hook = lambda request: failures.pop() if failures and request.operation == "GetObject" else None
    assert _process(proxied).files.accepted == 3
    assert len(proxy.gets("Stocks/") + proxy.gets("CompanyNames/")) == 4 + 2


@pytest.mark.usefixtures("hurried_retries")
def test_server_error_that_stays_is_a_fault_of_the_service(three: Files, proxied: Bucket, proxy: S3Proxy) -> None:
    proxied.upload(three)
    proxy.hook = lambda request: Refusal(503, "SlowDown") if request.operation == "GetObject" else None
    with pytest.raises(etl.ServiceError, match="Try again"):
        _process(proxied)
    assert [get.client for get in proxy.gets()] == ["object_store"] + 5 * ["Boto3"]


@pytest.mark.usefixtures("hurried_retries")
@pytest.mark.parametrize("failures", [1, 3, 5])
def test_throttled_files_are_asked_for_a_bounded_number_of_times(
    many: Files, proxied: Bucket, proxy: S3Proxy, failures: int
) -> None:
    proxied.upload(many)
    left = {f"Stocks/c{number:02}.us.csv": failures for number in range(0, 32, 4)}

    def slow_down(request: Request) -> Refusal | None:
        if request.operation != "GetObject" or not left.get(request.key):
            return None
        left[request.key] -= 1
        return Refusal(503, "SlowDown")

    proxy.hook = slow_down
    assert _process(proxied).files.accepted == 32
    gets = Counter(get.key for get in proxy.gets("Stocks/"))
    assert gets == {f"Stocks/c{number:02}.us.csv": 1 + failures * (number % 4 == 0) for number in range(32)}
    process(many.job(), run=etl.Run.begin("test"))
    assert proxied.get(COMBINED) == many.combined


def _cut_first(proxy: S3Proxy, key: str, times: int) -> None:
    """Break off the bodies of the first GETs of `key`."""

    def cut(request: Request) -> Cut | None:
        return Cut() if request.key == key and len(proxy.gets(key)) <= times else None

    proxy.hook = cut


@pytest.mark.parametrize("cuts", [1, 2, 3])
def test_file_whose_body_breaks_off_is_read_again(three: Files, proxied: Bucket, proxy: S3Proxy, cuts: int) -> None:
    proxied.upload(three)
    _cut_first(proxy, "Stocks/bb.us.csv", cuts)
    receipt = _process(proxied)
    assert (receipt.files.accepted, receipt.rows.accepted) == (3, 35)
    assert [get.client for get in proxy.gets("Stocks/bb.us.csv")] == ["object_store"] + cuts * ["Boto3"]
    process(three.job(), run=etl.Run.begin("test"))
    assert proxied.get(COMBINED) == three.combined


def test_file_whose_body_always_breaks_off_is_a_fault_of_the_service(
    three: Files, proxied: Bucket, proxy: S3Proxy
) -> None:
    proxied.upload(three)
    _cut_first(proxy, "Stocks/bb.us.csv", 100)
    with pytest.raises(etl.ServiceError, match=r"Cannot read .*/bb\.us\.csv: no answer from AWS .*Try again"):
        _process(proxied)
    assert len(proxy.gets("Stocks/bb.us.csv")) == 1 + 3


def test_slice_whose_body_breaks_off_is_loaded_whole(
    three: Files, proxied: Bucket, proxy: S3Proxy, database: Database
) -> None:
    proxied.upload(three)
    _process(proxied)
    proxy.requests.clear()
    _cut_first(proxy, COMBINED, 1)
    receipt = etl.load(proxied.job(), target=etl.Target(database.url), run=etl.Run.begin("test"))
    assert receipt.rows.inserted == database.count() == 35
    first, again, *_ = proxy.gets(COMBINED)
    assert first.range == again.range != ""


def _who_asks(proxy: S3Proxy) -> set[tuple[str, str, str, str]]:
    """Client, access key, region and token of the requests, of which every GET of an input is obstore's."""
    assert {get.client for get in proxy.gets() if "manifest" not in get.key} == {"object_store"}, "boto3 had to ask too"
    return {(request.client, *request.signed_by, request.token) for request in proxy.requests}


@pytest.mark.parametrize("token", ["", "a/session+token=="])
def test_session_given_signs_every_request_whatever_the_environment_says(
    three: Files,
    proxied: Bucket,
    proxy: S3Proxy,
    closed_port: int,
    monkeypatch: pytest.MonkeyPatch,
    token: str,
) -> None:
    proxied.upload(three)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ANOTHER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "another token")
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    for name in ("AWS_ENDPOINT", "AWS_ENDPOINT_URL"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port}")
    session = boto3.Session("AKIDGIVEN", "secret", token or None, region_name="eu-central-1")
    aws = etl.Aws(session=session, endpoint_url=proxy.url)
    assert process(proxied.job(aws=aws), run=etl.Run.begin("test")).files.accepted == 3
    assert _who_asks(proxy) == {
        ("Boto3", "AKIDGIVEN", "eu-central-1", token),
        ("object_store", "AKIDGIVEN", "eu-central-1", token),
    }


@pytest.mark.parametrize(
    "name",
    [
        "AWS_ENDPOINT_URL_S3",
        "AWS_SKIP_SIGNATURE",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
        "AWS_S3_EXPRESS",
    ],
)
def test_endpoint_given_is_asked_whatever_obstore_finds_in_the_environment(
    three: Files, proxied: Bucket, proxy: S3Proxy, closed_port: int, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    proxied.upload(three)
    monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port}" if "URL" in name else "true")
    assert _process(proxied).files.accepted == 3
    assert _who_asks(proxy) == {("Boto3", "testing", "eu-west-1", ""), ("object_store", "testing", "eu-west-1", "")}


def test_endpoint_region_and_keys_of_the_environment_are_used(
    three: Files, proxied: Bucket, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxied.upload(three)
    for name, value in {
        "AWS_ENDPOINT_URL": proxy.url,
        "AWS_ACCESS_KEY_ID": "AKIDENVIRONMENT",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_SESSION_TOKEN": "token",
        "AWS_DEFAULT_REGION": "ap-south-1",
    }.items():
        monkeypatch.setenv(name, value)
    process(proxied.job(aws=etl.Aws()), run=etl.Run.begin("test"))
    assert _who_asks(proxy) == {
        ("Boto3", "AKIDENVIRONMENT", "ap-south-1", "token"),
        ("object_store", "AKIDENVIRONMENT", "ap-south-1", "token"),
    }


@pytest.mark.parametrize(("default", "used"), [("", "eu-north-1"), ("ap-south-1", "ap-south-1")])
def test_region_of_aws_region_is_used_where_boto3_finds_none(
    three: Files, proxied: Bucket, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch, default: str, used: str
) -> None:
    proxied.upload(three)
    for name, value in {
        "AWS_ENDPOINT_URL": proxy.url,
        "AWS_ACCESS_KEY_ID": "AKIDENVIRONMENT",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_DEFAULT_REGION": default,
        "AWS_REGION": "eu-north-1",
    }.items():
        monkeypatch.setenv(name, value)
    aws = etl.Aws()
    process(proxied.job(aws=aws), run=etl.Run.begin("test"))
    assert _who_asks(proxy) == {("Boto3", "AKIDENVIRONMENT", used, ""), ("object_store", "AKIDENVIRONMENT", used, "")}
    assert (aws.sns.meta.region_name, aws.cloudwatch.meta.region_name) == (used, used)


def test_profile_with_its_own_endpoint_region_and_keys_is_used(
    three: Files, proxied: Bucket, proxy: S3Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxied.upload(three)
    keys, config = tmp_path / "credentials", tmp_path / "config"
    keys.write_text(
        "[default]\naws_access_key_id = AKIDDEFAULT\naws_secret_access_key = wrong\n"
        "[traders]\naws_access_key_id = AKIDTRADERS\naws_secret_access_key = secret\naws_session_token = token\n"
    )
    config.write_text(
        "[default]\nregion = us-west-2\n"
        "[profile traders]\nregion = eu-north-1\nservices = local\n"
        f"[services local]\ns3 =\n  endpoint_url = {proxy.url}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(keys))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_PROFILE", "traders")
    process(proxied.job(aws=etl.Aws()), run=etl.Run.begin("test"))
    assert _who_asks(proxy) == {
        ("Boto3", "AKIDTRADERS", "eu-north-1", "token"),
        ("object_store", "AKIDTRADERS", "eu-north-1", "token"),
    }


@pytest.mark.parametrize("prefix", ["a//b", "a/./b", "a/../b", "a b/ä+%20#?"])
def test_prefix_that_is_no_path_but_a_key_of_s3_is_a_place(three: Files, bucket: Bucket, prefix: str) -> None:
    for path in three.source.iterdir():
        bucket.put(f"{prefix}/{path.name}", path.read_bytes())
    bucket.put("CompanyNames/top_companies.txt", three.index.read_bytes())
    job = bucket.job(source=f"s3://{bucket.name}/{prefix}")
    assert process(job, run=etl.Run.begin("test")).files.accepted == 3


@pytest.mark.usefixtures("hurried_retries")
def test_s3_that_does_not_answer_is_a_fault_of_the_service(three: Files, bucket: Bucket, closed_port: int) -> None:
    aws = etl.Aws(session=bucket.session, endpoint_url=f"http://127.0.0.1:{closed_port}")
    with pytest.raises(etl.ServiceError, match=r"no answer from AWS .*Try again"):
        process(bucket.job(aws=aws), run=etl.Run.begin("test"))


def test_combined_file_replaced_in_s3_after_process_fails_the_load(
    three: Files, bucket: Bucket, database: Database
) -> None:
    bucket.upload(three)
    _process(bucket)
    bucket.put(COMBINED, bucket.get(COMBINED)[:-40])
    with pytest.raises(etl.BatchError, match="The combined file is not the one that the manifest describes"):
        etl.load(bucket.job(), target=etl.Target(database.url), run=etl.Run.begin("test"))
    assert database.count() == 0


@pytest.mark.parametrize("large_files", [False, True])
def test_outputs_in_s3_of_a_run_that_another_overtook_are_not_taken_over(
    three: Files, large: Files, bucket: Bucket, monkeypatch: pytest.MonkeyPatch, large_files: bool
) -> None:
    files = large if large_files else three  # in parts, or whole
    bucket.upload(files)
    first, *_, last = sorted(bucket.keys("Stocks/"))
    write_manifest = _write_manifest

    def overtaken(outputs: Outputs, *, output: Storage, last: Manifest | None) -> Manifest:
        monkeypatch.undo()
        bucket.put(first, bucket.get(first) + b"2030-01-02,1,2,1,2,5,0\n")
        _process(bucket)  # begins and ends here
        return write_manifest(outputs, output=output, last=last)

    monkeypatch.setattr("etl.files.shards._write_manifest", overtaken)
    _process(bucket)
    bucket.put(last, bucket.get(last) + b"2030-01-02,1,2,1,2,5,0\n")
    assert _process(bucket).files.taken_over == 0
    combined = bucket.get(COMBINED)
    assert process(bucket.job(reread=True)).files.taken_over == 0
    assert bucket.get(COMBINED) == combined
    assert process(bucket.job()).files.read == 0


def test_object_whose_name_only_begins_like_another_is_not_taken_for_it(bucket: Bucket) -> None:
    bucket.put("Stocks/a.csv.gz", b"packed")
    place = open_storage(f"s3://{bucket.name}/Stocks", aws=bucket.aws)
    with pytest.raises(FileChangedError):
        place.find("a.csv")
    assert place.find("a.csv.gz").size_bytes == 6


def test_range_in_s3_is_of_the_version_that_was_asked_for(bucket: Bucket) -> None:
    output = open_storage(f"s3://{bucket.name}/Output", aws=bucket.aws)
    with output.write("piece") as file:
        file.write(b"12345")
    assert file.version == output.find("piece").version
    with output.write("whole") as whole:
        whole.append("piece", start=1, length=3, version=file.version)
    assert bucket.get("Output/whole") == b"234"
    bucket.put("Output/piece", b"54321")
    with pytest.raises(FileChangedError), output.write("whole") as whole:
        whole.append("piece", start=1, length=3, version=file.version)
    assert bucket.get("Output/whole") == b"234"


def test_object_replaced_between_two_requests_of_a_range_is_noticed(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.batch.s3.BLOCK_BYTES", 4)
    bucket.put("Output/piece", b"12345678")
    place = open_storage(f"s3://{bucket.name}/Output", aws=bucket.aws)
    blocks = place.read_range("piece", start=0, length=8, version=place.find("piece").version)
    assert next(blocks) == b"1234"
    bucket.put("Output/piece", b"87654321")
    with pytest.raises(FileChangedError):
        next(blocks)


def test_copy_by_s3_is_of_the_version_that_was_asked_for(bucket: Bucket) -> None:
    asked: list[str] = []
    bucket.on("provide-client-params.s3.UploadPartCopy", lambda params, **_: asked.append(params["CopySourceIfMatch"]))
    output = open_storage(f"s3://{bucket.name}/Output", aws=bucket.aws)
    with output.write("piece") as file:
        file.write(bytes(6 << 20))
    with output.write("whole") as whole:
        whole.append("piece", length=6 << 20, version=file.version)
    assert asked == [output.find("piece").version]


@pytest.mark.usefixtures("aws_environment")
def test_dry_run_in_s3_leaves_the_real_outputs_alone(
    three: Files, bucket: Bucket, database: Database, command: Command
) -> None:
    bucket.upload(three)
    job = bucket.job()
    places = ("--source", job.source, "--index", job.company_index, "--output", job.output)
    answer = command("run", *places, "--database-url", database.url, "--dry-run", "--json")
    assert answer.code == 0
    receipt = etl.Receipt.from_json(answer.out)
    assert (receipt.state, receipt.rows.inserted, database.count()) == ("dry_run", 35, 0)
    assert all(key.startswith("Output/dry-run/") for key in bucket.keys("Output/"))


def test_aws_without_credentials_says_what_to_set(three: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with pytest.raises(etl.SettingsError, match=r"no AWS credentials\. Set AWS_PROFILE"):
        process(three.job(source="s3://de-mbd-somewhere/Stocks"), run=etl.Run.begin("test"))


FORKING = """
import os, signal, sys
from etl.outcome.receipt import read_receipt
from etl.batch.storage import open_storage
place = open_storage(sys.argv[1])
content = place.read("aa.us.csv")
child = os.fork()
if child == 0:
    signal.alarm(20)
    os._exit(0 if place.read("aa.us.csv") == content == open_storage(sys.argv[1]).read("aa.us.csv") else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_child_forked_after_a_read_reads_too_and_does_not_hang(
    three: Files, bucket: Bucket, moto_server: MotoServer
) -> None:
    bucket.upload(three)
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKING, f"s3://{bucket.name}/Stocks"]
    environment = {**os.environ, **moto_server.environment}
    assert subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode == 0
