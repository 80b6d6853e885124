"""The intake is read by one node at a time, and nothing is lost whatever becomes of it."""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import pytest
import trio
import trio.testing
from localful_ws.engine.redis.clients import REDIS_ERRORS, RedisClient, open_client
from structlog.testing import capture_logs

from localful_ws.engine import EngineUnavailableError
from localful_ws.engine.redis import intake as intake_module
from localful_ws.engine.redis.intake import IntakeCounts
from localful_ws.engine.redis.lua import INTAKE_LEASE
from localful_ws.protocol import Event
from tests.redis_server import RedisServer

from .intakes import TIMEOUT, Intake, Publisher, running

pytestmark = pytest.mark.sockets


@pytest.fixture
async def intake(redis_server: RedisServer, redis_prefix: str) -> AsyncIterator[Intake]:
    async with open_client(redis_server.url, TIMEOUT) as client:
        yield Intake(client, redis_server, redis_prefix)


async def test_only_one_of_two_nodes_reads_and_the_other_takes_over(intake: Intake) -> None:
    async with open_client(intake.server.url, TIMEOUT) as client:
        other = Intake(client, intake.server, intake.prefix)
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


class _DeafClient:
    """Never hears that it has got the lease."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self.got = trio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def register_script(self, script: str) -> Any:
        run = self._client.register_script(script)
        return self._get_lease(run) if script == INTAKE_LEASE else run

    def _get_lease(self, run: Any) -> Any:
        async def get_lease(keys: Sequence[str], arguments: Sequence[Any]) -> None:
            if await run(keys, arguments):
                self.got.set()
                await trio.sleep_forever()

        return get_lease


async def test_a_lease_that_was_only_asked_for_is_given_up(intake: Intake) -> None:
    client: Any = _DeafClient(intake.client)
    with trio.fail_after(TIMEOUT):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Intake(client, intake.server, intake.prefix).run)
            await client.got.wait()
            assert await intake.client.pttl(intake.lease) > 2000
            nursery.cancel_scope.cancel()
    assert not await intake.client.exists([intake.lease])


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
    assert await intake.client.xlen(intake.stream) == 20
    await intake.add_numbers(range(20, 30))
    # A node that is killed leaves the lease behind.
    await intake.client.set(intake.lease, "the dead one", px=400)
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
    assert await intake.client.xlen(intake.stream) == 1
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
        await intake.client.set(intake.lease, "another node", px=60_000)
        # Until it has noticed: it asks every 0.1 s.
        await trio.sleep(0.25)
        go_on.set()
        await intake.add_numbers(range(10, 20))
        await trio.sleep(0.25)
        assert len(intake.publisher.batches) == 1, "it has published without the lease"
        assert (await intake.client.get(intake.lease)) == b"another node"
        await intake.client.delete([intake.lease])
        await intake.publisher.wait(20)
    assert intake.publisher.numbers == list(range(20))


async def test_a_node_that_does_not_know_yet_that_the_lease_is_lost_takes_nothing(intake: Intake) -> None:
    async with running(intake, lease_seconds=60.0):
        await intake.add_numbers([0])
        await intake.publisher.wait(1)
        await intake.wait_idle()
        await intake.client.set(intake.lease, "another node")
        await intake.add_numbers([1])
        with trio.move_on_after(0.3):
            await intake.publisher.wait(2)
    assert intake.publisher.numbers == [0]
    pending: Any = await intake.client.xpending(intake.stream, "localful")
    assert pending.pending == 0


async def test_the_lease_is_kept_while_a_publish_takes_long(intake: Intake) -> None:
    async def take_long(events: Sequence[Event]) -> None:
        await trio.sleep(0.8)

    intake.publisher.before = take_long
    await intake.add_numbers([0])
    async with open_client(intake.server.url, TIMEOUT) as client:
        other = Intake(client, intake.server, intake.prefix)
        async with running(intake, lease_seconds=0.3):
            while not await intake.is_held():
                await trio.lowlevel.checkpoint()
            async with running(other, lease_seconds=0.3):
                await intake.publisher.wait(1)
        assert other.publisher.batches == []


@pytest.mark.parametrize("state", ["waiting", "refused", "standing by", "redis hangs"])
async def test_it_stops_at_once(state: str) -> None:
    with RedisServer() as server:
        async with open_client(server.url, TIMEOUT) as client:
            intake = Intake(client, server, "test")

            async def refuse(events: Sequence[Event]) -> None:
                raise EngineUnavailableError("not now", retry_after=60)

            if state == "refused":
                intake.publisher.before = refuse
            if state == "standing by":
                await client.set(intake.lease, "another node")
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


async def test_when_redis_is_lost_it_ends_and_another_run_goes_on_where_it_was() -> None:
    published = trio.Event()

    async def tell(events: Sequence[Event]) -> None:
        published.set()
        await trio.sleep(0.1)

    with RedisServer(appendonly=True, appendfsync="always") as server:
        publisher = Publisher(after=tell)
        counts = IntakeCounts()

        async def run(numbers: Iterable[int], *, kill: bool) -> None:
            async with open_client(server.url, 1.0) as client:
                intake = Intake(client, server, "test", publisher, counts)
                await intake.add_numbers(numbers)
                async with running(intake, lease_seconds=0.3):
                    await published.wait()
                    if kill:
                        server.kill()
                        await trio.sleep(TIMEOUT)
                    await intake.wait_empty()

        with pytest.raises(REDIS_ERRORS):
            await run(range(10), kill=True)
        server.start()
        publisher.after = None
        await run(range(10, 15), kill=False)
        assert publisher.numbers == list(range(15))
        assert len(publisher.batches) >= 2


async def test_the_stream_and_the_scripts_may_vanish(intake: Intake) -> None:
    async with running(intake, lease_seconds=0.3):
        await intake.add_numbers([0])
        await intake.publisher.wait(1)
        await intake.client.delete([intake.stream])
        await intake.client.delete([intake.lease])
        await intake.client.script_flush()
        await intake.add_numbers([1])
        await intake.publisher.wait(2)
    assert intake.publisher.numbers == [0, 1]


async def test_a_key_of_another_type_is_complained_of_once(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "_PAUSE_IN_TROUBLE", 0.02)
    await intake.client.set(intake.stream, "not a stream")
    with capture_logs() as log:
        async with running(intake, lease_seconds=0.3):
            await trio.sleep(0.5)
            await intake.client.delete([intake.stream])
            await intake.add_numbers([0])
            await intake.publisher.wait(1)
    (complaint,) = log
    assert complaint["log_level"] == "error"
    assert "wrong kind of value" in complaint["reason"]
