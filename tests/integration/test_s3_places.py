"""A batch whose source, index and output are S3 (moto): the same bytes, whole objects only, faults told apart."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders

import etl

if TYPE_CHECKING:
    from tests.integration.conftest import Bucket, Command, Database, Files

Days = Callable[..., list[str]]
COMBINED, MANIFEST = "Output/historical_stock_data.csv", "Output/manifest.json"
_PART_BYTES = 8 << 20


def _run(bucket: Bucket, database: Database, **changes: Any) -> etl.Receipt:  # noqa: ANN401  whatever a Job takes
    return etl.run(bucket.job(**changes), target=etl.Target(database.url), run=etl.Run.begin("test"))


def _process(bucket: Bucket, **changes: Any) -> etl.Receipt:  # noqa: ANN401  whatever a Job takes
    return etl.process(bucket.job(), run=etl.Run.begin("test"), **changes)


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
    content = (sample.source / "ge.us.csv").read_bytes()
    names = [f"ge{number}.us.csv" for number in range(8)]
    for name in names:
        (files.source / name).write_bytes(content)
    files.name(*names)
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
        f"Output/receipts/{receipt.run_id}.json",
    }
    assert json.loads(bucket.get(f"Output/receipts/{receipt.run_id}.json")) == json.loads(receipt.to_json())
    manifest = json.loads(bucket.get(MANIFEST))
    assert [part["company_name"] for part in manifest["slices"]] == ["aa.us.csv", "bb.us.csv", "cc.us.csv"]
    assert bucket.get("Output/rejected_rows.csv") == b"file,line,column,value,reason\n"
    kept = etl.read_receipt(receipt.run_id, output=bucket.job().open_output())
    assert kept is not None
    assert kept.to_json() == receipt.to_json()


def test_process_then_load_from_s3_reads_only_the_changed_slice(
    three: Files, bucket: Bucket, database: Database, days: Days
) -> None:
    bucket.upload(three)
    _run(bucket, database)
    three.put("bb.us.csv", days(10, price=21))
    bucket.upload(three)
    _process(bucket)
    ranges: list[str] = []
    bucket.on(
        "provide-client-params.s3.GetObject", lambda params, **_: ranges.append(params.get("Range", params["Key"]))
    )
    receipt = etl.load(bucket.job(), target=etl.Target(database.url), run=etl.Run.begin("test"))
    assert (receipt.rows.inserted, receipt.rows.deleted, receipt.rows.unchanged) == (10, 10, 25)
    _, part, _ = json.loads(bucket.get(MANIFEST))["slices"]
    assert set(ranges) == {MANIFEST, f"bytes={part['offset']}-{part['offset'] + part['length'] - 1}"}


def test_prefix_with_or_without_a_slash_and_a_whole_bucket_are_places(three: Files, bucket: Bucket) -> None:
    bucket.upload(three)
    for path in three.source.iterdir():
        bucket.put(path.name, path.read_bytes())
    for source in ("Stocks/", "Stocks", ""):
        receipt = etl.process(bucket.job(source=f"s3://{bucket.name}/{source}"), run=etl.Run.begin("test"))
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


def test_combined_file_over_8_mib_is_uploaded_in_parts(large: Files, bucket: Bucket) -> None:
    bucket.upload(large)
    parts: list[int] = []
    bucket.on("provide-client-params.s3.UploadPart", lambda params, **_: parts.append(len(params["Body"])))
    _process(bucket)
    etl.process(large.job(), run=etl.Run.begin("test"))
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
    assert bucket.keys("Output/") == {COMBINED}
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
    with pytest.raises(etl.SettingsError, match=rf"Not allowed to write .*: AWS denies {operation}\. Grant"):
        _run(bucket, database)
    assert set(calls) == {operation}
    assert len(calls) <= 2
    assert bucket.unfinished_uploads() == []
    assert bucket.get(COMBINED) == b"the old one"
    assert (database.count(), database.ledger(), database.states()) == (0, [], [])


@pytest.mark.parametrize(
    ("operation", "told"),
    [
        ("HeadBucket", r"Not allowed to find the bucket"),
        ("ListObjectsV2", r"Not allowed to list s3://.*/Stocks/"),
        ("GetObject", r"Not allowed to read s3://.*/top_companies\.txt"),
        ("PutObject", r"Not allowed to write s3://.*/Output/"),
        ("ListMultipartUploads", r"Not allowed to clear unfinished uploads of s3://.*/Output/"),
    ],
)
def test_denied_request_is_not_tried_again_and_names_its_action(
    three: Files, bucket: Bucket, database: Database, operation: str, told: str
) -> None:
    bucket.upload(three)
    calls: list[str] = []

    def deny(**_: object) -> object:
        calls.append(operation)
        return _refusal("AccessDenied" if operation != "HeadBucket" else "403", 403)

    bucket.on(f"before-call.s3.{operation}", deny)
    with pytest.raises(etl.SettingsError, match=rf"{told}.*AWS denies {operation}\. Grant"):
        _run(bucket, database)
    assert len(calls) == 1
    assert database.count() == 0


def test_stale_upload_of_a_killed_run_is_cleared_by_the_next_and_no_other(three: Files, bucket: Bucket) -> None:
    bucket.upload(three)
    for key in (COMBINED, COMBINED, "Output/rejected_rows.csv", "Output/historical_stock_data.csv.other"):
        bucket.s3.create_multipart_upload(Bucket=bucket.name, Key=key)
    _process(bucket)
    assert bucket.unfinished_uploads() == ["Output/historical_stock_data.csv.other"]


def _replace_at_get(bucket: Bucket, key: str, contents: list[bytes]) -> list[str]:
    """Put the next of `contents` under `key` just before each GET of it; returns the list of GETs."""
    gets: list[str] = []

    def replace(params: dict[str, Any], **_: object) -> None:
        if params["Key"] == key:
            gets.append(params.get("IfMatch", ""))
            if contents:
                bucket.put(key, contents.pop(0))

    bucket.on("provide-client-params.s3.GetObject", replace)
    return gets


def test_file_replaced_between_list_and_get_is_read_again_once(three: Files, bucket: Bucket, days: Days) -> None:
    bucket.upload(three)
    three.put("bb.us.csv", days(12, price=22))
    gets = _replace_at_get(bucket, "Stocks/bb.us.csv", [(three.source / "bb.us.csv").read_bytes()])
    receipt = _process(bucket)
    assert (receipt.files.accepted, receipt.rows.accepted) == (3, 37)
    assert len(set(gets)) == len(gets) == 2
    assert all(gets), "a company file is read with the ETag that was listed"
    etl.process(three.job(), run=etl.Run.begin("test"))
    assert bucket.get(COMBINED) == three.combined


def test_file_replaced_twice_while_it_is_read_is_quarantined(
    three: Files, bucket: Bucket, database: Database, days: Days
) -> None:
    bucket.upload(three)
    _run(bucket, database)
    places = database.places()
    gets = _replace_at_get(bucket, "Stocks/bb.us.csv", [b"one", b"two", b"three"])
    receipt = _run(bucket, database)
    assert [(entry.file, entry.reason) for entry in receipt.quarantined] == [
        ("bb.us.csv", "replaced or removed while it was read, twice")
    ]
    assert len(gets) == 2
    assert database.places() == places


def test_file_removed_between_list_and_get_is_quarantined(three: Files, bucket: Bucket) -> None:
    bucket.upload(three)

    def remove(params: dict[str, Any], **_: object) -> None:
        if params["Key"] == "Stocks/aa.us.csv":
            bucket.s3.delete_object(Bucket=bucket.name, Key="Stocks/aa.us.csv")

    bucket.on("provide-client-params.s3.GetObject", remove)
    receipt = _process(bucket)
    assert [entry.file for entry in receipt.quarantined] == ["aa.us.csv"]
    assert receipt.files.accepted == 2


def test_16_files_are_read_at_once(bucket: Bucket, make_files: Callable[[str], Files], days: Days) -> None:
    files = make_files("many")
    names = [f"c{number:02}.us.csv" for number in range(32)]
    for name in names:
        files.put(name, days(2))
    files.name(*names)
    bucket.upload(files)
    all_under_way = threading.Barrier(16, timeout=5)

    def hold(params: dict[str, Any], **_: object) -> None:
        if params["Key"].startswith("Stocks/"):
            all_under_way.wait()  # BrokenBarrierError when fewer than 16 come

    bucket.on("provide-client-params.s3.GetObject", hold)
    assert _process(bucket).files.accepted == 32


def test_slowest_file_first_keeps_the_order_of_the_index(three: Files, bucket: Bucket) -> None:
    bucket.upload(three)
    others_read = threading.Semaphore(0)

    def hold(params: dict[str, Any], **_: object) -> None:
        if params["Key"] == "Stocks/aa.us.csv":
            assert others_read.acquire(timeout=5)
            assert others_read.acquire(timeout=5)
        elif params["Key"].startswith("Stocks/"):
            others_read.release()

    bucket.on("provide-client-params.s3.GetObject", hold)
    _process(bucket)
    etl.process(three.job(), run=etl.Run.begin("test"))
    assert bucket.get(COMBINED) == three.combined


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ({"source": "s3://de-mbd-nowhere/Stocks"}, "find the bucket s3://de-mbd-nowhere: it does not exist"),
        ({"output": "s3://de-mbd-nowhere/Output"}, "find the bucket s3://de-mbd-nowhere: it does not exist"),
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
    places = {"source": job.source, "index": job.index, "output": job.output}
    places |= {option: url.format(bucket=bucket.name) for option, url in place.items()}
    options = [text for option, url in places.items() for text in (f"--{option}", url)]
    answer = command("run", *options, "--database-url", database.url, "--quiet")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("\n") == 1
    assert told.format(bucket=bucket.name) in answer.err
    assert database.count() == 0


def test_missing_file_is_named_without_a_get(three: Files, bucket: Bucket, database: Database) -> None:
    bucket.upload(three)
    bucket.s3.delete_object(Bucket=bucket.name, Key="Stocks/bb.us.csv")
    gets: list[str] = []
    bucket.on("provide-client-params.s3.GetObject", lambda params, **_: gets.append(params["Key"]))
    with pytest.raises(etl.BatchError, match=r"1 of 3 company files .* \(bb\.us\.csv\)\. Upload them"):
        _run(bucket, database)
    assert gets == ["CompanyNames/top_companies.txt"]


def test_gate_waits_for_a_file_that_comes_within_the_grace(three: Files, bucket: Bucket) -> None:
    bucket.upload(three)
    bucket.s3.delete_object(Bucket=bucket.name, Key="Stocks/bb.us.csv")
    lists: list[str] = []

    def come_late(params: dict[str, Any], **_: object) -> None:
        lists.append(params["Prefix"])
        if len(lists) == 2:
            bucket.put("Stocks/bb.us.csv", (three.source / "bb.us.csv").read_bytes())

    bucket.on("provide-client-params.s3.ListObjectsV2", come_late)
    assert set(etl.gate(bucket.job(grace_seconds=1)).files) == {"aa.us.csv", "bb.us.csv", "cc.us.csv"}
    assert len(lists) == 2


def test_server_error_of_s3_is_tried_again(three: Files, bucket: Bucket) -> None:
    bucket.upload(three)
    failures = [503, 500]
    gets: list[str] = []

    def fail(request: Any, **_: object) -> object:  # noqa: ANN401  botocore's prepared request
        gets.append(request.url)
        return _http_answer(failures.pop()) if failures else None

    bucket.on("before-send.s3.GetObject", fail)
    assert _process(bucket).files.accepted == 3
    assert len(gets) == 4 + 2


def test_server_error_that_stays_is_a_fault_of_the_service(
    three: Files, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.upload(three)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.01)
    gets: list[str] = []

    def fail(request: Any, **_: object) -> object:  # noqa: ANN401  botocore's prepared request
        gets.append(request.url)
        return _http_answer(503)

    bucket.on("before-send.s3.GetObject", fail)
    with pytest.raises(etl.ServiceError, match="Try again"):
        _process(bucket)
    assert len(gets) == 5


def _http_answer(status: int) -> object:
    class Body:
        def stream(self, *_: object, **__: object) -> Any:  # noqa: ANN401
            yield b""

    return AWSResponse("http://127.0.0.1", status, HTTPHeaders(), Body())


def test_s3_that_does_not_answer_is_a_fault_of_the_service(
    three: Files, bucket: Bucket, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.01)
    aws = etl.Aws(session=bucket.session, endpoint_url=f"http://127.0.0.1:{closed_port}")
    with pytest.raises(etl.ServiceError, match=r"no answer from AWS .*Try again"):
        etl.process(bucket.job(aws=aws), run=etl.Run.begin("test"))


def test_combined_file_replaced_in_s3_after_process_fails_the_load(
    three: Files, bucket: Bucket, database: Database
) -> None:
    bucket.upload(three)
    _process(bucket)
    bucket.put(COMBINED, bucket.get(COMBINED)[:-40])
    with pytest.raises(etl.BatchError, match="The combined file is not the one that the manifest describes"):
        etl.load(bucket.job(), target=etl.Target(database.url), run=etl.Run.begin("test"))
    assert database.count() == 0


@pytest.mark.usefixtures("aws_environment")
def test_dry_run_in_s3_leaves_the_real_outputs_alone(
    three: Files, bucket: Bucket, database: Database, command: Command
) -> None:
    bucket.upload(three)
    job = bucket.job()
    places = ("--source", job.source, "--index", job.index, "--output", job.output)
    answer = command("run", *places, "--database-url", database.url, "--dry-run", "--json")
    assert answer.code == 0
    receipt = etl.Receipt.from_json(answer.out)
    assert (receipt.state, receipt.rows.inserted, database.count()) == ("dry_run", 35, 0)
    assert all(key.startswith("Output/dry-run/") for key in bucket.keys("Output/"))


def test_aws_without_credentials_says_what_to_set(three: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with pytest.raises(etl.SettingsError, match=r"no AWS credentials\. Set AWS_PROFILE"):
        etl.process(three.job(source="s3://de-mbd-somewhere/Stocks"), run=etl.Run.begin("test"))
