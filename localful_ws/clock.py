"""The daemon's one clock."""

import time
from collections.abc import Callable

import structlog
import trio

_log = structlog.get_logger(__name__)

# Less than what tokens are forgiven (``jwt-leeway``), and more than what clocks are apart as a rule.
_AHEAD = 1.0


class Clock:
    """Unix seconds that never run backwards: the time of day once, and from then on Trio's monotonic clock.

    If the time of day turns out to be ahead, this clock catches up: the machine slept, or its clock was put
    right. Every new token would lie in the future otherwise. If the time of day is behind, this clock runs
    on, since nothing that has happened can be undone; then only a restart reads it anew.

    Make it inside `trio.run`.

    Args:
        unix_time: Where to read the time of day from.

    Attributes:
        caught_up: Called when this clock has caught up: whoever waits until a moment has to look again.
    """

    __slots__ = ("_offset", "_unix_time", "caught_up")

    def __init__(self, unix_time: Callable[[], float] = time.time) -> None:
        self._unix_time = unix_time
        self._offset = unix_time() - trio.current_time()
        self.caught_up: Callable[[], object] | None = None

    def now(self) -> float:
        """The present, in Unix seconds."""
        now = trio.current_time() + self._offset
        ahead = self._unix_time() - now
        if ahead > _AHEAD:
            self._offset += ahead
            now += ahead
            _log.warning("the time of day was ahead of the daemon's clock", seconds=round(ahead, 3))
            if self.caught_up is not None:
                self.caught_up()
        return now

    def deadline(self, moment: float) -> float:
        """The deadline for a Trio cancel scope that ends at ``moment`` (Unix seconds)."""
        return moment - self._offset
