"""An HTTP server on sockets in memory, clients that do to theirs what a test says, and small applications."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import trio
from attrs import Factory, define, frozen
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from localful_ws.server.http.connection import HttpTimes
from localful_ws.server.http.server import HttpServer
from tests.server.sockets import ENDLESS, FakePoller, FakeSocket, fake_pair

PATIENCE = 1000.0
"""Virtual seconds in which whatever is waited for happens, or the test fails."""

TIMES = HttpTimes(idle=60, head=10, body=30, send=10, linger=2)

HOST = b"Host: a\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"


def get(path: str, *headers: str) -> bytes:
    """A request for a path."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: a", *headers, "", ""]).encode()


def post(body: bytes, *headers: str, length: int | None = None, path: str = "/") -> bytes:
    """A request with a body, which may be announced with a wrong length."""
    announced = f"Content-Length: {len(body) if length is None else length}"
    head = "\r\n".join([f"POST {path} HTTP/1.1", "Host: a", announced, *headers, "", ""])
    return head.encode() + body


@frozen
class Answer:
    """An answer as it was sent.

    Attributes:
        status: Its status.
        headers: Names in lower case; without the date.
        body: The body, its chunks put together.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def error(self) -> tuple[int, str]:
        """The status and the identifier of an error in Localful's shape."""
        assert self.headers["content-type"] == "application/json"
        found = re.search(rb'"identifier":"([a-z-]+)"', self.body)
        assert found is not None
        return self.status, found[1].decode()


class CutOffError(Exception):
    """The connection has ended, and the answer not."""


@define(eq=False)
class Client:
    """One client.

    Attributes:
        sock: The server's end.
        received: What was received and not understood yet.
    """

    sock: FakeSocket
    received: bytearray = Factory(bytearray)

    async def send(self, *data: bytes) -> None:
        """Send pieces, and let the server see each."""
        for piece in data:
            self.sock.feed(piece)
            await trio.testing.wait_all_tasks_blocked()

    async def receive(self) -> bool:
        """Receive something; False at the end."""
        sock = self.sock
        with trio.fail_after(PATIENCE):
            while not sock.sent and sock.number != -1 and not sock.shut:
                await sock.poller.wait_for_change()
        self.received += sock.sent
        taken = len(sock.sent)
        sock.sent.clear()
        sock.make_room(taken)
        return taken > 0

    async def answer(self, method: str = "GET") -> Answer:
        """The next answer.

        Raises:
            CutOffError: If there is none, or not all of it.
        """
        head = (await self._until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, status = head[0].split(" ")[:2]
        assert version == "HTTP/1.1"
        pairs = [line.split(": ", 1) for line in head[1:-2]]
        headers = {name.lower(): value for name, value in pairs}
        assert len(headers) == len(pairs)
        body = b""
        if status != "100":
            assert headers.pop("date").endswith(" GMT")
        if method == "HEAD" or status in ("100", "204", "304"):
            pass
        elif headers.get("transfer-encoding") == "chunked":
            while size := int(await self._until(b"\r\n"), 16):
                body += (await self._take(size + 2))[:-2]
            await self._until(b"\r\n")
        elif "content-length" in headers:
            body = await self._take(int(headers["content-length"]))
        else:
            body = await self.rest()
        return Answer(int(status), headers, body)

    async def rest(self) -> bytes:
        """All that comes until the server sends no more."""
        while await self.receive():
            pass
        rest = bytes(self.received)
        self.received.clear()
        return rest

    async def until_closed(self) -> float:
        """Wait until the server has closed the connection, having sent nothing more; returns when."""
        assert await self.rest() == b""
        with trio.fail_after(PATIENCE):
            while self.sock.number != -1:
                await self.sock.poller.wait_for_change()
        return trio.current_time()

    async def until_refused(self, status: int, identifier: str) -> None:
        """See that the client is told so, and that its connection ends."""
        answer = await self.answer()
        assert answer.error() == (status, identifier)
        assert answer.headers["connection"] == "close"
        await self.until_closed()

    async def _until(self, end: bytes) -> bytes:
        while (found := self.received.find(end)) == -1:
            if not await self.receive():
                raise CutOffError(await self.rest())
        return await self._take(found + len(end))

    async def _take(self, size: int) -> bytes:
        while len(self.received) < size:
            if not await self.receive():
                raise CutOffError(await self.rest())
        taken = bytes(self.received[:size])
        del self.received[:size]
        return taken


@define(eq=False)
class Serving:
    """A server, and who connects to it.

    Attributes:
        server: The server.
        nursery: Where connections are served.
        poller: What their sockets belong to.
    """

    server: HttpServer
    nursery: trio.Nursery
    poller: FakePoller = Factory(FakePoller)

    async def connect(self, *data: bytes, window: int = ENDLESS) -> Client:
        """Connect and send something; the kernel takes no more than a window of what nobody receives."""
        peer, near = fake_pair(self.poller, window)
        self.nursery.start_soon(self.server.serve_stream, near)
        client = Client(peer.sock)
        await trio.testing.wait_all_tasks_blocked()
        await client.send(*data)
        return client


@asynccontextmanager
async def open_server(
    app: ASGIApp, *, max_connections: int = 128, times: HttpTimes | None = None
) -> AsyncIterator[Serving]:
    """Serve an application for the length of the block, on a virtual clock. In the end no socket is left."""
    async with trio.open_nursery() as nursery:
        serving = Serving(HttpServer(app, max_connections=max_connections, times=times), nursery)
        nursery.start_soon(serving.server.keep_time)
        yield serving
        nursery.cancel_scope.cancel()
    assert serving.poller.open_sockets() == []


@asynccontextmanager
async def open_client(
    app: ASGIApp, *data: bytes, window: int = ENDLESS, times: HttpTimes | None = None
) -> AsyncIterator[Client]:
    """The same with one client, which has sent something."""
    async with open_server(app, times=times) as serving:
        yield await serving.connect(*data, window=window)


async def respond(send: Send, body: bytes = b"", *, status: int = 200) -> None:
    """Answer."""
    await send(start(status))
    await send(part(body))


async def receive_body(receive: Receive) -> bytes | None:
    """All of a body; None if the client is gone before its end."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message["body"]
        if not message["more_body"]:
            return bytes(body)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the method, the path, and the body."""
    body = await receive_body(receive)
    if body is not None:
        await respond(send, f"{scope['method']} {scope['path']} ".encode() + body)


def answering(act: Callable[[Send], Awaitable[object]]) -> ASGIApp:
    """An application that asks for nothing."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await act(send)

    return app


def giving(*messages: Message, error: Callable[[], Exception] | None = None) -> ASGIApp:
    """An application that asks for nothing, sends this, and fails then if there is an error."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        if error is not None:
            raise error()

    return app


@define
class Gate:
    """An application that answers once it is told to.

    Attributes:
        begun: How many requests have come.
        go_on: Tells it.
    """

    begun: int = 0
    go_on: trio.Event = Factory(trio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.begun += 1
        await self.go_on.wait()
        await echo(scope, receive, send)


@define
class Watch:
    """An application that goes on answering until its client is gone, as the console's watch does.

    Attributes:
        gone_at: When clients were gone.
        wake: Has it send another line.
        is_over: Whether it ends the answer instead.
    """

    gone_at: list[float] = Factory(list)
    wake: trio.Event = Factory(trio.Event)
    is_over: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/watch":
            await echo(scope, receive, send)
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._cancel_when_gone, receive, nursery.cancel_scope)
            await send(start())
            while not self.is_over:
                await send(part(b"line", more=True))
                await self.wake.wait()
                self.wake = trio.Event()
            await send(part())
            nursery.cancel_scope.cancel()

    def next(self, *, is_last: bool = False) -> None:
        """Go on."""
        self.is_over = is_last
        self.wake.set()

    async def _cancel_when_gone(self, receive: Receive, scope: trio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.gone_at.append(trio.current_time())
        scope.cancel()


def part(body: bytes = b"", *, more: bool = False) -> Message:
    """A part of a body."""
    return {"type": "http.response.body", "body": body, "more_body": more}


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> Message:
    """The start of an answer."""
    return {"type": "http.response.start", "status": status, "headers": list(headers)}
