"""Names the states and outcomes that etl, the trigger and infra_scripts share: tests/data/contracts/states.json."""

from enum import StrEnum


class ReceiptState(StrEnum):
    """What a receipt says about its run."""

    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"
    DRY_RUN = "dry_run"


class MailState(StrEnum):
    """What a receipt says about the mail of its run."""

    SENT = "sent"
    KEPT = "kept"  # SNS refused it, so it is a notice, which the watchdog sends


class Outcome(StrEnum):
    """What became of one record of an event."""

    STARTED = "started"
    ALREADY_ACCEPTED = "already_accepted"
    DRY_RUN = "dry_run"
    IGNORED = "ignored"


ENDED = {ReceiptState.SUCCESS, ReceiptState.FAILED, ReceiptState.DRY_RUN}
"""States of a run that is over. "failed" may yet become another state: Airflow may try the task again."""
MAILED = {MailState.SENT, MailState.KEPT}
"""States of a mail that the watchdog need not send again or report."""
