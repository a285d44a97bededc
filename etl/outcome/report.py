"""Makes the report page of a run from receipt, output and database: one HTML file that asks for nothing."""

from __future__ import annotations

import base64
import hashlib
import html
import logging
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from etl.batch.storage import Storage
from etl.errors import EtlError, FileChangedError
from etl.files.manifest import Manifest, read_manifest
from etl.files.row_lists import FLAGGED_ROWS, REJECTED_ROWS, RowList, read_list
from etl.outcome import pictures
from etl.outcome.advice import next_steps
from etl.outcome.receipt import REPORTS, Receipt, Run, State, page_name
from etl.outcome.wording import changed, headline, held_back, quarantined, receipt_text, restated
from etl.package_files import read_package_file
from etl.table.database import sql
from etl.table.months import CompanyMonths, months_of_json, months_to_json
from etl.table.overview import LoadedCompany, Move, Overview, read_overview

LATEST = f"{REPORTS}/latest.html"
MONTHS = f"{REPORTS}/months.json"
LARGEST_BYTES = 1_000_000
_OUTLIER = 1.5  # a close that is more than this multiple of the last one, or less than its inverse
_DIGIT_ERROR = 1.25  # how near to 10 or 100 a multiple is that looks like a misplaced point
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """How many of each the page lists; the rest is counted."""

    companies: int = 1_500
    rows: int = 200
    files: int = 300
    moves: int = 12
    calendar: bool = True
    plots: bool = True


_SMALLER = (Limits(), Limits(200, 50, 50), Limits(20, 10, 20, calendar=False, plots=False))


def write_report(receipt: Receipt, *, output: Storage, database: str | None) -> None:
    """Write the page of a run that has just ended, and `latest.html` unless it was a dry run.

    Never a reason for a run to fail: what goes wrong is a note on the page, or, where none can be written, in the log.
    """
    try:
        content = make_report(receipt, output=output, database=database)
        names = [page_name(receipt.run_id)] + [LATEST] * (not receipt.dry_run and receipt.state != State.DRY_RUN)
        for name in names:
            with output.write(name, lasting=False) as file:
                file.write(content)
    except Exception as error:
        _log.warning("The report page of run %s was not written: %s", receipt.run_id, error)


def make_report(
    receipt: Receipt, *, output: Storage | None, database: str | None, rejected: RowList | None = None
) -> bytes:
    """The page of a run. `database` is None where it cannot be asked; `rejected`: its rejected rows, if recorded."""
    problems: list[str] = []
    overview = Overview()
    try:
        if database:
            before = _read_months_before(output)
            overview = read_overview(database, run_id=receipt.run_id, restatements=receipt.restatements, months=before)
            if output and overview.months and overview.months != before:
                with output.write(MONTHS, lasting=False) as file:
                    file.write(months_to_json(overview.months))
    except Exception as error:
        problems.append(f"The database could not be asked. {error}")
    try:
        manifest = _manifest_of(receipt, output=output)
        lists = _lists(receipt, output=output) if output and manifest else {}
        if rejected and rejected.rows:
            lists[REJECTED_ROWS] = rejected
        companies = manifest.companies if manifest else None
        return render(receipt, overview, lists=lists, companies=companies, problems=problems)
    except Exception as error:
        return _plain_page(receipt, problem=f"{type(error).__name__}: {error}")


def _read_months_before(output: Storage | None) -> dict[str, CompanyMonths]:
    """The calendar as the last page had it; nothing where it is not known."""
    with suppress(EtlError, FileChangedError, ValueError):
        return months_of_json(output.read(MONTHS)) if output else {}
    return {}


def _manifest_of(receipt: Receipt, *, output: Storage | None) -> Manifest | None:
    """The manifest in the output, where it is of this run and of no later one."""
    with suppress(EtlError):
        manifest = read_manifest(output) if output else None
        if manifest is None:
            return None
        made = Receipt.of_manifest(manifest, run=Run(receipt.run_id, receipt.started_at), output=receipt.output)
        rows = replace(receipt.rows, inserted=None, deleted=None, unchanged=None, held=None)
        facts = (receipt.files, rows, receipt.rejected, receipt.quarantined, receipt.missing)
        if facts == (made.files, made.rows, made.rejected, made.quarantined, made.missing):
            return manifest
    return None


def _lists(receipt: Receipt, *, output: Storage) -> dict[str, RowList]:
    """The rejected and the flagged rows of an output."""
    wanted = {REJECTED_ROWS: receipt.rows.rejected, FLAGGED_ROWS: receipt.rows.flagged}
    return {name: read_list(name, output=output) for name, count in wanted.items() if count}


def render(
    receipt: Receipt,
    overview: Overview,
    *,
    lists: Mapping[str, RowList] | None = None,
    companies: Collection[str] | None = None,
    problems: list[str] | None = None,
) -> bytes:
    """The page as HTML of at most LARGEST_BYTES: where it would be larger, it lists less.

    `companies`: those whose files the run accepted; None where that is not known any more.
    """
    page = b""
    facts = _facts(receipt, overview, lists or {}, companies, [*(problems or ()), *overview.problems])
    for limits in _SMALLER:
        page = _template().render(facts, limits=limits).encode()
        if len(page) <= LARGEST_BYTES:
            break
    return page


def _facts(
    receipt: Receipt,
    overview: Overview,
    lists: Mapping[str, RowList],
    companies: Collection[str] | None,
    problems: list[str],
) -> dict[str, Any]:
    ahead = sum(1 for one in overview.companies if overview.day and (one.last_day or "") > overview.day)
    behind = [one for one in overview.companies if overview.day and (one.last_day or "") < overview.day]
    plots = {one.company_name: drawn for one in overview.closes if (drawn := pictures.plot(one))}
    ended = receipt.state in (State.SUCCESS, State.DRY_RUN)
    return {
        "receipt": receipt,
        "headline": headline(receipt),
        "state": "ok" if ended and not _is_noteworthy(receipt) else "attention" if ended else receipt.state.value,
        "changes": list(changed(receipt)),
        "steps": list(next_steps(receipt)),
        "restatements": [(one, restated(one).removeprefix(f"{one.company_name}: ")) for one in receipt.restatements],
        "held": [(one.company_name, held_back(one).removeprefix(f"{one.company_name}: ")) for one in receipt.held],
        "quarantined": quarantined(receipt),
        "plots": plots,
        "rejected_rows": lists.get(REJECTED_ROWS, RowList()),
        "flagged_rows": lists.get(FLAGGED_ROWS, RowList()),
        "overview": overview,
        "ahead": ahead,
        "behind": sorted(behind, key=lambda one: (one.last_day or "", one.company_name)),
        "why_behind": _why_behind(receipt, behind, companies),
        "moves": sorted(
            (one for one in overview.moves if one.factor and one.close != one.close_before),
            key=lambda one: (-_size(one), one.company_name),
        ),
        "outlier": _outlier,
        "calendar": pictures.calendar(overview.months),
        "bars": pictures.bars(overview.runs),
        "written": pictures.written,
        "columns": _dictionary(),
        "example": _example(receipt, overview),
        "problems": problems,
        "made_at": datetime.now(UTC),
    }


def _is_noteworthy(receipt: Receipt) -> bool:
    return bool(
        receipt.quarantined
        or receipt.missing
        or receipt.held
        or receipt.rows.rejected
        or receipt.changed_outside
        or receipt.written_outside
    )


def _why_behind(receipt: Receipt, behind: list[LoadedCompany], companies: Collection[str] | None) -> dict[str, str]:
    """Of companies that end earlier than most: what this run knows about why; "-" where it knows nothing.

    Only after a load is a company's last day in the table that of its file.
    """
    is_loaded = receipt.state == State.SUCCESS and companies is not None
    ended = dict.fromkeys(companies or (), "its file ends there") if is_loaded else {}
    missing = dict.fromkeys(receipt.missing, "missing: its file is not in the source")
    held = {one.company_name: "held back: its new file lost days" for one in receipt.held}
    quarantined = {one.file: f"quarantined: {one.reason}" for one in receipt.quarantined}
    why = ended | missing | held | quarantined
    return {one.company_name: why.get(one.company_name, "not in this batch" if is_loaded else "-") for one in behind}


def _size(move: Move) -> float:
    """How large a move is, up or down alike."""
    factor = move.factor or 1.0
    return max(factor, 1 / factor) if factor > 0 else 0.0


def _outlier(move: Move) -> str:
    """Why a move is marked; nothing where it is not."""
    size = _size(move)
    if any(times / _DIGIT_ERROR <= size <= times * _DIGIT_ERROR for times in (10, 100)):
        return "outlier: a digit error?"
    return "outlier" if size >= _OUTLIER else ""


def _example(receipt: Receipt, overview: Overview) -> str:
    """A company for the examples: one of this run, with a plain name."""
    names: Iterator[str] = iter(
        [one.company_name for one in receipt.restatements]
        + [*receipt.grown, *receipt.new]
        + [one.company_name for one in overview.companies]
    )
    return next((name for name in names if re.fullmatch(r"[\w.-]+", name)), "ge.us.csv")


@cache
def _dictionary() -> tuple[tuple[str, str], ...]:
    """The columns of the traders' view, with the comments that the database has of them."""
    comments = re.findall(r"^COMMENT ON COLUMN stock_prices\.(\w+) IS '((?:[^']|'')*)';$", sql("schema"), re.MULTILINE)
    return tuple((name, text.replace("''", "'")) for name, text in comments)


@cache
def _template() -> Any:  # noqa: ANN401  jinja2.Template, which is imported only where a page is made
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415  a run without a page does not pay for it
    from markupsafe import Markup  # noqa: PLC0415

    parts = {name: Path(__file__).with_name(f"report.{name}") for name in ("html", "css", "js")}
    texts = {name: read_package_file(path).decode() for name, path in parts.items()}
    # Of all that a page holds only these two come unescaped; the policy lets a browser run and apply nothing else.
    ours = {name: Markup(texts[name]) for name in ("css", "js")}  # noqa: S704
    hashes = {name: base64.b64encode(hashlib.sha256(texts[name].encode()).digest()).decode() for name in ours}
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: _visible(value) if type(value) is str else value,
    )
    environment.filters["thousands"] = lambda number: "-" if number is None else f"{number:,}"
    environment.filters["utc"] = lambda at: f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    template = environment.from_string(texts["html"])
    template.globals.update(css=ours["css"], js=ours["js"], hashes=hashes)
    return template


def _visible(text: str) -> str:
    """Text without characters that show nothing or reorder what is around them (Unicode's Cc, Cf and others)."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "\ufffd" for sign in text)


def _plain_page(receipt: Receipt, *, problem: str) -> bytes:
    """What is left when the page cannot be made: the receipt as the mail has it."""
    text = html.escape(_visible(receipt_text(receipt))[: LARGEST_BYTES // 2])
    return (
        '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>Moving Big Data</title>'
        f"<p>The page could not be made ({html.escape(_visible(problem))}). This is the receipt:</p>"
        f"<pre>{text}</pre></html>"
    ).encode()
