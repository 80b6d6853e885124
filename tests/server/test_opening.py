"""From the first byte of a connection to an authenticated device, however the bytes arrive."""

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.raw_device import PING, TEXT, RawDevice, close, frame, handshake, parse_frames, text
from tests.redis_world import settle
from tests.server.kernels import Kernel, ScriptedStream
from tests.server.verifiers import slow_verifier
from tests.world import LEAN, TRANSPORTS, World, open_world

pytestmark = pytest.mark.kinds(*TRANSPORTS)


async def open_split(world: World, data: bytes, size: int) -> RawDevice:
    """Connect a device whose bytes arrive so many at a time."""
    device = await world.raw()
    for start in range(0, len(data), size):
        await device.say(data[start : start + size])
    return device


# trio-websocket does not look at what comes together with the handshake, which nobody should send.
@pytest.mark.kinds(LEAN)
@pytest.mark.parametrize("size", [1, 2, 50, 10_000])
async def test_however_the_bytes_arrive(world: World, autojump_clock: MockClock, size: int) -> None:
    message = text({"event": "authenticate", "token": world.token(), "id": "1"})
    sent = handshake("Sec-WebSocket-Protocol: localful.v1") + frame(PING, b"?") + message + frame(PING, b"!")
    device = await open_split(world, sent + close(1000), size)
    assert device.status == 101
    assert device.pongs() == [b"?", b"!"]
    assert [each["id"] for each in device.messages] == ["1"]
    assert (device.closed, device.ended_at) == ((1000, "normal"), 0)
    assert world.closes() == {"device-closed": 1}


@pytest.mark.kinds(LEAN)
@pytest.mark.parametrize("size", [1, 10_000])
async def test_what_comes_with_a_handshake_that_has_a_token(
    kind: str, autojump_clock: MockClock, size: int
) -> None:
    async with open_world(kind, verifier=slow_verifier(1)) as world:
        begun = handshake(f"Authorization: Bearer {world.token()}")
        device = await open_split(world, begun + text({"vaults": ["a"], "id": "1"}) + close(), size)
        assert device.received == b""
        await trio.sleep(1)
        await settle()
        assert [each["event"] for each in device.messages] == ["authenticated", "subscribed"]
        assert device.closed == (1000, "normal")
        assert world.closes() == {"device-closed": 1}


@pytest.mark.kinds(LEAN)
async def test_a_renewal_that_comes_with_a_handshake_that_has_a_token(
    kind: str, autojump_clock: MockClock
) -> None:
    async with open_world(kind, verifier=slow_verifier(1)) as world:
        renewal = text({"event": "authenticate", "token": world.token(ttl=7200), "id": "r"})
        device = await world.raw(handshake(f"Authorization: Bearer {world.token()}") + renewal)
        await trio.sleep(2)
        await settle()
        assert [each.get("id") for each in device.messages] == [None, "r"]
        assert world.node.metrics.authentications == 2


async def test_a_device_that_has_gone_by_the_time_of_the_verdict(
    kind: str, autojump_clock: MockClock
) -> None:
    async with open_world(kind, verifier=slow_verifier(1)) as world:
        for sent in (f"Authorization: Bearer {world.token()}", "X: y"):
            device = await world.raw(handshake(sent))
            if sent == "X: y":
                await device.say(text({"event": "authenticate", "token": world.token()}))
            await device.stream.aclose()
        await trio.sleep(1)
        await settle()
        assert world.node.devices() == ()
        assert set(world.closes()) == {"connection-lost"}
        assert world.node.metrics.gauges().half_open == 0


async def test_a_refusal_that_cannot_be_sent(kind: str, autojump_clock: MockClock) -> None:
    async with open_world(kind, handshake_timeout=7) as world:
        stalled, broken = (ScriptedStream(Kernel(10), handshake(path="/")) for _ in range(2))
        broken.kernel.break_down()
        await world.node.serve_stream(broken)
        assert (broken.closed, world.now()) == (True, 0)
        await world.node.serve_stream(stalled)
        assert (stalled.closed, world.now()) == (True, 7)
        assert stalled.kernel.taken == b"HTTP/1.1 4"


async def test_a_handshake_whose_answer_waits_for_room(kind: str, autojump_clock: MockClock) -> None:
    """What is to be sent meanwhile comes after the answer."""
    async with open_world(kind) as world:
        near = world.plug_in(trio.testing.lockstep_stream_pair)
        await near.send_all(handshake(f"Authorization: Bearer {world.token()}"))
        await settle()
        await world.publish({"event": "user-update", "user": "ada"})
        received = bytearray()
        while b'"user-update"' not in received and b'"authenticated"' not in received:
            received += await near.receive_some(7)
        answer, _, rest = bytes(received).partition(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert parse_frames(rest)[0] == []
        assert b'"authenticated"' in rest
        await near.aclose()
        await settle()


async def test_whoever_gives_way_while_its_token_is_verified(kind: str, autojump_clock: MockClock) -> None:
    async with open_world(kind, verifier=slow_verifier(1), max_half_open=1) as world:
        first = await world.raw(handshake(f"Authorization: Bearer {world.token()}"))
        second = await world.raw(handshake())
        await second.say(text({"event": "authenticate", "token": world.token()}))
        await world.raw()
        assert [(each.ended_at, each.messages) for each in (first, second)] == [(0.0, [])] * 2
        await trio.sleep(2)
        assert world.node.devices() == ()
        assert world.node.metrics.gauges().users == 0
        assert len(world.take_failures()) == 1


@pytest.mark.parametrize("sent", [frame(TEXT, b"{"), frame(TEXT, mask=None), close()])
async def test_a_device_that_closes_before_it_has_authenticated(
    world: World, autojump_clock: MockClock, sent: bytes
) -> None:
    """It is bounded like any other that closes, and no longer one that is being let in."""
    device = await world.raw(handshake())
    await device.say(sent)
    assert device.closed is not None
    assert world.node.metrics.gauges().half_open == 0
    await device.ended.wait()
    assert device.ended_at == (0 if sent == close() else world.settings.close_timeout)
    await settle()
    assert (len(world.closes()), world.node.devices()) == (1, ())


@pytest.mark.kinds(LEAN)
@pytest.mark.parametrize("whole", [True, False])
async def test_a_message_that_is_read_in_the_last_moment(
    kind: str, autojump_clock: MockClock, *, whole: bool
) -> None:
    """It was in time; that the time is over when it is looked at is our own affair."""
    async with open_world(kind, verifier=slow_verifier(1)) as world:
        device = await world.raw(handshake())
        message = text({"event": "authenticate", "token": world.token()})
        await trio.sleep(2.9)
        await device.send(message if whole else message[:-1])
        autojump_clock.jump(0.2)  # before it has been received
        await trio.sleep(1)
        await settle()
        assert [each["event"] for each in device.messages] == (["authenticated"] if whole else [])
        assert device.closed == (None if whole else (4408, "authentication-timeout"))
