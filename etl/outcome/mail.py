"""Mail: a receipt goes in, one SNS message with the exact subject goes out; a refused one is kept for later.

The receipt says then what became of its mail, so that somebody who was killed before it leaves more than silence.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace

from etl.batch.aws import Aws, aws_errors
from etl.batch.storage import Storage
from etl.errors import EtlError, SettingsError
from etl.outcome.receipt import FOLDER as RECEIPTS
from etl.outcome.receipt import Receipt

NOTICES = "notices"
_LARGEST_BODY_BYTES = 200_000  # SNS takes 262,144 for the whole message


@dataclass(frozen=True)
class Mailbox:
    """The topic that mails go to, and the person whose names stand in the subject."""

    topic_arn: str
    first_name: str
    last_name: str

    def __post_init__(self) -> None:
        for name in (self.first_name, self.last_name):
            if not re.fullmatch(r"[A-Za-z][A-Za-z-]{0,29}", name):
                raise SettingsError(
                    f"{name!r} cannot stand in bucket names and mail subjects. "
                    "Set MBD_FIRST_NAME and MBD_LAST_NAME to plain letters A to Z (and -)."
                )

    def subject(self, *, success: bool) -> str:
        """`{First}_{Last}_Pipeline_Success` or `..._Failure`: constant, so that mail filters can rely on it."""
        first, last = (name[0].upper() + name[1:] for name in (self.first_name, self.last_name))
        return f"{first}_{last}_Pipeline_{'Success' if success else 'Failure'}"


def send(receipt: Receipt, *, mailbox: Mailbox, aws: Aws, output: Storage | None) -> tuple[Receipt, str | None]:
    """Publish the receipt. Returns it with its `mail`, and why that was refused, if so: the load stands either way.

    A refused message is kept in `Output/notices/` (where there is an output), from where it can be sent later.
    """
    subject = mailbox.subject(success=receipt.state != "failed")
    text = body(receipt, whole=output.url_of(f"{RECEIPTS}/{receipt.run_id}.json") if output else "")
    try:
        sns = aws.sns
        with aws_errors(f"publish to {mailbox.topic_arn}"):
            sns.publish(TopicArn=mailbox.topic_arn, Subject=subject, Message=text)
        return replace(receipt, mail="sent"), None
    except EtlError as error:
        notice = {"TopicArn": mailbox.topic_arn, "Subject": subject, "Message": text}
        mail, where = _keep(notice, run_id=receipt.run_id, output=output)
        return replace(receipt, mail=mail), f"The mail was not sent: {error} {where}"


def _keep(notice: dict[str, str], *, run_id: str, output: Storage | None) -> tuple[str | None, str]:
    """Keep a refused message for later; returns what became of it, and where it is."""
    if output is None:
        return None, "There is no output to keep it in."
    name = f"{NOTICES}/{run_id}.json"
    try:
        with output.write(name) as file:
            file.write(json.dumps(notice).encode())
    except EtlError as error:
        return None, f"Nor could it be kept: {error}"
    return "kept", f"It is kept in {output.url_of(name)}."


def body(receipt: Receipt, *, whole: str) -> str:
    """The receipt's text, safe for SNS: no control characters, and cut with a pointer to the `whole` receipt."""
    text = re.sub(r"[^\n\t\x20-\x7e\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", receipt.to_text())
    if whole:
        text += f"\nreceipt    {whole}\n"
    encoded = text.encode()
    if len(encoded) <= _LARGEST_BODY_BYTES:
        return text
    return encoded[:_LARGEST_BODY_BYTES].decode(errors="ignore") + f"\n... cut here; the whole receipt: {whole}\n"
