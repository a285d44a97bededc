"""Settings are complete and usable, or one message says all that has to be set."""

import logging

import pytest

from tests.unit.trigger.airflow_server import PASSWORD
from trigger.errors import SettingsError
from trigger.settings import SET_BY, Settings, read_settings

COMPLETE = {
    "AIRFLOW_URL": "https://airflow.example:8080/",
    "AIRFLOW_USERNAME": "trigger",
    "AIRFLOW_PASSWORD": PASSWORD,
    "MONITORED_BUCKET": "b",
}


def test_complete_environment_gives_settings_with_a_url_without_trailing_slash() -> None:
    assert read_settings(COMPLETE) == Settings(
        airflow_url="https://airflow.example:8080", username="trigger", password=PASSWORD, monitored_bucket="b"
    )


def test_password_has_no_repr() -> None:
    settings = read_settings(COMPLETE)
    assert PASSWORD not in repr(settings)
    assert PASSWORD not in str(settings)


def test_all_missing_settings_are_reported_together_each_with_what_sets_it() -> None:
    with pytest.raises(SettingsError) as raised:
        read_settings({"AIRFLOW_USERNAME": " "})
    for name, setter in SET_BY.items():
        assert f"{name} ({setter})" in str(raised.value)
    assert "4 settings are missing" in str(raised.value)


def test_one_missing_setting_is_the_only_one_named() -> None:
    with pytest.raises(SettingsError, match=r"^1 setting is missing.*AIRFLOW_PASSWORD \(environment") as raised:
        read_settings({**COMPLETE, "AIRFLOW_PASSWORD": ""})
    assert "MONITORED_BUCKET" not in str(raised.value)


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
def test_plain_http_beyond_this_machine_is_warned_of(url: str, warned: bool, caplog: pytest.LogCaptureFixture) -> None:
    read_settings({**COMPLETE, "AIRFLOW_URL": url})
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * warned
