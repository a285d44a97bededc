"""The command line, `mbd COMMAND`. Results go to stdout, progress and errors to stderr.

Exit codes: 0 done (with or without quarantined files), 1 the data stops the batch, 2 usage or settings, 3 an outside
service failed; 130 and 143 interrupted.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from datetime import UTC
from typing import NoReturn

import etl
from etl.console import close_streams, complain, let_go, open_streams, show
from etl.errors import SettingsError, as_etl_error
from etl.files.header import parse_aliases
from etl.options import build_parser
from etl.outcome.receipt import Receipt
from etl.settings import read_journal_days
from etl.signals import AGAIN, ENDED, end_on_signals
from etl.table.schema import make_day_index


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Whatever error there is becomes one line on stderr."""
    words = ENDED + AGAIN
    try:
        parser = build_parser()
        given = sys.argv[1:] if arguments is None else arguments
        if not given:
            parser.print_help(sys.stderr)
            return SettingsError.exit_code
        options = parser.parse_args(given)
        if options.command == "undo":  # it says itself whether it was done, and is not for repeating
            words = ENDED
        with end_on_signals(words):
            code = _COMMANDS[options.command](options)
            sys.stdout.flush()
            return code
    except BrokenPipeError:  # who reads the result has enough
        let_go(sys.stdout)
        return 0
    except KeyboardInterrupt:
        complain(f"interrupted: {words}")
        return 130
    except Exception as failure:
        error = as_etl_error(failure)
        complain(f"error: {error}")
        return error.exit_code


def script() -> NoReturn:
    """The console script `mbd`, and `python -m etl`."""
    open_streams()
    try:
        code = main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else bool(ended.code)
    close_streams()
    if code in (130, 143):  # interrupted: not delayed by reads in other threads that S3 does not answer
        os._exit(code)
    sys.exit(code)


def _process(options: argparse.Namespace) -> int:
    def work(job: etl.Job, run: etl.Run, bar: etl.CompanyFileProgress) -> Receipt:
        etl.gate(job, run=run, waiting=_waiting(options))
        try:
            return etl.process(job, run=run, progress=bar)
        finally:
            etl.forget_work(job, run=run)

    return _attempt(options, target=None, work=work)


def _load(options: argparse.Namespace) -> int:
    target = _target(options)
    return _attempt(options, target=target, work=lambda job, run, _: etl.load(job, target=target, run=run))


def _run(options: argparse.Namespace) -> int:
    target = _target(options)
    if target.dry_run and not re.fullmatch("(s3:///*)?", options.output):  # which are no places, and are refused
        options.output = options.output.rstrip("/") + "/dry-run"  # the real outputs stay
    return _attempt(
        options,
        target=target,
        work=lambda job, run, bar: etl.run(job, target=target, run=run, progress=bar, waiting=_waiting(options)),
    )


def _waiting(options: argparse.Namespace) -> Callable[[str], object]:
    """What is done with a line about what gate waits for."""
    return (lambda _: None) if options.quiet else complain


def _attempt(
    options: argparse.Namespace,
    *,
    target: etl.Target | None,
    work: Callable[[etl.Job, etl.Run, etl.CompanyFileProgress], Receipt],
) -> int:
    """Do the work as one attempted run: whatever happens, there is a receipt, and a mail where a topic is set."""
    mailbox = _mailbox(options)
    job = etl.Job(
        source=getattr(options, "source", ""),
        company_index=getattr(options, "company_index", ""),
        output=options.output,
        since=getattr(options, "since", None),
        grace_seconds=getattr(options, "grace", 0.0),
        reread=getattr(options, "reread", False),
        policy=_policy(options),
        column_aliases=getattr(options, "column_aliases", ""),
        report=getattr(options, "report", True),
        dry_run=bool(target and target.dry_run),
    )
    run = etl.Run.begin("cli")
    try:
        with etl.CompanyFileProgress(quiet=options.quiet) as bar:
            receipt = work(job, run, bar)
    except Exception as failure:
        error = as_etl_error(failure)
        receipt = _mail(etl.record_failure(error, job=job, target=target, run=run), mailbox=mailbox, job=job)
        if options.json:
            show(receipt.to_json() + "\n")
        raise error from failure  # the same, or its cause
    receipt = _mail(receipt, mailbox=mailbox, job=job)
    show(receipt.to_json() + "\n" if options.json else etl.receipt_text(receipt))
    return 0


def _mail(receipt: Receipt, *, mailbox: etl.Mailbox | None, job: etl.Job) -> Receipt:
    """Send the mail, where a topic is set, and report to the channels of MBD_CHANNELS; what is refused is a warning."""
    if mailbox:
        receipt, refused = etl.send_mail(receipt, job=job, mailbox=mailbox)
        if refused:
            complain(f"warning: {refused}")
    reported = etl.report_to_channels(receipt, job=job, channels=etl.read_channels(os.environ), mailbox=mailbox)
    for note in reported.notes[len(receipt.notes) :]:
        complain(f"warning: {note}")
    return reported


def _init_db(options: argparse.Namespace) -> int:
    url = _database(options)
    place = etl.make_tables(url)
    if options.day_index and not make_day_index(url):
        print("The table is empty: run init-db --day-index again after the first load, which it would slow down.")
    if options.loader:
        from etl.table.roles import make_loader  # noqa: PLC0415  as below: a command is not kept waiting by another's

        password = os.environ.get("MBD_LOADER_PASSWORD", "")
        if not password:
            raise SettingsError("Set MBD_LOADER_PASSWORD, the password that the role of --loader gets.")
        make_loader(url, name=options.loader, password=password)
        print(f"The role {options.loader} may load, and nothing more.")
    print(
        "The table historical_stocks_data, the view stock_prices, the ledger and the run history are there, in schema "
        f"{place.schema} of database {place.database}."
    )
    if place.others:
        print(f"Another historical_stocks_data is in schema {', '.join(place.others)}: it was not touched.")
    return 0


def _history(options: argparse.Namespace) -> int:
    from etl.audit import journal_size  # noqa: PLC0415

    receipts = etl.read_history(_database(options), last=options.last)
    size = journal_size(_database(options))
    if options.json:
        print("[" + ",\n".join(receipt.to_json() for receipt in receipts) + "]")
        return 0
    if not receipts:
        print("No run yet.")
    else:
        print(f"{'started (UTC)':<20} {'state':<8} {'seconds':>8} {'files':>6} {'inserted':>10} {'unchanged':>10}  run")
    for one in receipts:
        started = one.started_at.astimezone(UTC)
        print(
            f"{started:%Y-%m-%d %H:%M:%S}  {one.state:<8} {one.elapsed_seconds:>8.1f} {one.files.accepted:>6,} "
            f"{one.rows.inserted or 0:>10,} {one.rows.unchanged or 0:>10,}  {one.run_id}"
            + (f"\n    {one.error}" if one.error else "")
        )
    since = f"{size.since.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if size.since else "now"
    print(f"journal: {size.changes:,} changes of {size.loads:,} loads since {since}, {size.size_bytes / 1e6:,.1f} MB")
    return 0


def _undo(options: argparse.Namespace) -> int:
    from etl.audit_commands import undo  # noqa: PLC0415

    mailbox = _mailbox(options)
    job = etl.Job(source="", company_index="", output=options.output or "")
    return undo(options, database=_database(options), mail=lambda receipt: _mail(receipt, mailbox=mailbox, job=job))


def _check(options: argparse.Namespace) -> int:
    from etl.check import try_settings  # noqa: PLC0415

    parse_aliases(os.environ.get("MBD_COLUMN_ALIASES", ""))  # what `run` would refuse, it refuses too
    read_journal_days(os.environ)
    worst = 0
    for name, found, error in try_settings(
        source=options.source,
        company_index=options.company_index,
        output=options.output,
        database=options.database_url,
        mailbox=_mailbox(options),
        policy=_policy(options),
        channels=etl.read_channels(os.environ),
    ):
        if error:
            worst = max(worst, error.exit_code)
        print(f"{'error' if error else 'ok':<6} {name:<14} {error or found}")
    return worst


def _grant_reader(options: argparse.Namespace) -> int:
    from etl.readers import grant  # noqa: PLC0415

    return grant(options, database=_database(options))


def _look_back(options: argparse.Namespace) -> int:
    from etl import audit_commands  # noqa: PLC0415

    if options.command == "report":
        return audit_commands.report(options)
    command: Callable[..., int] = getattr(audit_commands, options.command)
    return command(options, database=_database(options))


def _database(options: argparse.Namespace) -> str:
    url: str | None = options.database_url
    if not url:
        raise SettingsError("No database is named. Pass --database-url, or set MBD_DATABASE_URL.")
    return url


def _target(options: argparse.Namespace) -> etl.Target:
    return etl.Target(
        database=_database(options),
        reload=options.reload,
        dry_run=options.dry_run,
        lock_timeout_seconds=options.lock_timeout,
        table_index=options.table_index,
        accept_shrunk=tuple(options.accept_shrunk),
        journal_days=options.journal_days,
    )


def _policy(options: argparse.Namespace) -> etl.Policy:
    return etl.read_policy(
        os.environ,
        max_rejected=getattr(options, "max_rejected", None),
        allow_missing=", ".join(getattr(options, "allow_missing", [])),
        given_as=lambda name: f"the option --{name.replace('_', '-')}",
    )


def _mailbox(options: argparse.Namespace) -> etl.Mailbox | None:
    if not options.topic_arn:
        return None
    names = {"MBD_FIRST_NAME": options.first_name, "MBD_LAST_NAME": options.last_name}
    missing = [name for name, value in names.items() if not value]
    if missing:
        raise SettingsError(
            f"A mail's subject needs a name. Set {' and '.join(missing)} (or --first-name, --last-name)."
        )
    return etl.Mailbox(options.topic_arn, options.first_name, options.last_name)


_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "process": _process,
    "load": _load,
    "init-db": _init_db,
    "grant-reader": _grant_reader,
    "history": _history,
    "check": _check,
    "diff": _look_back,
    "undo": _undo,
    "trace": _look_back,
    "rejected": _look_back,
    "report": _look_back,
    "verify": _look_back,
}
