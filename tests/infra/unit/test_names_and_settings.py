"""Names and settings: what is derived, what is refused, and that everything missing is named at once."""

from __future__ import annotations

import pytest

from infra_scripts.errors import SettingsError
from infra_scripts.names import Names
from infra_scripts.platform import template
from infra_scripts.platform.stack import Stack
from infra_scripts.settings import public_address, read_settings

ENVIRONMENT = {
    "MBD_FIRST_NAME": "Ada",
    "MBD_LAST_NAME": "Lovelace",
    "AWS_REGION": "eu-west-1",
    "MBD_EMAIL": "ada@example.org",
    "MBD_MY_ADDRESS": "192.31.196.7",
}


def test_the_longest_names_that_fit_do() -> None:
    assert len(Names("a" * 15, "b" * 15).monitored_bucket) == 63
    with pytest.raises(SettingsError, match="1 characters longer than AWS allows"):
        Names("a" * 15, "b" * 16)


@pytest.mark.parametrize("stage", ["", "-dev", "-Test-2"])
@pytest.mark.parametrize("function", ["trigger", "report", "watchdog", "redrive"])
def test_a_name_that_continues_ours_has_none_of_our_functions(function: str, stage: str) -> None:
    ours = Names("Ana", "Li")
    assert ours.is_function(f"{ours.prefix}-{function}{stage}")
    for last in ("Lima", "Li-Wong", "Li-Trigger", "Li-Report-Dev", "Li-Redrive-Redrive", "L"):
        assert not ours.is_function(f"{Names('Ana', last).prefix}-{function}{stage}")
        assert not ours.is_trigger_stack(f"{Names('Ana', last).trigger_stack}{stage}")
    for other in (ours.prefix, f"{ours.prefix}-platform", f"{ours.prefix}-{function}{stage}x-trigger", ""):
        assert not ours.is_function(other)
    assert ours.is_trigger_stack(ours.trigger_stack + stage)
    assert not ours.is_trigger_stack(f"{ours.prefix}-report{stage}")


@pytest.mark.parametrize("name", ["", "Ada1", "Ada Mary", "Adä", "-Ada", "Ada-", "A--da", "ada.mary", "$(id)", "a\n"])
def test_a_name_that_aws_would_refuse_is_refused_here(name: str) -> None:
    with pytest.raises(SettingsError, match="MBD_FIRST_NAME"):
        Names(name, "Lovelace")


def test_everything_missing_is_named_with_its_purpose_and_the_next_step() -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({"MBD_LAST_NAME": " "})
    for words in ("MBD_FIRST_NAME (your first name", "MBD_LAST_NAME (", "AWS_REGION (", "python -m infra_scripts init"):
        assert words in str(caught.value)


def test_what_is_left_out_has_a_sound_default() -> None:
    settings = read_settings({**ENVIRONMENT, "MBD_PROFILE": "", "MBD_SOURCE_BUCKET": ""})
    assert settings.profile == "default"
    assert settings.transport == "ssm"
    assert settings.scale_to_zero is False
    assert settings.instance_type == "t2.medium"
    assert settings.source_bucket == "de-mbd-predict-ada-lovelace-s3-source"
    assert settings.my_address == "192.31.196.7/32"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AWS_REGION", "Ireland"),
        ("MBD_PROFILE", "open"),
        ("MBD_TRANSPORT", "ftp"),
        ("MBD_SCALE_TO_ZERO", "yes"),
        ("MBD_EMAIL", "ada"),
        ("MBD_MARKING_EMAIL", "a b@example.org"),
        ("MBD_MY_ADDRESS", "home"),
        ("MBD_MY_ADDRESS", "2001:db8::1"),
        ("MBD_MY_ADDRESS", "192.31.196.7/24"),
        ("MBD_MY_ADDRESS", "0.0.0.0/0"),
        ("MBD_MY_ADDRESS", "0.0.0.0/1"),
    ],
)
def test_an_unusable_setting_is_refused_by_its_name(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=variable):
        read_settings({**ENVIRONMENT, variable: value})


def test_http_transport_is_refused_where_no_port_is_open() -> None:
    with pytest.raises(SettingsError, match="MBD_TRANSPORT=ssm"):
        template.parameters(read_settings({**ENVIRONMENT, "MBD_TRANSPORT": "http"}), deployed=None, image_id="")


def test_another_source_bucket_than_the_platforms_is_refused() -> None:
    with pytest.raises(SettingsError, match="Leave MBD_SOURCE_BUCKET out"):
        template.parameters(read_settings({**ENVIRONMENT, "MBD_SOURCE_BUCKET": "mine"}), deployed=None, image_id="")


def test_marking_address_is_subscribed_in_profile_course_only() -> None:
    marking = {**ENVIRONMENT, "MBD_MARKING_EMAIL": "marking@example.org"}
    assert read_settings(marking).subscribers == ("ada@example.org",)
    course = read_settings({**marking, "MBD_PROFILE": "course"})
    assert course.subscribers == ("ada@example.org", "marking@example.org")
    assert template.parameters(course, deployed=None, image_id="")["MarkingEmail"] == "marking@example.org"
    assert read_settings({**ENVIRONMENT, "MBD_PROFILE": "course"}).subscribers[1] == "edsa.predicts@explore-ai.net"


@pytest.mark.parametrize(
    ("deployed", "profile", "version"),
    [(None, "default", "18"), (None, "course", "14"), ("14", "default", "14"), ("18", "course", "18")],
)
def test_a_deployed_database_keeps_its_version_and_a_new_one_has_the_profiles(
    deployed: str | None, profile: str, version: str
) -> None:
    settings = read_settings({**ENVIRONMENT, "MBD_PROFILE": profile, "MBD_MARKING_EMAIL": "marking@example.org"})
    stack = Stack(name="p", state="UPDATE_COMPLETE", parameters={"DatabaseVersion": deployed}) if deployed else None
    assert template.parameters(settings, deployed=stack, image_id="")["DatabaseVersion"] == version


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("10.1.2.3", "RFC 1918"),
        ("172.16.0.0/12", "RFC 1918"),
        ("192.168.178.20", "RFC 1918"),
        ("127.0.0.1", "loopback"),
        ("169.254.10.1/32", "link-local"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("100.127.255.255", "carrier-grade NAT"),
        ("192.0.2.1", "documentation"),
        ("203.0.113.7/32", "documentation"),
        ("224.0.0.251", "multicast"),
        ("0.0.0.0", "no address of the internet"),
        ("255.255.255.255", "no address of the internet"),
    ],
)
def test_an_address_that_aws_can_never_see_is_refused_with_the_reason(address: str, reason: str) -> None:
    settings = read_settings({**ENVIRONMENT, "MBD_MY_ADDRESS": address})  # status and teardown go on
    with pytest.raises(SettingsError, match=f"{reason}.*--my-address detect"):
        public_address(address)
    with pytest.raises(SettingsError, match=reason):
        template.parameters(settings, deployed=None, image_id="")


@pytest.mark.parametrize(
    "address", ["192.31.196.7", "11.0.0.1", "172.15.255.255", "172.32.0.0", "100.128.0.1", "9.9.9.0/24"]
)
def test_an_address_of_the_internet_is_taken(address: str) -> None:
    assert public_address(address).startswith(address)
