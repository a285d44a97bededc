"""Mails: the subject, every sentence of the text, and the one way to send them.

Long because every sentence of a mail is here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC

from etl.batch.aws import Aws, aws_errors
from etl.batch.storage import Storage
from etl.errors import EtlError, SettingsError
from etl.files.manifest import Manifest
from etl.outcome.receipt import MailState, Receipt, State, file_name, write_receipt
from etl.table.journal import LARGEST_LOSS, HeldCompany
from etl.table.load import Loaded
from etl.table.outside_writes import OutsideWrites
from etl.table.restatements import Kind, Restatement

NOTICES = "notices"
NO_INDEX = (
    "The table has no index (historical_stocks_data_company_day), and this user may not build one, so loads and "
    "queries of one company read the whole table. Run `mbd init-db` once as the table's owner, which builds it."
)
_NAME = re.compile(r"[A-Za-z]+(-[A-Za-z]+)*")  # RDS refuses two hyphens in a row
_LONGEST_BUCKET_NAME = 63  # docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_LARGEST_BODY_BYTES = 200_000  # SNS takes 262,144 for the whole message
_LISTED = 50  # quarantined files that the text names
_DROP_WARNING = 0.5  # of the last run's rows


@dataclass(frozen=True)
class Mailbox:
    """The topic that mails go to, and the person whose names are in the subject."""

    topic_arn: str
    first_name: str
    last_name: str

    def __post_init__(self) -> None:
        for name in (self.first_name, self.last_name):
            if not _NAME.fullmatch(name):
                raise SettingsError(
                    f"{name!r} cannot be part of bucket names and mail subjects. "
                    "Set MBD_FIRST_NAME and MBD_LAST_NAME to plain letters A to Z, with single hyphens inside."
                )
        bucket = f"de-mbd-predict-{self.first_name}-{self.last_name}-monitored-bucket"
        if len(bucket) > _LONGEST_BUCKET_NAME:
            raise SettingsError(
                f"MBD_FIRST_NAME and MBD_LAST_NAME are too long together: {bucket!r} has more than the "
                f"{_LONGEST_BUCKET_NAME} characters of a bucket's name. Shorten one."
            )

    def subject(self, *, success: bool) -> str:
        """`{First}_{Last}_Pipeline_Success` or `..._Failure`: constant, so that mail filters can rely on it."""
        first, last = (name[0].upper() + name[1:] for name in (self.first_name, self.last_name))
        return f"{first}_{last}_Pipeline_{'Success' if success else 'Failure'}"


def send(
    receipt: Receipt, *, mailbox: Mailbox, aws: Aws, output: Storage | None, may_write_receipt: bool = True
) -> tuple[Receipt, str | None]:
    """Publish the receipt, and note in it what became of its mail, so that a killed sender leaves more than silence.

    Returns the receipt, and why the mail was refused, if so: the load is kept either way. A refused message is kept in
    `Output/notices/` (where there is an output), from where the watchdog sends it later.
    """
    subject = mailbox.subject(success=receipt.state != State.FAILED)
    text = body(receipt, whole=output.url_of(file_name(receipt.run_id)) if output else "")
    refused = None
    try:
        sns = aws.sns
        with aws_errors(f"publish to {mailbox.topic_arn}"):
            sns.publish(TopicArn=mailbox.topic_arn, Subject=subject, Message=text)
        receipt = replace(receipt, mail=MailState.SENT)
    except EtlError as error:
        notice = {"TopicArn": mailbox.topic_arn, "Subject": subject, "Message": text}
        mail, where = _keep(notice, run_id=receipt.run_id, output=output)
        receipt, refused = replace(receipt, mail=mail), f"The mail was not sent: {error} {where}"
    if output and may_write_receipt:
        with suppress(EtlError):  # then the watchdog reports the run once more
            write_receipt(receipt, output=output)
    return receipt, refused


def _keep(notice: dict[str, str], *, run_id: str, output: Storage | None) -> tuple[MailState | None, str]:
    """Keep a refused message for later; returns what became of it, and where it is."""
    if output is None:
        return None, "There is no output to keep it in."
    name = f"{NOTICES}/{run_id}.json"
    try:
        with output.write(name) as file:
            file.write(json.dumps(notice).encode())
    except EtlError as error:
        return None, f"It could not be kept either: {error}"
    return MailState.KEPT, f"It is kept in {output.url_of(name)}."


def body(receipt: Receipt, *, whole: str) -> str:
    """The receipt's text, safe for SNS: no control characters, and cut with a pointer to the `whole` receipt."""
    safe = re.sub(r"[^\n\t\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", receipt_text(receipt))
    if whole:
        safe += f"\nreceipt    {whole}\n"
    encoded = safe.encode()
    if len(encoded) <= _LARGEST_BODY_BYTES:
        return safe
    return encoded[:_LARGEST_BODY_BYTES].decode(errors="ignore") + f"\n... cut here; the whole receipt: {whole}\n"


def receipt_text(receipt: Receipt) -> str:
    """The receipt for a person: what happened, the counts, what was quarantined, what to look at."""
    files, rows = receipt.files, receipt.rows
    lines = [
        _headline(receipt),
        "",
        f"run        {receipt.run_id}",
        f"started    {receipt.started_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC, took {receipt.elapsed_seconds:.1f} s"
        + "".join(f", {step} {seconds:.1f} s" for step, seconds in receipt.steps.items()),
        f"files      {files.listed:,} listed = {files.accepted:,} accepted + {files.quarantined:,} quarantined"
        f" + {files.missing:,} missing ({files.read:,} read, {files.taken_over:,} as in the last run)",
        f"rows       {rows.read:,} read = {rows.accepted:,} accepted + {rows.rejected:,} rejected"
        f" ({rows.flagged:,} of the accepted flagged)",
    ]
    if receipt.undone:
        undone = receipt.undone
        lines[4:] = [
            f"table      {undone.inserted:,} earlier rows put back, {undone.deleted:,} newer rows deleted, in "
            f"{_counted(undone.companies, 'company', 'companies')}",
            f"undone     {', '.join(undone.runs)}",
        ]
    if rows.inserted is not None:
        lines.append(
            f"table      {rows.accepted:,} accepted = {rows.inserted:,} inserted + {rows.unchanged:,} unchanged"
            + (f" + {rows.held:,} held back" if rows.held else "")
            + f"; {rows.deleted:,} old rows deleted"
        )
    places = {"source": receipt.source, "output": receipt.output, "version": receipt.version}
    if receipt.marker:
        places = {"marker": receipt.marker.url, **places}
    lines += [f"{name:<10} {place}" for name, place in places.items() if place]
    if receipt.quarantined:
        lines += ["", "Quarantined files (their earlier rows, if any, stay in the table):"]
        lines += [f"  {entry.file}: {entry.reason}" for entry in receipt.quarantined[:_LISTED]]
        if len(receipt.quarantined) > _LISTED:
            lines.append(f"  and {len(receipt.quarantined) - _LISTED:,} more, all in the receipt's JSON")
    if receipt.missing and receipt.state != State.FAILED:
        consent = receipt.policy.get("allow_missing")
        by = f", as {consent.set_by} allows ({consent.value})" if consent else ""
        lines += ["", f"Missing{by}; their earlier rows, if any, stay in the table:"]
        lines += [f"  {name}" for name in receipt.missing[:_LISTED]]
        if len(receipt.missing) > _LISTED:
            lines.append(f"  and {len(receipt.missing) - _LISTED:,} more, all in the receipt's JSON")
    if receipt.held:
        lines += ["", "Held back (their new files lost days; the rows that are loaded stay):"]
        lines += [f"  {_held_back(one)}" for one in receipt.held]
        named = " ".join(one.company_name for one in receipt.held)
        lines.append(f"  To load them all the same: --accept-shrunk {named}, or accept_shrunk in the DAG's form.")
    if receipt.restatements:
        lines += ["", "Restated history:", *(f"  {restated(one)}" for one in receipt.restatements)]
        if receipt.restated > len(receipt.restatements):
            lines.append(f"  and {receipt.restated - len(receipt.restatements):,} more: mbd diff {receipt.run_id}")
    if receipt.notes:
        lines += ["", "To look at:", *(f"  {note}" for note in receipt.notes)]
    return "\n".join(lines) + "\n"


def _headline(receipt: Receipt) -> str:
    rows = receipt.rows
    if receipt.state == State.FAILED:
        return f"FAILED: {receipt.error}"
    if receipt.undone:
        done = "DRY RUN: nothing was written. This would undo" if receipt.state == State.DRY_RUN else "Undid"
        return f"{done} {_counted(len(receipt.undone.runs), 'run')}: back to before {receipt.undone.runs[0]}."
    if receipt.state == State.DRY_RUN:
        return "DRY RUN: nothing was written to the table. A run would do this:"
    if rows.inserted is None:
        return f"Processed {rows.accepted:,} rows of {receipt.files.accepted:,} companies."
    if rows.inserted == 0 and rows.deleted == 0:
        return f"0 changes: the table already held these {rows.unchanged:,} rows."
    return f"Loaded {rows.inserted:,} rows; {receipt.files.accepted:,} companies are up to date."


def _held_back(one: HeldCompany) -> str:
    return (
        f"{one.company_name}: {one.rows:,} rows up to {one.last_day or 'no day'} in the file, "
        f"{one.loaded_rows:,} rows up to {one.loaded_last_day or 'no day'} loaded"
    )


def restated(one: Restatement) -> str:
    """One restatement as a sentence, such as "ge.us.csv: all 14,048 rows up to 2017-10-26 × 0.9975 (...)"."""
    rows = _counted(one.rows, "row")
    match one.kind:
        case Kind.FACTOR | Kind.SPLIT:
            cause = "a split" if one.kind == Kind.SPLIT else "a dividend or split"
            times = f"× {one.factor:.4g}{_volumes(one.volume_factor)}"
            what = f"{'all ' * one.whole}{rows} up to {one.last_day} {times} ({cause})"
        case Kind.FACTORS:
            spans = ", ".join(f"up to {day} × {price:.4g}{_volumes(volume)}" for day, price, volume in one.spans)
            what = f"{'all ' * one.whole}{rows} {spans} ({len(one.spans)} dividends or splits)"
        case Kind.CORRECTED:
            first = ", ".join(f"{field} {old} → {new}" for _, field, old, new in one.examples)
            what = f"{rows} corrected: {one.first_day}" + (f", {first}" if first else "")
            if one.rows > 1:
                days = ", ".join(f"{day} {field} {old} → {new}" for day, field, old, new in one.examples)
                what = f"{rows} corrected from {one.first_day} to {one.last_day}" + (
                    f" (first: {days})" if days else ""
                )
        case Kind.REWRITTEN:
            what = f"{rows} changed from {one.first_day} to {one.last_day}, in no pattern that is known"
        case Kind.REMOVED:
            what = f"{rows} removed, {_span(one)}"
        case Kind.ADDED:
            what = f"{rows} added before the last known day, {_span(one)}"
        case Kind.RESPELLED:
            what = f"{rows} respelled: the same numbers, written in another way"
    return f"{one.company_name}: {what}"


def _volumes(factor: float | None) -> str:
    return f", volumes × {factor:.4g}" if factor else ""


def _span(one: Restatement) -> str:
    return one.first_day if one.first_day == one.last_day else f"{one.first_day} to {one.last_day}"


def notes_of_manifest(manifest: Manifest) -> Iterator[str]:
    """What a person should know about the files, and no count shows."""
    yield from manifest.notes
    if manifest.notes:
        return  # of version 0.1, which wrote the sentences below itself
    if manifest.since is not None:
        yield (
            f"Only rows dated {manifest.since} or later were taken; {manifest.rows_before_since:,} older rows were "
            "left out."
        )
    if manifest.repeated:
        yield f"The company index names {', '.join(manifest.repeated[:5])} more than once; each is loaded once."
    if manifest.ignored:
        were = (
            "is not named by the company index; it was"
            if manifest.ignored == 1
            else ("are not named by the company index; they were")
        )
        yield f"{_counted(manifest.ignored, 'CSV file')} in the source {were} left alone."
    for columns, names in manifest.extra_columns.items():
        have = "has" if len(names) == 1 else "have"
        left_out = f"{_printable(columns)} (first: {names[0]})"
        yield f"{_counted(len(names), 'file')} {have} extra columns, left out: {left_out}."


def notes_of_shrunk_files(manifest: Manifest, *, before: Manifest) -> Iterator[str]:
    """What a load would hold back, as far as the last manifest knows it: companies with far fewer rows than there."""
    if (manifest.since, manifest.source) != (before.since, before.source):
        return
    rows = {entry.company_name: entry.rows for entry in before.slices}
    for entry in manifest.slices:
        if entry.rows < (1 - LARGEST_LOSS) * rows.get(entry.company_name, 0):
            yield (
                f"{entry.company_name} has {entry.rows:,} rows, {rows[entry.company_name]:,} in the outputs before. "
                "Was the file cut off? A load holds such a company back."
            )


def notes_of_load(loaded: Loaded, *, accepted: int) -> Iterator[str]:
    """What a person should know about the table, and no count shows; `accepted` rows of the batch."""
    if loaded.outside_writes and not loaded.outside_writes.is_new_start:
        yield _outside_writes(loaded.outside_writes)
    if loaded.same_as_run:
        yield f"Same content as run {loaded.same_as_run}."
    if loaded.earlier_attempt:
        inserted, deleted = loaded.earlier_attempt
        yield (
            f"An earlier attempt of this run was committed: {inserted:,} rows inserted, {deleted:,} old ones deleted."
        )
    if loaded.lacks_index:
        yield NO_INDEX
    if loaded.last_success:
        last_run, last_accepted = loaded.last_success
        if accepted < _DROP_WARNING * last_accepted:
            yield (
                f"Far fewer rows than last time: {accepted:,} after {last_accepted:,} in run {last_run}. "
                "Is the export complete?"
            )


def _outside_writes(writes: OutsideWrites) -> str:
    known = [
        f"{operation} by {user} at {at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        for user, operation, at in writes.statements[:3]
    ]
    if not writes.is_watched:
        known.append("the table's trigger that notes who writes is gone: init-db puts it back")
    if not writes.differing:
        subject = "Somebody wrote to the table" if writes.statements else "Somebody may have written to the table"
        return f"{subject} ({'; '.join(known)}). The row counts agree; --reload makes sure of the values."
    named = ", ".join(
        f"{name}: {table:,} in the table, {loaded:,} loaded" for name, table, loaded in writes.differing[:3]
    )
    more = ", ..." if len(writes.differing) > 3 else ""
    return (
        f"Rows of {_counted(len(writes.differing), 'company', 'companies')} were changed outside the pipeline since "
        f"they were loaded ({named}{more}; {'; '.join(known)}). --reload corrects the companies of the batch."
    )


def silent_end(receipt: Receipt, reason: str) -> str:
    """What can be said of a run that could not say itself why it ended; `reason` is the orchestrator's word."""
    table = "The table holds the old batch or the new one, whole: `mbd history` shows which."
    if receipt.state == State.SUCCESS:
        table = "The load had been committed all the same."
    return (
        f"The run ended as {reason!r} and could not say why: it was killed or timed out. {table} "
        "See the log of its last task in Airflow, then put the marker again."
    )


def unreadable_receipt(error: EtlError) -> str:
    return f"The run succeeded, but its receipt cannot be read: {error} `mbd history` has it too."


def _counted(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _printable(columns: str) -> str:
    """Text of the batch as a note may hold it: JSON in PostgreSQL takes no NUL, and a mail no escape codes."""
    return "".join(sign if sign.isprintable() else "?" for sign in columns[:200])
