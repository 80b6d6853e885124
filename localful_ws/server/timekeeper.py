"""One task that keeps the time for every device: renewals, expiries, pings and the bounds of closing."""

import heapq
import math
from itertools import count
from typing import Protocol

import trio

from localful_ws.clock import Clock

_TICKS_WITHOUT_A_BREAK = 200
# A deadline turned into Trio's time and back may come out a rounding error early.
_ROUNDING = 1e-6
# Below so many, forgotten appointments are not worth looking for.
_FEW = 1024


class Timed(Protocol):
    """Something that has to act at some moment."""

    def time_passed(self, now: float) -> float | None:
        """Do what is due at ``now`` (Unix seconds) and say when to be called next; None for never."""
        ...


class Appointment:
    """The next call somebody has with the timekeeper. Whoever holds it may cancel it."""

    __slots__ = ("_order", "due", "timed")

    def __init__(self, due: float, order: int, timed: Timed) -> None:
        self.due = due
        self._order = order
        self.timed: Timed | None = timed

    def __lt__(self, other: "Appointment") -> bool:
        return (self.due, self._order) < (other.due, other._order)

    def cancel(self) -> None:
        """Forget whom it was for; the empty appointment passes unnoticed."""
        self.timed = None


class Timekeeper:
    """Calls everybody who has an appointment when it is due.

    Args:
        clock: The daemon's clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[Appointment] = []
        self._sweep_at = _FEW
        self._order = count()
        self._earlier = trio.Event()
        clock.caught_up = self._look_again

    def __len__(self) -> int:
        """How many appointments are kept, some of which may have been cancelled."""
        return len(self._heap)

    def appoint(self, timed: Timed, due: float) -> Appointment:
        """Have ``timed`` called at ``due`` (Unix seconds), and then whenever it asks to be."""
        appointment = Appointment(due, next(self._order), timed)
        if not self._heap or due < self._heap[0].due:
            self._earlier.set()
        heapq.heappush(self._heap, appointment)
        if len(self._heap) >= self._sweep_at:
            self._forget_cancelled()
        return appointment

    async def run(self) -> None:
        """Keep the time until cancelled."""
        while True:
            await self._wait()
            await self._call_all_due(self._clock.now() + _ROUNDING)

    def _forget_cancelled(self) -> None:
        # A device leaves its appointment behind, and one that renews its token an appointment each time. Most
        # are due soon, but not with a long ping-interval.
        self._heap[:] = [appointment for appointment in self._heap if appointment.timed is not None]
        heapq.heapify(self._heap)
        self._sweep_at = max(_FEW, 2 * len(self._heap))

    def _look_again(self) -> None:
        self._earlier.set()

    async def _wait(self) -> None:
        self._earlier = trio.Event()
        due = self._heap[0].due if self._heap else math.inf
        with trio.move_on_at(self._clock.deadline(due)):
            await self._earlier.wait()

    async def _call_all_due(self, now: float) -> None:
        calls = 0
        while self._heap and self._heap[0].due <= now:
            appointment = heapq.heappop(self._heap)
            timed = appointment.timed
            if timed is None:
                continue
            due = timed.time_passed(max(now, appointment.due))
            if due is not None and appointment.timed is not None:
                appointment.due = due
                heapq.heappush(self._heap, appointment)
            calls += 1
            if calls % _TICKS_WITHOUT_A_BREAK == 0:
                await trio.lowlevel.checkpoint()
