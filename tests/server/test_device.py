"""A device on a line that takes what a test says: what is sent, what waits, and how it ends."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from attrs import Factory, define
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from localful_ws.protocol import (
    BinaryReceived,
    CloseCode,
    CloseReceived,
    Malformed,
    PingReceived,
    Session,
    State,
    TextReceived,
    ping_frame,
    text_frame,
)
from localful_ws.server.device import Device
from localful_ws.server.send_buffer import Piece, piece_of
from localful_ws.server.websocket import Phase, WebSocket
from tests.raw_device import CLOSE, PING, PONG, TEXT, ServerFrame, close, frame, parse_frames, text
from tests.server.kernels import ENDLESS, Kernel
from tests.server.verifiers import slow_verifier
from tests.world import STARTED, World, open_world

FIRST, SECOND, THIRD = (text_frame(letter * 100) for letter in (b"1", b"2", b"3"))
MIB = 1 << 20


@define(eq=False)
class StubPump:
    """Notes what a device asks of whoever pushes it.

    Attributes:
        looked: What the device read, and whether something waited, when it was to be looked at again.
        stopped: How often there was nothing more to send.
        closed: With what haste the connection was to be closed, each time.
    """

    looked: list[tuple[bool, bool]] = Factory(list)
    stopped: int = 0
    closed: list[bool] = Factory(list)

    def interest_changed(self, device: WebSocket) -> None:
        self.looked.append((device.reading, device.buffer is not None))

    def stop_sending(self, device: WebSocket) -> None:
        self.stopped += 1

    def close(self, device: WebSocket, *, at_once: bool) -> None:
        self.closed.append(at_once)


@define(eq=False)
class Pushed:
    """A device, and both ends of its line.

    Attributes:
        device: The device.
        kernel: What it sends to.
        pump: Whom it asks.
    """

    device: Device
    kernel: Kernel
    pump: StubPump

    @property
    def frames(self) -> list[ServerFrame]:
        """The whole frames that it has sent."""
        return parse_frames(bytes(self.kernel.taken))[0]

    @property
    def closed(self) -> tuple[int, str] | None:
        """Code and reason of the close frame, which is the last frame."""
        frames = self.frames
        assert CLOSE not in [each.opcode for each in frames[:-1]], "something came after a close frame"
        if not frames or frames[-1].opcode != CLOSE:
            return None
        return int.from_bytes(frames[-1].payload[:2]), frames[-1].payload[2:].decode()

    def drain(self) -> None:
        """Let the kernel take all."""
        self.kernel.room = ENDLESS
        while self.device.buffer is not None:
            self.device.writable()


def push(world: World, room: int = ENDLESS) -> Pushed:
    """A device that has yet to authenticate."""
    kernel, pump = Kernel(room), StubPump()
    device = Device(world.node, kernel, pump)
    world.node.admit(device)
    return Pushed(device, kernel, pump)


async def authenticated(world: World, user: str = "ada", room: int = ENDLESS) -> Pushed:
    """One that is, and has sent `authenticated`, which is forgotten."""
    pushed = push(world)
    await pushed.device.begin(Session(user, "laptop", STARTED + 3600))
    assert pushed.device.state is State.AUTHENTICATED
    pushed.kernel.taken.clear()
    pushed.kernel.calls = 0
    pushed.kernel.room = room
    return pushed


@asynccontextmanager
async def open_pushed(room: int = ENDLESS, **changes: Any) -> AsyncIterator[tuple[World, Pushed]]:
    """A world and an authenticated device in it, which leaves nothing behind in the end."""
    async with open_world(**changes) as world:
        pushed = await authenticated(world, room=room)
        yield world, pushed
        pushed.device.abort()
        assert world.node.devices() == ()
        assert world.node.budget.bytes == 0


# --- sending ---


async def test_what_the_kernel_takes_at_once_does_not_wait(autojump_clock: MockClock) -> None:
    async with open_pushed(send_buffer_events=1) as (world, ada):
        ada.device.send(piece_of(FIRST))
        ada.device.send_batch([piece_of(SECOND), Piece(THIRD + FIRST, (102, 204))])
        assert ada.kernel.taken == FIRST + SECOND + THIRD + FIRST
        assert (ada.kernel.calls, ada.pump.looked, ada.device.waiting()) == (2, [], (0, 0))
        assert ada.device.buffer is None
        gauges = world.node.metrics.gauges()
        assert (gauges.send_bytes, gauges.send_buffer_peak_events, gauges.send_buffer_peak_bytes) == (0, 0, 0)


async def test_what_it_does_not_take_waits(autojump_clock: MockClock) -> None:
    async with open_pushed(30) as (world, ada):
        for each in (FIRST, SECOND, THIRD):
            ada.device.send(piece_of(each))
        assert ada.kernel.taken == FIRST[:30]
        assert ada.pump.looked == [(True, True)]
        assert ada.device.waiting() == (3, 276)
        gauges = world.node.metrics.gauges()
        assert (gauges.send_buffer_peak_events, gauges.send_buffer_peak_bytes) == (3, 276)
        assert gauges.send_bytes > 306
        ada.device.writable()  # for nothing
        ada.kernel.room = 150
        ada.device.writable()
        assert ada.kernel.taken == (FIRST + SECOND)[:180]
        assert ada.device.waiting() == (2, 126)
        assert ada.pump.looked == [(True, True)]
        ada.kernel.room = ENDLESS
        ada.device.writable()
        assert ada.kernel.taken == FIRST + SECOND + THIRD
        assert ada.device.waiting() == (0, 0)
        assert ada.pump.looked == [(True, True), (True, False)]
        ada.device.writable()
        ada.device.send(piece_of(FIRST))
        assert ada.kernel.taken == FIRST + SECOND + THIRD + FIRST


async def test_many_frames_go_out_together(autojump_clock: MockClock) -> None:
    async with open_pushed(0) as (_, ada):
        for _ in range(200):
            ada.device.send(piece_of(FIRST))
        ada.drain()
        assert ada.kernel.taken == FIRST * 200
        assert ada.kernel.calls <= 1 + 200 // 64 + 1


@pytest.mark.parametrize(
    "changes", [{"send_buffer_events": 3}, {"send_buffer_bytes": 70_000}], ids=["events", "bytes"]
)
async def test_more_than_may_wait(autojump_clock: MockClock, changes: dict[str, Any]) -> None:
    big = text_frame(b"x" * 25_000)
    async with open_pushed(10, **changes) as (world, ada):
        for _ in range(3):
            ada.device.send(piece_of(big))
        assert ada.device.waiting() == (3, 3 * len(big) - 10)
        assert ada.device.state is State.AUTHENTICATED
        ada.device.send(piece_of(SECOND))
        assert (ada.device.phase, ada.device.state) == (Phase.CLOSING, State.CLOSED)
        assert world.closes() == {"slow-consumer": 1}
        assert world.node.metrics.slow_consumers == 1
        assert ada.device.waiting() == (2, len(big) - 10 + 4 + len("slow-consumer"))
        ada.drain()
        assert ada.closed == (4412, "slow-consumer")
        assert ada.kernel.taken.startswith(big)
        assert len(ada.frames) == 2


@pytest.mark.parametrize("count", [1, 1000])
async def test_a_batch_waits_whole_however_much_it_is(autojump_clock: MockClock, count: int) -> None:
    batch = [piece_of(text_frame(b"%d" % number + b"x" * 10_000)) for number in range(count)]
    async with open_pushed(0, send_buffer_events=10, send_buffer_bytes=70_000) as (world, ada):
        ada.device.send(piece_of(FIRST))
        ada.device.send_batch(batch)
        assert world.closes() == {}
        if count == 1:
            ada.device.send_batch(batch)
            assert world.closes() == {}
        else:
            ada.drain()
            assert len(ada.frames) == 1 + count
            ada.kernel.room = 0
            ada.device.send_batch(batch)
            assert world.closes() == {}
            ada.device.send_batch([piece_of(FIRST)])
            assert world.closes() == {"slow-consumer": 1}
            ada.device.send_batch(batch)
            ada.drain()
            assert ada.closed == (4412, "slow-consumer")
            assert len(ada.frames) == 2 + count


async def test_what_is_closed_is_not_closed_again_for_being_slow(autojump_clock: MockClock) -> None:
    """What it has still to get, and the close frame, are not forgotten for what it does not get any more."""
    async with open_pushed(0, send_buffer_events=1) as (world, ada):
        ada.device.send_batch([piece_of(FIRST), piece_of(SECOND)])
        ada.device.close(CloseCode.FORBIDDEN)
        ada.device.send_batch([piece_of(THIRD)])
        ada.device.send(piece_of(THIRD))
        ada.drain()
        assert ada.kernel.taken.startswith(FIRST + SECOND)
        assert (len(ada.frames), ada.closed) == (3, (4403, "forbidden"))
        assert (world.closes(), world.node.metrics.slow_consumers) == ({"forbidden": 1}, 0)


async def test_who_is_slow_while_it_closes_is_dropped(autojump_clock: MockClock) -> None:
    async with open_pushed(10, close_timeout=1000) as (world, ada):
        ada.device.send_batch([piece_of(FIRST), piece_of(SECOND)])
        ada.device.close(CloseCode.FORBIDDEN)
        await trio.sleep(30.1)
        assert (ada.pump.closed, ada.device.phase) == ([True], Phase.GONE)
        assert (world.closes(), world.node.metrics.slow_consumers) == ({"forbidden": 1}, 0)


async def test_a_close_frame_for_which_there_is_no_room(autojump_clock: MockClock) -> None:
    async with open_pushed(10, send_budget=1024) as (world, ada):
        ada.device.send(piece_of(text_frame(b"x" * 750)))
        ada.device.close(CloseCode.FORBIDDEN)
        assert (ada.pump.closed, ada.device.phase, ada.device.due) == ([True], Phase.GONE, None)
        assert world.closes() == {"forbidden": 1}


@pytest.mark.parametrize("pause", [0, 10])
async def test_what_is_first_has_30_seconds_to_leave(autojump_clock: MockClock, pause: float) -> None:
    async with open_pushed(10, ping_interval=1000) as (world, ada):
        ada.device.send_batch([piece_of(FIRST), piece_of(SECOND)])
        await trio.sleep(pause)
        if pause:
            ada.kernel.room = len(FIRST)
            ada.device.writable()
        await trio.sleep(29.9)
        assert world.closes() == {}
        await trio.sleep(0.2)
        assert world.closes() == {"slow-consumer": 1}
        ada.drain()
        assert ada.closed == (4412, "slow-consumer")
        assert [each.opcode for each in ada.frames] == [TEXT, TEXT, CLOSE][bool(not pause) :]


async def test_who_has_not_read_for_longest_makes_room_for_the_others(autojump_clock: MockClock) -> None:
    big = text_frame(b"x" * 20_000)
    async with open_pushed(10, send_budget=110_000) as (world, ada):
        bob, zoe = await authenticated(world, "bob", room=10), await authenticated(world, "zoe", room=0)
        for each in (ada, bob, zoe):
            each.device.send(piece_of(big))
            await trio.sleep(1)
        bob.device.send(piece_of(big))
        ada.device.send(piece_of(FIRST))
        ada.kernel.room = 20_100
        ada.device.writable()  # now bob is who has not read for longest
        zoe.device.send(piece_of(big))
        zoe.device.send(piece_of(big))
        assert world.closes() == {}
        zoe.device.send(piece_of(big))
        assert world.closes() == {"slow-consumer": 1}
        for each in (ada, bob, zoe):
            each.drain()
        assert [each.closed for each in (ada, bob, zoe)] == [None, (4412, "slow-consumer"), None]
        assert bob.kernel.taken.startswith(big)
        assert len(bob.frames) == 2
        assert len(zoe.frames) == 4
        for each in (bob, zoe):
            each.device.abort()


async def test_what_many_wait_for_is_kept_once(autojump_clock: MockClock) -> None:
    big = text_frame(b"x" * 60_000)
    async with open_pushed(0, send_budget=100_000) as (world, ada):
        others = [await authenticated(world, room=0) for _ in range(20)]
        shared = piece_of(big)
        for each in (ada, *others):
            each.device.send_batch([shared])
        assert world.closes() == {}
        assert world.node.budget.bytes < 61_000
        for each in others:
            each.drain()
            each.device.abort()
        assert world.node.budget.bytes > 60_000


# --- a line that is broken ---


async def test_a_connection_that_is_broken_already(autojump_clock: MockClock) -> None:
    async with open_pushed() as (world, ada):
        ada.kernel.break_down()
        ada.device.send(piece_of(FIRST))
        ada.device.send_batch([piece_of(SECOND)])
        assert (ada.device.buffer, world.closes()) == (None, {})  # whoever reads is told
        ada.device.lost()
        assert (world.closes(), ada.pump.closed) == ({"connection-lost": 1}, [False])
        assert ada.device.phase is Phase.GONE


async def test_a_connection_that_breaks_while_something_waits(autojump_clock: MockClock) -> None:
    async with open_pushed(10) as (world, ada):
        ada.device.send_batch([piece_of(FIRST), piece_of(SECOND)])
        ada.kernel.break_down()
        ada.device.writable()
        assert (ada.device.waiting(), world.node.budget.bytes) == ((0, 0), 0)
        assert ada.pump.looked[-1] == (True, False)
        ada.device.send(piece_of(THIRD))
        assert ada.kernel.taken == FIRST[:10]
        assert world.closes() == {}


@pytest.mark.parametrize("way", ["send", "close", "close_received", "malformed", "answer"])
async def test_a_line_that_fails_in_ways_it_should_not(autojump_clock: MockClock, way: str) -> None:
    async with open_pushed() as (world, ada):
        ada.kernel.failure = ZeroDivisionError()
        match way:
            case "send":
                with pytest.raises(ZeroDivisionError):
                    ada.device.send(piece_of(FIRST))
                assert (world.closes(), ada.device.phase) == ({}, Phase.OPEN)  # for the caller to decide
                return
            case "close":
                ada.device.close(CloseCode.FORBIDDEN)
                expected = "forbidden"
            case "close_received":
                ada.device.received(close())
                expected = "device-closed"
            case "malformed":
                ada.device.received(frame(TEXT, mask=None))
                expected = "protocol-error"
            case _:
                ada.device.received(text({"vaults": []}))
                expected = "internal-error"
        assert (ada.device.phase, ada.pump.closed) == (Phase.GONE, [False])
        assert world.closes() == {expected: 1}
        assert set(world.take_failures()) == {"a connection failed"}


# --- what comes ---


async def test_bytes_wait_for_a_verdict(autojump_clock: MockClock) -> None:
    async with open_world(verifier=slow_verifier(1)) as world:
        ada = push(world)
        token = world.token()
        message = text({"event": "authenticate", "token": token}) + text({"vaults": ["v"]})
        for byte in message[:-1]:
            ada.device.received(bytes([byte]))
        assert (ada.device.verifying, ada.device.reading) == (True, False)
        assert ada.frames == []
        ada.device.received(message[-1:])
        await ada.device.verify()
        assert (ada.device.verifying, ada.device.reading) == (False, True)
        assert [b'"authenticated"' in each.payload for each in ada.frames] == [True, False]
        assert ada.device.subscription == ("v",)
        assert ada.device.session == Session("ada", "laptop", STARTED + 3600, STARTED)
        assert ada.device.connected_at == STARTED
        await ada.device.verify()
        ada.device.lost()


async def test_several_tokens_one_after_the_other(autojump_clock: MockClock) -> None:
    verifier = slow_verifier(1)
    async with open_world(verifier=verifier) as world:
        ada = push(world)
        for user in ("ada", "ada", "bob", "ada"):
            ada.device.received(text({"event": "authenticate", "token": world.token(user)}))
        await ada.device.verify()
        assert (verifier.asked, world.now()) == (3, 3)
        assert ada.closed == (4403, "forbidden")
        assert len(ada.frames) == 4
        ada.device.lost()


async def test_a_device_that_goes_while_its_token_is_verified(autojump_clock: MockClock) -> None:
    async with open_world(verifier=slow_verifier(1)) as world:
        ada = push(world)
        ada.device.received(text({"event": "authenticate", "token": world.token()}))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ada.device.verify)
            await trio.sleep(0.5)
            ada.device.lost()
        assert (ada.frames, ada.pump.closed) == ([], [False])
        assert world.closes() == {"connection-lost": 1}
        assert world.node.metrics.gauges().users == 0


async def test_a_verdict_that_raises(autojump_clock: MockClock) -> None:
    async with open_world(verifier=slow_verifier(failure=RuntimeError("our own fault"))) as world:
        ada = push(world)
        ada.device.received(text({"event": "authenticate", "token": "t"}))
        await ada.device.verify()
        assert ada.closed == (1011, "internal-error")
        assert world.take_failures() == ["a connection failed"]
        ada.device.lost()


async def test_pings_and_pongs(autojump_clock: MockClock) -> None:
    async with open_pushed() as (_, ada):
        ada.device.received(frame(PING, b"a") + frame(PONG) + frame(PING))
        assert ada.frames == [ServerFrame(PONG, b"a"), ServerFrame(PONG, b"")]


@pytest.mark.parametrize(
    ("taken", "code"),
    [
        (TextReceived("{"), 4400),
        (BinaryReceived(), 4400),
        (CloseReceived(1001, "bye"), 1000),
        (Malformed(CloseCode.MESSAGE_TOO_BIG), 1009),
    ],
)
async def test_frames_that_somebody_else_has_read(
    autojump_clock: MockClock, taken: TextReceived | BinaryReceived | CloseReceived | Malformed, code: int
) -> None:
    async with open_pushed() as (_, ada):
        ada.device.take(PingReceived(b"a"))
        ada.device.take(taken)
        assert ada.closed is not None
        assert (ada.frames[0], ada.closed[0]) == (ServerFrame(PONG, b"a"), code)
        ada.device.take(PingReceived(b"b"))
        ada.device.take(TextReceived("{"))
        assert len(ada.frames) == 2 + (code == 4400)


async def test_a_frame_that_somebody_else_has_read_and_whose_answer_fails(autojump_clock: MockClock) -> None:
    async with open_pushed() as (world, ada):
        ada.kernel.failure = ZeroDivisionError()
        ada.device.take(PingReceived(b"a"))
        assert ada.pump.closed == [False]
        assert set(world.take_failures()) == {"a connection failed"}


@pytest.mark.parametrize("read_by_another", [True, False])
async def test_frames_over_the_rate(autojump_clock: MockClock, *, read_by_another: bool) -> None:
    async with open_pushed(0) as (world, ada):
        for _ in range(300):
            if read_by_another:
                ada.device.take(PingReceived(b"?"))
            else:
                ada.device.received(frame(PING, b"?"))
        assert (ada.device.waiting()[0], world.closes()) == (300, {})
        ada.device.received(frame(PING, b"?"))
        assert world.closes() == {"too-many": 1}
        ada.drain()
        assert [each.opcode for each in ada.frames] == [PONG] * 300 + [TEXT, CLOSE]
        assert ada.closed == (4429, "too-many")


# --- the end ---


async def test_the_device_closes(autojump_clock: MockClock) -> None:
    async with open_pushed() as (world, ada):
        ada.device.received(close(1001, b"bye") + text({"vaults": []}))
        assert (len(ada.frames), ada.closed) == (1, (1000, "normal"))
        assert (ada.device.phase, ada.pump.closed, ada.pump.stopped) == (Phase.GONE, [False], 0)
        assert world.closes() == {"device-closed": 1}


async def test_the_answer_waits_for_what_is_before_it(autojump_clock: MockClock) -> None:
    async with open_pushed(0) as (world, ada):
        ada.device.send(piece_of(FIRST))
        ada.device.received(close())
        assert (ada.device.phase, ada.device.reading, ada.pump.closed) == (Phase.FINISHING, False, [])
        assert ada.pump.looked[-1] == (False, True)
        ada.device.send(piece_of(SECOND))
        ada.device.received(close() + frame(PING))
        assert ada.device.phase is Phase.FINISHING
        ada.drain()
        assert ada.kernel.taken.startswith(FIRST)
        assert (len(ada.frames), ada.closed) == (2, (1000, "normal"))
        assert (ada.device.phase, ada.pump.closed) == (Phase.GONE, [False])
        assert world.closes() == {"device-closed": 1}


async def test_an_answer_that_cannot_be_sent(autojump_clock: MockClock) -> None:
    async with open_pushed(0) as (world, ada):
        ada.device.send(piece_of(FIRST))
        ada.device.received(close())
        await trio.sleep(5.1)
        assert (ada.device.phase, ada.pump.closed) == (Phase.GONE, [True])
        assert world.closes() == {"device-closed": 1}


async def test_our_close_is_answered(autojump_clock: MockClock) -> None:
    async with open_pushed() as (world, ada):
        ada.device.close(CloseCode.TOKEN_EXPIRED)
        ada.device.close(CloseCode.INTERNAL_ERROR)
        ada.device.send(piece_of(FIRST))
        assert (ada.closed, ada.device.phase, ada.device.reading) == (
            (4410, "token-expired"),
            Phase.CLOSING,
            True,
        )
        ada.device.received(text({"vaults": []}) + frame(PING))
        assert ada.pump.closed == []
        ada.device.received(close(4410) + frame(TEXT, b"x"))
        assert (len(ada.frames), ada.pump.closed, world.closes()) == (1, [False], {"token-expired": 1})


async def test_our_close_is_not_answered(autojump_clock: MockClock) -> None:
    async with open_pushed() as (world, ada):
        ada.device.close(CloseCode.TOKEN_EXPIRED)
        await trio.sleep(4.9)
        assert ada.pump.closed == []
        await trio.sleep(0.2)
        assert (ada.pump.closed, world.closes()) == ([False], {"token-expired": 1})
        assert ada.device.due is None


async def test_our_close_is_answered_with_nonsense(autojump_clock: MockClock) -> None:
    async with open_pushed() as (world, ada):
        ada.device.close(CloseCode.TOKEN_EXPIRED)
        ada.device.received(frame(TEXT, mask=None))
        assert (ada.device.phase, ada.pump.stopped) == (Phase.DISCARDING, 1)
        assert (len(ada.frames), world.closes()) == (1, {"token-expired": 1})


async def test_after_nonsense_what_comes_is_thrown_away(autojump_clock: MockClock) -> None:
    async with open_pushed(0) as (world, ada):
        ada.device.received(frame(TEXT, b"x", reserved=1) + text({"vaults": []}))
        assert (ada.device.phase, ada.device.reading) == (Phase.DISCARDING, True)
        assert ada.pump.stopped == 0
        ada.drain()
        assert (ada.closed, ada.pump.stopped) == ((1002, "protocol-error"), 1)
        ada.device.received(b"\xff" * 10_000)
        ada.device.received(close())
        assert (ada.pump.closed, ada.device.phase) == ([], Phase.DISCARDING)
        ada.device.lost()
        assert (ada.pump.closed, world.closes()) == ([False], {"protocol-error": 1})


@pytest.mark.parametrize(
    ("way", "room"),
    [("close", 0), ("close", ENDLESS), ("malformed", 0), ("malformed", ENDLESS), ("answer", 0)],
)
async def test_who_sends_a_MiB_after_the_close_is_dropped(  # noqa: N802 - a unit
    autojump_clock: MockClock, way: str, room: int
) -> None:
    async with open_pushed(room) as (world, ada):
        ada.device.send(piece_of(FIRST))
        match way:
            case "close":
                ada.device.close(CloseCode.FORBIDDEN)
            case "malformed":
                ada.device.received(frame(TEXT, mask=None))
            case _:
                ada.device.received(close())
        for _ in range(MIB // 4096):
            ada.device.received(b"\0" * 4096)
        assert ada.pump.closed == []
        ada.device.received(b"\0")
        assert ada.pump.closed == [not room]
        assert sum(world.closes().values()) == 1
        ada.device.received(b"\0" * 4096)
        ada.device.arrived(10 * MIB)
        assert ada.pump.closed == [not room]


@pytest.mark.parametrize("room", [0, ENDLESS])
@pytest.mark.parametrize("lost", [True, False])
async def test_what_the_kernel_has_is_thrown_away_only_if_the_device_stalled(
    autojump_clock: MockClock, room: int, *, lost: bool
) -> None:
    async with open_pushed(room) as (world, ada):
        ada.device.send(piece_of(FIRST))
        if lost:
            ada.device.lost()
        else:
            ada.device.abort()
        assert ada.pump.closed == [not lost and not room]
        for again in (ada.device.lost, ada.device.abort, ada.device.writable):
            again()
        ada.device.close(CloseCode.FORBIDDEN)
        ada.device.close_slow_consumer()
        ada.device.send(piece_of(FIRST))
        assert len(ada.pump.closed) == 1
        assert (world.closes(), world.node.metrics.slow_consumers) == ({"connection-lost": 1}, 0)


# --- the time ---


@pytest.mark.parametrize("answer", ["bytes", "room", None])
async def test_what_comes_or_leaves_answers_a_ping(autojump_clock: MockClock, answer: str | None) -> None:
    async with open_pushed(len(ping_frame()) + 50, send_timeout=1000) as (world, ada):
        ada.device.received(frame(PONG))  # before the ping: no answer
        await trio.sleep(25.1)
        assert ada.frames == [ServerFrame(PING, b"")]
        ada.device.send(piece_of(FIRST))
        await trio.sleep(19)
        match answer:
            case "bytes":
                ada.device.received(b"\x8a")
            case "room":
                ada.kernel.room = 1
                ada.device.writable()
            case _:
                ada.device.writable()
        await trio.sleep(1)
        if answer is None:
            assert (world.closes(), ada.pump.closed) == ({"ping-timeout": 1}, [True])
        else:
            assert (world.closes(), ada.device.state) == ({}, State.AUTHENTICATED)


async def test_a_deadline_that_raises(autojump_clock: MockClock) -> None:
    async with open_pushed() as (world, ada):
        ada.kernel.failure = ZeroDivisionError()
        await trio.sleep(25.1)
        assert (ada.pump.closed, world.closes()) == ([False], {"internal-error": 1})
        assert set(world.take_failures()) == {"a connection failed"}


# --- anything, in any order ---

sizes = st.one_of(st.integers(0, 10), st.integers(0, 200))
acts = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["send", "send", "batch", "room", "room"]), sizes),
        st.tuples(st.sampled_from(["writable", "give up"]), st.just(0)),
    ),
    max_size=40,
)


@given(acts=acts, last=st.sampled_from([None, CloseCode.FORBIDDEN, CloseCode.SLOW_CONSUMER]))
@settings(max_examples=100, deadline=None)
def test_any_interleaving_gives_whole_frames_in_order(
    acts: list[tuple[str, int]], last: CloseCode | None
) -> None:
    trio.run(check_interleaving, acts, last, clock=MockClock(autojump_threshold=0))


async def check_interleaving(acts: list[tuple[str, int]], last: CloseCode | None) -> None:
    async with open_pushed(0, send_buffer_events=6) as (_, ada):
        frames: list[bytes] = []
        incomplete = False
        for number, (act, size) in enumerate(acts):
            if act in ("send", "batch"):
                count = 1 if act == "send" else 5
                new = [text_frame(b"%d-%d:" % (number, part) + b"x" * size) for part in range(count)]
                if act == "send":
                    ada.device.send(piece_of(new[0]))
                else:
                    ada.device.send_batch([piece_of(new[0]), Piece(b"".join(new[1:]), _ends_of(new[1:]))])
                frames += new
            elif act == "room":
                ada.kernel.room += size
                ada.device.writable()
            elif act == "give up":
                ada.device.close_slow_consumer()
            else:
                ada.device.writable()
            if ada.device.phase is not Phase.OPEN:
                incomplete = True
                break
        if last is not None:
            ada.device.close(last)
        ada.drain()
        got, rest = parse_frames(bytes(ada.kernel.taken))
        assert rest == b""
        if incomplete:
            assert ada.closed == (4412, "slow-consumer")
        elif last is not None:
            assert ada.closed == (last.value, last.reason)
        else:
            assert ada.closed is None
            assert ada.kernel.taken == b"".join(frames)
        remaining = iter(frames)
        assert all(text_frame(each.payload) in remaining for each in got if each.opcode == TEXT)


def _ends_of(frames: list[bytes]) -> list[int]:
    return [sum(map(len, frames[: number + 1])) for number in range(len(frames))]
