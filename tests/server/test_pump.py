"""Devices that a task pushes: on streams in memory, and that take what a test says; under TLS; on sockets."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from localful_ws.protocol import CloseCode, Session, text_frame
from localful_ws.server import node as node_module
from localful_ws.server.device import Device
from localful_ws.server.pump import StreamPump
from localful_ws.server.send_buffer import piece_of
from localful_ws.server.websocket import Phase
from localful_ws.tcp import TcpStream, close_socket
from tests.raw_device import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    close,
    frame,
    handshake,
    parse_frames,
    text,
)
from tests.redis_world import settle
from tests.server.kernels import ENDLESS, Kernel, ScriptedStream, connected_pair
from tests.server.tls import device_side, server_side
from tests.world import STARTED, World, open_world

LIMIT = 1024
FIRST, SECOND, THIRD = (text_frame(letter * 100) for letter in (b"1", b"2", b"3"))

# --- what comes ---


async def converse(*chunks: bytes) -> tuple[bytes, dict[str, int]]:
    """Send each chunk when the one before has been dealt with, then hang up; returns what came of it."""
    async with open_world(max_message_bytes=LIMIT) as world:
        begun = handshake(f"Authorization: Bearer {world.token()}")
        device = await world.raw(begun + chunks[0])
        for chunk in chunks[1:]:
            await device.say(chunk)
        await device.stream.aclose()
        await settle()
        assert world.node.devices() == ()
        cursor = device.messages[0]["cursor"].encode() if device.messages else b""
        return bytes(device.received).replace(cursor, b""), world.closes()


def in_pieces(message: bytes, opcode: int, cuts: list[int]) -> bytes:
    """A message in frames."""
    bounds = [0, *sorted(cut % (len(message) + 1) for cut in cuts), len(message)]
    frames = [
        frame(CONTINUATION if index else opcode, message[start:end], final=index == len(bounds) - 2)
        for index, (start, end) in enumerate(pairwise(bounds))
    ]
    return b"".join(frames)


subscribes = st.text(max_size=20).map(lambda vault: b'{"vaults":["x%s"]}' % vault.encode().hex().encode())
texts = st.one_of(subscribes, subscribes, st.text(max_size=60).map(str.encode))
cuts = st.lists(st.integers(0, 1000), max_size=4)
masks = st.binary(min_size=4, max_size=4)
conversation = st.lists(
    st.one_of(
        st.builds(lambda payload, mask: frame(TEXT, payload, mask=mask), texts, masks),
        st.builds(in_pieces, texts, st.just(TEXT), cuts),
        st.builds(in_pieces, st.binary(max_size=150), st.just(BINARY), cuts),
        st.builds(frame, st.sampled_from([PING, PONG]), st.binary(max_size=125)),
        st.builds(in_pieces, st.integers(LIMIT - 2, LIMIT + 200).map(b"x".__mul__), st.just(TEXT), cuts),
        st.builds(frame, st.just(CLOSE), st.binary(max_size=20)),
        st.builds(close, st.sampled_from([1000, 1001, 4000]), st.text(max_size=20).map(str.encode)),
        st.binary(min_size=1, max_size=100),
    ),
    max_size=5,
).map(b"".join)


async def check_splits(sent: bytes, where: list[int]) -> None:
    whole = await converse(b"", sent)
    bounds = [0, *sorted(cut % (len(sent) + 1) for cut in where), len(sent)]
    chunks = [sent[start:end] for start, end in pairwise(bounds)]
    assert await converse(b"", *chunks) == whole
    assert await converse(sent) == whole


@given(sent=conversation, where=st.lists(st.integers(0, 3000), max_size=8))
@settings(max_examples=60, deadline=None)
def test_any_split_of_the_same_bytes_gives_the_same(sent: bytes, where: list[int]) -> None:
    trio.run(check_splits, sent, where, clock=MockClock(autojump_threshold=0))


@given(vaults=st.lists(st.text(min_size=1, max_size=20), max_size=5), where=cuts)
@settings(max_examples=30, deadline=None)
def test_what_is_sent_is_answered(vaults: list[str], where: list[int]) -> None:
    trio.run(check_answers, vaults, where, clock=MockClock(autojump_threshold=0))


async def check_answers(vaults: list[str], where: list[int]) -> None:
    async with open_world() as world:
        device = await world.raw(handshake(f"Authorization: Bearer {world.token()}"))
        for vault in vaults:
            await device.say(in_pieces(b'{"vaults":["%s"]}' % _escaped(vault), TEXT, where))
        assert [message["vaults"] for message in device.messages] == [[], *([vault] for vault in vaults)]
        await device.say(close())
        assert (device.closed, device.ended_at) == ((1000, "normal"), 0)


def _escaped(string: str) -> bytes:
    return "".join(f"\\u{unit:04x}" for unit in _utf16(string)).encode()


def _utf16(string: str) -> Sequence[int]:
    data = string.encode("utf-16-be")
    return [int.from_bytes(data[at : at + 2]) for at in range(0, len(data), 2)]


# --- what is sent ---


class Pumped:
    """An authenticated device on a scripted stream, and its pump."""

    def __init__(self, world: World, stream: trio.abc.Stream) -> None:
        node = world.node
        self.pump = StreamPump(stream, node.start_soon, node.close_timeout)
        self.device = self.pump.device = Device(node, self.pump.line, self.pump)
        node.admit(self.device)


@asynccontextmanager
async def open_pumped(room: int = 0, **changes: Any) -> AsyncIterator[tuple[World, Pumped, ScriptedStream]]:
    """A world with such a device, of which nothing is left in the end."""
    async with open_world(**changes) as world:
        kernel = Kernel()
        stream = ScriptedStream(kernel)
        pumped = Pumped(world, stream)
        await pumped.device.begin(Session("ada", "laptop", STARTED + 3600))
        await settle()
        kernel.taken.clear()
        kernel.calls, kernel.room = 0, room
        yield world, pumped, stream
        pumped.device.abort()
        await settle()
        assert stream.closed
        assert world.node.devices() == ()
        assert world.node.budget.bytes == 0


async def test_frames_go_out_whole_and_in_order(autojump_clock: MockClock) -> None:
    async with open_pumped(30) as (_, pumped, stream):
        for each in (FIRST, SECOND, THIRD):
            pumped.device.send(piece_of(each))
        await settle()
        # The first was taken as by a kernel, and is on its way.
        assert pumped.device.waiting() == (2, 204)
        assert stream.kernel.taken == FIRST[:30]
        stream.kernel.make_room(150)
        await settle()
        assert stream.kernel.taken == (FIRST + SECOND)[:180]
        assert pumped.device.waiting() == (0, 0)
        stream.kernel.make_room(ENDLESS)
        await settle()
        assert stream.kernel.taken == FIRST + SECOND + THIRD
        pumped.device.send(piece_of(FIRST))
        await settle()
        assert stream.kernel.taken == FIRST + SECOND + THIRD + FIRST


async def test_frames_that_wait_go_out_in_chunks(autojump_clock: MockClock) -> None:
    async with open_pumped() as (_, pumped, stream):
        big = text_frame(b"x" * 30_000)
        for _ in range(10):
            pumped.device.send(piece_of(big))
        stream.kernel.make_room(ENDLESS)
        await settle()
        assert stream.kernel.taken == big * 10
        assert stream.kernel.calls == 19


async def test_a_frame_longer_than_a_chunk(autojump_clock: MockClock) -> None:
    async with open_pumped(ENDLESS) as (_, pumped, stream):
        big = text_frame(b"x" * 200_000)
        pumped.device.send(piece_of(big))
        assert pumped.device.waiting() == (1, len(big) - 16384)
        await settle()
        assert stream.kernel.taken == big
        assert pumped.device.waiting() == (0, 0)


@pytest.mark.parametrize("waits", [True, False])
async def test_a_stream_that_breaks(autojump_clock: MockClock, *, waits: bool) -> None:
    async with open_pumped(10) as (world, pumped, stream):
        pumped.device.send(piece_of(FIRST))
        if waits:
            pumped.device.send(piece_of(SECOND))
        await settle()
        stream.kernel.break_down()
        await settle()
        assert (pumped.device.buffer, world.node.budget.bytes) == (None, 0)
        assert world.closes() == {}  # whoever reads is told
        pumped.device.send(piece_of(THIRD))
        await pumped.pump.run()
        assert world.closes() == {"connection-lost": 1}
        assert stream.kernel.taken == FIRST[:10]


async def test_the_last_that_is_sent_has_its_time_to_leave(autojump_clock: MockClock) -> None:
    async with open_pumped() as (world, pumped, stream):
        pumped.device.received(close())
        assert (pumped.device.phase, world.node.devices()) == (Phase.GONE, ())
        await trio.sleep(4.9)
        assert (stream.closed, bytes(stream.kernel.taken)) == (False, b"")
        stream.kernel.make_room(ENDLESS)
        await settle()
        assert stream.closed
        assert [each.opcode for each in parse_frames(bytes(stream.kernel.taken))[0]] == [CLOSE]


async def test_the_last_that_is_sent_does_not_leave(autojump_clock: MockClock) -> None:
    async with open_pumped() as (_, pumped, stream):
        pumped.device.received(close())
        await trio.sleep(4.9)
        assert (stream.closed, bytes(stream.kernel.taken)) == (False, b"")
        await trio.sleep(0.2)
        assert (stream.closed, bytes(stream.kernel.taken)) == (True, b"")


async def test_the_last_that_waits_does_not_leave(autojump_clock: MockClock) -> None:
    async with open_pumped() as (world, pumped, stream):
        pumped.device.send(piece_of(FIRST))
        pumped.device.received(close())
        assert pumped.device.phase is Phase.FINISHING
        await pumped.pump.run()  # there is nothing to be read
        await trio.sleep(4.9)
        assert (stream.closed, bytes(stream.kernel.taken)) == (False, b"")
        await trio.sleep(0.2)
        assert (stream.closed, world.node.devices()) == (True, ())
        assert world.closes() == {"device-closed": 1}


async def test_what_breaks_while_the_last_of_it_is_sent(autojump_clock: MockClock) -> None:
    async with open_pumped(10) as (world, pumped, stream):
        pumped.device.send(piece_of(FIRST))
        pumped.device.received(close())
        await settle()
        stream.kernel.break_down()
        await settle()
        assert (stream.closed, world.node.devices()) == (True, ())


@pytest.mark.parametrize("waits", [True, False])
async def test_the_node_ends_while_the_last_of_it_is_sent(autojump_clock: MockClock, *, waits: bool) -> None:
    async with open_pumped() as (world, pumped, stream):
        if waits:
            pumped.device.send(piece_of(FIRST))
        pumped.device.received(close())
        await settle()
        await world.node.drain(0)
        await settle()
        assert (stream.closed, world.node.devices()) == (True, ())
        assert world.closes() == {"device-closed": 1}


async def test_who_stalled_is_cut_off_at_once(autojump_clock: MockClock) -> None:
    async with open_pumped() as (_, pumped, stream):
        pumped.device.send(piece_of(FIRST))
        pumped.device.send(piece_of(SECOND))
        await settle()
        pumped.device.abort()
        await settle()
        assert stream.closed
        with pytest.raises(OSError, match="closed"):
            pumped.pump.send(b"x")


async def test_what_a_stream_receives_until_it_breaks(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        stream = ScriptedStream(Kernel(), text({"vaults": ["a"]}), text({"vaults": ["b"]})[:3])
        pumped = Pumped(world, stream)
        await pumped.device.begin(Session("ada", "laptop", STARTED + 3600))
        await pumped.pump.run()
        assert (pumped.device.phase, world.closes()) == (Phase.GONE, {"connection-lost": 1})
        await pumped.pump.run()
        await settle()
        assert stream.closed
        frames, _ = parse_frames(bytes(stream.kernel.taken))
        assert [b'"subscribed"' in each.payload for each in frames] == [False, True]


async def test_a_pong_that_cannot_be_sent_ends_it(autojump_clock: MockClock) -> None:
    async with open_world() as world:
        device = await world.raw(handshake(), make_pair=trio.testing.lockstep_stream_pair)
        await device.say(frame(PING, b"hello"))
        assert device.pongs() == [b"hello"]
        near = world.plug_in(trio.testing.lockstep_stream_pair)
        await near.send_all(handshake())
        while b"\r\n\r\n" not in await near.receive_some(1000):
            pass
        await near.send_all(frame(PING, b"hello"))
        await settle()
        assert len(tuple(world.node.devices())) == 2
        await near.aclose()
        await settle()
        assert len(tuple(world.node.devices())) == 1
        assert world.closes() == {"connection-lost": 1}


# --- on sockets, where there is no epoll ---


async def read_until(stream: TcpStream, end: bytes, received: bytearray) -> None:
    while not received.endswith(end):
        data = await stream.receive_some(65536)
        assert data, "it ended too early"
        received += data


async def read_until_reset(stream: trio.abc.Stream) -> None:
    with pytest.raises(trio.BrokenResourceError):
        await _read_to_the_end(stream)


async def _read_to_the_end(stream: trio.abc.Stream) -> None:
    while await stream.receive_some(65536):
        pass


@asynccontextmanager
async def open_socket_world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """A world without epoll, in real time, whose devices have all gone in the end."""
    monkeypatch.setattr(node_module, "system_poller", lambda: None)
    with trio.fail_after(20):
        async with open_world(ping_interval=1000) as world:
            assert world.node.parking is None
            yield world
            while world.node.devices():
                await trio.lowlevel.checkpoint()
            assert world.node.budget.bytes == 0


async def open_device(world: World, near: trio.abc.Stream, far: trio.abc.Stream) -> Device:
    """Connect and authenticate the only device, and read its `authenticated`."""
    world.connections.start_soon(world.node.serve_stream, far)
    await near.send_all(handshake(f"Authorization: Bearer {world.token()}"))
    received = bytearray()
    while b'"cursor":' not in received or not received.endswith(b"}"):
        received += await near.receive_some(65536)
    (device,) = world.node.devices()
    return device


@pytest.mark.sockets
async def test_frames_arrive_whole_and_in_order_on_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_socket_world(monkeypatch) as world:
        far, near = connected_pair()
        device, received = await open_device(world, near, far), bytearray()
        frames = [text_frame(b"%d " % number + b"x" * (number * 37 % 3000)) for number in range(300)]
        async with near:
            for each in frames:
                device.send(piece_of(each))
            assert device.waiting()[1] > 100_000
            await read_until(near, frames[-1], received)
            assert received == b"".join(frames)
            await near.send_all(close())
            await read_until(near, b"normal", received)
            assert await near.receive_some() == b""
            assert (world.node.devices(), world.closes()) == ((), {"device-closed": 1})


@pytest.mark.sockets
async def test_who_sends_nonsense_on_a_socket_sees_the_close(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_socket_world(monkeypatch) as world:
        far, near = connected_pair()
        device, received = await open_device(world, near, far), bytearray()
        async with near:
            await near.send_all(frame(TEXT, mask=None) + b"\0" * 10_000)
            await read_until(near, b"protocol-error", received)
            assert await near.receive_some() == b""  # and no reset
            assert device.phase is Phase.DISCARDING
        assert world.closes() == {"protocol-error": 1}


@pytest.mark.sockets
async def test_a_peer_that_does_not_read_on_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_socket_world(monkeypatch) as world:
        far, near = connected_pair()
        device, received = await open_device(world, near, far), bytearray()
        async with near:
            big = piece_of(text_frame(b"x" * 60_000))
            while device.phase is Phase.OPEN:
                device.send(big)
            assert device.waiting()[1] < 61_000
            await read_until(near, b"slow-consumer", received)
            frames, rest = parse_frames(bytes(received))
            assert rest == b""
            assert {each.payload for each in frames[:-1]} == {b"x" * 60_000}
            device.abort()
            assert await near.receive_some() == b""
        assert world.closes() == {"slow-consumer": 1}


@pytest.mark.sockets
async def test_a_peer_that_resets_a_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_socket_world(monkeypatch) as world:
        far, near = connected_pair()
        device = await open_device(world, near, far)
        device.send(piece_of(text_frame(b"x" * 1_000_000)))
        assert device.buffer is not None
        close_socket(near.socket, at_once=True)
        while world.node.devices():
            await trio.lowlevel.checkpoint()
        assert world.closes() == {"connection-lost": 1}


@pytest.mark.sockets
async def test_the_node_drops_a_socket_that_stalls(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_socket_world(monkeypatch) as world:
        far, near = connected_pair()
        device = await open_device(world, near, far)
        async with near:
            device.send(piece_of(text_frame(b"x" * 1_000_000)))
            device.close(CloseCode.FORBIDDEN)
            device.abort()
            assert world.node.devices() == ()
            await read_until_reset(near)
        assert world.closes() == {"forbidden": 1}


@pytest.mark.sockets
@pytest.mark.parametrize("way", ["answer", "lost", "stalled"])
async def test_tls_on_a_socket(monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    async with open_socket_world(monkeypatch) as world:
        far, tcp = connected_pair()
        near = device_side(tcp)
        device = await open_device(world, near, server_side(far))
        async with tcp:
            match way:
                case "answer":
                    await near.send_all(close())
                    assert await near.receive_some() == b"\x88\x08\x03\xe8normal"
                    assert await near.receive_some() == b""
                case "lost":
                    await tcp.aclose()
                case _:
                    device.send(piece_of(text_frame(b"x" * 1_000_000)))
                    assert device.buffer is not None
                    await wait_all_tasks_blocked()
                    device.abort()
                    await read_until_reset(near)
    assert sum(world.closes().values()) == 1
