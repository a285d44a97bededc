"""Reads the JSON objects that runs have left in the source bucket: many receipts by one call, or any one object."""

import json
import logging
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from trigger import aws_cli
from trigger.deadline import Deadline
from trigger.errors import TriggerError
from trigger.settings import MailSettings

log = logging.getLogger(__name__)

RECEIPTS = "Output/receipts/"


def read_receipts(
    runs: Collection[str], *, settings: MailSettings, deadline: Deadline
) -> dict[str, Mapping[str, object]]:
    """The receipts of these runs, by one call of the CLI: a call for each would take too long where there are many.

    One that the CLI did not get, or not in time, is left out.
    """
    if not runs:
        return {}
    days = sorted({run[: len("marker_2026-11-02")] for run in runs})  # few patterns: the CLI compares each with all
    wanted = [word for day in days for word in ("--include", f"{day}*")]
    with tempfile.TemporaryDirectory() as folder:
        command = ["s3", "cp", f"s3://{settings.source_bucket}/{RECEIPTS}", folder, "--recursive", "--only-show-errors"]
        try:
            aws_cli.run([*command, "--exclude", "*", *wanted], deadline=deadline)
        except TriggerError as error:
            log.warning("not all receipts came at once, so the others are read one by one: %s", error)
        return {path.stem: _parsed(path.read_bytes()) for path in Path(folder).glob("*.json") if path.stem in runs}


def read_object(key: str, *, settings: MailSettings, deadline: Deadline) -> dict[str, object]:
    """The JSON object under this key; empty if it holds anything else."""
    return _parsed(aws_cli.run(["s3", "cp", f"s3://{settings.source_bucket}/{key}", "-"], deadline=deadline))


def _parsed(content: bytes) -> dict[str, object]:
    try:
        facts = json.loads(content)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}
