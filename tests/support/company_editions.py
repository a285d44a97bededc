"""Makes random editions of a batch: growth, corrections, factors, days lost and inserted, other spelling."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta

Row = tuple[str, ...]
"""Day, open, high, low, close, volume."""


@dataclass
class Vendor:
    """The companies of a source as they are now, by name: rows by day. Each `step` changes some of them."""

    seed: int
    companies: dict[str, list[Row]] = field(default_factory=dict)
    """None of them is without rows."""
    away: dict[str, list[Row]] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    """Companies whose files cannot be used at this time."""
    steps: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        for _ in range(3):
            self._appear()

    def step(self) -> None:
        """Change the source in one to three ways."""
        self.broken.clear()
        for _ in range(self._random.randint(1, 3)):
            change = self._random.choice(CHANGES)
            self.steps.append(change.__name__)
            change(self)

    def _any(self) -> str:
        return self._random.choice(sorted(self.companies))

    def _row(self, day: str) -> Row:
        prices = sorted(self._random.uniform(5, 60) for _ in range(4))
        opened, closed = self._random.sample(prices[1:3], 2)
        return (
            day,
            *(f"{price:.4f}" for price in (opened, prices[3], prices[0], closed)),
            str(self._random.randint(0, 9999)),
        )

    def _days(self, first: str, count: int) -> list[str]:
        day, days = date.fromisoformat(first), []
        for _ in range(count):
            day += timedelta(days=self._random.choice((1, 1, 1, 3)))
            days.append(day.isoformat())
        return days

    def _appear(self) -> None:
        name = f"c{len(self.companies) + len(self.away)}x{self._random.randint(0, 999)}.us.csv"
        self.companies[name] = [self._row(day) for day in self._days("2001-01-01", self._random.randint(1, 40))]

    def _grow(self) -> None:
        for name in self._random.sample(sorted(self.companies), k=self._random.randint(1, len(self.companies))):
            rows = self.companies[name]
            rows += [self._row(day) for day in self._days(max(rows)[0], self._random.randint(1, 3))]

    def _correct(self) -> None:
        rows = self.companies[self._any()]
        for _ in range(self._random.randint(1, 3)):
            position = self._random.randrange(len(rows))
            rows[position] = self._row(rows[position][0])

    def _factor(self) -> None:
        rows = self.companies[self._any()]
        factor, until = self._random.choice((0.5, 0.9975, 0.98, 3.0)), self._random.randint(1, len(rows))
        for position in range(until):
            day, *prices, volume = rows[position]
            rows[position] = (day, *(f"{float(price) * factor:.4f}" for price in prices), volume)

    def _remove(self) -> None:
        """Some days before the last row, if there are any."""
        rows = self.companies[self._any()]
        first, count = self._random.randrange(len(rows)), self._random.randint(1, 3)
        del rows[first : min(first + count, len(rows) - 1)]

    def _insert(self) -> None:
        rows = self.companies[self._any()]
        days = {row[0] for row in rows}
        free = [day for day in self._days(min(days), 5) if day not in days and day < max(days)]
        rows += [self._row(day) for day in free]
        rows.sort()

    def _cut(self) -> None:
        rows = self.companies[self._any()]
        del rows[max(1, len(rows) * self._random.randint(2, 9) // 10) :]

    def _respell(self) -> None:
        name = self._any()
        self.companies[name] = [
            (row[0], *(re.sub(r"(\.\d*)$", r"\g<1>0", price)[:40] for price in row[1:5]), row[5])
            for row in self.companies[name]
        ]

    def _leave(self) -> None:
        if len(self.companies) > 1:
            name = self._any()
            self.away[name] = self.companies.pop(name)

    def _return(self) -> None:
        if self.away:
            name = self._random.choice(sorted(self.away))
            self.companies[name] = self.away.pop(name)

    def _break(self) -> None:
        if len(self.companies) - len(self.broken) > 1:
            self.broken.add(self._any())

    def _unsort(self) -> None:
        self._random.shuffle(self.companies[self._any()])

    def _nothing(self) -> None:
        pass


CHANGES: list[Callable[[Vendor], None]] = [
    Vendor._appear, Vendor._grow, Vendor._grow, Vendor._correct, Vendor._factor, Vendor._remove, Vendor._insert,
    Vendor._cut, Vendor._respell, Vendor._leave, Vendor._return, Vendor._break, Vendor._nothing, Vendor._unsort,
]  # fmt: skip
