"""Writes the outputs of a batch, or of its shards, and combines these.

In the work folder of the run, each shard has `shard-{number}.json`, written last, which names the folder with its
bytes. Each attempt has a folder of its own, so one that Airflow took for dead cannot write into a finished one.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from etl.batch.plan import Plan, work_folder, work_is_gone
from etl.batch.storage import Storage
from etl.errors import FileChangedError
from etl.files import combined_file, manifest
from etl.files.last_outputs import LastOutputs, rules_digest
from etl.files.manifest import Manifest, check_usable, join
from etl.files.outputs import HEADER, REJECTED_ROWS, OutputFile


@dataclass
class Outputs:
    """Files that are being written; who writes them says at the end, by `manifest`, what is in them."""

    combined: OutputFile
    rejected: OutputFile
    manifest: Manifest = field(init=False)


@contextmanager
def write_outputs(output: Storage, *, last: LastOutputs) -> Iterator[Outputs]:
    """Combined file, rejected rows and manifest, which appear in this order when the block ends well.

    What has not changed is not written. Raises NothingUsableError at the end when there is not one accepted row.
    """
    with ExitStack() as stack:
        rejected = OutputFile(REJECTED_ROWS, output=output, stack=stack, last=last.rejected)
        combined = OutputFile(combined_file.NAME, output=output, stack=stack, last=last.combined)
        _write_header(rejected, is_known=last.rejected is not None)
        outputs = Outputs(combined, rejected)
        yield outputs
        check_usable(outputs.manifest)
        rejected.finish()
        combined.finish()
    outputs.manifest = _write_manifest(outputs, output=output, last=last.manifest)


def _write_header(rejected: OutputFile, *, is_known: bool) -> None:
    if is_known:
        rejected.repeat(start=0, length=len(HEADER))
    else:
        rejected.write(HEADER)


def _write_manifest(outputs: Outputs, *, output: Storage, last: Manifest | None) -> Manifest:
    """Say what the outputs hold, and which files they are, unless the last manifest says it."""
    made = outputs.manifest
    if last and not outputs.combined.is_written and not outputs.rejected.is_written and made.files == last.files:
        return replace(
            made, rules=last.rules, combined_version=last.combined_version, rejected_version=last.rejected_version
        )
    made = replace(
        made,
        rules=rules_digest(),
        combined_version=output.find(combined_file.NAME).version,
        rejected_version=output.find(REJECTED_ROWS).version,
    )
    with output.write(manifest.NAME) as file:
        file.write(made.to_json())
    return made


@contextmanager
def write_shard(number: int, *, output: Storage, last: LastOutputs, run_id: str) -> Iterator[Outputs]:
    """The files of one shard, which count when the block ends well; nothing of them shows in the outputs."""
    folder = f"{work_folder(run_id)}/{number}-{uuid.uuid4().hex[:8]}"
    with ExitStack() as stack:
        shard = Outputs(
            OutputFile(
                f"{folder}/{combined_file.NAME}", output=output, stack=stack, last=last.combined, may_stay=False
            ),
            OutputFile(f"{folder}/{REJECTED_ROWS}", output=output, stack=stack, last=last.rejected, may_stay=False),
        )
        yield shard
        shard.combined.finish()
        shard.rejected.finish()
    with output.write(_entry(number, run_id)) as file:
        file.write(json.dumps({"folder": folder, "manifest": shard.manifest.to_json().decode()}).encode())


def combine_shards(plan: Plan, *, output: Storage, source: Storage, run_id: str, reread: bool) -> Manifest:
    """Combine the shards of a run: the same outputs, byte for byte, as one pass over the batch writes. Safe to repeat.

    Raises NothingUsableError as that does, and BatchError when a shard is not there.
    """
    try:
        found = [json.loads(output.read(_entry(number, run_id))) for number in range(len(plan.shards))]
        manifests = [Manifest.from_json(entry["manifest"]) for entry in found]
        whole = join(manifests, plan=plan)
        last = LastOutputs(output, source=source, since=whole.since, reread=reread)
        if last.manifest and (whole.slices, whole.files) == (last.manifest.slices, last.manifest.files):
            versions = last.manifest.rules, last.manifest.combined_version, last.manifest.rejected_version
            return replace(whole, rules=versions[0], combined_version=versions[1], rejected_version=versions[2])
        nothing = LastOutputs(output, source=source, since=whole.since, reread=True)
        with write_outputs(output, last=nothing) as outputs:
            for entry, shard in zip(found, manifests, strict=True):
                outputs.combined.append(f"{entry['folder']}/{combined_file.NAME}", length=shard.combined_bytes)
                outputs.rejected.append(f"{entry['folder']}/{REJECTED_ROWS}", length=shard.rejected_bytes)
            outputs.manifest = whole
    except FileChangedError as error:
        raise work_is_gone(run_id) from error
    return outputs.manifest


def _entry(number: int, run_id: str) -> str:
    return f"{work_folder(run_id)}/shard-{number}.json"
