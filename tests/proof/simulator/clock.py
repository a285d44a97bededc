"""Gives the simulated system one clock: sleeping costs no time, and what is due meanwhile happens meanwhile."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any


@dataclass(order=True)
class _Due:
    at: datetime
    number: int
    act: Callable[[], object] = field(compare=False)
    alone: bool = field(compare=False)


class Clock:
    """The time of a simulation, and what is going to happen."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self._due: list[_Due] = []
        self._numbers = itertools.count()

    def at(self, time: datetime, act: Callable[[], object], *, alone: bool = False) -> None:
        """Do this then; `alone`: not while anything else is under way, but after it."""
        heapq.heappush(self._due, _Due(max(time, self.now), next(self._numbers), act, alone))

    def after(self, seconds: float, act: Callable[[], object], *, alone: bool = False) -> None:
        self.at(self.now + timedelta(seconds=seconds), act, alone=alone)

    def monotonic(self) -> float:
        return self.now.timestamp()

    def sleep(self, seconds: float) -> None:
        """Let time pass for what is under way."""
        until = self.now + timedelta(seconds=seconds)
        if self._due and self._due[0].at <= until:
            self._pass(until, top=False)
        self.now = max(self.now, until)

    def run(self, until: datetime) -> None:
        """Let time pass while nothing is under way."""
        self._pass(until, top=True)
        self.now = max(self.now, until)

    def _pass(self, until: datetime, *, top: bool) -> None:
        later: list[_Due] = []
        try:
            while self._due and self._due[0].at <= until:
                one = heapq.heappop(self._due)
                if one.alone and not top:
                    later.append(one)
                else:
                    self.now = max(self.now, one.at)
                    one.act()
        finally:
            for one in later:
                heapq.heappush(self._due, one)

    def datetimes(self) -> type[datetime]:
        """A class `datetime` whose `now` is this clock's, for modules that ask for the time."""
        clock = self

        class Simulated(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> Any:  # noqa: ANN401  as the base class has it
                return clock.now.astimezone(tz or UTC)

        return Simulated
