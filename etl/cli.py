"""Command line: `python -m etl COMMAND`. Results go to stdout, progress and errors to stderr.

Exit codes: 0 done (with or without quarantined files), 1 the data stops the batch, 2 usage or settings, 3 an outside
service failed; 130 and 143 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date
from typing import NoReturn

import pyarrow as pa

from etl import pipeline
from etl.batch.aws import Aws, aws_errors
from etl.batch.storage import open_storage, read_file
from etl.errors import EtlError, ServiceError, SettingsError
from etl.outcome.mail import Mailbox, send
from etl.outcome.receipt import Receipt, Run
from etl.pipeline import Job
from etl.progress import CompanyFileProgress
from etl.settings import parse_seconds
from etl.signals import heard_signals
from etl.table.database import connect, make_tables, sql
from etl.table.load import Target

_NO_MEMORY = "Memory ran out. The table holds the old batch or the new one, whole. Free some, then run it again."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. An EtlError becomes one line on stderr."""
    options = _parser().parse_args(arguments)
    pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own allocator keeps some 40 MB more for later
    try:
        with heard_signals():
            code: int = options.command(options)
        return code
    except EtlError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        print(
            "interrupted: the table holds the old batch or the new one, whole; run it again when you like",
            file=sys.stderr,
        )
        return 130


def _process(options: argparse.Namespace) -> int:
    return _attempt(options, target=None, work=lambda job, run, bar: pipeline.process(job, run=run, progress=bar))


def _load(options: argparse.Namespace) -> int:
    target = _target(options)
    return _attempt(options, target=target, work=lambda job, run, _: pipeline.load(job, target=target, run=run))


def _run(options: argparse.Namespace) -> int:
    target = _target(options)
    if target.dry_run:
        options.output = options.output.rstrip("/") + "/dry-run"  # the real outputs stay
    return _attempt(
        options, target=target, work=lambda job, run, bar: pipeline.run(job, target=target, run=run, progress=bar)
    )


def _attempt(
    options: argparse.Namespace,
    *,
    target: Target | None,
    work: Callable[[Job, Run, CompanyFileProgress], Receipt],
) -> int:
    """Do the work as one attempted run: whatever happens, there is a receipt, and a mail where a topic is set."""
    mailbox = _mailbox(options)
    job = Job(
        source=getattr(options, "source", ""),
        index=getattr(options, "index", ""),
        output=options.output,
        since=getattr(options, "since", None),
        grace_seconds=getattr(options, "grace", 0.0),
    )
    run = Run.begin("cli")
    try:
        with CompanyFileProgress(quiet=options.quiet) as bar:
            receipt = work(job, run, bar)
    except (EtlError, MemoryError) as failure:
        error = failure if isinstance(failure, EtlError) else ServiceError(_NO_MEMORY)
        receipt = _mail(pipeline.record_failure(error, job=job, target=target, run=run), mailbox=mailbox, job=job)
        if options.json:
            print(receipt.to_json())
        raise error from failure  # the same, or its cause
    receipt = _mail(receipt, mailbox=mailbox, job=job)
    print(receipt.to_json() if options.json else receipt.to_text(), end="\n" if options.json else "")
    return 0


def _mail(receipt: Receipt, *, mailbox: Mailbox | None, job: Job) -> Receipt:
    if mailbox is None:
        return receipt
    try:
        output = job.open_output()
    except EtlError:
        output = None
    receipt, refused = send(receipt, mailbox=mailbox, aws=job.aws, output=output)
    if refused:
        print(f"warning: {refused}", file=sys.stderr)
    if output:
        with suppress(EtlError):  # it is printed all the same
            pipeline.write_receipt(receipt, output=output)
    return receipt


def _init_db(options: argparse.Namespace) -> int:
    make_tables(_database(options))
    print("The table historical_stocks_data, the view stock_prices, the ledger and the run history are there.")
    return 0


def _history(options: argparse.Namespace) -> int:
    with connect(_database(options)) as connection, connection.cursor() as cursor:
        cursor.execute(sql("last_runs"), {"limit": options.last})
        receipts = [Receipt.from_facts(row[0]) for row in cursor.fetchall()]
    if options.json:
        print("[" + ",\n".join(receipt.to_json() for receipt in receipts) + "]")
        return 0
    if not receipts:
        print("No run yet.")
    else:
        print(f"{'started (UTC)':<20} {'state':<8} {'seconds':>8} {'files':>6} {'inserted':>10} {'unchanged':>10}  run")
    for one in receipts:
        print(
            f"{one.started_at:%Y-%m-%d %H:%M:%S}  {one.state:<8} {one.elapsed_seconds:>8.1f} {one.files.accepted:>6,} "
            f"{one.rows.inserted or 0:>10,} {one.rows.unchanged or 0:>10,}  {one.run_id}"
            + (f"\n    {one.error}" if one.error else "")
        )
    return 0


def _check(options: argparse.Namespace) -> int:
    """Try each thing that was named, all of them, and tell what is well and what is not."""
    checks: list[tuple[str, Callable[[], str]]] = []
    if options.source:
        checks.append(("source", lambda: f"{len(open_storage(options.source).listing()):,} files"))
    if options.index:
        checks.append(("index", lambda: f"{len(read_file(options.index)):,} bytes"))
    if options.source and options.index:
        job = Job(source=options.source, index=options.index, output="")
        checks.append(("batch", lambda: f"{len(pipeline.gate(job).files):,} files named by the index are there"))
    if options.output:
        checks.append(("output", lambda: open_storage(options.output).url))
    if options.database_url:
        checks.append(("database", lambda: _describe_database(options.database_url)))
    mailbox = _mailbox(options)
    if mailbox:
        checks.append(("mail", lambda: _describe_topic(mailbox)))
    if not checks:
        raise SettingsError("Nothing to check: name --source, --index, --output, --database-url or --topic-arn.")
    worst = 0
    for name, check in checks:
        try:
            print(f"ok      {name:<9} {check()}")
        except EtlError as error:
            worst = max(worst, error.exit_code)
            print(f"FAILED  {name:<9} {error}")
    return worst


def _describe_database(url: str) -> str:
    with connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(sql("row_totals"))
        (in_table, in_ledger), version = cursor.fetchone() or (0, 0), connection.server_version
    return f"PostgreSQL {version // 10000}, {in_table:,} rows in the table, {in_ledger:,} in the ledger"


def _describe_topic(mailbox: Mailbox) -> str:
    with aws_errors(f"look at {mailbox.topic_arn}"):
        facts = Aws().sns.get_topic_attributes(TopicArn=mailbox.topic_arn)["Attributes"]
    confirmed, pending = facts.get("SubscriptionsConfirmed", "0"), facts.get("SubscriptionsPending", "0")
    return f"{confirmed} confirmed and {pending} pending subscriptions; subject {mailbox.subject(success=True)}"


def _database(options: argparse.Namespace) -> str:
    url: str | None = options.database_url
    if not url:
        raise SettingsError("No database is named. Pass --database-url, or set MBD_DATABASE_URL.")
    return url


def _target(options: argparse.Namespace) -> Target:
    return Target(
        database=_database(options),
        reload=options.reload,
        dry_run=options.dry_run,
        lock_timeout_seconds=options.lock_timeout,
        index=not options.no_index,
    )


def _mailbox(options: argparse.Namespace) -> Mailbox | None:
    if not options.topic_arn:
        return None
    names = {"MBD_FIRST_NAME": options.first_name, "MBD_LAST_NAME": options.last_name}
    missing = [name for name, value in names.items() if not value]
    if missing:
        raise SettingsError(
            f"A mail's subject needs a name. Set {' and '.join(missing)} (or --first-name, --last-name)."
        )
    return Mailbox(options.topic_arn, options.first_name, options.last_name)


def _day(text: str) -> date:
    try:
        if len(text) != len("YYYY-MM-DD"):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an ISO date such as 2007-11-10") from None


def _seconds(text: str) -> float:
    try:
        return parse_seconds(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments; the whole usage is one --help away."""

    def error(self, message: str) -> NoReturn:
        self.exit(SettingsError.exit_code, f"error: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m etl",
        description="Move a batch of company CSV files into one combined file and one PostgreSQL table.",
        epilog="A place S, I, O is a path or an s3:// URL. Exit codes: 0 done, 1 the data stops the batch, "
        "2 usage or settings, 3 an outside service failed.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    files = _options()
    files.add_argument("--source", metavar="S", required=True, help="where the company files are: .../Stocks")
    files.add_argument("--index", metavar="I", required=True, help="the company index: .../top_companies.txt")
    files.add_argument(
        "--since",
        metavar="DATE",
        type=_day,
        help="take only rows of this day or later (YYYY-MM-DD); never removes older ones",
    )
    files.add_argument("--grace", metavar="SECONDS", type=_seconds, default=0.0, help="wait so long for missing files")
    output = _options()
    output.add_argument("--output", metavar="O", required=True, help="where the outputs go: .../Output")
    loading = _options()
    loading.add_argument("--reload", action="store_true", help="replace every company of the batch, changed or not")
    loading.add_argument(
        "--lock-timeout", metavar="SECONDS", type=_seconds, default=60, help="wait for another load (60)"
    )
    loading.add_argument("--no-index", action="store_true", help="do not build the traders' index where there is none")
    dry = _options()
    dry.add_argument(
        "--dry-run",
        action="store_true",
        help="write no table, tell what would be done (run: outputs in O/dry-run)",
    )
    database = _options()
    database.add_argument(
        "--database-url", metavar="U", default=os.environ.get("MBD_DATABASE_URL"),
        help="postgresql://user:password@host/name; better in MBD_DATABASE_URL, where no other user sees it",
    )  # fmt: skip
    mail = _options()
    for option, help_text in (
        ("topic-arn", "SNS topic for the mail; none, no mail"),
        ("first-name", "for the mail's subject"),
        ("last-name", "for the mail's subject"),
    ):
        variable = "MBD_" + option.upper().replace("-", "_")
        mail.add_argument(
            f"--{option}", metavar="X", default=os.environ.get(variable), help=f"{help_text} ({variable})"
        )
    told = _options()
    told.add_argument("--json", action="store_true", help="print the receipt as JSON")
    quiet = _options()
    quiet.add_argument("--quiet", action="store_true", help="no progress")
    for name, command, parents, help_text in (
        ("run", _run, (files, output, loading, dry, database, mail, told, quiet), "process and load, overlapped"),
        ("process", _process, (files, output, mail, told, quiet), "company files to combined file and manifest"),
        ("load", _load, (output, loading, dry, database, mail, told, quiet), "combined file into the table"),
        ("init-db", _init_db, (database,), "make the table, the view and the ledger; safe to run again"),
        ("history", _history, (database, told), "the last runs"),
    ):
        one = commands.add_parser(name, parents=parents, help=help_text, description=help_text.capitalize() + ".")
        one.set_defaults(command=command)
        if name == "history":
            one.add_argument("--last", metavar="N", type=int, default=10, help="how many (10)")
    check = commands.add_parser("check", parents=(database, mail), help="try the settings, change nothing")
    for option in ("source", "index", "output"):
        check.add_argument(f"--{option}", metavar=option[0].upper())
    check.set_defaults(command=_check)
    return parser


def _options() -> _Parser:
    return _Parser(add_help=False)
