"""Disconnects and revocations over several nodes."""

from typing import Any

import pytest
import trio

from localful_ws.clock import Clock
from localful_ws.engine import Receipt
from localful_ws.protocol import Event, EventName
from localful_ws.publishing import Disconnect
from localful_ws.revocations import TooManyRevocationsError
from tests.redis_server import RedisServer

from .nodes import Device, open_nodes, update

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
        assert (two.revoked[0].user, two.revoked[0].close) == ("ada", False)
        # The same again, as by a publisher that was not answered: who has begun anew since may stay.
        assert await two.publish(delete) == Receipt(0, 1)
        await one.publish(update(2))
        await one.until(lambda: device.numbers == [1, 7, 2])
        assert len(one.revoked) == len(two.revoked) == 1
