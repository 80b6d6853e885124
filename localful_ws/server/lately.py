"""How often something happened in the last minutes."""

from collections import Counter

import trio


class Lately:
    """Counts what happened lately, in memory that does not grow with how often it did.

    Args:
        seconds: For how long it counts.
        step: What happens within so many seconds is forgotten at once, when the last of it would be.
    """

    def __init__(self, seconds: float, step: float) -> None:
        self._seconds = seconds
        self._step = step
        # By the number of the step, in order.
        self._counts = Counter[int]()

    def add(self, times: int) -> None:
        """Count something that happens now, so many times."""
        step = int(trio.current_time() / self._step)
        if step not in self._counts:
            self._forget()
        self._counts[step] += times

    def count(self) -> int:
        """How often it happened lately."""
        self._forget()
        return self._counts.total()

    def _forget(self) -> None:
        oldest = trio.current_time() - self._seconds
        for step in [step for step in self._counts if (step + 1) * self._step <= oldest]:
            del self._counts[step]
