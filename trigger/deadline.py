"""Says how long anything may still take in the time that Lambda leaves to a call."""

import time
from dataclasses import dataclass

_SECONDS_FOR_LAST_CALLS = 4.0  # of the reserve
_RESERVED_SECONDS = 5.0  # for the log and the answer
_WITHOUT_LAMBDA_SECONDS = 60.0


@dataclass(frozen=True)
class Deadline:
    """The one moment by which all waiting of a call must be over."""

    at: float  # time.monotonic()

    @classmethod
    def of(cls, context: object) -> "Deadline":
        """Shortly before Lambda ends the function; a minute from now outside of Lambda."""
        remaining = getattr(context, "get_remaining_time_in_millis", None)
        seconds = remaining() / 1000 - _RESERVED_SECONDS if remaining else _WITHOUT_LAMBDA_SECONDS
        return cls(at=time.monotonic() + seconds)

    def seconds_left(self) -> float:
        """At least a little, so that a call at the last moment fails with its own error."""
        return max(0.1, self.at - time.monotonic())

    def part(self, share: float) -> "Deadline":
        """The moment at which this share of the time that is left is over."""
        now = time.monotonic()
        return Deadline(at=now + share * (self.at - now))

    def for_last_calls(self) -> "Deadline":
        """A little later, in the reserve: for what has to be done when all other time is up."""
        return Deadline(at=self.at + _SECONDS_FOR_LAST_CALLS)

    def sleep(self, seconds: float) -> bool:
        """Wait and return True; return False at once if the deadline would pass meanwhile."""
        if time.monotonic() + seconds >= self.at:
            return False
        time.sleep(seconds)
        return True
