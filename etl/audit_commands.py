"""The commands that look back: `mbd diff`, `undo`, `trace`, `rejected` and `verify`. Results go to stdout."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import webbrowser
from collections.abc import Callable
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from etl import audit
from etl.console import complain, show
from etl.errors import EtlError, ServiceError, SettingsError
from etl.outcome.receipt import Receipt, Run, file_name
from etl.outcome.wording import receipt_text
from etl.table.history import RowDiff
from etl.table.rejected import read_recorded
from etl.table.undo import was_committed
from etl.table.verify import Disagreement

_SHOWN_FIELDS = ("open", "high", "low", "close", "volume", "percent change", "value change")
Mail = Callable[[Receipt], Receipt]


def diff(options: argparse.Namespace, *, database: str) -> int:
    """What a run changed, or what changed between two runs."""
    found = audit.diff(database, options.run, later=options.later, rows=options.rows)
    if options.json:
        facts: dict[str, Any] = {"companies": [asdict(one) for one in found.companies]}
        if options.rows:
            facts["rows"] = [asdict(one) for one in found.rows]
        print(json.dumps(facts))
        return 0
    if not found.companies:
        print("No row changed.")
        return 0
    print(f"{'company':<24} {'changed':>9} {'removed':>9} {'added':>9}  from        to")
    for one in found.companies:
        counts = f"{one.changed:>9,} {one.removed:>9,} {one.added:>9,}"
        print(f"{one.company_name:<24} {counts}  {one.first_day:<10}  {one.last_day}")
    for row in found.rows:
        print(f"{row.company_name}  {row.stock_date}  {_row_change(row)}")
    return 0


def _row_change(row: RowDiff) -> str:
    if row.before is None or row.after is None:
        values = row.after or row.before or ()
        shown = ", ".join(f"{field} {value}" for field, value in zip(_SHOWN_FIELDS[:5], values, strict=False))
        return f"{'added' if row.before is None else 'removed'}: {shown}"
    pairs = zip(_SHOWN_FIELDS, row.before, row.after, strict=True)
    return ", ".join(f"{field} {old} → {new}" for field, old, new in pairs if old != new)


def undo(options: argparse.Namespace, *, database: str, mail: Mail) -> int:
    """Show what an undo would do, ask, and do it."""
    run = Run.begin("undo")
    try:
        return _ask_and_undo(options, database=database, mail=mail, run=run)
    except BaseException as stop:
        if not isinstance(stop, EtlError):  # an interrupt, or what was not expected, of which nobody knows when it came
            complain(_what_became(database, run.run_id))
        raise


def _ask_and_undo(options: argparse.Namespace, *, database: str, mail: Mail, run: Run) -> int:
    facts = {"run_id": options.run, "output": options.output}
    shown: Receipt | None = None
    if options.dry_run or not options.yes:
        shown = audit.undo(database, run=run, dry_run=True, **facts)
    if shown and options.dry_run:
        print(shown.to_json() if options.json else receipt_text(shown), end="\n" if options.json else "")
        return 0
    if shown:
        print(receipt_text(shown), file=sys.stderr)
        if not sys.stdin.isatty():
            raise SettingsError("Nobody is there to be asked. Pass --yes to undo this, or --dry-run to look only.")
        print("Undo this? Type yes: ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() != "yes":
            print("Nothing was undone.", file=sys.stderr)
            return SettingsError.exit_code
    done = audit.undo(database, run=run, shown=shown.undone if shown else None, **facts)
    receipt = mail(done)
    show(receipt.to_json() + "\n" if options.json else receipt_text(receipt))
    if done.notes:
        raise ServiceError(f"{done.notes[-1]} Repeated, it would undo one more run.")
    return 0


def _what_became(database: str, run_id: str) -> str:
    """Whether an undo that was interrupted took effect."""
    try:
        done = was_committed(database, run_id, lock_timeout_seconds=1)
    except EtlError:
        return f"Whether the undo was committed is not known. It was if `mbd history` has its run, {run_id}."
    return f"The undo was committed, as run {run_id}." if done else "Nothing was undone."


def report(options: argparse.Namespace) -> int:
    """Make the report page of a run again, say where it is, and show it."""
    place, content = audit.report(options.database_url, run_id=options.run, output=options.output)
    print(place)
    if options.open:
        shown = Path(place).resolve()
        if place.startswith("s3://"):
            shown = Path(tempfile.mkdtemp(prefix="mbd-report-")) / "report.html"
            shown.write_bytes(content)
        if not webbrowser.open(shown.as_uri()):
            print(f"warning: no browser was found; open {shown}", file=sys.stderr)
    return 0


def trace(options: argparse.Namespace, *, database: str) -> int:
    """Where one price came from."""
    found = audit.trace(database, options.company, options.day)
    if options.json:
        facts = {one.name: getattr(found, one.name) for one in fields(found)}
        facts["receipt"] = found.receipt and json.loads(found.receipt.to_json())
        facts["source"] = found.source and asdict(found.source)
        facts["earlier"] = [{**asdict(one), "at": one.at.isoformat()} for one in found.earlier]
        print(json.dumps(facts))
        return 0
    if found.row:
        print("row        " + ", ".join(f"{name} {value}" for name, value in found.row.items()))
    else:
        print(f"row        not in the table: {options.company} {options.day}")
    if found.source:
        which = {True: "the version that was loaded", False: "another version than was loaded", None: "as it is now"}
        print(
            f"file       {found.source.place}, version {found.source.version} ({which[found.source.is_loaded_version]})"
        )
        print(_one_line(f"line       {found.source.line}: {found.source.raw}"))
    else:
        print(f"file       not known: {found.no_source}")
    print(f"run        {found.run_id or 'not known'}")
    if found.receipt:
        print(f"marker     {found.receipt.marker.url if found.receipt.marker else 'none: it was started without one'}")
        output = found.receipt.output.rstrip("/")
        print(f"receipt    {f'{output}/{file_name(found.receipt.run_id)}' if output else 'in pipeline_runs'}")
    for one in found.earlier:
        print(f"before     {_earlier(one)}, until {_shown_time(one.at)} by run {one.replaced_by} ({one.change})")
    return 0


def _earlier(one: audit.Earlier) -> str:
    if one.values is None:
        return "no such row"
    return ", ".join(f"{field} {value}" for field, value in zip(_SHOWN_FIELDS, one.values, strict=True))


def _shown_time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def rejected(options: argparse.Namespace, *, database: str) -> int:
    """The rejected rows and quarantined files of a run."""
    found, facts = read_recorded(database, options.run)
    receipt = Receipt.from_facts(facts)
    if options.json:
        counts = {"rows_rejected": receipt.rows.rejected, "rows_read": receipt.rows.read}
        print(json.dumps({**asdict(found), **counts}))
        return 0
    share = f" ({receipt.rejected_percent:g} %)" if receipt.rejected_percent else ""
    print(
        f"run {found.run_id}: {receipt.rows.rejected:,} of {receipt.rows.read:,} rows rejected{share}, "
        f"{receipt.files.quarantined:,} of {receipt.files.listed:,} files quarantined"
    )
    for file in found.quarantined:
        print(_one_line(f"{file.file}: {file.reason}"))
    for row in found.rejected:
        column = f" {row.column} {row.value!r}:" if row.column else ""
        print(_one_line(f"{row.file}:{row.line}:{column} {row.reason}"))
        print(_one_line(f"    {row.raw_line}"))
    if receipt.rows.rejected > len(found.rejected):
        where = f"{receipt.output.rstrip('/')}/rejected_rows.csv" if receipt.output else "rejected_rows.csv"
        print(
            f"{receipt.rows.rejected - len(found.rejected):,} more are not recorded; {where} has those of the last run"
        )
    return 0


def _one_line(text: str) -> str:
    """Text of a company file as a terminal may show it: no escape codes."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def verify(options: argparse.Namespace, *, database: str) -> int:
    """Whether table, ledger, receipts and combined file agree."""

    def progress(done: int, total: int) -> None:
        if not options.quiet and sys.stderr.isatty() and (done % 20 == 0 or done == total):
            print(f"\r{done:,} of {total:,} companies", end="\n" if done == total else "", file=sys.stderr, flush=True)

    found: list[Disagreement] = []
    for one in audit.verify(database, output=options.output, progress=progress):
        found.append(one)
        if not options.json:
            print(f"{one.place}: {one.name}: {one.detail}", flush=True)
    if options.json:
        print(json.dumps([asdict(one) for one in found]))
    elif not found:
        print(
            "Table, ledger and receipts agree." if not options.output else "Table, ledger, outputs and receipts agree."
        )
    return 1 if found else 0
