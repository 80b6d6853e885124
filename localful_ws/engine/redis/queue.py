"""What has been taken in and waits to be routed, in order."""

from collections.abc import Callable, Sequence

import trio
from attrs import Factory, define, frozen

from localful_ws.engine import Entry, Subscriber
from localful_ws.engine.redis.feeds import Feed
from localful_ws.wakeup import Signal

# What an event takes besides its data and its frame.
_EVENT_BYTES = 512
# Routed at once: more would keep those who join waiting.
_BYTES_AT_ONCE = 1024 * 1024


@define(eq=False)
class Followed:
    """A user's stream as it is followed here.

    Attributes:
        user: Whose it is.
        feed: What has been taken in.
        followers: For how many devices it is followed, those included that are joining.
        routed: The cursor of the end of what has been routed, or just is; empty until the stream was read.
        reading: Whether its stream is being read.
        changed: Set when the feed has changed.
    """

    user: str
    feed: Feed
    followers: int = 0
    routed: str = ""
    reading: bool = False
    changed: Signal = Factory(Signal)


@frozen
class Taken:
    """Events of one user."""

    followed: Followed
    entries: Sequence[Entry]
    size: int
    at: float


def size_of(entries: Sequence[Entry]) -> int:
    """About how many bytes events take."""
    return sum(len(entry.event.data) + len(entry.frame) + _EVENT_BYTES for entry in entries)


class RouteQueue:
    """Events on their way to the subscriber, and what must happen between them.

    Args:
        max_bytes: The size of the events that may wait.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._send, self._receive = trio.open_memory_channel[Taken | Callable[[Subscriber], None]](
            float("inf")
        )
        self._room = Signal()
        self._routing = False
        self.bytes = 0

    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is being routed."""
        return not self._routing and not self._receive.statistics().current_buffer_used

    def is_full(self) -> bool:
        """Whether no more events should be put in."""
        return self.bytes >= self._max_bytes

    async def wait_room(self) -> None:
        """Wait until it isn't full."""
        while self.is_full():
            await self._room.wait()

    def put(self, followed: Followed, entries: Sequence[Entry]) -> None:
        """Have events routed. What is put in is bounded by whoever looks whether it is full."""
        taken = Taken(followed, entries, size_of(entries), trio.current_time())
        if self._put(taken):
            self.bytes += taken.size

    def put_call(self, call: Callable[[Subscriber], None]) -> bool:
        """Have this called when all that was put in before has been routed, unless closed: False."""
        return self._put(call)

    def _put(self, item: Taken | Callable[[Subscriber], None]) -> bool:
        try:
            self._send.send_nowait(item)
        except trio.ClosedResourceError:
            return False
        return True

    def close(self) -> None:
        """Take no more; `run` returns when all is routed."""
        self._send.close()

    async def run(self, subscriber: Subscriber) -> None:
        """Route, until closed. Between two calls others have their turn."""
        async for item in self._receive:
            current: Taken | Callable[[Subscriber], None] | None = item
            while current is not None:
                if isinstance(current, Taken):
                    current = await self._route(current, subscriber)
                else:
                    current(subscriber)
                    current = None

    async def _route(self, first: Taken, subscriber: Subscriber) -> Callable[[Subscriber], None] | None:
        """Route what waits up to the next call; returns that."""
        batch, size, call = [first], first.size, None
        while size < _BYTES_AT_ONCE and call is None:
            try:
                item = self._receive.receive_nowait()
            except (trio.WouldBlock, trio.EndOfChannel):
                break
            if isinstance(item, Taken):
                batch.append(item)
                size += item.size
            else:
                call = item
        self.bytes -= size
        self._room.set()
        # Where nobody follows any more somebody may have begun anew, further on.
        batch = [taken for taken in batch if taken.followed.followers]
        for taken in batch:
            taken.followed.routed = taken.entries[-1].cursor
        if batch:
            self._routing = True
            await subscriber.route([entry for taken in batch for entry in taken.entries], first.at)
            self._routing = False
        return call
