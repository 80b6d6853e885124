"""The intake is read by one node at a time, and nothing is lost whatever becomes of it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from localful_ws.clock import Clock
from localful_ws.engine import EngineUnavailableError
from localful_ws.engine.redis import intake as intake_module
from localful_ws.engine.redis.engine import RedisEngine
from localful_ws.engine.redis.keys import hash_slot
from localful_ws.engine.redis.lua import INTAKE_LEASE, Script
from localful_ws.engine.redis.shards import Argument, Shards
from localful_ws.protocol import Event
from tests.redis_server import RedisServer
from tests.world import make_settings

from .intakes import TIMEOUT, Intake, open_shards, running
from .nodes import FakeNode

pytestmark = pytest.mark.sockets


@pytest.fixture
async def intake(redis_server: RedisServer, redis_prefix: str) -> AsyncIterator[Intake]:
    async with open_shards(redis_server.url) as shards:
        yield Intake(shards, redis_prefix)


async def test_only_one_of_two_nodes_reads_and_the_other_takes_over(
    intake: Intake, redis_server: RedisServer
) -> None:
    async with open_shards(redis_server.url) as shards:
        other = Intake(shards, intake.prefix)
        async with trio.open_nursery() as nursery:
            first = await nursery.start(run_in_scope, intake)
            await intake.add_numbers([0])
            await intake.publisher.wait(1)
            second = await nursery.start(run_in_scope, other)
            await intake.add_numbers(range(1, 200))
            await intake.publisher.wait(200)
            await intake.wait_empty()
            # Meanwhile the other one asks for the lease several times.
            await trio.sleep(0.5)
            assert intake.publisher.numbers == list(range(200))
            assert other.publisher.batches == []
            first.cancel()
            await intake.add_numbers(range(200, 300))
            await other.publisher.wait(100)
            assert other.publisher.numbers == list(range(200, 300))
            second.cancel()


async def run_in_scope(intake: Intake, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await intake.run(lease_seconds=0.3)


class _DeafShards(Shards):
    """Never hears that the lease is there."""

    async def run_script(
        self,
        script: Script,
        keys: Sequence[str | bytes],
        arguments: Sequence[Argument] = (),
        *,
        is_patient: bool = True,
    ) -> Any:
        reply = await super().run_script(script, keys, arguments, is_patient=is_patient)
        if script is INTAKE_LEASE and reply:
            await trio.sleep_forever()
        return reply


async def test_a_lease_that_was_only_asked_for_is_given_up(intake: Intake, redis_server: RedisServer) -> None:
    async with open_shards(redis_server.url, _DeafShards) as shards:
        with trio.fail_after(TIMEOUT):
            async with running(Intake(shards, intake.prefix)):
                await intake.wait_held()
                assert await intake.call("PTTL", intake.lease) > 2000
    assert not await intake.is_held()


async def test_an_engine_that_is_closed_while_it_waits_for_entries_gives_the_lease_up(
    intake: Intake, redis_server: RedisServer
) -> None:
    settings = make_settings(engine=redis_server.url, redis_prefix=intake.prefix, intake="on")
    node = FakeNode(RedisEngine(settings, Clock()))
    with trio.fail_after(TIMEOUT):
        async with trio.open_nursery() as nursery:
            await nursery.start(node.engine.run, node)
            await intake.wait_idle()
            assert await intake.is_held()
            closed_at = trio.current_time()
            await node.engine.aclose()
    assert trio.current_time() - closed_at < 0.5
    assert not await intake.is_held()


async def test_a_node_that_dies_between_publishing_and_removing(intake: Intake) -> None:
    class DeathError(Exception):
        pass

    async def die(events: Sequence[Event]) -> None:
        if len(intake.publisher.events) >= 20:
            raise DeathError

    await intake.add_numbers(range(20))
    intake.publisher.after = die
    with trio.fail_after(TIMEOUT):
        try:
            await intake.run()
        except* DeathError:
            pass
    assert await intake.call("XLEN", intake.stream) == 20
    await intake.add_numbers(range(20, 30))
    # A node that is killed leaves the lease behind.
    await intake.call("SET", intake.lease, "the dead one", "PX", 400)
    began = trio.current_time()
    intake.publisher.after = None
    async with running(intake, lease_seconds=0.3):
        await intake.publisher.wait(30)
        assert trio.current_time() - began > 0.3
        await intake.wait_empty()
    assert intake.publisher.numbers == list(range(30))
    assert [event.id for batch in intake.publisher.batches for event in batch][20:40] == [
        event.id for event in intake.publisher.events[:20]
    ]
    assert intake.counts.accepted == 10, "of this node; those of the one that died are duplicates"


async def test_a_disconnect_that_comes_again_is_the_same(intake: Intake) -> None:
    """So who has logged in since is not closed, nor refused."""

    class DeathError(Exception):
        pass

    async def die(events: Sequence[Event]) -> None:
        raise DeathError

    await intake.add("disconnect", '{"user": "u", "group": "g"}')
    intake.publisher.after = die
    with trio.fail_after(TIMEOUT):
        try:
            await intake.run()
        except* DeathError:
            pass
    assert await intake.call("XLEN", intake.stream) == 1
    intake.publisher.after = None
    async with running(intake, lease_seconds=0.3):
        await intake.wait_empty()
    first, again = intake.publisher.all
    assert first == again
    assert intake.counts.accepted == 1


async def test_a_node_that_dies_before_publishing(intake: Intake) -> None:
    taken = trio.Event()

    async def hang(events: Sequence[Event]) -> None:
        taken.set()
        await trio.sleep_forever()

    await intake.add_numbers(range(10))
    intake.publisher.before = hang
    async with running(intake):
        await taken.wait()
    await intake.add_numbers(range(10, 20))
    intake.publisher.before = None
    async with running(intake):
        await intake.publisher.wait(20)
    assert intake.publisher.numbers == list(range(20))


async def test_a_node_that_lost_the_lease_while_it_was_held_up(intake: Intake) -> None:
    held_up, go_on = trio.Event(), trio.Event()

    async def hold_up(events: Sequence[Event]) -> None:
        if len(intake.publisher.batches) == 1:
            held_up.set()
            await go_on.wait()
            raise EngineUnavailableError("not now", retry_after=1)

    intake.publisher.before = hold_up
    await intake.add_numbers(range(10))
    async with running(intake, lease_seconds=0.3):
        await held_up.wait()
        await intake.call("SET", intake.lease, "another node", "PX", 60_000)
        # Until it has noticed: it asks every 0.1 s.
        await trio.sleep(0.25)
        go_on.set()
        await intake.add_numbers(range(10, 20))
        await trio.sleep(0.25)
        assert len(intake.publisher.batches) == 1, "it has published without the lease"
        assert await intake.call("GET", intake.lease) == b"another node"
        await intake.call("DEL", intake.lease)
        await intake.publisher.wait(20)
    assert intake.publisher.numbers == list(range(20))


async def test_a_node_that_does_not_know_yet_that_the_lease_is_lost_takes_nothing(intake: Intake) -> None:
    async with running(intake, lease_seconds=60.0):
        await intake.add_numbers([0])
        await intake.publisher.wait(1)
        await intake.wait_idle()
        await intake.call("SET", intake.lease, "another node")
        await intake.add_numbers([1])
        with trio.move_on_after(0.3):
            await intake.publisher.wait(2)
    assert intake.publisher.numbers == [0]
    assert await intake.pending() == 0


async def test_the_lease_is_kept_while_a_publish_takes_long(
    intake: Intake, redis_server: RedisServer
) -> None:
    async def take_long(events: Sequence[Event]) -> None:
        await trio.sleep(0.8)

    intake.publisher.before = take_long
    await intake.add_numbers([0])
    async with open_shards(redis_server.url) as shards:
        other = Intake(shards, intake.prefix)
        async with running(intake, lease_seconds=0.3):
            await intake.wait_held()
            async with running(other, lease_seconds=0.3):
                await intake.publisher.wait(1)
        assert other.publisher.batches == []


@pytest.mark.parametrize("state", ["waiting", "refused", "standing by", "redis hangs"])
async def test_it_stops_at_once(state: str) -> None:
    with RedisServer() as server:
        async with open_shards(server.url) as shards:
            intake = Intake(shards, "test")

            async def refuse(events: Sequence[Event]) -> None:
                raise EngineUnavailableError("not now", retry_after=60)

            if state == "refused":
                intake.publisher.before = refuse
            if state == "standing by":
                await intake.call("SET", intake.lease, "another node")
            await intake.add_numbers([0])
            async with running(intake):
                await trio.sleep(0.3)
                if state == "redis hangs":
                    server.pause()
                stopped_at = trio.current_time()
            assert trio.current_time() - stopped_at < 0.5
            server.resume()
            if state != "redis hangs":
                assert await intake.is_held() == (state == "standing by")


async def test_when_redis_is_lost_it_goes_on_where_it_was() -> None:
    published = trio.Event()

    async def tell(events: Sequence[Event]) -> None:
        published.set()
        await trio.sleep(0.1)

    with RedisServer(appendonly=True, appendfsync="always") as server:
        async with open_shards(server.url, timeout=1.0) as shards:
            intake = Intake(shards, "test")
            intake.publisher.after = tell
            await intake.add_numbers(range(10))
            async with running(intake, lease_seconds=0.3):
                with trio.fail_after(TIMEOUT):
                    await published.wait()
                    server.kill()
                    while shards.first.link is not None:
                        await shards.wait_change()
                    assert intake.publisher.numbers == list(range(10))
                    intake.publisher.after = None
                    server.start()
                    await shards.wait_for(intake.stream)
                await intake.add_numbers(range(10, 15))
                await intake.wait_empty()
            assert intake.publisher.numbers == list(range(15))
            assert [[event.id for event in batch] for batch in intake.publisher.batches[:2]] == [
                [event.id for event in intake.publisher.events[:10]]
            ] * 2


async def test_the_connection_that_waits_for_entries_is_lost(intake: Intake) -> None:
    async with running(intake):
        await intake.wait_idle()
        holder = await intake.call("GET", intake.lease)
        for line in (await intake.call("CLIENT", "LIST")).decode().splitlines():
            client = dict(each.partition("=")[::2] for each in line.split(" "))
            if client["cmd"] == "xread":
                await intake.call("CLIENT", "KILL", "ID", client["id"])
        began = trio.current_time()
        await intake.add_numbers([0])
        await intake.publisher.wait(1)
        assert trio.current_time() - began < 1
        # On another connection, and so not only by looking now and then.
        await intake.wait_idle()
        assert await intake.call("GET", intake.lease) == holder
        assert intake.shards.losses == 0
    assert intake.publisher.numbers == [0]


async def test_its_slot_moves(redis_cluster: Sequence[RedisServer], redis_prefix: str) -> None:
    ports = [server.port for server in redis_cluster]
    with capture_logs() as log:
        async with open_shards(f"redis+cluster://127.0.0.1:{ports[0]}") as shards:
            intake = Intake(shards, redis_prefix)
            home = ports.index((await shards.link_to(intake.stream)).server.port or 0)
            away = (home + 1) % len(ports)
            async with running(intake, lease_seconds=0.5):
                await intake.add_numbers(range(10))
                await intake.publisher.wait(10)
                await intake.wait_idle()
                for source, target, first in ((home, away, 10), (away, home, 30)):
                    async with moving_slot(intake, redis_cluster, source, target):
                        # It is there already, and its slot is not yet.
                        await intake.add_numbers(range(first, first + 10))
                        await intake.publisher.wait(first + 10)
                        await intake.wait_empty()
                    await intake.add_numbers(range(first + 10, first + 20))
                    await intake.publisher.wait(first + 20)
                    assert (await shards.link_to(intake.stream)).server.port == ports[target]
                assert shards.losses == 0
    assert intake.publisher.numbers == list(range(50))
    assert [each for each in log if each["log_level"] != "info"] == []


@asynccontextmanager
async def moving_slot(
    intake: Intake, servers: Sequence[RedisServer], source: int, target: int
) -> AsyncIterator[None]:
    """Move the intake to another server, and at the end of the block its slot."""

    async def run(server: RedisServer, *command: str) -> str:
        return await trio.to_thread.run_sync(server.cli, *command)

    old, new, slot = servers[source], servers[target], str(hash_slot(intake.stream.encode()))
    ids = [await run(server, "cluster", "myid") for server in (old, new)]
    await run(new, "cluster", "setslot", slot, "importing", ids[0])
    await run(old, "cluster", "setslot", slot, "migrating", ids[1])
    place = ("127.0.0.1", str(new.port), "", "0", "5000")
    await run(old, "migrate", *place, "replace", "keys", intake.stream, intake.lease)
    yield
    for server in (new, *servers):
        await run(server, "cluster", "setslot", slot, "node", ids[1])


async def test_the_stream_and_the_scripts_may_vanish(intake: Intake) -> None:
    async with running(intake, lease_seconds=0.3):
        await intake.add_numbers([0])
        await intake.publisher.wait(1)
        await intake.call("DEL", intake.stream)
        await intake.call("DEL", intake.lease)
        await intake.call("SCRIPT", "FLUSH")
        await intake.add_numbers([1])
        await intake.publisher.wait(2)
    assert intake.publisher.numbers == [0, 1]


async def test_a_key_of_another_type_is_complained_of_once(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "_PAUSE_IN_TROUBLE", 0.02)
    await intake.call("SET", intake.stream, "not a stream")
    with capture_logs() as log:
        async with running(intake, lease_seconds=0.3):
            await trio.sleep(0.5)
            await intake.call("DEL", intake.stream)
            await intake.add_numbers([0])
            await intake.publisher.wait(1)
    (complaint,) = log
    assert complaint["log_level"] == "error"
    assert "wrong kind of value" in complaint["reason"]
