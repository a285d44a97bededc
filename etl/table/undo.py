"""Takes the table, the ledger and the journal back to before a load, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl.errors import SettingsError
from etl.table.database import connect, query
from etl.table.flagged import restore_flagged
from etl.table.history import check_kept, find_run
from etl.table.journal import Consent, replace_companies
from etl.table.outside_writes import find_outside_writes
from etl.table.runs import RunRecord, insert_record, last_receipt_hash
from etl.table.schema import check_columns, lock_table
from etl.table.verify import differing_entries, read_slices

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

_USUAL_ROWS = 5_000  # of a company, to compare so many companies at once


@dataclass(frozen=True)
class Undone:
    """What an undo did, or would do. A row that gets its old values back is among the inserted and the deleted ones."""

    runs: tuple[str, ...]
    companies: int
    inserted: int
    deleted: int

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Undone:
        """What an undo did, from the object that its JSON holds."""
        return cls(**{**facts, "runs": tuple(facts["runs"])})


def undo_loads(
    url: str,
    *,
    run_id: str | None,
    undo_id: str,
    record: Callable[[Undone, str | None], RunRecord],
    dry_run: bool = False,
    lock_timeout_seconds: float = 60,
) -> Undone:
    """Undo the last run that changed something, or the run `run_id` and all later ones, as the run `undo_id`.

    `record` makes the undo's record, given what was done and the hash of the last receipt. Companies that were only
    respelled keep the new spelling, and their ledger entry with it. Raises SettingsError, with the table as it was,
    where there is nothing to undo, the journal does not reach back, or rows were changed outside the pipeline.
    """
    with connect(url, lock_timeout_seconds=lock_timeout_seconds) as connection, connection.cursor() as cursor:
        lock_table(cursor, timeout_seconds=lock_timeout_seconds)
        check_columns(cursor)
        load = _first_load(cursor, run_id)
        check_kept(cursor, after=load - 1)
        runs = tuple(row[0] for row in query(cursor, "undone_runs", load=load))
        number = query(cursor, "next_load")[0][0]
        touched = query(cursor, "touched_companies", after=load - 1, until=number)
        companies = [row[0] for row in touched]
        _refuse_outside_writes(cursor, companies, run_id=runs[0])
        done = replace_companies(
            cursor,
            dict.fromkeys(companies, _USUAL_ROWS),
            load=number,
            fill=None,
            wanted=load - 1,
            known={},
            consent=Consent(to_all=True),
            is_suspect=False,
            journalled=False,
        )
        undone = Undone(runs, len(companies), done.inserted, done.deleted)
        if dry_run:
            return undone
        query(cursor, "restore_ledger", load=load, companies=companies)
        restore_flagged(cursor, companies, load=load)
        _correct_ledger(cursor, companies)
        query(cursor, "forget_undone", load=load, run_id=undo_id)
        insert_record(cursor, record(undone, last_receipt_hash(cursor)))
        query(cursor, "record_load", load=number, run_id=undo_id, kind="undo", new_start=False)
        connection.commit()
    return undone


def _first_load(cursor: Cursor, run_id: str | None) -> int:
    if run_id is not None:
        find_run(cursor, run_id)
    load: int | None = query(cursor, "undoable_load", run_id=run_id)[0][0]
    if load is None:
        what = (
            f"Run {run_id} was an undo itself"
            if run_id
            else "There is nothing to undo: no run that is left changed a row"
        )
        raise SettingsError(f"{what}, or the journal does not reach back so far.")
    return load


def _refuse_outside_writes(cursor: Cursor, companies: list[str], *, run_id: str) -> None:
    """Raise SettingsError unless the rows of these companies are the very ones that were loaded.

    It names the run to undo: where the batch has changed meanwhile, the load that it asks for is the last one.
    """
    has_rows, has_ledger, is_watched = query(cursor, "table_state")[0]
    writes = find_outside_writes(cursor, has_rows=has_rows, has_ledger=has_ledger, is_watched=is_watched)
    changed = [name for name, _, _ in writes.differing] if writes else []
    changed = changed or [name for name, _ in differing_entries(cursor, companies)]
    if changed or (writes and writes.statements):
        names = f" ({', '.join(changed[:3])}{', ...' if len(changed) > 3 else ''})" if changed else ""
        raise SettingsError(
            f"Rows were changed outside the pipeline{names}: an undo would mix them with what the journal knows. "
            f"Nothing was undone. Load the last batch with --reload, which corrects them, then undo {run_id}."
        )


def _correct_ledger(cursor: Cursor, companies: list[str]) -> None:
    """Let the ledger say what the table holds of companies that keep another spelling than their old slice had."""
    if not companies:
        return
    wrong = {name for name, _ in differing_entries(cursor, companies)}
    for found in read_slices(cursor, sorted(wrong)) if wrong else []:
        query(
            cursor,
            "correct_ledger_entry",
            company=found.company_name,
            sha256=found.sha256,
            length=found.length,
            rows=found.rows,
        )
