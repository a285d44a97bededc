"""Sends the one mail of a run: the subject, the body that SNS takes, and what becomes of a refused one."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass, replace

from etl.batch.aws import Aws, aws_errors, field_of
from etl.batch.storage import Storage
from etl.errors import EtlError, FileChangedError, SettingsError, as_etl_error, only_etl_errors
from etl.outcome.advice import next_steps
from etl.outcome.receipt import MailState, Receipt, State, file_name, page_name, write_receipt
from etl.outcome.wording import receipt_text

NOTICES = "notices"
_NAME = re.compile(r"[A-Za-z]+(-[A-Za-z]+)*")  # RDS refuses two hyphens in a row
_LONGEST_BUCKET_NAME = 63  # docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_LARGEST_BODY_BYTES = 200_000  # SNS takes 262,144 for the whole message


@dataclass(frozen=True)
class Mailbox:
    """The topic that mails go to, and the person whose names are in the subject."""

    topic_arn: str
    first_name: str
    last_name: str

    def __post_init__(self) -> None:
        for name in (self.first_name, self.last_name):
            if not _NAME.fullmatch(name):
                raise SettingsError(
                    f"{name!r} cannot be part of bucket names and mail subjects. "
                    "Set MBD_FIRST_NAME and MBD_LAST_NAME to plain letters A to Z, with single hyphens inside."
                )
        bucket = f"de-mbd-predict-{self.first_name}-{self.last_name}-monitored-bucket"
        if len(bucket) > _LONGEST_BUCKET_NAME:
            raise SettingsError(
                f"MBD_FIRST_NAME and MBD_LAST_NAME are too long together: {bucket!r} has more than the "
                f"{_LONGEST_BUCKET_NAME} characters of a bucket's name. Shorten one."
            )

    def subject(self, *, success: bool) -> str:
        """`{First}_{Last}_Pipeline_Success` or `..._Failure`: constant, so that mail filters can rely on it."""
        first, last = (name[0].upper() + name[1:] for name in (self.first_name, self.last_name))
        return f"{first}_{last}_Pipeline_{'Success' if success else 'Failure'}"


def send(
    receipt: Receipt, *, mailbox: Mailbox, aws: Aws, output: Storage | None, may_write_receipt: bool = True
) -> tuple[Receipt, str | None]:
    """Publish the receipt, and note in it what became of its mail, so that a killed sender leaves more than silence.

    Returns the receipt, and why the mail was refused, if so: the load is kept either way. A refused message is kept in
    `Output/notices/` (where there is an output), from where the watchdog sends it later.
    """
    subject = mailbox.subject(success=receipt.state != State.FAILED)
    text = message_of(receipt, output=output)
    refused = None
    try:
        sns = aws.sns
        with aws_errors(f"publish to {mailbox.topic_arn}"):
            field_of(sns.publish(TopicArn=mailbox.topic_arn, Subject=subject, Message=text), "MessageId")
        receipt = replace(receipt, mail=MailState.SENT)
    except Exception as failure:  # whatever it is, the message is kept
        error = as_etl_error(failure)
        notice = {"TopicArn": mailbox.topic_arn, "Subject": subject, "Message": text}
        mail, where = _keep(notice, run_id=receipt.run_id, output=output)
        receipt, refused = replace(receipt, mail=mail), f"The mail was not sent: {error} {where}"
    if output and may_write_receipt:
        with suppress(EtlError), only_etl_errors():  # then the watchdog reports the run once more
            write_receipt(receipt, output=output)
    return receipt, refused


def _page(run_id: str, *, output: Storage) -> str:
    """Where the run's report page is; nothing where it has none."""
    with suppress(EtlError, FileChangedError):
        output.find(page_name(run_id))
        return output.url_of(page_name(run_id))
    return ""


def _keep(notice: dict[str, str], *, run_id: str, output: Storage | None) -> tuple[MailState | None, str]:
    """Keep a refused message for later; returns what became of it, and where it is."""
    if output is None:
        return None, "There is no output to keep it in."
    name = f"{NOTICES}/{run_id}.json"
    try:
        with only_etl_errors(), output.write(name) as file:
            file.write(json.dumps(notice).encode())
    except EtlError as error:
        return None, f"It could not be kept either: {error}"
    return MailState.KEPT, f"It is kept in {output.url_of(name)}."


def message_of(receipt: Receipt, *, output: Storage | None) -> str:
    """What a mail or a message to a channel says of a run. Where there is an output, it names receipt and page."""
    whole = output.url_of(file_name(receipt.run_id)) if output else ""
    return body(receipt, whole=whole, page=_page(receipt.run_id, output=output) if output else "")


def body(receipt: Receipt, *, whole: str, page: str = "") -> str:
    """The receipt's text and what to do next, safe for SNS: no control characters, cut with a pointer to `whole`.

    `whole`: where the whole receipt is; `page`: where the run's report page is.
    """
    to_do = [line for step in next_steps(receipt) for line in (step.text, f"  {step.command}") if line.strip()]
    safe = re.sub(
        r"[^\n\t\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", receipt_text(receipt, to_do=to_do)
    )
    if page:
        safe += f"\nreport     {page}"
    if whole:
        safe += f"\nreceipt    {whole}\n"
    encoded = safe.encode()
    if len(encoded) <= _LARGEST_BODY_BYTES:
        return safe
    return encoded[:_LARGEST_BODY_BYTES].decode(errors="ignore") + f"\n... cut here; the whole receipt: {whole}\n"
