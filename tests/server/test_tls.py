"""TLS on a stream of ours, with somebody else's TLS at the other end."""

import gc
import ssl
from collections.abc import AsyncIterator

import pytest
import trio
from attrs import define
from trio.testing import MockClock

from localful_ws.server.tls import TlsStream
from tests.server.sockets import ENDLESS, FakePoller, FakeSocket, PeerStream, fake_pair
from tests.server.tls import device_side, server_side


@define(eq=False)
class Ends:
    """Both ends of a connection.

    Attributes:
        peer: The device's end, below TLS.
        device: The device's end.
        server: The server's end.
        sock: The server's socket.
    """

    peer: PeerStream
    device: trio.SSLStream[trio.abc.Stream]
    server: TlsStream
    sock: FakeSocket


def connect(window: int = ENDLESS) -> Ends:
    peer, far = fake_pair(FakePoller(), window)
    return Ends(peer, device_side(peer), server_side(far), peer.sock)


@pytest.fixture
async def ends(autojump_clock: MockClock) -> AsyncIterator[Ends]:
    """A connection that is encrypted."""
    ends = connect(window=20_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends.device.do_handshake)
        nursery.start_soon(ends.server.do_handshake)
    yield ends
    await ends.server.aclose()


async def receive(stream: trio.abc.ReceiveStream, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        data = await stream.receive_some(4096)
        assert 0 < len(data) <= 4096
        received += data
    return bytes(received)


@pytest.mark.parametrize("size", [1, 4096, 16384, 100_000])
async def test_both_ways_at_once(ends: Ends, size: int) -> None:
    up, down = b"u" * size, b"d" * size
    got: dict[str, bytes] = {}

    async def take(name: str, stream: trio.abc.ReceiveStream) -> None:
        got[name] = await receive(stream, size)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, "up", ends.server)
        nursery.start_soon(take, "down", ends.device)
        nursery.start_soon(ends.server.send_all, down)
        nursery.start_soon(ends.device.send_all, up)
    assert got == {"up": up, "down": down}


@pytest.mark.parametrize("again", range(10))  # it depends on who comes first
async def test_it_receives_while_nothing_that_it_sends_is_read(ends: Ends, again: int) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends.server.send_all, b"x" * 1_000_000)
        for _ in range(3):
            await ends.device.send_all(b"up")
            assert await ends.server.receive_some() == b"up"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["with a word", "without"])
async def test_the_end(ends: Ends, how: str) -> None:
    await ends.device.send_all(b"last")
    if how == "with a word":
        await ends.device.aclose()
    else:
        await ends.peer.aclose()
    assert await ends.server.receive_some() == b"last"
    assert await ends.server.receive_some() == b""
    assert await ends.server.receive_some() == b""


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b""])
async def test_what_is_no_tls(autojump_clock: MockClock, sent: bytes) -> None:
    ends = connect()
    ends.sock.feed(sent)
    ends.sock.end()
    with pytest.raises(trio.BrokenResourceError):
        await ends.server.do_handshake()
    await ends.server.aclose()


async def test_a_record_that_was_tampered_with(ends: Ends) -> None:
    await ends.device.send_all(b"secret")
    ends.sock.incoming[-1] ^= 1
    with pytest.raises(trio.BrokenResourceError):
        await ends.server.receive_some()


async def test_a_connection_that_breaks(ends: Ends) -> None:
    ends.sock.break_off()
    with pytest.raises(trio.BrokenResourceError):
        await ends.server.receive_some()
    with pytest.raises(trio.BrokenResourceError):
        await ends.server.send_all(b"x")


async def test_it_is_closed_while_somebody_waits(ends: Ends) -> None:
    async def wait() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await ends.server.receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        ends.server.close(at_once=True)
    assert (ends.sock.closings, ends.sock.lingers) == (1, False)
    with pytest.raises(trio.ClosedResourceError):
        await ends.server.send_all(b"x")


@pytest.mark.usefixtures("no_garbage_collector")
async def test_nothing_of_it_is_left_to_the_garbage_collector(autojump_clock: MockClock) -> None:
    peer, far = fake_pair(FakePoller())
    server = server_side(far)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.send_all, b"no TLS")
        with pytest.raises(trio.BrokenResourceError):
            await server.do_handshake()
    await server.aclose()
    del server, far
    assert [each for each in gc.get_objects() if isinstance(each, TlsStream | ssl.SSLObject)] == []
