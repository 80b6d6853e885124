"""The client's WebSocket on both event loops, over loopback sockets, against servers of all kinds."""

import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute

from localful_ws.client import (
    ClosedByServerError,
    Disconnected,
    NoAnswerError,
    ReceivedEvent,
    RefusedByServerError,
    SnapshotNeeded,
    Timeouts,
)
from localful_ws.client.endpoint import open_stream, parse_endpoint
from localful_ws.client.websocket import WebSocketClosedError, open_websocket
from localful_ws.protocol import CloseCode, close_frame, ping_frame, text_frame
from tests.client.loopback import Handler, Peer, answering, sending, serving, stay

pytestmark = pytest.mark.sockets

EVENT = '{"event":"item-create","vault":"v1","data":"ü€","cursor":"c1"}'.encode()
RECEIVED = ReceivedEvent("item-create", "v1", "ü€", "c1")
NO_SERVER = "There is no connection: no WebSocket server answered."
CHUNKED = b"""HTTP/1.1 401 No\r
Transfer-Encoding: chunked\r
\r
9\r
{"message\r
5\r
":"No\r
3\r
."}\r
0\r
\r
"""
FULL = "The server answered the WebSocket handshake with HTTP 503."
TOO_SLOW = "There is no connection: the server did not answer in time."


def run(backend: str, main: Callable[[], Awaitable[None]]) -> None:
    anyio.run(main, backend=backend)


def frame(payload: bytes, opcode: int = 1, *, fin: bool = True) -> bytes:
    """An unmasked frame of less than 126 bytes."""
    return bytes([opcode | 0x80 * fin, len(payload)]) + payload


async def reset(peer: Peer) -> None:
    """Authenticate the client, and end with a reset."""
    await peer.authenticate()
    raw = peer.stream.extra(SocketAttribute.raw_socket)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await peer.stream.aclose()


async def half_close(peer: Peer) -> None:
    """Authenticate the client, say that nothing more comes, and go on reading."""
    await peer.authenticate()
    await peer.stream.send_eof()
    await peer.wait_closed()


async def hang_up(peer: Peer) -> None:
    """Hang up at once."""


@pytest.mark.parametrize(
    "frames",
    [
        [text_frame(EVENT)],
        [bytes([byte]) for byte in text_frame(EVENT)],
        [frame(EVENT[:20], fin=False), ping_frame(b"in between"), frame(EVENT[20:], 0)],
        # In the middle of a character, and with an empty part.
        [frame(EVENT[:44], fin=False), frame(b"", 0, fin=False), frame(EVENT[44:], 0)],
        [ping_frame(b"") + ping_frame(b"x" * 125) + frame(b"nobody asked", 10) + text_frame(EVENT)],
    ],
    ids=["whole", "byte by byte", "parts", "cut character", "control frames"],
)
def test_messages_arrive_whole(backend: str, frames: list[bytes]) -> None:
    async def main() -> None:
        async with serving(sending(*frames)) as server, server.client() as client:
            assert [await anext(client) for _ in range(2)] == [SnapshotNeeded("c0"), RECEIVED]
            assert client.cursor == "c1"

    run(backend, main)


def test_pings_are_answered_and_sent(backend: str) -> None:
    async def main() -> None:
        pongs: list[bytes] = []

        async def handler(peer: Peer) -> None:
            await peer.authenticate()
            await peer.stream.send(ping_frame(b"are you there?"))
            pongs.append((await peer.event()).payload)  # type: ignore[attr-defined]
            # It is pinged as well, and has to say something in return.
            for _ in range(3):
                ping = await peer.event()
                await peer.say(ping.response())  # type: ignore[attr-defined]
            await peer.stream.send(text_frame(EVENT))
            await peer.wait_closed()

        often = Timeouts(close=0.3, ping_interval=0.02)
        async with serving(handler) as server, server.client(timeouts=often) as client:
            assert [await anext(client) for _ in range(2)] == [SnapshotNeeded("c0"), RECEIVED]
        assert pongs == [b"are you there?"]

    run(backend, main)


@pytest.mark.parametrize(
    ("frames", "code", "reason", "message"),
    [
        ([b"\xff" * 8], 1002, "protocol-error", "The server sent what is no WebSocket frame."),
        ([frame(b"\xff")], 1007, "invalid-text", "The server sent what is no WebSocket frame."),
        ([frame(b"x", 9, fin=False)], 1002, "protocol-error", "The server sent what is no WebSocket frame."),
        ([frame(b"x", 0)], 1002, "protocol-error", "The server sent what is no WebSocket frame."),
        ([close_frame(4403, "forbidden")], 4403, "forbidden", "The server closed the connection."),
        (
            # A close that asks for more than 999 bytes, in parts of which none does.
            [frame(b"x" * 100, fin=False), *[frame(b"y" * 100, 0, fin=False)] * 12],
            1009,
            "message-too-big",
            "The server sent a message of more than 1000 bytes.",
        ),
        (
            [bytes([0x81, 127]) + (2**40).to_bytes(8, "big") + b"x" * 2000],
            1009,
            "message-too-big",
            "The server sent a message of more than 1000 bytes.",
        ),
    ],
    ids=["garbage", "not UTF-8", "ping in parts", "part of nothing", "close", "many parts", "a terabyte"],
)
def test_what_ends_it_for_good(
    backend: str, frames: list[bytes], code: int, reason: str, message: str
) -> None:
    async def main() -> None:
        async with serving(sending(text_frame(EVENT), *frames)) as server:
            async with server.client(max_message_bytes=1000) as client:
                assert [await anext(client) for _ in range(2)] == [SnapshotNeeded("c0"), RECEIVED]
                with pytest.raises(ClosedByServerError) as caught:
                    await anext(client)
            ended = caught.value
            assert (ended.code, ended.reason, ended.message) == (code, reason, message)
            await server.peers[0].over.wait()
            closed = server.peers[0].closed
            assert closed is not None
            assert (closed.code, closed.reason) == (code, reason)

    run(backend, main)


@pytest.mark.parametrize(
    ("handler", "code", "message"),
    [
        (reset, 1006, "The connection broke."),
        (half_close, 1006, "The connection broke."),
        (sending(frame(b"", 8)), 1005, "The server closed the connection."),
        (sending(close_frame(4412, "slow-consumer")), 4412, "The server closed the connection."),
        (hang_up, None, NO_SERVER),
        (answering(b"220 mail.test ESMTP\r\n\r\n"), None, NO_SERVER),
        (answering(b"HTTP/1.1 101 Hi\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"), None, NO_SERVER),
        (answering(b"HTTP/1.1 101 Hi\r\nUpgrade: \xff\r\nConnection: \xff\r\n\r\n"), None, NO_SERVER),
        (answering(b"HTTP/1.1 200 " + b"x" * 100_000), None, NO_SERVER),
        (answering(b""), None, TOO_SLOW),
        (answering(b"HTTP/1.1 503 Full\r\n\r\n"), None, FULL),
    ],
    ids=[
        "reset", "half-closed", "close without a code", "slow consumer", "hangs up", "mail", "no accept",
        "not ASCII", "endless head", "silent", "refused",
    ],
)  # fmt: skip
def test_what_it_comes_back_from(backend: str, handler: Handler, code: int | None, message: str) -> None:
    async def main() -> None:
        async with serving(handler, stay) as server:
            async with server.client() as client:
                disconnected = await server.told(Disconnected)
                await client.wait_ready()
            assert (disconnected.code, disconnected.message) == (code, message)
            assert len(server.peers) == 2

    run(backend, main)


@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        (b'HTTP/1.1 404 No\r\nContent-Length: 19\r\n\r\n{"message":"Gone."}', 404, "Gone."),
        (CHUNKED, 401, "No."),
        (b"HTTP/1.1 400 No\r\nContent-Length: 99999\r\n\r\n{" + b"x" * 50_000, 400, "HTTP 400"),
        (b"HTTP/1.1 301 There\r\nLocation: /v2\r\n\r\n", 301, "HTTP 301"),
        (b"HTTP/1.0 200 OK\r\n\r\n<html>", 200, "HTTP 200"),
    ],
    ids=["length", "chunks", "endless", "moved", "a page"],
)
def test_a_refused_handshake_says_why(backend: str, answer: bytes, status: int, message: str) -> None:
    async def handler(peer: Peer) -> None:
        await peer.stream.receive()
        # In two parts, as the network may have it.
        await peer.stream.send(answer[:30])
        await anyio.sleep(0.01)
        await peer.stream.send(answer[30:])

    async def main() -> None:
        async with serving(handler) as server, server.client(timeouts=Timeouts()) as client:
            with pytest.raises(RefusedByServerError, match=message) as caught:
                await anext(client)
        assert caught.value.status == status

    run(backend, main)


def test_the_rest_of_a_refusal_is_not_waited_for_long(backend: str) -> None:
    async def main() -> None:
        endless = answering(b"HTTP/1.1 403 No\r\nContent-Length: 99\r\n\r\n{")
        async with serving(endless) as server, server.client(timeouts=Timeouts()) as client:
            with pytest.raises(RefusedByServerError, match="HTTP 403"):
                await anext(client)

    run(backend, main)


async def deaf(peer: Peer) -> None:
    """Authenticate the client, and read nothing more."""
    await peer.authenticate()
    await anyio.sleep_forever()


@pytest.mark.parametrize("count", [1, 100_000], ids=["the socket takes it", "in the middle of a send"])
def test_a_server_that_reads_nothing_is_left_in_bounded_time(backend: str, count: int) -> None:
    async def main() -> None:
        vaults = [f"{number:0100}" for number in range(count)]
        async with serving(deaf) as server, server.client() as client:
            await client.wait_ready()
            with pytest.raises(NoAnswerError):
                await client.subscribe(vaults)
            leaving = anyio.current_time()
        assert 0.25 < anyio.current_time() - leaving < 5

    run(backend, main)


def test_a_block_that_is_cancelled_in_the_middle_of_a_send_ends_at_once(backend: str) -> None:
    async def main() -> None:
        async with serving(deaf) as server:
            with anyio.move_on_after(0.2) as scope:
                async with server.client(timeouts=Timeouts(close=10)) as client:
                    await client.wait_ready()
                    await client.subscribe([f"{number:0100}" for number in range(100_000)])
            assert scope.cancelled_caught
            assert anyio.current_time() - scope.deadline < 5

    run(backend, main)


class Stuck(ByteStream):
    """A stream that may get stuck in the middle of a send."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream
        self.is_stuck = False
        self.sends = 0

    async def receive(self, max_bytes: int = 65536) -> bytes:
        return await self.stream.receive(max_bytes)

    async def send(self, item: bytes) -> None:
        self.sends += 1
        if self.is_stuck:
            await self.stream.send(item[:3])
            await anyio.sleep_forever()
        await self.stream.send(item)

    async def send_eof(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        await self.stream.aclose()


def test_nothing_follows_half_a_frame(backend: str) -> None:
    async def accept(peer: Peer) -> None:
        await peer.accept()
        await anyio.sleep_forever()

    async def main() -> None:
        async with serving(accept) as server:
            endpoint = parse_endpoint(server.url)
            stream = Stuck(await open_stream(endpoint))

            async def stuck_stream() -> ByteStream:
                return stream

            websocket = await open_websocket(
                endpoint, stuck_stream, connect_timeout=5, close_timeout=0.1, max_message_bytes=1000
            )
            # Cancelled before it begins, a send does no harm.
            with anyio.CancelScope() as scope:
                scope.cancel()
                await websocket.send("nothing of this")
            await websocket.send("all of this")
            assert stream.sends == 2
            stream.is_stuck = True
            with anyio.move_on_after(0.05):
                await websocket.send("some of this")
            stream.is_stuck = False
            with pytest.raises(WebSocketClosedError):
                await websocket.send("nothing of this")
            await websocket.say_goodbye(CloseCode.NORMAL)
            assert stream.sends == 3
            await websocket.drop()

    run(backend, main)


def test_leaving_says_goodbye(backend: str) -> None:
    async def main() -> None:
        async with serving(stay) as server:
            async with server.client(timeouts=Timeouts()) as client:
                await client.wait_ready()
            closed = server.peers[0].closed
        assert closed is not None
        assert (closed.code, closed.reason) == (1000, "normal")

    run(backend, main)


def test_a_server_that_answers_goodbye_with_more_events_is_not_waited_for_long(backend: str) -> None:
    async def chat(peer: Peer) -> None:
        await peer.authenticate()
        with suppress(anyio.BrokenResourceError):
            while True:
                await peer.stream.send(text_frame(EVENT) + ping_frame(b""))
                await anyio.sleep(0.01)

    async def main() -> None:
        async with serving(chat) as server:
            async with server.client() as client:
                await client.wait_ready()
                leaving = anyio.current_time()
            assert 0.25 < anyio.current_time() - leaving < 5

    run(backend, main)
