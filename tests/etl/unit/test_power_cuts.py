"""Outputs in a folder survive a power cut at any moment: what was synced is there, and nothing else is trusted."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import etl
from etl.batch.storage import open_storage
from etl.errors import EtlError, only_etl_errors
from etl.files.combined_file import CombinedFile
from etl.files.manifest import read_manifest
from etl.files.row_lists import read_flagged, read_rejected
from tests.proof.power.forgetful_disk import Tree, recorded, restore
from tests.support.batch_files import Files, process

if TYPE_CHECKING:
    Days = Callable[..., list[str]]

RUN = etl.Run.begin("cut")
OUTPUTS = ("historical_stock_data.csv", "rejected_rows.csv", "rejected_rows.jsonl", "flagged_rows.csv", "manifest.json")


def first(files: Files, days: Days) -> None:
    """Nothing is there yet."""


def changed(files: Files, days: Days) -> None:
    """One company grew, one is new, one has a rejected row, one is not named any more."""
    process(files.job())
    files.put("aa.us.csv", days(7, price=10))
    files.put("cc.us.csv", [*days(20, price=30), "2001-01-30,x,1,1,1,1,0", "2001-01-31,9,2,1,1.5,1,0"])
    files.put("dd.us.csv", days(4, price=40))
    files.name("aa.us.csv", "cc.us.csv", "dd.us.csv")


def same(files: Files, days: Days) -> None:
    """Nothing changed since the last run."""
    process(files.job())


SITUATIONS = [first, changed, same]


@pytest.fixture
def make_files(tmp_path: Path) -> Iterator[Callable[[str], Files]]:
    """Folders in memory, where there are such: some thousand states of them are made."""
    memory = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else tmp_path))

    yield lambda name: Files(root / name).made()
    shutil.rmtree(root)


def outside_work(name: str) -> bool:
    """Whether a file counts when a run begins again: it removes what others were working on."""
    return not name.startswith("work")


def in_outputs(files: Files) -> object:
    """What a load would read from the outputs, or that it would refuse them."""
    with only_etl_errors():
        place = open_storage(str(files.output), create=True)
        manifest = read_manifest(place)
        slices = [(entry.company_name, content) for entry, content in CombinedFile(manifest, place).slices(bool)]
        return slices, [*read_rejected(manifest, place)], [*read_flagged(manifest, place)]


def outputs(files: Files) -> dict[str, bytes]:
    return {name: content for name, content in files.outputs().items() if name in OUTPUTS}


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("situation", SITUATIONS)
def test_outputs_after_a_power_cut_at_any_moment_are_right_or_are_made_again(
    three: Files, days: Days, situation: Callable[[Files, Days], None], shards: int
) -> None:
    situation(three, days)
    batches = []
    with suppress(EtlError):
        batches.append(in_outputs(three))
    with recorded(three.output) as recording:
        process(three.job(), run=RUN, shards=shards)
    batches.append(in_outputs(three))
    whole = outputs(three)
    for moment, tree in (left := list(recording.states(outside_work))):
        restore(three.output, tree)
        with suppress(EtlError):
            assert in_outputs(three) in batches, moment
        process(three.job(), run=RUN, shards=shards)
        assert outputs(three) == whole, moment
    assert len(left) == 1 + (1 if situation is same else len(OUTPUTS))  # the manifest says what each run read


def test_shards_after_a_power_cut_at_any_moment_are_combined_rightly_or_not_at_all(three: Files, days: Days) -> None:
    changed(three, days)
    with recorded(three.output) as recording:
        process(three.job(), run=RUN, shards=2)
    whole = outputs(three)
    combined: list[str] = []
    combined_after_a_repeat: list[str] = []
    for moment, tree in recording.states():
        restore(three.output, tree)
        with suppress(EtlError):
            etl.combine(three.job(), run=RUN)
            assert outputs(three) == whole, moment
            combined.append(moment)
        try:
            for shard in range(2):  # as Airflow tries a task again
                etl.process(three.job(), run=RUN, shard=shard)
        except EtlError:
            continue  # the plan is not there yet, or is removed already
        etl.combine(three.job(), run=RUN)
        assert outputs(three) == whole, moment
        combined_after_a_repeat.append(moment)
    assert combined, "no shards could be combined"
    assert combined_after_a_repeat, "no task could be tried again"


def test_empty_output_folder_is_kept_with_its_owner_and_mode(three: Files) -> None:
    """One that was removed and made again would not be on the disk, with all that is in it."""
    three.output.mkdir()
    three.output.chmod(0o2775)
    before = three.output.stat()
    process(three.job())
    after = three.output.stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_outputs_of_a_run_that_has_returned_are_not_lost(
    three: Files, days: Days, situation: Callable[[Files, Days], None]
) -> None:
    situation(three, days)
    with recorded(three.output) as recording:
        process(three.job(), run=RUN)
    *_, (_, disk) = recording.disks()
    for tree in disk.after_a_cut():
        assert {name: tree.get(name) for name in OUTPUTS} == {name: disk.tree()[name] for name in OUTPUTS}


def test_receipt_is_whole_or_not_there_and_stays_when_the_run_has_said_so(three: Files) -> None:
    three.output.mkdir()
    with recorded(three.output) as recording:
        etl.record_start(three.job(), run=RUN)
        etl.record_failure(etl.ServiceError("no answer"), job=three.job(), target=None, run=RUN)
    name = f"receipts/{RUN.run_id}.json"
    for moment, tree in recording.states(outside_work):
        if receipt := tree.get(name):
            assert json.loads(receipt.content)["run_id"] == RUN.run_id, moment
    *_, (_, disk) = recording.disks()
    for tree in disk.after_a_cut():
        left = tree[name]
        assert left
        assert json.loads(left.content)["state"] == "failed"


def test_without_syncing_a_power_cut_would_leave_outputs_that_are_wrong(three: Files, days: Days) -> None:
    changed(three, days)
    with recorded(three.output, syncs=False) as recording:
        process(three.job(), run=RUN)
    whole = outputs(three)

    def are_right_after(tree: Tree) -> bool:
        restore(three.output, tree)
        process(three.job(), run=RUN)
        return outputs(three) == whole

    assert not all(are_right_after(tree) for _, tree in recording.states(outside_work))


def test_folder_that_cannot_be_synced_is_no_reason_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsync = os.fsync

    def refuse(opened: int) -> None:
        if Path(os.readlink(f"/proc/self/fd/{opened}")).is_dir():
            raise OSError(22, "Invalid argument")
        fsync(opened)

    monkeypatch.setattr("etl.batch.disk.os.fsync", refuse)
    with open_storage(str(tmp_path)).write("receipts/a.json") as file:
        file.write(b"{}")
    assert (tmp_path / "receipts" / "a.json").read_bytes() == b"{}"


def test_file_that_cannot_be_synced_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(opened: int) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr("etl.batch.storage.os.fsync", refuse)
    with (
        pytest.raises(etl.SettingsError, match="No space left on device"),
        open_storage(str(tmp_path)).write("a") as file,
    ):
        file.write(b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]
