"""From an empty account to the mail's trigger and back to nothing, typed at a shell as the README has it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.infra.conftest import Person

SAMPLE = Path(__file__).parents[1] / "data" / "sample"
PREFIX = "de-mbd-predict-ada-lovelace"


def test_a_person_goes_from_nothing_to_a_run_and_back_to_nothing(person: Person) -> None:
    person.env_file.unlink()
    person.succeeds(
        "init", "--yes", "--first-name", "Ada", "--last-name", "Lovelace", "--region", "eu-west-1",
        "--email", "ada@example.org", "--my-address", "203.0.113.7/32", "--image-id", "ami-12c6146b",
    )  # fmt: skip
    assert "Open to the world: nothing" in person.succeeds("plan")

    person.succeeds("apply", "--yes")
    uploaded = person.learns("upload", str(SAMPLE), "--yes")
    assert uploaded
    s3 = person.client("s3")
    keys = [one["Key"] for one in s3.list_objects_v2(Bucket=f"{PREFIX}-s3-source")["Contents"]]
    stocks = {path.name for path in (SAMPLE / "Stocks").iterdir()}
    assert {key.partition("/")[2] for key in keys if key.startswith("Stocks/")} == stocks
    assert "CompanyNames/top_companies.txt" in keys
    assert "Scripts/insert_query.sql" in keys

    s3.create_bucket(  # the trigger's stack does this
        Bucket=f"{PREFIX}-monitored-bucket", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    person.succeeds("trigger", "--yes")
    [marker] = s3.list_objects_v2(Bucket=f"{PREFIX}-monitored-bucket")["Contents"]
    assert marker["Key"].endswith(".SUCCESS")

    receipt = {"run_id": "r1", "state": "done", "started_at": "2026-11-22T10:00:00+00:00", "rows": {"inserted": 7}}
    s3.put_object(Bucket=f"{PREFIX}-s3-source", Key="Output/receipts/r1.json", Body=json.dumps(receipt).encode())
    status = person.learns("status")
    assert (status["instance"], status["database"]) == ("running", "available")
    assert [one["run_id"] for one in status["runs"]] == ["r1"]

    header, row = person.succeeds("resources-csv").splitlines()
    assert header == "Name,Surname,Source_bucket,Monitored_bucket,SNS_topic,Static_IP"
    assert row == (f"Ada,Lovelace,{PREFIX}-s3-source,{PREFIX}-monitored-bucket,{PREFIX}-SNS,{status['static_ip']}")

    assert person.learns("stop", "--yes")["instance"] == "stopped"
    assert person.learns("start")["instance"] == "running"

    s3.delete_object(Bucket=f"{PREFIX}-monitored-bucket", Key=marker["Key"])  # as `serverless remove` leaves it
    s3.delete_bucket(Bucket=f"{PREFIX}-monitored-bucket")
    assert person.types("teardown", "--yes").returncode == 1
    ticked = person.succeeds("teardown", "--yes", "--delete-data", "--delete-snapshots")
    assert "[ ]" not in ticked
    assert ticked.count("[x]") == 14
    assert person.types("status").returncode == 1
