"""The manifest: what the combined file holds and what is not in it, as facts and as `manifest.json`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, field, replace
from datetime import date
from typing import Any

from etl.batch.plan import Plan
from etl.batch.policy import Choice
from etl.batch.storage import Storage
from etl.errors import BatchError, FileChangedError, NothingReadableError, NothingUsableError, SettingsError
from etl.files.rules import QuarantineReason

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
    in_day_order: bool | None = None
    """Whether each row is of a later day than the one before; None in a manifest of version 0.1."""

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
    lines_bytes: int = 0
    flagged_bytes: int = 0
    """Lengths of its lines in the other lists of rows (row_lists.py)."""
    first_line: int = 0
    first_column: str = ""
    first_reason: str = ""
    """Of its first rejected row."""

    @property
    def list_bytes(self) -> tuple[int, int, int]:
        """Length of its lines in each list of rows."""
        return self.rejected_bytes, self.lines_bytes, self.flagged_bytes


@dataclass(frozen=True)
class QuarantinedFile:
    """A company file that cannot be used at all, and why."""

    file: str
    reason: str


@dataclass(frozen=True)
class RejectedFile:
    """A company file with rejected rows: how many, and the first of them (line from 1, column, reason)."""

    file: str
    rows: int
    line: int
    column: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """What one pass over a batch, or over a shard of it, has made.

    `listed` company files = one for each slice + `quarantined` + `missing`; `rows_read` = the rows of the slices +
    `rows_rejected`. The offsets of a shard's slices begin at 0, and it has no `missing`.
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
    list_versions: Mapping[str, str] = field(default_factory=dict)
    """Combined file and lists of rows as the storage lists them: the manifest describes these and no others."""
    files_read: int = 0
    files_taken_over: int = 0
    """How many were read by this run, and of how many the last outputs were used."""
    repeated: tuple[str, ...] = ()
    """Names that the company index holds more than once; each is loaded once."""
    ignored: int = 0
    """CSV files of the source that the company index does not name."""
    notes: tuple[str, ...] = ()
    """What version 0.1 wrote instead of facts."""
    missing: tuple[str, ...] = ()
    """Company files that the company index names and that are not in the source."""
    consent: Choice | None = None
    """By whose choice the batch may lack them."""
    column_aliases: str = ""
    """Other names of columns by which they were found too, as they were set."""

    @property
    def combined_bytes(self) -> int:
        return self.slices[-1].end if self.slices else 0

    @property
    def list_bytes(self) -> tuple[int, ...]:
        """Length of each list of rows, without its header."""
        return tuple(map(sum, zip(*(record.list_bytes for record in self.files.values()), strict=True))) or (0, 0, 0)

    @property
    def rejected_files(self) -> tuple[RejectedFile, ...]:
        """Company files with rejected rows, most rows first."""
        found = (
            RejectedFile(name, record.rejected, record.first_line, record.first_column, record.first_reason)
            for name, record in self.files.items()
            if record.rejected
        )
        return tuple(sorted(found, key=lambda one: -one.rows))

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
            "consent": self.consent and vars(self.consent),
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
            since, consent = facts.pop("since"), facts.pop("consent", None)
            return cls(
                since=since and date.fromisoformat(since),
                company_index=facts.pop("index"),
                slices=tuple(Slice(**entry) for entry in facts.pop("slices")),
                quarantined=tuple(QuarantinedFile(**entry) for entry in facts.pop("quarantined")),
                files={name: FileRecord(*record) for name, record in facts.pop("files", {}).items()},
                repeated=tuple(facts.pop("repeated", ())),
                notes=tuple(facts.pop("notes", ())),
                missing=tuple(facts.pop("missing", ())),
                consent=consent and Choice(**consent),
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
        listed=sum(one.listed for one in manifests) + len(plan.missing),
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
        missing=plan.missing,
        consent=plan.consent,
    )


def check_usable(manifest: Manifest) -> None:
    """Raise NothingUsableError when a batch has not one accepted row: the reasons, the most frequent first.

    Raises NothingReadableError where S3 or the file system refuses every file: that is no fault of the files.
    """
    if any(entry.rows for entry in manifest.slices):
        return
    reasons = Counter(entry.reason for entry in manifest.quarantined).most_common(3)
    listed = "; ".join(f"{count} x {reason}" for reason, count in reasons)
    quarantined = tuple((entry.file, entry.reason) for entry in manifest.quarantined)
    refused = QuarantineReason.UNREADABLE.partition("{")[0]
    there = manifest.listed - len(manifest.missing)
    if len(quarantined) == there and all(reason.startswith(refused) for _, reason in quarantined):
        raise NothingReadableError(
            f"No company file of {manifest.source} can be read ({listed}). The table is unchanged. Correct that, then "
            "run it again.",
            listed=manifest.listed,
            quarantined=quarantined,
            missing=manifest.missing,
        )
    if manifest.rows_before_since:
        message = (
            f"No row is dated {manifest.since} or later, {manifest.rows_before_since:,} are older. The table is "
            "unchanged. Check --since."
        )
    else:
        message = (
            f"No company file of the batch is usable ({listed}). The table is unchanged. "
            "Fix the export, then try again."
        )
    raise NothingUsableError(message, listed=manifest.listed, quarantined=quarantined, missing=manifest.missing)
