"""Connections that have yet to authenticate: how many there may be, and who gives way."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import pytest
import trio
from attrs import define
from trio.testing import MockClock

from tests.raw_device import RawDevice, close, handshake, text
from tests.redis_world import settle
from tests.server.sockets import FakePoller, fake_pair
from tests.server.verifiers import slow_verifier
from tests.world import StreamPair, World, open_world

TOLD = "more connections at once have yet to authenticate than may; the oldest give way"
WAYS = ["parked", "lean", "trio-websocket"]


@define(eq=False)
class Door:
    """Lets connections into a world, on sockets or on memory streams."""

    world: World
    make_pair: StreamPair

    async def raw(self, *data: bytes) -> RawDevice:
        return await self.world.raw(*data, make_pair=self.make_pair)

    async def device(self, user: str = "ada") -> RawDevice:
        """A device that is authenticated."""
        device = await self.raw(handshake())
        await device.say(text({"event": "authenticate", "token": self.world.token(user)}))
        assert device.messages[0]["event"] == "authenticated"
        return device

    def figures(self) -> tuple[int, int]:
        """How many are half open, and how many were dropped."""
        metrics = self.world.node.metrics
        return metrics.gauges().half_open, metrics.half_opens_dropped


@asynccontextmanager
async def open_door(way: str, **how: Any) -> AsyncIterator[Door]:
    poller = FakePoller()
    kind, make_pair = way, cast("StreamPair", trio.testing.memory_stream_pair)
    if way == "parked":
        kind, make_pair = "lean", partial(fake_pair, poller)
    async with open_world(kind, poller=poller, **how) as world:
        yield Door(world, make_pair)
    assert poller.open_sockets() == []


def are_there(devices: list[RawDevice]) -> list[bool]:
    return [device.ended_at is None for device in devices]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("first", [b"", b"GET /v1", handshake()], ids=["silent", "half a head", "open"])
async def test_the_oldest_gives_way(autojump_clock: MockClock, way: str, first: bytes) -> None:
    async with open_door(way, max_half_open=3, auth_timeout=1000.0, handshake_timeout=1000.0) as door:
        known = await door.device()
        devices = [await door.raw(first) for _ in range(3)]
        assert (are_there(devices), door.figures()) == ([True] * 3, (3, 0))
        for dropped in range(1, 4):
            devices.append(await door.raw(first))
            assert are_there(devices) == [False] * dropped + [True] * 3
            assert door.figures() == (3, dropped)
        # Who authenticates makes room.
        await devices[3].send(handshake()[len(first) :])
        await devices[3].say(text({"event": "authenticate", "token": door.world.token()}))
        devices.append(await door.raw(first))
        assert (are_there(devices)[3:], door.figures()) == ([True] * 4, (3, 3))
        assert known.closed is None
        assert door.world.take_failures() == [TOLD]


@pytest.mark.parametrize("way", WAYS)
async def test_it_is_told_once_a_minute(autojump_clock: MockClock, way: str) -> None:
    async with open_door(way, max_half_open=1, auth_timeout=1000.0) as door:
        for _ in range(5):
            await door.raw(handshake())
        assert door.world.take_failures() == [TOLD]
        await trio.sleep(59.9)
        await door.raw(handshake())
        assert door.world.take_failures() == []
        await trio.sleep(0.2)
        for _ in range(3):
            await door.raw(handshake())
        assert door.world.take_failures() == [TOLD]
        assert door.figures() == (1, 8)


@pytest.mark.parametrize("way", WAYS)
async def test_who_is_authenticated_does_not_give_way(autojump_clock: MockClock, way: str) -> None:
    async with open_door(way, max_half_open=2, max_connections=100) as door:
        devices = [await door.device("ada") for _ in range(20)]
        for _ in range(100):
            await door.raw()
        await door.world.publish({"event": "user-update", "user": "ada"})
        for device in devices:
            assert [message["event"] for message in device.messages] == ["authenticated", "user-update"]
        assert door.figures() == (2, 98)
        assert door.world.take_failures() == [TOLD]


@pytest.mark.parametrize("way", WAYS)
async def test_where_all_places_are_taken_it_is_said_at_least_to_the_newest(
    autojump_clock: MockClock, way: str
) -> None:
    async with open_door(way, max_connections=3, handshake_timeout=1000.0) as door:
        devices = [await door.device() for _ in range(3)]
        for _ in range(200):
            await door.raw()
        # No more than that are heard beyond those that have a place.
        assert door.figures() == (128, 72)
        refused = await door.raw(handshake())
        assert (refused.status, refused.body["identifier"]) == (503, "too-many-connections")
        assert are_there(devices) == [True] * 3
        await devices[0].say(close())
        await door.device()
        assert door.world.take_failures() == [TOLD]


@pytest.mark.parametrize("way", WAYS)
async def test_nobody_gives_way_while_there_is_room(autojump_clock: MockClock, way: str) -> None:
    """Those with a place are not counted again among those that come."""
    async with open_door(way, max_connections=160) as door:
        devices = [await door.raw(handshake()) for _ in range(160)]
        assert (are_there(devices), door.figures()) == ([True] * 160, (160, 0))
        refused = await door.raw(handshake())
        assert (refused.status, refused.body["identifier"]) == (503, "too-many-connections")
        assert door.figures()[1] == 0


@pytest.mark.parametrize("way", WAYS)
async def test_one_that_gives_way_while_its_token_is_verified(autojump_clock: MockClock, way: str) -> None:
    async with open_door(way, max_half_open=1, verifier=slow_verifier(1.0)) as door:
        first = await door.raw(handshake())
        await first.say(text({"event": "authenticate", "token": door.world.token()}))
        second = await door.raw(handshake(f"Authorization: Bearer {door.world.token()}"))
        assert are_there([first, second]) == [False, True]
        third = await door.raw(handshake())
        assert are_there([first, second, third]) == [False, False, True]
        await trio.sleep(2)
        await settle()
        assert (len(tuple(door.world.node.devices())), door.figures()) == (1, (1, 2))
        assert door.world.closes() == {"connection-lost": 1}
        assert door.world.node.metrics.authentications == 0
        assert door.world.take_failures() == [TOLD]


@pytest.mark.parametrize("way", WAYS)
async def test_one_that_comes_when_the_drain_has_begun(autojump_clock: MockClock, way: str) -> None:
    """It was accepted just before. It doesn't hold up the end."""
    async with open_door(way) as door:
        over: list[float] = []

        async def drain() -> None:
            await door.world.node.drain(10)
            over.append(door.world.now())

        early = await door.raw()
        door.world.nursery.start_soon(drain)
        await settle()
        late = await door.raw()
        asks = await door.raw(handshake())
        assert asks.status == 503
        await asks.stream.aclose()
        await trio.sleep(3)
        await settle()
        assert (early.ended_at, late.ended_at, over) == (1.0, 1.0, [1.0])


@pytest.mark.parametrize("way", ["parked", "lean"])
@pytest.mark.parametrize("headers", [(), ("Authorization: Bearer {}",)], ids=["bare", "with a token"])
async def test_one_that_gives_way_while_it_waits_for_its_turn(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, way: str, headers: tuple[str, ...]
) -> None:
    """It waits shielded. No device is made of it afterwards."""
    async with open_door(way, max_half_open=1) as door:
        there_is_time = trio.Event()

        async def wait() -> None:
            with trio.CancelScope(shield=True):
                await there_is_time.wait()

        monkeypatch.setattr(door.world.node.turn, "wait", wait)
        asked = [header.format(door.world.token()) for header in headers]
        first = await door.raw(handshake(*asked))
        second = await door.raw()
        there_is_time.set()
        await settle()
        assert are_there([first, second]) == [False, True]
        assert (bytes(first.received), door.figures()) == (b"", (1, 1))
        assert door.world.node.metrics.connections_opened == 0
        assert door.world.take_failures() == [TOLD]
