"""What a person does next, by what a receipt says: sentences, each with a command where one does it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from etl.files.row_lists import REJECTED_ROWS
from etl.outcome.receipt import Receipt, State
from etl.outcome.wording import counted, first_names

_ALIASES = "MBD_COLUMN_ALIASES"  # as the reason names it


@dataclass(frozen=True)
class Step:
    """One thing to do; `command` does it or shows more."""

    text: str
    command: str = ""


def next_steps(receipt: Receipt) -> Iterator[Step]:
    """What there is to do, the most urgent first; nothing where all is well."""
    if receipt.state == State.FAILED:
        yield from _after_failure(receipt)
    elif receipt.state == State.RUNNING:
        yield Step("Wait for the mail. Without one for an hour, look at the run in Airflow.")
    elif receipt.state == State.DRY_RUN:
        yield Step("Nothing was written to the table. Run it without the dry run to do what this page says.")
    load = f"mbd load --output {shlex.quote(receipt.output)}"
    if receipt.changed_outside:
        yield Step(
            "Find out who changes the table outside the pipeline (see the notes). --reload corrects the companies that "
            "the batch has.",
            f"{load} --reload",
        )
    if receipt.held:
        names = [one.company_name for one in receipt.held]
        yield Step(
            f"Ask the exporter for whole files of {first_names(names)}: the new ones lack days that are loaded. If the "
            "loss is meant, consent to it.",
            f"{load} --accept-shrunk {' '.join(map(shlex.quote, names[:10]))}" if len(names) <= 10 else "",
        )
    if receipt.quarantined and receipt.state != State.FAILED:
        yield from _quarantined(receipt)
    if receipt.missing and receipt.state != State.FAILED:
        yield Step(
            f"Ask for the {counted(len(receipt.missing), 'missing file')}: the run was allowed to go on without. Until "
            "then their earlier rows stay in the table."
        )
    if receipt.rows.rejected:
        yield Step(
            f"Have the {counted(receipt.rows.rejected, 'rejected row')} corrected at the source: {REJECTED_ROWS} names "
            "line, column and value of each."
        )
    if receipt.restatements and receipt.state == State.SUCCESS:
        yield Step(
            "History was restated: results that were computed from earlier prices may differ now. See each row, before "
            "and after:",
            f"mbd diff {shlex.quote(receipt.run_id)} --rows",
        )


def _quarantined(receipt: Receipt) -> Iterator[Step]:
    new, files = receipt.newly_quarantined, [one.file for one in receipt.quarantined]
    which = f"whole files of {first_names(new or files)}"
    were = f"; the other {len(files) - len(new):,} were quarantined before too" if 0 < len(new) < len(files) else ""
    yield Step(
        f"Ask the exporter for {which}{were}. Upload them, and put the marker again. Until then their earlier rows "
        "stay in the table."
    )
    yield from _renamed_columns(receipt)


def _renamed_columns(receipt: Receipt) -> Iterator[Step]:
    if any(_ALIASES in one.reason for one in receipt.quarantined):
        yield Step(
            f"Or, where the exporter has renamed a column for good, set {_ALIASES} in .env as the reason says: with it "
            "in the DAG's form, as column_aliases, one run tries it."
        )


def _after_failure(receipt: Receipt) -> Iterator[Step]:
    again = "put the marker again, or clear the run in Airflow"
    if receipt.missing:
        files = counted(len(receipt.missing), "missing file")
        yield Step(f"Upload the {files}, or take them out of the company index; then {again}.")
    elif receipt.quarantined:
        yield Step(f"Have the export fixed: the reason for each file is below. Then {again}.")
        yield from _renamed_columns(receipt)
    else:
        yield Step(f"Fix what the first sentence names; then {again}.")
    yield Step("Until then the table holds the whole old batch or the whole new one, never a part.")
