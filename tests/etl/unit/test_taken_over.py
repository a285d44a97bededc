"""A company file whose version is known is not read: what the last run made of it is taken over, to the same bytes."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

import etl
from etl.batch.storage import Storage, _Folder, open_storage
from etl.errors import FileRefusedError
from etl.files import company_file as company_file_module
from etl.files.last_outputs import rules_digest
from etl.files.manifest import Manifest, read_manifest
from etl.files.rules import RowRule
from etl.files.shards import Outputs, _write_manifest
from tests.support.batch_files import of_any_run, process
from tests.support.company_files import FIRST, LAST, company_file
from tests.support.paths import SAMPLE

OUTPUTS = ("historical_stock_data.csv", "rejected_rows.csv", "manifest.json", "rejected_rows.jsonl", "flagged_rows.csv")
GOOD = company_file(FIRST, LAST)
GROWN = company_file(FIRST, LAST, "2020-01-07,11,12.5,10,12,2000,0")
DIRTY = company_file(FIRST, "2020-01-03,x,2,1,1.5,1,0", "2020-01-04,=1,2,1,1.5,1,0", LAST)
BROADER = company_file(FIRST + ",x", header="Date,Open,High,Low,Close,Volume,OpenInt,Sector")
KINDS = {"good": GOOD, "dirty": DIRTY, "broader": BROADER, "empty": b"", "no header": b"1,2\n", "grown": GROWN}


class Batch:
    """A folder of company files and the outputs of its runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "Stocks").mkdir(parents=True)
        self.tick = 1_600_000_000

    def put(self, name: str, content: bytes) -> None:
        """Write a company file, dated later than any before."""
        path = self.root / "Stocks" / name
        path.write_bytes(content)
        self.tick += 1
        os.utime(path, (self.tick, self.tick))

    def job(self, names: list[str], **changes: object) -> etl.Job:
        index = self.root / "index.txt"
        index.write_text("\n".join(names))
        job = etl.Job(str(self.root / "Stocks"), str(index), str(self.root / "Output"))
        return replace(job, **changes)  # type: ignore[arg-type]

    def outputs(self, folder: str = "Output") -> dict[str, bytes]:
        return {name: of_any_run(name, (self.root / folder / name).read_bytes()) for name in OUTPUTS}

    def written_at(self) -> list[int]:
        return [(self.root / "Output" / name).stat().st_mtime_ns for name in OUTPUTS]


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    return Batch(tmp_path)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The company files that are read."""
    read, names = _Folder.read, []

    def noted(folder: _Folder, name: str, *, version: str | None = None) -> bytes:
        if folder.url.endswith("Stocks"):
            names.append(name)
        return read(folder, name, version=version)

    monkeypatch.setattr(_Folder, "read", noted)
    return names


NAMES = [f"{letter}.us.csv" for letter in "abcdefgh"]


def put_all(batch: Batch) -> None:
    for name, content in zip(NAMES, [*KINDS.values(), GOOD, DIRTY], strict=True):
        batch.put(name, content)


@pytest.mark.parametrize("shards", [1, 3])
def test_unchanged_batch_reads_no_company_file_and_writes_at_most_the_manifest(
    batch: Batch, reads: list[str], shards: int
) -> None:
    put_all(batch)
    first = process(batch.job(NAMES), shards=shards)
    written = batch.written_at()
    reads.clear()
    again = process(batch.job(NAMES), shards=shards)
    assert reads == []
    manifest = OUTPUTS.index("manifest.json")
    assert [number for number, at in enumerate(batch.written_at()) if at != written[number]] == [manifest]
    written = batch.written_at()
    process(batch.job(NAMES), shards=shards)
    assert batch.written_at() == written
    assert (first.files.read, first.files.taken_over) == (8, 0)
    assert (again.files.read, again.files.taken_over) == (0, 8)
    assert (again.rows, again.quarantined, again.notes) == (first.rows, first.quarantined, first.notes)


@pytest.mark.parametrize("shards", [1, 3])
def test_manifest_of_an_unchanged_batch_has_the_facts_of_its_own_run(
    batch: Batch, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    put_all(batch)
    refused, read = "gone", _Folder.read

    def refuse(folder: _Folder, name: str, *, version: str | None = None) -> bytes:
        if name == "e.us.csv" and folder.url.endswith("Stocks"):
            raise FileRefusedError("Cannot read it.", reason=refused)
        return read(folder, name, version=version)

    monkeypatch.setattr(_Folder, "read", refuse)
    process(batch.job(NAMES), shards=shards)
    combined = (batch.root / "Output" / OUTPUTS[0]).stat().st_mtime_ns
    batch.put("new.us.csv", GOOD)
    refused = "denied"
    receipt = process(batch.job([*NAMES, "a.us.csv"]), shards=shards)
    manifest = read_manifest(open_storage(str(batch.root / "Output")))
    assert (manifest.files_read, manifest.files_taken_over) == (1, 7)
    assert (manifest.repeated, manifest.ignored) == (("a.us.csv",), 1)
    assert manifest.quarantined == receipt.quarantined
    assert "cannot be read: denied" in {one.reason for one in manifest.quarantined}
    assert (batch.root / "Output" / OUTPUTS[0]).stat().st_mtime_ns == combined


@pytest.mark.parametrize("shards", [1, 3])
def test_another_order_of_files_without_accepted_rows_is_taken_over(batch: Batch, shards: int) -> None:
    unusable = company_file("2020-01-03,x,2,1,1.5,1,0")
    for name, content in (("a.us.csv", GOOD), ("b.us.csv", unusable), ("c.us.csv", company_file("no,1,2,1,1,1,0"))):
        batch.put(name, content)
    process(batch.job(["a.us.csv", "b.us.csv", "c.us.csv"]), shards=shards)
    for names in (["a.us.csv", "c.us.csv", "b.us.csv"], ["c.us.csv", "a.us.csv", "b.us.csv"]):
        process(batch.job(names), shards=shards)
        outputs = batch.outputs()
        process(batch.job(names, output=str(batch.root / "fresh"), reread=True))
        assert outputs == batch.outputs("fresh")


@pytest.mark.parametrize("shards", [1, 3])
def test_only_what_changed_is_read_and_the_outputs_are_those_of_a_run_from_nothing(
    batch: Batch, reads: list[str], shards: int
) -> None:
    put_all(batch)
    process(batch.job(NAMES))
    batch.put("c.us.csv", GROWN)
    batch.put("f.us.csv", DIRTY)
    reads.clear()
    receipt = process(batch.job(NAMES), shards=shards)
    assert sorted(reads) == ["c.us.csv", "f.us.csv"]
    assert (receipt.files.read, receipt.files.taken_over) == (2, 6)
    outputs = batch.outputs()
    shutil.rmtree(batch.root / "Output")
    fresh = process(batch.job(NAMES))
    assert batch.outputs() == outputs
    assert (fresh.rows, fresh.quarantined, fresh.notes) == (receipt.rows, receipt.quarantined, receipt.notes[:-1])
    assert receipt.notes[-1].startswith("f.us.csv has 2 rows, 3 in the outputs before.")


def test_random_changes_of_files_and_company_index_give_the_outputs_of_a_run_from_nothing(tmp_path: Path) -> None:
    chance = random.Random(20171110)
    batch = Batch(tmp_path)
    put_all(batch)
    for number in range(40):
        names = chance.sample(NAMES, chance.randint(2, 8))
        if "a.us.csv" not in names:
            names.insert(chance.randrange(len(names)), "a.us.csv")  # has a usable row, whatever becomes of the rest
        for name in chance.sample(NAMES[1:], chance.randint(0, 3)):
            batch.put(name, chance.choice(list(KINDS.values())))
        since = chance.choice([None, None, None, date(2020, 1, 3)])
        process(batch.job(names, since=since), shards=chance.choice([1, 1, 2]))
        fresh = f"fresh-{number}"
        process(batch.job(names, since=since, output=str(tmp_path / fresh)))
        assert batch.outputs() == batch.outputs(fresh)


def test_new_file_of_the_same_content_is_read_and_the_combined_file_stays(batch: Batch, reads: list[str]) -> None:
    put_all(batch)
    process(batch.job(NAMES))
    combined = (batch.root / "Output" / OUTPUTS[0]).stat().st_mtime_ns
    batch.put("a.us.csv", GOOD)
    for expected in (["a.us.csv"], []):
        reads.clear()
        process(batch.job(NAMES))
        assert reads == expected
        assert (batch.root / "Output" / OUTPUTS[0]).stat().st_mtime_ns == combined


def other_rules(monkeypatch: pytest.MonkeyPatch, batch: Batch) -> None:
    monkeypatch.setattr("etl.files.last_outputs.rules_digest", lambda: "other")


def other_combined_file(monkeypatch: pytest.MonkeyPatch, batch: Batch) -> None:
    path = batch.root / "Output" / OUTPUTS[0]
    path.write_bytes(path.read_bytes()[::-1])


def no_rejected_rows(monkeypatch: pytest.MonkeyPatch, batch: Batch) -> None:
    (batch.root / "Output" / OUTPUTS[1]).unlink()


def manifest_that_is_none(monkeypatch: pytest.MonkeyPatch, batch: Batch) -> None:
    (batch.root / "Output" / OUTPUTS[2]).write_text("{}")


def manifest_of_version_0_1(monkeypatch: pytest.MonkeyPatch, batch: Batch) -> None:
    (batch.root / "Output" / OUTPUTS[2]).write_bytes(
        b'{"version": 1, "source": "Stocks", "index": "i", "since": null, "listed": 0, "rows_read": 0, '
        b'"rows_rejected": 0, "rows_before_since": 0, "slices": [], "quarantined": [], "notes": []}'
    )


@pytest.mark.parametrize(
    "spoil",
    [other_rules, other_combined_file, no_rejected_rows, manifest_that_is_none, manifest_of_version_0_1],
    ids=lambda spoil: spoil.__name__,
)
def test_outputs_that_cannot_be_trusted_are_made_again(
    batch: Batch,
    reads: list[str],
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[pytest.MonkeyPatch, Batch], None],
) -> None:
    put_all(batch)
    process(batch.job(NAMES))
    outputs = batch.outputs()
    spoil(monkeypatch, batch)
    reads.clear()
    assert process(batch.job(NAMES)).files.read == len(reads) == 8
    assert {name: batch.outputs()[name] for name in OUTPUTS[:2]} == {name: outputs[name] for name in OUTPUTS[:2]}


@pytest.mark.parametrize("shards", [1, 3])
def test_outputs_of_a_run_that_another_overtook_are_not_taken_over(
    batch: Batch, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    put_all(batch)
    write_manifest = _write_manifest

    def overtaken(outputs: Outputs, *, output: Storage, last: Manifest | None) -> Manifest:
        monkeypatch.undo()
        batch.put("a.us.csv", GROWN)
        process(batch.job(NAMES))  # begins and ends here
        return write_manifest(outputs, output=output, last=last)

    monkeypatch.setattr("etl.files.shards._write_manifest", overtaken)
    process(batch.job([*NAMES[:3], *NAMES[5:]], reread=True), shards=shards)
    batch.put("c.us.csv", GROWN)
    assert process(batch.job(NAMES)).files.taken_over == 0
    outputs = batch.outputs()
    process(batch.job(NAMES, output=str(batch.root / "fresh")))
    assert outputs == batch.outputs("fresh")


@pytest.mark.parametrize("shards", [1, 2])
def test_outputs_replaced_while_they_are_taken_over_end_the_run(batch: Batch, shards: int) -> None:
    put_all(batch)
    process(batch.job(NAMES))
    batch.put("a.us.csv", GROWN)

    def replace_first(*, done: int, total: int) -> None:
        other_combined_file(pytest.MonkeyPatch(), batch)

    with pytest.raises(etl.ServiceError, match="Another run has replaced outputs"):
        process(batch.job(NAMES), shards=shards, progress=replace_first)
    assert process(batch.job(NAMES)).files.taken_over == 0
    outputs = batch.outputs()
    process(batch.job(NAMES, output=str(batch.root / "fresh")))
    assert outputs == batch.outputs("fresh")


@pytest.mark.parametrize("changes", [{"reread": True}, {"since": date(2020, 1, 3)}], ids=str)
def test_reread_and_another_since_read_every_file(batch: Batch, reads: list[str], changes: dict[str, object]) -> None:
    put_all(batch)
    process(batch.job(NAMES))
    reads.clear()
    assert process(batch.job(NAMES, **changes)).files.taken_over == 0
    assert len(reads) == 8


def test_files_of_another_source_are_read_although_their_versions_are_the_same(batch: Batch) -> None:
    put_all(batch)
    process(batch.job(NAMES))
    other = shutil.copytree(batch.root / "Stocks", batch.root / "Other")  # with the times of the files
    receipt = process(batch.job(NAMES, source=str(other)))
    assert (receipt.files.read, receipt.files.taken_over) == (8, 0)


def modules_that_decide_about_rows() -> set[str]:
    """Their files: of all that checks a company file, and of the lists of its rows; native.py only calls the .cpp."""
    used = {getattr(one, "__module__", "") for one in vars(company_file_module).values()}
    own = {name.removeprefix("etl.files.") for name in used if name.startswith("etl.files.")} - {"native"}
    return {f"{name}.py" for name in own} | {"plain_rows.cpp", "row_lists.py"}


@pytest.mark.parametrize("changed", sorted(modules_that_decide_about_rows()))
def test_change_of_any_module_that_decides_about_rows_makes_other_rules(
    monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    now = rules_digest()

    def read(path: Path) -> bytes:
        return path.read_bytes() + b"\n" * (path.name == changed)

    monkeypatch.setattr("etl.files.last_outputs.read_package_file", read)
    assert rules_digest.__wrapped__() != now


def test_rejected_rows_of_files_that_are_not_read_stay_in_their_file(batch: Batch) -> None:
    put_all(batch)
    process(batch.job(NAMES))
    batch.put("a.us.csv", GROWN)
    process(batch.job(NAMES))
    lines = (batch.root / "Output" / "rejected_rows.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["file", *["b.us.csv"] * 2, *["h.us.csv"] * 2]
    assert lines[1].endswith(RowRule.NOT_A_NUMBER)


def test_sample_is_taken_over_whole(tmp_path: Path) -> None:
    job = etl.Job(str(SAMPLE / "Stocks"), str(SAMPLE / "CompanyNames" / "top_companies.txt"), str(tmp_path / "Output"))
    first = process(job)
    again = process(job)
    assert (again.files.taken_over, again.rows) == (40, first.rows)
