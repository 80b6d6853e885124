"""What has been received and waits to be iterated over: as much as may wait, and no more."""

from collections import deque

import anyio
from anyio.lowlevel import checkpoint

from localful_ws.client.resuming import Arrival
from localful_ws.client.waking import Signal


class Inbox:
    """Arrivals in order, from one task that receives to whoever iterates.

    Who receives waits for room *before* a message counts as received: it is then in here, whatever becomes of
    the connection.

    Args:
        limit: How many may wait, at least 1.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._arrivals: deque[Arrival] = deque()
        self._is_closed = False
        self._changed = Signal()
        self._taken = Signal()

    async def wait_for_room(self) -> None:
        """Wait until there is room for one more."""
        while len(self._arrivals) >= self._limit:
            await self._taken.wait()

    def put(self, arrival: Arrival) -> None:
        """Add an arrival, after `wait_for_room`."""
        self._arrivals.append(arrival)
        self._changed.notify()

    async def take(self) -> Arrival:
        """Wait for the next arrival. Who is cancelled meanwhile has taken none.

        Raises:
            anyio.EndOfStream: If there is none and will be none.
        """
        # Whoever iterates over what is here already lets others run as well.
        await checkpoint()
        while not self._arrivals:
            if self._is_closed:
                raise anyio.EndOfStream
            await self._changed.wait()
        self._taken.notify()
        return self._arrivals.popleft()

    def close(self) -> None:
        """Say that nothing more arrives. What is here can still be taken."""
        self._is_closed = True
        self._changed.notify()
