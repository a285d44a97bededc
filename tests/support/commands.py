"""What a command printed, and its exit code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import etl


@dataclass(frozen=True)
class Answer:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


Command = Callable[..., Answer]


def counts(receipt: etl.Receipt) -> tuple[int, int, int, int]:
    """Company files listed, accepted, quarantined and missing."""
    files = receipt.files
    return files.listed, files.accepted, files.quarantined, files.missing
