"""From an empty account to a run and back to nothing, typed at a shell as the README does."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import boto3

import etl
from tests.support.paths import SAMPLE
from tests.support.person import REGION, Person
from trigger.s3_event import Marker, read_records

PREFIX = "de-mbd-predict-ada-lovelace"
SOURCE, MONITORED = f"{PREFIX}-s3-source", f"{PREFIX}-monitored-bucket"


def make_monitored_bucket(person: Person) -> str:
    """As the trigger's stack does, with a queue where its function is; returns the queue's URL."""
    sqs, s3 = person.client("sqs"), person.client("s3")
    queue = str(sqs.create_queue(QueueName="trigger")["QueueUrl"])
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    s3.create_bucket(Bucket=MONITORED, CreateBucketConfiguration={"LocationConstraint": REGION})
    queues = {"QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]}
    s3.put_bucket_notification_configuration(Bucket=MONITORED, NotificationConfiguration=queues)
    return queue


def next_marker(person: Person, *, queue: str) -> Marker:
    """What the trigger reads out of the event of S3."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for message in person.client("sqs").receive_message(QueueUrl=queue).get("Messages", []):
            person.client("sqs").delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            for record in read_records(json.loads(message["Body"]), monitored_bucket=MONITORED):
                if isinstance(record, Marker):
                    return record
        time.sleep(0.2)
    raise AssertionError("no marker came")


def run_as_airflow_does(person: Person, *, marker: Marker) -> etl.Receipt:
    """The run of a marker but for its load: started, processed, and its receipt put."""
    session = boto3.Session("testing", "testing", region_name=REGION)
    job = etl.Job(
        source=f"s3://{SOURCE}/Stocks",
        company_index=f"s3://{SOURCE}/CompanyNames/top_companies.txt",
        output=f"s3://{SOURCE}/Output",
        aws=etl.Aws(session=session, endpoint_url=person.login["AWS_ENDPOINT_URL"]),
    )
    run = etl.Run(run_id=marker.dag_run_id, started_at=datetime.now(UTC))
    etl.record_start(job, run=run)
    etl.gate(job, run=run)
    receipt = etl.process(job, run=run)
    person.client("s3").put_object(
        Bucket=SOURCE, Key=f"Output/receipts/{run.run_id}.json", Body=receipt.to_json().encode()
    )
    return receipt


def test_a_person_goes_from_nothing_to_a_run_and_back_to_nothing(person: Person) -> None:
    person.env_file.unlink()
    person.succeeds(
        "init", "--yes", "--first-name", "Ada", "--last-name", "Lovelace", "--region", "eu-west-1",
        "--email", "ada@example.org", "--my-address", "192.31.196.7/32", "--image-id", "ami-12c6146b",
    )  # fmt: skip
    assert "Open to the world: nothing" in person.succeeds("plan")

    person.succeeds("apply", "--yes")
    uploaded = person.learns("upload", str(SAMPLE), "--yes")
    assert uploaded
    s3 = person.client("s3")
    keys = [one["Key"] for one in s3.list_objects_v2(Bucket=SOURCE)["Contents"]]
    stocks = {path.name for path in (SAMPLE / "Stocks").iterdir()}
    assert {key.partition("/")[2] for key in keys if key.startswith("Stocks/")} == {"", *stocks}
    assert "CompanyNames/top_companies.txt" in keys
    assert "Scripts/insert_query.sql" in keys

    queue = make_monitored_bucket(person)
    with ThreadPoolExecutor() as desk:
        followed = desk.submit(person.learns, "trigger", "--wait", "--yes")
        marker = next_marker(person, queue=queue)
        receipt = run_as_airflow_does(person, marker=marker)
        followed_run = followed.result(timeout=60)
    assert followed_run["marker"] == f"s3://{MONITORED}/{marker.key}"
    assert followed_run["receipt"] == json.loads(receipt.to_json())
    assert (receipt.state, receipt.files.listed) == ("success", len(stocks))
    status = person.learns("status")
    assert (status["instance"], status["database"]) == ("running", "available")
    [run] = status["runs"]
    assert (run["run_id"], run["state"], run["rows"]["read"]) == (marker.dag_run_id, "success", receipt.rows.read)

    header, row = person.succeeds("resources-csv").splitlines()
    assert header == "Name,Surname,Source_bucket,Monitored_bucket,SNS_topic,Static_IP"
    assert row == (f"Ada,Lovelace,{PREFIX}-s3-source,{PREFIX}-monitored-bucket,{PREFIX}-SNS,{status['static_ip']}")

    assert person.learns("stop", "--yes")["instance"] == "stopped"
    assert person.learns("start")["instance"] == "running"

    s3.delete_object(Bucket=MONITORED, Key=marker.key)  # as `serverless remove` leaves it
    s3.delete_bucket(Bucket=MONITORED)
    assert person.types("teardown", "--yes").returncode == 1
    ticked = person.succeeds("teardown", "--yes", "--delete-data", "--delete-snapshots")
    assert "[ ]" not in ticked
    assert ticked.count("[x]") == 15
    assert person.types("status").returncode == 1
