"""A report page as a parser sees it, and a receipt and an overview that fill every part of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

from etl.files.manifest import QuarantinedFile, RejectedFile
from etl.files.row_lists import FLAGGED_ROWS, REJECTED_ROWS, RowList
from etl.outcome.receipt import FileCounts, Marker, Receipt, RowCounts, State
from etl.table.journal import HeldCompany
from etl.table.months import CompanyMonths
from etl.table.overview import Closes, LoadedCompany, Move, Overview, PastRun
from etl.table.restatements import Kind, Restatement

STARTED = datetime(2026, 11, 26, 6, 0, tzinfo=UTC)


@dataclass
class Page(HTMLParser):
    """Elements with the names of their attributes, in order; texts by id; what the page links to."""

    html: str
    elements: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    links: set[str] = field(default_factory=set)
    content: dict[str, str] = field(default_factory=dict)
    """Of style and script."""
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self._open: list[tuple[str, str]] = []
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = dict(attrs)
        self.elements.append((tag, tuple(facts)))
        self.links |= {str(facts[name]) for name in ("href", "src", "action", "data", "srcset") if name in facts}
        if tag not in ("meta", "link", "br", "img", "input", "hr"):
            self._open.append((tag, str(facts.get("id") or "")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1][0] == tag, f"</{tag}> closes <{self._open[-1][0]}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if not self._open:
            return
        tag, name = self._open[-1]
        if tag in ("style", "script"):
            self.content[tag] = self.content.get(tag, "") + data
        else:
            self.text += data
        if name:
            self.texts[name] = self.texts.get(name, "") + data


def full_receipt(text: Callable[[str], str] = str) -> Receipt:
    """A receipt in which every key says something; `text` may change each text that comes from outside."""
    company = text("ge.us.csv")
    return Receipt(
        run_id=text("marker_1"),
        state=State.SUCCESS,
        started_at=STARTED,
        elapsed_seconds=21.5,
        files=FileCounts(listed=1043, accepted=1040, quarantined=2, missing=1, read=12, taken_over=28),
        rows=RowCounts(
            read=2107402,
            accepted=2107399,
            rejected=3,
            flagged=1,
            inserted=14090,
            deleted=14048,
            unchanged=2093209,
            held=100,
        ),
        quarantined=(QuarantinedFile(text("jt.us.csv"), text("empty: 0 bytes")),),
        notes=(text("The company index names wex.us.csv more than once."),),
        source=text("s3://bucket/Stocks/"),
        output=text("s3://bucket/Output/"),
        steps={text("gate"): 0.4, "load": 8.1},
        error=None,
        marker=Marker(text("monitored"), text("2026-11-02.SUCCESS")),
        version=text("0.2.0+564af1d"),
        held=(HeldCompany(text("chd.us.csv"), 100, text("1990-01-01"), 8500, text("2017-11-10")),),
        restatements=(
            Restatement(company, Kind.FACTOR, 14047, "1962-01-02", "2017-10-26", factor=0.9975, whole=True),
            Restatement(
                text("blj.us.csv"),
                Kind.CORRECTED,
                1,
                text("2008-01-16"),
                text("2008-01-16"),
                examples=((text("2008-01-16"), text("close"), text("11.936"), text("11.578")),),
            ),
        ),
        restated=2,
        new={text("new.us.csv"): 1000},
        grown={text("smg.us.csv"): 1, text("wex.us.csv"): 1},
        changed_outside={text("eix.us.csv"): 12},
        missing=(text("gone.us.csv"),),
        rejected=(RejectedFile(text("smg.us.csv"), 3, 5, text("Date"), text("not an ISO date (YYYY-MM-DD)")),),
    )


def months_of(*counts: tuple[str, str, int]) -> dict[str, CompanyMonths]:
    """Company, month and days as an overview has them."""
    names = dict.fromkeys(name for name, _, _ in counts)
    return {
        one: CompanyMonths("", None, {month: count for name, month, count in counts if name == one}) for one in names
    }


def full_overview(text: Callable[[str], str] = str) -> Overview:
    """An overview that has something of everything."""
    company = text("ge.us.csv")
    days = tuple(f"2017-10-{day:02}" for day in range(2, 31))
    return Overview(
        runs=(
            PastRun(text("marker_1"), "success", STARTED, 21.5, 100, 10, 5, 3, 2, 1),
            PastRun(text("marker_0"), "failed", STARTED - timedelta(days=1), 3.5, None, None, None, None, None, 0),
        ),
        companies=(
            LoadedCompany(company, 14058, "2017-11-10", STARTED, text("marker_1"), ""),
            LoadedCompany(text("smg.us.csv"), 100, "2017-11-10", STARTED, text("marker_1"), ""),
            LoadedCompany(text("jt.us.csv"), 10, "2017-11-02", STARTED, text("marker_0"), ""),
        ),
        day="2017-11-10",
        moves=(
            Move(company, 20.0, 20.5, 20.0),
            Move(text("eix.us.csv"), 2.7, 27.0, 2.71),
            Move(text("new.us.csv"), 2.7, 27.0, None),
        ),
        closes=(Closes(company, days, tuple(20.0 + n for n in range(29)), tuple(19.9 + n for n in range(29))),),
        months=months_of((company, "2017-09", 20), (company, "2017-11", 8), (text("smg.us.csv"), "2017-10", 22)),
        problems=(text("The calendar could not be read."),),
    )


def full_lists(text: Callable[[str], str] = str) -> dict[str, RowList]:
    """Rejected and flagged rows."""
    return {
        REJECTED_ROWS: RowList(
            ("file", "line", "column", "value", "reason"),
            ((text("smg.us.csv"), "5", text("Date"), text("1/2/2017"), text("not an ISO date (YYYY-MM-DD)")),),
        ),
        FLAGGED_ROWS: RowList(
            ("file", "line", "date", "column", "value", "rule"),
            ((text("eix.us.csv"), "9", "2009-10-22", "Open", text("2.7272"), text("open outside low..high")),),
        ),
    }
