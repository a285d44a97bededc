"""The manifest: what the combined file holds and what is not in it, as facts and as `manifest.json`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, field, replace
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


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A company file as it was processed: its version and size, and the counts that its slice does not have."""

    version: str
    """As the source listed it; empty when it is not known which version was read."""
    size_bytes: int
    read: int
    rejected: int
    rejected_bytes: int
    """Length of its lines in the rejected rows."""
    before_since: int
    extra_columns: str
    """Names of columns that were left out, between commas."""


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
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    """Each company file, in the order of the plan; empty in a manifest of version 0.1."""
    rules: str = ""
    """Which code made slices and rejected rows of the files."""
    combined_version: str = ""
    rejected_version: str = ""
    """The outputs as the storage lists them: the manifest describes these and no others."""
    files_read: int = 0
    files_taken_over: int = 0
    """How many were read by this run, and of how many the last outputs were used."""
    repeated: tuple[str, ...] = ()
    """Names that the company index holds more than once; each is loaded once."""
    ignored: int = 0
    """CSV files of the source that the company index does not name."""
    notes: tuple[str, ...] = ()
    """What version 0.1 wrote instead of facts."""

    @property
    def combined_bytes(self) -> int:
        return self.slices[-1].end if self.slices else 0

    @property
    def rejected_bytes(self) -> int:
        """Length of the rejected rows, without their header."""
        return sum(record.rejected_bytes for record in self.files.values())

    @property
    def extra_columns(self) -> dict[str, list[str]]:
        """Columns that were left out, and the company files that have them."""
        found: dict[str, list[str]] = {}
        for name, record in self.files.items():
            if record.extra_columns:
                found.setdefault(record.extra_columns, []).append(name)
        return found

    @property
    def companies(self) -> tuple[str, ...]:
        return tuple(entry.company_name for entry in self.slices)

    def to_json(self) -> bytes:
        facts = {
            "version": _VERSION,
            **vars(self),
            "since": self.since and self.since.isoformat(),
            "slices": [vars(entry) for entry in self.slices],
            "quarantined": [vars(entry) for entry in self.quarantined],
            "files": {name: astuple(record) for name, record in self.files.items()},
        }
        facts["index"] = facts.pop("company_index")  # as version 0.1 calls it
        return json.dumps(facts, ensure_ascii=False).encode()

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
                files={name: FileRecord(*record) for name, record in facts.pop("files", {}).items()},
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
    for one in manifests:
        begin = slices[-1].end if slices else 0
        slices += [replace(entry, offset=begin + entry.offset) for entry in one.slices] if begin else one.slices
    return replace(
        manifests[0],
        listed=sum(one.listed for one in manifests),
        rows_read=sum(one.rows_read for one in manifests),
        rows_rejected=sum(one.rows_rejected for one in manifests),
        rows_before_since=sum(one.rows_before_since for one in manifests),
        slices=tuple(slices),
        quarantined=tuple(entry for one in manifests for entry in one.quarantined),
        files={name: record for one in manifests for name, record in one.files.items()},
        files_read=sum(one.files_read for one in manifests),
        files_taken_over=sum(one.files_taken_over for one in manifests),
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
