"""What waits for all devices together: bounded, and paid for by those who don't read."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio
from attrs import define

from tests.raw_device import RawDevice, handshake, text
from tests.redis_world import settle
from tests.server.sockets import FakePoller, PeerStream, fake_pair
from tests.world import World, open_world

KIB = 1024


@define(eq=False)
class Stalling:
    """A device that reads when it is told to.

    Attributes:
        device: The device, and what it has read.
        stream: Its end of the connection.
    """

    device: RawDevice
    stream: PeerStream

    async def read(self, size: int = 1 << 30) -> int:
        """Read what is there, so many bytes at the most; says how many there were."""
        read = 0
        with trio.move_on_after(0):
            while read < size:
                data = await self.stream.receive_some(size - read)
                self.device.received += data
                read += len(data)
                if not data:
                    break
        return read


@define(eq=False)
class Ward:
    """A world whose devices come on sockets."""

    world: World
    poller: FakePoller

    async def stalled(self, user: str, *, since: str | None = None, window: int = 1000) -> Stalling:
        """A device that authenticates, and reads nothing beyond that."""
        stream, far = fake_pair(self.poller, 2000)
        self.world.connections.start_soon(self.world.node.serve_stream, far)
        stalling = Stalling(RawDevice(stream, self.world.now), stream)
        token = self.world.token(user)
        await stream.send_all(handshake())
        await settle()
        message = {"event": "authenticate", "token": token} | ({} if since is None else {"since": since})
        await stream.send_all(text(message))
        await settle()
        return stalling

    async def healthy(self, user: str) -> RawDevice:
        device = await self.world.raw(handshake(), make_pair=partial(fake_pair, self.poller, 2000))
        await device.say(text({"event": "authenticate", "token": self.world.token(user)}))
        return device

    async def publish(self, user: str, *sizes: int) -> None:
        await self.world.publish(
            *[{"event": "user-update", "user": user, "data": "x" * (size - 2)} for size in sizes]
        )
        self.check()

    def check(self) -> None:
        assert 0 <= self.world.node.budget.bytes <= self.world.settings.send_budget


@asynccontextmanager
async def open_ward(**changes: Any) -> AsyncIterator[Ward]:
    poller = FakePoller()
    async with open_world(poller=poller, **changes) as world:
        yield Ward(world, poller)
        await trio.sleep(200)
        await settle()
        # Those that stalled are all gone, and nothing is left of what waited for them.
        assert world.node.budget.bytes == 0
    assert poller.open_sockets() == []
