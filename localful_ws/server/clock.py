"""The daemon's one clock."""

import time
from collections.abc import Callable

import trio


class Clock:
    """Unix seconds on Trio's monotonic clock: it never runs backwards, and a test's clock moves it.

    Make it inside `trio.run`.

    Args:
        unix_time: Where to read the time of day from, once.
    """

    __slots__ = ("_offset",)

    def __init__(self, unix_time: Callable[[], float] = time.time) -> None:
        self._offset = unix_time() - trio.current_time()

    def now(self) -> float:
        """The present, in Unix seconds."""
        return trio.current_time() + self._offset

    def deadline(self, moment: float) -> float:
        """The deadline for a Trio cancel scope that ends at ``moment`` (Unix seconds)."""
        return moment - self._offset
