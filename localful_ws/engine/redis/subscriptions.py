"""The channels that are wanted at one server, and those that are subscribed to."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from localful_ws.engine.redis.errors import RedisRefusedError
from localful_ws.engine.redis.keys import hash_slot
from localful_ws.engine.redis.link import Link
from localful_ws.wakeup import Signal

_AT_ONCE: Final = 500


class Subscriptions:
    """Has channels subscribed to and unsubscribed from, many at once, by one task.

    Args:
        subscribed: Called with channels that are wanted and are subscribed to now.
        moved: In a Cluster, called with the refusal of a server that has not the slot; then the channels are
            wanted elsewhere. None where there are no shard channels.
    """

    def __init__(
        self,
        subscribed: Callable[[Sequence[bytes]], None],
        moved: Callable[[RedisRefusedError], None] | None = None,
    ) -> None:
        self._tell = subscribed
        self._moved = moved
        # In the order in which they came to be wanted, which is the order in which they are asked for again.
        self._wanted: dict[bytes, None] = {}
        self._in_force: set[bytes] = set()
        # Those that the server has ended since an order was given.
        self._ended: set[bytes] = set()
        # Where the two may differ, in the order in which that came about.
        self._changed: dict[bytes, None] = {}
        self._something_changed = Signal()

    @property
    def wanted(self) -> list[bytes]:
        """The channels that are wanted."""
        return list(self._wanted)

    def want(self, channel: bytes) -> None:
        """Have a channel subscribed to."""
        self._wanted[channel] = None
        self._note(channel)

    def drop(self, channel: bytes) -> None:
        """Have a channel unsubscribed from."""
        self._wanted.pop(channel, None)
        self._note(channel)

    def end(self, channel: bytes) -> None:
        """Take note that the server has ended a subscription."""
        self._in_force.discard(channel)
        self._ended.add(channel)
        self._note(channel)

    def lose(self) -> None:
        """Take note that nothing is subscribed to any more."""
        self._in_force.clear()
        self._changed = dict.fromkeys(self._wanted)

    async def run(self, link: Link) -> None:
        """Subscribe and unsubscribe until cancelled, or until Redis fails."""
        while True:
            while not self._changed:
                await self._something_changed.wait()
            some = list(islice(self._changed, _AT_ONCE))
            for channel in some:
                del self._changed[channel]
            old = [channel for channel in some if channel in self._in_force and channel not in self._wanted]
            self._in_force.difference_update(old)
            await self._order(link, "UNSUBSCRIBE", old)
            new = [channel for channel in some if channel in self._wanted]
            self._ended.clear()
            confirmed = await self._order(
                link, "SUBSCRIBE", [channel for channel in new if channel not in self._in_force]
            )
            # Whose end came together with its confirmation is not in force.
            self._in_force |= confirmed - self._ended
            self._tell([channel for channel in new if channel in self._in_force])

    async def _order(self, link: Link, kind: str, channels: Sequence[bytes]) -> set[bytes]:
        """Give an order about channels; returns those for which it was carried out."""
        if self._moved is None:
            if channels:
                await link.send_order(kind, channels).wait()
            return set(channels)
        by_slot: defaultdict[int, list[bytes]] = defaultdict(list)
        for channel in channels:
            by_slot[hash_slot(channel)].append(channel)
        orders = [(group, link.send_order(f"S{kind}", group)) for group in by_slot.values()]
        done: set[bytes] = set()
        for group, order in orders:
            try:
                await order.wait()
            except RedisRefusedError as error:
                if error.code != "MOVED":
                    raise
                self._moved(error)
            else:
                done.update(group)
        return done

    def _note(self, channel: bytes) -> None:
        self._changed[channel] = None
        self._something_changed.set()
