"""S3 that refuses what only shards ask of it, copies, aborted uploads and removals: tried so often and no more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

import etl
from etl.outcome.receipt import State
from tests.support.batch_files import of_any_run, process
from tests.support.s3_proxy import HangUp, Refusal, Request, S3Proxy

if TYPE_CHECKING:
    from tests.support.aws_places import Bucket, Topic
    from tests.support.batch_files import Files
    from tests.support.figures import Figures

pytestmark = pytest.mark.usefixtures("hurried_retries")

Fault = Refusal | HangUp
SHARDS = 2
ATTEMPTS = 5  # of boto3 for one request
PASSING: dict[str, Fault] = {"503": Refusal(503, "SlowDown"), "reset": HangUp()}
DENIED = Refusal(403, "AccessDenied")
COMBINED = "historical_stock_data.csv"
OUTPUTS = (COMBINED, "rejected_rows.csv", "rejected_rows.jsonl", "flagged_rows.csv", "manifest.json")
RUN = etl.Run.begin("test")


def operation_of(request: Request) -> str:
    """What AWS calls it; the proxy knows the operations of a run without shards."""
    if request.headers.get("x-amz-copy-source"):
        return "UploadPartCopy"
    parameters = parse_qs(urlsplit(request.target).query, keep_blank_values=True)
    return "DeleteObjects" if request.method == "POST" and "delete" in parameters else request.operation


@dataclass(frozen=True)
class Large:
    """10 companies in a bucket that etl sees through the proxy, with old outputs; a shard's part is over 5 MiB."""

    bucket: Bucket
    expected: list[bytes]
    """The outputs of one pass."""


@pytest.fixture
def large(sample: Files, make_files: Callable[[str], Files], bucket: Bucket, proxy: S3Proxy) -> Large:
    files = make_files("large")
    files.put_copies(sample.source / "ge.us.csv", count=10)
    bucket.upload(files)
    process(bucket.job(), run=RUN)
    expected = outputs(bucket)
    for name in OUTPUTS:
        bucket.put(f"Output/{name}", b"old")
    return Large(replace(bucket, endpoint_url=proxy.url), expected)


def process_shards(bucket: Bucket) -> None:
    etl.gate(bucket.job(), run=RUN, shards=SHARDS)
    for number in range(SHARDS):
        etl.process(bucket.job(), run=RUN, shard=number)


def combine(bucket: Bucket) -> etl.Receipt:
    return etl.combine(bucket.job(), run=RUN)


def gate(bucket: Bucket) -> None:
    """Of a later run: it removes what another has left."""
    etl.gate(bucket.job(), run=replace(RUN, run_id="later"), shards=1)


def outputs(bucket: Bucket) -> list[bytes]:
    return [of_any_run(name, bucket.get(f"Output/{name}")) for name in OUTPUTS]


def leave(bucket: Bucket) -> None:
    """What a shard that was killed leaves: a finished file, and one that is half sent."""
    bucket.put("Output/work/run-gone/shard-0.json", b"{}")
    bucket.s3.create_multipart_upload(Bucket=bucket.name, Key=f"Output/work/run-gone/0-ab/{COMBINED}")


def expect_old(large: Large) -> None:
    """What a load reads is the old batch; the lists of rows, written before that, are whole: the old or the new."""
    for name, content, new in zip(OUTPUTS, outputs(large.bucket), large.expected, strict=True):
        assert content in ((b"old",) if name in (COMBINED, "manifest.json") else (b"old", new)), name


def expect_whole_and_cleared(large: Large) -> None:
    """A run from here on has the outputs of one pass, and the gate of a later one leaves nothing of any."""
    if large.bucket.get(f"Output/{COMBINED}") == b"old":
        process_shards(large.bucket)
        combine(large.bucket)
    assert outputs(large.bucket) == large.expected
    gate(large.bucket)
    assert large.bucket.keys("Output/work/") == {"Output/work/run-later/plan.json"}
    assert large.bucket.unfinished_uploads() == []


def strike(operation: str, fault: Fault, *, times: int = 999) -> Callable[[Request], Fault | None]:
    """A hook that meets the first so many requests of an operation for one object with a fault."""
    met: list[str] = []

    def hook(request: Request) -> Fault | None:
        if operation_of(request) != operation or len(met) >= times or (met and request.target != met[0]):
            return None
        met.append(request.target)
        return fault

    return hook


def attempts(proxy: S3Proxy, operation: str) -> int:
    """How often one request of this operation was made, of the one that was made most often."""
    asked = Counter(request.target for request in proxy.requests if operation_of(request) == operation)
    return max(asked.values(), default=0)


# Of each operation what has to be there before it, and the step that asks for it.
Step = Callable[["Bucket"], object]
STEPS: dict[str, tuple[Step, Step]] = {
    "UploadPartCopy": (process_shards, combine),
    "AbortMultipartUpload": (leave, gate),
    "DeleteObjects": (leave, gate),
}
RIGHTS = {  # as IAM names what the operation needs
    "UploadPartCopy": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "DeleteObjects": "s3:DeleteObject",
}


# S3 answers a copy that it has begun by 200, also when an error follows.
@pytest.mark.parametrize(("operation", "fault"), [*product(STEPS, PASSING), ("UploadPartCopy", "200 with an error")])
def test_request_of_shards_that_fails_four_times_succeeds_at_the_fifth(
    large: Large, proxy: S3Proxy, figures: Figures, operation: str, fault: str
) -> None:
    prepare, act = STEPS[operation]
    prepare(large.bucket)
    proxy.hook = strike(operation, PASSING.get(fault, Refusal(200, "InternalError")), times=ATTEMPTS - 1)
    act(large.bucket)
    assert attempts(proxy, operation) == ATTEMPTS
    expect_whole_and_cleared(large)
    figures.counts["faults_injected"] += ATTEMPTS - 1


@pytest.mark.parametrize("fault", [*PASSING, "denied"])
@pytest.mark.parametrize("operation", STEPS)
def test_request_of_shards_that_always_fails_leaves_the_old_outputs_and_is_cleared_up_after(
    large: Large, proxy: S3Proxy, figures: Figures, operation: str, fault: str
) -> None:
    prepare, act = STEPS[operation]
    prepare(large.bucket)
    proxy.hook = strike(operation, PASSING.get(fault, DENIED))
    if fault == "denied":
        with pytest.raises(etl.SettingsError, match=f"AWS denies {RIGHTS[operation]} "):
            act(large.bucket)
    else:
        with pytest.raises(etl.ServiceError, match=r"Cannot .*Try again"):
            act(large.bucket)
    struck = attempts(proxy, operation)
    assert struck == (1 if fault == "denied" else ATTEMPTS)
    expect_old(large)
    assert bool(large.bucket.unfinished_uploads()) is (operation == "AbortMultipartUpload")
    figures.counts["faults_injected"] += struck
    proxy.hook = lambda _: None
    act(large.bucket)
    expect_whole_and_cleared(large)


def test_upload_that_could_not_be_given_up_reports_the_first_fault_and_is_cleared_later(
    large: Large, proxy: S3Proxy, figures: Figures
) -> None:
    process_shards(large.bucket)
    proxy.hook = lambda request: DENIED if operation_of(request) in ("UploadPartCopy", "AbortMultipartUpload") else None
    with pytest.raises(etl.SettingsError, match="AWS denies s3:PutObject "):
        combine(large.bucket)
    expect_old(large)
    assert large.bucket.unfinished_uploads() == [f"Output/{COMBINED}"]
    figures.counts["faults_injected"] += attempts(proxy, "UploadPartCopy") + attempts(proxy, "AbortMultipartUpload")
    proxy.hook = lambda _: None
    combine(large.bucket)
    expect_whole_and_cleared(large)


@pytest.mark.parametrize("fault", [*PASSING, "denied"])
def test_shards_that_cannot_be_removed_keep_no_mail_back_and_the_next_gate_removes_them(
    large: Large, proxy: S3Proxy, topic: Topic, figures: Figures, fault: str
) -> None:
    process_shards(large.bucket)
    receipt = combine(large.bucket)
    large.bucket.put(f"Output/receipts/{RUN.run_id}.json", replace(receipt, state=State.SUCCESS).to_json().encode())
    proxy.hook = strike("DeleteObjects", PASSING.get(fault, DENIED))
    etl.send_mail_of_run(large.bucket.job(), run=RUN, succeeded=True, reason="success", mailbox=topic.mailbox)
    assert [mail.subject for mail in topic.mails()] == ["Ada_Lovelace_Pipeline_Success"]
    assert large.bucket.keys("Output/work/") != set()
    figures.counts["faults_injected"] += attempts(proxy, "DeleteObjects")
    proxy.hook = lambda _: None
    expect_whole_and_cleared(large)
