"""The sentences of a receipt: what happened, what changed company by company, and the counts, for mail and page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC
from itertools import groupby

from etl.files.manifest import QuarantinedFile, RejectedFile
from etl.files.row_lists import REJECTED_ROWS
from etl.outcome.receipt import Receipt, State
from etl.table.journal import HeldCompany
from etl.table.restatements import Kind, Restatement

_LISTED = 50  # quarantined files that the text names
_NAMED = 10  # companies of one kind of change


def receipt_text(receipt: Receipt, *, to_do: Sequence[str] = ()) -> str:
    """The receipt for a person: what happened, what changed, what is `to_do`, the counts, what to look at."""
    files, rows = receipt.files, receipt.rows
    lines = [headline(receipt), ""]
    if changes := list(changed(receipt)):
        title = "What would change" if receipt.state == State.DRY_RUN else "What changed"
        lines.append("Left out:" if rows.inserted is None else f"{title}:")  # nothing was loaded
        lines += [f"  {change}" for change in changes] + [""]
    if to_do:
        lines += ["To do:", *(f"  {step}" for step in to_do), ""]
    lines += [
        f"run        {receipt.run_id}",
        f"started    {receipt.started_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC, took {receipt.elapsed_seconds:.1f} s"
        + "".join(f", {step} {seconds:.1f} s" for step, seconds in receipt.steps.items()),
    ]
    if receipt.undone:
        undone = receipt.undone
        lines += [
            f"table      {undone.inserted:,} earlier rows put back, {undone.deleted:,} newer rows deleted, in "
            f"{counted(undone.companies, 'company', 'companies')}",
            f"undone     {', '.join(undone.runs)}",
        ]
    else:
        lines += [
            f"files      {files.listed:,} listed = {files.accepted:,} accepted + {files.quarantined:,} quarantined"
            f" + {files.missing:,} missing"
            + (
                f" ({files.read:,} read, {files.taken_over:,} as in the last run)"
                * bool(files.read or files.taken_over)
            ),
            f"rows       {rows.read:,} read = {rows.accepted:,} accepted + {rows.rejected:,} rejected"
            f" ({rows.flagged:,} of the accepted flagged)",
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
    lines += _not_loaded(receipt)
    if receipt.restatements:
        largest = receipt.restatements[:_NAMED]
        lines += ["", "Restated history:", *(f"  {restated(one)}" for one in largest)]
        if receipt.restated > len(largest):
            lines.append(f"  and {receipt.restated - len(largest):,} more: mbd diff {receipt.run_id}")
    if receipt.notes:
        lines += ["", "To look at:", *(f"  {note}" for note in receipt.notes)]
    return "\n".join(lines) + "\n"


def _not_loaded(receipt: Receipt) -> Iterator[str]:
    """Files and companies that the table does not have as they are now."""
    if receipt.quarantined:
        yield from ["", "Quarantined files (their earlier rows, if any, stay in the table):"]
        by_reason = _by_reason(quarantined(receipt))
        yield from [f"  {first_names(files)}: {reason}" for reason, files in by_reason[:_LISTED]]
        if left := sum(len(files) for _, files in by_reason[_LISTED:]):
            yield f"  and {left:,} more, all in the receipt's JSON"
    if receipt.missing and receipt.state != State.FAILED:
        consent = receipt.policy.get("allow_missing")
        by = f", as {consent.set_by} allows ({consent.value})" if consent else ""
        yield from ["", f"Missing{by}; their earlier rows, if any, stay in the table:"]
        yield from [f"  {name}" for name in receipt.missing[:_LISTED]]
        if len(receipt.missing) > _LISTED:
            yield f"  and {len(receipt.missing) - _LISTED:,} more, all in the receipt's JSON"
    if receipt.held:
        yield from ["", "Held back (their new files lost days; the rows that are loaded stay):"]
        yield from [f"  {held_back(one)}" for one in receipt.held]
        named = " ".join(one.company_name for one in receipt.held)
        yield f"  To load them all the same: --accept-shrunk {named}, or accept_shrunk in the DAG's form."


def quarantined(receipt: Receipt) -> list[QuarantinedFile]:
    """The quarantined files, those first that are newly so."""
    new = set(receipt.newly_quarantined)
    return sorted(receipt.quarantined, key=lambda one: one.file not in new)


def _by_reason(files: Sequence[QuarantinedFile]) -> list[tuple[str, list[str]]]:
    found: dict[str, list[str]] = {}
    for one in files:
        found.setdefault(one.reason, []).append(one.file)
    return list(found.items())


def headline(receipt: Receipt) -> str:
    """What happened, in one sentence; of a dry run it says so first."""
    rows = receipt.rows
    if receipt.state == State.FAILED:
        return f"{'DRY RUN: ' * receipt.dry_run}FAILED: {receipt.error}"
    if receipt.undone:
        done = "DRY RUN: nothing was written. This would undo" if receipt.state == State.DRY_RUN else "Undid"
        return f"{done} {counted(len(receipt.undone.runs), 'run')}: back to before {receipt.undone.runs[0]}."
    if receipt.state == State.DRY_RUN:
        return "DRY RUN: nothing was written to the table. A run would do this:"
    if receipt.state == State.RUNNING:
        return "The run has begun and has not ended."
    if rows.inserted is None:
        return f"Processed {rows.accepted:,} rows of {counted(receipt.files.accepted, 'company', 'companies')}."
    if receipt.changed_outside:
        companies = counted(len(receipt.changed_outside), "company", "companies")
        return (
            f"The table was changed outside the pipeline: it holds other rows of {companies} than were loaded. "
            f"This run loaded {rows.inserted:,} rows and left the others as they are."
        )
    if receipt.written_outside:
        return (
            "The table was changed outside the pipeline: it holds as many rows of each company as were loaded, but "
            f"their values may be others. This run loaded {rows.inserted:,} rows and left the others as they are."
        )
    if rows.inserted == 0 and rows.deleted == 0 and not rows.held:
        same = f"0 changes: the table already held these {rows.unchanged:,} rows"
        new = len(receipt.newly_quarantined)
        return f"{same}; {counted(new, 'file is', 'files are')} newly quarantined." if new else f"{same}."
    return f"Loaded {rows.inserted:,} rows; {_up_to_date(receipt)}."


def _up_to_date(receipt: Receipt) -> str:
    current = receipt.files.accepted - len(receipt.held)
    return f"{current:,} {'company is' if current == 1 else 'companies are'} up to date"


def changed(receipt: Receipt) -> Iterator[str]:
    """What changed in the table and what was left out, one line for each kind, the first ten companies by name."""
    restated_names = list(dict.fromkeys(one.company_name for one in receipt.restatements))
    if restated_names:
        yield f"{counted(len(restated_names), 'company', 'companies')} restated ({first_names(restated_names)})"
    yield from _grown(receipt.grown)
    if receipt.new:
        yield (
            f"{counted(len(receipt.new), 'new company', 'new companies')} with {sum(receipt.new.values()):,} rows "
            f"({first_names(list(receipt.new))})"
        )
    if receipt.held:
        held = [one.company_name for one in receipt.held]
        yield f"{counted(len(held), 'company', 'companies')} held back ({first_names(held)})"
    if receipt.changed_outside:
        names = list(receipt.changed_outside)
        yield f"{counted(len(names), 'company', 'companies')} changed outside the pipeline ({first_names(names)})"
    if receipt.quarantined:
        files = [one.file for one in receipt.quarantined]
        new = receipt.newly_quarantined
        which = f"new among them: {first_names(new)}" if 0 < len(new) < len(files) else first_names(files)
        yield f"{counted(len(files), 'file')} {'newly ' * (len(new) == len(files))}quarantined ({which})"
    if receipt.rejected:
        yield _rejected(receipt.rejected, where=f"{receipt.output.rstrip('/')}/{REJECTED_ROWS}")


def _grown(grown: Mapping[str, int]) -> Iterator[str]:
    """Companies that grew by the same number of rows, the most of them first; of the rest a sum."""
    by_rows = sorted(grown.items(), key=lambda item: item[1])
    groups = [(rows, [name for name, _ in group]) for rows, group in groupby(by_rows, key=lambda item: item[1])]
    groups.sort(key=lambda group: (-len(group[1]), group[0]))
    for rows, names in groups[:3]:
        yield f"{counted(len(names), 'company', 'companies')} grew by {counted(rows, 'row')} ({first_names(names)})"
    if rest := [(name, rows) for rows, names in groups[3:] for name in names]:
        total = sum(rows for _, rows in rest)
        names = [f"{name} {rows:,}" for name, rows in rest]
        yield f"{counted(len(rest), 'other company', 'other companies')} grew by {total:,} rows ({first_names(names)})"


def _rejected(files: Sequence[RejectedFile], *, where: str) -> str:
    rows = sum(one.rows for one in files)
    if len(files) == 1:
        return f"{counted(rows, 'row')} rejected in {files[0].file} ({_first_fault(files[0], 'all')}; all in {where})"
    named = [f"{one.file} {one.rows:,}: {_first_fault(one, 'not looked at')}" for one in files]
    return f"{rows:,} rows rejected in {len(files):,} files ({first_names(named, between='; ')}; all in {where})"


def _first_fault(one: RejectedFile, unknown: str) -> str:
    if not one.line:
        return unknown
    return f"line {one.line}, {one.column + ': ' if one.column else ''}{one.reason}"


def first_names(names: Sequence[str], *, between: str = ", ") -> str:
    """The first ten, and how many more there are."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return between.join(names[:_NAMED]) + more


def held_back(one: HeldCompany) -> str:
    """Rows and last day of the new file and of what is loaded."""
    return (
        f"{one.company_name}: {one.rows:,} rows up to {one.last_day or 'no day'} in the file, "
        f"{one.loaded_rows:,} rows up to {one.loaded_last_day or 'no day'} loaded"
    )


def restated(one: Restatement) -> str:
    """One restatement as a sentence, such as "ge.us.csv: all 14,048 rows up to 2017-10-26 × 0.9975 (...)"."""
    rows = counted(one.rows, "row")
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
            what = f"{rows} removed, {_days_of(one)}"
        case Kind.ADDED:
            what = f"{rows} added before the last known day, {_days_of(one)}"
        case Kind.RESPELLED:
            what = f"{rows} respelled: the same numbers, written in another way"
    return f"{one.company_name}: {what}"


def _volumes(factor: float | None) -> str:
    return f", volumes × {factor:.4g}" if factor else ""


def _days_of(one: Restatement) -> str:
    return one.first_day if one.first_day == one.last_day else f"{one.first_day} to {one.last_day}"


def counted(count: int, one: str, many: str | None = None) -> str:
    """A number with its noun, such as "1 row" and "2,000 rows"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
