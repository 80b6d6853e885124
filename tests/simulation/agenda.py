"""What happens when: all that is around the daemon is calls at moments of virtual time."""

import heapq
from collections.abc import Callable
from itertools import count
from math import inf

import trio

_ROUNDING = 1e-9


class Agenda:
    """Calls things at their moments, in one task."""

    def __init__(self) -> None:
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
        self.at(trio.current_time() + seconds, call)

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
