"""Folders of company files go through process end to end, without a database, against a plain-pandas oracle."""

import csv
import errno
import hashlib
import json
import os
import shutil
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import etl
from etl import BatchError, Job, Receipt, Run
from etl.batch.company_index import parse_index
from etl.batch.storage import _Folder, open_storage
from etl.errors import MissingFilesError
from etl.files.manifest import Manifest, QuarantinedFile
from etl.files.row_lists import read_flagged, read_rejected
from etl.files.rules import LARGEST_FILE_BYTES, QuarantineReason
from etl.files.source_line import find_source_line
from etl.outcome.mail import NOTICES
from etl.outcome.receipt import FOLDER, REPORTS, FileCounts, read_receipt
from etl.pipeline import _processing
from tests.support.batch_files import of_any_run, process
from tests.support.company_files import FIRST, HEADER, LAST, company_file
from tests.support.pandas_slice import slice_by_pandas
from tests.support.paths import SAMPLE

OUTPUTS = ["flagged_rows.csv", "historical_stock_data.csv", "manifest.json", "rejected_rows.csv", "rejected_rows.jsonl"]
GOOD = company_file(FIRST, LAST)
CHANGED = QuarantinedFile("b.csv", QuarantineReason.CHANGED)
EMPTY = ("znwaa.us.csv", "sail.us.csv", "jt.us.csv", "stnl.us.csv", "bxg.us.csv")


@dataclass(frozen=True)
class Place:
    """A source, an index and an output in a folder of the test's own."""

    root: Path

    @property
    def source(self) -> Path:
        return self.root / "Stocks"

    @property
    def output(self) -> Path:
        return self.root / "Output"

    def put(self, **files: bytes) -> None:
        """Make these company files (`a` becomes `a.csv`) and an index that names them in this order."""
        self.source.mkdir(exist_ok=True)
        for name, content in files.items():
            (self.source / f"{name}.csv").write_bytes(content)
        (self.root / "index.txt").write_text(", ".join(f"'{name}.csv'" for name in files))

    def job(self, since: date | None = None) -> Job:
        return Job(str(self.source), str(self.root / "index.txt"), str(self.output), since=since)

    def process(self, since: date | None = None) -> Receipt:
        return process(self.job(since), run=Run.begin("test"))

    def gate(self, *, shards: int = 1) -> Run:
        """A run whose plan is written."""
        run = Run.begin("test")
        etl.gate(self.job(), run=run, shards=shards)
        return run

    def finish(self, run: Run, *, shards: int) -> Receipt:
        """Process the plan of a run, and combine its shards."""
        receipts = [etl.process(self.job(), run=run, shard=number) for number in range(shards)]
        return etl.combine(self.job(), run=run) if shards > 1 else receipts[0]

    def manifest(self) -> Manifest:
        return Manifest.from_json((self.output / "manifest.json").read_bytes())

    def outputs(self) -> dict[str, bytes]:
        files = (path for path in self.output.iterdir() if path.is_file())
        return {path.name: of_any_run(path.name, path.read_bytes()) for path in files}

    def rejected(self) -> list[dict[str, str]]:
        with (self.output / "rejected_rows.csv").open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def sample_job(output: Path, since: date | None = None) -> Job:
    index = SAMPLE / "CompanyNames" / "top_companies.txt"
    return Job(str(SAMPLE / "Stocks"), str(index), str(output), since=since)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Receipt]:
    output = tmp_path_factory.mktemp("sample") / "Output"
    return output, process(sample_job(output), run=Run.begin("test"))


def oracle(since: str = "0000") -> pd.DataFrame:
    """The combined file of the sample by plain pandas: source columns as text, derived ones as float64."""
    names = (SAMPLE / "CompanyNames" / "top_companies.txt").read_text().replace("'", "").replace(" ", "")
    frames = []
    for name in names.strip().split(","):
        if name not in EMPTY:
            frame = pd.read_csv(SAMPLE / "Stocks" / name, dtype=str, keep_default_na=False)
            frames.append(frame.drop(columns="OpenInt").assign(company_name=name))
    combined = pd.concat(frames, ignore_index=True)
    combined = combined[combined["Date"] >= since].reset_index(drop=True)
    first, last = combined["Open"].map(float), combined["Close"].map(float)
    percent = (last - first) / first * 100
    combined.insert(6, "percent", percent.where(np.isfinite(percent)))
    combined.insert(7, "change", last - first)
    return combined


def assert_combined_is(path: Path, expected: pd.DataFrame) -> None:
    combined = pd.read_csv(path, header=None, dtype=str, keep_default_na=False)
    combined.columns = expected.columns
    for column in ("percent", "change"):
        combined[column] = [float(text) if text else np.nan for text in combined[column]]
    pd.testing.assert_frame_equal(combined, expected, check_exact=True)


def test_sample_becomes_the_combined_file_that_plain_pandas_makes(sample: tuple[Path, Receipt]) -> None:
    output, _ = sample
    assert sorted(path.name for path in output.iterdir()) == OUTPUTS
    assert_combined_is(output / "historical_stock_data.csv", oracle())


def test_receipt_of_the_sample_accounts_for_every_file_and_row(sample: tuple[Path, Receipt]) -> None:
    _, receipt = sample
    expected = oracle()
    flagged = sum(slice_by_pandas(path)[1] for path in (SAMPLE / "Stocks").iterdir() if path.stat().st_size)
    receipt.check_balance()
    assert receipt.files == FileCounts(listed=40, accepted=35, quarantined=5, missing=0, read=40, taken_over=0)
    assert (receipt.rows.read, receipt.rows.accepted, receipt.rows.rejected) == (len(expected), len(expected), 0)
    assert receipt.rows.flagged == flagged > 0
    assert receipt.rows.inserted is None
    assert receipt.quarantined == tuple(QuarantinedFile(name, "empty: 0 bytes") for name in EMPTY)
    assert receipt.notes == ()
    assert (receipt.state, list(receipt.steps)) == ("success", ["process"])


def test_slices_of_the_manifest_are_the_combined_file_cut_by_company(sample: tuple[Path, Receipt]) -> None:
    output, _ = sample
    content = (output / "historical_stock_data.csv").read_bytes()
    manifest = Manifest.from_json((output / "manifest.json").read_bytes())
    end = 0
    for part in manifest.slices:
        cut = content[part.offset : part.end]
        assert part.offset == end
        assert hashlib.sha256(cut).hexdigest() == part.sha256
        assert {line.rpartition(b",")[2].decode() for line in cut.splitlines()} == {part.company_name}
        assert len(cut.splitlines()) == part.rows
        end = part.end
    assert end == len(content)


def test_same_input_gives_the_same_bytes(sample: tuple[Path, Receipt], tmp_path: Path) -> None:
    output, _ = sample
    process(sample_job(tmp_path / "again"), run=Run.begin("test"))
    for name in OUTPUTS:
        one, other = (of_any_run(name, (folder / name).read_bytes()) for folder in (tmp_path / "again", output))
        assert one == other


def test_since_takes_that_day_and_later(tmp_path: Path) -> None:
    receipt = process(sample_job(tmp_path / "since", date(2017, 11, 9)), run=Run.begin("test"))
    expected = oracle("2017-11-09")
    assert_combined_is(tmp_path / "since" / "historical_stock_data.csv", expected)
    left_out = len(oracle()) - len(expected)
    assert receipt.rows.read == len(expected)
    assert receipt.notes == (f"Only rows dated 2017-11-09 or later were taken; {left_out:,} older rows were left out.",)


@pytest.mark.parametrize("others", [{}, {"b": b"", "c": company_file()}], ids=["good files", "and quarantined ones"])
def test_since_behind_every_row_is_named_as_the_cause(place: Place, others: dict[str, bytes]) -> None:
    place.put(a=GOOD, **others)
    with pytest.raises(BatchError, match="--since"):
        place.process(date(2030, 1, 1))


def test_missing_files_are_counted_and_named_and_nothing_is_written(place: Place) -> None:
    place.put(a=GOOD, b=GOOD, c=GOOD)
    for name in ("c.csv", "a.csv"):
        (place.source / name).unlink()
    (place.source / "A.csv").write_bytes(GOOD)
    with pytest.raises(MissingFilesError, match=r"2 of 3 .* \(a\.csv, c\.csv\)\. Upload them") as raised:
        place.process()
    assert raised.value.missing == ("a.csv", "c.csv")
    assert not place.output.exists()


def test_folder_in_the_place_of_a_company_file_is_missing(place: Place) -> None:
    place.put(a=GOOD, b=GOOD)
    (place.source / "b.csv").unlink()
    (place.source / "b.csv").mkdir()
    with pytest.raises(MissingFilesError, match=r"b\.csv"):
        place.process()


def test_file_that_is_replaced_by_one_that_is_too_large_is_not_read(place: Place) -> None:
    place.put(a=GOOD, b=GOOD)
    run = Run.begin("test")
    etl.gate(place.job(), run=run)
    os.truncate(place.source / "b.csv", 1 << 36)  # more than fits into memory
    receipt = etl.process(place.job(), run=run)
    assert [(one.file, one.reason.partition(",")[0]) for one in receipt.quarantined] == [("b.csv", "too large: 68")]
    assert place.process().files.taken_over == 2


def test_file_that_became_too_large_is_not_read_to_find_a_line_of_it(place: Place) -> None:
    place.put(a=GOOD)
    os.truncate(place.source / "a.csv", 1 << 36)  # more than fits into memory
    source = open_storage(str(place.source))
    with pytest.raises(BatchError, match=r"a\.csv cannot be used now: too large: 68,719,476,736 bytes, over the limit"):
        find_source_line("a.csv", ["2020-01-02"], source=source, output=None, aliases=(), loaded=None)


def test_bad_files_are_quarantined_each_with_its_reason_and_the_rest_goes_on(place: Place) -> None:
    place.put(
        a=GOOD,
        b=b"",
        c=company_file(),
        d=GOOD.split(b"\n", 1)[1],
        e=company_file(FIRST, header="Date,Open,High,Low,Close,Shares,OpenInt"),
        f=b"\x89PNG\r\n\x1a\n",
        g=company_file("bad", "worse"),
        h=GOOD,
    )
    with (place.source / "b.csv").open("wb") as file:
        os.truncate(file.fileno(), LARGEST_FILE_BYTES + 1)
    receipt = place.process()
    assert {entry.file[0]: entry.reason.partition(":")[0] for entry in receipt.quarantined} == {
        "b": "too large",
        "c": "no rows",
        "d": "no header",
        "e": "missing column Volume; the file has 'Shares'",
        "f": "not CSV",
        "g": "no usable row",
    }
    assert (
        f"{LARGEST_FILE_BYTES + 1:,} bytes, over the limit of {LARGEST_FILE_BYTES:,}" in receipt.quarantined[0].reason
    )
    assert (receipt.files.accepted, receipt.files.quarantined) == (2, 6)
    assert (receipt.rows.read, receipt.rows.accepted, receipt.rows.rejected) == (6, 4, 2)
    assert [(row["file"], row["line"]) for row in place.rejected()] == [("g.csv", "2"), ("g.csv", "3")]


def test_number_that_no_float_or_decimal_holds_does_not_sink_the_batch(place: Place) -> None:
    place.put(a=GOOD, b=company_file(FIRST, f"2020-01-03,1,2,1,1.5,0e{'9' * 40},0"))
    receipt = place.process()
    assert (receipt.rows.accepted, receipt.rows.rejected) == (3, 1)


def test_every_file_of_another_schema_fails_the_batch_and_leaves_the_outputs(place: Place) -> None:
    place.put(a=GOOD, b=GOOD, c=GOOD)
    place.process()
    before = place.outputs()
    other = company_file("2020-01-02,1,2", header="Day,First,Last")
    place.put(a=other, b=other, c=company_file(FIRST, header="Date,Open,High,Low,Close,Shares,OpenInt"))
    with pytest.raises(BatchError, match="No company file of the batch is usable") as raised:
        place.process()
    assert "2 x no header: the first line is 'Day,First,Last', not Date,Open,High,Low,Close,Volume" in str(raised.value)
    assert "1 x missing column Volume" in str(raised.value)
    assert place.outputs() == before


def test_name_held_twice_is_loaded_once_and_told(place: Place) -> None:
    place.put(a=GOOD, b=GOOD)
    (place.root / "index.txt").write_text("a.csv\nb.csv\na.csv\n")
    receipt = place.process()
    assert (receipt.files.listed, receipt.rows.accepted) == (2, 4)
    assert receipt.notes == ("The company index names a.csv more than once; each is loaded once.",)


def test_file_that_the_index_does_not_name_is_left_alone_and_counted(place: Place) -> None:
    place.put(a=GOOD)
    for name in ("x.csv", "y.csv", "README.md"):
        (place.source / name).write_bytes(GOOD)
    receipt = place.process()
    assert receipt.rows.accepted == 2
    assert receipt.notes == ("2 CSV files in the source are not named by the company index; they were left alone.",)


def test_further_columns_are_told_once_for_all_files_that_have_them(place: Place) -> None:
    more = company_file(FIRST + ",x", header=HEADER + ",Currency")
    place.put(a=more, b=GOOD, c=more)
    [note] = place.process().notes
    assert note.startswith("2 files have extra columns, left out: ")
    assert "Currency" in note
    assert "a.csv" in note


@pytest.mark.parametrize("column", ["a\x00b", "a\x1b[31mb", "x" * 100_000], ids=["NUL", "escape", "very long"])
def test_note_of_a_further_column_is_fit_for_a_receipt_whatever_its_name(place: Place, column: str) -> None:
    # pipeline_runs.receipt is jsonb, which refuses \u0000: one such header would make every load of the batch fail
    place.put(a=company_file(FIRST + ",x", header=f"{HEADER},{column}"))
    [note] = place.process().notes
    assert note.isprintable()
    assert len(note) < 1000


def test_rejected_rows_have_the_contract_header_and_tell_line_column_value_and_reason(place: Place) -> None:
    place.put(a=GOOD, b=company_file(FIRST, "", "2020-01-03,x,2,1,1.5,100,0", 'a,"b', LAST, FIRST))
    receipt = place.process()
    content = (place.output / "rejected_rows.csv").read_bytes()
    assert content.startswith(b"file,line,column,value,reason\n")
    assert b"\r" not in content
    assert [list(row.values()) for row in place.rejected()] == [
        ["b.csv", "4", "Open", "x", "not a number"],
        ["b.csv", "5", "", 'a,"b', "broken quoting"],
        ["b.csv", "7", "Date", "2020-01-02", "duplicate of line 2"],
    ]
    assert receipt.rows.rejected == 3


def test_rejected_rows_of_a_clean_batch_are_a_header_alone(place: Place) -> None:
    place.put(a=GOOD)
    place.process()
    assert place.outputs()["rejected_rows.csv"] == b"file,line,column,value,reason\n"


def test_list_that_is_read_in_blocks_gives_each_row_and_is_refused_where_it_is_another(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put(a=company_file(FIRST, "2020-01-03,x,2,1,1.5,1,0", "2020-01-04,9,8,7,8,1,0", "2020-01-05,9,8,7,8,1,0"))
    place.process()
    monkeypatch.setattr("etl.files.row_lists.BLOCK_BYTES", 7)
    monkeypatch.setattr("etl.batch.storage._READ_BYTES", 7)
    manifest, output = place.manifest(), open_storage(str(place.output))
    assert [one.line for one in read_flagged(manifest, output)] == [4, 5]
    assert [row[:4] for row in read_rejected(manifest, output)] == [("a.csv", 3, "Open", "x")]
    os.utime(place.output / "flagged_rows.csv", ns=(1, 1))
    with pytest.raises(BatchError, match=r"flagged_rows\.csv is not the one that the manifest describes"):
        list(read_flagged(manifest, output))


@pytest.mark.parametrize("sign", ["=", "+", "-", "@"])
def test_rejected_rows_are_safe_to_open_in_a_spreadsheet(place: Place, sign: str) -> None:
    formula = f"{sign}HYPERLINK('http://x')"
    place.put(a=GOOD, b=company_file(FIRST, f"2020-01-03,{formula},2,1,1.5,1,0", f"{formula},1", f'"{formula}'))
    place.process()
    rows = place.rejected()
    assert [row["value"].lstrip("'\"") for row in rows] == [formula, f"{formula},1", formula]
    for row in rows:
        assert not row["value"].startswith(("=", "+", "-", "@", "\t", "\r"))


@pytest.mark.parametrize("separator", [";", "\t"])
def test_rejected_rows_are_safe_where_a_semicolon_separates_cells(place: Place, separator: str) -> None:
    place.put(a=GOOD, b=company_file(FIRST, f"2020-01-03,1{separator}=1+1,2,1,1.5,1,0"))
    place.process()
    [row] = place.rejected()
    assert row["value"] == f"1{separator}'=1+1"


def test_file_replaced_after_the_gate_is_read_again_once(place: Place) -> None:
    place.put(a=GOOD)
    run = place.gate()
    (place.source / "a.csv").write_bytes(company_file(FIRST))
    receipt = etl.process(place.job(), run=run)
    assert (receipt.rows.accepted, receipt.quarantined) == (1, ())


@pytest.mark.parametrize("shards", [1, 2])
def test_file_replaced_at_each_reading_is_quarantined(
    place: Place, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    place.put(a=GOOD, b=GOOD)
    run = place.gate(shards=shards)
    stale, find = open_storage(str(place.source)).listing()["b.csv"], _Folder.find
    (place.source / "b.csv").write_bytes(company_file(FIRST))
    monkeypatch.setattr(_Folder, "find", lambda folder, name: stale if name == "b.csv" else find(folder, name))
    assert place.finish(run, shards=shards).quarantined == (CHANGED,)
    assert [entry.company_name for entry in place.manifest().slices] == ["a.csv"]
    (place.source / "b.csv").write_bytes(GOOD)
    os.utime(place.source / "b.csv", ns=(0, int(stale.version.partition("-")[0])))
    assert place.process().quarantined == ()  # which is of the version again that could not be read


@pytest.mark.parametrize("shards", [1, 2])
def test_file_removed_after_the_gate_is_quarantined_however_many_shards(place: Place, shards: int) -> None:
    place.put(a=GOOD, b=GOOD)
    run = place.gate(shards=shards)
    (place.source / "b.csv").unlink()
    receipt = place.finish(run, shards=shards)
    assert receipt.quarantined == (CHANGED,)
    assert (receipt.files.listed, receipt.files.accepted, receipt.files.missing) == (2, 1, 0)


def test_source_that_vanishes_after_the_gate_is_reported_in_one_line(place: Place) -> None:
    place.put(a=GOOD)
    run = place.gate()
    shutil.rmtree(place.source)
    with pytest.raises(etl.EtlError, match="Stocks"):
        etl.process(place.job(), run=run)


def test_process_without_a_plan_says_what_to_do(place: Place) -> None:
    place.put(a=GOOD)
    with pytest.raises(BatchError, match="Clear the whole run, from gate on, or put the marker again"):
        etl.process(place.job(), run=Run.begin("test"))


def test_run_that_is_given_up_half_way_leaves_the_outputs(place: Place) -> None:
    place.put(a=GOOD, b=GOOD, c=GOOD)
    place.process()
    before = place.outputs()
    place.put(a=company_file(FIRST), b=GOOD, c=GOOD)

    def give_up(*, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        etl.process(place.job(), run=place.gate(), progress=give_up)
    assert place.outputs() == before


def test_processing_that_is_closed_half_way_leaves_nothing_behind(place: Place) -> None:
    place.put(a=GOOD, b=GOOD, c=GOOD)
    run = place.gate()
    before = sorted(place.output.rglob("*"))
    processing = _processing(place.job(), run=run, progress=None)
    assert processing.companies == ("a.csv", "b.csv", "c.csv")
    next(iter(processing.slices(lambda _: True)))
    assert sorted(place.output.rglob("*")) != before
    processing.close()
    assert sorted(place.output.rglob("*")) == before


def test_largest_file_is_read_and_one_that_is_a_byte_larger_is_not(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.files.process.LARGEST_FILE_BYTES", len(GOOD))
    place.put(a=GOOD, b=GOOD + b"\n")
    assert [one.file for one in place.process().quarantined] == ["b.csv"]


def test_combined_file_that_cannot_appear_leaves_the_manifest_of_the_old_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put(a=GOOD, b=GOOD)
    place.process()
    before = place.outputs()
    place.put(a=company_file(FIRST), b=GOOD)
    rename = Path.replace

    def refuse(path: Path, target: Path) -> Path:
        if target.name == "historical_stock_data.csv":
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(etl.SettingsError, match="No space left"):
        place.process()
    assert place.outputs() == before


def test_gate_waits_its_grace_for_files_that_come_late(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.put(a=GOOD, b=GOOD)
    (place.source / "b.csv").unlink()
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        (place.source / "b.csv").write_bytes(GOOD)

    monkeypatch.setattr("time.sleep", sleep)
    plan = etl.gate(replace(place.job(), grace_seconds=20), run=Run.begin("test"))
    assert plan.names == ("a.csv", "b.csv")
    assert slept == [10.0]


def test_what_a_killed_run_left_of_outputs_goes_also_where_nothing_changed_and_no_file_of_others(place: Place) -> None:
    place.put(a=GOOD)
    place.process()
    names = {path.name for path in place.output.iterdir() if path.is_file()}
    for name in (*names, "thesis.txt"):
        (place.output / f"{name}.partial").write_text("half")
    assert place.process().files.taken_over == 1
    assert {path.name for path in place.output.glob("*.partial")} == {"thesis.txt.partial"}


@pytest.mark.parametrize("folder", [FOLDER, NOTICES, REPORTS])
def test_what_a_killed_writer_left_in_a_folder_of_the_output_goes(place: Place, folder: str) -> None:
    place.put(a=GOOD)
    (place.output / folder).mkdir(parents=True)
    for name in ("a.partial", "whole"):
        (place.output / folder / name).touch()
    place.gate()
    assert [path.name for path in (place.output / folder).iterdir()] == ["whole"]


def test_progress_counts_every_file_in_the_end(place: Place) -> None:
    place.put(a=GOOD, b=b"", c=GOOD)
    told: list[tuple[int, int]] = []
    process(place.job(), run=Run.begin("test"), progress=lambda *, done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_line_of_progress_tells_how_many_files_are_done_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("etl.progress._SECONDS_BETWEEN_LINES", 0.0)
    lines: list[str] = []
    with etl.CompanyFileProgress(say=lines.append) as progress:
        for done in (1, 1200):
            progress(done=done, total=1200)
    assert lines == ["company files: 1 of 1,200", "company files: 1,200 of 1,200"]


def test_companies_stand_in_the_order_of_the_index_whatever_their_size(place: Place) -> None:
    days = pd.date_range("1990-01-01", periods=5000).strftime("%Y-%m-%d")
    long = company_file(*(f"{day},1,2,1,1.5,100,0" for day in days))
    place.put(z=long, a=GOOD, m=b"", k=long, b=GOOD)
    place.process()
    names = pd.read_csv(place.output / "historical_stock_data.csv", header=None)[8].drop_duplicates()
    assert list(names) == ["z.csv", "a.csv", "k.csv", "b.csv"]
    assert list(names) == [
        name for name in parse_index((place.root / "index.txt").read_bytes()).names if name != "m.csv"
    ]


def test_manifest_is_one_json_object_that_people_can_read(sample: tuple[Path, Receipt]) -> None:
    facts = json.loads((sample[0] / "manifest.json").read_text())
    assert (facts["listed"], len(facts["slices"]), len(facts["quarantined"])) == (40, 35, 5)


def test_receipt_of_a_batch_without_a_usable_file_names_every_file_and_its_reason(place: Place) -> None:
    place.put(a=b"", b=company_file(), c=company_file("x"))
    run = Run.begin("test")
    with pytest.raises(BatchError, match="No company file of the batch is usable") as raised:
        process(place.job(), run=run)
    receipt = etl.record_failure(raised.value, job=place.job(), target=None, run=run)
    receipt.check_balance()
    assert (receipt.state, receipt.files.listed, receipt.files.quarantined) == ("failed", 3, 3)
    assert [entry.file for entry in receipt.quarantined] == ["a.csv", "b.csv", "c.csv"]


def test_receipts_of_a_dry_run_say_so_before_its_database_is_known(place: Place) -> None:
    place.put(a=GOOD)
    job, run = replace(place.job(), dry_run=True), Run.begin("test")
    etl.record_start(job, run=run)
    begun = read_receipt(run.run_id, output=job.open_output())
    assert begun
    assert begun.dry_run
    assert etl.record_failure(BatchError("no"), job=job, target=None, run=run).dry_run


def test_record_of_a_clean_file_has_no_first_fault_and_that_of_another_its_place(place: Place) -> None:
    place.put(a=GOOD, b=company_file(FIRST, "2020-01-03,x,2,1,1.5,100,0", "2020-01-04,y,2,1,1.5,100,0"))
    place.process()
    clean, dirty = (place.manifest().files[f"{name}.csv"] for name in "ab")
    assert (clean.rejected, clean.first_line, clean.first_column, clean.first_reason) == (0, 0, "", "")
    assert (dirty.rejected, dirty.first_line, dirty.first_column, dirty.first_reason) == (2, 3, "Open", "not a number")


def test_files_with_rejected_rows_are_told_with_the_most_rows_first(place: Place) -> None:
    bad = [f"2020-01-{day},x,2,1,1.5,100,0" for day in (13, 14, 15)]
    place.put(a=company_file(FIRST, bad[0]), b=company_file(FIRST, *bad), c=company_file(FIRST, *bad[:2]))
    assert [(one.file, one.rows) for one in place.process().rejected] == [("b.csv", 3), ("c.csv", 2), ("a.csv", 1)]


def test_share_of_rejected_rows_has_four_decimals(place: Place) -> None:
    place.put(a=company_file(FIRST, "2020-01-03,x,2,1,1.5,100,0", "2020-01-04,y,2,1,1.5,100,0"))
    assert place.process().rejected_percent == 66.6667
