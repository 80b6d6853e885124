"""Disconnects and revocations over several nodes."""

import re
from collections.abc import Sequence
from typing import Any

import pytest
import trio

from localful_ws.clock import Clock
from localful_ws.engine import EngineUnavailableError, Presence, Receipt
from localful_ws.engine.redis.engine import RedisEngine
from localful_ws.engine.redis.keys import Keys
from localful_ws.engine.redis.queue import RouteQueue
from localful_ws.protocol import Event, EventName
from localful_ws.publishing import Disconnect
from localful_ws.revocations import TooManyRevocationsError
from tests.redis_server import RedisServer
from tests.world import make_settings

from .links import open_url
from .nodes import Device, FakeNode, open_nodes, update

pytestmark = pytest.mark.sockets


def revocation(user: str, clock: Clock, seconds: float = 60.0) -> Disconnect:
    return Disconnect(user=user, at=clock.now(), until=clock.now() + seconds)


async def test_a_disconnect_is_counted_over_all_nodes(redis_server: RedisServer) -> None:
    clock = Clock()
    async with open_nodes(redis_server.url, count=3) as (one, two, three):
        for node in (one, two, two, three):
            await node.join(Device("ada"))
        assert await one.engine.disconnect(revocation("ada", clock)) == 4
        assert [len(node.revoked) for node in (one, two, three)] == [1, 1, 1]
        for node in (one, two):
            await node.join(Device("ada"))
        two.gate = trio.Event()
        await three.publish(update(1))
        began = trio.current_time()
        assert await three.engine.disconnect(revocation("ada", clock)) == 1, "the second node is busy"
        assert trio.current_time() - began < 1.5


async def test_who_is_there_on_all_nodes(redis_server: RedisServer) -> None:
    async with open_nodes(redis_server.url, count=3) as (one, two, three):
        for node in (one, two, two):
            await node.join(Device("ada"))
        assert await three.engine.who_is_there("ada", 2) == [Presence("ada", 1.5, 5, ("v0", "v1"))] * 3
        assert await three.engine.who_is_there("bob", 2) == []
        two.gate = trio.Event()
        await three.publish(update(1))
        await two.until(lambda: two.handed > 0)
        with pytest.raises(EngineUnavailableError, match="Not all nodes"):
            await three.engine.who_is_there("ada", 2)
        two.gate.set()
        assert len(await three.engine.who_is_there("ada", 2)) == 3
    with pytest.raises(EngineUnavailableError):
        await three.engine.who_is_there("ada", 2)


async def test_whoever_listens_to_patterns_is_no_node(redis_server: RedisServer, redis_prefix: str) -> None:
    clock = Clock()
    async with (
        open_nodes(redis_server.url, redis_prefix) as (one, two),
        await trio.open_tcp_stream("127.0.0.1", redis_server.port) as monitor,
    ):
        await monitor.send_all(b"PSUBSCRIBE *\r\n")
        assert b"psubscribe" in await monitor.receive_some()
        for node in (one, two):
            await node.join(Device("ada"))
        assert len(await one.engine.who_is_there("ada", 2)) == 2
        assert Keys(redis_prefix).questions.encode() in await monitor.receive_some()
        began = trio.current_time()
        assert await two.engine.disconnect(revocation("ada", clock)) == 2
        assert trio.current_time() - began < 0.9, "it waits for no more answers than there are nodes"


async def test_revocations_outlive_all_nodes_and_lapse(redis_server: RedisServer, redis_prefix: str) -> None:
    clock = Clock()
    changes: dict[str, Any] = {"max_revocations": 2}
    async with open_nodes(redis_server.url, redis_prefix, **changes) as (one, two):
        await one.engine.disconnect(revocation("ada", clock, 0.3))
        await two.engine.disconnect(revocation("bob", clock))
        await one.engine.disconnect(revocation("bob", clock, 30))
        with pytest.raises(TooManyRevocationsError):
            await one.engine.disconnect(revocation("cy", clock))
        assert len(two.revoked) == 3
    async with open_nodes(redis_server.url, redis_prefix, count=1, **changes) as (node,):
        assert {revoked.user for revoked in node.revoked} == {"ada", "bob"}
        (bob,) = [revoked for revoked in node.revoked if revoked.user == "bob"]
        assert bob.until - bob.at > 59, "the longer one holds"
        await trio.sleep(0.3)
        async with open_nodes(redis_server.url, redis_prefix, count=1) as (later,):
            assert [revoked.user for revoked in later.revoked] == ["bob"]
        await node.engine.disconnect(revocation("cy", clock))
    async with open_nodes(redis_server.url, redis_prefix, count=1, **changes) as (node,):
        assert {revoked.user for revoked in node.revoked} == {"bob", "cy"}


async def test_a_deleted_users_tokens_are_refused_everywhere(redis_server: RedisServer) -> None:
    async with open_nodes(redis_server.url) as (one, two):
        device = await one.join(Device("ada"))
        delete = Event(EventName.USER_DELETE, "ada", data=b"7", id="d")
        await one.publish(update(1), delete)
        await one.until(lambda: device.numbers == [1, 7])
        await two.until(lambda: len(two.revoked) == 1)
        assert (two.revoked[0].user, two.revoked[0].group) == ("ada", None)
        # The same again, as by a publisher that was not answered: who has begun anew since may stay.
        assert await two.publish(delete) == Receipt(0, 1)
        await one.publish(update(2))
        await one.until(lambda: device.numbers == [1, 7, 2])
        assert len(one.revoked) == len(two.revoked) == 1


async def test_when_nobody_more_can_be_refused_nobody_is_deleted(
    redis_server: RedisServer, redis_prefix: str
) -> None:
    """All whom a batch deletes can be refused, or none is, and nothing of it is accepted."""
    clock = Clock()
    async with open_nodes(redis_server.url, redis_prefix, count=1, max_revocations=2) as (node,):
        device = await node.join(Device("ada"))
        await node.engine.disconnect(revocation("bob", clock))
        deletions = [Event(EventName.USER_DELETE, user, data=b"7", id="d") for user in ("ada", "cy")]
        for _ in range(2):
            with pytest.raises(TooManyRevocationsError):
                await node.publish(update(1), *deletions)
        assert await node.publish(update(2)) == Receipt(1)
        await node.until(lambda: device.numbers == [2])
        assert [revoked.user for revoked in node.revoked] == ["bob"]
        # One of them has room, and so has who is refused already, as often as you like.
        twice = Event(EventName.USER_DELETE, "ada", data=b"8")
        bob = Event(EventName.USER_DELETE, "bob", data=b"9")
        assert await node.publish(deletions[0], twice, bob) == Receipt(3)
        await node.until(lambda: device.numbers == [2, 7, 8])
    async with open_nodes(redis_server.url, redis_prefix, count=1) as (node,):
        assert {revoked.user for revoked in node.revoked} == {"ada", "bob"}


async def test_many_deletions_take_few_round_trips(redis_server: RedisServer) -> None:
    async with open_nodes(redis_server.url, count=1, max_revocations=1000) as (node,):
        deletions = [Event(EventName.USER_DELETE, f"u{number}", data=b"7", id="d") for number in range(1000)]
        assert await node.publish(*deletions[:500]) == Receipt(500)
        await trio.to_thread.run_sync(redis_server.cli, "config", "resetstat")
        assert await node.publish(*deletions) == Receipt(500, 500)
        statistics = await trio.to_thread.run_sync(redis_server.cli, "info", "commandstats")
        sent = re.findall(r"cmdstat_(?:evalsha|eval|script\|load):calls=(\d+)", statistics)
        assert sum(map(int, sent)) == 3, "what is known, revoke, publish"
        await node.until(lambda: len(node.revoked) == 1000)


async def test_many_deletions_in_a_cluster(redis_cluster: Sequence[RedisServer]) -> None:
    url = f"redis+cluster://127.0.0.1:{redis_cluster[0].port}"
    async with open_nodes(url, count=1) as (node,):
        deletions = [Event(EventName.USER_DELETE, f"u{number}", data=b"7", id="d") for number in range(200)]
        assert await node.publish(*deletions[:100]) == Receipt(100)
        assert await node.publish(*deletions) == Receipt(100, 100)
        await node.until(lambda: len(node.revoked) == 200)
        assert {revoked.user for revoked in node.revoked} == {event.user for event in deletions}


async def test_what_an_older_node_wrote_is_recalled_and_nonsense_is_not(
    redis_server: RedisServer, redis_prefix: str
) -> None:
    now = Clock().now()
    value = f"{now!r} {now + 60!r}"
    names = ["user:a:b", "group:g", 'login:["u","g"]', 'login:["u"]', 'login:["u",1]', "login:", "login:x"]
    names += ["other:u", "user", ""]
    async with open_url(redis_server.url) as link:
        await link.call(
            "HSET",
            Keys(redis_prefix).revoked,
            *(part for name in names for part in (name, value)),
            *("user:x", "soon"),
        )
    async with open_nodes(redis_server.url, redis_prefix, count=1) as (node,):
        assert {(each.user, each.group) for each in node.revoked} == {
            ("a:b", None),
            (None, "g"),
            ("u", "g"),
            ("", None),  # of an empty id, which nobody has
        }
        assert {(each.at, each.until) for each in node.revoked} == {(now, now + 60)}


async def test_many_revocations_are_recalled_in_portions(
    redis_server: RedisServer, redis_prefix: str
) -> None:
    now = Clock().now()
    many = {f"user:u{number}": f"{now!r} {now + 60!r}" for number in range(20_000)}
    async with open_url(redis_server.url) as link:
        await link.call("HSET", Keys(redis_prefix).revoked, *(part for pair in many.items() for part in pair))
    async with open_nodes(redis_server.url, redis_prefix, count=1) as (node,):
        await node.until(lambda: len({each.user for each in node.revoked}) == len(many))
        assert len(node.recalled) >= 10
        assert max(node.recalled) < 2000


async def test_others_have_their_turn_between_two_calls() -> None:
    queue, turns = RouteQueue(1000), list[str]()
    for _ in range(10):
        queue.put_call(lambda _: turns.append("call"))
    queue.close()

    async def other() -> None:
        while turns.count("call") < 10:
            turns.append("other")
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            queue.run, FakeNode(RedisEngine(make_settings(engine="redis://localhost"), Clock()))
        )
        nursery.start_soon(other)
    # Trio runs each task once in a round, in any order.
    assert "call call call" not in " ".join(turns)


async def test_an_order_that_names_nobody_or_is_none_is_not_carried_out(
    redis_server: RedisServer, redis_prefix: str
) -> None:
    async with (
        open_nodes(redis_server.url, redis_prefix, count=1) as (node,),
        open_url(redis_server.url) as link,
    ):
        ada = await node.join(Device("ada"))
        for order in (
            '{"at":1,"until":9e9}',
            "{}",
            "[]",
            '{"at":1,"until":9e9,"user":null,"close":true}',
            "",
        ):
            await link.call("PUBLISH", Keys(redis_prefix).control, order)
        assert await node.engine.disconnect(revocation("bob", Clock())) == 0
        assert ([each.user for each in node.revoked], ada.stay) == (["bob"], 0)


async def test_a_message_that_is_nested_too_deeply(redis_server: RedisServer, redis_prefix: str) -> None:
    keys = Keys(redis_prefix)
    deep = b"[" * 100_000
    async with open_nodes(redis_server.url, redis_prefix) as nodes, open_url(redis_server.url) as link:
        await nodes[0].join(Device("ada"))
        for channel in (keys.control, keys.questions):
            assert await link.call("PUBLISH", channel, b'{"user":"ada","x":' + deep) == 2
        assert len(await nodes[1].engine.who_is_there("ada", 2)) == 1
