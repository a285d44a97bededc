"""When a marker was due last, and which values of the settings are refused."""

import json
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.support.paths import CONTRACTS
from trigger.errors import SettingsError
from trigger.expectation import Due, Expectation, read_expectation

CONTRACT = json.loads((CONTRACTS / "expect_by.json").read_text())
HOLIDAYS = CONTRACT["holidays"]


def expectation(text: str, *, holidays: str = "") -> Expectation:
    found = read_expectation({"EXPECT_BY": text, "HOLIDAYS": holidays})
    assert found
    return found


def test_nothing_is_expected_unless_set() -> None:
    assert read_expectation({}) is None
    assert read_expectation({"EXPECT_BY": " ", "HOLIDAYS": "2026-12-25"}) is None


@pytest.mark.parametrize("text", CONTRACT["accepted"])
def test_accepted_values_are_read(text: str) -> None:
    found = expectation(text)
    at, _, zone = text.split()
    assert (f"{found.at:%H:%M}", found.zone.key.lower()) == (at.zfill(5), zone.lower())


@pytest.mark.parametrize("text", CONTRACT["refused"])
def test_refused_values_are_named_with_an_example(text: str) -> None:
    with pytest.raises(SettingsError, match=r"EXPECT_BY .* such as 18:30 Mon-Fri Europe/Berlin") as raised:
        expectation(text)
    assert repr(text) in str(raised.value)


@pytest.mark.parametrize("text", HOLIDAYS["accepted"])
def test_holidays_are_days_separated_by_blanks_or_commas(text: str) -> None:
    assert len(expectation("18:30 daily UTC", holidays=text).holidays) == text.count("-") // 2


@pytest.mark.parametrize("text", HOLIDAYS["refused"])
def test_what_is_no_day_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"MBD_HOLIDAYS in \.env to days such as"):
        expectation("18:30 daily UTC", holidays=f"2026-12-24 {text}")


@pytest.mark.parametrize(
    ("days", "names"),
    [
        ("Mon-Fri", "Mon Tue Wed Thu Fri"),
        ("SUN-thu", "Mon Tue Wed Thu Sun"),
        ("Fri-Mon", "Mon Fri Sat Sun"),
        ("Tue", "Tue"),
        ("Mon,Wed,Sat-Sun", "Mon Wed Sat Sun"),
        ("daily", "Mon Tue Wed Thu Fri Sat Sun"),
        ("Wed-Wed", "Wed"),
    ],
)
def test_weekdays_are_names_and_ranges_that_may_go_round_the_week(days: str, names: str) -> None:
    monday = date(2026, 11, 23)
    found = expectation(f"12:00 {days} UTC").weekdays
    assert " ".join(f"{monday + timedelta(days=one):%a}" for one in sorted(found)) == names


BERLIN = "18:30 Mon-Fri Europe/Berlin"


@pytest.mark.parametrize(
    ("text", "now", "due"),
    [  # 2026-11-27 is a Friday; times in UTC
        (BERLIN, "2026-11-27 17:29", None),
        (BERLIN, "2026-11-27 17:30", ("2026-11-27", "2026-11-26 23:00", "2026-11-27 17:30")),
        (BERLIN, "2026-11-28 05:29", ("2026-11-27", "2026-11-26 23:00", "2026-11-27 17:30")),
        (BERLIN, "2026-11-28 05:30", None),
        (BERLIN, "2026-11-28 18:00", None),  # Saturday
        (BERLIN, "2026-12-25 18:00", None),  # a holiday, and a Friday
        # an early time: what was put on the evening before counts
        ("06:00 Tue-Sat Europe/Berlin", "2026-11-28 06:00", ("2026-11-28", "2026-11-27 17:00", "2026-11-28 05:00")),
        # a day of the zone, not of UTC
        ("23:00 Fri America/New_York", "2026-11-28 04:30", ("2026-11-27", "2026-11-27 05:00", "2026-11-28 04:00")),
        # summer time begins on 2026-03-29 and ends on 2026-10-25, both Sundays
        ("18:30 daily Europe/Berlin", "2026-03-28 17:30", ("2026-03-28", "2026-03-27 23:00", "2026-03-28 17:30")),
        ("18:30 daily Europe/Berlin", "2026-03-29 16:30", ("2026-03-29", "2026-03-28 23:00", "2026-03-29 16:30")),
        ("18:30 daily Europe/Berlin", "2026-10-25 17:30", ("2026-10-25", "2026-10-24 22:00", "2026-10-25 17:30")),
        ("02:30 daily Europe/Berlin", "2026-03-29 01:30", ("2026-03-29", "2026-03-28 13:30", "2026-03-29 01:30")),
        ("02:30 daily Europe/Berlin", "2026-10-25 00:30", ("2026-10-25", "2026-10-24 12:30", "2026-10-25 00:30")),
        # midnight itself is skipped
        ("00:00 daily America/Santiago", "2026-09-06 04:00", ("2026-09-06", "2026-09-05 16:00", "2026-09-06 04:00")),
    ],
)
def test_due_is_the_last_time_of_the_setting_with_the_clock_of_its_zone(
    text: str, now: str, due: tuple[str, str, str] | None
) -> None:
    found = expectation(text, holidays="2026-12-25").last_due(datetime.fromisoformat(f"{now}+00:00"))
    if due is None:
        assert found is None
    else:
        since, by = (datetime.fromisoformat(f"{one}+00:00") for one in due[1:])
        assert found == Due(date.fromisoformat(due[0]), since=since, by=by)


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"])
@pytest.mark.parametrize("at", ["00:00", "02:30", "18:30"])
def test_each_day_of_a_year_is_due_and_none_twice(zone: str, at: str) -> None:
    """A watchdog of every hour, whatever the clocks do."""
    found = expectation(f"{at} Mon-Fri {zone}")
    beginning = datetime(2026, 1, 1, 18, tzinfo=UTC)
    dues = {due for hour in range(365 * 24) if (due := found.last_due(beginning + timedelta(hours=hour)))}
    days = [beginning.date() + timedelta(days=1 + number) for number in range(364)]
    assert {due.day for due in dues} >= {day for day in days if day.weekday() < 5}
    assert len({due.day for due in dues}) == len(dues)
    assert {due.day.weekday() for due in dues} == {0, 1, 2, 3, 4}
    off_by_the_clock = [due for due in dues if f"{due.by.astimezone(ZoneInfo(zone)):%H:%M}" != at]
    assert len(off_by_the_clock) <= 1  # the clock skips 02:30 once a year
