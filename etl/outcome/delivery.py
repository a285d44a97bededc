"""What became of a run's messages to channels, as the receipt has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class ChannelState(StrEnum):
    """What became of a run's message to a channel."""

    SENT = "sent"
    """The channel took the message."""
    FAILED = "failed"
    """It did not, or not in time; `reason` says why. It is not tried again."""


@dataclass(frozen=True)
class Delivery:
    """What became of the message to one channel, which is named by its scheme and host at most."""

    channel: str
    state: ChannelState
    reason: str = ""

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Delivery:
        return cls(facts["channel"], ChannelState(facts["state"]), facts["reason"])
