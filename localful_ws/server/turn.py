"""How long tasks go on before everybody else has a turn.

Trio runs all tasks that have something to do before it looks for what has come meanwhile. Hundreds of devices
that are being let in, each with a little work, would hold up everything else together.
"""

from collections import deque
from collections.abc import Callable

import trio

_SECONDS = 0.002
_FEW = 512


class Turn(trio.abc.Instrument):
    """The time that one run of the event loop has for work of a kind.

    Who finds none left waits in a queue, asleep. Each that has its turn wakes the next one, and the first of
    a run one more: so about as many are awake as a run has time for. Were all awake, they would find out
    again and again that it is not their turn, which takes longer than the work.
    """

    def __init__(self) -> None:
        self._until: float | None = None
        self._asleep = deque[trio.lowlevel.Task]()
        # How many of those who wait are not: at least one, as long as anybody waits.
        self._awake = 0

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - as Trio calls it
        """See `trio.abc.Instrument`."""
        self._until = None

    async def wait(self) -> None:
        """Return when there is time: at once, or in one of the next runs of the event loop.

        No deadline cuts this short: what came in time was in time, however busy the node is.
        """
        if not self._awake and self._has_time():
            return
        self._awake += 1
        task = trio.lowlevel.current_task()
        if self._awake > 1:
            await self._sleep(task, self._asleep.append)
        is_first = self._until is None
        while not self._has_time():
            if self._awake > 1:
                await self._sleep(task, self._asleep.appendleft)
            else:
                await trio.lowlevel.cancel_shielded_checkpoint()
            is_first = self._until is None
        self._awake -= 1
        for _ in range(2 if is_first else 1):
            if self._asleep:
                self._awake += 1
                trio.lowlevel.reschedule(self._asleep.popleft())

    async def wait_until_few_wait(self) -> int:
        """Return when not many wait, and how many more may come to that.

        Whoever lets others in asks this first: those who are not let in yet wait in the kernel, and for less.
        """
        while len(self._asleep) >= _FEW:
            await trio.lowlevel.checkpoint()
        return _FEW - len(self._asleep)

    async def _sleep(self, task: trio.lowlevel.Task, queue_up: Callable[[trio.lowlevel.Task], None]) -> None:
        self._awake -= 1
        queue_up(task)
        await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)

    def _has_time(self) -> bool:
        now = trio.current_time()
        if self._until is None:
            self._until = now + _SECONDS
        return now < self._until
