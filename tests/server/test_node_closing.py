"""How a connection is kept by pings, and how it ends, from either side."""

from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from tests.raw_device import PING, PONG, TEXT, RawDevice, close, frame, handshake, text
from tests.redis_world import settle
from tests.world import TRANSPORTS, World, open_world

pytestmark = pytest.mark.kinds(*TRANSPORTS)

HOUR = 3600.0


async def raw_device(world: World, **claims: Any) -> RawDevice:
    device = await world.raw(handshake())
    await device.say(text({"event": "authenticate", "token": world.token(**claims)}))
    return device


def pings(device: RawDevice) -> int:
    return [each.opcode for each in device.frames].count(PING)


# --- pings ---


async def test_hours_of_pings_and_pongs(world: World, autojump_clock: MockClock) -> None:
    device = await raw_device(world, ttl=10 * HOUR)
    await trio.sleep(1)
    while world.now() < 3 * HOUR:
        before = pings(device)
        await trio.sleep(25)
        assert pings(device) == before + 1
        await device.say(frame(PONG, device.frames[-1].payload))
    assert pings(device) == 3 * HOUR / 25
    assert (device.ended_at, device.messages[1:], world.closes()) == (None, [], {})


@pytest.mark.parametrize(("interval", "patience"), [(25, 20), (10, 3), (5, 12)])
async def test_a_device_that_does_not_answer_a_ping_is_dropped(
    kind: str, autojump_clock: MockClock, interval: float, patience: float
) -> None:
    async with open_world(kind, ping_interval=interval, ping_timeout=patience) as world:
        device = await raw_device(world)
        await device.ended.wait()
        assert device.ended_at == pytest.approx(interval + patience, abs=1e-3)
        assert (pings(device), device.closed, len(device.frames)) == (1, None, 2)
        await settle()
        assert world.closes() == {"ping-timeout": 1}
        assert world.node.devices() == ()


@pytest.mark.parametrize(
    "answer",
    [
        frame(PONG),
        frame(PONG, b"another payload"),
        frame(PING, b"mine"),
        text({"vaults": []}),
        frame(TEXT, b"{", final=False),
        frame(TEXT, b"{")[:1],
    ],
)
async def test_anything_that_comes_answers_a_ping(
    world: World, autojump_clock: MockClock, answer: bytes
) -> None:
    device = await raw_device(world)
    await trio.sleep(44.9)
    await device.say(answer)
    await trio.sleep(5)
    assert (pings(device), device.ended_at) == (1, None)
    await trio.sleep(1)
    assert pings(device) == 2
    await device.ended.wait()
    assert device.ended_at == pytest.approx(70, abs=1e-3)


async def test_what_came_before_a_ping_does_not_answer_it(world: World, autojump_clock: MockClock) -> None:
    device = await raw_device(world)
    await trio.sleep(24.9)
    await device.say(frame(PONG))
    await device.ended.wait()
    assert device.ended_at == pytest.approx(45, abs=1e-3)


async def test_a_device_may_ping_too(world: World, autojump_clock: MockClock) -> None:
    device = await raw_device(world)
    payloads = [b"", b"a", b"\x00\xff" * 62]
    await device.say(*(frame(PING, payload) for payload in payloads))
    assert device.pongs() == payloads


# --- the device's end of it ---


@pytest.mark.parametrize("sent", [close(1000, b"bye"), close(1001), close(4999), frame(8)])
async def test_a_device_closes(world: World, autojump_clock: MockClock, sent: bytes) -> None:
    device = await raw_device(world)
    await device.say(sent)
    assert device.frames[-1].opcode == 8
    assert device.closed == (1000, "normal")
    assert device.ended_at == 0.0
    assert world.closes() == {"device-closed": 1}
    assert world.node.devices() == ()


async def test_a_device_vanishes(world: World, autojump_clock: MockClock) -> None:
    device = await raw_device(world)
    await device.stream.aclose()
    await settle()
    assert world.closes() == {"connection-lost": 1}
    assert world.node.devices() == ()
    await world.publish({"event": "user-update", "user": "ada"})
    # Nothing is due for it any more.
    assert [entry for entry in world.node.timers._heap if entry[2].due == entry[0]] == []


async def test_a_device_that_does_not_answer_a_close_is_dropped(
    world: World, autojump_clock: MockClock
) -> None:
    device = await raw_device(world)
    await world.disconnect(user="ada")
    assert (device.closed, device.ended_at) == ((4403, "forbidden"), None)
    await device.ended.wait()
    assert device.ended_at == 5
    await settle()
    assert (world.closes(), world.node.devices()) == ({"forbidden": 1}, ())


@pytest.mark.parametrize(
    "chatter",
    [frame(PING, b"?"), text({"vaults": ["a"]}), frame(PONG), text("x" * 70_000), frame(TEXT, mask=None)],
    ids=["ping", "message", "pong", "too big", "malformed"],
)
async def test_what_comes_after_a_close_is_not_looked_at(
    world: World, autojump_clock: MockClock, chatter: bytes
) -> None:
    device = await raw_device(world)
    await world.disconnect(user="ada")
    before = device.frames
    for _ in range(10):
        await device.say(chatter)
        await trio.sleep(1)
    assert device.frames == before
    assert device.ended_at is not None
    assert device.ended_at <= 10
    assert (world.closes(), world.node.devices()) == ({"forbidden": 1}, ())


async def test_nothing_follows_the_answer_to_a_close(world: World, autojump_clock: MockClock) -> None:
    """Not even an event that is published at the same moment, where sending takes its time."""
    device = await world.raw(handshake(), make_pair=trio.testing.lockstep_stream_pair)
    await device.say(text({"event": "authenticate", "token": world.token()}))
    await device.send(close())
    for _ in range(20):
        await world.node.publish(world.decode_events([{"event": "user-update", "user": "ada"}]))
    await settle()
    assert device.closed == (1000, "normal")
