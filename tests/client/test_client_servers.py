"""The client on Trio, and servers that misbehave, refuse or are something else."""

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from localful_ws.client import (
    ClosedByServerError,
    Disconnected,
    RefusedByServerError,
    ServerMessageError,
)
from tests.client.scripted_server import SESSION, Peer, ScriptedServer, next_event
from tests.client.scripts import rejecting, sending, stay


async def test_a_frame_that_is_none_ends_it(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    async def garble(peer: Peer) -> None:
        await peer.authenticate()
        await peer.stream.send_all(b"\xff" * 8)
        await peer.wait_closed()

    server = ScriptedServer(nursery, [garble])
    async with server.client() as client:
        with pytest.raises(ClosedByServerError) as caught:
            await next_event(client)
    assert (caught.value.code, trio.current_time()) == (1002, 0)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"220 mail.test ESMTP\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x0a",
        b"HTTP/1.1 101 Hi\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n",
    ],
    ids=["hangs up", "mail", "tls", "wrong accept"],
)
async def test_what_is_no_websocket_server_is_tried_again(
    autojump_clock: MockClock, nursery: trio.Nursery, answer: bytes
) -> None:
    server = ScriptedServer(nursery, [stay])
    began = trio.current_time()

    async def open_stream() -> trio.abc.Stream:
        if server.statuses:
            return await server.open_stream()
        near, far = trio.testing.memory_stream_pair()
        if answer:
            await far.send_all(answer)
        else:
            await far.aclose()
        return near

    async with server.client(open_stream=open_stream) as client:
        assert await client.wait_ready() == SESSION
    no_server = "There is no connection: no WebSocket server answered."
    assert server.statuses[0] == Disconnected(None, "", no_server, 1.0)
    assert server.attempts == [began + 1]


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_a_refused_handshake_ends_it(
    autojump_clock: MockClock, nursery: trio.Nursery, status: int
) -> None:
    server = ScriptedServer(nursery, [rejecting(status, b'{"message":"Not here."}')])
    async with server.client() as client:
        with pytest.raises(RefusedByServerError) as caught:
            await next_event(client)
    assert (caught.value.status, caught.value.message) == (status, "Not here.")


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_server_that_is_full_is_tried_again(
    autojump_clock: MockClock, nursery: trio.Nursery, status: int
) -> None:
    server = ScriptedServer(nursery, [rejecting(status), stay])
    async with server.client() as client:
        await client.wait_ready()
    assert server.attempts == [0, 5]


@pytest.mark.parametrize(
    "text",
    ["nonsense", "[]", b"bytes", '{"event":"subscribed"}', '{"event":"item-create","vault":5,"data":1}'],
)
async def test_a_server_of_another_kind_is_left(
    autojump_clock: MockClock, nursery: trio.Nursery, text: str | bytes
) -> None:
    server = ScriptedServer(nursery, [sending(text)])
    async with server.client() as client:
        with pytest.raises(ServerMessageError, match=r"^The server sent "):
            await next_event(client)
    closed = server.peers[0].closed
    assert closed is not None
    assert closed.code == 1002


async def test_a_message_that_is_too_large_ends_it(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    server = ScriptedServer(nursery, [sending('{"event":"item-create","data":"' + "x" * 1000 + '"}')])
    async with server.client(max_message_bytes=1000) as client:
        with pytest.raises(ClosedByServerError) as caught:
            await next_event(client)
    assert caught.value.code == 1009
