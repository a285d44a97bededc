"""Takes the table, the ledger and the journal back to before a load, in one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from etl.errors import EtlError, NoConnectionError, ServiceError, SettingsError
from etl.table.database import connect, query
from etl.table.flagged import restore_flagged
from etl.table.history import check_kept, find_run
from etl.table.journal import Consent, replace_companies
from etl.table.outside_writes import find_outside_writes
from etl.table.runs import RunRecord, insert_record, last_receipt_hash
from etl.table.schema import check_columns, lock_table
from etl.table.verify import differing_entries

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor

_USUAL_ROWS = 5_000  # of a company, to compare so many companies at once
_LOOKS_SECONDS = (0.0, 1.0, 4.0, 10.0)  # before each look for what became of a COMMIT that was not answered


@dataclass(frozen=True)
class Undone:
    """What an undo did, or would do. A row that gets its old values back is among the inserted and the deleted ones."""

    runs: tuple[str, ...]
    companies: int
    inserted: int
    deleted: int
    loads: tuple[int, ...] = ()
    """The numbers of the loads that were taken back; none in receipts from before they were listed."""

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Undone:
        """What an undo did, from the object that its JSON holds."""
        return cls(**{**facts, "runs": tuple(facts["runs"]), "loads": tuple(facts.get("loads", ()))})


def undo_loads(
    url: str,
    *,
    run_id: str | None,
    undo_id: str,
    record: Callable[[Undone, str | None], RunRecord],
    shown: Undone | None = None,
    dry_run: bool = False,
    lock_timeout_seconds: float = 60,
) -> Undone:
    """Undo the last run that changed something, or the run `run_id` and all later ones, as the run `undo_id`.

    `record` makes the undo's record, given what was done and the hash of the last receipt. `shown`: what a dry run said
    of it; without it, the loads are looked up before the table's lock is waited for. Companies that were only respelled
    keep the new spelling, and their ledger entry with it. Raises SettingsError, with the table as it was, where there
    is nothing to undo, the last run changed rows in a way that the journal does not know and no run is named, it would
    take back other loads than those, the journal does not reach back, or rows were changed outside the pipeline, now or
    before a load that would be undone. A COMMIT that was not answered is looked for:
    ServiceError says whether it took effect.
    """
    is_committing = False
    try:
        expected = shown.loads if shown else () if dry_run else _look(url, run_id)
        with connect(url, lock_timeout_seconds=lock_timeout_seconds) as connection, connection.cursor() as cursor:
            lock_table(cursor, timeout_seconds=lock_timeout_seconds)
            check_columns(cursor)
            loads = _find_loads(cursor, run_id)
            if not dry_run and tuple(loads) != expected:
                _refuse_others(loads)
            undone = _restore(cursor, loads, dry_run=dry_run)
            if dry_run:
                return undone
            query(cursor, "forget_undone", load=min(loads), run_id=undo_id)
            insert_record(cursor, record(undone, last_receipt_hash(cursor)))
            number = query(cursor, "next_load")[0][0]
            query(cursor, "record_load", load=number, run_id=undo_id, kind="undo", new_start=False)
            is_committing = True
            connection.commit()
    except NoConnectionError as error:
        if not (is_committing and _find_commit(url, undo_id, lost=error)):
            raise NoConnectionError(f"{error} Nothing was undone.") from error
    return undone


def was_committed(url: str, undo_id: str, *, lock_timeout_seconds: float = 60) -> bool:
    """Whether the undo `undo_id` took effect. Waits for the table's lock: its COMMIT may still be under way."""
    with connect(url, lock_timeout_seconds=lock_timeout_seconds) as connection, connection.cursor() as cursor:
        lock_table(cursor, timeout_seconds=lock_timeout_seconds)
        return bool(query(cursor, "loads_of_run", run_id=undo_id))


def _find_commit(url: str, undo_id: str, *, lost: NoConnectionError) -> bool:
    """Whether a COMMIT that was not answered took effect. Raises ServiceError where the database does not say."""
    for pause in _LOOKS_SECONDS:
        time.sleep(pause)
        try:
            return was_committed(url, undo_id)
        except NoConnectionError:
            continue
        except EtlError:
            break
    raise ServiceError(
        f"{lost} Whether the undo was committed is not known. It was if `mbd history` has its run, {undo_id}: look "
        "there before you undo again, or one more run may be undone."
    )


def _look(url: str, run_id: str | None) -> tuple[int, ...]:
    """The loads that an undo would take back now, without waiting for a load or an undo that is under way."""
    with connect(url) as connection, connection.cursor() as cursor:
        check_columns(cursor)
        return tuple(_find_loads(cursor, run_id))


def _find_loads(cursor: Cursor, run_id: str | None) -> dict[int, str]:
    """The loads that an undo takes back, by number, with their runs."""
    return dict(query(cursor, "undone_loads", load=_first_load(cursor, run_id)))


def _refuse_others(loads: Mapping[int, str]) -> None:
    runs = list(dict.fromkeys(loads.values()))
    raise SettingsError(
        f"Nothing was undone: another run was loaded or undone meanwhile, and this would now undo {', '.join(runs[:3])}"
        f"{', ...' if len(runs) > 3 else ''}. Look at that with --dry-run, then undo again."
    )


def _restore(cursor: Cursor, loads: Mapping[int, str], *, dry_run: bool) -> Undone:
    """Bring rows, flags and ledger back to before these loads; of a dry run only the rows. The journal stays."""
    load, runs = min(loads), tuple(dict.fromkeys(loads.values()))
    check_kept(cursor, after=load - 1)
    number = query(cursor, "next_load")[0][0]
    companies = [row[0] for row in query(cursor, "touched_companies", after=load - 1, until=number)]
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
    query(cursor, "restore_ledger", load=load, companies=companies)
    _correct_ledger(cursor, companies, load=load, run_id=runs[0])
    if not dry_run:
        restore_flagged(cursor, companies, load=load)
    return Undone(runs, len(companies), done.inserted, done.deleted, tuple(loads))


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
    if run_id is None and (moved := query(cursor, "moved_without_journal", load=load)):
        before = query(cursor, "undone_loads", load=load)[0][1]
        raise SettingsError(
            f"Nothing was undone: the last run that changed rows, {moved[0][0]}, only spelled numbers in another way, "
            "or put rows right that somebody else had written, and neither can be taken back. To take back what was "
            f"loaded before it too, name the run: mbd undo {before}"
        )
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


def _correct_ledger(cursor: Cursor, companies: list[str], *, load: int, run_id: str) -> None:
    """Let the ledger say what the table holds of companies that keep another spelling than their old slice had.

    Raises SettingsError where they got rows back that no load had written: one that is undone, by run `run_id` or
    later, had found such rows and put them into the journal.
    """
    mixed = [row[0] for row in query(cursor, "mixed_companies", load=load)]
    for name, found in differing_entries(cursor, companies) if companies and not mixed else ():
        if found:
            facts = {"sha256": found.sha256, "length": found.length, "rows": found.rows}
            query(cursor, "correct_ledger_entry", company=name, **facts)
        if not found or not cursor.rowcount:
            mixed.append(name)
    if mixed:
        raise SettingsError(
            f"Nothing was undone: when run {run_id} or a later one was loaded, rows of {', '.join(mixed[:3])}"
            f"{', ...' if len(mixed) > 3 else ''} had been changed outside the pipeline, and what was loaded before "
            "them is not kept. To have the table of an earlier batch again, put its files back and load them."
        )
