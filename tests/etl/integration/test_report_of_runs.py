"""Each run has its report page and its receipt and mail say what changed: by real runs on a real PostgreSQL and S3."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import etl
from etl import audit
from etl.batch.policy import Choice
from etl.outcome.report import LARGEST_BYTES
from etl.table.database import QUERIES, query
from etl.table.months import months_of_json
from etl.table.overview import read_overview
from etl.table.restatements import Kind, Restatement
from tests.support import real_batch
from tests.support.batch_files import process
from tests.support.report_page import Page

if TYPE_CHECKING:
    from tests.support.aws_places import Bucket, Topic
    from tests.support.batch_files import Files
    from tests.support.commands import Command
    from tests.support.database import Database

Days = Callable[..., list[str]]


def page_of(files: Files, run_id: str) -> Page:
    return Page((files.output / "reports" / f"{run_id}.html").read_text())


def _times(row: str, factor: float) -> str:
    day, *prices, volume, interest = row.split(",")
    return ",".join([day, *(f"{float(price) * factor:.6g}" for price in prices), volume, interest])


def changed_batch(three: Files, database: Database, days: Days) -> etl.Receipt:
    """A second run: aa restated, bb grown, cc quarantined, dd new, ee with a bad row."""
    three.load(database)
    three.put("aa.us.csv", [row.replace(",1000,", ",9999,") for row in days(5, price=10)])
    three.put("bb.us.csv", days(11, price=20))
    three.put("cc.us.csv", None)
    three.put("dd.us.csv", days(4, price=40))
    three.put("ee.us.csv", [*days(2, price=50), "2001-02-30,1,1,1,1,1,0", "<b>,1,1,1,1,1,0"])
    three.name("aa.us.csv", "bb.us.csv", "cc.us.csv", "dd.us.csv", "ee.us.csv")
    return three.load(database)


def test_load_without_a_report_page_writes_none_and_one_can_be_made_later(
    three: Files, database: Database, command: Command
) -> None:
    places = ("--source", three.source, "--company-index", three.index, "--output", three.output)
    options = (*places, "--database-url", database.url, "--quiet", "--no-report")
    assert command("run", *options).code == 0
    three.put("aa.us.csv", None)
    three.put("bb.us.csv", None)
    three.put("cc.us.csv", None)
    assert command("run", *options).code == 1
    assert not (three.output / "reports").exists()
    assert command("report", "--database-url", database.url, "--output", three.output).code == 0
    assert (three.output / "reports").exists()


def test_receipt_and_mail_name_each_company_that_changed(three: Files, database: Database, days: Days) -> None:
    receipt = changed_batch(three, database, days)
    assert (receipt.new, receipt.grown) == ({"dd.us.csv": 4, "ee.us.csv": 2}, {"bb.us.csv": 1})
    assert [one.company_name for one in receipt.restatements] == ["aa.us.csv"]
    [rejected] = receipt.rejected
    assert vars(rejected) == {"file": "ee.us.csv", "rows": 2, "line": 4, "column": "Date", "reason": "no such day"}
    lines = etl.receipt_text(receipt).splitlines()
    start = lines.index("What changed:")
    assert lines[start + 1 : lines.index("", start)] == [
        "  1 company restated (aa.us.csv)",
        "  1 company grew by 1 row (bb.us.csv)",
        "  2 new companies with 6 rows (dd.us.csv, ee.us.csv)",
        "  1 file newly quarantined (cc.us.csv)",
        f"  2 rows rejected in ee.us.csv (line 4, Date: no such day; all in {three.output}/rejected_rows.csv)",
    ]
    assert three.receipts()[receipt.run_id]["grown"] == {"bb.us.csv": 1}


def test_first_load_calls_no_file_newly_quarantined(three: Files, database: Database) -> None:
    three.put("cc.us.csv", None)
    assert three.load(database).newly_quarantined == ()


def test_file_that_a_load_before_an_undo_has_named_is_not_newly_quarantined(
    three: Files, database: Database, days: Days
) -> None:
    first = changed_batch(three, database, days)
    audit.undo(database.url, run=etl.Run.begin("undo"))
    again = three.load(database)
    assert (first.newly_quarantined, again.newly_quarantined) == (("cc.us.csv",), ())


def test_file_is_newly_quarantined_until_a_load_has_said_so(three: Files, database: Database, days: Days) -> None:
    first = changed_batch(three, database, days)
    again = three.load(database)
    assert (first.newly_quarantined, again.newly_quarantined) == (("cc.us.csv",), ())
    assert f"Same content as run {first.run_id}." in again.notes
    three.put("dd.us.csv", None)
    with_another = three.load(database, dry_run=True)
    assert with_another.newly_quarantined == three.load(database).newly_quarantined == ("dd.us.csv",)
    assert not [note for note in with_another.notes if "Same content" in note]
    assert "2 files quarantined (new among them: dd.us.csv)" in etl.receipt_text(with_another)


def test_new_company_is_named_behind_any_number_that_were_restated_and_grew(
    three: Files, database: Database, days: Days
) -> None:
    three.load(database)
    three.put("aa.us.csv", days(6, price=11))
    three.put("bb.us.csv", days(11, price=21))
    three.put("dd.us.csv", days(4, price=40))
    three.name("aa.us.csv", "bb.us.csv", "cc.us.csv", "dd.us.csv")
    receipt = three.load(database)
    assert (receipt.new, receipt.grown) == ({"dd.us.csv": 4}, {"aa.us.csv": 1, "bb.us.csv": 1})
    assert database.companies() == {"aa.us.csv": 6, "bb.us.csv": 11, "cc.us.csv": 20, "dd.us.csv": 4}


@pytest.mark.parametrize("restated", [1, 10], ids=["one row", "all rows"])
def test_company_that_was_restated_and_grew_is_named_for_both(
    three: Files, database: Database, days: Days, restated: int
) -> None:
    three.load(database)
    before, after = days(10, price=20)[:-restated], days(10, price=20)[-restated:]
    three.put("bb.us.csv", [*before, *(_times(row, 2) for row in after), *days(12, price=20)[10:]])
    tried, real = three.load(database, dry_run=True), three.load(database)
    assert real.grown == tried.grown == {"bb.us.csv": 2}
    assert [one.rows for one in real.restatements] == [restated]
    assert real.new == {}


def test_page_shows_what_a_run_did(three: Files, database: Database, days: Days) -> None:
    receipt = changed_batch(three, database, days)
    page = page_of(three, receipt.run_id)
    for part in ("files", "rows"):
        for name, count in vars(getattr(receipt, part)).items():
            if (part, name) not in (("files", "read"), ("files", "taken_over")) and count is not None:
                assert page.texts[f"{part}-{name}"] == f"{count:,}"
    for said in (
        *("1 row corrected: 2001-01-01, volume 1000 → 9999", "empty: 0 bytes", "no such day", "<b>"),
        *("1 of 5 companies", "2001-01-20", "The last 2 runs", "its file ends there"),
    ):
        assert said in page.text, said
    assert "quotient" in page.html.partition("</style>")[2]
    assert (three.output / "reports" / "latest.html").read_text() == page.html
    assert "could not" not in page.text


def test_page_says_why_a_company_ends_earlier_than_most_only_as_far_as_its_run_knows(
    three: Files, database: Database, days: Days, command: Command
) -> None:
    for name in ("dd", "ee", "ff", "gg"):
        three.put(f"{name}.us.csv", days(20))
    three.name(*(f"{name}.us.csv" for name in ("aa", "bb", "cc", "dd", "ee", "ff", "gg")))
    three.load(database)
    three.put("bb.us.csv", None)
    for name in ("cc", "dd", "ee", "ff"):
        three.put(f"{name}.us.csv", days(21, price=30))
    three.put("gg.us.csv", days(10))
    (three.source / "aa.us.csv").rename(three.root / "aa.us.csv")

    def why(run_id: str) -> dict[str, str]:
        cells = re.findall(
            r'<tr><th scope="row">(\S+?)</th>.*?<td class="w">(.*?)</td></tr>', page_of(three, run_id).html
        )
        return {name: reason for name, reason in cells if name in ("aa.us.csv", "bb.us.csv", "ff.us.csv", "gg.us.csv")}

    three.name(*(f"{name}.us.csv" for name in ("aa", "bb", "cc", "dd", "ee", "gg")))  # ff is not named any more
    run = three.load(database, job=three.job(policy=etl.Policy(allow_missing=Choice("1", "a test"))))
    expected = {
        "aa.us.csv": "missing: its file is not in the source",
        "bb.us.csv": "quarantined: empty: 0 bytes",
        "ff.us.csv": "not in this batch",
        "gg.us.csv": "held back: its new file lost days",
    }
    assert why(run.run_id) == expected
    (three.root / "aa.us.csv").rename(three.source / "aa.us.csv")
    again = three.load(database)
    assert why(again.run_id) == expected | {"aa.us.csv": "its file ends there"}
    assert command("report", run.run_id, "--database-url", database.url).code == 0
    assert why(run.run_id) == expected | {"ff.us.csv": "-"}  # its manifest is gone


def test_corrected_price_is_plotted_before_and_after(three: Files, database: Database, days: Days) -> None:
    three.load(database)
    three.put("cc.us.csv", [row.replace("2001-01-09,30", "2001-01-09,29") for row in days(20, price=30)])
    receipt = three.load(database)
    assert receipt.restated == 1
    page = page_of(three, receipt.run_id)
    [label] = [part for part in page.html.split('aria-label="') if part.startswith("cc.us.csv, close from")]
    assert label.startswith("cc.us.csv, close from 2001-01-01 to 2001-01-20")


def test_each_corrected_price_of_a_long_history_is_among_the_points_that_are_plotted(
    three: Files, database: Database, days: Days
) -> None:
    rows = days(700, price=30)
    three.put("cc.us.csv", rows)
    three.load(database)
    changed = [rows[number] for number in (101, 350, 598)]
    three.put("cc.us.csv", [",".join([row[:10], *["7"] * 6]) if row in changed else row for row in rows])
    receipt = three.load(database)
    [found] = read_overview(database.url, run_id=receipt.run_id, restatements=receipt.restatements).closes
    assert {row[:10] for row in changed} <= set(found.days)
    assert len(found.days) < 300


def test_company_whose_numbers_are_only_written_in_another_way_is_not_plotted(
    three: Files, database: Database, days: Days
) -> None:
    three.load(database)
    three.put("cc.us.csv", [row.replace(",30,", ",30.0,") for row in days(20, price=30)])
    receipt = three.load(database)
    assert [one.kind for one in receipt.restatements] == [Kind.RESPELLED]
    assert read_overview(database.url, run_id=receipt.run_id, restatements=receipt.restatements).closes == ()


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("fault", ["missing file", "wrong password", "nothing usable", "no server"])
def test_run_that_failed_has_a_page_too(
    three: Files, database: Database, command: Command, closed_port: int, fault: str
) -> None:
    three.load(database)
    url = database.url
    if fault == "missing file":
        three.name("aa.us.csv", "gone.us.csv")
    elif fault == "nothing usable":
        for path in three.source.iterdir():
            path.write_text("")
    elif fault == "wrong password":
        url = database.without_password(password="hunter2-do-not-print")
    else:
        url = f"postgresql://127.0.0.1:{closed_port}/stocks"
    places = ("--source", three.source, "--index", three.index, "--output", three.output)
    answer = command("run", *places, "--database-url", url, "--quiet")
    assert answer.code != 0
    failed = next(run for run, facts in three.receipts().items() if facts["state"] == "failed")
    page = page_of(three, failed)
    assert f"FAILED: {answer.err.removeprefix('error: ').strip()}" in page.texts["main"] + page.text
    assert "What to do next" in page.text
    assert ("gone.us.csv" in page.text) == (fault == "missing file")
    assert "hunter2" not in page.html
    assert ("1 of 3 companies" in page.text) == (fault in ("missing file", "nothing usable"))
    assert (three.output / "reports" / "latest.html").read_text() == page.html


def test_rows_that_somebody_wrote_to_the_table_do_not_break_the_page(three: Files, database: Database) -> None:
    three.load(database)
    database.execute(
        "INSERT INTO historical_stocks_data VALUES ('2001-01-19', 'x', NULL, '', 'y', 'z', '', '', 'cc.us.csv'), "
        "(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL), "
        "('2001-01-05', 'x', 'x', 'x', 'x', 'x', 'x', 'x', '<i>')"
    )
    receipt = three.load(database)
    page = page_of(three, receipt.run_id)
    assert receipt.changed_outside == {"(null)": 1, "<i>": 1, "cc.us.csv": 21}
    assert page.text.count("The table was changed outside the pipeline: it holds other rows of 3 companies") == 2
    assert "Companies changed outside" in page.html
    assert "1 of 3 companies" in page.text
    assert "The last day's prices could not be read. The database refuses: invalid input syntax" in page.text


def test_headline_is_about_the_table_when_it_was_changed_outside(three: Files, database: Database) -> None:
    three.load(database)
    database.execute("INSERT INTO historical_stocks_data SELECT * FROM historical_stocks_data")
    receipt = three.load(database)
    text = etl.receipt_text(receipt)
    assert text.startswith(
        "The table was changed outside the pipeline: it holds other rows of 3 companies than were loaded."
    )
    assert "0 changes" not in text
    assert receipt.changed_outside == {"aa.us.csv": 10, "bb.us.csv": 20, "cc.us.csv": 40}
    corrected = three.load(database, reload=True)
    assert corrected.changed_outside == {}
    assert "This load corrected them." in etl.receipt_text(corrected)
    assert "--reload" not in etl.receipt_text(corrected)


def test_company_that_grows_and_lacks_rows_is_said_to_hold_what_it_holds_then(
    three: Files, database: Database, days: Days
) -> None:
    three.load(database)
    database.execute("DELETE FROM historical_stocks_data WHERE stock_date = '2001-01-05'")
    three.put("cc.us.csv", days(23, price=30))
    tried, receipt = three.load(database, dry_run=True), three.load(database)
    assert receipt.changed_outside == database.companies() == {"aa.us.csv": 4, "bb.us.csv": 9, "cc.us.csv": 22}
    assert tried.changed_outside == receipt.changed_outside


def test_company_held_back_is_said_to_hold_what_it_holds_then(three: Files, database: Database, days: Days) -> None:
    three.load(database)
    database.execute("INSERT INTO historical_stocks_data SELECT * FROM historical_stocks_data")
    three.put("cc.us.csv", days(12, price=30))
    receipt = three.load(database)
    assert [one.company_name for one in receipt.held] == ["cc.us.csv"]
    assert receipt.changed_outside == {"aa.us.csv": 10, "bb.us.csv": 20}
    assert database.companies() == {**receipt.changed_outside, "cc.us.csv": 20}


def test_small_batch_is_not_called_the_same_as_the_whole_one(three: Files, database: Database) -> None:
    three.load(database)
    three.name("aa.us.csv")
    [note, *others] = [note for note in three.load(database).notes if "left alone" not in note]
    assert note.startswith("Far fewer rows than last time: 5 after 35")
    assert others == []


def test_dry_run_says_so_in_its_first_line_also_where_it_fails(
    three: Files, database: Database, command: Command
) -> None:
    places = ("--source", three.source, "--index", three.index, "--output", three.output)
    options = (*places, "--database-url", database.url, "--quiet", "--dry-run")
    assert command("run", *options).out.startswith("DRY RUN: nothing was written")
    three.name("aa.us.csv", "gone.us.csv")
    assert command("run", *options).code == 1
    pages = [Page(path.read_text()) for path in (three.output / "dry-run" / "reports").glob("*.html")]
    assert len(pages) == 2
    assert not (three.output / "dry-run" / "reports" / "latest.html").exists()
    assert sum("DRY RUN: FAILED: 1 of 2 company files" in page.text for page in pages) == 1


@pytest.mark.usefixtures("aws_environment")
def test_mail_names_the_page(three: Files, topic: Topic, database: Database, command: Command) -> None:
    options = [
        *("--source", three.source, "--index", three.index, "--output", three.output, "--database-url", database.url),
        *("--topic-arn", topic.arn, "--first-name", "ada", "--last-name", "lovelace", "--quiet"),
    ]
    assert command("run", *options).code == 0
    three.name("gone.us.csv")
    assert command("run", *options).code == 1
    pages = {str(path) for path in (three.output / "reports").glob("*__*.html")}
    mails = topic.mails()
    assert {
        line.removeprefix("report     ") for mail in mails for line in mail.text.splitlines() if "report  " in line
    } == pages
    assert len(pages) == len(mails) == 2


def test_page_in_s3_is_what_a_browser_shows(three: Files, bucket: Bucket, database: Database) -> None:
    bucket.upload(three)
    receipt = etl.run(bucket.job(), target=etl.Target(database.url), run=etl.Run.begin("test"))
    for name in (receipt.run_id, "latest"):
        found = bucket.s3.head_object(Bucket=bucket.name, Key=f"Output/reports/{name}.html")
        assert found["ContentType"] == "text/html; charset=utf-8"
        assert found["ContentLength"] < LARGEST_BYTES
    assert bucket.s3.head_object(Bucket=bucket.name, Key="Output/manifest.json")["ContentType"] == "binary/octet-stream"


def test_report_makes_a_page_again_and_shows_it(
    three: Files, database: Database, days: Days, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = three.load(database)
    three.put("bb.us.csv", days(12, price=20))
    second = three.load(database)
    folder = three.output / "reports"
    for path in folder.iterdir():
        path.unlink()
    shown: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: bool(shown.append(url) or shown))  # type: ignore[func-returns-value]
    answer = command("report", "--database-url", database.url, "--open")
    assert (answer.code, answer.out.strip()) == (0, str(folder / f"{second.run_id}.html"))
    assert shown == [(folder / f"{second.run_id}.html").as_uri()]
    assert {path.stem for path in folder.glob("*.html")} == {second.run_id, "latest"}
    latest = (folder / "latest.html").read_text()
    assert command("report", first.run_id, "--database-url", database.url).code == 0
    assert "Loaded 35 rows" in page_of(three, first.run_id).text
    assert (folder / "latest.html").read_text() == latest
    assert command("report", first.run_id, "--output", three.output).code == 0  # without a database
    assert "Not known here: the database was not asked" in page_of(three, first.run_id).text


def test_page_that_is_made_again_shows_the_rejected_rows_of_its_run(
    three: Files, database: Database, days: Days, command: Command
) -> None:
    rows = days(5, price=10)
    three.put("aa.us.csv", [*rows, "2001-02-30,1,1,1,1,1,0"])
    first = three.load(database)
    three.put("aa.us.csv", [*rows, "2001-02-31,1,1,1,1,1,0"])
    process(three.job(reread=True))
    assert command("report", "--database-url", database.url).code == 0
    text = page_of(three, first.run_id).text
    assert "2001-02-30" in text
    assert "2001-02-31" not in text
    assert f"mbd rejected {first.run_id} lists them." in text


def test_report_of_no_run_says_what_is_missing(three: Files, database: Database, command: Command) -> None:
    for arguments, said in (
        (("--database-url", database.url), "No run is recorded yet."),
        (("r1", "--database-url", database.url), "There is no receipt of r1."),
        (("--output", three.root), "Without a database the last run is not known."),
        (("r1", "--output", three.root), "There is no receipt of r1."),
    ):
        answer = command("report", *arguments)
        assert (answer.code, answer.out) == (2, ""), arguments
        assert said in answer.err


def test_undo_has_a_page(three: Files, database: Database, days: Days, command: Command) -> None:
    three.load(database)
    three.put("bb.us.csv", days(12, price=20))
    three.load(database)
    answer = command("undo", "--yes", "--database-url", database.url, "--output", three.output)
    assert answer.code == 0
    assert "Undid 1 run" in (three.output / "reports" / "latest.html").read_text()


def test_slow_database_costs_the_page_its_calendar_and_nothing_else(
    three: Files, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    three.load(database)
    monkeypatch.setattr("etl.table.overview._SECONDS_AT_LEAST", 0.05)
    monkeypatch.setattr("etl.table.overview._SECONDS_IN_ALL", 0.05)
    monkeypatch.setitem(QUERIES, "report_months", "SELECT 'a', 'b', pg_sleep(5)")
    (three.output / "reports" / "months.json").unlink()
    receipt = three.load(database)
    page = page_of(three, receipt.run_id)
    assert (
        "The calendar could not be read. The database gave up: canceling statement due to statement timeout"
        in page.text
    )
    assert "1 of 3 companies" in page.text


def test_calendar_is_kept_and_brought_up_to_date_by_what_a_run_changed(
    three: Files, database: Database, days: Days, command: Command
) -> None:
    def kept() -> dict[str, dict[str, int]]:
        return {name: dict(one.days) for name, one in months_of_json(path.read_bytes()).items()}

    def counted() -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for name, month, count in database.rows(
            "SELECT company_name, left(stock_date, 7), count(*) FROM historical_stocks_data GROUP BY 1, 2 ORDER BY 2"
        ):
            found.setdefault(name, {})[month] = count
        return found

    path = three.output / "reports" / "months.json"
    three.load(database)
    assert kept() == counted()
    asked: list[str] = []

    def spied(cursor: object, name: str, **values: Any) -> Any:  # noqa: ANN401
        asked.extend(f"{name} {one}" for one in sorted(values.get("companies", ())))
        return query(cursor, name, **values)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("etl.table.months.query", spied)
        three.load(database)
        assert asked == []
        three.put("bb.us.csv", days(35, price=20))  # grew by more than a month
        three.put("cc.us.csv", days(24, price=30))  # by four
        three.put("aa.us.csv", [*days(5, price=10)[1:], *days(6, price=10)[5:]])  # lost a day and got one
        three.load(database, accept_shrunk=("all",))
    assert asked == ["report_new_months bb.us.csv", "report_new_months cc.us.csv", "report_months aa.us.csv"]
    assert kept() == counted()
    assert command("undo", "--yes", "--database-url", database.url, "--output", three.output).code == 0
    assert kept() == counted()
    path.write_text("{")
    three.load(database)
    assert kept() == counted()


def test_page_of_an_earlier_run_plots_what_that_run_found(
    three: Files, database: Database, days: Days, command: Command
) -> None:
    """The prices of then: later runs have restated them again, removed days and added some."""
    three.load(database)
    wanted = []
    for price, count in ((31, 20), (32, 18), (33, 25)):
        three.put("cc.us.csv", days(count, price=price))
        before = {row[0]: float(row[4]) for row in database.table() if row[8] == "cc.us.csv" and row[0] and row[4]}
        run = three.load(database, accept_shrunk=("all",)).run_id
        after = {row[0]: float(row[4]) for row in database.table() if row[8] == "cc.us.csv" and row[0] and row[4]}
        wanted.append((run, before, after))
    for run, before, after in wanted:
        restated = [Restatement("cc.us.csv", Kind.REWRITTEN, 1, "2001-01-01", "2001-01-20")]
        [found] = read_overview(database.url, run_id=run, restatements=restated).closes
        assert {day: price for day, price in zip(found.days, found.before, strict=True) if price is not None} == before
        assert {day: price for day, price in zip(found.days, found.after, strict=True) if price is not None} == after


def test_page_of_a_run_that_was_repeated_plots_what_it_changed_itself(
    three: Files, database: Database, days: Days
) -> None:
    three.load(database)
    repeated = etl.Run.begin("repeated")
    for price, run in ((31, repeated), (33, etl.Run.begin("other")), (34, repeated)):
        three.put("cc.us.csv", days(20, price=price))
        restated = etl.run(three.job(), target=etl.Target(database.url), run=run).restatements
    [found] = read_overview(database.url, run_id=repeated.run_id, restatements=restated).closes
    assert (found.before[0], found.after[0]) == (32.8, 33.8)


@pytest.mark.skipif(real_batch.archive() is None, reason=real_batch.MISSING)
def test_page_of_the_real_batch_is_small_and_whole(tmp_path: Path, database: Database, command: Command) -> None:
    root = real_batch.unpack(tmp_path)
    places = (
        "--source",
        root / "Stocks",
        "--index",
        root / "CompanyNames" / "top_companies.txt",
        "--output",
        tmp_path / "O",
    )
    assert command("run", *places, "--database-url", database.url, "--quiet").code == 0
    [page] = (tmp_path / "O" / "reports").glob("*__*.html")
    assert page.stat().st_size < LARGEST_BYTES
    text = Page(page.read_text()).text
    assert "could not" not in text
    assert "would make the page too large" not in text
