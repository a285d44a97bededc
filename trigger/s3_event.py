"""Reads an S3 event notification: each of its records is a Marker, or is ignored for a reason.

The shape is that of https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote_plus

MARKER_SUFFIX = ".SUCCESS"


@dataclass(frozen=True, kw_only=True)
class Marker:
    """The object that says that a batch is complete, as one event reports it."""

    bucket: str
    key: str  # decoded: the name under which the object can be opened
    etag: str
    event_time: datetime  # UTC; when S3 finished the put
    put_id: str  # distinguishes one put of this key from the next

    @property
    def dag_run_id(self) -> str:
        """The same for every delivery of one event, another for every put; 47 characters that Airflow accepts as an id.

        A marker is usually empty, so its ETag does not distinguish one put from the next. The watchdog, which has only
        the bucket's listing, finds a run by the parts before the last: the time and the key.
        """
        put = hashlib.sha256(self.put_id.encode()).hexdigest()[:8]
        return f"{marker_name(self.bucket, self.key, self.event_time)}_{put}"


def marker_name(bucket: str, key: str, time: datetime) -> str:
    """`marker_{UTC time}_{hash of bucket and key}`: the beginning of every name about one marker."""
    digest = hashlib.sha256(json.dumps([bucket, key]).encode()).hexdigest()[:10]
    return f"marker_{time:%Y-%m-%dT%H:%M:%SZ}_{digest}"


@dataclass(frozen=True, kw_only=True)
class Ignored:
    """A record, or a whole event, that is not about a new marker."""

    bucket: str | None = None
    key: str | None = None
    reason: str


def read_records(event: object, *, monitored_bucket: str) -> list[Marker | Ignored]:
    """One entry for each record, in the event's order; an event without records gives one Ignored."""
    match event:
        case {"Records": list(records)}:
            return [_read_record(record, monitored_bucket=monitored_bucket) for record in records]
        case {"Event": "s3:TestEvent"}:
            return [Ignored(reason="s3:TestEvent: S3 checks that the notification arrives")]
        case _:
            return [Ignored(reason="not an S3 event: it has no list of Records")]


def _read_record(record: object, *, monitored_bucket: str) -> Marker | Ignored:
    match record:
        case {
            "eventName": str(kind),
            "s3": {"bucket": {"name": str(bucket)}, "object": {"key": str(encoded_key), **entry}},
            **rest,
        }:
            pass
        case _:
            return Ignored(reason="malformed record: no usable eventName, s3.bucket.name or s3.object.key")
    try:
        key = unquote_plus(encoded_key, errors="strict")  # S3 form-encodes keys
    except UnicodeDecodeError:
        return Ignored(bucket=bucket, reason=f"malformed record: the key {encoded_key!r} is not UTF-8 when decoded")
    reason = _reason_to_ignore(kind, bucket=bucket, key=key, monitored_bucket=monitored_bucket)
    if reason:
        return Ignored(bucket=bucket, key=key, reason=reason)
    event_time = _utc(rest.get("eventTime"))
    etag = entry.get("eTag")
    if event_time is None or not isinstance(etag, str) or not etag:
        return Ignored(bucket=bucket, key=key, reason="malformed record: no usable eventTime or s3.object.eTag")
    put_id = _put_id(entry, event_time=event_time)
    return Marker(bucket=bucket, key=key, etag=etag, event_time=event_time, put_id=put_id)


def _reason_to_ignore(kind: str, *, bucket: str, key: str, monitored_bucket: str) -> str | None:
    if not kind.startswith("ObjectCreated:"):
        return f"the event is {kind!r}, not ObjectCreated"
    if bucket != monitored_bucket:
        return f"the bucket is not the monitored one, {monitored_bucket!r}"
    if key.endswith("/"):
        return "the key ends in '/': a folder, not a marker"
    if not key.endswith(MARKER_SUFFIX):
        return f"the key does not end in {MARKER_SUFFIX}"
    return None


def _utc(value: object) -> datetime | None:
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _put_id(entry: Mapping[object, object], *, event_time: datetime) -> str:
    """The sequencer, else the versionId, else the event time.

    S3 sends a sequencer with every put; moto sends none, and a versionId only sometimes. Every object of a bucket
    without versions has the versionId "null", so that distinguishes nothing.
    """
    for name in ("sequencer", "versionId"):
        value = entry.get(name)
        if isinstance(value, str) and value not in ("", "null"):
            return f"{name} {value}"
    return f"eventTime {event_time.isoformat()}"
