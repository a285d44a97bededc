"""Manifest: what one `process` put into the combined file, as facts and as `manifest.json`."""

import json
from dataclasses import asdict, dataclass
from datetime import date

from etl.errors import BatchError
from etl.files.combined_file import Slice

NAME = "manifest.json"
_VERSION = 1


@dataclass(frozen=True)
class Quarantined:
    """A company file that could not be used, and why."""

    file: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """One processed batch: the slices of the combined file in its order, and what is not in it.

    `listed` company files = one for each slice + `quarantined`; `rows_read` = the rows of the slices + `rows_rejected`.
    """

    source: str
    index: str
    since: date | None
    listed: int
    rows_read: int
    rows_rejected: int
    rows_before_since: int
    slices: tuple[Slice, ...]
    quarantined: tuple[Quarantined, ...]
    notes: tuple[str, ...] = ()
    """What a person should know and no count shows: names held twice, files that the index does not name, ..."""

    def to_json(self) -> bytes:
        facts = {"version": _VERSION, **asdict(self), "since": self.since and self.since.isoformat()}
        return json.dumps(facts, ensure_ascii=False, indent=1).encode()

    @classmethod
    def from_json(cls, content: bytes) -> "Manifest":
        """Read a manifest back. Raises BatchError when it is not one of ours."""
        try:
            facts = json.loads(content)
            if facts.pop("version") != _VERSION:
                raise ValueError("another version")
            since = facts.pop("since")
            return cls(
                since=since and date.fromisoformat(since),
                slices=tuple(Slice(**entry) for entry in facts.pop("slices")),
                quarantined=tuple(Quarantined(**entry) for entry in facts.pop("quarantined")),
                notes=tuple(facts.pop("notes")),
                **facts,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BatchError(f"{NAME} is not a manifest of this version ({error}). Run process again.") from error
