"""How fast a device may send."""

import math

from attrs import define, frozen


@frozen
class Rate:
    """So many messages in so many seconds: all may come at once, then the allowance grows back evenly."""

    messages: int
    seconds: float


@define
class RateLimit:
    """The generic cell rate algorithm: a token bucket kept as one number.

    Attributes:
        full_at: The moment at which the whole allowance is there again, in seconds on the caller's clock.
    """

    full_at: float = 0.0

    def allow(self, rate: Rate, now: float) -> bool:
        """Take one message at ``now`` (seconds); False, and nothing is taken, if it comes over the rate."""
        cost = rate.seconds / rate.messages
        full_at = max(self.full_at, now) + cost
        # Every sum is rounded in its last place, at Unix times a quarter of a microsecond; all the roundings
        # together must not refuse the last message of the allowance.
        if full_at - now > rate.seconds + rate.messages * math.ulp(full_at):
            return False
        self.full_at = full_at
        return True
