"""Writes the outputs of a batch, or of its shards, and combines these.

In the work folder of the run, each shard has `shard-{number}.json`, written last, which names the folder with its
bytes. Each attempt has a folder of its own, so one that Airflow took for dead cannot write into a finished one.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from etl.batch.plan import Plan, work_folder, work_is_gone
from etl.batch.storage import Storage
from etl.errors import FileChangedError
from etl.files import combined_file, manifest
from etl.files.last_outputs import LastOutputs, rules_digest
from etl.files.manifest import Manifest, check_usable, join
from etl.files.outputs import OutputFile
from etl.files.row_lists import HEADERS

OUTPUTS = (combined_file.NAME, *HEADERS, manifest.NAME)
"""The files of an output, by name."""

_RUNS_OF_0_1 = "parts/run-"  # a run of version 0.1 that was killed has left it; later manifests are known


@dataclass
class Outputs:
    """Files that are being written; who writes them says at the end, by `manifest`, what is in them."""

    combined: OutputFile
    lists: tuple[OutputFile, ...]
    """One for each of HEADERS."""
    manifest: Manifest = field(init=False)

    def write_lines(self, entries: Iterable[bytes]) -> None:
        """Add the lines of a company file to each list."""
        for one, lines in zip(self.lists, entries, strict=True):
            if lines:
                one.write(lines)

    def repeat_lines(self, starts: Iterable[int], lengths: Iterable[int]) -> None:
        """Add the lines that the last version of each list has of a company file."""
        for one, start, length in zip(self.lists, starts, lengths, strict=True):
            one.repeat(start=start, length=length)


@contextmanager
def write_outputs(output: Storage, *, last: LastOutputs) -> Iterator[Outputs]:
    """Combined file, lists of rows and manifest, which appear in this order when the block ends well.

    What has not changed is not written, but the manifest says also what this run read and left out. Raises
    NothingUsableError at the end when there is not one accepted row.
    """
    with ExitStack() as stack:
        lists = tuple(
            OutputFile(name, output=output, stack=stack, last=known)
            for name, known in zip(HEADERS, last.lists, strict=True)
        )
        combined = OutputFile(combined_file.NAME, output=output, stack=stack, last=last.combined)
        for one, header in zip(lists, HEADERS.values(), strict=True):
            if last.manifest:
                one.repeat(start=0, length=len(header))
            else:
                one.write(header)
        outputs = Outputs(combined, lists)
        yield outputs
        check_usable(outputs.manifest)
        for one in (*lists, combined):
            one.finish()
    outputs.manifest = _write_manifest(outputs, output=output, last=last.manifest)


def _write_manifest(outputs: Outputs, *, output: Storage, last: Manifest | None) -> Manifest:
    """Say what the outputs hold, which files they are and what this run did, unless the last manifest says it."""
    # As they were written, not as they are now: another run may have replaced them.
    versions = {one.name: one.version for one in outputs.lists}
    made = replace(
        outputs.manifest, rules=rules_digest(), combined_version=outputs.combined.version, list_versions=versions
    )
    made = _write_unless_same(made, output=output, last=last)
    if last is None:
        output.remove(_RUNS_OF_0_1)
    return made


def _write_unless_same(made: Manifest, *, output: Storage, last: Manifest | None) -> Manifest:
    if made != last:
        with output.write(manifest.NAME) as file:
            file.write(made.to_json())
    return made


def _of_the_same_files(made: Manifest, last: Manifest) -> Manifest | None:
    """The manifest with the versions of the last one, where the combined file and the lists of rows are the same."""
    if made.slices != last.slices or tuple(made.files.items()) != tuple(last.files.items()):  # in the same order
        return None
    return replace(made, rules=last.rules, combined_version=last.combined_version, list_versions=last.list_versions)


@contextmanager
def write_shard(number: int, *, output: Storage, last: LastOutputs, run_id: str) -> Iterator[Outputs]:
    """The files of one shard, which count when the block ends well; nothing of them shows in the outputs."""
    folder = f"{work_folder(run_id)}/{number}-{uuid.uuid4().hex[:8]}"
    with ExitStack() as stack:
        shard = Outputs(
            OutputFile(
                f"{folder}/{combined_file.NAME}", output=output, stack=stack, last=last.combined, may_stay=False
            ),
            tuple(
                OutputFile(f"{folder}/{name}", output=output, stack=stack, last=known, may_stay=False)
                for name, known in zip(HEADERS, last.lists, strict=True)
            ),
        )
        yield shard
        for one in (shard.combined, *shard.lists):
            one.finish()
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
        last = LastOutputs(output, source=source, since=whole.since, column_aliases=whole.column_aliases, reread=reread)
        if last.manifest and (made := _of_the_same_files(whole, last.manifest)):
            return _write_unless_same(made, output=output, last=last.manifest)
        nothing = LastOutputs(output, source=source, since=whole.since, reread=True)
        with write_outputs(output, last=nothing) as outputs:
            for entry, shard in zip(found, manifests, strict=True):
                outputs.combined.append(f"{entry['folder']}/{combined_file.NAME}", length=shard.combined_bytes)
                for one, name, length in zip(outputs.lists, HEADERS, shard.list_bytes, strict=True):
                    one.append(f"{entry['folder']}/{name}", length=length)
            outputs.manifest = whole
    except FileChangedError as error:
        raise work_is_gone(run_id) from error
    return outputs.manifest


def _entry(number: int, run_id: str) -> str:
    return f"{work_folder(run_id)}/shard-{number}.json"
