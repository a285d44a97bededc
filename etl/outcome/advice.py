"""What a person does next, by what a receipt says: sentences, each with a command where one does it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from etl.batch.policy import Policy
from etl.files.row_lists import REJECTED_ROWS
from etl.outcome.receipt import Receipt, State
from etl.outcome.wording import counted, first_names
from etl.table.restatements import Kind

_ALIASES = re.compile("MBD_COLUMN_ALIASES='([^']*)'")  # as header.py proposes it


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
    is_dry_run = receipt.state == State.DRY_RUN
    if receipt.changed_outside or receipt.written_outside:
        yield Step(
            "Find out who changes the table outside the pipeline (see the notes). --reload corrects the companies that "
            "the batch has." + " Give it to the real run, or tick reload in the DAG's form." * is_dry_run,
            _load_again(receipt, "--reload"),
        )
    if receipt.held:
        names = [one.company_name for one in receipt.held]
        lost = sum(one.loaded_rows - one.rows for one in receipt.held)
        consent = "the real run with --accept-shrunk, or accept_shrunk in the DAG's form," if is_dry_run else "this"
        yield Step(
            f"Ask the exporter for whole files of {first_names(names)}: the new ones lack days that are loaded, and "
            f"these stay. Only if the exporter confirms the loss: {consent} removes {counted(lost, 'loaded row')}.",
            _load_again(receipt, f"--accept-shrunk {' '.join(map(shlex.quote, names))}") if len(names) <= 10 else "",
        )
    if receipt.quarantined and receipt.state != State.FAILED:
        yield from _quarantined(receipt)
    if receipt.missing and receipt.state != State.FAILED:
        yield Step(
            f"Ask for the {counted(len(receipt.missing), 'missing file')}: the run was allowed to go on without. Until "
            "then their earlier rows stay in the table."
        )
    if receipt.rows.rejected:
        fewer = {one.company_name for one in receipt.restatements if one.kind == Kind.REMOVED}
        removed = [one.file for one in receipt.rejected if one.file in fewer]
        loss = f" Days of {first_names(removed)} that were loaded are gone until then." if removed else ""
        is_recorded = receipt.state == State.SUCCESS and receipt.rows.inserted is not None
        yield Step(
            f"Have the {counted(receipt.rows.rejected, 'rejected row')} corrected at the source: {REJECTED_ROWS} names "
            f"line, column and value of each{', until the next run; later this does' * is_recorded}.{loss}",
            f"mbd rejected {shlex.quote(receipt.run_id)}" if is_recorded else "",
        )
    if receipt.restatements and receipt.state == State.SUCCESS:
        yield Step(
            "History was restated: results that were computed from earlier prices may differ now. See each row, before "
            "and after:",
            f"mbd diff {shlex.quote(receipt.run_id)} --rows",
        )


def _load_again(receipt: Receipt, option: str) -> str:
    """The command that loads the output of the run again; none of a dry run, whose output grows old."""
    return "" if receipt.state == State.DRY_RUN else f"mbd load --output {shlex.quote(receipt.output)} {option}"


def _quarantined(receipt: Receipt) -> Iterator[Step]:
    new, files = receipt.newly_quarantined, [one.file for one in receipt.quarantined]
    which = f"usable files of {first_names(new or files)}"
    were = f"; the other {len(files) - len(new):,} were quarantined before too" if 0 < len(new) < len(files) else ""
    yield Step(
        f"Ask the exporter for {which}{were}. Upload them, and put the marker again. Until then their earlier rows "
        "stay in the table."
    )
    yield from _renamed_columns(receipt)


def _renamed_columns(receipt: Receipt) -> Iterator[Step]:
    proposed = [found[1] for one in receipt.quarantined if (found := _ALIASES.search(one.reason))]
    if proposed:
        pairs = ", ".join(dict.fromkeys(proposed))
        yield Step(
            "Only if the exporter confirms that a column has another name and means the same: start the DAG with "
            f"column_aliases {pairs!r} in its form, which loads with it once; or set that as MBD_COLUMN_ALIASES in "
            ".env, with what is there already, and start the stack again."
        )


def _after_failure(receipt: Receipt) -> Iterator[Step]:
    if _lacks_files(receipt):
        count = len(receipt.missing)
        yield Step(
            f"Upload the {counted(count, 'missing file')}. Or, if they cannot come, start the DAG with allow_missing "
            f"{count} in its form instead: their companies keep their rows."
        )
    elif receipt.quarantined and not receipt.rejected:
        yield Step("Have the export fixed: the reason for each file is below.")
    else:
        yield Step("Fix what the first sentences name.")
    yield from _renamed_columns(receipt)
    before_load = receipt.missing or receipt.quarantined or receipt.rejected
    table = "is unchanged" if before_load else "holds a whole batch, the last one or this one, and never a part"
    text = f"Then clear the run in Airflow, from gate on, or put the marker again. Until then the table {table}."
    url = shlex.quote(receipt.marker.url) if receipt.marker else ""
    yield Step(text, f"aws s3 cp --metadata-directive REPLACE {url} {url}" if url else "")


def _lacks_files(receipt: Receipt) -> bool:
    """Whether missing files are what failed the run: nobody had consented to them, or not one file is there."""
    if receipt.rejected or receipt.quarantined or not receipt.missing:
        return False
    is_allowed = Policy(allow_missing=receipt.policy.get("allow_missing")).allows(receipt.missing)
    return not is_allowed or len(receipt.missing) == receipt.files.listed
