"""Part: what one pass over company files did, as counted; the parts of a batch add up to its manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any

from etl.batch.gate import Batch
from etl.errors import BatchError
from etl.files.combined_file import Slice
from etl.files.manifest import Manifest, Quarantined


class NothingUsable(BatchError):
    """No company file of the batch has a row to load."""

    def __init__(self, message: str, *, listed: int, quarantined: tuple[Quarantined, ...]) -> None:
        super().__init__(message)
        self.listed, self.quarantined = listed, quarantined


@dataclass(frozen=True)
class Part:
    """Company files that follow each other in the index, processed: the offsets of the slices begin at 0."""

    rows_read: int
    rows_rejected: int
    rows_before_since: int
    rejected_bytes: int
    """Length of the rejected rows, without their header."""
    slices: tuple[Slice, ...]
    quarantined: tuple[Quarantined, ...]
    further_columns: Mapping[str, tuple[str, ...]]
    """Columns that were left out, and the files that have them."""

    @property
    def combined_bytes(self) -> int:
        return self.slices[-1].end if self.slices else 0

    def to_facts(self) -> dict[str, Any]:
        """What JSON can hold of it, which is all."""
        return asdict(self)

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Part:
        facts = dict(facts)
        return cls(
            slices=tuple(Slice(**entry) for entry in facts.pop("slices")),
            quarantined=tuple(Quarantined(**entry) for entry in facts.pop("quarantined")),
            further_columns={columns: tuple(names) for columns, names in facts.pop("further_columns").items()},
            **facts,
        )


def add_up(parts: Iterable[Part]) -> Part:
    """The part that one pass over all their files would have been."""
    parts = list(parts)
    slices: list[Slice] = []
    further_columns: dict[str, tuple[str, ...]] = {}
    for part in parts:
        begin = slices[-1].end if slices else 0
        slices += [replace(one, offset=begin + one.offset) for one in part.slices]
        for columns, names in part.further_columns.items():
            further_columns[columns] = (*further_columns.get(columns, ()), *names)
    return Part(
        rows_read=sum(part.rows_read for part in parts),
        rows_rejected=sum(part.rows_rejected for part in parts),
        rows_before_since=sum(part.rows_before_since for part in parts),
        rejected_bytes=sum(part.rejected_bytes for part in parts),
        slices=tuple(slices),
        quarantined=tuple(entry for part in parts for entry in part.quarantined),
        further_columns=further_columns,
    )


def check_usable(part: Part, *, batch: Batch, since: date | None) -> None:
    """Raise NothingUsable when a whole batch has not one accepted row: the reasons, the most frequent first."""
    if any(one.rows for one in part.slices):
        return
    if part.rows_before_since:
        message = (
            f"No row is dated {since} or later, {part.rows_before_since:,} are older. The table is unchanged. "
            "Check --since."
        )
    else:
        reasons = Counter(entry.reason for entry in part.quarantined).most_common(3)
        told = "; ".join(f"{count} x {reason}" for reason, count in reasons)
        message = (
            f"No company file of the batch is usable ({told}). The table is unchanged. Mend the export, then try again."
        )
    raise NothingUsable(message, listed=len(batch.files), quarantined=part.quarantined)


def describe(part: Part, *, batch: Batch, since: date | None) -> Manifest:
    """The manifest of a batch, or of a shard of one, that `part` says the processing of."""
    return Manifest(
        source=batch.source.url,
        index=batch.index_url,
        since=since,
        listed=len(batch.index.names),
        rows_read=part.rows_read,
        rows_rejected=part.rows_rejected,
        rows_before_since=part.rows_before_since,
        slices=part.slices,
        quarantined=part.quarantined,
        notes=tuple(_notes(part, batch=batch, since=since)),
    )


def _notes(part: Part, *, batch: Batch, since: date | None) -> Iterator[str]:
    if since is not None:
        yield (f"Only rows dated {since} or later were taken; {part.rows_before_since:,} older rows were left out.")
    if batch.index.repeated:
        yield f"The index names {', '.join(batch.index.repeated[:5])} more than once; each is loaded once."
    if batch.ignored:
        yield f"{batch.ignored:,} CSV files in the source are not named by the index; they were left alone."
    for columns, names in part.further_columns.items():
        yield f"{len(names)} files have further columns, left out: {_printable(columns)} (first: {names[0]})."


def _printable(text: str) -> str:
    """Text of the batch as a note may hold it: JSON in PostgreSQL takes no NUL, and a mail no escape codes."""
    return "".join(sign if sign.isprintable() else "?" for sign in text[:200])
