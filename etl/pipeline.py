"""The walk of a batch: gate, process, load, mail. Each step is a call; `run` is the first three in one process.

marker -> gate: are all files there? the plan -> process: a shard of the plan to slices; combine, if there are several
                                              -> load: changed companies into the table, one transaction
                                              -> mail: the receipt, which balances

Long because a batch has one way, and a reader finds all of it here in order.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import islice
from typing import TYPE_CHECKING

from etl.batch.aws import Aws
from etl.batch.company_index import CompanyIndex, parse_index
from etl.batch.gate import make_plan
from etl.batch.plan import Plan, read_plan, remove_work, write_plan
from etl.batch.policy import Policy
from etl.batch.storage import Storage, full_url, open_storage, read_file
from etl.errors import (
    EtlError,
    MissingFilesError,
    NothingReadableError,
    NothingUsableError,
    ServiceError,
    TooManyRejectedError,
    as_etl_error,
    only_etl_errors,
)
from etl.files.combined_file import CombinedFile
from etl.files.manifest import Manifest, QuarantinedFile, read_manifest
from etl.files.process import Processing, Progress
from etl.files.row_lists import REJECTED_ROWS, read_flagged
from etl.files.shards import OUTPUTS, combine_shards
from etl.outcome.channels import Channels, report_to
from etl.outcome.datasets import Datasets, datasets_of
from etl.outcome.mail import NOTICES, Mailbox, send
from etl.outcome.notes import (
    notes_of_load,
    notes_of_manifest,
    notes_of_shrunk_files,
    silent_end,
    unreadable_receipt,
)
from etl.outcome.receipt import FOLDER, REPORTS, FileCounts, Receipt, Run, State, read_receipt, write_receipt
from etl.table.flagged import FIRST_FLAGS
from etl.table.load import Loaded, Source, Target, load_slices
from etl.table.rejected import record_quarantined, record_rejected
from etl.table.runs import RunRecord, last_receipts, record_run

if TYPE_CHECKING:
    from psycopg2.extensions import cursor as Cursor


@dataclass(frozen=True)
class Job:
    """What to move: `source` (company files), `company_index` (one file) and `output` are paths or `s3://` URLs."""

    source: str
    company_index: str
    output: str
    since: date | None = None
    grace_seconds: float = 0
    """How long gate waits for files that the company index names."""
    reread: bool = False
    """Read every company file, also those whose version the last outputs know."""
    policy: Policy = field(default_factory=Policy)
    """What may be wrong with a batch that is loaded all the same."""
    column_aliases: str = ""
    """Other names by which columns are found too, such as `Close=Adj Close, Date=Datum`."""
    report: bool = True
    """Write the report page next to the receipt."""
    dry_run: bool = False
    """The run was asked to write nothing to the table: what is said of it says so too, also where it fails."""
    aws: Aws = field(default_factory=Aws)

    def open_output(self) -> Storage:
        return open_storage(self.output, aws=self.aws, create=True)


@only_etl_errors()
def gate(job: Job, *, run: Run, shards: int = 1, waiting: Callable[[str], object] = lambda _: None) -> Plan:
    """Wait until every file that the company index names is in the source, and write the plan of the run.

    `waiting` gets a line about what it waits for. Raises MissingFilesError when the grace is over, unless the job's
    policy allows it. Also removes what killed runs have left: an output serves one run at a time.
    """
    index = parse_index(read_file(job.company_index, aws=job.aws))
    return gate_index(index, job=job, run=run, shards=shards, waiting=waiting)


def gate_index(
    index: CompanyIndex, *, job: Job, run: Run, shards: int = 1, waiting: Callable[[str], object] = lambda _: None
) -> Plan:
    """The same for a company index that is at hand."""
    source = open_storage(job.source, aws=job.aws)
    plan = make_plan(
        index,
        company_index=job.company_index,
        source=source,
        grace_seconds=job.grace_seconds,
        shards=shards,
        policy=job.policy,
        waiting=waiting,
    )
    output = job.open_output()
    write_plan(plan, output=output, run_id=run.run_id)
    for names in (*OUTPUTS, f"{FOLDER}/*", f"{NOTICES}/*", f"{REPORTS}/*"):
        output.remove_unfinished(names)
    return plan


@only_etl_errors()
def process(job: Job, *, run: Run, shard: int = 0, progress: Progress | None = None) -> Receipt:
    """One shard of the run's plan to combined file, rejected rows and manifest; of several, `combine` makes these.

    The receipt, which reports on this shard, lacks what only a load knows. Raises TooManyRejectedError, behind the
    outputs, where the policy says so of the only shard.
    """
    begun = time.monotonic()
    before = _last_manifest(job)
    with closing(_processing(job, run=run, shard=shard, progress=progress)) as processing:
        combined = processing.finish()
    if processing.is_whole:
        _check_policy(combined.manifest, job=job)
    return _receipt_of(combined.manifest, job=job, run=run, before=before, process=time.monotonic() - begun)


@only_etl_errors()
def combine(job: Job, *, run: Run) -> Receipt:
    """The outputs of a run whose shards are all processed. May be done again while they are there.

    Raises NothingUsableError and TooManyRejectedError as `process` does, and BatchError when a shard is gone.
    """
    begun = time.monotonic()
    output = job.open_output()
    before = _last_manifest(job)
    plan = read_plan(output=output, run_id=run.run_id)
    source = open_storage(job.source, aws=job.aws)
    whole = combine_shards(plan, output=output, source=source, run_id=run.run_id, reread=job.reread)
    _check_policy(whole, job=job)
    return _receipt_of(whole, job=job, run=run, before=before, combine=time.monotonic() - begun)


@only_etl_errors()
def load(job: Job, *, target: Target, run: Run) -> Receipt:
    """The processed output into the table; the receipt is also written to `Output/receipts/`."""
    output = job.open_output()
    combined = CombinedFile(read_manifest(output), output)
    return _load_source(combined, job=job, target=target, run=run, step="load")


@only_etl_errors()
def run(
    job: Job,
    *,
    target: Target,
    run: Run,
    progress: Progress | None = None,
    waiting: Callable[[str], object] = lambda _: None,
) -> Receipt:
    """Gate, process and load in one process, the load taking each slice as soon as it is written."""
    begun = time.monotonic()
    plan = gate(job, run=run, waiting=waiting)
    timed = replace(run, steps={"gate": time.monotonic() - begun})
    try:
        with closing(_processing(job, run=run, plan=plan, progress=progress)) as processing:
            return _load_source(processing, job=job, target=target, run=timed, step="process and load")
    finally:
        forget_work(job, run=run)


def forget_work(job: Job, *, run: Run) -> None:
    """Remove plan and shards of a run that needs them no more; what stays, the next gate removes."""
    with suppress(EtlError), only_etl_errors():
        remove_work(output=job.open_output(), run_id=run.run_id)


def _processing(
    job: Job, *, run: Run, plan: Plan | None = None, shard: int = 0, progress: Progress | None
) -> Processing:
    output = job.open_output()
    return Processing(
        plan or read_plan(output=output, run_id=run.run_id),
        shard=shard,
        source=open_storage(job.source, aws=job.aws),
        output=output,
        run_id=run.run_id,
        since=job.since,
        column_aliases=job.column_aliases,
        reread=job.reread,
        progress=progress,
    )


def _last_manifest(job: Job) -> Manifest | None:
    with suppress(EtlError):
        return read_manifest(job.open_output())
    return None


def _receipt_of(manifest: Manifest, *, job: Job, run: Run, before: Manifest | None, **steps: float) -> Receipt:
    shrunk = notes_of_shrunk_files(manifest, before=before) if before else ()
    notes = (*notes_of_manifest(manifest), *shrunk)
    output = job.open_output()
    receipt = Receipt.of_manifest(manifest, run=run, output=output.url, notes=notes, policy=job.policy).timed(**steps)
    if manifest.list_versions:  # of a shard there is no list yet
        receipt = replace(receipt, flagged=tuple(islice(read_flagged(manifest, output), FIRST_FLAGS)))
    receipt.check_balance()
    return receipt


def _check_policy(manifest: Manifest, *, job: Job) -> None:
    """Raise TooManyRejectedError where the batch has more rejected rows than the job's policy allows."""
    rejected, read = manifest.rows_rejected, manifest.rows_read
    choice = job.policy.max_rejected
    if choice and job.policy.rejects_too_many(rejected=rejected, read=read):
        raise TooManyRejectedError(
            f"{rejected:,} of {read:,} rows are rejected ({100 * rejected / read:.3g} %), more than {choice.value}, "
            f"which {choice.set_by} allows. The table is unchanged. {job.open_output().url_of(REJECTED_ROWS)} names "
            f"each row: fix the export, then put the marker again. Or consent to as many: --max-rejected {rejected}, "
            "or max_rejected in the DAG's form."
        )


def _load_source(source: Source, *, job: Job, target: Target, run: Run, step: str) -> Receipt:
    output = job.open_output()

    def record(manifest: Manifest, loaded: Loaded) -> RunRecord:
        _check_policy(manifest, job=job)
        receipt = Receipt.of_manifest(manifest, run=run, output=output.url, policy=job.policy).with_load(loaded)
        notes = (*notes_of_manifest(manifest), *notes_of_load(loaded, receipt=receipt))
        state = State.DRY_RUN if target.dry_run else State.SUCCESS
        receipt = replace(receipt, state=state, notes=notes, dry_run=target.dry_run)
        receipt = receipt.timed(**{step: loaded.elapsed_seconds})
        receipt.check_balance()
        return _record_of(receipt)

    receipt = Receipt.from_json(load_slices(source, target=target, run_id=run.run_id, record=record))
    try:
        write_receipt(receipt, output=output)
    except EtlError as error:
        raise ServiceError(
            f"The load was committed, but its receipt could not be written: {error} "
            "Fix that and run it again: it will find nothing to load."
        ) from error
    if job.report:
        _write_report(receipt, output=output, database=target.database)
    return receipt


def _write_report(receipt: Receipt, *, output: Storage, database: str | None) -> None:
    from etl.outcome.report import write_report  # noqa: PLC0415  a run without a page does not pay for it

    write_report(receipt, output=output, database=database)


def _record_of(receipt: Receipt) -> RunRecord:
    return RunRecord(receipt.run_id, receipt.state, receipt.started_at, receipt.elapsed_seconds, receipt.to_json())


@only_etl_errors()
def record_start(job: Job, *, run: Run) -> None:
    """Say that a run is under way, so that one that is killed leaves more than silence."""
    receipt = Receipt.of_run(run, state=State.RUNNING, source=full_url(job.source), dry_run=job.dry_run)
    write_receipt(receipt, output=job.open_output())


def record_failure(error: Exception, *, job: Job, target: Target | None, run: Run) -> Receipt:
    """The receipt of a run that failed, kept in `Output/receipts/` and pipeline_runs as far as they can be reached.

    Raises nothing: whatever keeps it from one of them, the receipt that it returns says why the run failed.
    """
    error = as_etl_error(error)
    place = None
    with suppress(EtlError), only_etl_errors():
        place = job.open_output()
    places = full_url(job.source), place.url if place else full_url(job.output)
    source, output = (one.encode(errors="backslashreplace").decode() for one in places)
    facts = {"source": source, "output": output, "error": str(error), "policy": job.policy.choices}
    dry_run = job.dry_run or bool(target and target.dry_run)
    receipt = Receipt.of_run(run, state=State.FAILED, **facts, dry_run=dry_run).timed()
    database = None
    manifest: Manifest | None = None
    if isinstance(error, MissingFilesError):
        files = FileCounts(listed=error.listed, accepted=error.listed - len(error.missing), missing=len(error.missing))
        receipt = replace(receipt, files=files, missing=error.missing)
    if isinstance(error, TooManyRejectedError):
        with suppress(EtlError), only_etl_errors():
            manifest = read_manifest(job.open_output())
            whole = Receipt.of_manifest(manifest, run=run, output=output, policy=job.policy)
            receipt = replace(whole, state=State.FAILED, error=str(error), dry_run=dry_run).timed()
    if isinstance(error, NothingUsableError | NothingReadableError):
        quarantined = tuple(QuarantinedFile(file, reason) for file, reason in error.quarantined)
        refused, missing = len(quarantined), len(error.missing)
        accepted = error.listed - refused - missing
        files = FileCounts(listed=error.listed, accepted=accepted, quarantined=refused, missing=missing)
        receipt = replace(receipt, files=files, quarantined=quarantined, missing=error.missing)
    if target and not target.dry_run:

        def record_lists(cursor: Cursor) -> None:
            if manifest:
                record_rejected(cursor, run_id=run.run_id, manifest=manifest, output=job.open_output())
            elif receipt.quarantined:
                record_quarantined(cursor, receipt.quarantined, run_id=run.run_id)

        with suppress(EtlError), only_etl_errors():
            made = record_run(
                target.database, lambda previous: _record_of(replace(receipt, previous=previous)), also=record_lists
            )
            receipt = Receipt.from_json(made.receipt)
            database = target.database
    if place:
        with suppress(EtlError), only_etl_errors():
            write_receipt(receipt, output=place)
            if job.report:
                _write_report(receipt, output=place, database=database)
    return receipt


@only_etl_errors()
def datasets(receipt: Receipt, *, job: Job, target: Target) -> Datasets:
    """What a load read and wrote, named as OpenLineage does. Raises ServiceError or SettingsError."""
    return datasets_of(
        receipt, source=job.source, company_index=job.company_index, output=job.output, database=target.database
    )


@only_etl_errors()
def read_history(database: str, *, last: int = 10) -> list[Receipt]:
    """The receipts of the newest runs, newest first."""
    return [Receipt.from_facts(facts) for facts in last_receipts(database, limit=last)]


def send_mail(receipt: Receipt, *, job: Job, mailbox: Mailbox) -> tuple[Receipt, str | None]:
    """Send the mail of a run that has just ended. Returns the receipt, and why SNS refused the mail, if it did."""
    output = None
    with suppress(EtlError), only_etl_errors():
        output = job.open_output()
    return send(receipt, mailbox=mailbox, aws=job.aws, output=output)


def report_to_channels(receipt: Receipt, *, job: Job, channels: Channels, mailbox: Mailbox | None = None) -> Receipt:
    """Report a run that has just ended to the channels and CloudWatch; the receipt says what became of it.

    Takes a bounded time and raises nothing. The title is the mail's subject; without a mailbox it has no name.
    """
    title = f"Pipeline_{'Failure' if receipt.state == State.FAILED else 'Success'}"
    if mailbox:
        title = mailbox.subject(success=receipt.state != State.FAILED)
    output = None
    with suppress(EtlError), only_etl_errors():
        output = job.open_output() if job.output else None
    return report_to(receipt, channels=channels, title=title, aws=job.aws, output=output)


def send_mail_of_run(
    job: Job, *, run: Run, succeeded: bool, reason: str, mailbox: Mailbox, channels: Channels | None = None
) -> Receipt:
    """Send the one mail of a run that an orchestrator has finished, and then report it to the channels.

    `reason` is the orchestrator's word for why the run ended. The mail says what the run's own receipt says. Where a
    run was killed or timed out before it could write one, or its output cannot be reached, the mail says that. Raises
    ServiceError when SNS refuses the mail. The receipt says last that the mail went out, and what the channels got: the
    watchdog reports a run whose receipt does not.
    """
    output = None
    receipt = Receipt.of_run(run, state=State.FAILED, source=full_url(job.source), dry_run=job.dry_run)
    readable = False
    try:
        output = job.open_output()
        receipt = read_receipt(run.run_id, output=output) or receipt
        readable = True
        if not receipt.error and not (succeeded and receipt.state in (State.SUCCESS, State.DRY_RUN)):
            why = silent_end(receipt, reason)
            receipt = replace(receipt, state=State.FAILED, error=why, output=output.url).timed()
            write_receipt(receipt, output=output)
            _write_report(receipt, output=output, database=None)
    except Exception as failure:  # the mail goes out whatever happens
        error = as_etl_error(failure)
        if not receipt.error:
            why = unreadable_receipt(error) if succeeded and not readable else str(error)
            receipt = replace(receipt, state=State.FAILED, error=why).timed()
    receipt, refused = send(receipt, mailbox=mailbox, aws=job.aws, output=output, may_write_receipt=readable)
    if channels:
        receipt = report_to(
            receipt,
            channels=channels,
            title=mailbox.subject(success=receipt.state != State.FAILED),
            aws=job.aws,
            output=output,
            may_write_receipt=readable,
        )
    if succeeded:
        forget_work(job, run=run)  # a failed run keeps it for another try
    if refused:
        raise ServiceError(refused)
    return receipt
