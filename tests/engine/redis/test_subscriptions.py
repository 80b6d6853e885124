"""The channels that are wanted at a server, and those that are subscribed to."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from attrs import Factory, define
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from localful_ws.engine.redis.errors import RedisRefusedError
from localful_ws.engine.redis.keys import SLOTS, hash_slot
from localful_ws.engine.redis.link import Ended, Message
from localful_ws.engine.redis.servers import Servers
from localful_ws.engine.redis.shards import Shards
from localful_ws.engine.redis.subscriptions import Subscriptions
from localful_ws.redis_url import parse_url
from tests.redis_server import RedisServer

from .links import Command, Remote, confirm, linked, open_url
from .owners import Owner


@define(eq=False)
class Wanted:
    """Subscriptions of one server, and what was said of them.

    Attributes:
        told: Which channels are subscribed to, as that was told.
        moved: With which errors.
        subscriptions: The channels.
    """

    told: list[Sequence[bytes]] = Factory(list)
    moved: list[str] = Factory(list)
    subscriptions: Subscriptions = Factory(lambda self: Subscriptions(self.tell), takes_self=True)

    def tell(self, channels: Sequence[bytes]) -> None:
        """Take note of what is told, if it is anything."""
        if channels:
            self.told.append(channels)

    def hear(self, heard: Sequence[Message | Ended]) -> None:
        """Take note of what the server ends."""
        for each in heard:
            if isinstance(each, Ended):
                self.subscriptions.end(each.channel)


@asynccontextmanager
async def served(*, sharded: bool = False) -> AsyncIterator[tuple[Wanted, Subscriptions, Remote]]:
    """Have them at a server in memory."""
    wanted = Wanted()
    if sharded:
        wanted.subscriptions = Subscriptions(wanted.tell, lambda error: wanted.moved.append(str(error)))
    async with linked(wanted.hear) as (link, remote), trio.open_nursery() as nursery:
        nursery.start_soon(wanted.subscriptions.run, link)
        yield wanted, wanted.subscriptions, remote
        nursery.cancel_scope.cancel()


async def next_order(remote: Remote) -> Command:
    """What is ordered next; meanwhile it is pinged."""
    while (command := await remote.next()) == [b"PING"]:
        await remote.send(b"+PONG\r\n")
    return command


async def order(remote: Remote, kind: str, *channels: str) -> Command:
    """What is ordered next, once it is confirmed."""
    command = await next_order(remote)
    assert command == [kind.encode(), *(channel.encode() for channel in channels)]
    await remote.send(confirm(kind.lower(), *channels))
    await wait_all_tasks_blocked()
    return command


async def test_channels_are_ordered_together_and_in_order(autojump_clock: MockClock) -> None:
    async with served() as (wanted, channels, remote):
        for name in (b"b", b"a", b"c"):
            channels.want(name)
        channels.drop(b"c")
        await order(remote, "SUBSCRIBE", "b", "a")
        channels.drop(b"b")
        channels.want(b"d")
        await order(remote, "UNSUBSCRIBE", "b")
        await order(remote, "SUBSCRIBE", "d")
        assert wanted.told == [[b"b", b"a"], [b"d"]]
        assert channels.wanted == [b"a", b"d"]


async def test_very_many_are_ordered_in_portions(autojump_clock: MockClock) -> None:
    names = [f"channel-{number}" for number in range(1200)]
    async with served() as (wanted, channels, remote):
        for name in names:
            channels.want(name.encode())
        for start in (0, 500, 1000):
            await order(remote, "SUBSCRIBE", *names[start : start + 500])
        assert [len(some) for some in wanted.told] == [500, 500, 200]


async def test_whoever_wants_a_channel_that_is_subscribed_to_is_told(autojump_clock: MockClock) -> None:
    async with served() as (wanted, channels, remote):
        channels.want(b"a")
        await order(remote, "SUBSCRIBE", "a")
        channels.drop(b"a")
        channels.want(b"a")
        await wait_all_tasks_blocked()
        assert wanted.told == [[b"a"], [b"a"]]


async def test_what_is_wanted_again_while_it_is_given_up_is_subscribed_to_again(
    autojump_clock: MockClock,
) -> None:
    async with served() as (wanted, channels, remote):
        channels.want(b"a")
        await order(remote, "SUBSCRIBE", "a")
        channels.drop(b"a")
        assert await remote.next() == [b"UNSUBSCRIBE", b"a"]
        channels.want(b"a")
        await wait_all_tasks_blocked()
        assert wanted.told == [[b"a"]]
        await remote.send(confirm("unsubscribe", "a"))
        await order(remote, "SUBSCRIBE", "a")
        assert wanted.told[1:]


async def test_what_is_given_up_while_it_is_being_subscribed_to_is_unsubscribed_from(
    autojump_clock: MockClock,
) -> None:
    async with served() as (_, channels, remote):
        channels.want(b"a")
        assert await remote.next() == [b"SUBSCRIBE", b"a"]
        channels.drop(b"a")
        await remote.send(confirm("subscribe", "a"))
        await order(remote, "UNSUBSCRIBE", "a")
        assert channels.wanted == []


async def test_when_the_server_is_lost_all_are_asked_for_again(autojump_clock: MockClock) -> None:
    channels = Subscriptions(lambda _: None)
    for name in (b"b", b"a"):
        channels.want(name)
    for _ in range(2):
        async with linked() as (link, remote), trio.open_nursery() as nursery:
            nursery.start_soon(channels.run, link)
            await order(remote, "SUBSCRIBE", "b", "a")
            nursery.cancel_scope.cancel()
        channels.lose()


async def test_what_the_server_ends_is_asked_for_again(autojump_clock: MockClock) -> None:
    async with served(sharded=True) as (wanted, channels, remote):
        channels.want(b"a")
        await order(remote, "SSUBSCRIBE", "a")
        await remote.send(confirm("sunsubscribe", "a"))
        assert await remote.next() == [b"SSUBSCRIBE", b"a"]
        await remote.send(b"-MOVED 15495 10.0.0.2:6379\r\n")
        await wait_all_tasks_blocked()
        assert wanted.told == [[b"a"]]
        assert wanted.moved == ["MOVED 15495 10.0.0.2:6379"]


async def test_shard_channels_are_ordered_slot_by_slot(autojump_clock: MockClock) -> None:
    names = [b"{x}1", b"y", b"{x}2"]
    assert len({hash_slot(name) for name in names}) == 2
    async with served(sharded=True) as (wanted, channels, remote):
        for name in names:
            channels.want(name)
        # Without waiting for one to be confirmed.
        assert [await remote.next() for _ in range(2)] == [
            [b"SSUBSCRIBE", b"{x}1", b"{x}2"],
            [b"SSUBSCRIBE", b"y"],
        ]
        moved = b"MOVED %d 10.0.0.2:6379" % hash_slot(b"x")
        await remote.send(b"-" + moved + b"\r\n" + confirm("ssubscribe", "y"))
        await wait_all_tasks_blocked()
        assert wanted.told == [[b"y"]]
        assert wanted.moved == [moved.decode()]


@pytest.mark.parametrize("sharded", [True, False])
async def test_what_may_not_be_heard_is_tried_again(autojump_clock: MockClock, *, sharded: bool) -> None:
    kind = "SSUBSCRIBE" if sharded else "SUBSCRIBE"
    async with served(sharded=sharded) as (wanted, channels, remote):
        channels.want(b"{x}1")
        await order(remote, kind, "{x}1")
        channels.want(b"{x}2")
        with capture_logs() as log:
            for _ in range(3):
                assert await next_order(remote) == [kind.encode(), b"{x}2"]
                await remote.send(b"-NOPERM no\r\n")
            await order(remote, kind, "{x}2")
        assert trio.current_time() == 3.0
        # Whoever is heard already goes on being heard.
        assert [name for some in wanted.told for name in some] == [b"{x}1", b"{x}2"]
        assert [(entry["event"], entry["reason"]) for entry in log] == [
            ("channels of Redis can't be subscribed to; trying on", "NOPERM no")
        ]


@pytest.mark.sockets
async def test_channels_come_and_go_at_a_real_server(redis_server: RedisServer, redis_prefix: str) -> None:
    names = [f"{redis_prefix}:{number}".encode() for number in range(2000)]
    told = trio.Event()
    channels = Subscriptions(lambda some: told.set() if names[-1] in some else None)
    async with (
        open_url(redis_server.url) as listener,
        open_url(redis_server.url) as link,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(channels.run, listener)
        for name in names:
            channels.want(name)
        for name in names[:-1:2]:
            channels.drop(name)
        with trio.fail_after(10):
            await told.wait()
        sent = [link.send("PUBLISH", name, b"") for name in names]
        assert [await each.wait() for each in sent] == [0, 1] * 1000
        nursery.cancel_scope.cancel()


def test_what_is_wanted_in_a_slot() -> None:
    channels = Subscriptions(lambda _: None, lambda _: None)
    names = [b"{a}:1", b"{b}:1", b"{a}:2"]
    for name in names:
        channels.want(name)
    assert channels.wanted_in(hash_slot(b"a")) == [b"{a}:1", b"{a}:2"]
    channels.drop(b"{b}:1")
    assert channels.wanted_in(hash_slot(b"b")) == []
    assert sorted(channels.wanted) == [b"{a}:1", b"{a}:2"]


async def test_slots_that_move_one_by_one_cost_no_more_than_what_is_followed_in_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shards = Shards(Servers.of(parse_url("redis+cluster://a"), 1.0), Owner(), 1.0)
    old = shards.shard_at(("a", 1))
    shards.give(dict.fromkeys(range(SLOTS), old))
    channels = [b"{%d}" % number for number in range(500)]
    for channel in channels:
        old.subscriptions.want(channel)
    looked = 0

    def look(name: bytes) -> int:
        nonlocal looked
        looked += 1
        return hash_slot(name)

    monkeypatch.setattr("localful_ws.engine.redis.subscriptions.hash_slot", look)
    slots = set(map(hash_slot, channels))
    for slot in slots:
        shards.take_moved(RedisRefusedError(f"MOVED {slot} b:2"))
    assert old.subscriptions.wanted == []
    assert sorted(shards.shard_at(("b", 2)).subscriptions.wanted) == sorted(channels)
    assert looked <= 2 * len(channels)
