"""How one task wakes another."""

import trio


class Signal:
    """Wakes the one task that waits for it; a change that nobody waits for just now is not lost.

    Several changes before the task looks are one.
    """

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = trio.Event()

    def set(self) -> None:
        """Say that something changed."""
        self._event.set()

    async def wait(self) -> None:
        """Wait until something has changed since the last `wait` returned."""
        await self._event.wait()
        self._event = trio.Event()
