"""S3 and SNS that answer 503, hang up or fall silent, at every request of a run: tried so often and no more."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import obstore.store
import pytest

import etl
from tests.support.batch_files import process
from tests.support.cli_process import start
from tests.support.s3_proxy import HangUp, Refusal, Request, S3Proxy

if TYPE_CHECKING:
    from tests.support.aws_places import Bucket, Topic
    from tests.support.batch_files import Files
    from tests.support.database import Database
    from tests.support.figures import Figures
    from tests.support.moto import MotoServer

pytestmark = pytest.mark.usefixtures("hurried_retries")

COMBINED = "Output/historical_stock_data.csv"
ATTEMPTS = 5  # of boto3 for one request; obstore's one comes before them where an object is read
FAULTS: dict[str, Refusal | HangUp] = {"503": Refusal(503, "SlowDown"), "reset": HangUp()}
OPERATIONS = (
    "ListObjectsV2",
    "GetObject",
    "ListMultipartUploads",
    "CreateMultipartUpload",
    "UploadPart",
    "CompleteMultipartUpload",
    "PutObject",
)


@pytest.fixture
def large(sample: Files, make_files: Callable[[str], Files], bucket: Bucket, proxy: S3Proxy) -> tuple[Files, Bucket]:
    """8 companies, whose combined file takes two parts, in a bucket that etl sees through the proxy."""
    files = make_files("large")
    files.put_copies(sample.source / "ge.us.csv", count=8)
    bucket.upload(files)
    process(files.job(), run=etl.Run.begin("test"))
    return files, replace(bucket, endpoint_url=proxy.url)


def run(bucket: Bucket, database: Database) -> etl.Receipt:
    return etl.run(bucket.job(), target=etl.Target(database.url), run=etl.Run.begin("test"))


def first_of(operation: str, fault: Refusal | HangUp, times: int) -> Callable[[Request], Refusal | HangUp | None]:
    """A hook that meets the first request of an operation, and its repetitions, with a fault, so often."""
    chosen: list[tuple[str, str]] = []
    left = [times]

    def hook(request: Request) -> Refusal | HangUp | None:
        if request.operation != operation or not left[0]:
            return None
        if not chosen:
            chosen.append((request.method, request.key))
        if (request.method, request.key) != chosen[0]:
            return None
        left[0] -= 1
        return fault

    return hook


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_request_that_fails_four_times_is_made_good_by_the_fifth(
    large: tuple[Files, Bucket], proxy: S3Proxy, database: Database, figures: Figures, operation: str, fault: str
) -> None:
    files, bucket = large
    proxy.hook = first_of(operation, FAULTS[fault], ATTEMPTS - 1)
    receipt = run(bucket, database)
    assert receipt.files.accepted == 8
    assert bucket.get(COMBINED) == files.combined
    assert bucket.unfinished_uploads() == []
    struck = [request for request in proxy.requests if request.operation == operation]
    most = Counter((request.method, request.target) for request in struck).most_common(1)[0][1]
    assert most == ATTEMPTS
    figures.check_truth(files, database)
    figures.counts["faults_injected"] += ATTEMPTS - 1


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_request_that_always_fails_is_given_up_after_five_attempts_with_nothing_left_behind(
    large: tuple[Files, Bucket], proxy: S3Proxy, database: Database, figures: Figures, operation: str, fault: str
) -> None:
    files, bucket = large
    bucket.put(COMBINED, b"the old one")
    proxy.hook = lambda request: FAULTS[fault] if request.operation == operation else None
    with pytest.raises(etl.ServiceError, match=r"Cannot .*Try again"):
        run(bucket, database)
    asked = Counter((request.method, request.target) for request in proxy.requests if request.operation == operation)
    assert max(asked.values()) == ATTEMPTS + (operation == "GetObject")
    assert bucket.get(COMBINED) == b"the old one"
    assert bucket.unfinished_uploads() == []
    assert (database.count(), database.ledger()) == (0, [])
    figures.counts["faults_injected"] += asked.total()
    proxy.hook = lambda _: None
    run(bucket, database)
    assert bucket.get(COMBINED) == files.combined
    figures.check_truth(files, database)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second instead of a minute until an answer is given up; how often one is asked for stays."""
    made = etl.Aws._client
    store: Any = obstore.store.S3Store

    def client(self: etl.Aws, service: str, **options: Any) -> Any:  # noqa: ANN401
        return made(self, service, **{**options, "read_timeout": 1})

    def objects(*arguments: Any, client_options: Any, **options: Any) -> Any:  # noqa: ANN401
        return store(*arguments, client_options={**client_options, "timeout": "1s"}, **options)

    monkeypatch.setattr(etl.Aws, "_client", client)
    monkeypatch.setattr("etl.batch.s3.S3Store", objects)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("operation", ["ListObjectsV2", "GetObject", "UploadPart", "PutObject"])
def test_request_without_an_answer_is_given_up_and_asked_again(
    large: tuple[Files, Bucket], proxy: S3Proxy, database: Database, figures: Figures, operation: str
) -> None:
    files, bucket = large
    stalls = [2]

    def stall(request: Request) -> None:
        if request.operation == operation and stalls[0]:
            stalls[0] -= 1
            time.sleep(2.5)

    proxy.hook = stall
    begun = time.monotonic()
    assert run(bucket, database).files.accepted == 8
    assert time.monotonic() - begun < 20
    assert stalls == [0]
    assert bucket.get(COMBINED) == files.combined
    figures.check_truth(files, database)
    figures.counts["faults_injected"] += 2


def test_run_whose_s3_is_silent_ends_when_it_is_told_to_and_leaves_no_upload(
    large: tuple[Files, Bucket], proxy: S3Proxy, database: Database, moto_server: MotoServer, figures: Figures
) -> None:
    files, bucket = large
    stalled: list[str] = []
    over = threading.Event()

    def stall(request: Request) -> None:
        if request.operation == "GetObject" and request.key == "Stocks/ge7.us.csv":
            stalled.append(request.key)
            over.wait(60)

    proxy.hook = stall
    places = [f"--{name}=s3://{bucket.name}/{place}" for name, place in (
        ("source", "Stocks"), ("index", "CompanyNames/top_companies.txt"), ("output", "Output"))]  # fmt: skip
    environment = {**moto_server.environment, "AWS_ENDPOINT_URL": proxy.url}
    child = start("run", *places, files=files, url=database.url, environment=environment)
    deadline = time.monotonic() + 30
    while not stalled:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    try:
        out, err = child.communicate(timeout=40)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        pytest.fail("SIGTERM was not answered within 40 s")
    finally:
        over.set()
    took = time.monotonic() - begun
    assert (child.returncode, out, err.count("\n")) == (143, "", 1), err
    assert bucket.unfinished_uploads() == []
    assert COMBINED not in bucket.keys("Output/")
    assert (database.count(), database.ledger()) == (0, [])
    figures.measured["seconds_to_end_with_a_silent_s3"] = round(took, 1)


# --- SNS -----------------------------------------------------------------------------------------------------------


def mail_through(
    proxy: S3Proxy, three: Files, database: Database, topic: Topic, bucket: Bucket
) -> tuple[str, list[Any]]:
    """Conclude a run whose load stands; returns the refusal, or nothing, and what came to the topic."""
    this = etl.Run.begin("test")
    etl.run(three.job(), target=etl.Target(database.url), run=this)
    aws = etl.Aws(session=bucket.session, endpoint_url=proxy.url)
    try:
        etl.send_mail_of_run(three.job(aws=aws), run=this, succeeded=True, reason="success", mailbox=topic.mailbox)
        refused = ""
    except etl.ServiceError as error:
        refused = str(error)
    return refused, topic.mails()


@pytest.mark.parametrize("fault", [Refusal(503, "ServiceUnavailable"), Refusal(429, "Throttling"), HangUp()], ids=str)
@pytest.mark.parametrize("times", [1, 2, 99])
def test_mail_is_tried_three_times_and_then_kept_while_the_load_stands(
    three: Files,
    database: Database,
    topic: Topic,
    bucket: Bucket,
    proxy: S3Proxy,
    figures: Figures,
    fault: Refusal | HangUp,
    times: int,
) -> None:
    left = [times]

    def refuse(_: Request) -> Refusal | HangUp | None:
        left[0] -= 1
        return fault if left[0] >= 0 else None

    proxy.hook = refuse
    refused, mails = mail_through(proxy, three, database, topic, bucket)
    notices = [json.loads(path.read_bytes()) for path in (three.output / "notices").glob("*.json")]
    assert len(proxy.requests) == min(times + 1, 3)
    if times < 3:
        assert (refused, len(mails), notices) == ("", 1, [])
    else:
        assert "The mail was not sent" in refused
        assert [notice["Subject"] for notice in notices] == ["Ada_Lovelace_Pipeline_Success"]
        assert mails == []
    figures.check_truth(three, database)
    figures.counts["faults_injected"] += min(times, 3)
