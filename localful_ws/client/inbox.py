"""What has been received and waits to be iterated over: as much as may wait, and no more."""

import trio

from localful_ws.client.resuming import Arrival


class Inbox:
    """Arrivals in order, from one task that receives to whoever iterates.

    Who receives waits for room *before* reading from the connection: what has been received is then in here,
    whatever becomes of the connection.

    Args:
        limit: How many may wait, at least 1.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._arrivals, self._waiting = trio.open_memory_channel[Arrival](limit)
        self._taken = trio.Event()

    async def wait_for_room(self) -> None:
        """Wait until there is room for one more."""
        while self._waiting.statistics().current_buffer_used == self._limit:
            await self._taken.wait()

    def put(self, arrival: Arrival) -> None:
        """Add an arrival, after `wait_for_room`."""
        self._arrivals.send_nowait(arrival)

    async def take(self) -> Arrival:
        """Wait for the next arrival. Who is cancelled meanwhile has taken none.

        Raises:
            trio.EndOfChannel: If there is none and will be none.
        """
        arrival = await self._waiting.receive()
        self._taken.set()
        self._taken = trio.Event()
        return arrival

    def close(self) -> None:
        """Say that nothing more arrives. What is here can still be taken."""
        self._arrivals.close()
