"""Shards: what each task of a divided batch leaves, and how the outputs of one pass are combined from it.

In the work folder of the run, each shard has `shard-{number}.json`, written last, which names the folder with its
bytes. Each attempt has a folder of its own, so one that Airflow took for dead cannot write into a finished one.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from etl.batch.plan import Plan, work_folder, work_is_gone
from etl.batch.storage import Storage, Writer
from etl.errors import FileChangedError
from etl.files import combined_file
from etl.files.manifest import Manifest, check_usable, join
from etl.files.outputs import REJECTED_ROWS, write_manifest, write_outputs


@dataclass
class ShardFiles:
    """Where a shard is written; who writes it says last, by `manifest`, what is in it."""

    combined: Writer
    rejected: Writer
    manifest: Manifest | None = None


@contextmanager
def write_shard(number: int, *, output: Storage, run_id: str) -> Iterator[ShardFiles]:
    """The files of one shard, which count when the block ends well; nothing of them shows in the outputs."""
    folder = f"{work_folder(run_id)}/{number}-{uuid.uuid4().hex[:8]}"
    with (
        output.write(f"{folder}/{combined_file.NAME}") as combined,
        output.write(f"{folder}/{REJECTED_ROWS}") as rejected,
    ):
        files = ShardFiles(combined, rejected)
        yield files
    if files.manifest:
        with output.write(_entry(number, run_id)) as file:
            file.write(json.dumps({"folder": folder, "manifest": files.manifest.to_json().decode()}).encode())


def combine_shards(plan: Plan, *, output: Storage, run_id: str) -> Manifest:
    """Combine the shards of a run: the same outputs, byte for byte, as one pass over the batch writes. Safe to repeat.

    Raises NothingUsableError as that does, and BatchError when a shard is not there.
    """
    try:
        found = [json.loads(output.read(_entry(number, run_id))) for number in range(len(plan.shards))]
        manifests = [Manifest.from_json(entry["manifest"]) for entry in found]
        whole = join(manifests, plan=plan)
        check_usable(whole)
        with write_outputs(output) as (combined, rejected):
            for entry, shard in zip(found, manifests, strict=True):
                combined.append(f"{entry['folder']}/{combined_file.NAME}", length=shard.combined_bytes)
                rejected.append(f"{entry['folder']}/{REJECTED_ROWS}", length=shard.rejected_bytes)
    except FileChangedError as error:
        raise work_is_gone(run_id) from error
    write_manifest(whole, output=output)
    return whole


def _entry(number: int, run_id: str) -> str:
    return f"{work_folder(run_id)}/shard-{number}.json"
