"""Waking tasks that wait: on Trio and asyncio alike, and for nothing while nobody waits."""

import anyio


class Signal:
    """Wakes all who wait. Who comes later is not woken: look first, and again afterwards."""

    def __init__(self) -> None:
        self._event: anyio.Event | None = None

    async def wait(self) -> None:
        """Wait for the next `notify`."""
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()

    def notify(self) -> None:
        """Wake those who wait."""
        event, self._event = self._event, None
        if event is not None:
            event.set()


class Reminder:
    """Says to one task that there is something to do. Saying it twice is no more than saying it once."""

    def __init__(self) -> None:
        self._due = False
        self._signal = Signal()

    async def wait(self) -> None:
        """Wait until there has been a `remind` since the last time."""
        while not self._due:
            await self._signal.wait()
        self._due = False

    def remind(self) -> None:
        """Say that there is something to do."""
        self._due = True
        self._signal.notify()
