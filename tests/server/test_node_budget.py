"""What waits for all devices together: bounded, and paid for by those who don't read."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio
from attrs import define
from trio.testing import MockClock

from tests.raw_device import PONG, RawDevice, frame, handshake, text
from tests.redis_world import settle
from tests.server.sockets import FakePoller, PeerStream, fake_pair
from tests.world import World, open_world

KIB = 1024


@define(eq=False)
class Stalling:
    """A device that reads when it is told to.

    Attributes:
        device: The device, and what it has read.
        stream: Its end of the connection.
    """

    device: RawDevice
    stream: PeerStream

    async def read(self, size: int = 1 << 30) -> int:
        """Read what is there, so many bytes at the most; says how many there were."""
        read = 0
        with trio.move_on_after(0.001):
            while read < size:
                data = await self.stream.receive_some(size - read)
                self.device.received += data
                read += len(data)
                if not data:
                    break
        return read


@define(eq=False)
class Ward:
    """A world whose devices come on sockets."""

    world: World
    poller: FakePoller

    async def stalled(self, user: str, *, since: str | None = None, window: int = 1000) -> Stalling:
        """A device that authenticates, and reads nothing beyond that."""
        stream, far = fake_pair(self.poller, 2000)
        self.world.connections.start_soon(self.world.node.serve_stream, far)
        stalling = Stalling(RawDevice(stream, self.world.now), stream)
        token = self.world.token(user)
        await stream.send_all(handshake())
        await settle()
        message = {"event": "authenticate", "token": token} | ({} if since is None else {"since": since})
        await stream.send_all(text(message))
        await settle()
        return stalling

    async def healthy(self, user: str) -> RawDevice:
        device = await self.world.raw(handshake(), make_pair=partial(fake_pair, self.poller, 2000))
        await device.say(text({"event": "authenticate", "token": self.world.token(user)}))
        return device

    async def publish(self, user: str, *sizes: int) -> None:
        await self.world.publish(
            *[{"event": "user-update", "user": user, "data": "x" * (size - 2)} for size in sizes]
        )
        self.check()

    def check(self) -> None:
        assert 0 <= self.world.node.budget.bytes <= self.world.settings.send_budget


@asynccontextmanager
async def open_ward(**changes: Any) -> AsyncIterator[Ward]:
    poller = FakePoller()
    async with open_world(poller=poller, **changes) as world:
        yield Ward(world, poller)
        await trio.sleep(200)
        await settle()
        # Those that stalled are all gone, and nothing is left of what waited for them.
        assert world.node.budget.bytes == 0
    assert poller.open_sockets() == []


async def test_those_that_have_not_read_for_longest_make_room(autojump_clock: MockClock) -> None:
    async with open_ward(send_budget=200 * KIB) as ward:
        stalled = [await ward.stalled(f"s{number}") for number in range(6)]
        healthy = await ward.healthy("ada")
        for number in range(6):
            await trio.sleep(1)
            await ward.publish(f"s{number}", *[50 * KIB])
            await ward.publish("ada", 50 * KIB)
        assert len(healthy.messages) == 7
        assert healthy.closed is None
        # Three times 50 KiB fit, and what is around them; one of them was the healthy one's.
        assert ward.world.closes() == {"slow-consumer": 4}
        for each in stalled[4:]:
            await each.read()
            await settle()
            await each.read()
        assert [len(each.device.messages) for each in stalled[4:]] == [2, 2]


async def test_who_resumes_while_there_is_no_room_is_told_to_come_later(autojump_clock: MockClock) -> None:
    async with open_ward(send_budget=100 * KIB) as ward:
        first = await ward.healthy("ada")
        cursor = first.messages[0]["cursor"]
        await first.stream.aclose()
        await ward.publish("ada", *[2 * KIB] * 10)
        stalled = await ward.stalled("bob")
        await ward.publish("bob", 46 * KIB, 46 * KIB)
        refused = await ward.world.raw(handshake(), make_pair=partial(fake_pair, ward.poller, 1 << 20))
        asked = {"event": "authenticate", "token": ward.world.token("ada"), "since": cursor}
        await refused.say(text(asked))
        assert [message["code"] for message in refused.messages] == ["try-again-later"]
        assert refused.closed == (1013, "try-again-later")
        # Who has missed nothing is let in.
        assert (await ward.healthy("zoe")).messages[0]["event"] == "authenticated"
        await stalled.read()
        await settle()
        later = await ward.world.raw(handshake(), make_pair=partial(fake_pair, ward.poller, 1 << 20))
        await later.say(text(asked))
        assert [len(later.messages), later.messages[0]["resumed"]] == [11, True]


async def test_what_is_first_for_too_long_closes_though_pings_are_answered(autojump_clock: MockClock) -> None:
    async with open_ward(send_timeout=60.0) as ward:
        stalled = await ward.stalled("ada")
        await ward.publish("ada", 10 * KIB)
        for _ in range(58):
            await trio.sleep(1)
            await stalled.stream.send_all(frame(PONG))
        assert ward.world.closes() == {}
        await trio.sleep(3)
        assert ward.world.closes() == {"slow-consumer": 1}


async def test_bytes_that_leave_are_a_sign_of_life(autojump_clock: MockClock) -> None:
    async with open_ward(send_timeout=1000.0) as ward:
        slow = await ward.stalled("ada")
        await ward.publish("ada", *[20 * KIB] * 10)
        for _ in range(20):
            await trio.sleep(5)
            assert await slow.read(2000) > 0
            await settle()
        assert ward.world.closes() == {}
