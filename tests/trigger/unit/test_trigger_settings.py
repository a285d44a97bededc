"""Settings are complete and usable, or one message lists everything that must be set."""

import logging
import re
from collections.abc import Callable

import pytest

from tests.support.airflow_stand_in import PASSWORD
from trigger import mail
from trigger.errors import SettingsError
from trigger.settings import SET_BY, MailSettings, Settings, read_mail_settings, read_settings

COMPLETE = {
    "AIRFLOW_URL": "https://airflow.example:8080/",
    "AIRFLOW_USERNAME": "trigger",
    "AIRFLOW_PASSWORD_PARAMETER": "/ada/password",
    "MONITORED_BUCKET": "b",
    "SOURCE_BUCKET": "s",
}
MAIL = {
    "TOPIC_ARN": "arn:aws:sns:eu-west-1:000000000000:t",
    "FIRST_NAME": "Ada",
    "LAST_NAME": "Lovelace",
    "SOURCE_BUCKET": "s",
    "MONITORED_BUCKET": "b",
    "KEPT_EVENTS_URL": "https://sqs.example/kept",
}
FINGERPRINT = "0123456789abcdef" * 4


def test_complete_environment_gives_settings_with_a_url_without_trailing_slash() -> None:
    assert read_settings(COMPLETE) == Settings(
        airflow_url="https://airflow.example:8080",
        username="trigger",
        password_parameter="/ada/password",
        certificate_sha256="",
        instance_id="",
        monitored_bucket="b",
        dry_run=False,
    )


@pytest.mark.parametrize(("stage", "option"), [("", ""), ("prod", ""), ("dev", " --stage dev")])
def test_mail_names_the_stage_in_the_redrive_command_unless_it_is_prod(stage: str, option: str) -> None:
    text = mail.no_run("x", tries=3, reason="y", settings=read_mail_settings({**MAIL, "STAGE": stage}))
    assert text.endswith(f"\n  npx serverless invoke --function redrive{option}\n")


def test_complete_mail_settings_are_read_as_they_are() -> None:
    assert read_mail_settings({**MAIL, "OTHER": "x"}) == MailSettings(
        topic_arn=MAIL["TOPIC_ARN"],
        first_name="Ada",
        last_name="Lovelace",
        source_bucket="s",
        monitored_bucket="b",
        kept_events_url="https://sqs.example/kept",
        stage="prod",
    )


@pytest.mark.parametrize(("read", "complete"), [(read_settings, COMPLETE), (read_mail_settings, MAIL)])
def test_all_missing_settings_are_reported_together_each_with_what_sets_it(
    read: Callable[[dict[str, str]], object], complete: dict[str, str]
) -> None:
    with pytest.raises(SettingsError) as raised:
        read(dict.fromkeys(complete, " "))
    for name in complete:
        assert f"{name} ({SET_BY[name]})" in str(raised.value)
    assert str(raised.value).startswith(f"{len(complete)} settings are missing")


@pytest.mark.parametrize(("read", "complete"), [(read_settings, COMPLETE), (read_mail_settings, MAIL)])
def test_one_missing_setting_is_the_only_one_named(
    read: Callable[[dict[str, str]], object], complete: dict[str, str]
) -> None:
    for name in complete:
        with pytest.raises(SettingsError, match=rf"^1 setting is missing.*: {name} \(") as raised:
            read({**complete, name: ""})
        assert not [other for other in SET_BY if other != name and f"{other} (" in str(raised.value)]


def test_instance_without_a_url_needs_no_user_and_no_password() -> None:
    settings = read_settings({"INSTANCE_ID": " i-0123456789abcdef0\n", "MONITORED_BUCKET": "b", "SOURCE_BUCKET": "s"})
    assert (settings.instance_id, settings.airflow_url) == ("i-0123456789abcdef0", "")


@pytest.mark.parametrize("instance_id", ["", " "])
def test_neither_url_nor_instance_is_a_missing_url(instance_id: str) -> None:
    with pytest.raises(SettingsError, match=r"AIRFLOW_URL \("):
        read_settings({**COMPLETE, "AIRFLOW_URL": " ", "INSTANCE_ID": instance_id})


def test_instance_with_a_url_is_woken_and_called_by_http() -> None:
    settings = read_settings({**COMPLETE, "INSTANCE_ID": "i-0123456789abcdef0"})
    assert (settings.instance_id, settings.airflow_url) == ("i-0123456789abcdef0", "https://airflow.example:8080")
    with pytest.raises(SettingsError, match="AIRFLOW_PASSWORD_PARAMETER"):
        read_settings({**COMPLETE, "INSTANCE_ID": "i-0123456789abcdef0", "AIRFLOW_PASSWORD_PARAMETER": ""})


@pytest.mark.parametrize(
    "text", [FINGERPRINT, FINGERPRINT.upper(), f" {':'.join(re.findall('..', FINGERPRINT.upper()))}\n"]
)
def test_fingerprint_is_taken_as_openssl_prints_it(text: str) -> None:
    assert read_settings({**COMPLETE, "AIRFLOW_CERTIFICATE_SHA256": text}).certificate_sha256 == FINGERPRINT


@pytest.mark.parametrize(
    "text", ["0", FINGERPRINT[1:], FINGERPRINT + "0", "g" + FINGERPRINT[1:], FINGERPRINT[:40], f"sha256:{FINGERPRINT}"]
)
def test_what_is_no_fingerprint_is_refused_and_not_taken_for_no_pin(text: str) -> None:
    with pytest.raises(SettingsError, match=r"64 hex digits.*openssl x509"):
        read_settings({**COMPLETE, "AIRFLOW_CERTIFICATE_SHA256": text})


def test_pin_for_plain_http_is_refused_as_nothing_would_be_checked() -> None:
    with pytest.raises(SettingsError, match=r"plain http.*pins one.*https://"):
        read_settings({**COMPLETE, "AIRFLOW_URL": "http://airflow.example", "AIRFLOW_CERTIFICATE_SHA256": FINGERPRINT})


@pytest.mark.parametrize(("read", "complete"), [(read_settings, COMPLETE), (read_mail_settings, MAIL)])
def test_listening_to_the_bucket_of_the_output_is_refused(
    read: Callable[[dict[str, str]], object], complete: dict[str, str]
) -> None:
    with pytest.raises(SettingsError, match=r"are both ' ?b'.*own output.*separate bucket for markers"):
        read({**complete, "SOURCE_BUCKET": " b"})


@pytest.mark.parametrize(
    ("text", "dry"),
    [("1", True), ("true", True), ("ON", True), ("Yes", True), ("", False), ("0", False), ("false", False)],
)
def test_dry_run_is_on_when_it_says_so(text: str, dry: bool) -> None:
    assert read_settings({**COMPLETE, "DRY_RUN": text}).dry_run is dry


@pytest.mark.parametrize(
    "url",
    [
        f"https://trigger:{PASSWORD}@airflow.example:8080",
        f"http://trigger:12/{PASSWORD}@airflow.example",
        f"https://{PASSWORD}@airflow.example",
        f"https://trigger:{PASSWORD}\N{FULLWIDTH COMMERCIAL AT}airflow.example",
        f"https://airflow.example:{PASSWORD}",
        f"https://airflow.example/?password={PASSWORD}",
        f"https://airflow.example/#{PASSWORD}",
        f"airflow.example:8080/{PASSWORD}",
        f"ftp://airflow.example/{PASSWORD}",
        f"https:///{PASSWORD}",
        f"https://[::1/{PASSWORD}",
        f"https://airflow.example/a\n{PASSWORD}",
        f"https://airflow.example/a {PASSWORD}",
    ],
)
def test_unusable_url_is_refused_and_never_quoted(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SettingsError, match=r"^AIRFLOW_URL .* Set it ") as raised:
        read_settings({**COMPLETE, "AIRFLOW_URL": url})
    assert PASSWORD not in str(raised.value) + caplog.text
    assert raised.value.__context__ is None


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://airflow.example:8080", True),
        ("HTTP://10.0.0.7", True),
        ("http://127.0.0.1.example:8080", True),
        ("http://127.0.0.1:8080", False),
        ("http://localhost:8080", False),
        ("https://airflow.example", False),
    ],
)
def test_plain_http_to_another_machine_logs_a_warning(url: str, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    read_settings({**COMPLETE, "AIRFLOW_URL": url})
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * warned
