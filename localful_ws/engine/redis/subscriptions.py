"""The channels that are wanted, and those that are subscribed to."""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from localful_ws.engine.redis.clients import PubSub
from localful_ws.wakeup import Signal

_AT_ONCE: Final = 500


class Subscriptions:
    """Has channels subscribed to and unsubscribed from, many at once, by one task.

    Args:
        subscribed: Called with channels that are wanted and are subscribed to now.
    """

    def __init__(self, subscribed: Callable[[Sequence[bytes]], None]) -> None:
        self._tell = subscribed
        # In the order in which they came to be wanted, which is the order in which they are asked for again.
        self._wanted: dict[bytes, None] = {}
        self._in_force: set[bytes] = set()
        # Where the two may differ, in the order in which that came about.
        self._changed: dict[bytes, None] = {}
        self._something_changed = Signal()

    def want(self, channel: bytes) -> None:
        """Have a channel subscribed to."""
        self._wanted[channel] = None
        self._note(channel)

    def drop(self, channel: bytes) -> None:
        """Have a channel unsubscribed from."""
        self._wanted.pop(channel, None)
        self._note(channel)

    def lose(self) -> None:
        """Take note that nothing is subscribed to any more."""
        self._in_force.clear()
        self._changed = dict.fromkeys(self._wanted)

    async def run(self, pubsub: PubSub) -> None:
        """Subscribe and unsubscribe until cancelled, or until Redis fails."""
        while True:
            while not self._changed:
                await self._something_changed.wait()
            some = list(islice(self._changed, _AT_ONCE))
            for channel in some:
                del self._changed[channel]
            new = [channel for channel in some if channel in self._wanted]
            old = [channel for channel in some if channel in self._in_force and channel not in self._wanted]
            if old:
                self._in_force.difference_update(old)
                await pubsub.unsubscribe(*old)
            missing = [channel for channel in new if channel not in self._in_force]
            if missing:
                await pubsub.subscribe(*missing)
                self._in_force.update(missing)
            self._tell(new)

    def _note(self, channel: bytes) -> None:
        self._changed[channel] = None
        self._something_changed.set()
