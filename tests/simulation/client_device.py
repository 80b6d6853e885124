"""A device that is the project's own client, held to the same truth.

It wants no vaults: which subscription holds between two of its connections is its own affair. All that
happens to its user and to the user's vaults it has to hand over, once and in order, or to say that it can't.
"""

from random import Random
from typing import TYPE_CHECKING

import trio

from localful_ws.client import Client, ClientError, ReceivedEvent, SnapshotNeeded, open_client
from tests.trio_streams import for_client

from .following import Follower
from .network import Link
from .tokens import issue

if TYPE_CHECKING:
    from .world import World


class LinkStream(trio.abc.Stream):
    """A device's end of a `Link`, as the client wants it."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._received = bytearray()
        self._over = self._reset = self._closed = False
        self._changed = trio.Event()
        link.peer = self

    def heard(self, data: bytes, written: float) -> None:
        """See `Peer.heard`."""
        self._received += data
        self._changed.set()

    def hung_up(self, *, reset: bool) -> None:
        """See `Peer.hung_up`."""
        self._over, self._reset = True, reset
        self._changed.set()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        while not (self._received or self._over or self._closed):
            self._changed = trio.Event()
            await self._changed.wait()
        if self._closed:
            raise trio.ClosedResourceError
        if self._reset:
            raise trio.BrokenResourceError
        data = bytes(self._received[: max_bytes or None])
        del self._received[: len(data)]
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.wait_send_all_might_not_block()
        self._link.send(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._closed:
            raise trio.ClosedResourceError
        if self._reset:
            raise trio.BrokenResourceError

    async def aclose(self) -> None:
        self._closed = True
        self._changed.set()
        self._link.break_off()
        await trio.lowlevel.checkpoint()


class ClientDevice:
    """Connects to any node, stays, is cut off now and then, and goes on where it was.

    Args:
        world: Where it lives.
        number: Its number.
        user: Its user.
        random: What it draws from.

    Attributes:
        follower: Holds what it hands over against the truth.
    """

    def __init__(self, world: "World", number: int, user: str, random: Random) -> None:
        self.name = f"client {number} of {user}"
        self.follower = Follower(user, world.truth, self._complain)
        self._world = world
        self._user = user
        self._group = f"{user}-client-{number}"
        self._random = random
        self._link: Link | None = None
        self._client: Client | None = None

    @property
    def there(self) -> bool:
        """Whether it is authenticated."""
        return self._client is not None and self._client.session is not None and self.follower.open

    async def run(self) -> None:
        """Live until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cut_off)
            while True:
                try:
                    await self._stay()
                except ClientError as error:
                    self._world.log(self.name, f"ended: {error}")
                self._client = None
                await trio.sleep(self._random.random())

    async def _stay(self) -> None:
        async with open_client(
            "ws://node/v1/sync",
            self._get_token,
            since=self.follower.cursor,
            open_stream=for_client(self._open_stream),
            draw=self._random.random,
        ) as self._client:
            async for arrival in self._client:
                self._take(arrival, self._client.cursor)

    def _take(self, arrival: ReceivedEvent | SnapshotNeeded, cursor: str | None) -> None:
        self._world.log(self.name, arrival)
        if isinstance(arrival, SnapshotNeeded):
            assert arrival.cursor is not None
            self.follower.begin(arrival.cursor, self._group, (), None, trio.current_time())
            return
        message = {"event": arrival.event, "data": arrival.data, "cursor": arrival.cursor}
        if arrival.vault is not None:
            message["vault"] = arrival.vault
        self.follower.event(message)

    async def _get_token(self) -> str:
        low, high = self._world.plan.ttl
        ttl = 3600.0 if self._world.calm else self._random.uniform(low, high)
        return issue(self._user, self._group, ttl, self._world.wall()).text

    async def _open_stream(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if self.follower.cursor is not None:
            self.follower.go_on()
        node = self._world.pick_node(self._random)
        if node is None or node.connections is None:
            raise OSError("no node is there")
        self._link = self._world.make_link(self._random)
        stream = LinkStream(self._link)
        node.plug_in(self._link)
        return stream

    async def _cut_off(self) -> None:
        while True:
            await trio.sleep(self._random.expovariate(0.1))
            if not self._world.calm and self._link is not None:
                self._world.log(self.name, "is cut off")
                self._link.break_off()

    def _complain(self, complaint: str) -> None:
        self._world.complain(f"{self.name}: {complaint}")
