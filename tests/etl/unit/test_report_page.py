"""The report page: its numbers are the receipt's, nothing breaks out of it, it asks for nothing and stays small."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from etl.batch.policy import Choice
from etl.batch.storage import open_storage
from etl.errors import SettingsError
from etl.files.manifest import QuarantinedFile, RejectedFile
from etl.files.row_lists import RowList, read_list
from etl.outcome import report
from etl.outcome.advice import next_steps
from etl.outcome.pictures import calendar, plot
from etl.outcome.receipt import FileCounts, Marker, Receipt, RowCounts, State, page_name
from etl.outcome.report import LARGEST_BYTES, LATEST, make_report, render, write_report
from etl.outcome.wording import receipt_text
from etl.table.journal import HeldCompany
from etl.table.months import CompanyMonths, months_of_json, months_to_json
from etl.table.overview import Closes, LoadedCompany, Move, Overview, PastRun
from etl.table.restatements import Kind, Restatement
from etl.table.undo import Undone
from tests.support.batch_files import process
from tests.support.report_page import STARTED, Page, full_lists, full_overview, full_receipt, months_of

if TYPE_CHECKING:
    from tests.support.batch_files import Files

FAILED = Receipt(
    run_id="marker_2",
    state=State.FAILED,
    started_at=STARTED,
    error="1 of 40 company files named by the company index is not there (ge.us.csv).",
    files=FileCounts(listed=40, accepted=39, missing=1),
    missing=("ge.us.csv",),
)
HOSTILE = (
    "<script>alert(1)</script>",
    "</title></style></script><img src=x onerror=alert(1)>",
    "\"'><svg onload=alert(1)>",
    "' autofocus onfocus=alert(1) x='",
    "{{ 7 * 7 }}{% raw %}{# #}",
    "--><iframe src=//evil.example></iframe><!--",
    "]]></pre></td></tr></table><h1>",
    "&lt;b&gt;&#60;b&#62;\x00\x1b[2J",
    "javascript:alert(1)//`${alert(1)}`",
)


def page_of(receipt: Receipt, overview: Overview | None = None, **options: Any) -> Page:  # noqa: ANN401
    return Page(render(receipt, overview or Overview(), **options).decode())


FULL = page_of(full_receipt(), full_overview(), lists=full_lists())


def test_numbers_are_those_of_the_receipt() -> None:
    receipt = full_receipt()
    for part in ("files", "rows"):
        for name, count in vars(getattr(receipt, part)).items():
            if name not in ("read", "taken_over") or part == "rows":
                assert FULL.texts[f"{part}-{name}"] == f"{count:,}", name


def test_every_part_says_something_when_there_is_something_to_say() -> None:
    for said in (
        "ge.us.csv", "all 14,047 rows up to 2017-10-26 × 0.9975 (a dividend or split)", "close 11.936 → 11.578",
        "100 rows up to 1990-01-01 in the file, 8,500 rows up to 2017-11-10 loaded", "empty: 0 bytes", "gone.us.csv",
        "not an ISO date (YYYY-MM-DD)", "open outside low..high", "2 of 3 companies", "quarantined: empty: 0 bytes",
        "+896.31 %", "outlier: a digit error?", "2017-10", "marker_0", "((close - open) / open) * 100",
        "WHERE company_name = 'ge.us.csv'", "mbd diff marker_1 --rows", "s3://monitored/2026-11-02.SUCCESS",
        "The calendar could not be read.",
    ):  # fmt: skip
        assert said in FULL.text, said


@pytest.mark.parametrize("payload", HOSTILE)
def test_no_text_from_outside_breaks_out_of_its_place(payload: str) -> None:
    seen = []

    def hostile(text: str) -> str:
        seen.append(text)
        return payload

    receipt, overview, lists = full_receipt(hostile), full_overview(hostile), full_lists(hostile)
    assert len(seen) > 45
    # The same facts with names that harm nothing, so that as many companies are the same one.
    harmless = [made(lambda _: "harmless") for made in (full_receipt, full_overview, full_lists)]
    expected = Page(render(harmless[0], harmless[1], lists=harmless[2]).decode())  # type: ignore[arg-type]
    page = page_of(receipt, overview, lists=lists)
    assert page.elements == expected.elements
    assert page.links == expected.links
    assert page.content == expected.content
    assert page_of(replace(receipt, state=State.FAILED, error=payload)).content == expected.content


@pytest.mark.parametrize("made", [FAILED, full_receipt(lambda _: HOSTILE[1])], ids=["failed", "hostile"])
def test_page_that_cannot_be_made_shows_the_receipt_as_the_mail_does(
    made: Receipt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "render", lambda *_, **__: 1 / 0)
    page = Page(make_report(made, output=None, database=None).decode())
    assert [tag for tag, _ in page.elements] == ["html", "meta", "title", "p", "pre"]
    assert receipt_text(made).replace("\x00", "\ufffd") in page.text
    assert "ZeroDivisionError" in page.text


def test_signs_that_reorder_or_hide_text_are_shown_as_such() -> None:
    page = page_of(replace(FAILED, error="moc.\u202ecod\u202c\u200b\x07é\u682a\U0001f4c8\nnext"))
    assert page.texts["main"] is not None
    assert "moc.\ufffdcod\ufffd\ufffd\ufffdé\u682a\U0001f4c8\nnext" in page.text


def test_page_links_to_nothing_but_its_own_parts() -> None:
    inside = {link for link in FULL.links if link.startswith("#")}
    assert FULL.links - inside == {"data:,"}
    ids = set(re.findall(r' id="([^"]+)"', FULL.html))
    assert {link[1:] for link in inside} <= ids
    assert len(re.findall(r' id="', FULL.html)) == len(ids)
    assert not re.findall(r"url\(|@import|https?://", FULL.content["style"] + FULL.content["script"])


def test_policy_of_the_page_lets_only_its_own_style_and_script_run() -> None:
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', FULL.html)
    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(FULL.content[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy.replace("&#39;", "'")
    assert policy.startswith("default-src &#39;none&#39;;") or policy.startswith("default-src 'none';")
    assert not [names for _, names in FULL.elements if "style" in names or any(one.startswith("on") for one in names)]


def test_tables_and_pictures_have_names_and_headings_come_in_their_order() -> None:
    for tag, names in FULL.elements:
        if tag == "th":
            assert "scope" in names
        if tag == "svg":
            assert {"aria-label"} <= set(names) or {"aria-hidden"} <= set(names)
        if "tabindex" in names and tag == "div":
            assert {"role", "aria-label"} <= set(names)
    levels = [int(tag[1]) for tag, _ in FULL.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


@pytest.mark.parametrize(
    ("receipt", "state", "said"),
    [
        (FAILED, "failed", "Upload the 1 missing file"),
        (
            replace(FAILED, missing=(), error="the server refuses the password. Check both."),
            "failed",
            "Fix what the first",
        ),
        (replace(FAILED, quarantined=(QuarantinedFile("a", "b"),), missing=()), "failed", "Have the export fixed"),
        (
            replace(FAILED, state=State.DRY_RUN, error=None, missing=()),
            "all is well",
            "Nothing was written to the table",
        ),
        (replace(FAILED, state=State.SUCCESS, error=None, missing=()), "all is well", "Nothing. The batch is in"),
        (replace(FAILED, state=State.RUNNING, error=None, missing=()), "under way", "Wait for the mail"),
        (full_receipt(), "needs a look", "mbd load --output s3://bucket/Output/ --accept-shrunk chd.us.csv"),
        (full_receipt(), "needs a look", "mbd load --output s3://bucket/Output/ --reload"),
    ],
)
def test_page_says_what_to_do_next(receipt: Receipt, state: str, said: str) -> None:
    page = page_of(receipt)
    assert state in page.text
    assert said in page.text


@pytest.mark.parametrize(
    "found",
    [
        {"quarantined": (QuarantinedFile("a.csv", "empty"),)},
        {"missing": ("ge.us.csv",)},
        {"held": (HeldCompany("a.csv", 1, None, 2, None),)},
        {"rows": RowCounts(read=2, accepted=1, rejected=1)},
        {"changed_outside": {"a.csv": 7}},
        {"written_outside": ("UPDATE by joe at 2026-11-22 10:15 UTC",)},
    ],
    ids=lambda found: next(iter(found)),
)
@pytest.mark.parametrize("state", [State.SUCCESS, State.DRY_RUN])
def test_page_of_a_run_that_found_anything_wrong_needs_a_look(state: State, found: dict[str, Any]) -> None:
    receipt = replace(FAILED, state=state, error=None, missing=())
    assert "all is well" in page_of(receipt).text
    page = page_of(replace(receipt, **found))
    assert "needs a look" in page.text
    assert "all is well" not in page.text


def test_earlier_runs_have_their_own_numbers_under_each_heading() -> None:
    run = PastRun(
        "r", "success", STARTED.astimezone(timezone(timedelta(hours=5))), 21.5,
        accepted=100, inserted=101, deleted=102, rejected=103, quarantined=104, restated=105,
    )  # fmt: skip
    html = page_of(FAILED, Overview(runs=(run,))).html
    table = html.partition('aria-label="Earlier runs as a table"')[2].partition("</table>")[0]
    cells = [re.sub("<[^>]+>", "", cell) for cell in re.findall("<t[hd][^>]*>.*?</t[hd]>", table)]
    assert dict(zip(cells[:9], cells[9:], strict=True)) == {
        **{"started": "2026-11-26 06:00 UTC", "state": "success", "seconds": "21.5", "inserted": "101"},
        **{"deleted": "102", "rejected": "103", "quarantined": "104", "restated": "105", "run": "r"},
    }


def test_page_of_an_undo_says_how_many_rows_it_put_back_and_how_many_it_deleted() -> None:
    undone = Undone(("r1",), companies=2, inserted=20, deleted=3)
    text = " ".join(page_of(replace(FAILED, state=State.SUCCESS, missing=(), undone=undone)).text.split())
    assert "20 earlier rows put back · 3 newer rows deleted · 2 companies" in text


@pytest.mark.parametrize(
    ("known", "table"),
    [
        ({}, "is unchanged."),
        ({"missing": (), "rejected": (RejectedFile("a.csv", 1, 8, "Date", "no such day"),)}, "is unchanged."),
        ({"missing": (), "quarantined": (QuarantinedFile("b", "empty"),)}, "is unchanged."),
        ({"missing": ()}, "holds a whole batch, the last one or this one, and never a part."),
    ],
    ids=["missing files", "rejected rows", "quarantined files", "during the load"],
)
def test_failed_run_says_that_the_table_is_unchanged_only_where_that_is_known(
    known: dict[str, Any], table: str
) -> None:
    *_, last = next_steps(replace(FAILED, **known))
    assert last.text.endswith(f"Until then the table {table}")


def test_rejected_rows_of_a_batch_that_was_not_loaded_are_in_its_output_alone() -> None:
    rows = RowCounts(read=2, accepted=1, rejected=1)
    [step] = next_steps(replace(FAILED, state=State.SUCCESS, missing=(), rows=rows))
    assert (step.command, "later" in step.text) == ("", False)
    [step] = next_steps(replace(FAILED, state=State.SUCCESS, missing=(), rows=replace(rows, inserted=1)))
    assert step.command == "mbd rejected marker_2"


def test_command_of_a_next_step_is_quoted_for_the_shell() -> None:
    held = (HeldCompany("a b;rm -rf $HOME.csv", 1, None, 2, None),)
    [step] = next_steps(replace(FAILED, state=State.SUCCESS, missing=(), output="O p", held=held))
    assert step.command == "mbd load --output 'O p' --accept-shrunk 'a b;rm -rf $HOME.csv'"


def test_steps_of_a_dry_run_name_no_command_as_its_outputs_grow_old() -> None:
    receipt = replace(full_receipt(), state=State.DRY_RUN, dry_run=True, output="s3://bucket/Output/dry-run/")
    steps = list(next_steps(receipt))
    assert [step for step in steps if step.command or "dry-run" in step.text] == []
    said = " ".join(step.text for step in steps)
    assert "Give it to the real run, or tick reload in the DAG's form." in said
    assert "the real run with --accept-shrunk, or accept_shrunk in the DAG's form, removes 8,400 loaded rows" in said
    assert {"--reload", "--accept-shrunk"} <= {
        word for step in next_steps(full_receipt()) for word in step.command.split()
    }


def test_column_of_another_name_is_mapped_only_by_the_exporters_word() -> None:
    reason = "missing column Close; the file has 'Last': if that is it, set MBD_COLUMN_ALIASES='Close=Last'"
    files = tuple(QuarantinedFile(name, reason) for name in ("a.csv", "b.csv"))
    step = next(one for one in next_steps(replace(FAILED, missing=(), quarantined=files)) if "exporter" in one.text)
    assert step.text.startswith("Only if the exporter confirms")
    assert "column_aliases 'Close=Last' in its form" in step.text


@pytest.mark.parametrize(
    ("failed", "first"),
    [
        ({"rejected": (RejectedFile("a.csv", 1, 8, "Date", "no such day"),)}, "Fix what the first sentences name."),
        (
            {"quarantined": (QuarantinedFile("b", "empty"),)},
            "Have the export fixed: the reason for each file is below.",
        ),
        ({}, "Fix what the first sentences name."),  # no row since the day that was asked for
        ({"policy": {"allow_missing": Choice("lost.us.csv", "x")}}, "Upload the 1 missing file."),
        ({"files": FileCounts(listed=1, missing=1)}, "Upload the 1 missing file."),
    ],
    ids=["rejected rows", "nothing usable", "nothing since", "others allowed", "no file there"],
)
def test_missing_file_is_to_be_uploaded_only_where_its_absence_failed_the_run(
    failed: dict[str, Any], first: str
) -> None:
    allowed = replace(FAILED, policy={"allow_missing": Choice("1", "the option --allow-missing")})
    assert next(next_steps(replace(allowed, **failed))).text.startswith(first)


def test_rejected_rows_that_failed_a_run_are_not_called_files_that_cannot_be_used() -> None:
    both = replace(
        FAILED,
        missing=(),
        rejected=(RejectedFile("a.csv", 1, 8, "Date", "no such day"),),
        quarantined=(QuarantinedFile("b", "empty"),),
    )
    assert next(next_steps(both)).text == "Fix what the first sentences name."


def test_marker_of_a_failed_run_is_put_again_by_a_command_for_the_shell() -> None:
    *_, last = next_steps(replace(FAILED, marker=Marker("b", "26 nov.SUCCESS")))
    assert last.command == "aws s3 cp --metadata-directive REPLACE 's3://b/26 nov.SUCCESS' 's3://b/26 nov.SUCCESS'"
    *_, last = next_steps(replace(FAILED, marker=None))
    assert (last.text.partition(",")[0], last.command) == ("Then clear the run in Airflow", "")


def test_loaded_days_that_went_because_their_rows_are_rejected_are_a_thing_to_do() -> None:
    gone = Restatement("smg.us.csv", Kind.REMOVED, 3, "2005-03-02", "2008-09-23")
    receipt = replace(
        FAILED,
        state=State.SUCCESS,
        missing=(),
        rows=RowCounts(read=100, accepted=97, rejected=3, inserted=0, deleted=3, unchanged=97),
        rejected=(RejectedFile("smg.us.csv", 3, 5, "Date", "not an ISO date"),),
        restatements=(gone, replace(gone, company_name="ge.us.csv")),
    )
    of_rows = next(step for step in next_steps(receipt) if "rejected" in step.text)
    assert "Days of smg.us.csv that were loaded are gone until then." in of_rows.text
    assert of_rows.command == f"mbd rejected {receipt.run_id}"


def test_page_of_1000_companies_stays_under_its_limit_also_when_everything_happened_to_each() -> None:
    names = [f"company-of-a-long-name-{number:04}.us.csv" for number in range(1000)]
    reason = "no header: the first line is " + "x" * 900
    months = {
        name: CompanyMonths(
            "",
            None,
            {
                f"{year}-{month:02}": 1 + (year * 7 + month * 3 + number) % 21
                for year in range(1962, 2018)
                for month in range(1, 13)
                if (year + month + number) % 3
            },
        )
        for number, name in enumerate(names)
    }
    receipt = replace(
        full_receipt(),
        new=dict.fromkeys(names, 2000),
        grown=dict.fromkeys(names, 1),
        changed_outside=dict.fromkeys(names, 1),
        missing=tuple(names),
        quarantined=tuple(QuarantinedFile(name, reason) for name in names),
        rejected=tuple(RejectedFile(name, 9, 5, "Date", reason) for name in names),
        held=tuple(HeldCompany(name, 1, "2017-01-01", 2, "2017-01-02") for name in names),
        restatements=tuple(Restatement(name, Kind.REWRITTEN, 9, "2017-01-01", "2017-01-02") for name in names),
    )
    overview = replace(
        full_overview(),
        months=months,
        companies=tuple(LoadedCompany(name, 1, "2017-01-01", STARTED, "r", "") for name in names),
        moves=tuple(Move(name, 1, 2, 1) for name in names),
    )
    rows = tuple((name, "5", "Date", "x" * 200, reason) for name in names for _ in range(5))
    page = render(receipt, overview, lists={"rejected_rows.csv": RowList(("file", "line", "a", "b", "c"), rows)})
    assert len(page) <= LARGEST_BYTES
    assert "The receipt has all of them." in Page(page.decode()).text
    assert len(render(replace(receipt, notes=("n" * 1_200_000,)), overview)) < 1_500_000  # nothing is cut by force


def test_usual_batch_of_1000_companies_is_listed_whole() -> None:
    names = [f"c{number:04}.us.csv" for number in range(1000)]
    page = page_of(replace(FAILED, state=State.SUCCESS, missing=(), new=dict.fromkeys(names, 2000)))
    assert all(name in page.text for name in names)


# --- pictures ----------------------------------------------------------------------------------------------------


def test_calendar_distinguishes_whole_months_partial_ones_and_gaps() -> None:
    months = [("a", "2000-01", 20), ("a", "2000-02", 20), ("a", "2000-03", 9), ("a", "2000-06", 3)]
    months += [("b", f"2000-0{number}", 20) for number in range(1, 7)]
    drawn = calendar(months_of(*months))
    assert drawn is not None
    assert (drawn.months, [row.company_name for row in drawn.rows], drawn.left_out) == (6, ["a", "b"], 0)
    assert drawn.whole == "M0 0.5h2M5 0.5h1M0 1.5h6"  # a company may end in the midst of a month
    assert drawn.partial == "M2 0.5h1"
    assert drawn.gap == "M3 0.5h2"
    assert [(gap.company_name, gap.first, gap.last, gap.months) for gap in drawn.gaps] == [
        ("a", "2000-04", "2000-05", 2)
    ]


def test_single_company_with_more_days_than_all_others_does_not_make_their_months_partial() -> None:
    months = [(name, f"2000-0{number}", 19) for name in "bcd" for number in (1, 2, 3)] + [
        ("a", f"2000-0{number}", 29) for number in (1, 2, 3)
    ]
    drawn = calendar(months_of(*months))
    assert drawn is not None
    assert drawn.partial == ""


def test_calendar_of_nothing_and_of_what_is_no_month_is_none() -> None:
    assert calendar({}) is None
    assert calendar(months_of(("a", "", 1), ("a", "2000-13", 1), ("a", "soon", 1))) is None


def test_months_are_kept_as_json_and_what_is_no_such_file_is_refused() -> None:
    months = {"a": CompanyMonths("f" * 64, "2000-01-03", {"2000-01": 2}), "b": CompanyMonths("0" * 64, None, {})}
    assert months_of_json(months_to_json(months)) == months
    for content in (b"", b"{", b"[]", b'{"a": 1}', b'{"a": [1, 2, 3, 4]}', b"\xff"):
        with pytest.raises(ValueError, match=r"."):
            months_of_json(content)


def test_plot_interrupts_a_line_where_a_day_is_missing_and_marks_a_corrected_day() -> None:
    drawn = plot(Closes("a", ("1", "2", "3"), (10.0, 11.0, None), (10.0, 12.0, 12.0)))
    assert drawn is not None
    assert drawn.before.count("M") == 1
    assert drawn.after.count("L") == 2
    assert drawn.marks == ((360.0, 75.0, 0.0),)
    assert (drawn.lowest, drawn.highest) == (10.0, 12.0)
    assert round(drawn.greatest_quotient, 2) == 109.09
    assert plot(Closes("a", ("1",), (1.0,), (1.0,))) is None
    assert plot(Closes("a", ("1", "2"), (None, None), (None, None))) is None
    flat = plot(Closes("a", ("1", "2"), (0.0, 0.0), (0.0, 0.0)))
    assert flat is not None
    assert (flat.quotient, flat.least_quotient) == ("", 100.0)


# --- writing -----------------------------------------------------------------------------------------------------


def test_page_of_a_dry_run_leaves_the_latest_one(tmp_path: Path) -> None:
    output = open_storage(str(tmp_path))
    write_report(replace(FAILED, run_id="a"), output=output, database=None)
    latest = output.read(LATEST)
    assert latest == output.read(page_name("a"))
    write_report(replace(FAILED, run_id="b", state=State.DRY_RUN), output=output, database=None)
    write_report(replace(FAILED, run_id="c", dry_run=True), output=output, database=None)
    assert output.read(LATEST) == latest
    assert output.read(page_name("b"))
    assert output.read(page_name("c"))


def test_page_that_cannot_be_written_is_a_line_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    output = open_storage(str(tmp_path))
    (tmp_path / "reports").write_text("a file where the folder should be")
    write_report(FAILED, output=output, database=None)
    [record] = caplog.records
    assert record.getMessage().startswith("The report page of run marker_2 was not written: Cannot write")


@pytest.mark.parametrize("error", [SettingsError("no such host. Check the host name."), RuntimeError("unforeseen")])
def test_database_that_cannot_be_asked_is_a_note_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(report, "read_overview", fail)
    page = Page(make_report(FAILED, output=open_storage(str(tmp_path)), database="postgresql://x").decode())
    assert f"The database could not be asked. {error}" in page.text


def test_lists_of_rows_are_read_as_far_as_they_are_whole(tmp_path: Path) -> None:
    output = open_storage(str(tmp_path))
    assert read_list("rejected_rows.csv", output=output) == RowList()
    (tmp_path / "rejected_rows.csv").write_text('file,line\na.csv,1\n"b,c",2\nd\ne.csv,3')
    read = read_list("rejected_rows.csv", output=output)
    assert (read.columns, read.rows) == (("file", "line"), (("a.csv", "1"), ("b,c", "2")))


def test_lists_of_another_run_are_not_shown(make_files: Callable[[str], Files]) -> None:
    files = make_files("one")
    files.name("x.csv")

    def processed(*rows: str) -> Receipt:
        files.put("x.csv", ["2020-01-02,1,2,1,2,100,0", *rows])
        return process(files.job())

    def page() -> str:
        return Page(make_report(first, output=files.job().open_output(), database=None).decode()).text

    first = processed("2020-13-01,1,2,1,2,100,0")
    assert "2020-13-01" in page()
    assert f"All are in {files.output}/rejected_rows.csv, until the next run." in page()
    second = processed("2020-13-01,1,2,1,2,100,0", "2020-14-01,1,2,1,2,100,0")
    assert (second.rejected[0].line, second.rejected[0].reason) == (3, "no such day")
    assert "2020-14-01" not in page()
    assert "x.csv: 1, the first on line 3, Date: no such day" in page()
    third = processed("x,1,2,1,2,100,0")  # as many rows as in the first run, and another one of them
    assert third.rows == first.rows
    assert "x.csv: 1, the first on line 3, Date: no such day" in page()
    (files.output / "manifest.json").unlink()
    assert "x.csv: 1, the first on line 3, Date: no such day" in page()
