"""Draining: everybody is told, not all at once, and it ends in time."""

from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from localful_ws.server.transport import ACCEPTERS
from localful_ws.server.transport.base import Judge, Transport, TransportHost
from tests.raw_device import handshake
from tests.redis_world import settle
from tests.server.verifiers import slow_verifier
from tests.world import World, open_world


async def test_devices_are_told_over_the_first_half(world: World, autojump_clock: MockClock) -> None:
    devices = [await world.device(f"u{number}") for number in range(100)]
    devices += [await world.open() for _ in range(2)]
    await world.node.drain(2)
    assert {device.closed for device in devices} == {(1001, "server-shutdown")}
    moments = sorted({device.closed_at or 0.0 for device in devices})
    assert moments[0] == 0
    assert 0.9 < moments[-1] <= 1
    assert len(moments) == 50  # no more steps than can be afforded
    steps = [later - earlier for earlier, later in pairwise(moments)]
    assert max(steps) < 0.03
    assert world.closes() == {"server-shutdown": 102}
    assert world.now() == pytest.approx(moments[-1])


async def test_one_device_is_told_at_once_and_waited_for_no_longer(
    world: World, autojump_clock: MockClock
) -> None:
    device = await world.device()
    await world.node.drain(10)
    assert (device.closed, device.closed_at) == ((1001, "server-shutdown"), 0)
    assert world.now() == 0


async def test_without_devices_it_is_over_at_once(world: World, autojump_clock: MockClock) -> None:
    await world.node.drain(10)
    assert world.now() == 0
    assert world.node.draining
    assert world.node.metrics.gauges().draining
    assert world.node.unavailable() == "The server is shutting down."


async def test_devices_that_do_not_answer_are_dropped(world: World, autojump_clock: MockClock) -> None:
    device = await world.raw(handshake(f"Authorization: Bearer {world.token()}"))
    await world.node.drain(60)
    assert (device.closed, world.now()) == ((1001, "server-shutdown"), world.settings.close_timeout)
    await settle()
    assert device.ended_at == world.settings.close_timeout


async def test_it_takes_no_longer_than_it_may(world: World, autojump_clock: MockClock) -> None:
    device = await world.raw(handshake(f"Authorization: Bearer {world.token()}"))
    await world.node.drain(2)
    assert (device.closed, device.ended_at, world.now()) == ((1001, "server-shutdown"), None, 2)


async def test_no_time_at_all(world: World, autojump_clock: MockClock) -> None:
    await world.device()
    await world.node.drain(0)
    assert world.closes() == {"server-shutdown": 1}
    assert world.now() == 0


async def test_events_reach_those_that_have_not_been_told(world: World, autojump_clock: MockClock) -> None:
    devices = [await world.device("ada", f"g{number}") for number in range(2)]
    world.nursery.start_soon(world.node.drain, 10)
    await trio.sleep(1)
    await world.publish({"event": "user-update", "user": "ada"})
    assert sorted((device.events, device.closed) for device in devices if device.closed) == [
        ([], (1001, "server-shutdown"))
    ]
    assert [device.events for device in devices if not device.closed] == [["user-update"]]


async def test_a_handshake_under_way_when_it_begins(transport: str, autojump_clock: MockClock) -> None:
    async with open_world(transport, verifier=slow_verifier(1)) as world:
        silent = await world.raw(handshake())
        late = await world.raw(handshake(f"Authorization: Bearer {world.token()}"))
        await world.node.drain(20)
        assert (late.status, late.body["identifier"]) == (503, "draining")
        assert silent.closed == (1001, "server-shutdown")


async def test_a_device_that_opens_just_when_it_begins(
    transport: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = transport.partition(" ")[0]
    accept = ACCEPTERS[name]

    async def slow_accept(stream: trio.abc.Stream, host: TransportHost, judge: Judge) -> Transport | None:
        opened = await accept(stream, host, judge)
        await trio.sleep(1)
        return opened

    monkeypatch.setitem(ACCEPTERS, name, slow_accept)
    async with open_world(transport) as world:
        device = await world.raw(handshake())
        await world.node.drain(10)
        await device.ended.wait()
        assert (device.closed, device.ended_at) == ((1001, "server-shutdown"), 6)
        assert world.closes() == {"server-shutdown": 1}
