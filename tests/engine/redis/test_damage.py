"""What somebody else wrote to a user's keys: that user begins anew, and nobody else notices."""

from collections.abc import AsyncIterator

import pytest
import trio
from structlog.testing import capture_logs

from localful_ws.engine import Receipt
from localful_ws.engine.redis import streams
from localful_ws.engine.redis.link import Link
from localful_ws.engine.redis.lua import READ
from tests.redis_server import RedisServer
from tests.world import make_settings

from .links import open_url
from .nodes import SECONDS, Device, FakeNode, open_nodes, until, update

pytestmark = pytest.mark.sockets

READABLE = '{"event":"user-update","data":1}'
HEADS = {
    "last is junk": ["HSET", "head", "last", "junk"],
    "last is empty": ["HSET", "head", "last", ""],
    "last is no UTF-8": ["HSET", "head", "last", b"\xff-\xfe"],
    "last is cut off": ["HSET", "head", "last", "5-"],
    "last has three parts": ["HSET", "head", "last", "1-2-3"],
    "last has a line's end": ["HSET", "head", "last", "1-2\n"],
    "last is larger than Lua can count": ["HSET", "head", "last", "9999999999999999-0"],
    "last is larger than Redis can count": ["HSET", "head", "last", "99999999999999999999-0"],
    "last is missing": ["HDEL", "head", "last"],
    "the epoch is empty": ["HSET", "head", "epoch", ""],
    "the epoch is no UTF-8": ["HSET", "head", "epoch", b"\xff"],
    "the epoch is too long": ["HSET", "head", "epoch", "e" * 33],
    "the epoch is missing": ["HDEL", "head", "epoch"],
    "all is missing": ["DEL", "head"],
    "it is text": ["SET", "head", "junk"],
}
STREAMS = {
    "it is text": ["SET", "events", "junk"],
    "it is a list": ["RPUSH", "events", "junk"],
    "an entry has a field that is none of ours": ["XADD", "events", "*", "a", "b"],
    "what comes before an entry is junk": ["XADD", "events", "*", "p", "junk", "e", READABLE],
    "what comes before an entry is no UTF-8": ["XADD", "events", "*", "p", b"\xff", "e", "{}"],
    "an entry is ahead of all that comes": ["XADD", "events", "9999999999999-0", "a", "b"],
    "no entry can come after it": ["XADD", "events", f"{2**64 - 1}-{2**64 - 1}", "a", "b"],
    "an event is junk": ["XADD", "events", "*", "p", "0-0", "e", "junk"],
}
DAMAGES = [*HEADS.values(), *STREAMS.values()]
NAMES = [*(f"head: {name}" for name in HEADS), *(f"stream: {name}" for name in STREAMS)]


@pytest.fixture
async def link(redis_server: RedisServer) -> AsyncIterator[Link]:
    async with open_url(redis_server.url) as link:
        yield link


async def do_damage(link: Link, prefix: str, damage: list[str | bytes], user: str = "ada") -> None:
    """Run a command on a key of the user; on the stream when it is gone."""
    command, what, *arguments = damage
    key = f"{prefix}:{{@{user}}}:{what!s}"
    if what == "events":
        link.send("DEL", key)
    await link.call(str(command), key, *arguments)


def be_well(*nodes: FakeNode) -> None:
    """See that nobody else was disturbed, and that devices and publishers are served."""
    for node in nodes:
        assert node.engine.unavailable() is None
        assert node.figure("redis_losses") == 0


@pytest.mark.parametrize("damage", DAMAGES, ids=NAMES)
async def test_who_resumes_begins_anew(
    link: Link, redis_server: RedisServer, redis_prefix: str, damage: list[str | bytes]
) -> None:
    async with open_nodes(redis_server.url, redis_prefix) as (one, two):
        bob = await one.join(Device("bob"))
        away = await one.join(Device("ada"))
        one.leave(away)
        await two.publish(update(1), update(1, "bob"))
        await do_damage(link, redis_prefix, damage)

        await one.join(away, since=True)
        assert (away.resumed, away.numbers) == (False, [])
        assert await two.publish(update(2), update(2, "bob")) == Receipt(2)
        await one.until(lambda: away.numbers == [2] and bob.numbers == [1, 2])
        one.leave(away)
        await two.publish(update(3))
        await two.join(away, since=True)
        assert (away.resumed, away.numbers) == (True, [2, 3])
        be_well(one, two)


@pytest.mark.parametrize("damage", DAMAGES, ids=NAMES)
async def test_who_publishes_does_not_notice(
    link: Link, redis_server: RedisServer, redis_prefix: str, damage: list[str | bytes]
) -> None:
    async with open_nodes(redis_server.url, redis_prefix, count=1) as (node,):
        bob = await node.join(Device("bob"))
        away = await node.join(Device("ada"))
        node.leave(away)
        await node.publish(update(1))
        await do_damage(link, redis_prefix, damage)
        assert await node.publish(update(2), update(2, "bob")) == Receipt(2)
        await node.until(lambda: bob.numbers == [2])
        await node.join(away, since=True)
        assert (away.resumed, away.numbers) == (False, [])
        be_well(node)


@pytest.mark.parametrize("damage", HEADS.values(), ids=list(HEADS))
async def test_who_is_there_is_told_of_a_loss(
    link: Link, redis_server: RedisServer, redis_prefix: str, damage: list[str | bytes]
) -> None:
    async with open_nodes(redis_server.url, redis_prefix, count=1) as (node,):
        ada, bob = await node.join(Device("ada")), await node.join(Device("bob"))
        await do_damage(link, redis_prefix, damage)
        await node.publish(update(1), update(1, "bob"))
        await node.until(lambda: ada.lost and bob.numbers == [1])
        await node.join(ada, since=True)
        assert ada.resumed is False
        await node.publish(update(2), update(2, "bob"))
        await node.until(lambda: ada.numbers == [2] and bob.numbers == [1, 2])
        be_well(node)


async def test_without_history_a_stream_of_another_type_makes_way_as_well(
    link: Link, redis_server: RedisServer, redis_prefix: str
) -> None:
    async with open_nodes(redis_server.url, redis_prefix, count=1, history_events=0) as (node,):
        ada = await node.join(Device("ada"))
        await do_damage(link, redis_prefix, ["SET", "events", "junk"])
        assert await node.publish(update(1)) == Receipt(1)
        await node.until(lambda: ada.numbers == [1])


async def test_many_streams_that_can_not_be_read_keep_nobody_waiting(
    redis_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_PAUSE_IN_TROUBLE", 1000.0)
    with RedisServer() as server:
        async with open_nodes(server.url, redis_prefix, count=1, auth_timeout=SECONDS) as (node,):
            node.leave(await node.join(Device("ada")))
            # Redis takes nothing more: who has no head yet gets none.
            server.cli("config", "set", "maxmemory", "1")
            with capture_logs() as log:
                async with trio.open_nursery() as nursery:
                    for number in range(50):
                        nursery.start_soon(node.join, Device(f"user-{number}"))
                    await until(lambda: node.figure("redis_followed_users") == 50)
                    with trio.fail_after(SECONDS / 2):
                        await node.join(Device("ada"))
                    nursery.cancel_scope.cancel()
            assert [("OOM" in entry["reason"], entry["event"]) for entry in log] == [
                (True, "a stream can't be read; trying on")
            ]


async def test_a_stream_that_could_not_be_read_is_read_later(
    redis_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_PAUSE_IN_TROUBLE", 0.01)
    with RedisServer() as server:
        async with open_nodes(server.url, redis_prefix, count=1, auth_timeout=SECONDS) as (node,):
            server.cli("config", "set", "maxmemory", "1")
            devices = [Device(f"user-{number}") for number in range(50)]
            with capture_logs() as log:
                async with trio.open_nursery() as nursery:
                    for device in devices:
                        nursery.start_soon(node.join, device)
                    await until(lambda: log)
                    server.cli("config", "set", "maxmemory", "0")
            assert [len(node.devices[device.user]) for device in devices] == [1] * 50
            assert len(log) == 1


async def test_an_entry_that_is_too_large_is_not_sent_to_the_node(
    link: Link, redis_server: RedisServer, redis_prefix: str
) -> None:
    settings = make_settings()
    async with open_nodes(redis_server.url, redis_prefix, count=1) as (node,):
        ada, bob = await node.join(Device("ada")), await node.join(Device("bob"))
        await node.publish(update(1))
        await node.until(lambda: ada.numbers == [1])
        node.leave(ada)
        key = f"{redis_prefix}:{{@ada}}"
        epoch, last = await link.call("HMGET", f"{key}:head", "epoch", "last")
        ahead = f"{int(last.partition(b'-')[0]) + 1}-0"
        large = b'{"event":"user-update","data":"' + b"x" * 4 * settings.max_publish_bytes + b'"}'
        await link.call("XADD", f"{key}:events", ahead, "p", last, "e", large)
        await link.call("HSET", f"{key}:head", "last", ahead)
        arguments = ["f", 60_000, last, 10, 10**9, "", "PUBLISH", f"{key}:live", settings.max_publish_bytes]
        reply = await link.call("EVAL", READ.text, 2, f"{key}:events", f"{key}:head", *arguments)
        assert reply[0] == epoch
        assert reply[3] == [ahead.encode(), last, b""]
        await node.join(ada, since=True)
        assert (ada.resumed, ada.numbers) == (False, [1])
        assert await node.publish(update(2), update(2, "bob")) == Receipt(2)
        await node.until(lambda: bob.numbers == [2])
        be_well(node)
