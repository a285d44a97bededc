"""The receipt: what one attempted run did, as facts that balance, and as JSON.

Long because every key of a receipt is described here.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from etl.batch.policy import Choice, Policy
from etl.batch.storage import Storage
from etl.errors import BatchError, FileChangedError
from etl.files.flags import FlaggedRow
from etl.files.manifest import Manifest, QuarantinedFile, RejectedFile
from etl.outcome.delivery import Delivery
from etl.revision import code_version
from etl.table.journal import HeldCompany
from etl.table.load import Loaded
from etl.table.restatements import Restatement
from etl.table.undo import Undone

FOLDER = "receipts"
REPORTS = "reports"


class State(StrEnum):
    """How far a run has come."""

    RUNNING = "running"
    """The run has begun and has not ended."""
    SUCCESS = "success"
    """The run did all of its work."""
    FAILED = "failed"
    """The run was stopped; `error` says by what."""
    DRY_RUN = "dry_run"
    """The run ended well and wrote nothing to the table, as it was asked."""


class MailState(StrEnum):
    """What became of a run's mail."""

    SENT = "sent"
    """SNS took the mail."""
    KEPT = "kept"
    """SNS refused the mail; it is in `Output/notices/` until the watchdog sends it."""


@dataclass(frozen=True)
class Marker:
    """The object that said that the batch is complete."""

    bucket: str
    key: str
    etag: str = ""

    @classmethod
    def of_conf(cls, conf: object) -> Marker | None:
        """The marker in a DagRun's conf (docs/contracts.md), or None where a run was started without one."""
        match conf:
            case {"marker": {"bucket": str(bucket), "key": str(key), **rest}}:
                return cls(bucket, key, str(rest.get("etag", "")))
            case _:
                return None

    @property
    def url(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True)
class Run:
    """One attempted run: its id, when it began (UTC), the seconds of the steps already done, and what started it."""

    run_id: str
    started_at: datetime
    steps: Mapping[str, float] = field(default_factory=dict)
    marker: Marker | None = None

    @classmethod
    def begin(cls, prefix: str) -> Run:
        """A run that begins now, with an id of its own."""
        now = datetime.now(UTC)
        return cls(run_id=f"{prefix}__{now:%Y-%m-%dT%H-%M-%S}Z_{uuid.uuid4().hex[:6]}", started_at=now)


@dataclass(frozen=True)
class FileCounts:
    """Company files: `listed` by the company index = accepted + quarantined + missing.

    Of them `read` were read in this run; of `taken_over`, whose version was known, the last outputs were used.
    """

    listed: int = 0
    accepted: int = 0
    quarantined: int = 0
    missing: int = 0
    read: int = 0
    taken_over: int = 0


@dataclass(frozen=True)
class RowCounts:
    """Rows: read = accepted + rejected, and after a load accepted = inserted + unchanged + held.

    `flagged` rows are among the accepted. `inserted`, `deleted` and `unchanged` are None where nothing was loaded. A
    row that got other values counts as deleted and as inserted. `held`: rows of new files of companies that are held
    back; None where none is.
    """

    read: int = 0
    accepted: int = 0
    rejected: int = 0
    flagged: int = 0
    inserted: int | None = None
    deleted: int | None = None
    unchanged: int | None = None
    held: int | None = None


@dataclass(frozen=True)
class Receipt:
    """One attempted run. Keys of its JSON are only added, never renamed."""

    run_id: str
    state: State
    started_at: datetime
    elapsed_seconds: float = 0.0
    files: FileCounts = FileCounts()
    rows: RowCounts = RowCounts()
    quarantined: tuple[QuarantinedFile, ...] = ()
    newly_quarantined: tuple[str, ...] = ()
    """Which of these the last successful load did not quarantine; none where there was no load before."""
    notes: tuple[str, ...] = ()
    source: str = ""
    output: str = ""
    steps: Mapping[str, float] = field(default_factory=dict)
    """Seconds of each step."""
    error: str | None = None
    mail: MailState | None = None
    """None while nothing is known."""
    marker: Marker | None = None
    version: str | None = None
    """The version of the code that ran; None in receipts of 0.1."""
    held: tuple[HeldCompany, ...] = ()
    """Companies that keep their rows, because their new files lost days."""
    restatements: tuple[Restatement, ...] = ()
    """What the load did to the history of companies, the largest first."""
    restated: int = 0
    """How many restatements there are in all: before 0.2, `restatements` had the ten largest."""
    previous: str | None = None
    """SHA-256 of the receipt that was recorded before it in the same database; None in the first one."""
    undone: Undone | None = None
    """What an undo took back; None of any other run."""
    missing: tuple[str, ...] = ()
    """Company files that the company index names and that are not in the source."""
    rejected: tuple[RejectedFile, ...] = ()
    """Company files with rejected rows, each with their number and the first of them; most rows first."""
    rejected_percent: float | None = None
    """Rejected rows in percent of the rows read (0.5 is 0.5 %); None where no row was read."""
    flagged: tuple[FlaggedRow, ...] = ()
    """The first flagged rows; all of them are in `Output/flagged_rows.csv`."""
    policy: Mapping[str, Choice] = field(default_factory=dict)
    """What somebody chose for this run: `max_rejected`, `allow_missing`, each with where they chose it."""
    new: Mapping[str, int] = field(default_factory=dict)
    """Companies that were not in the table before, and their rows."""
    grown: Mapping[str, int] = field(default_factory=dict)
    """Companies that got days behind their last one, and how many."""
    changed_outside: Mapping[str, int] = field(default_factory=dict)
    """Companies of which the table still holds another number of rows than were loaded, and that number."""
    written_outside: tuple[str, ...] = ()
    """Writes of somebody else to the table, whose values no load has compared yet: what, by whom, and when last."""
    dry_run: bool = False
    """Whether the run was asked to write nothing to the table, also where it failed."""
    column_aliases: str = ""
    """Other names by which columns were found too, as they were set."""
    channels: tuple[Delivery, ...] = ()
    """Which channels got the message, in addition to the mail. Known after the run has ended: only in `Output/`."""

    @classmethod
    def of_run(cls, run: Run, *, state: State, **facts: Any) -> Receipt:  # noqa: ANN401  whatever a receipt has
        """A receipt that says nothing yet about files and rows."""
        return cls(
            run_id=run.run_id,
            state=state,
            started_at=run.started_at,
            steps=run.steps,
            marker=run.marker,
            version=code_version(),
            **facts,
        )

    @classmethod
    def of_manifest(
        cls, manifest: Manifest, *, run: Run, output: str, notes: tuple[str, ...] = (), policy: Policy | None = None
    ) -> Receipt:
        """What processing did, before anything is loaded; `policy`: by which it is judged."""
        chosen = policy.choices if policy else {}
        if manifest.consent:  # it was asked for when the batch was planned
            chosen["allow_missing"] = manifest.consent
        percent = 100 * manifest.rows_rejected / manifest.rows_read if manifest.rows_read else None
        return cls.of_run(
            run,
            state=State.SUCCESS,
            missing=manifest.missing,
            rejected=manifest.rejected_files,
            rejected_percent=percent if percent is None else round(percent, 4),
            policy=chosen,
            files=FileCounts(
                listed=manifest.listed,
                accepted=len(manifest.slices),
                quarantined=len(manifest.quarantined),
                missing=len(manifest.missing),
                read=manifest.files_read,
                taken_over=manifest.files_taken_over,
            ),
            rows=RowCounts(
                read=manifest.rows_read,
                accepted=sum(entry.rows for entry in manifest.slices),
                rejected=manifest.rows_rejected,
                flagged=sum(entry.flagged for entry in manifest.slices),
            ),
            quarantined=manifest.quarantined,
            notes=notes,
            source=manifest.source,
            output=output,
            column_aliases=manifest.column_aliases,
        )

    def with_load(self, loaded: Loaded) -> Receipt:
        """This receipt with what a load did."""
        held = sum(one.rows for one in loaded.held) if loaded.held else None
        return replace(
            self,
            rows=replace(
                self.rows, inserted=loaded.inserted, deleted=loaded.deleted, unchanged=loaded.unchanged, held=held
            ),
            newly_quarantined=tuple(
                one.file
                for one in self.quarantined
                if loaded.quarantined_before is not None and one.file not in loaded.quarantined_before
            ),
            held=loaded.held,
            restatements=loaded.restatements,
            restated=len(loaded.restatements),
            new=dict(sorted(loaded.new.items())),
            grown=dict(sorted(loaded.grown.items())),
            changed_outside=dict(loaded.changed_outside),
            written_outside=tuple(map(written, loaded.not_compared)),
            previous=loaded.previous,
            flagged=loaded.flagged,
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
            parts = "inserted + unchanged" + " + held" * bool(rows.held)
            loaded = rows.inserted + (rows.unchanged or 0) + (rows.held or 0)
            sums.append(("rows.accepted", rows.accepted, parts, loaded))
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
        return json.dumps(self.facts(), ensure_ascii=False)

    def facts(self) -> dict[str, Any]:
        """The object that the JSON holds."""
        rows = {name: count for name, count in vars(self.rows).items() if count is not None}
        return {
            **vars(self),
            "started_at": self.started_at.astimezone(UTC).isoformat(timespec="milliseconds"),
            "files": vars(self.files),
            "rows": rows,
            "quarantined": [vars(entry) for entry in self.quarantined],
            "marker": self.marker and vars(self.marker),
            "held": [vars(one) for one in self.held],
            "restatements": [vars(one) for one in self.restatements],
            "undone": self.undone and vars(self.undone),
            "rejected": [vars(one) for one in self.rejected],
            "flagged": [vars(one) for one in self.flagged],
            "policy": {name: vars(choice) for name, choice in self.policy.items()},
            "channels": [vars(one) for one in self.channels],
        }

    @classmethod
    def from_json(cls, content: str | bytes) -> Receipt:
        return cls.from_facts(json.loads(content))

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Receipt:
        """A receipt from the object that its JSON holds."""
        return cls(
            **{
                **facts,
                "state": State(facts["state"]),
                "mail": MailState(facts["mail"]) if facts.get("mail") else None,
                "marker": Marker(**facts["marker"]) if facts.get("marker") else None,
                "started_at": datetime.fromisoformat(facts["started_at"]),
                "files": FileCounts(**facts["files"]),
                "rows": RowCounts(**facts["rows"]),
                "quarantined": tuple(QuarantinedFile(**entry) for entry in facts["quarantined"]),
                "newly_quarantined": tuple(facts.get("newly_quarantined", ())),
                "notes": tuple(facts["notes"]),
                "held": tuple(HeldCompany(**one) for one in facts.get("held", ())),
                "restatements": tuple(Restatement.of(one) for one in facts.get("restatements", ())),
                "undone": Undone.of(facts["undone"]) if facts.get("undone") else None,
                "missing": tuple(facts.get("missing", ())),
                "written_outside": tuple(facts.get("written_outside", ())),
                "rejected": tuple(RejectedFile(**one) for one in facts.get("rejected", ())),
                "flagged": tuple(FlaggedRow(**one) for one in facts.get("flagged", ())),
                "policy": {name: Choice(**choice) for name, choice in facts.get("policy", {}).items()},
                "channels": tuple(Delivery.of(one) for one in facts.get("channels", ())),
            }
        )


def written(statement: tuple[str, str, datetime]) -> str:
    """A write of somebody else to the table, such as "UPDATE by joe at 2026-11-22 10:15 UTC"."""
    user, operation, at = statement
    return f"{operation} by {user} at {at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def write_receipt(receipt: Receipt, *, output: Storage) -> None:
    """Put the receipt where people and the watchdog look for it."""
    with output.write(file_name(receipt.run_id)) as file:
        file.write(receipt.to_json().encode())


def read_receipt(run_id: str, *, output: Storage) -> Receipt | None:
    """The receipt of a run, if it has one. Raises BatchError when the file is not a receipt."""
    try:
        return Receipt.from_json(output.read(file_name(run_id)))
    except FileChangedError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise BatchError(f"{file_name(run_id)} is not a receipt of this version ({error}).") from error


def file_name(run_id: str) -> str:
    """The receipt's name below the output."""
    return f"{FOLDER}/{run_id}.json"


def page_name(run_id: str) -> str:
    """The name below the output of a run's report page."""
    return f"{REPORTS}/{run_id}.html"
