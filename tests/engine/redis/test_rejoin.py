"""A user whose last device leaves and comes back while the channel is still being unsubscribed from."""

from collections.abc import Sequence
from typing import cast

import trio
import trio.testing
from attrs import Factory, define, field

from localful_ws.engine import Entry, Position, Subscriber
from localful_ws.engine.redis.control import Control
from localful_ws.engine.redis.keys import Keys
from localful_ws.engine.redis.link import Link, Message
from localful_ws.engine.redis.queue import RouteQueue
from localful_ws.engine.redis.shards import Shards
from localful_ws.engine.redis.streams import Streams
from localful_ws.engine.redis.subscriptions import Subscriptions
from tests.world import make_settings

from .links import Remote, confirm, linked

CHANNEL = b"localful:{@ada}:live"
EPOCH = "e"


@define
class Shard:
    """A server that is there.

    Attributes:
        subscriptions: Its channels.
        link: Something.
    """

    subscriptions: Subscriptions
    link: object = True


@define
class Redis:
    """As much of Redis as one stream needs: what is in it, and who hears of it.

    Attributes:
        shard: The server that has all.
        length: How many events are in the stream; their ids are 1-0, 2-0 and so on.
        subscribed: Whether the channel is subscribed to.
        unsubscribing: Lets an UNSUBSCRIBE take effect.
    """

    shard: Shard = field(init=False)
    length: int = 0
    subscribed: bool = False
    unsubscribing: trio.Event = field(factory=trio.Event)
    publish_command: str = "PUBLISH"

    def of(self, _: object) -> "Shard":
        return self.shard

    async def wait_for(self, _: object) -> None:
        await trio.lowlevel.checkpoint()

    async def run_script(
        self, _: object, keys: object, arguments: Sequence[str | int], *, is_patient: bool
    ) -> list[object]:
        """The script ``read``."""
        await trio.lowlevel.checkpoint()
        since = int(str(arguments[2]).partition("-")[0])
        flat: list[bytes] = []
        for number in range(since + 1, self.length + 1):
            flat += [b"%d-0" % number, b"%d-0" % (number - 1), b'{"event":"user-update","data":null}']
        if arguments[3] == 0:
            return [EPOCH.encode(), b"%d-0" % self.length, int(bool(flat)), []]
        return [EPOCH.encode(), b"%d-0" % self.length, 0, flat]

    async def serve(self, remote: Remote) -> None:
        """Confirm what is ordered."""
        while True:
            kind, *channels = await remote.next()
            if kind == b"UNSUBSCRIBE":
                await self.unsubscribing.wait()
            self.subscribed = kind == b"SUBSCRIBE"
            await remote.send(confirm(kind.decode().lower(), *channels))

    def publish(self) -> Message | None:
        """Append an event; returns what is heard of it."""
        self.length += 1
        event = f'["{self.length}-0",{{"event":"user-update","data":null}}]'
        text = f'{{"epoch":"{EPOCH}","prev":"{self.length - 1}-0","events":[{event}]}}'
        return Message(CHANNEL, text.encode()) if self.subscribed else None


@define
class AllKnown:
    """Knows of all revocations.

    Attributes:
        in_force: So it is.
    """

    in_force: bool = True

    async def wait_in_force(self) -> None:
        await trio.lowlevel.checkpoint()


@define
class Routed:
    """Takes what is routed: the cursors."""

    cursors: list[str] = Factory(list)

    async def route(self, entries: Sequence[Entry], accepted_at: float) -> None:
        self.cursors += [entry.cursor for entry in entries]

    def lose(self, user: str) -> int:
        raise AssertionError(user)


async def be_linked(*, task_status: trio.TaskStatus[tuple[Link, Remote]]) -> None:
    """Be connected to a server that can be pinged for a while."""
    async with linked() as ends:
        task_status.started(ends)
        await trio.sleep_forever()


async def test_nothing_waits_for_the_next_event(nursery: trio.Nursery, autojump_clock: object) -> None:
    redis, routed = Redis(), Routed()
    settings = make_settings()
    queue = RouteQueue(settings.redis_queue_bytes)
    streams = Streams(settings, Keys("localful"), queue, cast("Shards", redis), cast("Control", AllKnown()))
    redis.shard = Shard(Subscriptions(streams.subscribed))
    nursery.start_soon(queue.run, cast("Subscriber", routed))
    nursery.start_soon(streams.run)
    link, remote = await nursery.start(be_linked)
    nursery.start_soon(redis.serve, remote)
    nursery.start_soon(redis.shard.subscriptions.run, link)
    positions: list[Position] = []
    await streams.join("ada", None, positions.append)
    streams.leave("ada")
    await trio.testing.wait_all_tasks_blocked()

    # The channel is still subscribed to: what comes over it has the stream read.
    nursery.start_soon(streams.join, "ada", None, positions.append)
    await trio.testing.wait_all_tasks_blocked()
    first = redis.publish()
    assert first is not None
    streams.hear(first)
    await trio.testing.wait_all_tasks_blocked()
    redis.subscribed = False
    assert redis.publish() is None
    redis.unsubscribing.set()
    await trio.testing.wait_all_tasks_blocked()

    assert redis.subscribed
    # Whether or not the first is behind the position, the second comes, and comes without a third.
    assert routed.cursors[-1:] == ["e.2-0"]
