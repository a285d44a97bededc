"""What the last run has made of each company file, so that a file whose version is known is not read again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import date
from functools import cache
from operator import add
from pathlib import Path

from etl.batch.storage import Listed, Storage
from etl.errors import BatchError, FileChangedError
from etl.files import combined_file
from etl.files.manifest import NAME, FileRecord, Manifest, Slice
from etl.files.outputs import LastFile
from etl.files.row_lists import HEADERS
from etl.package_files import read_package_file

_MADE_BY = (
    "rules.py", "packed.py", "header.py", "flags.py", "company_file.py", "row_format.py", "plain_rows.cpp",
    "row_lists.py",
)  # fmt: skip


@cache
def rules_digest() -> str:
    """Identifies the code that makes slices and lists of rows of company files: another one reads every file again."""
    digest = hashlib.sha256()
    for name in _MADE_BY:
        digest.update(read_package_file(Path(__file__).with_name(name)))
    return digest.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class TakenOver:
    """What the last run made of a company file: its slice, or the reason why it is quarantined."""

    record: FileRecord
    slice: Slice | None
    reason: str
    list_starts: tuple[int, ...]
    """Where its lines begin in the last version of each list of rows."""


class LastOutputs:
    """The outputs of the last run. They count only when they are the very files that their manifest describes.

    And when the same rules made them, of the same source and the same days, with the same names for columns; else
    nothing is known.
    """

    def __init__(
        self, output: Storage, *, source: Storage, since: date | None, column_aliases: str = "", reread: bool
    ) -> None:
        self.manifest = None if reread else _trusted(output, (source.url, since, column_aliases))
        self._slices: dict[str, Slice] = {}
        self._reasons: dict[str, str] = {}
        self._starts: dict[str, tuple[int, ...]] = {}
        if self.manifest:
            self._slices = {entry.company_name: entry for entry in self.manifest.slices}
            self._reasons = {entry.file: entry.reason for entry in self.manifest.quarantined}
            starts = tuple(map(len, HEADERS.values()))
            for name, record in self.manifest.files.items():
                self._starts[name] = starts
                starts = tuple(map(add, starts, record.list_bytes))

    @property
    def combined(self) -> LastFile | None:
        """The combined file."""
        known = self.manifest
        return LastFile(combined_file.NAME, known.combined_bytes, known.combined_version) if known else None

    @property
    def lists(self) -> tuple[LastFile | None, ...]:
        """Each list of rows."""
        if not self.manifest:
            return (None,) * len(HEADERS)
        versions, lengths = self.manifest.list_versions, zip(HEADERS.items(), self.manifest.list_bytes, strict=True)
        return tuple(LastFile(name, len(header) + length, versions[name]) for (name, header), length in lengths)

    def find(self, name: str, listed: Listed) -> TakenOver | None:
        """What was made of this version of a company file, if it is known."""
        record = self.manifest.files.get(name) if self.manifest else None
        if (
            record is None
            or not listed.version
            or (record.version, record.size_bytes)
            != (
                listed.version,
                listed.size_bytes,
            )
        ):
            return None
        return TakenOver(record, self._slices.get(name), self._reasons.get(name, ""), self._starts[name])

    def slice_of(self, name: str) -> Slice | None:
        """The last slice of a company, whatever its company file was."""
        return self._slices.get(name)


def _trusted(output: Storage, made_of: tuple[str, date | None, str]) -> Manifest | None:
    """The manifest of the output, when its source, days and names of columns are these."""
    try:
        manifest = Manifest.from_json(output.read(NAME))
        if (manifest.source, manifest.since, manifest.column_aliases) != made_of or manifest.rules != rules_digest():
            return None
        found = output.listing()
        versions = {name: found[name].version for name in (combined_file.NAME, *HEADERS) if name in found}
        described = {combined_file.NAME: manifest.combined_version, **manifest.list_versions}
        return manifest if versions == described and len(versions) == 1 + len(HEADERS) else None
    except (BatchError, FileChangedError):
        return None
