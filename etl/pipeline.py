"""The pipeline: gate, process, load, mail. Each step is a call; `run` is all of them in one process.

marker -> gate: is every named file there?   -> process: files to one combined file + manifest (or shards, combined)
                                             -> load: changed companies into the table, one transaction
                                             -> mail: the receipt, which balances
"""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date

from etl.batch.aws import Aws
from etl.batch.company_index import parse_index
from etl.batch.gate import Batch, MissingFiles
from etl.batch.gate import gate as wait_for_files
from etl.batch.storage import FileChanged, Storage, open_storage, read_file
from etl.errors import BatchError, EtlError, ServiceError, SettingsError
from etl.files import manifest
from etl.files.manifest import Manifest
from etl.files.part import NothingUsable
from etl.files.process import Processing, Progress
from etl.files.shards import Shard, process_shard, read_plan, remove_parts, write_plan
from etl.files.shards import combine as combine_parts
from etl.outcome.mail import Mailbox, send
from etl.outcome.receipt import FOLDER as RECEIPTS
from etl.outcome.receipt import FileCounts, Receipt, Run
from etl.table.database import connect
from etl.table.load import Target, load_while_processing, record_run
from etl.table.load import load as load_manifest


@dataclass(frozen=True)
class Job:
    """What to move: `source` (company files), `index` (one file) and `output` are paths or `s3://` URLs."""

    source: str
    index: str
    output: str
    since: date | None = None
    grace_seconds: float = 0
    aws: Aws = field(default_factory=Aws)

    def open_output(self) -> Storage:
        return open_storage(self.output, aws=self.aws, create=True)


def gate(job: Job) -> Batch:
    """Wait until every file that the index names is in the source. Raises MissingFiles when the grace is over."""
    source = open_storage(job.source, aws=job.aws)
    index = parse_index(read_file(job.index, aws=job.aws))
    return wait_for_files(index, index_url=job.index, source=source, grace_seconds=job.grace_seconds)


def split(job: Job, *, run: Run, shards: int) -> Batch:
    """Gate, for a run that processes its batch in `shards` shards: all take the files that are listed now.

    Also removes the parts that killed runs have left: an output serves one run at a time.
    """
    batch = gate(job)
    output = job.open_output()
    remove_parts(output=output)
    if shards > 1:
        write_plan(batch, output=output, run_id=run.run_id)
    return batch


def process(job: Job, *, run: Run, shard: Shard | None = None, progress: Progress | None = None) -> Receipt:
    """Company files to combined file, rejected rows and manifest. The receipt lacks what only a load knows.

    Of a split batch, each `shard` is processed alone and leaves a part, for `combine`; its receipt tells of that part.
    """
    output = job.open_output()
    if shard is None or shard.of == 1:
        return process_batch(gate(job), output=output, since=job.since, run=run, progress=progress)
    begun = time.monotonic()
    batch = _planned(job, output=output, run=run)
    part = process_shard(batch, shard, output=output, run_id=run.run_id, since=job.since, progress=progress)
    return _processed(part, output=output, run=run, process=time.monotonic() - begun)


def combine(job: Job, *, run: Run, shards: int) -> Receipt:
    """The parts of all shards become the outputs that `process` writes alone. May be done again while they are there.

    Raises NothingUsable as `process` does, and BatchError when a part is gone.
    """
    begun = time.monotonic()
    output = job.open_output()
    batch = _planned(job, output=output, run=run)
    whole = combine_parts(batch, shards=shards, output=output, run_id=run.run_id, since=job.since)
    return _processed(whole, output=output, run=run, combine=time.monotonic() - begun)


def _planned(job: Job, *, output: Storage, run: Run) -> Batch:
    return read_plan(source=open_storage(job.source, aws=job.aws), output=output, run_id=run.run_id)


def process_batch(
    batch: Batch, *, output: Storage, since: date | None, run: Run, progress: Progress | None = None
) -> Receipt:
    """The same for a batch whose files are known to be there."""
    begun = time.monotonic()
    processing = Processing(batch, output=output, since=since, progress=progress)
    for _ in processing:
        pass
    return _processed(processing.manifest, output=output, run=run, process=time.monotonic() - begun)


def _processed(facts: Manifest, *, output: Storage, run: Run, **steps: float) -> Receipt:
    receipt = Receipt.of_manifest(facts, run=run, output=output.url).timed(**steps)
    receipt.check_balance()
    return receipt


def load(job: Job, *, target: Target, run: Run) -> Receipt:
    """The processed output into the table; the receipt is also written to `Output/receipts/`."""
    output = job.open_output()
    try:
        content = output.read(manifest.NAME)
    except FileChanged as error:
        raise SettingsError(f"There is no {manifest.NAME} in {output.url}. Run process first.") from error
    receipt = load_manifest(Manifest.from_json(content), output=output, target=target, run=run)
    _write_receipt_of_load(receipt, output=output)
    return receipt


def run(job: Job, *, target: Target, run: Run, progress: Progress | None = None) -> Receipt:
    """Gate, process and load in one process, the load taking each slice as soon as it is written."""
    begun = time.monotonic()
    output = job.open_output()
    batch = gate(job)
    timed = replace(run, steps={"gate": time.monotonic() - begun})
    processing = Processing(batch, output=output, since=job.since, progress=progress)
    receipt = load_while_processing(processing, output=output, target=target, run=timed)
    _write_receipt_of_load(receipt, output=output)
    return receipt


def write_receipt(receipt: Receipt, *, output: Storage) -> None:
    """Put the receipt where people and the watchdog look for it."""
    with output.write(f"{RECEIPTS}/{receipt.run_id}.json") as file:
        file.write(receipt.to_json().encode())


def _write_receipt_of_load(receipt: Receipt, *, output: Storage) -> None:
    try:
        write_receipt(receipt, output=output)
    except EtlError as error:
        raise ServiceError(
            f"The load was committed, but its receipt could not be written: {error} "
            "Mend that and run it again: it will find nothing to load."
        ) from error


def read_receipt(run_id: str, *, output: Storage) -> Receipt | None:
    """The receipt of a run, if it has one. Raises BatchError when what stands in its place is none."""
    try:
        return Receipt.from_json(output.read(f"{RECEIPTS}/{run_id}.json"))
    except FileChanged:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise BatchError(f"{RECEIPTS}/{run_id}.json is no receipt of this version ({error}).") from error


def record_start(job: Job, *, run: Run) -> None:
    """Say that a run is under way, so that one that is killed leaves more than silence."""
    receipt = Receipt(run_id=run.run_id, state="running", started_at=run.started_at, source=job.source)
    write_receipt(receipt, output=job.open_output())


def record_failure(error: EtlError, *, job: Job, target: Target | None, run: Run) -> Receipt:
    """The receipt of a run that failed, kept in `Output/receipts/` and pipeline_runs as far as they can be reached."""
    receipt = Receipt(
        run_id=run.run_id,
        state="failed",
        started_at=run.started_at,
        source=job.source,
        output=job.output,
        error=str(error),
    ).timed()
    if isinstance(error, MissingFiles):
        files = FileCounts(listed=error.listed, accepted=error.listed - len(error.missing), missing=len(error.missing))
        receipt = replace(receipt, files=files)
    if isinstance(error, NothingUsable):
        refused = len(error.quarantined)
        files = FileCounts(listed=error.listed, accepted=error.listed - refused, quarantined=refused)
        receipt = replace(receipt, files=files, quarantined=error.quarantined)
    with suppress(EtlError):
        write_receipt(receipt, output=job.open_output())
    if target and not target.dry_run:
        with suppress(EtlError), connect(target.database) as connection:
            record_run(connection, receipt, attempt_id=str(uuid.uuid4()))
            connection.commit()
    return receipt


def conclude(job: Job, *, run: Run, succeeded: bool, reason: str, mailbox: Mailbox) -> Receipt:
    """Send the one mail of a run that an orchestrator has finished; `reason` is its word for why it ended.

    The mail tells what the run's own receipt says. Where a run was killed or timed out before it could write one, or
    its output cannot be reached, the mail says that. Raises ServiceError when SNS refuses the mail. The receipt says
    last that the mail went out: the watchdog tells of a run whose receipt does not.
    """
    output = None
    receipt = Receipt(run_id=run.run_id, state="failed", started_at=run.started_at, source=job.source)
    readable = False
    try:
        output = job.open_output()
        receipt = read_receipt(run.run_id, output=output) or receipt
        readable = True
        if not receipt.error and not (succeeded and receipt.state in ("success", "dry_run")):
            receipt = replace(receipt, state="failed", error=_silent_end(receipt, reason), output=output.url).timed()
            write_receipt(receipt, output=output)
    except EtlError as error:
        if not receipt.error:
            told = str(error)
            if succeeded and not readable:
                told = f"The run succeeded, but its receipt cannot be read: {told} python -m etl history has it too."
            receipt = replace(receipt, state="failed", error=told).timed()
    receipt, refused = send(receipt, mailbox=mailbox, aws=job.aws, output=output)
    if output and readable:
        with suppress(EtlError):  # then the watchdog tells of the run once more
            write_receipt(receipt, output=output)
    if output and succeeded:
        with suppress(EtlError):  # the next run's gate removes what stays; a failed run keeps it for another try
            remove_parts(output=output, run_id=run.run_id)
    if refused:
        raise ServiceError(refused)
    return receipt


def _silent_end(receipt: Receipt, reason: str) -> str:
    """What can be said of a run that did not say itself why it ended."""
    table = "The table holds the old batch or the new one, whole: python -m etl history tells which."
    if receipt.state == "success":
        table = "The load had been committed all the same."
    return (
        f"The run ended as {reason!r} and could not say why: it was killed or timed out. {table} "
        "See the log of its last task in Airflow, then put the marker again."
    )
