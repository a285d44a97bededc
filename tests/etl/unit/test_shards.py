"""A batch processed in shards gives, byte for byte, what one pass over it gives, whatever is in it."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import etl
from etl import BatchError, Job, Receipt, Run
from etl.batch.plan import Plan, divide
from etl.batch.storage import Listed
from etl.errors import NothingUsableError
from tests.support.batch_files import of_any_run, process
from tests.support.company_files import FIRST, HEADER, LAST, company_file
from tests.support.paths import SAMPLE

RUN = Run.begin("test")
OUTPUTS = {
    "flagged_rows.csv", "historical_stock_data.csv", "manifest.json",
    "rejected_rows.csv", "rejected_rows.jsonl",
}  # fmt: skip
GOOD, HEADER_ONLY = company_file(FIRST, LAST), company_file()
DIRTY = company_file(FIRST, "2020-01-03,=1+1,2,1,1,5,0", "2020-01-03,é,2,1,1,5,0", LAST)
BROADER = company_file(FIRST + ",x,y", header=HEADER + ",Sector,Näme")
OTHER_BROADER = company_file(FIRST + ",x", header=HEADER + ",\x07Bell")
NAMES = [f"{letter}.us.csv" for letter in "abcdefghijkl"]


def make_job(root: Path, files: dict[str, bytes], *, named: list[str] | None = None, since: date | None = None) -> Job:
    (root / "Stocks").mkdir(parents=True)
    for name, content in files.items():
        (root / "Stocks" / name).write_bytes(content)
    (root / "index.txt").write_text(", ".join(f"'{name}'" for name in named or files))
    return Job(str(root / "Stocks"), str(root / "index.txt"), str(root / "Output"), since=since)


def process_sharded(job: Job, *, shards: int, order: Callable[[int], list[int]] = lambda n: [*range(n)]) -> Receipt:
    """What the DAG does, in one process: gate, each shard, then together."""
    job = replace(job, reread=True)
    etl.gate(job, run=RUN, shards=shards)
    for number in order(shards):
        etl.process(job, run=RUN, shard=number)
    return etl.combine(job, run=RUN)


def attempt(work: Callable[[], Receipt]) -> Receipt | NothingUsableError:
    try:
        return work()
    except NothingUsableError as error:
        return error


def outputs(job: Job) -> dict[str, bytes]:
    files = (path for path in Path(job.output).glob("*") if path.is_file())
    return {path.name: of_any_run(path.name, path.read_bytes()) for path in files}


def untimed(receipt: Receipt) -> Receipt:
    files = replace(receipt.files, read=0, taken_over=0)
    return replace(receipt, elapsed_seconds=0, steps={}, files=files)


def left_over(job: Job) -> list[str]:
    return [path.name for path in (Path(job.output) / "work").rglob("*") if path.is_file()]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Four files; the first half of the index has no usable one."""
    return make_job(tmp_path, {"a.us.csv": b"", "b.us.csv": HEADER_ONLY, "c.us.csv": GOOD, "d.us.csv": DIRTY})


# --- the same bytes ----------------------------------------------------------------------------------------------

contents = st.one_of(
    st.sampled_from([b"", HEADER_ONLY, GOOD, DIRTY, BROADER, OTHER_BROADER, b"\xff\xfe", b"Date,Open\n2020-01-01,1\n"]),
    st.lists(st.integers(0, 200), min_size=1, max_size=40, unique=True).map(
        lambda days: company_file(*(f"{date.fromordinal(737_000 + day)},{day}.5,{day},1,2,3,0" for day in sorted(days)))
    ),
)


@given(
    files=st.lists(contents, min_size=1, max_size=len(NAMES)),
    shards=st.integers(2, 16),
    repeated=st.booleans(),
    ignored=st.booleans(),
    since=st.sampled_from([None, None, date(2018, 12, 1), date(2020, 1, 3), date(2030, 1, 1)]),
    last_first=st.booleans(),
)
@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_batch_in_any_number_of_shards_gives_what_one_pass_gives(
    files: list[bytes], shards: int, repeated: bool, ignored: bool, since: date | None, last_first: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        batch = dict(zip(NAMES, files, strict=False))
        named = [*batch, *list(batch)[:1]] if repeated else [*batch]
        job = make_job(Path(folder), batch | ({"other.us.csv": GOOD} if ignored else {}), named=named, since=since)
        alone = attempt(lambda: process(job, run=RUN))
        if isinstance(alone, NothingUsableError):
            sharded = attempt(lambda: process_sharded(job, shards=shards))
            assert isinstance(sharded, NothingUsableError)
            assert (str(sharded), vars(sharded)) == (str(alone), vars(alone))
            assert outputs(job) == {}
            return
        expected = outputs(job)
        assert expected.keys() == OUTPUTS
        for name in expected:
            (Path(job.output) / name).unlink()
        order = (lambda n: [*range(n)][::-1]) if last_first else (lambda n: [*range(n)])
        assert untimed(process_sharded(job, shards=shards, order=order)) == untimed(alone)
        assert outputs(job) == expected


@pytest.mark.parametrize("shards", [2, 3, 64])
def test_sample_in_shards_gives_the_bytes_of_one_pass(tmp_path: Path, shards: int) -> None:
    job = Job(str(SAMPLE / "Stocks"), str(SAMPLE / "CompanyNames" / "top_companies.txt"), str(tmp_path))
    alone = process(job, run=RUN)
    expected = outputs(job)
    assert untimed(process_sharded(job, shards=shards)) == untimed(alone)
    assert outputs(job) == expected


# --- how a batch is divided --------------------------------------------------------------------------------------


def files_of(*sizes: int) -> dict[str, Listed]:
    return {f"{number}.us.csv": Listed(version=f"v{number}", size_bytes=size) for number, size in enumerate(sizes)}


@example(sizes=[10] * 4 + [0] * 8, count=3)
@given(sizes=st.lists(st.integers(0, 10**7), min_size=1, max_size=200), count=st.integers(1, 64))
def test_shards_are_consecutive_and_none_is_more_than_a_file_over_its_share(sizes: list[int], count: int) -> None:
    files = files_of(*sizes)
    shards = divide(files, shards=count)
    assert len(shards) == count
    assert [*chain.from_iterable(shard.items() for shard in shards)] == [*files.items()]
    share = (sum(sizes) + len(sizes)) / count
    for shard in shards:
        assert sum(listed.size_bytes + 1 for listed in shard.values()) <= share + max(sizes) + 1


@pytest.mark.parametrize("size", [0, 1000])
def test_files_of_one_size_are_divided_evenly(size: int) -> None:
    assert [len(shard) for shard in divide(files_of(*[size] * 12), shards=4)] == [3, 3, 3, 3]


def test_plan_survives_json() -> None:
    plan = Plan("index.txt", divide(files_of(5, 0, 10**10), shards=2), repeated=("0.us.csv",), ignored=7)
    assert Plan.from_json(plan.to_json()) == plan


# --- all or nothing, again and again -----------------------------------------------------------------------------


def test_outputs_appear_only_when_the_parts_are_put_together(job: Job) -> None:
    Path(job.output).mkdir()
    old = dict.fromkeys(OUTPUTS, b"old")
    for name, content in old.items():
        (Path(job.output) / name).write_bytes(content)
    etl.gate(job, run=RUN, shards=2)
    for number in range(2):
        etl.process(job, run=RUN, shard=number)
        assert outputs(job) == old
    etl.combine(job, run=RUN)
    assert set(outputs(job)) == set(old)
    assert b"old" not in outputs(job).values()


def test_receipt_of_a_shard_tells_of_its_own_files_even_where_none_is_usable(job: Job) -> None:
    etl.gate(job, run=RUN, shards=2)
    first, second = (etl.process(job, run=RUN, shard=number) for number in range(2))
    whole = etl.combine(job, run=RUN)
    assert (first.files.listed, first.files.quarantined, first.rows.accepted) == (3, 2, 2)
    assert whole.files.listed == first.files.listed + second.files.listed
    assert whole.rows.read == first.rows.read + second.rows.read
    for receipt in (first, second, whole):
        receipt.check_balance()
    assert "process" in first.steps
    assert "combine" in whole.steps


def test_shard_without_a_usable_row_does_not_fail_and_the_whole_batch_without_one_does(tmp_path: Path) -> None:
    job = make_job(tmp_path, {"a.us.csv": b"", "b.us.csv": HEADER_ONLY, "c.us.csv": b""})
    etl.gate(job, run=RUN, shards=3)
    for number in range(3):
        etl.process(job, run=RUN, shard=number)
    with pytest.raises(NothingUsableError, match="No company file of the batch is usable"):
        etl.combine(job, run=RUN)
    assert outputs(job) == {}


def test_shard_and_combine_may_be_done_again(job: Job) -> None:
    process(job, run=RUN)
    expected = outputs(job)
    etl.gate(job, run=RUN, shards=2)
    for number in (0, 1, 1, 0):
        etl.process(job, run=RUN, shard=number)
    for _ in range(2):
        etl.combine(job, run=RUN)
        assert outputs(job) == expected


def test_attempt_whose_files_cannot_appear_leaves_the_shard_of_the_one_before(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    process(job, run=RUN)
    expected, rename = outputs(job), Path.replace
    etl.gate(job, run=RUN, shards=2)
    for number in range(2):
        etl.process(job, run=RUN, shard=number)

    def refuse(path: Path, target: Path) -> Path:
        if target.name == "historical_stock_data.csv":
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(etl.SettingsError, match="No space left"):
        etl.process(job, run=RUN, shard=1)
    monkeypatch.undo()
    etl.combine(replace(job, reread=True), run=RUN)
    assert outputs(job) == expected


def test_attempt_that_airflow_took_for_dead_cannot_write_into_what_another_has_finished(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    process(job, run=RUN)
    expected = outputs(job)
    etl.gate(job, run=RUN, shards=2)

    def while_it_hangs(*, done: int, total: int) -> None:
        if done == 1:
            etl.process(job, run=RUN, shard=1)
            etl.process(job, run=RUN, shard=0)
            etl.combine(job, run=RUN)
            assert outputs(job) == expected
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        etl.process(job, run=RUN, shard=1, progress=while_it_hangs)
    etl.combine(job, run=RUN)
    assert outputs(job) == expected


def test_shards_take_the_files_that_the_gate_saw_whatever_becomes_of_the_index(job: Job) -> None:
    process(job, run=RUN)
    expected = outputs(job)
    etl.gate(job, run=RUN, shards=2)
    etl.process(job, run=RUN, shard=0)
    Path(job.company_index).write_text("'a.us.csv'")
    etl.process(job, run=RUN, shard=1)
    etl.combine(job, run=RUN)
    assert outputs(job) == expected


def test_file_replaced_after_the_gate_is_read_as_it_is_then(job: Job) -> None:
    etl.gate(job, run=RUN, shards=2)
    replaced = Path(job.source) / "d.us.csv"
    replaced.write_bytes(GOOD)
    os.utime(replaced, ns=(1, 1))
    for number in range(2):
        etl.process(job, run=RUN, shard=number)
    sharded = etl.combine(job, run=RUN)
    found = outputs(job)
    assert untimed(sharded) == untimed(process(job, run=RUN))
    assert outputs(job) == found


# --- what is missing, and what is left ---------------------------------------------------------------------------


def test_missing_shard_stops_the_batch_and_leaves_the_old_outputs(job: Job) -> None:
    process(job, run=RUN)
    expected = outputs(job)
    etl.gate(job, run=RUN, shards=3)
    for number in (0, 2):
        etl.process(job, run=RUN, shard=number)
    with pytest.raises(
        BatchError, match=r"The plan or a shard of run test__.* is gone: .*Clear the whole run, from gate on"
    ):
        etl.combine(job, run=RUN)
    assert outputs(job) == expected


@pytest.mark.parametrize("gone", sorted(OUTPUTS - {"manifest.json"}))
def test_missing_bytes_of_a_shard_stop_the_batch_and_leave_the_old_outputs(job: Job, gone: str) -> None:
    job = replace(job, reread=True)
    process(job, run=RUN)
    expected = outputs(job)
    etl.gate(job, run=RUN, shards=2)
    for number in range(2):
        etl.process(job, run=RUN, shard=number)
    for path in (Path(job.output) / "work").rglob(gone):
        path.unlink()
    with pytest.raises(BatchError, match="is gone"):
        etl.combine(job, run=RUN)
    assert outputs(job) == expected
    assert not [*Path(job.output).rglob("*.partial")]


@pytest.mark.parametrize("shards", [1, 2])
def test_next_run_removes_what_killed_ones_left(job: Job, shards: int) -> None:
    for _ in range(2):
        etl.gate(job, run=Run.begin("killed"), shards=4)
    assert left_over(job) == ["plan.json"]
    killed = Path(job.output) / "work" / "run-killed" / "0-abc" / "historical_stock_data.csv.partial"
    killed.parent.mkdir(parents=True)
    killed.write_bytes(b"half")
    etl.gate(job, run=RUN, shards=shards)
    assert left_over(job) == ["plan.json"]


@pytest.mark.parametrize("folder", ["work", "parts"])
def test_files_of_others_in_the_output_stay(job: Job, folder: str) -> None:
    place = Path(job.output) / folder
    (place / "run-old").mkdir(parents=True)
    (place / "run-old" / "plan.json").touch()
    own = [place / "thesis.txt", place / "run-times.csv", place / "old" / "run-1" / "a.csv", place / "run-link"]
    for path in own[:3]:
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text("mine")
    own[3].symlink_to(place / "old")
    process(job)
    assert all(path.exists() for path in own)
    assert not (place / "run-old").exists()


def test_work_of_a_run_whose_id_begins_like_another_stays(job: Job) -> None:
    etl.gate(job, run=RUN)
    other = Path(job.output) / "work" / f"run-{RUN.run_id}0"
    other.mkdir()
    etl.forget_work(job, run=RUN)
    assert [path.name for path in other.parent.iterdir()] == [other.name]


def test_file_called_parts_in_the_output_stays(job: Job) -> None:
    Path(job.output).mkdir(exist_ok=True)
    (Path(job.output) / "parts").write_text("mine")
    process(job)
    assert (Path(job.output) / "parts").read_text() == "mine"


def test_batch_of_one_shard_needs_no_combine_and_its_plan_is_removed_at_the_end(job: Job) -> None:
    etl.gate(job, run=RUN)
    etl.process(job, run=RUN)
    assert left_over(job) == ["plan.json"]
    etl.forget_work(job, run=RUN)
    assert set(outputs(job)) == OUTPUTS
    assert not (Path(job.output) / "work").exists()
    assert json.loads(outputs(job)["manifest.json"])["listed"] == 4


# --- the setting -------------------------------------------------------------------------------------------------

ENVIRONMENT = {"MBD_FIRST_NAME": "ada", "MBD_LAST_NAME": "lovelace", "MBD_TOPIC_ARN": "arn:aws:sns:eu-west-1:1:t"}


@pytest.mark.parametrize(("text", "shards"), [(None, 1), ("", 1), ("1", 1), ("4", 4), ("64", 64)])
def test_number_of_shards_is_a_setting(text: str | None, shards: int) -> None:
    environment = ENVIRONMENT if text is None else {**ENVIRONMENT, "MBD_SHARDS": text}
    assert etl.read_settings(environment).shards == shards


@pytest.mark.parametrize("text", ["0", "65", "-1", "2.0", "four", " 2", "01", "²", "1e1", "9" * 5000])
def test_number_of_shards_that_is_none_is_refused_and_can_still_be_told_by_mail(text: str) -> None:
    environment = {**ENVIRONMENT, "MBD_SHARDS": text}
    with pytest.raises(etl.SettingsError, match="Set a whole number from 1 to 64, or leave it out"):
        etl.read_settings(environment)
    assert etl.read_mailbox(environment).topic_arn == ENVIRONMENT["MBD_TOPIC_ARN"]
