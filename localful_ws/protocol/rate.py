"""How fast a device may send."""

import math

from attrs import frozen


@frozen
class Rate:
    """So many things in so many seconds: all may come at once, then the allowance grows back evenly.

    The generic cell rate algorithm: a token bucket whose whole state is one number, which its owner keeps.

    Attributes:
        most: How many may come at once.
        seconds: How long the whole allowance takes to grow back.
    """

    most: int
    seconds: float

    def take(self, full_at: float, now: float) -> float | None:
        """Take one thing out of the allowance.

        Args:
            full_at: When the whole allowance is there again, as the last call gave it; 0.0 at first.
            now: The present, in seconds on the same clock.

        Returns:
            What ``full_at`` is from now on; None, and nothing is taken, if there is none left.
        """
        full_at = max(full_at, now) + self.seconds / self.most
        # Every sum is rounded in its last place, at Unix times a quarter of a microsecond; all the roundings
        # together must not refuse the last one of the allowance.
        if full_at - now > self.seconds + self.most * math.ulp(full_at):
            return None
        return full_at
