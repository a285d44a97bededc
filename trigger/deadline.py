"""The time that Lambda leaves to a call goes in; how long anything may still take comes out."""

import time
from dataclasses import dataclass

_KEPT_SECONDS = 5.0  # for the log and the answer
_WITHOUT_LAMBDA_SECONDS = 60.0


@dataclass(frozen=True)
class Deadline:
    """The one moment by which all waiting of a call has to be over."""

    at: float  # time.monotonic()

    @classmethod
    def of(cls, context: object) -> "Deadline":
        """Shortly before Lambda ends the function; a minute from now where there is no Lambda."""
        remaining = getattr(context, "get_remaining_time_in_millis", None)
        seconds = remaining() / 1000 - _KEPT_SECONDS if remaining else _WITHOUT_LAMBDA_SECONDS
        return cls(at=time.monotonic() + seconds)

    def seconds_left(self) -> float:
        """At least a little, so that what is asked for at the last moment fails by its own word."""
        return max(0.1, self.at - time.monotonic())

    def sleep(self, seconds: float) -> bool:
        """Wait, and say True; or say False at once when the deadline would pass meanwhile."""
        if time.monotonic() + seconds >= self.at:
            return False
        time.sleep(seconds)
        return True
