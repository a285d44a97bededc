"""The manifest: what the combined file holds and what is not in it, as facts and as `manifest.json`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from typing import Any

from etl.batch.plan import Plan
from etl.batch.storage import Storage
from etl.errors import BatchError, FileChangedError, NothingUsableError, SettingsError

NAME = "manifest.json"
_VERSION = 1


@dataclass(frozen=True)
class Slice:
    """One company's consecutive rows in the combined file; `offset` and `length` in bytes."""

    company_name: str
    offset: int
    length: int
    sha256: str
    rows: int
    flagged: int

    @property
    def end(self) -> int:
        return self.offset + self.length


@dataclass(frozen=True)
class QuarantinedFile:
    """A company file that cannot be used at all, and why."""

    file: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """What one pass over a batch, or over a shard of it, has made.

    `listed` company files = one for each slice + `quarantined`; `rows_read` = the rows of the slices + `rows_rejected`.
    The offsets of a shard's slices begin at 0.
    """

    source: str
    company_index: str
    """Where it was read from: a path or an `s3://` URL."""
    since: date | None
    listed: int
    rows_read: int
    rows_rejected: int
    rows_before_since: int
    slices: tuple[Slice, ...]
    quarantined: tuple[QuarantinedFile, ...]
    rejected_bytes: int = 0
    """Length of the rejected rows, without their header."""
    extra_columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Columns that were left out, and the company files that have them."""
    repeated: tuple[str, ...] = ()
    """Names that the company index holds more than once; each is loaded once."""
    ignored: int = 0
    """CSV files of the source that the company index does not name."""
    notes: tuple[str, ...] = ()
    """What version 0.1 wrote instead of the last three."""

    @property
    def combined_bytes(self) -> int:
        return self.slices[-1].end if self.slices else 0

    @property
    def companies(self) -> tuple[str, ...]:
        return tuple(entry.company_name for entry in self.slices)

    def to_json(self) -> bytes:
        facts = {"version": _VERSION, **asdict(self), "since": self.since and self.since.isoformat()}
        facts["index"] = facts.pop("company_index")  # as version 0.1 calls it
        return json.dumps(facts, ensure_ascii=False, indent=1).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Manifest:
        """Read a manifest back. Raises BatchError when it is not one of ours."""
        try:
            facts: dict[str, Any] = json.loads(content)
            if facts.pop("version") != _VERSION:
                raise ValueError("another version")
            since = facts.pop("since")
            return cls(
                since=since and date.fromisoformat(since),
                company_index=facts.pop("index"),
                slices=tuple(Slice(**entry) for entry in facts.pop("slices")),
                quarantined=tuple(QuarantinedFile(**entry) for entry in facts.pop("quarantined")),
                repeated=tuple(facts.pop("repeated", ())),
                notes=tuple(facts.pop("notes", ())),
                **facts,
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BatchError(f"{NAME} is not a manifest of this version ({error}). Run process again.") from error


def read_manifest(output: Storage) -> Manifest:
    """The manifest in an output. Raises SettingsError when there is none, BatchError when it is not one of ours."""
    try:
        return Manifest.from_json(output.read(NAME))
    except FileChangedError as error:
        raise SettingsError(f"There is no {NAME} in {output.url}. Run process first.") from error


def join(shards: Iterable[Manifest], *, plan: Plan) -> Manifest:
    """The manifest that one pass over all files of the plan would have written."""
    manifests = list(shards)
    slices: list[Slice] = []
    extra_columns: dict[str, list[str]] = {}
    for one in manifests:
        begin = slices[-1].end if slices else 0
        slices += [replace(entry, offset=begin + entry.offset) for entry in one.slices]
        for columns, names in one.extra_columns.items():
            extra_columns.setdefault(columns, []).extend(names)
    return replace(
        manifests[0],
        listed=sum(one.listed for one in manifests),
        rows_read=sum(one.rows_read for one in manifests),
        rows_rejected=sum(one.rows_rejected for one in manifests),
        rows_before_since=sum(one.rows_before_since for one in manifests),
        rejected_bytes=sum(one.rejected_bytes for one in manifests),
        slices=tuple(slices),
        quarantined=tuple(entry for one in manifests for entry in one.quarantined),
        extra_columns=extra_columns,
        repeated=plan.repeated,
        ignored=plan.ignored,
    )


def check_usable(manifest: Manifest) -> None:
    """Raise NothingUsableError when a batch has not one accepted row: the reasons, the most frequent first."""
    if any(entry.rows for entry in manifest.slices):
        return
    if manifest.rows_before_since:
        message = (
            f"No row is dated {manifest.since} or later, {manifest.rows_before_since:,} are older. The table is "
            "unchanged. Check --since."
        )
    else:
        reasons = Counter(entry.reason for entry in manifest.quarantined).most_common(3)
        listed = "; ".join(f"{count} x {reason}" for reason, count in reasons)
        message = (
            f"No company file of the batch is usable ({listed}). The table is unchanged. "
            "Fix the export, then try again."
        )
    quarantined = tuple((entry.file, entry.reason) for entry in manifest.quarantined)
    raise NothingUsableError(message, listed=manifest.listed, quarantined=quarantined)
