"""A server that follows a script, over memory streams: one script a connection."""

import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio
import trio.testing
from attrs import define, field
from trio_websocket import (
    CloseReason,
    ConnectionClosed,
    WebSocketConnection,
    WebSocketRequest,
    wrap_server_stream,
)

from localful_ws.client import Client, ReceivedEvent, SnapshotNeeded, Status, open_client
from localful_ws.protocol import Session
from tests.trio_streams import for_client

Script = Callable[["Peer"], Awaitable[None]]
URL = "ws://server.test/v1/sync"
SESSION = Session("ada", "phone", 1000)


@define(eq=False)
class Peer:
    """The server's side of one connection.

    Attributes:
        request: The handshake.
        stream: What it runs over.
        closed: How it ended, once it has.
    """

    request: WebSocketRequest
    stream: trio.abc.Stream
    connection: WebSocketConnection | None = None
    closed: CloseReason | None = None

    async def accept(self) -> None:
        self.connection = await self.request.accept(subprotocol="localful.v1")

    @property
    def open_connection(self) -> WebSocketConnection:
        assert self.connection is not None
        return self.connection

    async def receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await self.open_connection.get_message())
        return message

    async def send(self, **message: Any) -> None:
        await self.open_connection.send_message(json.dumps(message))

    async def send_text(self, text: str | bytes) -> None:
        await self.open_connection.send_message(text)

    async def authenticate(self, **changes: Any) -> dict[str, Any]:
        """Accept, take the ``authenticate`` and say yes to it, in everything.

        Args:
            changes: Other values in the answer; None leaves a key out.
        """
        await self.accept()
        said = await self.receive()
        assert said["event"] == "authenticate"
        answer = {
            "event": "authenticated",
            "user": "ada",
            "group": "phone",
            "expiresAt": 1000,
            "vaults": said["vaults"],
            "cursor": "the-end",
            "resumed": True if "since" in said else None,
            "id": said["id"],
        }
        await self.send(**{key: value for key, value in (answer | changes).items() if value is not None})
        return said

    async def wait_closed(self) -> CloseReason | None:
        """Read until the device closes."""
        try:
            while True:
                await self.open_connection.get_message()
        except ConnectionClosed as closed:
            self.closed = closed.reason
        return self.closed

    async def close(self, code: int, reason: str = "") -> None:
        await self.open_connection.aclose(code, reason)


@define(eq=False)
class ScriptedServer:
    """Serves each connection by the next script; a script may also be an OSError to connect with.

    Attributes:
        tokens: What ``get_token`` gave, one after the other.
        peers: The connections so far.
        statuses: What the client told of.
        attempts: When the client tried to connect.
        make_pair: Makes the two ends of a connection.
    """

    nursery: trio.Nursery
    scripts: list[Script | OSError]
    tokens: list[str] = field(factory=lambda: [f"token-{number}" for number in range(1, 20)])
    peers: list[Peer] = field(factory=list)
    statuses: list[Status] = field(factory=list)
    attempts: list[float] = field(factory=list)
    make_pair: Callable[[], tuple[trio.abc.Stream, trio.abc.Stream]] = trio.testing.memory_stream_pair

    def get_token(self) -> str:
        return self.tokens.pop(0)

    async def open_stream(self) -> trio.abc.Stream:
        self.attempts.append(trio.current_time())
        script = self.scripts.pop(0)
        if isinstance(script, OSError):
            raise script
        near, far = self.make_pair()
        self.nursery.start_soon(self._serve, far, script)
        return near

    async def _serve(self, stream: trio.abc.Stream, script: Script) -> None:
        async with trio.open_nursery() as nursery:
            request = await wrap_server_stream(nursery, stream)
            peer = Peer(request, stream)
            self.peers.append(peer)
            await script(peer)
            nursery.cancel_scope.cancel()

    def client(self, **changes: Any) -> AbstractAsyncContextManager[Client]:
        options: dict[str, Any] = {
            "get_token": self.get_token,
            "open_stream": for_client(changes.pop("open_stream", self.open_stream)),
            "on_status": self.statuses.append,
            "draw": lambda: 1.0,
        }
        return open_client(URL, **options | changes)


async def next_event(client: Client) -> ReceivedEvent:
    """The next event, for tests that are not about snapshots."""
    while isinstance(arrival := await anext(client), SnapshotNeeded):
        pass
    return arrival
