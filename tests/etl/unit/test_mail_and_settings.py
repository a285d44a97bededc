"""The mail's subject and body, and the settings that name its topic, its person and the bucket."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest

import etl
from etl import Mailbox, Receipt, SettingsError, read_settings, source_bucket
from etl.batch.storage import open_storage
from etl.outcome.advice import next_steps
from etl.outcome.mail import body, message_of, send
from etl.outcome.receipt import State

TOPIC = "arn:aws:sns:eu-west-1:123456789012:de-mbd-predict-ada-lovelace-SNS"
RECEIPT = Receipt(run_id="test__1", state=State.FAILED, started_at=datetime(2020, 1, 2, tzinfo=UTC), error="short")
ENVIRONMENT = {"MBD_FIRST_NAME": "ada", "MBD_LAST_NAME": "Lovelace", "MBD_TOPIC_ARN": TOPIC}


@pytest.mark.parametrize(
    ("first", "last", "names"),
    [
        ("Ada", "Lovelace", "Ada_Lovelace"),
        ("ada", "lovelace", "Ada_Lovelace"),
        ("Mary-Jane", "O", "Mary-Jane_O"),
        ("Ada", "McDonald", "Ada_McDonald"),
    ],
)
def test_subject_is_exact(first: str, last: str, names: str) -> None:
    mailbox = Mailbox(TOPIC, first, last)
    assert mailbox.subject(success=True) == f"{names}_Pipeline_Success"
    assert mailbox.subject(success=False) == f"{names}_Pipeline_Failure"


def test_longest_subject_is_one_that_sns_takes() -> None:
    assert len(Mailbox(TOPIC, "a" * 15, "b" * 14).subject(success=True)) < 100


@pytest.mark.parametrize(
    "name",
    ["", " ", "Ada Lovelace", "Ada\n", "\nAda", "-ada", "Ada-", "Mary--Ann", "José", "a_b", "a.b", "7", "a" * 31],
)
def test_name_that_cannot_stand_in_a_bucket_or_subject_is_refused(name: str) -> None:
    for first, last in ((name, "Lovelace"), ("Ada", name)):
        with pytest.raises(SettingsError, match="MBD_FIRST_NAME and MBD_LAST_NAME"):
            Mailbox(TOPIC, first, last)


@pytest.mark.parametrize(
    "error",
    ["x" * 300_000, "é" * 200_000, "x" + "é" * 200_000, "x" + "\U0001f4c8" * 100_000, "line\n" * 100_000],
    ids=["ASCII", "two bytes a sign", "two bytes, cut between", "four bytes a sign", "lines"],
)
def test_long_body_is_cut_under_the_limit_of_sns_with_a_pointer_to_the_whole(error: str) -> None:
    text = body(replace(RECEIPT, error=error), whole="s3://b/Output/receipts/test__1.json")
    assert 190_000 < len(text.encode()) < 256 * 1024 - 1000
    assert text.endswith("... cut here; the whole receipt: s3://b/Output/receipts/test__1.json\n")
    assert "\ufffd" not in text


def test_short_body_is_the_receipt_as_text_with_where_it_is_kept() -> None:
    text = body(RECEIPT, whole="/out/receipts/test__1.json")
    head, to_do, rest = text.partition("To do:\n")
    steps, counts = rest.split("\n\n", 1)
    assert head + counts == etl.receipt_text(RECEIPT) + "\nreceipt    /out/receipts/test__1.json\n"
    assert [line.strip() for line in steps.splitlines()] == [step.text for step in next_steps(RECEIPT)]
    assert body(RECEIPT, whole="") == head + to_do + steps + "\n\n" + counts.partition("\nreceipt ")[0]


def test_mail_names_the_page_only_where_there_is_one(tmp_path: Path) -> None:
    output = open_storage(str(tmp_path))
    assert "\nreport " not in message_of(RECEIPT, output=output)
    (tmp_path / "reports").mkdir()
    page = tmp_path / "reports" / "test__1.html"
    page.touch()
    assert f"\nreport     {page}\n" in message_of(RECEIPT, output=output)


def test_mail_is_kept_whatever_goes_wrong_with_it(tmp_path: Path) -> None:
    class Broken:
        @property
        def sns(self) -> NoReturn:
            raise RuntimeError("unforeseen")

    aws: Any = Broken()
    told, refused = send(RECEIPT, mailbox=Mailbox(TOPIC, "a", "b"), aws=aws, output=open_storage(str(tmp_path)))
    assert told.mail == "kept"
    assert refused is not None
    assert (tmp_path / "notices" / "test__1.json").exists()


def test_body_holds_no_control_character_that_sns_refuses() -> None:
    error = "a\x00b\x1bc\rd\x7fe\ufffff\nsecond line, é \u682a \U0001f4c8\tend"
    text = body(replace(RECEIPT, error=error), whole="")
    assert text.startswith("FAILED: a?b?c?d?e?f\nsecond line, é \u682a \U0001f4c8\tend\n")


@pytest.mark.parametrize("absent", [set(ENVIRONMENT), {"MBD_LAST_NAME", "MBD_TOPIC_ARN"}, {"MBD_FIRST_NAME"}])
@pytest.mark.parametrize("blank", [False, True], ids=["unset", "set to nothing"])
def test_all_missing_settings_are_told_together_with_what_they_are_for(absent: set[str], blank: bool) -> None:
    environment = {name: value for name, value in ENVIRONMENT.items() if name not in absent}
    with pytest.raises(SettingsError) as raised:
        read_settings(environment | (dict.fromkeys(absent, "") if blank else {}))
    assert {name for name in ENVIRONMENT if f"{name} (" in str(raised.value)} == absent
    assert "\n" not in str(raised.value)


def test_complete_settings_are_read_with_five_minutes_of_grace() -> None:
    settings = read_settings(ENVIRONMENT)
    assert settings.mailbox == Mailbox(TOPIC, "ada", "Lovelace")
    assert settings.grace_seconds == 300
    assert read_settings({**ENVIRONMENT, "MBD_GATE_GRACE_SECONDS": "2.5"}).grace_seconds == 2.5
    assert read_settings({**ENVIRONMENT, "MBD_GATE_GRACE_SECONDS": "0"}).grace_seconds == 0
    assert read_settings({**ENVIRONMENT, "MBD_GATE_GRACE_SECONDS": "1740"}).grace_seconds == 1740


@pytest.mark.parametrize("grace", ["soon", "5 min", "nan", "inf", "-1", "1740.5", "2700", "1e9"])
def test_grace_that_is_no_number_of_seconds_or_longer_than_a_task_may_take_is_refused(grace: str) -> None:
    # with nan or inf the gate would wait for ever; Airflow ends it after 30 minutes, before it could name a file
    with pytest.raises(SettingsError, match="MBD_GATE_GRACE_SECONDS"):
        read_settings({**ENVIRONMENT, "MBD_GATE_GRACE_SECONDS": grace})


@pytest.mark.parametrize("days", ["soon", "nan", "inf", "-1", "36501", "9999999"])
def test_days_of_the_journal_that_are_no_number_or_more_than_a_century_are_refused(days: str) -> None:
    with pytest.raises(SettingsError, match="MBD_JOURNAL_DAYS"):
        read_settings({**ENVIRONMENT, "MBD_JOURNAL_DAYS": days})
    assert read_settings({**ENVIRONMENT, "MBD_JOURNAL_DAYS": "36500"}).journal_days == 36500


@pytest.mark.parametrize(("text", "days"), [("0", 0), ("1.5", 1.5), ("", None), (None, None)])
def test_journal_is_kept_for_the_days_that_are_set_or_for_ever(text: str | None, days: float | None) -> None:
    environment = ENVIRONMENT if text is None else {**ENVIRONMENT, "MBD_JOURNAL_DAYS": text}
    assert read_settings(environment).journal_days == days


@pytest.mark.parametrize(
    ("environment", "bucket"),
    [
        (ENVIRONMENT, "de-mbd-predict-ada-lovelace-s3-source"),
        ({**ENVIRONMENT, "MBD_SOURCE_BUCKET": "another"}, "another"),
        ({**ENVIRONMENT, "MBD_SOURCE_BUCKET": ""}, "de-mbd-predict-ada-lovelace-s3-source"),
        ({"MBD_FIRST_NAME": "ada"}, None),
        ({}, None),
    ],
)
def test_source_bucket_is_the_one_named_or_the_one_the_names_make(
    environment: dict[str, str], bucket: str | None
) -> None:
    assert source_bucket(environment) == bucket
