"""The channels that are wanted at one server, and those that are subscribed to."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import chain, islice
from typing import Final

import structlog
import trio

from localful_ws.engine.redis.errors import RedisRefusedError
from localful_ws.engine.redis.keys import hash_slot
from localful_ws.engine.redis.link import Link
from localful_ws.wakeup import Signal

_log = structlog.get_logger(__name__)

_AT_ONCE: Final = 500
_PAUSE_IN_TROUBLE: Final = 1.0


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
        # By slot, and in the order in which they came to be wanted: so they are asked for again.
        self._wanted: defaultdict[int, dict[bytes, None]] = defaultdict(dict)
        self._in_force: set[bytes] = set()
        # Those that the server has ended since an order was given.
        self._ended: set[bytes] = set()
        # Where the two may differ, in the order in which that came about.
        self._changed: dict[bytes, None] = {}
        # Why some could not be subscribed to, the last time that it was tried.
        self._trouble = ""
        self._something_changed = Signal()

    @property
    def wanted(self) -> list[bytes]:
        """The channels that are wanted."""
        return list(chain.from_iterable(self._wanted.values()))

    def wanted_in(self, slot: int) -> list[bytes]:
        """The shard channels that are wanted in a slot."""
        return list(self._wanted.get(slot, ()))

    def hears(self, channel: bytes) -> bool:
        """Whether a channel is subscribed to."""
        return channel in self._in_force

    def want(self, channel: bytes) -> None:
        """Have a channel subscribed to."""
        self._wanted[self._slot_of(channel)][channel] = None
        self._note(channel)

    def drop(self, channel: bytes) -> None:
        """Have a channel unsubscribed from."""
        slot = self._slot_of(channel)
        self._wanted[slot].pop(channel, None)
        if not self._wanted[slot]:
            del self._wanted[slot]
        self._note(channel)

    def end(self, channel: bytes) -> None:
        """Take note that the server has ended a subscription."""
        self._in_force.discard(channel)
        self._ended.add(channel)
        self._note(channel)

    def lose(self) -> None:
        """Take note that nothing is subscribed to any more."""
        self._in_force.clear()
        self._changed = dict.fromkeys(self.wanted)

    async def run(self, link: Link) -> None:
        """Subscribe and unsubscribe until cancelled, or until Redis fails."""
        while True:
            while not self._changed:
                await self._something_changed.wait()
            some = list(islice(self._changed, _AT_ONCE))
            for channel in some:
                del self._changed[channel]
            old = [channel for channel in some if channel in self._in_force and not self._wants(channel)]
            self._in_force.difference_update(old)
            await self._order(link, "UNSUBSCRIBE", old)
            new = [channel for channel in some if self._wants(channel)]
            self._ended.clear()
            missing = [channel for channel in new if channel not in self._in_force]
            confirmed = await self._order(link, "SUBSCRIBE", missing)
            # Whose end came together with its confirmation is not in force.
            self._in_force |= confirmed - self._ended
            self._tell([channel for channel in new if channel in self._in_force])
            if self._trouble:
                await trio.sleep(_PAUSE_IN_TROUBLE)
                self._changed |= dict.fromkeys(missing)

    async def _order(self, link: Link, kind: str, channels: Sequence[bytes]) -> set[bytes]:
        """Give an order about channels; returns those for which it was carried out."""
        by_slot: defaultdict[int, list[bytes]] = defaultdict(list)
        for channel in channels:
            by_slot[self._slot_of(channel)].append(channel)
        command = kind if self._moved is None else f"S{kind}"
        orders = [(group, link.send_order(command, group)) for group in by_slot.values()]
        done, trouble = set[bytes](), ""
        for group, order in orders:
            try:
                await order.wait()
            except RedisRefusedError as error:
                if error.code == "MOVED" and self._moved is not None:
                    self._moved(error)
                else:
                    # No memory, no permission: whoever is heard already goes on being heard.
                    trouble = str(error)
            else:
                done.update(group)
        if trouble and not self._trouble:
            _log.error("channels of Redis can't be subscribed to; trying on", reason=trouble)
        if channels:
            self._trouble = trouble
        return done

    def _slot_of(self, channel: bytes) -> int:
        return 0 if self._moved is None else hash_slot(channel)

    def _wants(self, channel: bytes) -> bool:
        return channel in self._wanted.get(self._slot_of(channel), ())

    def _note(self, channel: bytes) -> None:
        self._changed[channel] = None
        self._something_changed.set()
