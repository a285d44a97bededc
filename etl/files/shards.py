"""Shards: ranges of one batch go in, each processed where and when it likes; the outputs of one pass come out.

While a run lasts, `parts/run-{run_id}/` below its output holds the plan (the batch as the gate saw it, so that all
shards divide the same), and of each shard its part: `{number}.json`, written last, names the folder with the bytes.
Each attempt has a folder of its own, so one that Airflow took for dead cannot write into what another has finished.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date

from etl.batch.gate import Batch
from etl.batch.storage import FileChanged, Storage
from etl.errors import BatchError
from etl.files import combined_file
from etl.files.manifest import Manifest
from etl.files.part import Part, add_up, check_usable, describe
from etl.files.process import REJECTED_ROWS, CheckedFiles, Progress, write_manifest, write_outputs

_PARTS = "parts"
_PLAN = "plan.json"


@dataclass(frozen=True)
class Shard:
    """One of the `of` ranges that a batch is divided into, the first being number 0."""

    number: int
    of: int


def write_plan(batch: Batch, *, output: Storage, run_id: str) -> None:
    """Keep the batch for the shards of this run."""
    with output.write(f"{_folder(run_id)}/{_PLAN}") as file:
        file.write(batch.to_json())


def read_plan(*, source: Storage, output: Storage, run_id: str) -> Batch:
    """The batch that all shards of this run divide. Raises BatchError when it is not there any more."""
    with _expected(run_id):
        return Batch.from_json(output.read(f"{_folder(run_id)}/{_PLAN}"), source=source)


def process_shard(
    batch: Batch, shard: Shard, *, output: Storage, run_id: str, since: date | None, progress: Progress | None = None
) -> Manifest:
    """Write the part of one shard of a planned batch, and tell what is in it; nothing of it shows in the outputs."""
    files = batch.shards(shard.of)[shard.number]
    folder = f"{_folder(run_id)}/{shard.number}-{uuid.uuid4().hex[:8]}"
    with (
        output.write(f"{folder}/{combined_file.NAME}") as combined,
        output.write(f"{folder}/{REJECTED_ROWS}") as rejected,
    ):
        checked = CheckedFiles(files, combined=combined, rejected=rejected, since=since, progress=progress)
        for _ in checked:
            pass
    with output.write(f"{_folder(run_id)}/{shard.number}.json") as file:
        file.write(json.dumps({"folder": folder, "part": checked.part.to_facts()}).encode())
    return describe(checked.part, batch=files, since=since)


def combine(batch: Batch, *, shards: int, output: Storage, run_id: str, since: date | None) -> Manifest:
    """Put the parts of all shards together: the same outputs, byte for byte, as one pass over the batch writes.

    Raises NothingUsable as that does, and BatchError when a part is not there. Safe to do again.
    """
    with _expected(run_id):
        found = [json.loads(output.read(f"{_folder(run_id)}/{number}.json")) for number in range(shards)]
        parts = [Part.from_facts(one["part"]) for one in found]
        whole = add_up(parts)
        check_usable(whole, batch=batch, since=since)
        with write_outputs(output) as (combined, rejected):
            for one, part in zip(found, parts, strict=True):
                combined.append(f"{one['folder']}/{combined_file.NAME}", length=part.combined_bytes)
                rejected.append(f"{one['folder']}/{REJECTED_ROWS}", length=part.rejected_bytes)
    manifest = describe(whole, batch=batch, since=since)
    write_manifest(manifest, output=output)
    return manifest


def remove_parts(*, output: Storage, run_id: str | None = None) -> None:
    """Remove what the shards of a run left, or those of all runs."""
    output.remove(_folder(run_id) if run_id else _PARTS)


def _folder(run_id: str) -> str:
    return f"{_PARTS}/run-{run_id}"


@contextmanager
def _expected(run_id: str) -> Iterator[None]:
    try:
        yield
    except FileChanged as error:
        raise BatchError(
            f"A part of run {run_id} is gone ({error}): parts are removed when their run has succeeded or another has "
            "begun. The table is unchanged. Clear the whole run, from gate on, or put the marker again."
        ) from error
