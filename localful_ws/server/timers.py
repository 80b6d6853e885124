"""One task that keeps the time for every device: renewals, expiries, pings and the bounds of closing."""

import heapq
import math
from itertools import count
from typing import Protocol

import trio

from localful_ws.clock import Clock
from localful_ws.wakeup import Signal

_CALLS_WITHOUT_A_BREAK = 200
# A deadline turned into Trio's time and back may come out a rounding error early.
_ROUNDING = 1e-6
# Below so many, entries that are not valid any more are not worth looking for.
_FEW = 1024


class Timed(Protocol):
    """Something that has to act at some moment.

    Attributes:
        due: When it is called next, in Unix seconds; None if it is not. `Timers` sets it; its owner may take
            it back by setting it to None.
    """

    due: float | None

    def time_passed(self, now: float) -> float | None:
        """Do what is due at ``now`` (Unix seconds) and say when to be called next; None for never."""
        ...


class Timers:
    """Calls everybody when it is due.

    Args:
        clock: The daemon's clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # An entry holds as long as whom it is for is due at its moment. The number keeps their order.
        self._heap: list[tuple[float, int, Timed]] = []
        self._sweep_at = _FEW
        self._numbers = count()
        self._earlier = Signal()
        clock.caught_up = self._earlier.set

    def __len__(self) -> int:
        """How many entries are kept, some of which may not hold any more."""
        return len(self._heap)

    def set(self, timed: Timed, due: float) -> None:
        """Have ``timed`` called at ``due`` (Unix seconds) and no sooner, and then whenever it asks to be."""
        timed.due = due
        if not self._heap or due < self._heap[0][0]:
            self._earlier.set()
        heapq.heappush(self._heap, (due, next(self._numbers), timed))
        if len(self._heap) >= self._sweep_at:
            self._sweep()

    async def run(self) -> None:
        """Keep the time until cancelled."""
        while True:
            due = self._heap[0][0] if self._heap else math.inf
            with trio.move_on_at(self._clock.deadline(due)):
                await self._earlier.wait()
            await self._call_all_due(self._clock.now() + _ROUNDING)

    def _sweep(self) -> None:
        # A device leaves its entry behind, and one that renews its token an entry each time, perhaps for the
        # same moment. Most are due soon, but not with a long ping-interval.
        self._heap[:] = {id(entry[2]): entry for entry in self._heap if entry[2].due == entry[0]}.values()
        heapq.heapify(self._heap)
        self._sweep_at = max(_FEW, 2 * len(self._heap))

    async def _call_all_due(self, now: float) -> None:
        calls = 0
        while self._heap and self._heap[0][0] <= now:
            due, _, timed = heapq.heappop(self._heap)
            if timed.due != due:
                continue
            timed.due = None
            again = timed.time_passed(max(now, due))
            if again is not None:
                self.set(timed, again)
            calls += 1
            if calls % _CALLS_WITHOUT_A_BREAK == 0:
                await trio.lowlevel.checkpoint()
