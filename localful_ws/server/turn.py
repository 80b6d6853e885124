"""How long tasks go on before everybody else has a turn.

Trio runs all tasks that have something to do before it looks for what has come meanwhile. Hundreds of devices
that are being let in, each with a little work, would hold up everything else together.
"""

import trio

_SECONDS = 0.002


class Turn(trio.abc.Instrument):
    """The time that one run of the event loop has for work of a kind."""

    def __init__(self) -> None:
        self._until: float | None = None

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - as Trio calls it
        """See `trio.abc.Instrument`."""
        self._until = None

    async def wait(self) -> None:
        """Return when there is time: at once, or in one of the next runs of the event loop.

        No deadline cuts this short: what came in time was in time, however busy the node is.
        """
        while not self._has_time():
            await trio.lowlevel.cancel_shielded_checkpoint()

    def _has_time(self) -> bool:
        now = trio.current_time()
        if self._until is None:
            self._until = now + _SECONDS
        return now < self._until
