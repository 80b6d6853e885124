"""The loop gives way: whoever floods the node holds up nobody else's event for more than a few turns.

To take what a device has sent costs half a millisecond of the virtual clock here.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
from attrs import Factory, define
from trio.testing import MockClock

from localful_ws.protocol import Rate
from localful_ws.server.turn import Turn
from localful_ws.server.websocket import Phase, WebSocket
from tests.raw_device import CONTINUATION, PING, TEXT, RawDevice, frame, handshake, text
from tests.redis_world import settle
from tests.server.sockets import FakePoller, FakeSocket, fake_pair
from tests.world import World, open_world

TAKEN_IN = 0.0005
MANY = 200
FLOODS = {
    "empty fragments": frame(TEXT, final=False) + frame(CONTINUATION, final=False) * 1000,
    "fragments of a byte": frame(TEXT, b"x", final=False) + frame(CONTINUATION, b"x", final=False) * 1000,
    "pings": frame(PING) * 1000,
    "messages": text({"vaults": []}) * 400,
    "rubbish": b"\xc3\x28" * 4000,
}
UPDATE = {"event": "user-update", "user": "healthy"}


@define(eq=False)
class Flood:
    """A world in which reading takes time, with many devices and one that is well.

    Attributes:
        healthy: The one that is well.
        others: The server's ends of the others.
        kinds: What the others send, when they flood.
        flooding: Whether they do.
        steps: How many steps tasks have taken.
    """

    world: World
    poller: FakePoller
    healthy: RawDevice
    others: list[FakeSocket] = Factory(list)
    flooding: bool = False
    steps: int = 0

    async def add(self, flood: bytes, *more: bytes) -> None:
        """Add a device that is about to flood."""
        stream, far = fake_pair(self.poller)
        self.world.connections.start_soon(self.world.node.serve_stream, far)
        sock = stream.sock
        await stream.send_all(b"".join([handshake(), *more]))
        await settle()
        sock.receiving = partial(self._receiving, sock, flood)
        self.others.append(sock)

    def begin(self, flood: bytes) -> None:
        self.flooding = True
        for sock in self.others:
            sock.feed(flood)

    def end(self) -> None:
        self.flooding = False

    def _receiving(self, sock: FakeSocket, flood: bytes) -> None:
        if self.flooding and len(sock.incoming) < len(flood):
            sock.feed(flood)

    async def seconds_until(self, count: int) -> float:
        """How long it takes until the one that is well has been told so many things."""
        began, steps = trio.current_time(), self.steps
        while len(self.healthy.messages) < count:
            await trio.lowlevel.checkpoint()
            assert self.steps - steps < 20 * MANY
        return trio.current_time() - began


class Steps(trio.abc.Instrument):
    """Counts the steps that tasks take."""

    def __init__(self, flood: Flood) -> None:
        self._flood = flood

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._flood.steps += 1


@pytest.fixture(autouse=True)
def costs(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have time pass while something is done."""
    take = WebSocket.received

    def received(self: WebSocket, data: bytes) -> None:
        if self.phase is not Phase.DISCARDING:
            autojump_clock.jump(TAKEN_IN)
        take(self, data)

    monkeypatch.setattr(WebSocket, "received", received)


@asynccontextmanager
async def open_flood(**changes: Any) -> AsyncIterator[Flood]:
    poller = FakePoller()
    async with open_world(poller=poller, **changes) as world:
        healthy = await world.raw(handshake(), make_pair=partial(fake_pair, poller))
        await healthy.say(text({"event": "authenticate", "token": world.token("healthy")}))
        flood = Flood(world, poller, healthy)
        steps = Steps(flood)
        trio.lowlevel.add_instrument(steps)
        try:
            yield flood
        finally:
            trio.lowlevel.remove_instrument(steps)
            flood.end()


@pytest.mark.parametrize("name", FLOODS)
async def test_those_who_have_yet_to_authenticate(autojump_clock: MockClock, name: str) -> None:
    """All of them begin at the same moment. Each is soon closed for what it sends, too."""
    async with open_flood() as flood:
        for _ in range(MANY):
            await flood.add(FLOODS[name])
        flood.begin(FLOODS[name])
        began = trio.current_time()
        for count in range(2, 12):
            await flood.world.node.publish(flood.world.decode_events([UPDATE]))
            assert await flood.seconds_until(count) < 0.02
        node = flood.world.node
        while node.metrics.gauges().connections["awaiting-auth"]:
            await trio.lowlevel.checkpoint()
            assert trio.current_time() - began < 3 * MANY * TAKEN_IN
        flood.end()
        assert flood.healthy.closed is None
        await node.drain(0.1)


@pytest.mark.parametrize("name", [name for name in FLOODS if name != "rubbish"])
async def test_those_who_may_send_as_much_as_they_like(autojump_clock: MockClock, name: str) -> None:
    """They go on and on, and nobody stops them."""
    without = Rate(1_000_000, 1.0)
    how = {"max_connections_per_user": MANY, "frame_rate": without, "message_rate": without}
    async with open_flood(**how, max_message_bytes=1 << 30) as flood:
        hello = text({"event": "authenticate", "token": flood.world.token("flooding")})
        for _ in range(MANY):
            await flood.add(FLOODS[name], hello)
        assert flood.world.node.parking is not None
        assert len(flood.world.node.parking) == MANY + 1
        flood.begin(FLOODS[name])
        for count in range(2, 12):
            await flood.world.node.publish(flood.world.decode_events([UPDATE]))
            assert await flood.seconds_until(count) < 0.02
        # What it says itself has its turn when all others have had theirs.
        await flood.healthy.send(text({"vaults": ["a"]}))
        assert await flood.seconds_until(12) < 2 * MANY * TAKEN_IN
        flood.end()
        await flood.world.node.drain(0.1)


async def test_a_crowd_that_waits_for_its_turn_sleeps(autojump_clock: MockClock) -> None:
    """In the order in which they came, a few in each run of the loop, and without being asked in vain."""
    turn, served, steps = Turn(), list[int](), 0

    class Steps(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            nonlocal steps
            steps += 1

    async def take_turn(number: int) -> None:
        await turn.wait()
        autojump_clock.jump(TAKEN_IN)
        served.append(number)

    instruments = (turn, Steps())
    for instrument in instruments:
        trio.lowlevel.add_instrument(instrument)
    async with trio.open_nursery() as nursery:
        for number in range(1000):
            nursery.start_soon(take_turn, number)
            await trio.lowlevel.checkpoint()
        began = trio.current_time()
    for instrument in instruments:
        trio.lowlevel.remove_instrument(instrument)
    assert served == list(range(1000))
    assert trio.current_time() - began <= 1000 * TAKEN_IN
    # Its start, its turn, and now and then one that finds no time left.
    assert steps < 5000


async def test_nobody_is_kept_from_its_turn_by_those_who_come_later(autojump_clock: MockClock) -> None:
    turn, served = Turn(), list[str]()
    trio.lowlevel.add_instrument(turn)

    async def take_turn(name: str) -> None:
        await turn.wait()
        autojump_clock.jump(1.0)
        served.append(name)

    async with trio.open_nursery() as nursery:
        for name in "abc":
            nursery.start_soon(take_turn, name)
        # All have begun to wait, and the one or the other has had its turn.
        await trio.lowlevel.checkpoint()
        await trio.lowlevel.checkpoint()
        for name in "def":
            nursery.start_soon(take_turn, name)
    trio.lowlevel.remove_instrument(turn)
    assert sorted(served[:3]) == ["a", "b", "c"]
    assert sorted(served[3:]) == ["d", "e", "f"]


async def test_no_more_are_let_in_than_can_have_their_turn_soon(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    turn, served = Turn(), list[int]()
    trio.lowlevel.add_instrument(turn)

    async def take_turn(number: int) -> None:
        await turn.wait()
        autojump_clock.jump(TAKEN_IN)
        served.append(number)

    assert await turn.wait_until_few_wait() == 512
    for number in range(600):
        nursery.start_soon(take_turn, number)
    await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()
    room = await turn.wait_until_few_wait()
    assert 1 <= room <= 16
    assert 600 - len(served) <= 512 + 16
    await settle()
    trio.lowlevel.remove_instrument(turn)
    assert len(served) == 600
    assert await turn.wait_until_few_wait() == 512
