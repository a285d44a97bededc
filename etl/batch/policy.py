"""The policy of a run: how many rows may be rejected, and which company files may be missing, by whose choice."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal

from etl.batch.company_index import company_name, read_names
from etl.errors import SettingsError

_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*%", re.ASCII)
_COUNT = re.compile(r"\d{1,18}", re.ASCII)


@dataclass(frozen=True)
class Choice:
    """What somebody chose, as they wrote it, and where: `the setting MBD_MAX_REJECTED`, `the option --max-rejected`."""

    value: str
    set_by: str


@dataclass(frozen=True)
class Policy:
    """What may be wrong with a batch that is loaded all the same; where nothing is chosen, the usual rules hold.

    `max_rejected`: a number of rows, or a share of the rows read such as `1%`. `allow_missing`: a number of company
    files, or their names as `read_names` takes them. Raises SettingsError for what is neither.
    """

    max_rejected: Choice | None = None
    allow_missing: Choice | None = None

    def __post_init__(self) -> None:
        if (consent := self.allow_missing) and consent.value.encode(errors="replace").decode() != consent.value:
            raise SettingsError(f"{consent.value[:80]!a}, by {consent.set_by}, is not UTF-8. Write the names again.")
        choice = self.max_rejected
        if choice is None or _COUNT.fullmatch(choice.value):
            return
        share = _SHARE.fullmatch(choice.value)
        if not share or Decimal(share[1]) > 100:
            raise SettingsError(
                f"{choice.value[:80]!r}, by {choice.set_by}, is no number of rows that may be rejected. Write a whole "
                "number such as 100, or a share of the rows read such as 1%."
            )

    @property
    def choices(self) -> dict[str, Choice]:
        """What was chosen, by name."""
        return {name: choice for name, choice in vars(self).items() if choice}

    def rejects_too_many(self, *, rejected: int, read: int) -> bool:
        """Whether more rows are rejected than may be."""
        if self.max_rejected is None:
            return False
        share = _SHARE.fullmatch(self.max_rejected.value)
        return rejected * 100 > Decimal(share[1]) * read if share else rejected > int(self.max_rejected.value)

    def allows(self, missing: Collection[str]) -> bool:
        """Whether all of these company files may be missing."""
        if self.allow_missing is None:
            return not missing
        if _COUNT.fullmatch(self.allow_missing.value):
            return len(missing) <= int(self.allow_missing.value)
        return set(missing) <= set(map(company_name, read_names(self.allow_missing.value)))
