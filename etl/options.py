"""The options of `mbd`, with their helps and examples.

Long because every option of every command is here, once.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from datetime import date
from typing import NoReturn

from etl.batch.company_index import company_name
from etl.errors import SettingsError
from etl.files import native
from etl.files.header import parse_aliases
from etl.revision import code_version
from etl.settings import DEFAULT_GRACE_SECONDS, MOST_DAYS, parse_days, parse_seconds

_MOST_SECONDS = 2_147_483  # 24 days; PostgreSQL counts a lock_timeout in milliseconds, of 31 bits


def _iso_day(text: str) -> date:
    try:
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):  # 2020-W01-1 is as long
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an ISO date such as 2007-11-10") from None


def _seconds(text: str) -> float:
    try:
        if (seconds := parse_seconds(text)) > _MOST_SECONDS:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to {_MOST_SECONDS:,}") from None
    return seconds


def _days(text: str) -> float:
    try:
        return parse_days(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days from 0 to {MOST_DAYS:,}") from None


def _count(text: str) -> int:
    try:
        if (number := int(text)) < 1:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on") from None
    return min(number, sys.maxsize)  # PostgreSQL's bigint takes no more


def _aliases(text: str) -> str:
    try:
        parse_aliases(text)
    except SettingsError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong with the arguments; the whole usage is one --help away."""

    def error(self, message: str) -> NoReturn:
        self.exit(SettingsError.exit_code, f"error: {message} (see {self.prog} --help)\n")


_EXAMPLES = {
    "run": """\
mbd run --source Stocks --company-index CompanyNames/top_companies.txt --output Output
mbd run --source s3://BUCKET/Stocks --company-index s3://BUCKET/CompanyNames/top_companies.txt \\
        --output s3://BUCKET/Output --dry-run
mbd run --source Stocks --company-index CompanyNames/top_companies.txt --output Output \\
        --allow-missing ge.us.csv wex.us.csv --max-rejected 1%""",
    "process": """\
mbd process --source Stocks --company-index CompanyNames/top_companies.txt --output Output""",
    "load": """\
mbd load --output Output
mbd load --output s3://BUCKET/Output --reload
mbd load --output s3://BUCKET/Output --accept-shrunk ge.us.csv wex.us.csv""",
    "init-db": """\
MBD_DATABASE_URL=postgresql://user:password@host/name mbd init-db""",
    "grant-reader": """\
mbd grant-reader ada
mbd grant-reader ada --ask-password
mbd grant-reader ada --revoke""",
    "history": """\
mbd history --last 30
mbd history --json | jq '.[0].rows'""",
    "diff": """\
mbd diff marker_2026-11-25T06:00:03Z_aac3424847_f7cf4efb
mbd diff RUN LATER_RUN --rows
mbd diff RUN --json | jq '.companies[0]'""",
    "undo": """\
mbd undo --dry-run
mbd undo --yes --output s3://BUCKET/Output
mbd undo marker_2026-11-25T06:00:03Z_aac3424847_f7cf4efb""",
    "trace": """\
mbd trace ge.us.csv 2017-11-10
mbd trace otex.us.csv 2005-07-19 --json | jq '.earlier'""",
    "rejected": """\
mbd rejected
mbd rejected marker_2026-11-25T06:00:03Z_aac3424847_f7cf4efb
mbd rejected --json | jq '.rejected[0].raw_line'""",
    "report": """\
mbd report --open
mbd report marker_2026-11-25T06:00:03Z_aac3424847_f7cf4efb --output s3://BUCKET/Output""",
    "verify": """\
mbd verify
mbd verify --output s3://BUCKET/Output --json""",
    "check": """\
mbd check --source Stocks --company-index CompanyNames/top_companies.txt --output Output
mbd check --database-url postgresql://user@host/name""",
}


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; docs/command-line.md is made from it."""
    parser = _Parser(
        prog="mbd",
        description="Move a batch of company CSV files into one combined file and one PostgreSQL table.",
        epilog="A place S, I, O is a path or an s3:// URL. Exit codes: 0 done, 1 the data stops the batch, "
        "2 usage or settings, 3 an outside service failed.",
    )
    parser.add_argument("--version", action="version", version=f"Moving Big Data {code_version()}, {native.describe()}")
    commands = parser.add_subparsers(required=True, dest="command", metavar="COMMAND")
    files = _options()
    _add_places(files, "source", "company_index", required=True)
    files.add_argument(
        "--since",
        metavar="DATE",
        type=_iso_day,
        help="load only rows of this day or later (YYYY-MM-DD); refused where that would delete older rows of a "
        "company, unless --reload",
    )
    files.add_argument(
        "--grace",
        metavar="SECONDS",
        type=_seconds,
        default=0.0,
        help=f"wait this long for missing files (0; the DAG waits MBD_GATE_GRACE_SECONDS, {DEFAULT_GRACE_SECONDS})",
    )
    files.add_argument(
        "--reread",
        action="store_true",
        help="read every company file, also those that have not changed since the last run",
    )
    files.add_argument(
        "--allow-missing",
        metavar="N",
        nargs="+",
        default=[],
        help="load the batch although so many company files, or those that are named here, are not in the source "
        "(MBD_ALLOW_MISSING; none may be missing)",
    )
    files.add_argument(
        "--column-aliases",
        metavar="PAIRS",
        type=_aliases,
        default=os.environ.get("MBD_COLUMN_ALIASES", ""),
        help="other names of columns, such as 'Close=Adj Close, Date=Datum' (MBD_COLUMN_ALIASES)",
    )
    output = _options()
    _add_places(output, "output", required=True)
    judging = _options()
    judging.add_argument(
        "--max-rejected",
        metavar="N",
        help="fail, with the table unchanged, where more rows are rejected: 100, or 1%% of the rows read "
        "(MBD_MAX_REJECTED; no limit)",
    )
    loading = _options()
    loading.add_argument(
        "--reload",
        action="store_true",
        help="compare every company of the batch with the table, and replace rows that differ",
    )
    loading.add_argument(
        "--accept-shrunk",
        metavar="NAME",
        nargs="+",
        default=[],
        help="load these although they end earlier, or lack over a tenth of the loaded days; all: whichever they are",
    )
    loading.add_argument(
        "--journal-days",
        metavar="DAYS",
        type=_days,
        default=os.environ.get("MBD_JOURNAL_DAYS") or None,
        help="let entries of the journal, and rejected rows of runs, go that are older (MBD_JOURNAL_DAYS; keep all)",
    )
    loading.add_argument(
        "--lock-timeout", metavar="SECONDS", type=_seconds, default=60, help="wait for another load (60)"
    )
    loading.add_argument(
        "--no-table-index",
        "--no-index",
        dest="table_index",
        action="store_false",
        help="do not build the table's index where there is none",
    )
    loading.add_argument(
        "--no-report", dest="report", action="store_false", help="do not write the report page; `mbd report` can later"
    )
    dry = _options()
    dry.add_argument(
        "--dry-run",
        action="store_true",
        help="write nothing to the table, print what would be done (run: outputs in O/dry-run)",
    )
    database = _options()
    database.add_argument(
        "--database-url",
        metavar="U",
        default=os.environ.get("MBD_DATABASE_URL"),
        help="postgresql://user:password@host/name; better in MBD_DATABASE_URL, where no other user sees it",
    )
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
    as_json = _options()
    as_json.add_argument("--json", action="store_true", help="print the receipt as JSON")
    quiet = _options()
    quiet.add_argument("--quiet", action="store_true", help="no progress")
    for name, parents, help_text in (
        ("run", (files, output, judging, loading, dry, database, mail, as_json, quiet), "process and load, overlapped"),
        ("process", (files, output, judging, mail, as_json, quiet), "company files to combined file and manifest"),
        ("load", (output, judging, loading, dry, database, mail, as_json, quiet), "combined file into the table"),
        ("init-db", (database,), "make the table, the view and the ledger; safe to run again"),
        ("grant-reader", (database,), "make a login for somebody who reads; safe to run again"),
        ("history", (database, as_json), "the last runs"),
        ("check", (database, mail), "try the settings, change nothing"),
        ("diff", (database, as_json), "what a run changed in the table, or what changed between two runs"),
        (
            "undo",
            (database, mail, as_json),
            "take the last run that changed something back, or a run and all later ones",
        ),
        ("trace", (database, as_json), "where one price came from: line, file, run, and its earlier values"),
        ("rejected", (database, as_json), "the rejected rows and quarantined files of a run"),
        ("report", (database,), "make the report page of the last run again, or of an earlier one"),
        ("verify", (database, as_json, quiet), "prove that table, ledger, combined file and receipts agree"),
    ):
        one = commands.add_parser(
            name,
            parents=parents,
            help=help_text,
            description=help_text.capitalize() + ".",
            epilog="examples:\n" + "\n".join(f"  {line}" for line in _EXAMPLES[name].splitlines()),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if name == "history":
            one.add_argument("--last", metavar="N", type=_count, default=10, help="how many (10)")
        if name == "init-db":
            role = "also make this role with rights on the tables only; its password is MBD_LOADER_PASSWORD"
            one.add_argument("--loader", metavar="ROLE", help=role)
            index = "also build an index by day: one day across companies is found sooner, each load takes longer"
            one.add_argument("--day-index", action="store_true", help=index)
        if name == "check":
            _add_places(one, "source", "company_index", "output", required=False)
        if name in ("undo", "verify", "report"):
            _add_places(one, "output", required=False)
        _add_own_options(name, one)
    return parser


def _add_own_options(name: str, parser: argparse.ArgumentParser) -> None:
    if name == "diff":
        parser.add_argument("run", metavar="RUN", help="the run whose changes are shown")
        parser.add_argument(
            "later", metavar="LATER", nargs="?", help="show instead what changed after RUN, until this one was done"
        )
        parser.add_argument("--rows", action="store_true", help="show each row, before and after")
    elif name == "undo":
        parser.add_argument("run", metavar="RUN", nargs="?", help="this run and all later ones (the last one)")
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument("--dry-run", action="store_true", help="show what would be done, and do not do it")
    elif name == "rejected":
        parser.add_argument("run", metavar="RUN", nargs="?", help="the run (the last one)")
    elif name == "grant-reader":
        _add_reader_options(parser)
    elif name == "report":
        parser.add_argument("run", metavar="RUN", nargs="?", help="the run (the last one)")
        parser.add_argument("--open", action="store_true", help="show the page in a browser")
    elif name == "trace":
        parser.add_argument("company", metavar="COMPANY", type=company_name, help="a company name, such as ge.us.csv")
        parser.add_argument("day", metavar="DAY", type=lambda day: _iso_day(day).isoformat(), help="YYYY-MM-DD")


def _add_reader_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the login: small letters, digits and _")
    way = parser.add_mutually_exclusive_group()
    new = "give an existing login another random password (a new one gets one, unless MBD_READER_PASSWORD is set)"
    way.add_argument("--new-password", action="store_true", help=new)
    way.add_argument("--ask-password", action="store_true", help="ask for the password that it gets")
    way.add_argument("--revoke", action="store_true", help="take the login away, and end its sessions")


def _add_places(parser: argparse.ArgumentParser, *names: str, required: bool) -> None:
    for name, spellings, letter, help_text in (
        ("source", ["--source"], "S", "where the company files are: .../Stocks"),
        ("company_index", ["--company-index", "--index"], "I", "the company index: .../top_companies.txt"),
        ("output", ["--output"], "O", "where the outputs go: .../Output"),
    ):
        if name in names:
            parser.add_argument(*spellings, dest=name, metavar=letter, required=required, help=help_text)


def _options() -> _Parser:
    return _Parser(add_help=False)
