"""What happens when: all that is around the daemon is calls at moments of virtual time."""

import heapq
import math
from collections.abc import Callable
from itertools import count
from math import inf

import trio

_ROUNDING = 1e-9


class Agenda:
    """Calls things at their moments, in one task.

    Args:
        grid: What is to be done after some time is done at the next multiple of so many seconds; 0 for any
            moment. The coarser, the more is done at once, and the sooner a long time has passed.
    """

    def __init__(self, grid: float = 0.0) -> None:
        self._grid = grid
        self._heap: list[tuple[float, int, Callable[[], object]]] = []
        self._order = count()
        self._earlier = trio.Event()
        self._next = inf

    def at(self, moment: float, call: Callable[[], object]) -> None:
        """Call this at a moment on Trio's clock."""
        heapq.heappush(self._heap, (moment, next(self._order), call))
        if moment < self._next:
            self._next = moment
            self._earlier.set()

    def after(self, seconds: float, call: Callable[[], object]) -> None:
        """Call this after so many seconds."""
        moment = trio.current_time() + seconds
        self.at(math.ceil(moment / self._grid) * self._grid if self._grid else moment, call)

    async def run(self) -> None:
        """Call what is due until cancelled."""
        heap = self._heap
        while True:
            self._earlier = trio.Event()
            self._next = heap[0][0] if heap else inf
            if self._next > trio.current_time() + _ROUNDING:
                with trio.move_on_at(self._next):
                    await self._earlier.wait()
            else:
                await trio.lowlevel.checkpoint()
            now = trio.current_time() + _ROUNDING
            # What these add is for the next round, after the tasks that they have woken.
            due = []
            while heap and heap[0][0] <= now:
                due.append(heapq.heappop(heap)[2])
            for call in due:
                call()
