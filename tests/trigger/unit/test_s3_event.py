"""What a Marker says, and what makes two of them the same run."""

import copy
import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.paths import EVENTS
from trigger.s3_event import Ignored, Marker, read_records

BUCKET = "de-mbd-predict-ada-lovelace-monitored-bucket"


def event(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return loaded


def marker(raw: object) -> Marker:
    [record] = read_records(raw, monitored_bucket=BUCKET)
    assert isinstance(record, Marker)
    return record


def changed(name: str, **fields: object) -> dict[str, Any]:
    """The event with fields of its object replaced, or removed where None."""
    raw = copy.deepcopy(event(name))
    entry = raw["Records"][0]["s3"]["object"]
    entry.update(fields)
    for field in [field for field, value in fields.items() if value is None]:
        del entry[field]
    return raw


def test_marker_has_the_facts_of_its_record() -> None:
    found = marker(event("put"))
    assert (found.bucket, found.key, found.etag) == (BUCKET, "2026-11-02.SUCCESS", "d41d8cd98f00b204e9800998ecf8427e")
    sent = event("put")["Records"][0]["eventTime"]
    assert found.event_time == datetime.strptime(sent, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


@pytest.mark.parametrize("name", ["encoded_key", "moto_encoded_key"])
def test_key_is_decoded_exactly_once(name: str) -> None:
    assert marker(event(name)).key == "batches/a b+c%.SUCCESS"


def test_key_that_looks_encoded_after_decoding_is_left_alone() -> None:
    assert marker(changed("put", key="100%2525+%252B.SUCCESS")).key == "100%25 %2B.SUCCESS"


def test_redelivered_event_has_the_same_run_id() -> None:
    assert marker(event("put")).dag_run_id == marker(event("put_redelivered")).dag_run_id


def test_marker_put_again_has_another_run_id_with_equal_key_and_etag() -> None:
    first, second = marker(event("put")), marker(event("put_again"))
    assert (first.key, first.etag) == (second.key, second.etag)
    assert first.dag_run_id != second.dag_run_id


def test_sequencer_alone_tells_two_puts_of_one_millisecond_apart() -> None:
    assert marker(event("put")).dag_run_id != marker(changed("put", sequencer="00FF")).dag_run_id


def test_version_tells_two_puts_apart_where_there_is_no_sequencer() -> None:
    first, second = (marker(changed("put", sequencer=None, versionId=version)) for version in ("v1", "v2"))
    assert first.dag_run_id != second.dag_run_id


@pytest.mark.parametrize("version", [None, "", "null", 7])
def test_event_time_tells_two_puts_apart_where_there_is_nothing_else(version: object) -> None:
    first = changed("moto_put", versionId=version)
    second = copy.deepcopy(first)
    second["Records"][0]["eventTime"] = first["Records"][0]["eventTime"].replace("Z", "1Z")  # 0.1 ms later
    assert marker(first).dag_run_id == marker(copy.deepcopy(first)).dag_run_id
    assert marker(first).dag_run_id != marker(second).dag_run_id


def test_same_put_id_under_another_key_is_another_run() -> None:
    assert marker(event("put")).dag_run_id != marker(changed("put", key="other.SUCCESS")).dag_run_id


@pytest.mark.parametrize(
    "raw",
    [
        event("put"),
        event("unicode_key"),
        event("newline_key"),
        event("moto_put"),
        changed("put", key="k" * 1000 + ".SUCCESS"),
    ],
)
def test_run_id_is_one_that_airflow_takes_and_a_person_reads(raw: object) -> None:
    run_id = marker(raw).dag_run_id
    assert re.fullmatch(r"[A-Za-z0-9_.~:+-]+", run_id)
    assert len(run_id) == 47
    assert re.fullmatch(r"marker_2026-11-22T\d\d:\d\d:\d\dZ_[0-9a-f]{10}_[0-9a-f]{8}", run_id)


def test_run_id_has_the_time_in_utc_whatever_the_offset() -> None:
    raw = event("put")
    raw["Records"][0]["eventTime"] = "2026-11-22T01:30:00+02:00"
    assert marker(raw).dag_run_id.startswith("marker_2026-11-21T23:30:00Z_")
    raw["Records"][0]["eventTime"] = "2026-11-22T01:30:00"
    assert marker(raw).dag_run_id.startswith("marker_2026-11-22T01:30:00Z_")


@pytest.mark.parametrize("raw", [None, [], "text", {}, {"Records": None}, {"Records": "text"}, {"Event": "other"}])
def test_what_is_no_s3_event_is_ignored_with_the_reason(raw: object) -> None:
    [record] = read_records(raw, monitored_bucket=BUCKET)
    assert isinstance(record, Ignored)
    assert record.reason == "not an S3 event: it has no list of Records"


def test_event_with_an_empty_list_of_records_gives_nothing() -> None:
    assert read_records({"Records": []}, monitored_bucket=BUCKET) == []
