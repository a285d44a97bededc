"""Notes: what a person should know about a run, and no count of its receipt shows."""

from __future__ import annotations

from collections.abc import Iterator

from etl.errors import EtlError
from etl.files.manifest import Manifest
from etl.outcome.receipt import Receipt, State, written
from etl.outcome.wording import counted
from etl.table.journal import LARGEST_LOSS
from etl.table.load import Loaded
from etl.table.outside_writes import OutsideWrites

NO_INDEX = (
    "The table has no index (historical_stocks_data_company_day), and this user may not build one, so loads and "
    "queries of one company read the whole table. Run `mbd init-db` once as the table's owner, which builds it."
)
_DROP_WARNING = 0.5  # of the last run's rows


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
    if manifest.column_aliases:
        yield f"Columns were looked for under other names too: {_printable(manifest.column_aliases)}."
    if manifest.repeated:
        yield f"The company index names {', '.join(manifest.repeated[:5])} more than once; each is loaded once."
    if manifest.ignored:
        were = (
            "is not named by the company index; it was"
            if manifest.ignored == 1
            else ("are not named by the company index; they were")
        )
        yield f"{counted(manifest.ignored, 'CSV file')} in the source {were} left alone."
    for columns, names in manifest.extra_columns.items():
        have = "has" if len(names) == 1 else "have"
        left_out = f"{_printable(columns)} (first: {names[0]})"
        yield f"{counted(len(names), 'file')} {have} extra columns, left out: {left_out}."


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


def notes_of_load(loaded: Loaded, *, receipt: Receipt) -> Iterator[str]:
    """What a person should know about the table, and no count shows; `receipt`: of the batch and its load."""
    accepted = receipt.rows.accepted
    last_run, last_accepted = loaded.last_success or ("", 0)
    is_small = accepted < _DROP_WARNING * last_accepted
    if loaded.outside_writes and not loaded.outside_writes.is_new_start:
        yield _outside_writes(loaded.outside_writes, loaded=loaded)
    # Where companies are missing it is true of each that is there, and misleading of the whole batch.
    if loaded.same_as_run and not (is_small or receipt.newly_quarantined):
        yield f"Same content as run {loaded.same_as_run}."
    if loaded.earlier_attempt:
        inserted, deleted = loaded.earlier_attempt
        yield (
            f"An earlier attempt of this run was committed: {inserted:,} rows inserted, {deleted:,} old ones deleted."
        )
    if loaded.lacks_index:
        yield NO_INDEX
    if is_small:
        yield (
            f"Far fewer rows than last time: {accepted:,} after {last_accepted:,} in run {last_run}. "
            "Is the export complete?"
        )


def _outside_writes(writes: OutsideWrites, *, loaded: Loaded) -> str:
    known = [written(statement) for statement in writes.statements[:3]]
    if not writes.is_watched:
        known.append("the table's trigger that notes who writes is gone: init-db puts it back")
    if not writes.differing:
        subject = "Somebody wrote to the table" if writes.statements else "Somebody may have written to the table"
        sure = "this load compared the values too" if loaded.reloaded else "--reload makes sure of the values"
        if loaded.reloaded and loaded.not_compared:
            sure = "this load compared the values of its companies, and others may have other values"
        return f"{subject} ({'; '.join(known)}). The row counts agree; {sure}."
    named = ", ".join(
        f"{name}: {table:,} in the table, {loaded:,} loaded" for name, table, loaded in writes.differing[:3]
    )
    more = ", ..." if len(writes.differing) > 3 else ""
    left = len(loaded.changed_outside)
    done = "" if left == len(writes.differing) else f"This load corrected {len(writes.differing) - left:,} of them. "
    return (
        f"Rows of {counted(len(writes.differing), 'company', 'companies')} were changed outside the pipeline since "
        f"they were loaded ({named}{more}; {'; '.join(known)}). "
        + (f"{done}--reload corrects those that the batch has." if left else "This load corrected them.")
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


def _printable(columns: str) -> str:
    """Text of the batch as a note may hold it: JSON in PostgreSQL takes no NUL, and a mail no escape codes."""
    return "".join(sign if sign.isprintable() else "?" for sign in columns[:200])
