"""Servers for the client on loopback sockets, on Trio and asyncio alike, that do to it what they like."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import anyio
from anyio.abc import SocketAttribute, SocketStream, TaskStatus
from attrs import define, field
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Event, Request, TextMessage

from localful_ws.client import Client, Status, Timeouts, open_client
from localful_ws.client.waking import Signal

T = TypeVar("T", bound=Status)
Handler = Callable[["Peer"], Awaitable[None]]
PATIENCE = 20.0
QUICK = Timeouts(connect=0.3, answer=0.3, close=0.3)


@define(eq=False)
class Peer:
    """The server's side of one connection.

    Attributes:
        stream: What it runs over.
        closed: The close frame of the client, once it has come.
        over: Set once the connection has been served.
    """

    stream: SocketStream
    closed: CloseConnection | None = None
    over: anyio.Event = field(factory=anyio.Event)
    _frames: WSConnection = field(factory=lambda: WSConnection(ConnectionType.SERVER))
    _events: list[Event] = field(factory=list)

    async def event(self) -> Event:
        """The next thing that the client says.

        Raises:
            anyio.EndOfStream: If it has hung up.
        """
        while not self._events:
            self._frames.receive_data(await self.stream.receive())
            self._events += list(self._frames.events())
        return self._events.pop(0)

    async def accept(self) -> None:
        assert isinstance(await self.event(), Request)
        await self.say(AcceptConnection(subprotocol="localful.v1"))

    async def say(self, event: Event) -> None:
        await self.stream.send(self._frames.send(event))

    async def authenticate(self) -> None:
        """Take the ``authenticate``, and say yes to it."""
        await self.accept()
        asked = await self.event()
        assert isinstance(asked, TextMessage)
        said = json.loads(asked.data)
        answer = {
            "event": "authenticated",
            "user": "ada",
            "group": "phone",
            "expiresAt": 1000,
            "vaults": said["vaults"],
            "cursor": "c0",
            "id": said["id"],
        }
        resumed = {"resumed": True} if "since" in said else {}
        await self.say(TextMessage(json.dumps(answer | resumed)))

    async def wait_closed(self) -> CloseConnection | None:
        """Read until the client closes or hangs up."""
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while not isinstance(event := await self.event(), CloseConnection):
                pass
            self.closed = event
        return self.closed


@define(eq=False)
class LoopbackServer:
    """Serves each connection by the next handler; when there is none it hangs up.

    Attributes:
        url: Where it is.
        peers: The connections so far.
        statuses: What the client told of.
    """

    handlers: list[Handler]
    url: str = ""
    peers: list[Peer] = field(factory=list)
    statuses: list[Status] = field(factory=list)
    _serial: int = 0
    _told: Signal = field(factory=Signal)

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener:
            self.url = f"ws://127.0.0.1:{listener.extra(SocketAttribute.local_port)}/v1/sync"
            task_status.started()
            await listener.serve(self._serve)

    async def _serve(self, stream: SocketStream) -> None:
        async with stream:
            if self.handlers:
                peer = Peer(stream)
                self.peers.append(peer)
                await self.handlers.pop(0)(peer)
                peer.over.set()

    def get_token(self) -> str:
        self._serial += 1
        return f"token-{self._serial}"

    def tell(self, status: Status) -> None:
        self.statuses.append(status)
        self._told.notify()

    async def told(self, kind: type[T]) -> T:
        """The first status of a kind, as soon as there is one."""
        while not (found := [status for status in self.statuses if isinstance(status, kind)]):
            await self._told.wait()
        return found[0]

    @asynccontextmanager
    async def client(self, **changes: Any) -> AsyncIterator[Client]:
        options: dict[str, Any] = {
            "get_token": self.get_token,
            "timeouts": QUICK,
            "on_status": self.tell,
            # Below what chance draws: a fiftieth of a second instead of one.
            "draw": lambda: -0.96,
        }
        async with open_client(self.url, **options | changes) as client:
            yield client


@asynccontextmanager
async def serving(*handlers: Handler) -> AsyncIterator[LoopbackServer]:
    """A server for as long as the block lasts, and no longer than tests are waited for."""
    server = LoopbackServer(list(handlers))
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            await tasks.start(server.run)
            yield server
            tasks.cancel_scope.cancel()


async def stay(peer: Peer) -> None:
    """Authenticate the client, and keep the connection until it closes; then answer."""
    await peer.authenticate()
    closed = await peer.wait_closed()
    if closed is not None:
        await peer.say(closed.response())


def sending(*frames: bytes) -> Handler:
    """Authenticate the client, send it these bytes, each by itself, and wait for its end."""

    async def handler(peer: Peer) -> None:
        await peer.authenticate()
        for frame in frames:
            await peer.stream.send(frame)
        await peer.wait_closed()

    return handler


def answering(answer: bytes) -> Handler:
    """Answer whatever comes with these bytes, and wait for the end."""

    async def handler(peer: Peer) -> None:
        await peer.stream.receive()
        await peer.stream.send(answer)
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while True:
                await peer.stream.receive()

    return handler
