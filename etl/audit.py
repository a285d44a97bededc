"""Looks back: what changed between runs, where a price came from, whether all agrees; and takes runs back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from etl.batch.aws import Aws
from etl.batch.storage import Storage, open_storage
from etl.errors import EtlError, FileChangedError, SettingsError, only_etl_errors
from etl.files.combined_file import CombinedFile
from etl.files.header import parse_aliases
from etl.files.manifest import read_manifest
from etl.files.row_lists import RowList
from etl.files.source_line import SourceLine, find_source_line
from etl.outcome.channels import without_deliveries
from etl.outcome.receipt import FOLDER, Receipt, Run, State, file_name, page_name, read_receipt, write_receipt
from etl.outcome.report import LATEST, make_report, write_report
from etl.table.companies import find_companies
from etl.table.database import connect, query
from etl.table.history import (
    CompanyDiff,
    JournalSize,
    RowDiff,
    add_up,
    diff_companies,
    diff_rows,
    find_run,
    find_spans,
    read_journal_size,
    real_changes,
)
from etl.table.ledger import read_ledger
from etl.table.runs import RunRecord, receipt_hash
from etl.table.undo import Undone, undo_loads
from etl.table.verify import (
    Disagreement,
    verify_combined,
    verify_flags,
    verify_receipts,
    verify_slices,
    verify_table,
)

_FIELDS_OF_ROW = (
    "stock_date", "open_value", "high_value", "low_value", "close_value", "volume_traded", "daily_percent_change",
    "value_change", "company_name",
)  # fmt: skip


@dataclass(frozen=True)
class Diff:
    """What differs in the table between two moments: the companies, most rows first, and the rows if asked for."""

    companies: tuple[CompanyDiff, ...]
    rows: tuple[RowDiff, ...] = ()


def diff(database: str, run_id: str, *, later: str | None = None, rows: bool = False) -> Diff:
    """What the run `run_id` itself changed, or all that changed after it until the run `later` was done.

    Of a run that was repeated after other runs had loaded, each of its loads counts, the rows of one after the other.
    """
    with connect(database, snapshot=True) as connection, connection.cursor() as cursor:
        if later:
            after, until = sorted([find_run(cursor, run_id).last, find_run(cursor, later).last])
            spans = [(after, until)]
        else:
            spans = find_spans(cursor, run_id)
        companies = add_up(one for after, until in spans for one in diff_companies(cursor, after=after, until=until))
        found = (one for after, until in spans for one in diff_rows(cursor, after=after, until=until))
        return Diff(tuple(companies), tuple(found) if rows else ())


def undo(
    database: str,
    *,
    run: Run,
    run_id: str | None = None,
    output: str | None = None,
    shown: Undone | None = None,
    dry_run: bool = False,
    aws: Aws | None = None,
) -> Receipt:
    """Take back the last run that changed something, or `run_id` and all later ones. Returns the undo's own receipt.

    `shown`: what a dry run said that it would do. A dry run writes nothing, to the output neither. A note of the
    receipt says where it could not be written: the undo is done then. Raises SettingsError, with the table as it was,
    where there is nothing to undo, it would undo something else than what was shown, or rows were changed outside the
    pipeline; ServiceError, which says what is so, where the connection was lost.
    """
    place = open_storage(output, aws=aws, create=True) if output and not dry_run else None
    state = State.DRY_RUN if dry_run else State.SUCCESS
    receipt = Receipt.of_run(run, state=state, output=place.url if place else output or "")
    made: list[Receipt] = []

    def record(undone: Undone, previous: str | None) -> RunRecord:
        made.append(replace(receipt, undone=undone, previous=previous).timed())
        one = made[-1]
        return RunRecord(one.run_id, one.state, one.started_at, one.elapsed_seconds, one.to_json())

    undone = undo_loads(database, run_id=run_id, undo_id=run.run_id, record=record, shown=shown, dry_run=dry_run)
    if dry_run:
        return replace(receipt, undone=undone).timed()
    if place:
        try:
            with only_etl_errors():
                write_receipt(made[-1], output=place)
        except EtlError as error:
            note = f"The undo was committed, but its receipt could not be written: {error} pipeline_runs has it."
            return replace(made[-1], notes=(*made[-1].notes, note))
        write_report(made[-1], output=place, database=database)
    return made[-1]


@dataclass(frozen=True)
class Earlier:
    """Values that a row had before a run replaced them; None where the row was not there."""

    values: tuple[str | None, ...] | None
    replaced_by: str
    at: datetime
    change: str


@dataclass(frozen=True)
class Trace:
    """Where a price came from. `row`: its nine columns, None where it is not in the table."""

    row: dict[str, str | None] | None
    run_id: str | None
    receipt: Receipt | None
    earlier: tuple[Earlier, ...]
    source: SourceLine | None
    no_source: str
    """Why the line in the company file is not known."""


def report(
    database: str | None, *, run_id: str | None = None, output: str | None = None, aws: Aws | None = None
) -> tuple[str, bytes]:
    """Make the page of a run again, of the last one without `run_id`. Returns where it was written, and the page.

    Without a database it shows what the receipt in the output knows. Raises SettingsError when there is no such run.
    """
    place = open_storage(output, aws=aws) if output else None
    found, is_last = _recorded_receipt(database, run_id=run_id, place=place)
    place = place or open_storage(found.output, aws=aws)
    rejected = _rejected_rows(database, found.run_id) if database else None
    content = make_report(found, output=place, database=database, rejected=rejected)
    for name in [page_name(found.run_id)] + [LATEST] * (is_last and not found.dry_run):
        with place.write(name, lasting=False) as file:
            file.write(content)
    return place.url_of(page_name(found.run_id)), content


def _recorded_receipt(database: str | None, *, run_id: str | None, place: Storage | None) -> tuple[Receipt, bool]:
    """The receipt of a run, and whether it is the last one that the database has."""
    found, last = None, None
    if database:
        with connect(database) as connection, connection.cursor() as cursor:
            newest = query(cursor, "last_recorded")
            last = newest[0][0]["run_id"] if newest else None
            recorded = query(cursor, "receipt_of_run", run_id=run_id or last)
        found = Receipt.from_facts(recorded[0][0]) if recorded else None
    elif run_id is None:
        raise SettingsError("Without a database the last run is not known. Name a run, or pass --database-url.")
    if found is None and run_id and place:
        found = read_receipt(run_id, output=place)
    if found is None:
        raise SettingsError(f"There is no receipt of {run_id}." if run_id else "No run is recorded yet.")
    if place is None and not found.output:
        raise SettingsError(f"The receipt of {found.run_id} names no output. Pass --output.")
    return found, found.run_id == last


def _rejected_rows(database: str, run_id: str) -> RowList:
    """The recorded rejected rows of a run as the list in its output has them; without a row where none is."""
    with connect(database) as connection, connection.cursor() as cursor:
        rows = query(cursor, "rejected_of_run", run_id=run_id)
    columns = ("file", "line", "column", "value", "reason")
    return RowList(columns, tuple(tuple(map(str, row[:5])) for row in rows), f"mbd rejected {run_id} lists them.")


def trace(database: str, company: str, day: str, *, aws: Aws | None = None) -> Trace:
    """Find a row's line, file, run and earlier values; `company` as in read_prices.

    Raises SettingsError when there is no such company, or no run ever knew of the row.
    """
    with connect(database, snapshot=True) as connection, connection.cursor() as cursor:
        [company] = find_companies(cursor, [company])
        found = query(cursor, "row_of_day", company=company, day=day)
        changes = list(real_changes(query(cursor, "changes_of_day", company=company, day=day), is_there=bool(found)))
        run_id = next((run for change, run, _, _ in changes if change != "removed"), None)
        entry = read_ledger(cursor, [company]).get(company)
        if run_id is None and entry:
            run_id = entry.run_id
        receipts = query(cursor, "receipt_of_run", run_id=run_id)
    if not found and not changes:
        raise SettingsError(f"There is no row of {company} on {day}, and no run that is journalled had one.")
    row = dict(zip(_FIELDS_OF_ROW, found[0], strict=True)) if found else None
    receipt = Receipt.from_facts(receipts[0][0]) if receipts else None
    earlier = tuple(
        Earlier(tuple(old) if change in ("changed", "removed") else None, run, at, change)
        for change, run, at, old in changes
    )
    source, output, why = None, None, "no receipt names the place of the company file"
    if receipt and receipt.source:
        with suppress(EtlError):
            output = open_storage(receipt.output, aws=aws)
        try:
            source = find_source_line(
                company,
                (day, *(found[0][1:6] if found else ())),
                source=open_storage(receipt.source, aws=aws),
                output=output,
                aliases=parse_aliases(receipt.column_aliases),
                loaded=entry.sha256 if entry else None,
            )
            why = f"the file has no row of {day} that keeps the rules now"
        except EtlError as error:
            why = str(error)
        except FileChangedError:
            why = f"{company} is not in {receipt.source} any more"
    return Trace(row, run_id, receipt, earlier, source, "" if source else why)


def verify(
    database: str,
    *,
    output: str | None = None,
    aws: Aws | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Iterator[Disagreement]:
    """Everything in which table, ledger, receipts and, with an output, combined file do not agree. Reads only."""
    place = open_storage(output, aws=aws) if output else None
    combined = CombinedFile(read_manifest(place), place) if place else None
    with connect(database, snapshot=True) as connection, connection.cursor() as cursor:
        yield from verify_table(cursor, combined=combined, progress=progress)
        yield from verify_flags(cursor, combined=combined)
        if combined:
            yield from verify_slices(combined)
            yield from verify_combined(cursor, combined=combined, held=_held(cursor))
        yield from verify_receipts(cursor)
        if place:
            yield from _verify_receipt_files(cursor, place)


def _held(cursor: Any) -> set[str]:  # noqa: ANN401  a cursor
    for _, facts, _ in reversed(query(cursor, "all_receipts")):
        if facts["state"] == State.SUCCESS and not facts.get("undone"):
            return {one["company_name"] for one in facts.get("held", ())}
    return set()


def _verify_receipt_files(cursor: Any, place: Storage) -> Iterator[Disagreement]:  # noqa: ANN401  a cursor
    """Where the last receipt of a run in the output is not the one that the database has.

    One that is there is compared whatever place it names: the output may have been moved, or named in another way.
    What became of its mail and its messages to channels is only in the output, as it is known later.
    """
    for run_id, receipt, _ in query(cursor, "all_receipts"):
        try:
            facts = json.loads(place.read(file_name(run_id)))
            written = receipt_hash(without_deliveries(facts, recorded=receipt))
        except FileChangedError:
            if _is_at(receipt.get("output", ""), place):
                yield Disagreement("receipts", run_id, f"{place.url_of(FOLDER)} has no receipt of it")
        except (ValueError, AttributeError, TypeError):
            yield Disagreement("receipts", run_id, f"{place.url_of(file_name(run_id))} is no receipt any more")
        else:
            if written != receipt_hash(receipt):
                yield Disagreement("receipts", run_id, f"{place.url_of(file_name(run_id))} is not what was recorded")


def _is_at(output: str, place: Storage) -> bool:
    """Whether a receipt's output is this place, in whichever way it was written."""
    if not output or output.startswith("s3://") or place.url.startswith("s3://"):
        return output.rstrip("/") == place.url.rstrip("/")
    return Path(output).resolve() == Path(place.url).resolve()


def journal_size(database: str) -> JournalSize:
    """How much the journal holds."""
    with connect(database) as connection, connection.cursor() as cursor:
        return read_journal_size(cursor)
