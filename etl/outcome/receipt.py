"""Receipt: what one attempted run did, counted and balanced; as JSON for machines and as text for the mail."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from etl.errors import BatchError
from etl.files.manifest import Manifest, Quarantined

FOLDER = "receipts"


@dataclass(frozen=True)
class Run:
    """One attempted run: its id, when it began (UTC), and the seconds of the steps that are already done."""

    run_id: str
    started_at: datetime
    steps: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def begin(cls, prefix: str) -> Run:
        """A run that begins now, with an id of its own."""
        now = datetime.now(UTC)
        return cls(run_id=f"{prefix}__{now:%Y-%m-%dT%H-%M-%S}Z_{uuid.uuid4().hex[:6]}", started_at=now)


@dataclass(frozen=True)
class FileCounts:
    """Company files: `listed` by the index = accepted + quarantined + missing."""

    listed: int = 0
    accepted: int = 0
    quarantined: int = 0
    missing: int = 0


@dataclass(frozen=True)
class RowCounts:
    """Rows: read = accepted + rejected, and after a load accepted = inserted + unchanged.

    `flagged` rows are among the accepted. `inserted`, `deleted` and `unchanged` are None where nothing was loaded.
    """

    read: int = 0
    accepted: int = 0
    rejected: int = 0
    flagged: int = 0
    inserted: int | None = None
    deleted: int | None = None
    unchanged: int | None = None


@dataclass(frozen=True)
class Receipt:
    """One attempted run. `state`: running, success, failed, or dry_run (nothing was written to the table)."""

    run_id: str
    state: str
    started_at: datetime
    elapsed_seconds: float = 0.0
    files: FileCounts = FileCounts()
    rows: RowCounts = RowCounts()
    quarantined: tuple[Quarantined, ...] = ()
    notes: tuple[str, ...] = ()
    source: str = ""
    output: str = ""
    steps: Mapping[str, float] = field(default_factory=dict)
    """Seconds of each step."""
    error: str | None = None
    mail: str | None = None
    """What became of the run's mail: sent, kept (refused, for the watchdog to send), or None while nothing is known."""

    @classmethod
    def of_manifest(cls, manifest: Manifest, *, run: Run, output: str) -> Receipt:
        """What processing did, before anything is loaded."""
        return cls(
            run_id=run.run_id,
            state="success",
            started_at=run.started_at,
            steps=run.steps,
            files=FileCounts(
                listed=manifest.listed, accepted=len(manifest.slices), quarantined=len(manifest.quarantined)
            ),
            rows=RowCounts(
                read=manifest.rows_read,
                accepted=sum(part.rows for part in manifest.slices),
                rejected=manifest.rows_rejected,
                flagged=sum(part.flagged for part in manifest.slices),
            ),
            quarantined=manifest.quarantined,
            notes=manifest.notes,
            source=manifest.source,
            output=output,
        )

    def timed(self, **steps: float) -> Receipt:
        """This receipt as of now, with the seconds of further steps."""
        elapsed = (datetime.now(UTC) - self.started_at).total_seconds()
        rounded = {step: round(seconds, 3) for step, seconds in steps.items()}
        return replace(self, elapsed_seconds=round(elapsed, 3), steps={**self.steps, **rounded})

    def check_balance(self) -> None:
        """Raise BatchError, with the sum that is wrong, unless every file and row is accounted for."""
        files, rows = self.files, self.rows
        sums = [
            ("files.listed", files.listed, "accepted + quarantined + missing",
             files.accepted + files.quarantined + files.missing),
            ("rows.read", rows.read, "accepted + rejected", rows.accepted + rows.rejected),
        ]  # fmt: skip
        if rows.inserted is not None:
            sums.append(("rows.accepted", rows.accepted, "inserted + unchanged", rows.inserted + (rows.unchanged or 0)))
        wrong = [
            f"{name} is {total:,}, but {parts} is {count:,}" for name, total, parts, count in sums if total != count
        ]
        if wrong:
            raise BatchError(
                f"The receipt does not balance: {'; '.join(wrong)}. Nothing was loaded. "
                "Run process again; if it happens again, report it with the manifest."
            )

    def to_json(self) -> str:
        """One object; times in UTC (ISO 8601), `elapsed_seconds` and `steps` in seconds."""
        rows = {name: count for name, count in vars(self.rows).items() if count is not None}
        facts: dict[str, Any] = {
            **vars(self),
            "steps": dict(self.steps),
            "started_at": self.started_at.astimezone(UTC).isoformat(timespec="milliseconds"),
            "files": vars(self.files),
            "rows": rows,
            "quarantined": [vars(entry) for entry in self.quarantined],
        }
        return json.dumps(facts, ensure_ascii=False)

    @classmethod
    def from_json(cls, content: str | bytes) -> Receipt:
        return cls.from_facts(json.loads(content))

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Receipt:
        """A receipt from the object that its JSON holds."""
        return cls(
            **{
                **facts,
                "started_at": datetime.fromisoformat(facts["started_at"]),
                "files": FileCounts(**facts["files"]),
                "rows": RowCounts(**facts["rows"]),
                "quarantined": tuple(Quarantined(**entry) for entry in facts["quarantined"]),
                "notes": tuple(facts["notes"]),
            }
        )

    def to_text(self) -> str:
        """The receipt for a person: what happened, the counts, what was put aside, what to look at."""
        files, rows = self.files, self.rows
        lines = [
            self._headline(),
            "",
            f"run        {self.run_id}",
            f"started    {self.started_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC, took {self.elapsed_seconds:.1f} s"
            + "".join(f", {step} {seconds:.1f} s" for step, seconds in self.steps.items()),
            f"files      {files.listed:,} listed = {files.accepted:,} accepted + {files.quarantined:,} quarantined"
            f" + {files.missing:,} missing",
            f"rows       {rows.read:,} read = {rows.accepted:,} accepted + {rows.rejected:,} rejected"
            f" ({rows.flagged:,} of the accepted flagged)",
        ]
        if rows.inserted is not None:
            lines.append(
                f"table      {rows.accepted:,} accepted = {rows.inserted:,} inserted + {rows.unchanged:,} unchanged"
                f"; {rows.deleted:,} old rows deleted"
            )
        if self.source:
            lines.append(f"source     {self.source}")
        if self.output:
            lines.append(f"output     {self.output}")
        if self.quarantined:
            lines += ["", "Quarantined files (their earlier rows, if any, stay in the table):"]
            lines += [f"  {entry.file}: {entry.reason}" for entry in self.quarantined[:_LISTED]]
            if len(self.quarantined) > _LISTED:
                lines.append(f"  and {len(self.quarantined) - _LISTED:,} more, all in the receipt's JSON")
        if self.notes:
            lines += ["", "To look at:", *(f"  {note}" for note in self.notes)]
        return "\n".join(lines) + "\n"

    def _headline(self) -> str:
        if self.state == "failed":
            return f"FAILED: {self.error}"
        if self.state == "dry_run":
            return "DRY RUN: nothing was written to the table. A run would do this:"
        if self.rows.inserted is None:
            return f"Processed {self.rows.accepted:,} rows of {self.files.accepted:,} companies."
        if self.rows.inserted == 0 and self.rows.deleted == 0:
            return f"0 changes: the table already held these {self.rows.unchanged:,} rows."
        return f"Loaded {self.rows.inserted:,} rows; {self.files.accepted:,} companies are up to date."


_LISTED = 50  # quarantined files that the text names
