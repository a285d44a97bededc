"""The moments that the watchdog decides by, to the second, on a clock and a bucket of the test's own."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trigger import aws_cli, deadline, errors, watchdog
from trigger.expectation import Due
from trigger.s3_event import marker_name
from trigger.watchdog import handler

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
SOURCE, MONITORED = "source", "monitored"
ONE_SECOND = timedelta(seconds=1)


class Shelf:
    """What the watchdog asks AWS for, of objects in memory; tests/trigger/integration asks a real server by the CLI."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, datetime]] = {}
        self.mails: list[dict[str, str]] = []
        self.refused: tuple[str, ...] = ()
        self.failing: dict[str, errors.TriggerError] = {}
        """What an operation, or a listing of a prefix, fails with."""
        self.listed: set[tuple[str, str]] = set()
        """Buckets and prefixes."""
        self.seconds = 0.0
        """That all calls took."""
        self.seconds_of_a_call = 0.0
        self.copies_folders = True

    def put(self, place: str, content: object = b"", *, at: datetime = NOW) -> None:
        """`place`: bucket and key."""
        self.objects[place] = content if isinstance(content, bytes) else json.dumps(content).encode(), at

    def refuse(self, *texts: str) -> None:
        """Let SNS refuse the mails that have one of these texts."""
        self.refused = texts

    def call(self, service: str, operation: str, parameters: Mapping[str, Any], **_: object) -> dict[str, object]:
        self.seconds += self.seconds_of_a_call
        place = f"{parameters.get('Bucket')}/{parameters.get('Key')}"
        if error := self.failing.get(operation) or self.failing.get(parameters.get("Prefix", "-")):
            raise error
        match operation:
            case "publish" if found := [text for text in self.refused if text in parameters["Message"]]:
                raise errors.AwsRefusedError(f"no mail about {found[0]}", code="AuthorizationError")
            case "publish":
                self.mails.append(dict(parameters))
            case "delete-object":
                del self.objects[place]
            case "head-object" if place not in self.objects:
                raise errors.AwsRefusedError("Not Found", code="404")
            case "list-objects-v2":
                bucket, prefix, after = (parameters.get(name, "") for name in ("Bucket", "Prefix", "StartAfter"))
                self.listed.add((bucket, prefix))
                keys = {
                    place.partition("/")[2]: at for place, (_, at) in self.objects.items() if place.startswith(bucket)
                }
                found = sorted(key for key in keys if key.startswith(prefix) and key > after)
                return {"Contents": [{"Key": key, "LastModified": keys[key].isoformat()} for key in found]}
        return {}

    def run(self, command: Sequence[str], *, given: bytes | None = None, **_: object) -> bytes:
        self.seconds += self.seconds_of_a_call
        if "--recursive" in command:
            return self.copy_folder(command[2].removeprefix("s3://"), Path(command[3]), command[4:])
        source, target = command[-2:]
        if given is None:
            return self.objects[source.removeprefix("s3://")][0]
        self.put(target.removeprefix("s3://"), given)
        return b""

    def copy_folder(self, source: str, target: Path, options: Sequence[str]) -> bytes:
        if not self.copies_folders:
            raise errors.AwsFailedError("aws s3 cp failed: one of many")
        assert "--exclude" in options
        patterns = [pattern for word, pattern in pairwise(options) if word == "--include"]
        for place, (content, _) in self.objects.items():
            name = place.removeprefix(source)
            if name != place and any(fnmatchcase(name, pattern) for pattern in patterns):
                (target / name).write_bytes(content)
        return b""


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    made = Shelf()
    monkeypatch.setattr(aws_cli, "call", made.call)
    monkeypatch.setattr(aws_cli, "run", made.run)
    monkeypatch.setattr(watchdog, "_now", lambda: NOW)
    monkeypatch.setattr(deadline, "time", SimpleNamespace(monotonic=lambda: made.seconds))
    settings = {
        "TOPIC_ARN": "arn:aws:sns:eu-west-1:1:t",
        "FIRST_NAME": "ada",
        "LAST_NAME": "Lovelace",
        "KEPT_EVENTS_URL": "q",
    }
    for name, value in {**settings, "SOURCE_BUCKET": SOURCE, "MONITORED_BUCKET": MONITORED}.items():
        monkeypatch.setenv(name, value)
    for name in ("DRY_RUN", "EXPECT_BY", "HOLIDAYS", "STAGE", "WATCHDOG_MINUTES"):
        monkeypatch.delenv(name, raising=False)
    return made


@pytest.mark.parametrize(
    ("age", "is_missed"),
    [
        (timedelta(hours=2) - ONE_SECOND, False),
        (timedelta(hours=2), True),
        (timedelta(days=2), True),
        (timedelta(days=2) + ONE_SECOND, False),
    ],
)
def test_marker_is_missed_from_two_hours_to_two_days_after_its_put(
    shelf: Shelf, age: timedelta, is_missed: bool
) -> None:
    shelf.put(f"{MONITORED}/a.SUCCESS", at=NOW - age)
    assert handler({}, None)["missed"] == ["a.SUCCESS"] * is_missed
    assert len(shelf.mails) == is_missed


def test_marker_is_looked_at_more_than_once_with_the_longest_patience(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    longest = next(m for m in range(2880, 0, -1) if is_accepted(str(m)))
    monkeypatch.setenv("WATCHDOG_MINUTES", str(longest))
    looks = []
    for hour in range(60):
        shelf.objects.clear()
        shelf.put(f"{MONITORED}/a.SUCCESS", at=NOW - timedelta(hours=hour, minutes=59))
        looks += handler({}, None)["missed"]
    assert len(looks) >= 2


def is_accepted(minutes: str) -> bool:
    try:
        return bool(watchdog.read_patience({"WATCHDOG_MINUTES": minutes}))
    except errors.SettingsError:
        return False


def test_of_the_source_only_the_folders_of_alarms_receipts_and_notices_are_listed(shelf: Shelf) -> None:
    shelf.put(f"{MONITORED}/a.SUCCESS", at=NOW - timedelta(hours=3))
    handler({}, None)
    listed = {prefix for bucket, prefix in shelf.listed if bucket == SOURCE}
    assert listed == {"Output/alarms/", "Output/receipts/", "Output/notices/"}


@pytest.mark.parametrize(("early", "counts"), [(10, True), (11, False)])
@pytest.mark.parametrize("folder", ["alarms", "receipts"])
def test_run_or_alarm_of_up_to_ten_seconds_before_the_put_is_of_that_put(
    shelf: Shelf, folder: str, early: int, counts: bool
) -> None:
    put = NOW - timedelta(hours=3)
    shelf.put(f"{MONITORED}/a.SUCCESS", at=put)
    name = marker_name(MONITORED, "a.SUCCESS", put - timedelta(seconds=early))
    begun = (put + ONE_SECOND).isoformat(timespec="milliseconds")
    shelf.put(f"{SOURCE}/Output/{folder}/{name}.json", {"state": "success", "mail": "sent", "started_at": begun})
    assert handler({}, None)["missed"] == ([] if counts else ["a.SUCCESS"])


@pytest.mark.parametrize("begun", [timedelta(seconds=-4), timedelta(0), None])
def test_put_whose_event_was_lost_is_missed_where_the_run_of_an_earlier_put_had_begun(
    shelf: Shelf, begun: timedelta | None
) -> None:
    put = NOW - timedelta(hours=3)
    shelf.put(f"{MONITORED}/a.SUCCESS", at=put)
    name = marker_name(MONITORED, "a.SUCCESS", put - timedelta(seconds=9))
    receipt = {"state": "success", "mail": "sent"}
    if begun is not None:
        receipt["started_at"] = (put + begun).isoformat(timespec="milliseconds")
    shelf.put(f"{SOURCE}/Output/receipts/{name}.json", receipt)
    assert handler({}, None)["missed"] == ["a.SUCCESS"]
    assert name not in shelf.mails[0]["Message"]


def test_lost_mail_of_a_put_is_reported_also_where_the_run_of_a_put_just_before_it_had_its_mail(shelf: Shelf) -> None:
    put = NOW - timedelta(hours=3)
    shelf.put(f"{MONITORED}/a.SUCCESS", at=put)
    begun = (put + timedelta(minutes=2)).isoformat(timespec="milliseconds")
    before, own = (marker_name(MONITORED, "a.SUCCESS", put - timedelta(seconds=early)) for early in (1, 0))
    shelf.put(f"{SOURCE}/Output/receipts/{before}.json", {"state": "failed", "mail": "sent", "started_at": begun})
    shelf.put(f"{SOURCE}/Output/receipts/{own}.json", {"state": "success", "mail": None, "started_at": begun})
    assert handler({}, None)["missed"] == ["a.SUCCESS"]
    assert own in shelf.mails[0]["Message"]


def test_mail_is_about_the_last_run_of_a_put(shelf: Shelf) -> None:
    put = NOW - timedelta(hours=3)
    shelf.put(f"{MONITORED}/a.SUCCESS", at=put)
    for later, state in ((1, "success"), (2, "failed")):
        name = marker_name(MONITORED, "a.SUCCESS", put + timedelta(seconds=later))
        shelf.put(
            f"{SOURCE}/Output/receipts/{name}.json", {"state": state, "mail": None, "error": f"error of run {later}"}
        )
    handler({}, None)
    [sent] = shelf.mails
    assert f"Its run {name} ended as failed" in sent["Message"]
    assert "error of run 2" in sent["Message"]


def test_run_that_ended_without_a_text_of_its_error_is_reported_all_the_same(shelf: Shelf) -> None:
    put = NOW - timedelta(hours=3)
    shelf.put(f"{MONITORED}/a.SUCCESS", at=put)
    name = marker_name(MONITORED, "a.SUCCESS", put)
    shelf.put(f"{SOURCE}/Output/receipts/{name}.json", {"state": "failed", "mail": None})
    assert handler({}, None)["missed"] == ["a.SUCCESS"]
    assert "its receipt has no error" in shelf.mails[0]["Message"]


def test_newest_marker_is_named_where_none_came_and_none_where_there_never_was_one(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXPECT_BY", "11:30 daily UTC")
    assert handler({}, None)["absent"] == ["2026-11-02"]
    assert "The last one is" not in shelf.mails[-1]["Message"]
    shelf.objects.clear()
    for key, days in (("b.SUCCESS", 3), ("a.SUCCESS", 4), ("c.SUCCESS", 5)):
        shelf.put(f"{MONITORED}/{key}", at=NOW - timedelta(days=days))
    assert handler({}, None)["absent"] == ["2026-11-02"]
    assert "The last one is 'b.SUCCESS', put 2026-10-30 12:00:00 UTC." in shelf.mails[-1]["Message"]


@pytest.mark.parametrize(("late", "is_absent"), [(timedelta(0), False), (-ONE_SECOND, True)])
def test_marker_put_at_the_moment_from_which_the_day_counts_is_of_that_day(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, late: timedelta, is_absent: bool
) -> None:
    monkeypatch.setenv("EXPECT_BY", "11:30 daily UTC")
    since = datetime(2026, 11, 1, 23, 30, tzinfo=UTC)  # twelve hours before
    shelf.put(f"{MONITORED}/a.SUCCESS", at=since + late)
    assert ("absent" in handler({}, None)) == is_absent


@pytest.mark.parametrize("content", [["no", "object"], b"no JSON", b""])
def test_object_that_is_no_receipt_or_no_mail_is_not_taken_for_one(shelf: Shelf, content: object) -> None:
    put = NOW - timedelta(hours=3)
    shelf.put(f"{MONITORED}/a.SUCCESS", at=put)
    shelf.put(f"{SOURCE}/Output/receipts/{marker_name(MONITORED, 'a.SUCCESS', put)}.json", content)
    shelf.put(f"{SOURCE}/Output/receipts/of_a_person.json", {"state": "success", "mail": "sent"})
    mail = {"Subject": "s", "Message": "m"}
    for name, content in {
        "a.txt": mail,
        "b.json": {"Subject": "s"},
        "c.json": [],
        "d.json": mail,
        "e.json": mail,
    }.items():
        shelf.put(f"{SOURCE}/Output/notices/{name}", content)
    assert handler({}, None) == {"missed": ["a.SUCCESS"], "sent": ["d.json", "e.json"]}
    kept = [place.rpartition("/")[2] for place in shelf.objects if "/notices/" in place]
    assert kept == ["a.txt", "b.json", "c.json"]


def test_mail_that_is_refused_holds_up_no_other_and_the_first_error_is_raised(shelf: Shelf) -> None:
    for key in ("a.SUCCESS", "b.SUCCESS", "c.SUCCESS"):
        shelf.put(f"{MONITORED}/{key}", at=NOW - timedelta(hours=3))
    shelf.put(f"{SOURCE}/Output/notices/d.json", {"Subject": "s", "Message": "d.notice"})
    shelf.refuse("a.SUCCESS", "b.SUCCESS", "d.notice")
    with pytest.raises(errors.AwsRefusedError, match=r"no mail about d\.notice"):
        handler({}, None)
    [sent] = shelf.mails
    assert "'c.SUCCESS'" in sent["Message"]


def test_kept_mail_for_which_sns_fails_holds_up_no_marker(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.put(f"{MONITORED}/a.SUCCESS", at=NOW - timedelta(hours=3))
    shelf.put(f"{SOURCE}/Output/notices/d.json", {"Subject": "s", "Message": "d.notice"})
    shelf.refuse("d.notice")
    monkeypatch.setattr(errors, "AwsRefusedError", errors.AwsFailedError)
    with pytest.raises(errors.AwsFailedError, match=r"no mail about d\.notice"):
        handler({}, None)
    [sent] = shelf.mails
    assert "'a.SUCCESS'" in sent["Message"]


def test_kept_mails_that_cannot_be_looked_for_are_an_error_and_hold_up_no_marker(shelf: Shelf) -> None:
    shelf.put(f"{MONITORED}/a.SUCCESS", at=NOW - timedelta(hours=3))
    shelf.failing["Output/notices/"] = errors.AwsRefusedError("no listing", code="AccessDenied")
    with pytest.raises(errors.AwsRefusedError, match="no listing"):
        handler({}, None)
    [sent] = shelf.mails
    assert "'a.SUCCESS'" in sent["Message"]


def test_refused_mail_about_too_many_objects_is_an_error_and_holds_up_no_marker(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "_MOST_KEYS", 2)
    shelf.put(f"{MONITORED}/a.SUCCESS", at=NOW - timedelta(hours=3))
    shelf.put(f"{MONITORED}/junk.txt", at=NOW - timedelta(hours=3))
    shelf.refuse("more than 2 objects")
    with pytest.raises(errors.AwsRefusedError, match="more than 2 objects"):
        handler({}, None)
    [sent] = shelf.mails
    assert "'a.SUCCESS'" in sent["Message"]


def test_alarm_whose_record_may_not_be_looked_at_is_an_error_and_is_not_mailed_again(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXPECT_BY", "11:30 daily UTC")
    shelf.failing["head-object"] = errors.AwsRefusedError("Forbidden", code="403")
    for _ in range(2):
        with pytest.raises(errors.AwsRefusedError, match="Forbidden"):
            handler({}, None)
    assert shelf.mails == []


def test_only_what_is_kept_as_a_notice_is_sent(shelf: Shelf) -> None:
    for place in ("Output/manifest.json", "Output/notices_of_others/x.json", "Zoo/y.json"):
        shelf.put(f"{SOURCE}/{place}", {"Subject": "s", "Message": "m"})
    assert handler({}, None)["sent"] == []
    assert shelf.mails == []


@pytest.mark.parametrize(
    ("marker", "is_absent"),
    [
        ({"bucket": f"{MONITORED}-dev", "key": "a.SUCCESS"}, True),
        ({"bucket": MONITORED, "key": "a.SUCCESS"}, False),
        (None, False),
    ],
)
def test_run_of_another_stages_marker_is_no_marker_of_ours(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, marker: object, is_absent: bool
) -> None:
    monkeypatch.setenv("EXPECT_BY", "11:30 daily UTC")
    name = marker_name(f"{MONITORED}-dev", "a.SUCCESS", NOW - timedelta(hours=1))
    shelf.put(f"{SOURCE}/Output/receipts/{name}_00000000.json", {"state": "success", "mail": "sent", "marker": marker})
    assert ("absent" in handler({}, None)) == is_absent


def test_receipt_that_cannot_be_read_counts_as_one_of_ours(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPECT_BY", "11:30 daily UTC")
    name = marker_name(MONITORED, "a.SUCCESS", NOW - timedelta(hours=1))
    shelf.put(f"{SOURCE}/Output/receipts/{name}_00000000.json", {"marker": {"bucket": MONITORED}})
    shelf.copies_folders = False
    assert "absent" not in handler({}, None)


def test_each_stage_mails_about_its_own_bucket(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_MOST_KEYS", 1)
    monkeypatch.setenv("EXPECT_BY", "11:30 daily UTC")
    for stage, bucket in (("dev", "second"), ("prod", MONITORED)):
        shelf.put(f"{bucket}/junk.txt", at=NOW - timedelta(days=3))
        monkeypatch.setenv("STAGE", stage)
        monkeypatch.setenv("MONITORED_BUCKET", bucket)
        assert handler({}, None)["absent"] == ["2026-11-02"]
        assert "absent" not in handler({}, None)
        assert len(shelf.mails) == 2
        shelf.mails.clear()
    records = {place.rpartition("/")[2] for place in shelf.objects if "/alarms/" in place}
    assert {f"{what}_2026-11-02{stage}.json" for what in ("crowded", "expected") for stage in ("", "-dev")} == records


def test_only_prod_sends_a_kept_mail_that_names_another_topic(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, topic in (("a", "arn:aws:sns:eu-west-1:1:earlier"), ("b", "arn:aws:sns:eu-west-1:1:dev")):
        notice = {"TopicArn": topic, "Subject": "s", "Message": name}
        shelf.put(f"{SOURCE}/Output/notices/{name}.json", notice)
    with monkeypatch.context() as of_dev:
        of_dev.setenv("STAGE", "dev")
        of_dev.setenv("TOPIC_ARN", "arn:aws:sns:eu-west-1:1:dev")
        assert handler({}, None)["sent"] == ["b.json"]
    assert handler({}, None)["sent"] == ["a.json"]
    assert [mail["TopicArn"].rpartition(":")[2] for mail in shelf.mails] == ["dev", "t"]


LAMBDA = SimpleNamespace(get_remaining_time_in_millis=lambda: 300_000)


@pytest.fixture
def busy(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """A marker every five minutes for two days, each with its run and its mail, but the last one that is due.

    SNS refused a mail, and no marker came today. A call takes as long as on Lambda.
    """
    shelf.seconds_of_a_call = 0.7
    for number in range(24, 576):
        put = NOW - timedelta(minutes=5 * number)
        key = f"m{576 - number:03}.SUCCESS"
        shelf.put(f"{MONITORED}/{key}", at=put)
        if number > 24:
            receipt = {"state": "success", "mail": "sent"}
            shelf.put(f"{SOURCE}/Output/receipts/{marker_name(MONITORED, key, put)}_{number:08x}.json", receipt)
    shelf.put(f"{SOURCE}/Output/notices/n.json", {"Subject": "s", "Message": "kept"})
    due = Due(NOW.date(), since=NOW - timedelta(minutes=30), by=NOW - timedelta(minutes=30))
    monkeypatch.setattr(watchdog, "read_expectation", lambda _: SimpleNamespace(last_due=lambda _: due))
    return shelf


def test_marker_every_five_minutes_is_looked_at_in_the_time_of_a_call(busy: Shelf) -> None:
    assert handler({}, LAMBDA) == {"missed": ["m552.SUCCESS"], "sent": ["n.json"], "absent": ["2026-11-02"]}
    assert busy.seconds < 30


def test_call_whose_time_is_up_did_the_rest_says_so_and_later_calls_get_to_all_markers(
    busy: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy.copies_folders = False
    with pytest.raises(errors.OutOfTimeError, match=r"^Time was up before \d+ markers were looked at; the next call"):
        handler({}, LAMBDA)
    assert busy.seconds < 295
    assert [text.split()[0] for text in (mail["Message"] for mail in busy.mails)] == ["kept", "FAILED:"]
    busy.seconds = 0
    monkeypatch.setattr(watchdog, "_now", lambda: NOW + timedelta(hours=20))
    assert handler({}, LAMBDA)["missed"] == ["m552.SUCCESS"]


def test_many_mails_that_sns_refuses_again_hold_up_neither_markers_nor_later_mails(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.seconds_of_a_call = 0.7
    shelf.put(f"{MONITORED}/a.SUCCESS", at=NOW - timedelta(hours=3))
    for number in range(300):
        shelf.put(f"{SOURCE}/Output/notices/{number:03}.json", {"Subject": "s", "Message": "refused"})
    shelf.put(f"{SOURCE}/Output/notices/zzz.json", {"Subject": "s", "Message": "later"})
    shelf.refuse("refused")
    sent = []
    for hour in range(301):
        monkeypatch.setattr(watchdog, "_now", lambda: NOW + timedelta(hours=hour))  # noqa: B023
        shelf.seconds = 0
        with pytest.raises(errors.AwsRefusedError):
            handler({}, LAMBDA)
        sent += [mail["Message"][:7] for mail in shelf.mails]
        shelf.mails.clear()
        if hour == 0:
            assert sent == ["FAILED:"]
    assert sent == ["FAILED:", "later"]


def test_run_that_ended_while_others_were_mailed_is_no_alarm(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    put = NOW - timedelta(hours=3)
    shelf.put(f"{MONITORED}/a.SUCCESS", at=put - ONE_SECOND)
    shelf.put(f"{MONITORED}/b.SUCCESS", at=put)
    place = f"{SOURCE}/Output/receipts/{marker_name(MONITORED, 'b.SUCCESS', put)}.json"
    shelf.put(place, {"state": "running"})
    publish = shelf.call

    def call(service: str, operation: str, parameters: Mapping[str, Any], **options: object) -> dict[str, object]:
        if operation == "publish":
            shelf.put(place, {"state": "success", "mail": "sent"})
        return publish(service, operation, parameters, **options)

    monkeypatch.setattr(aws_cli, "call", call)
    assert handler({}, None)["missed"] == ["a.SUCCESS"]
