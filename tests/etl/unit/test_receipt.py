"""A receipt balances or says which sum is wrong, survives JSON, and tells a person what happened."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import etl
from etl import BatchError, Receipt, Run
from etl.batch.policy import Choice
from etl.batch.storage import open_storage
from etl.files.flags import FlaggedRow
from etl.files.manifest import QuarantinedFile, RejectedFile
from etl.outcome.delivery import ChannelState, Delivery
from etl.outcome.receipt import FileCounts, MailState, Marker, RowCounts, State, read_receipt, write_receipt
from etl.outcome.wording import headline, restated
from etl.table.journal import HeldCompany
from etl.table.restatements import Kind, Restatement
from etl.table.undo import Undone

STARTED = datetime(2020, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
PROCESSED = Receipt(
    run_id="test__1",
    state=State.SUCCESS,
    started_at=STARTED,
    elapsed_seconds=1.5,
    files=FileCounts(listed=1006, accepted=1003, quarantined=2, missing=1),
    rows=RowCounts(read=110, accepted=100, rejected=10, flagged=3),
    quarantined=(QuarantinedFile("a.csv", "empty: 0 bytes"), QuarantinedFile("é.csv", "missing column Volume")),
    notes=("one note", "another"),
    source="s3://source/Stocks/",
    output="s3://source/Output/",
    steps={"gate": 0.25, "process": 1.0},
)
LOADED = replace(PROCESSED, rows=replace(PROCESSED.rows, inserted=60, deleted=20, unchanged=40))
FAILED = replace(PROCESSED, state=State.FAILED, error="No company file of the batch is usable.")
FULL = replace(
    LOADED,
    mail=MailState.SENT,
    marker=Marker("bucket", "Stocks/.SUCCESS", "etag"),
    missing=("m.csv",),
    newly_quarantined=("é.csv",),
    held=(HeldCompany("h.csv", 1, None, 9, "2020-01-09"),),
    restatements=(
        Restatement(
            *("r.csv", Kind.FACTORS, 3, "2020-01-01", "2020-01-03"),
            factor=0.5,
            whole=True,
            examples=(("2020-01-01", "close", "1", "2"),),
            spans=(("2020-01-03", 0.5, None),),
        ),
    ),
    restated=1,
    undone=Undone(("earlier",), 1, 2, 3),
    rejected=(RejectedFile("r.csv", 10, 2, "Open", "not a number"),),
    rejected_percent=9.0909,
    flagged=(FlaggedRow("f.csv", 2, "2020-01-02", "Open", "9", "spike"),),
    policy={"max_rejected": Choice("10%", "the option --max-rejected")},
    new={"n.csv": 4},
    grown={"g.csv": 1},
    changed_outside={"o.csv": 7},
    written_outside=("UPDATE by joe at 2026-11-22 10:15 UTC",),
    channels=(Delivery("slack", ChannelState.FAILED, "refused"),),
)


@pytest.mark.parametrize("receipt", [PROCESSED, LOADED], ids=["processed", "loaded"])
def test_balanced_receipt_passes(receipt: Receipt) -> None:
    receipt.check_balance()


@pytest.mark.parametrize("by", [-1, 1])
@pytest.mark.parametrize(
    ("part", "count", "named"),
    [
        *(("files", count, "files.listed") for count in ("listed", "accepted", "quarantined", "missing")),
        *(("rows", count, "rows.read") for count in ("read", "rejected")),
        *(("rows", count, "rows.accepted") for count in ("inserted", "unchanged")),
    ],
)
def test_each_sum_that_is_wrong_is_named_alone(part: str, count: str, named: str, by: int) -> None:
    counts = getattr(LOADED, part)
    spoilt = replace(LOADED, **{part: replace(counts, **{count: getattr(counts, count) + by})})
    with pytest.raises(BatchError, match="does not balance") as raised:
        spoilt.check_balance()
    named_sums = {name for name in ("files.listed", "rows.read", "rows.accepted") if f"{name} is" in str(raised.value)}
    assert named_sums == {named}


def test_several_wrong_sums_are_named_together() -> None:
    spoilt = replace(LOADED, files=replace(LOADED.files, listed=1), rows=replace(LOADED.rows, accepted=99))
    with pytest.raises(BatchError) as raised:
        spoilt.check_balance()
    assert "files.listed is 1, but accepted + quarantined + missing is 1,006" in str(raised.value)
    assert "rows.read is 110, but accepted + rejected is 109" in str(raised.value)
    assert "rows.accepted is 99, but inserted + unchanged is 100" in str(raised.value)


def test_nothing_inserted_is_still_balanced_against_unchanged() -> None:
    spoilt = replace(LOADED, rows=replace(LOADED.rows, inserted=0, deleted=0, unchanged=0))
    with pytest.raises(BatchError, match=r"rows\.accepted"):
        spoilt.check_balance()


@pytest.mark.parametrize("receipt", [PROCESSED, LOADED, FAILED, FULL], ids=["processed", "loaded", "failed", "full"])
def test_receipt_survives_json(receipt: Receipt) -> None:
    assert Receipt.from_json(receipt.to_json()) == receipt
    assert Receipt.from_json(receipt.to_json().encode()) == receipt
    assert repr(Receipt.from_json(receipt.to_json())) == repr(receipt)  # a state equals its text


def test_json_of_a_load_has_the_keys_of_the_contract() -> None:
    facts: dict[str, Any] = json.loads(LOADED.to_json())
    assert set(facts) >= {"run_id", "state", "files", "rows", "quarantined", "started_at", "elapsed_seconds"}
    assert facts["files"] == {
        "listed": 1006,
        "accepted": 1003,
        "quarantined": 2,
        "missing": 1,
        "read": 0,
        "taken_over": 0,
    }
    assert facts["rows"] == {
        **{"read": 110, "accepted": 100, "rejected": 10, "flagged": 3},
        **{"inserted": 60, "deleted": 20, "unchanged": 40},
    }
    assert facts["quarantined"][1] == {"file": "é.csv", "reason": "missing column Volume"}
    assert facts["elapsed_seconds"] == 1.5


def test_count_of_zero_is_told_in_json() -> None:
    counts = RowCounts(inserted=0, deleted=0, unchanged=0, held=0)
    assert json.loads(replace(LOADED, rows=counts).to_json())["rows"] == dict.fromkeys(vars(counts), 0)


def test_json_of_process_alone_lacks_what_only_a_load_knows() -> None:
    loaded, processed = json.loads(LOADED.to_json()), json.loads(PROCESSED.to_json())
    assert set(processed) == set(loaded)
    assert set(loaded["rows"]) - set(processed["rows"]) == {"inserted", "deleted", "unchanged"}


def test_times_are_told_in_utc() -> None:
    elsewhere = replace(PROCESSED, started_at=STARTED.astimezone(timezone(timedelta(hours=5, minutes=30))))
    assert json.loads(elsewhere.to_json())["started_at"] == "2020-01-02T03:04:05.678+00:00"
    assert "2020-01-02 03:04:05 UTC" in etl.receipt_text(elsewhere)


def test_json_has_names_as_they_are_written() -> None:
    assert "é.csv" in PROCESSED.to_json()


def test_json_is_one_line() -> None:
    assert "\n" not in replace(FAILED, error="first\nsecond").to_json()


@pytest.mark.parametrize(
    ("receipt", "headline"),
    [
        (PROCESSED, "Processed 100 rows of 1,003 companies."),
        (LOADED, "Loaded 60 rows; 1,003 companies are up to date."),
        (replace(LOADED, rows=replace(LOADED.rows, inserted=0, deleted=0, unchanged=100)),
         "0 changes: the table already held these 100 rows."),
        (replace(LOADED, state=State.DRY_RUN), "DRY RUN: nothing was written to the table. A run would do this:"),
        (FAILED, "FAILED: No company file of the batch is usable."),
    ],
    ids=["processed", "loaded", "no change", "dry run", "failed"],
)  # fmt: skip
def test_text_begins_with_what_happened(receipt: Receipt, headline: str) -> None:
    assert etl.receipt_text(receipt).splitlines()[0] == headline


def test_load_that_only_deletes_is_not_told_as_no_change() -> None:
    rows = replace(LOADED.rows, inserted=0, deleted=20, unchanged=100)
    assert "0 changes" not in etl.receipt_text(replace(LOADED, rows=rows))


def test_text_shows_every_sum_the_quarantined_files_and_the_notes() -> None:
    text = etl.receipt_text(LOADED)
    assert "1,006 listed = 1,003 accepted + 2 quarantined + 1 missing" in text
    assert "110 read = 100 accepted + 10 rejected (3 of the accepted flagged)" in text
    assert "100 accepted = 60 inserted + 40 unchanged; 20 old rows deleted" in text
    assert "  é.csv: missing column Volume\n" in text
    assert "  one note\n  another\n" in text
    assert "table " not in etl.receipt_text(PROCESSED)


def test_receipt_and_mail_name_the_marker_and_the_version_of_the_code() -> None:
    marker = Marker("monitored", "batches/1 a.SUCCESS", "abc")
    receipt = Receipt.of_run(Run("r", STARTED, marker=marker), state=State.RUNNING)
    assert json.loads(receipt.to_json())["marker"] == {
        "bucket": "monitored",
        "key": "batches/1 a.SUCCESS",
        "etag": "abc",
    }
    assert Receipt.from_json(receipt.to_json()) == receipt
    assert f"\nmarker     s3://monitored/batches/1 a.SUCCESS\nversion    {etl.code_version()}\n" in etl.receipt_text(
        receipt
    )


def test_receipt_of_version_0_1_is_read() -> None:
    facts = json.loads(LOADED.to_json())
    of_0_1 = {"run_id", "state", "started_at", "elapsed_seconds", "files", "rows", "quarantined", "notes", "source"}
    of_0_1 |= {"output", "steps", "error"}
    assert Receipt.from_facts({key: facts[key] for key in of_0_1}) == LOADED


@pytest.mark.parametrize(
    ("conf", "marker"),
    [
        ({"marker": {"bucket": "b", "key": "k", "etag": "e"}, "requested_at": "now"}, Marker("b", "k", "e")),
        ({"marker": {"bucket": "b", "key": "k"}}, Marker("b", "k")),
        *(
            (conf, None)
            for conf in (None, {}, {"marker": None}, {"marker": "b/k"}, {"marker": {"bucket": 1, "key": "k"}})
        ),
    ],
)
def test_marker_of_a_conf_is_taken_where_it_has_one(conf: object, marker: Marker | None) -> None:
    assert Marker.of_conf(conf) == marker


def test_long_list_of_quarantined_files_is_cut_with_its_count() -> None:
    many = tuple(QuarantinedFile(f"{n}.csv", f"too large: {n} bytes") for n in range(1050))
    text = etl.receipt_text(replace(LOADED, quarantined=many))
    assert text.count("too large:") == 50
    assert "and 1,000 more, all in the receipt's JSON" in text


def test_files_that_are_quarantined_for_one_reason_are_one_line_and_new_ones_come_first() -> None:
    old = tuple(QuarantinedFile(f"{n:02}.csv", "empty: 0 bytes") for n in range(12))
    receipt = replace(LOADED, quarantined=(*old, QuarantinedFile("x.csv", "no header")), newly_quarantined=("x.csv",))
    assert "  13 files quarantined (new among them: x.csv)\n" in etl.receipt_text(receipt)
    first_ten = ", ".join(f"{n:02}.csv" for n in range(10))
    assert f"  x.csv: no header\n  {first_ten} and 2 more: empty: 0 bytes\n" in etl.receipt_text(receipt)


def test_nothing_new_and_a_newly_quarantined_file_is_no_quiet_day() -> None:
    same = replace(LOADED, rows=RowCounts(read=100, accepted=100, rejected=0, inserted=0, deleted=0, unchanged=100))
    receipt = replace(same, quarantined=(QuarantinedFile("x.csv", "no header"),), newly_quarantined=("x.csv",))
    assert headline(receipt) == "0 changes: the table already held these 100 rows; 1 file is newly quarantined."


def test_missing_files_are_told_of_a_run_that_went_on_and_the_first_fifty_of_many_by_name() -> None:
    many = tuple(f"{number:02}.csv" for number in range(60))
    lines = etl.receipt_text(replace(LOADED, missing=many)).splitlines()
    start = lines.index("Missing; their earlier rows, if any, stay in the table:")
    assert lines[start + 1 :][:51] == [
        *(f"  {name}" for name in many[:50]),
        "  and 10 more, all in the receipt's JSON",
    ]
    assert "stay in the table" not in etl.receipt_text(replace(FAILED, quarantined=(), missing=many))


def test_restatements_that_a_receipt_does_not_hold_are_counted_too() -> None:
    one = Restatement("r.csv", Kind.REWRITTEN, 3, "2020-01-01", "2020-01-03")
    text = etl.receipt_text(replace(LOADED, restatements=(one,) * 10, restated=25))  # as version 0.1 wrote it
    assert "\n  and 15 more: mbd diff test__1\n" in text


def test_correction_of_several_days_names_the_old_value_before_the_new_one() -> None:
    examples = (("2020-01-01", "close", "1", "2"), ("2020-01-03", "high", "3", "4"))
    one = Restatement("r.csv", Kind.CORRECTED, 2, "2020-01-01", "2020-01-03", examples=examples)
    assert restated(one) == (
        "r.csv: 2 rows corrected from 2020-01-01 to 2020-01-03 (first: 2020-01-01 close 1 → 2, 2020-01-03 high 3 → 4)"
    )


def test_undo_says_how_many_rows_it_put_back_and_how_many_it_deleted() -> None:
    text = etl.receipt_text(replace(LOADED, undone=Undone(("r2", "r1"), companies=1, inserted=20, deleted=3)))
    assert "20 earlier rows put back, 3 newer rows deleted, in 1 company\n" in text


def lines_of_changes(receipt: Receipt) -> list[str]:
    lines = etl.receipt_text(receipt).splitlines()
    start = lines.index("What changed:")
    return lines[start + 1 : lines.index("", start)]


def test_first_ten_companies_of_each_change_are_named_and_the_others_counted() -> None:
    names = [f"{number:02}.csv" for number in range(13)]
    first_ten = ", ".join(names[:10])
    assert lines_of_changes(replace(LOADED, quarantined=(), grown=dict.fromkeys(names, 1))) == [
        f"  13 companies grew by 1 row ({first_ten} and 3 more)"
    ]
    assert lines_of_changes(replace(LOADED, quarantined=(), new=dict.fromkeys(names, 2))) == [
        f"  13 new companies with 26 rows ({first_ten} and 3 more)"
    ]
    many = tuple(QuarantinedFile(name, "empty: 0 bytes") for name in names)
    assert lines_of_changes(replace(LOADED, quarantined=many)) == [f"  13 files quarantined ({first_ten} and 3 more)"]


def test_companies_that_grew_alike_are_one_line_and_a_long_tail_is_summed_up() -> None:
    grown = {"a": 1, "b": 1, "c": 1, "d": 5, "e": 5, "f": 2, "g": 7, "h": 9}
    assert lines_of_changes(replace(LOADED, quarantined=(), grown=grown)) == [
        "  3 companies grew by 1 row (a, b, c)",
        "  2 companies grew by 5 rows (d, e)",
        "  1 company grew by 2 rows (f)",
        "  2 other companies grew by 16 rows (g 7, h 9)",
    ]


def test_rejected_rows_are_named_with_their_first_fault_and_where_all_are() -> None:
    one = RejectedFile("smg.csv", 3, 5, "Date", "not an ISO date (YYYY-MM-DD)")
    other = RejectedFile("x.csv", 1, 9, "", "7 fields where the header has 6")
    receipt = replace(LOADED, quarantined=(), rejected=(one,))
    assert lines_of_changes(receipt) == [
        "  3 rows rejected in smg.csv (line 5, Date: not an ISO date (YYYY-MM-DD); all in "
        "s3://source/Output/rejected_rows.csv)"
    ]
    assert lines_of_changes(replace(receipt, rejected=(one, other))) == [
        "  4 rows rejected in 2 files (smg.csv 3: line 5, Date: not an ISO date (YYYY-MM-DD); "
        "x.csv 1: line 9, 7 fields where the header has 6; all in s3://source/Output/rejected_rows.csv)"
    ]


def test_dry_run_that_failed_says_both_in_its_first_line() -> None:
    text = etl.receipt_text(replace(FAILED, dry_run=True))
    assert text.startswith("DRY RUN: FAILED: No company file of the batch is usable.\n")
    assert Receipt.from_json(replace(FAILED, dry_run=True).to_json()).dry_run


def test_headline_is_about_the_table_where_it_was_changed_outside() -> None:
    rows = replace(LOADED.rows, inserted=0, deleted=0, unchanged=100)
    text = etl.receipt_text(replace(LOADED, rows=rows, changed_outside={"a.csv": 7}))
    assert text.startswith(
        "The table was changed outside the pipeline: it holds other rows of 1 company than were loaded."
    )
    assert "1 company changed outside the pipeline (a.csv)" in text


def test_headline_is_about_the_table_where_values_may_have_been_changed_outside() -> None:
    rows = replace(LOADED.rows, inserted=0, deleted=0, unchanged=100)
    receipt = replace(LOADED, rows=rows, written_outside=("UPDATE by joe at 2026-11-22 10:15 UTC",))
    text = etl.receipt_text(receipt)
    assert text.startswith("The table was changed outside the pipeline: it holds as many rows of each company as were")
    assert etl.receipt_text(replace(receipt, written_outside=())).startswith("0 changes: ")


def test_run_begins_now_with_an_id_of_its_own() -> None:
    first, second = Run.begin("test"), Run.begin("test")
    assert first.run_id != second.run_id
    assert first.run_id.startswith("test__")
    assert abs(datetime.now(UTC) - first.started_at) < timedelta(seconds=10)


def test_timing_adds_steps_and_tells_the_whole_time_in_milliseconds(monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(datetime):
        @classmethod
        def now(cls, _: object = None) -> datetime:  # type: ignore[override]
            return STARTED + timedelta(seconds=61.2346)

    monkeypatch.setattr("etl.outcome.receipt.datetime", Later)
    receipt = PROCESSED.timed(load=2.00451)
    assert receipt.steps == {"gate": 0.25, "process": 1.0, "load": 2.005}
    assert receipt.elapsed_seconds == 61.235


def test_receipt_that_has_just_begun_counts_nothing() -> None:
    begun = Receipt.of_run(Run("r", STARTED, steps={"gate": 0.5}), state=State.RUNNING)
    assert begun.steps == {"gate": 0.5}
    assert (begun.elapsed_seconds, begun.restated, begun.files, begun.rows) == (0, 0, FileCounts(), RowCounts())
    assert set(vars(begun.files).values()) == {0}
    assert [vars(begun.rows)[name] for name in ("read", "accepted", "rejected", "flagged")] == [0] * 4


def test_receipt_is_read_from_where_it_was_written_and_is_none_where_it_never_was(tmp_path: Path) -> None:
    output = open_storage(str(tmp_path))
    write_receipt(LOADED, output=output)
    assert read_receipt(LOADED.run_id, output=output) == LOADED
    assert read_receipt("another", output=output) is None


@pytest.mark.parametrize("content", ["{", "{}", "[]", '{"state": "unheard of"}', '{"state": "success"}'])
def test_file_that_is_no_receipt_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "receipts").mkdir()
    (tmp_path / "receipts" / "r.json").write_text(content)
    with pytest.raises(BatchError, match=r"receipts/r\.json is not a receipt of this version"):
        read_receipt("r", output=open_storage(str(tmp_path)))
