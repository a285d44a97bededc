"""Waits for the database's states in between, starts it, and switches its protection against deletion.

RDS refuses most calls about a database that is not `available` (InvalidDBInstanceState), and CloudFormation calls
ModifyDBInstance at every update of one.
"""

from __future__ import annotations

import time

import boto3

from infra_scripts.aws import aws_errors
from infra_scripts.console import progress
from infra_scripts.errors import RefusedError
from infra_scripts.platform.machines import find_database

POLL_SECONDS = 10.0
_LOOKS_AFTER_CALL = 12  # RDS may show the state of before for a moment
# docs.aws.amazon.com/AmazonRDS/latest/UserGuide/accessing-monitoring.html: what ends by itself
_BETWEEN = {
    "backing-up", "configuring-associated-roles", "configuring-enhanced-monitoring", "configuring-iam-database-auth",
    "configuring-log-exports", "converting-to-vpc", "creating", "deleting", "maintenance", "modifying", "moving-to-vpc",
    "rebooting", "renaming", "resetting-master-credentials", "starting", "stopping", "storage-config-upgrade",
    "storage-initialization", "upgrading",
}  # fmt: skip


def current_state(session: boto3.Session, *, identifier: str) -> str:
    """What RDS says now; `absent` where there is no database."""
    database = find_database(session, identifier=identifier)
    return database["DBInstanceStatus"] if database else "absent"


def settled_state(session: boto3.Session, *, identifier: str) -> str:
    """The database's state once nothing is going on: `available`, `stopped`, `absent`, or one that needs a person."""
    reported = ""
    while (state := current_state(session, identifier=identifier)) in _BETWEEN:
        if state != reported:
            progress(f"The database {identifier} is {state}: waiting until that is over.")
            reported = state
        time.sleep(POLL_SECONDS)
    return state


def start_database(session: boto3.Session, *, identifier: str) -> None:
    """Start a stopped database and wait until it is available. Raises RefusedError where it cannot be."""
    state = settled_state(session, identifier=identifier)
    if state == "stopped":
        progress(f"The database {identifier} is stopped: starting it. This takes some minutes.")
        with aws_errors(f"start the database {identifier}"):
            session.client("rds").start_db_instance(DBInstanceIdentifier=identifier)
        for _ in range(_LOOKS_AFTER_CALL):
            if (state := settled_state(session, identifier=identifier)) != "stopped":
                break
            time.sleep(POLL_SECONDS)
    if state != "available":
        raise RefusedError(
            f"The database {identifier} is {state}, and AWS changes only one that is available. Fix that in the RDS "
            "console, then run the same command again."
        )


def protect(session: boto3.Session, *, identifier: str) -> bool:
    """Switch the protection against deletion on where it is off; returns whether it was.

    Not at the creation: a first `apply` that fails could not remove what it has made.
    """
    database = find_database(session, identifier=identifier)
    if database is None or database.get("DeletionProtection"):
        return False
    if settled_state(session, identifier=identifier) != "available":
        return False  # `check` says so
    _set_protection(session, identifier=identifier, to=True)
    return True


def prepare_deletion(session: boto3.Session, *, identifier: str) -> None:
    """Start the database and lift its protection: only then can it be deleted with a final snapshot."""
    state = settled_state(session, identifier=identifier)
    if state == "absent":
        return
    if state == "stopped":
        progress("AWS takes the final snapshot only of a running database.")
        start_database(session, identifier=identifier)
    database = find_database(session, identifier=identifier)
    if database and database.get("DeletionProtection"):
        _set_protection(session, identifier=identifier, to=False)
        for _ in range(_LOOKS_AFTER_CALL):
            settled_state(session, identifier=identifier)
            database = find_database(session, identifier=identifier)
            if not database or (database["DBInstanceStatus"] == "available" and not database["DeletionProtection"]):
                break
            time.sleep(POLL_SECONDS)


def _set_protection(session: boto3.Session, *, identifier: str, to: bool) -> None:
    with aws_errors(f"switch the deletion protection of {identifier} {'on' if to else 'off'}"):
        session.client("rds").modify_db_instance(
            DBInstanceIdentifier=identifier, DeletionProtection=to, ApplyImmediately=True
        )
