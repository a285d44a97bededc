"""Tries each place and service that a run would use, and changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from etl.batch.aws import Aws, aws_errors
from etl.batch.company_index import parse_index
from etl.batch.gate import make_plan
from etl.batch.policy import Policy
from etl.batch.storage import open_storage, read_file
from etl.errors import EtlError, SettingsError
from etl.files import native
from etl.outcome.channels import Channels, try_channels
from etl.outcome.mail import Mailbox
from etl.outcome.notes import NO_INDEX
from etl.table.database import connect, query
from etl.table.schema import check_columns


def try_settings(
    *,
    source: str | None,
    company_index: str | None,
    output: str | None,
    database: str | None,
    mailbox: Mailbox | None,
    policy: Policy | None = None,
    channels: Channels,
) -> Iterator[tuple[str, str, EtlError | None]]:
    """For each thing that is named: its name, what was found, and what is wrong with it, if anything.

    Raises SettingsError when nothing is named.
    """
    checks: list[tuple[str, Callable[[], str]]] = []
    if source:
        checks.append(("source", lambda: f"{len(open_storage(source).listing()):,} files"))
    if company_index:
        checks.append(("company index", lambda: f"{len(read_file(company_index)):,} bytes"))
    if source and company_index:
        checks.append(("batch", lambda: _describe_batch(source, company_index, policy)))
    if output:
        checks.append(("output", lambda: _describe_output(output)))
    if database:
        checks.append(("database", lambda: _describe_database(database)))
    if mailbox:
        checks.append(("mail", lambda: _describe_topic(mailbox)))
    if not checks and not channels.urls:
        raise SettingsError(
            "Nothing to check: name --source, --company-index, --output, --database-url or --topic-arn, or set "
            "MBD_CHANNELS."
        )
    yield "checker", native.describe(), None
    for name, check in checks:
        try:
            yield name, check(), None
        except EtlError as error:
            yield name, "", error
    for name, wrong in try_channels(channels):
        fault = SettingsError(f"The channel {name} gets no message: {wrong}. Correct MBD_CHANNELS.") if wrong else None
        yield "channel", f"{name}: the URL is complete; nothing was sent", fault


def _describe_output(output: str) -> str:
    if "://" not in output and not os.path.lexists(output):
        above = next(folder for folder in Path(output).absolute().parents if os.path.lexists(folder))
        if above.is_dir() and os.access(above, os.W_OK | os.X_OK):
            return "the folder is not there yet; the first run makes it"
    return f"{len(open_storage(output).listing()):,} files"


def _describe_batch(source: str, company_index: str, policy: Policy | None) -> str:
    index = parse_index(read_file(company_index))
    plan = make_plan(index, company_index=company_index, source=open_storage(source), policy=policy)
    missing = f", {len(plan.missing):,} are missing, as {plan.consent.set_by} allows" if plan.consent else ""
    return f"{len(plan.names):,} files named by the company index are there{missing}"


def _describe_database(url: str) -> str:
    with connect(url) as connection, connection.cursor() as cursor:
        check_columns(cursor)
        schema, _, _, _ = query(cursor, "place_of_table")[0]
        in_table, in_ledger = query(cursor, "row_totals")[0]
        has_index, may_build = query(cursor, "table_index")[0]
        version = connection.server_version // 10000
    found = f"PostgreSQL {version}, schema {schema}, {in_table:,} rows in the table, {in_ledger:,} in the ledger"
    return found if has_index or may_build else f"{found}. {NO_INDEX}"


def _describe_topic(mailbox: Mailbox) -> str:
    with aws_errors(f"look at {mailbox.topic_arn}"):
        facts = Aws().sns.get_topic_attributes(TopicArn=mailbox.topic_arn)["Attributes"]
    confirmed, pending = facts.get("SubscriptionsConfirmed", "0"), facts.get("SubscriptionsPending", "0")
    return f"{confirmed} confirmed and {pending} pending subscriptions; subject {mailbox.subject(success=True)}"
