"""Draining: everybody is told, not all at once, and it ends in time."""

from itertools import pairwise
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from localful_ws.server.trio_websocket_pump import TrioWebSocketPump
from tests.raw_device import close, handshake, text
from tests.redis_world import settle
from tests.server.verifiers import slow_verifier
from tests.world import TRANSPORTS, TRIO_WEBSOCKET, World, open_world

pytestmark = pytest.mark.kinds(*TRANSPORTS)


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


async def test_what_nobody_takes_any_more_holds_nothing_up(kind: str, autojump_clock: MockClock) -> None:
    """The device is dropped while its token is verified; what it said after that is still being read."""
    async with open_world(kind, close_timeout=1, verifier=slow_verifier(2)) as world:
        device = await world.raw(handshake())
        messages = [text({"vaults": []})] * 10
        await device.say(text({"event": "authenticate", "token": world.token()}), *messages)
        await world.node.drain(60)
        assert (device.closed, device.ended_at) == ((1001, "server-shutdown"), 1)
        assert world.now() == 2


async def test_it_takes_no_longer_than_it_may(world: World, autojump_clock: MockClock) -> None:
    device = await world.raw(handshake(f"Authorization: Bearer {world.token()}"))
    await world.node.drain(2)
    assert (device.closed, device.ended_at, world.now()) == ((1001, "server-shutdown"), 2, 2)


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


async def test_a_verdict_under_way_when_it_begins(kind: str, autojump_clock: MockClock) -> None:
    async with open_world(kind, verifier=slow_verifier(0.5)) as world:
        silent = await world.raw(handshake())
        late = await world.raw(handshake(f"Authorization: Bearer {world.token()}"))
        await world.node.drain(20)
        assert (late.status, late.body["identifier"]) == (503, "draining")
        assert silent.closed == (1001, "server-shutdown")
        assert world.now() == world.settings.close_timeout


async def test_half_a_handshake_when_it_begins(world: World, autojump_clock: MockClock) -> None:
    """The answer is waited for, although nobody else holds the drain open."""
    device = await world.raw(handshake()[:60])
    drained: list[float] = []

    async def drain() -> None:
        await world.node.drain(20)
        drained.append(world.now())

    world.nursery.start_soon(drain)
    await trio.sleep(0.1)
    assert drained == []
    await device.say(handshake()[60:])
    assert (device.status, device.body["identifier"]) == (503, "draining")
    await device.stream.aclose()
    await settle()
    assert drained == [0.1]


@pytest.mark.parametrize("sent", [b"", handshake()[:60]])
async def test_who_does_not_finish_its_handshake_holds_it_for_a_second(
    world: World, autojump_clock: MockClock, sent: bytes
) -> None:
    early = await world.raw(*[sent] if sent else [])
    other = await world.raw()
    world.nursery.start_soon(world.node.drain, 20)
    await trio.sleep(0.5)
    late = await world.raw(*[sent] if sent else [])
    await other.stream.aclose()
    await trio.sleep(0.49)
    assert [device.ended_at for device in (early, late)] == [None, None]
    await late.ended.wait()
    await settle()
    assert [(device.ended_at, bytes(device.received)) for device in (early, late)] == [(1, b""), (1.5, b"")]
    assert world.connections.child_tasks == set()


async def test_a_refusal_holds_it_for_a_second(world: World, autojump_clock: MockClock) -> None:
    """Who was refused and does not hang up is not waited for as long as at other times."""
    device = await world.raw(handshake(path="/"))
    assert device.status == 404
    await world.node.drain(20)
    assert world.now() <= 1


@pytest.mark.kinds(TRIO_WEBSOCKET)
async def test_a_device_that_opens_just_when_it_begins(
    kind: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of our own transport there is none: it answers at the moment of the verdict."""
    accept = TrioWebSocketPump.accept

    async def slow_accept(self: TrioWebSocketPump, *args: Any) -> None:
        await accept(self, *args)
        await trio.sleep(0.5)

    monkeypatch.setattr(TrioWebSocketPump, "accept", slow_accept)
    async with open_world(kind) as world:
        device = await world.raw(handshake())
        assert device.status == 101
        await world.node.drain(10)
        await device.ended.wait()
        assert (device.closed, device.ended_at) == ((1001, "server-shutdown"), 5.5)
        assert world.closes() == {"server-shutdown": 1}


@pytest.mark.kinds(TRIO_WEBSOCKET)
async def test_a_device_that_takes_too_long_to_open_when_it_begins(
    kind: str, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow_accept(self: TrioWebSocketPump, *_: object) -> None:
        await trio.sleep(5)

    monkeypatch.setattr(TrioWebSocketPump, "accept", slow_accept)
    async with open_world(kind) as world:
        device = await world.raw(handshake())
        await world.node.drain(10)
        assert (device.ended_at, world.now()) == (1, 1)


async def test_who_answers_is_not_waited_for_any_longer(world: World, autojump_clock: MockClock) -> None:
    devices = [await world.raw(handshake(f"Authorization: Bearer {world.token(user)}")) for user in "ab"]
    world.nursery.start_soon(world.node.drain, 60)
    await trio.sleep(16)
    assert [device.closed for device in devices] == [(1001, "server-shutdown")] * 2
    assert [device.ended_at for device in devices] == [5, None]
    await devices[1].say(close(1001))
    assert devices[1].ended_at == 16
    assert world.connections.child_tasks == set()
