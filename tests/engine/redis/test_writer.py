"""How events are written: what is answered, what is kept of it, and what is tried where nobody looks."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from attrs import frozen

from localful_ws.clock import Clock
from localful_ws.engine import Receipt
from localful_ws.engine.redis.acknowledged import Acknowledged
from localful_ws.engine.redis.control import Control
from localful_ws.engine.redis.errors import RedisRefusedError, RedisUnavailableError
from localful_ws.engine.redis.keys import Keys
from localful_ws.engine.redis.servers import Servers
from localful_ws.engine.redis.shards import Shards
from localful_ws.engine.redis.writer import EventWriter
from localful_ws.protocol import Event, EventName
from localful_ws.redis_url import parse_url
from localful_ws.revocations import TooManyRevocationsError
from tests.redis_server import RedisServer
from tests.world import make_settings

from .nodes import SECONDS, update
from .owners import Owner

pytestmark = pytest.mark.sockets


@frozen
class Desk:
    """A writer, with what it needs.

    Attributes:
        writer: It.
        shards: The servers.
        acknowledged: What it keeps.
        keys: The names.
    """

    writer: EventWriter
    shards: Shards
    acknowledged: Acknowledged
    keys: Keys

    async def write(self, *events: Event) -> Receipt:
        return await self.writer.write(events)

    def kept(self) -> dict[str, list[tuple[bytes, bytes]]]:
        """What is kept of whom: the data, and the own ids."""
        return {
            kept.user: [
                (event.stored.rpartition(b":")[2].rstrip(b"}"), event.key.rpartition(":")[2].encode())
                for event in kept.events
            ]
            for kept in self.acknowledged.of(lambda _: True, trio.current_time())
        }

    def is_chained(self, user: str) -> bool:
        """Whether each event that is kept comes right after the one before it."""
        [kept] = self.acknowledged.of(user.__eq__, trio.current_time())
        before = [b"0-0", *(event.id for event in kept.events)]
        return [event.before for event in kept.events] == before[:-1]


@asynccontextmanager
async def at_work(url: str, prefix: str, *, replicas: int = 0, **changes: Any) -> AsyncIterator[Desk]:
    """Have a writer for the length of the block."""
    settings = make_settings(redis_prefix=prefix, **changes)
    keys, clock = Keys(prefix), Clock()
    shards = Shards(Servers.of(parse_url(url), 1.0), Owner(), 0.2, replicas=replicas)
    acknowledged = Acknowledged(settings, keys)
    control = Control(settings, clock, keys, lambda _: None)
    writer = EventWriter(settings, clock, keys, shards=shards, control=control, acknowledged=acknowledged)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shards.run)
        with trio.fail_after(SECONDS):
            for number in range(100):
                await shards.wait_for(keys.of_user(str(number), "live"))
        yield Desk(writer, shards, acknowledged, keys)
        nursery.cancel_scope.cancel()


@pytest.fixture(params=["one server", "cluster"])
def redis_url(request: pytest.FixtureRequest) -> str:
    """Where Redis is."""
    if request.param == "one server":
        server: RedisServer = request.getfixturevalue("redis_server")
        return server.url
    servers: Sequence[RedisServer] = request.getfixturevalue("redis_cluster")
    return f"redis+cluster://127.0.0.1:{servers[0].port}"


async def test_what_is_new_is_counted_and_kept(redis_url: str, redis_prefix: str) -> None:
    async with at_work(redis_url, redis_prefix) as desk:
        assert await desk.write() == Receipt(0)
        batch = [update(1, id="a"), update(2, "bob"), update(3), update(4, id="a"), update(5, "cy", id="a")]
        assert await desk.write(*batch) == Receipt(4, 1)
        assert await desk.write(update(6, id="a"), update(7), update(8, id="b")) == Receipt(2, 1)
        assert await desk.write(update(9, "cy", id="a")) == Receipt(0, 1)
        assert desk.kept() == {
            "ada": [(b"1", b"a"), (b"3", b""), (b"7", b""), (b"8", b"b")],
            "bob": [(b"2", b"")],
            "cy": [(b"5", b"a")],
        }
        assert all(desk.is_chained(user) for user in ("ada", "bob", "cy"))


async def test_who_is_deleted_is_refused_once(redis_url: str, redis_prefix: str) -> None:
    async with at_work(redis_url, redis_prefix, max_revocations=1) as desk:
        deletion = Event(EventName.USER_DELETE, "ada", data=b"1", id="a")
        assert await desk.write(deletion, update(2)) == Receipt(2)
        revoked = desk.keys.revoked
        first = await desk.shards.call(revoked, "HGET", revoked, "user:ada")
        assert first is not None
        # Accepted before: the user may have begun anew.
        assert await desk.write(deletion) == Receipt(0, 1)
        assert await desk.shards.call(revoked, "HGET", revoked, "user:ada") == first
        with pytest.raises(TooManyRevocationsError):
            await desk.write(update(3, "bob"), Event(EventName.USER_DELETE, "bob", data=b"1"))
        assert "bob" not in desk.kept()


async def test_what_can_not_be_relied_on_is_kept_all_the_same(redis_prefix: str) -> None:
    with RedisServer() as server:
        async with at_work(server.url, redis_prefix, replicas=1) as desk:
            with pytest.raises(RedisUnavailableError, match="Fewer than 1 replicas"):
                await desk.write(update(1, id="a"))
            # Nodes have been told of it, and a server that lacks it is given it.
            assert desk.kept() == {"ada": [(b"1", b"a")]}


async def test_what_is_refused_is_not_kept(redis_prefix: str) -> None:
    with RedisServer() as server:
        async with at_work(server.url, redis_prefix) as desk:
            server.cli("config", "set", "maxmemory", "1")
            with pytest.raises(RedisRefusedError, match="OOM"):
                await desk.write(update(1))
            assert desk.kept() == {}


async def test_what_is_tried_is_of_nobody(redis_url: str, redis_prefix: str) -> None:
    async with at_work(redis_url, redis_prefix) as desk:
        for shard in set(desk.shards.of_slot):
            await desk.writer.probe(shard)
            assert shard.link is not None
            await desk.writer.check_ready(shard, shard.link)
            names = await shard.link.call("KEYS", f"{redis_prefix}:*")
            assert names
            assert all(b"{@%" in name and name.split(b"%")[1].isdigit() for name in names)
            for name in names:
                assert await shard.link.call("PTTL", name) > 0
        assert desk.kept() == {}


async def test_a_server_without_slots_is_not_tried(
    redis_cluster: Sequence[RedisServer], redis_prefix: str
) -> None:
    async with at_work(f"redis+cluster://127.0.0.1:{redis_cluster[0].port}", redis_prefix) as desk:
        one, other, *_ = set(desk.shards.of_slot)
        assert one.link is not None
        desk.shards.give({slot: other for slot, shard in enumerate(desk.shards.of_slot) if shard is one})
        with trio.fail_after(SECONDS):
            await desk.writer.probe(one)
            await desk.writer.check_ready(one, one.link)
        assert await one.link.call("KEYS", f"{redis_prefix}:*") == []


async def test_what_is_tried_is_refused_for_the_same_reasons(redis_prefix: str) -> None:
    with RedisServer() as server:
        async with at_work(server.url, redis_prefix) as desk:
            server.cli("set", desk.keys.lapses, "junk")
            with pytest.raises(RedisRefusedError, match="WRONGTYPE"):
                await desk.writer.probe(desk.shards.first)
            server.cli("del", desk.keys.lapses)
            server.cli("set", desk.keys.revoked, "junk")
            with pytest.raises(RedisRefusedError, match="WRONGTYPE"):
                await desk.writer.probe(desk.shards.first)
            server.cli("del", desk.keys.revoked)
            await desk.writer.probe(desk.shards.first)
