"""Says by when a marker was due last: MBD_EXPECT_BY, such as "18:30 Mon-Fri Europe/Berlin", without MBD_HOLIDAYS.

deployment.js refuses by the same rules what this refuses: tests/data/contracts/expect_by.json.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, available_timezones

from trigger.errors import SettingsError

_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIME = re.compile(r"([01]?[0-9]|2[0-3]):[0-5][0-9]")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_COUNTS_BEFORE = timedelta(hours=12)
_SPEAKS_UP_FOR = timedelta(hours=12)
"""A watchdog that slept for longer is reported by its own alarm; the mail about that day would come too late."""


@dataclass(frozen=True)
class Due:
    """One day on which a marker was expected, and when (UTC)."""

    day: date  # in the time zone of the setting
    since: datetime
    """A marker of the day is put from then on: the day's midnight, or twelve hours before `by`, if that is earlier."""
    by: datetime


@dataclass(frozen=True)
class Expectation:
    """A marker is put by `at` on each of `weekdays` (0 is Monday) that is not one of `holidays`, in `zone`."""

    at: time
    weekdays: frozenset[int]
    zone: ZoneInfo
    holidays: frozenset[date]

    def last_due(self, now: datetime) -> Due | None:
        """What was due in the last twelve hours, if anything was; `now` is aware.

        A time that the clock skips when summer time begins counts an hour later by the clock, one that it shows twice
        when summer time ends counts the first time (PEP 495, fold 0).
        """
        today = now.astimezone(self.zone).date()
        for day in (today, today - timedelta(days=1)):
            by = datetime.combine(day, self.at, self.zone).astimezone(UTC)
            if by <= now < by + _SPEAKS_UP_FOR:
                midnight = datetime.combine(day, time(0), self.zone).astimezone(UTC)
                expected = day.weekday() in self.weekdays and day not in self.holidays
                return Due(day, since=min(midnight, by - _COUNTS_BEFORE), by=by) if expected else None
        return None


def read_expectation(environment: Mapping[str, str]) -> Expectation | None:
    """The expectation that EXPECT_BY and HOLIDAYS describe; None where the first is empty. Raises SettingsError."""
    text = environment.get("EXPECT_BY", "").strip()
    if not text:
        return None
    at, days, zone = text.split() if len(text.split()) == 3 else ("", "", "")
    weekdays, found = frozenset(_weekdays(days)), _zone(zone)
    if not (_TIME.fullmatch(at) and weekdays and found):
        raise SettingsError(
            f"EXPECT_BY is {text!r}. Set MBD_EXPECT_BY in .env to a time, weekdays and a time zone, such as "
            "18:30 Mon-Fri Europe/Berlin, or leave it out; then deploy."
        )
    return Expectation(
        time.fromisoformat(at.zfill(5)), weekdays, found, frozenset(_holidays(environment.get("HOLIDAYS", "")))
    )


def _weekdays(text: str) -> Iterator[int]:
    """`daily`, or names and ranges, such as Mon-Wed,Fri; a range may go round the end of the week. None if unusable."""
    if text.lower() == "daily":
        yield from range(7)
        return
    ranges = [part.split("-") for part in text.lower().split(",")]
    if not all(len(ends) <= 2 and set(ends) <= {*_WEEKDAYS} for ends in ranges):
        return
    for ends in ranges:
        first, last = _WEEKDAYS.index(ends[0]), _WEEKDAYS.index(ends[-1])
        yield from ((first + step) % 7 for step in range((last - first) % 7 + 1))


def _zone(name: str) -> ZoneInfo | None:
    """The time zone of this name, in any case of letters, as JavaScript takes it."""
    if not _ZONE.fullmatch(name):
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # the last for a name that is a folder, such as Europe
        spelled = {known.lower(): known for known in available_timezones()}.get(name.lower())
        return ZoneInfo(spelled) if spelled else None


def _holidays(text: str) -> Iterator[date]:
    for word in text.replace(",", " ").split():
        try:
            if not _DAY.fullmatch(word):
                raise ValueError(word)
            yield date.fromisoformat(word)
        except ValueError:
            raise SettingsError(
                f"HOLIDAYS has {word!r}. Set MBD_HOLIDAYS in .env to days such as 2026-12-25 2027-01-01; then deploy."
            ) from None
