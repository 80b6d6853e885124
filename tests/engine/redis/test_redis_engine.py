"""The engine in a real Redis: who may resume, and what does not disturb whom."""

import gc
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from localful_ws.clock import Clock
from localful_ws.engine import EngineUnavailableError, Receipt
from localful_ws.engine.redis import streams
from localful_ws.engine.redis.engine import RedisEngine
from localful_ws.protocol import Event, EventName
from tests.redis_server import RedisServer
from tests.world import make_settings

from .nodes import SECONDS, Device, FakeNode, open_nodes, until, update

pytestmark = pytest.mark.sockets


async def come(node: FakeNode, cursor: str, user: str = "ada") -> Device:
    """Have a device resume from a cursor."""
    return await node.join(Device(user, cursor=cursor), since=True)


async def cursors_of(node: FakeNode, count: int, user: str = "ada") -> list[str]:
    """Publish so many events to a user, one by one; the cursors before, between and after them."""
    device = await node.join(Device(user))
    cursors = [device.cursor]
    for number in range(1, count + 1):
        await node.publish(update(number, user))
        await node.until(lambda number=number: device.numbers[-1:] == [number])  # type: ignore[misc]
        cursors.append(device.cursor)
    node.leave(device)
    return cursors


async def test_resuming_from_each_cursor(redis_server: RedisServer) -> None:
    async with open_nodes(redis_server.url) as (one, two):
        cursors = await cursors_of(one, 5)
        keeps_on = await one.join(Device("ada"))
        assert keeps_on.resumed is None
        # With others there, and on a node where nobody is.
        for node in (one, two):
            for told, cursor in enumerate(cursors):
                device = await come(node, cursor)
                assert (device.resumed, device.numbers) == (True, list(range(told + 1, 6)))
                assert device.cursor == cursors[-1]
                node.leave(device)


async def test_no_resuming_from_what_is_no_place_in_the_stream(redis_server: RedisServer) -> None:
    async with open_nodes(redis_server.url, count=1) as (node,):
        cursors = await cursors_of(node, 3)
        others = await cursors_of(node, 1, "bob")
        epoch, _, last = cursors[-1].partition(".")
        milliseconds, _, sequence = last.partition("-")
        for cursor in (
            *others,
            f"{epoch}.{milliseconds}-{int(sequence) + 1}",
            f"{epoch}.{int(milliseconds) + 1}-0",
            f"{epoch}.{int(milliseconds) - 1}-999",
            f"{epoch}.0-1",
            f"abcdef.{last}",
            "made-up",
        ):
            device = await come(node, cursor)
            assert (device.resumed, device.cursor) == (False, cursors[-1])


async def test_no_resuming_if_more_was_missed_than_a_device_may_be_told(redis_server: RedisServer) -> None:
    async with open_nodes(redis_server.url, count=1, send_buffer_events=4) as (node,):
        cursors = await cursors_of(node, 4)
        assert (await come(node, cursors[0])).resumed is False
        assert (await come(node, cursors[1])).numbers == [2, 3, 4]
    sizes: dict[str, Any] = {
        "send_buffer_bytes": 100_000,
        "max_message_bytes": 1024,
        "max_event_bytes": 64_000,
    }
    async with open_nodes(redis_server.url, count=1, **sizes) as (node,):
        device = await node.join(Device("ada"))
        start, middle = device.cursor, ""
        for number in range(3):
            middle = middle or (device.cursor if number else "")
            data = b"%d" % number + b" " * 40_000
            await node.publish(Event(EventName.USER_UPDATE, "ada", data=data))
            await node.until(lambda number=number: device.numbers[-1:] == [number])  # type: ignore[misc]
        assert (await come(node, start)).resumed is False
        assert (await come(node, middle)).numbers == [1, 2]


async def test_those_who_resume_begin_behind_what_is_being_routed(redis_server: RedisServer) -> None:
    async with open_nodes(redis_server.url, count=1) as (node,):
        first = await node.join(Device("ada"))
        start = first.cursor
        node.gate = trio.Event()
        await node.publish(update(1))
        await until(lambda: not node.engine._queue.is_idle())
        await node.publish(update(2))
        resuming = [Device("ada", cursor=start) for _ in range(2)]
        async with trio.open_nursery() as nursery:
            for device in resuming:
                nursery.start_soon(partial(node.join, device, since=True))
            # Whoever begins at the present need not wait.
            anew = await node.join(Device("ada"))
            await until(lambda: node.figure("redis_queue_bytes") > 0)
            assert [device.resumed for device in resuming] == [None, None]
            node.gate.set()
        await node.until(lambda: all(device.numbers == [1, 2] for device in [first, *resuming]))
        await node.until(lambda: anew.numbers == [2])


async def test_renewals_happen_between_events(redis_server: RedisServer) -> None:
    async with open_nodes(redis_server.url, count=1) as (node,):
        device = await node.join(Device("ada"))
        cursors: list[str] = []
        await node.engine.pause("ada", cursors.append)
        assert cursors == [device.cursor]
        node.gate = trio.Event()
        await node.publish(update(1))
        await until(lambda: not node.engine._queue.is_idle())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node.engine.pause, "ada", cursors.append)
            await trio.testing.wait_all_tasks_blocked()
            assert len(cursors) == 1
            node.gate.set()
        assert device.numbers == [1]
        assert cursors[1:] == [device.cursor]


async def test_ids_are_remembered_for_their_time(redis_server: RedisServer, redis_prefix: str) -> None:
    async with open_nodes(redis_server.url, redis_prefix, count=1, idempotency_seconds=60) as (node,):
        batch = [update(1, id="a"), update(2), update(3, id="a"), update(4, id="b")]
        assert await node.publish(*batch) == Receipt(3, 1)
        assert await node.publish(*batch, update(5, "bob", id="a")) == Receipt(2, 3)
        assert 55_000 < int(redis_server.cli("pttl", f"{redis_prefix}:{{@ada}}:id:a")) <= 60_000
    async with open_nodes(redis_server.url, redis_prefix, count=1, idempotency_seconds=0) as (node,):
        assert await node.publish(*batch) == Receipt(4)


async def test_cursors_grow_although_the_clock_of_redis_is_set_back(
    redis_server: RedisServer, redis_prefix: str
) -> None:
    async with open_nodes(redis_server.url, redis_prefix, count=1) as (node,):
        await node.publish(update(1))
        # As if it had been ahead.
        redis_server.cli("hset", f"{redis_prefix}:{{@ada}}:head", "last", "9999999999999-7")
        cursors = await cursors_of(node, 2)
        assert [cursor.partition(".")[2] for cursor in cursors] == [
            *("9999999999999-7", "9999999999999-8", "9999999999999-9"),
        ]
        assert (await come(node, cursors[0])).numbers == [1, 2]


@pytest.mark.parametrize("is_read_first", [True, False])
async def test_a_stream_that_has_outlived_its_head_is_another_one(
    redis_server: RedisServer, redis_prefix: str, *, is_read_first: bool
) -> None:
    async with open_nodes(redis_server.url, redis_prefix, count=1) as (node,):
        await node.publish(update(1), update(2))
        redis_server.cli("del", f"{redis_prefix}:{{@ada}}:head")
        # An id that none comes after for some centuries.
        redis_server.cli("xadd", f"{redis_prefix}:{{@ada}}:events", "9999999999999-0", "p", "5-0", "e", "{}")
        if is_read_first:
            device = await node.join(Device("ada"))
        await node.publish(update(3))
        if is_read_first:
            await node.until(lambda: device.numbers == [3])
            assert not device.lost
        cursors = await cursors_of(node, 1)
        assert (await come(node, cursors[0])).numbers == [1]


async def test_who_finds_out_that_a_stream_was_lost_follows_the_new_one(
    redis_server: RedisServer, redis_prefix: str
) -> None:
    async with open_nodes(redis_server.url, redis_prefix, count=1) as (node,):
        cursors = await cursors_of(node, 1)
        stays = await node.join(Device("ada"))
        redis_server.cli("del", f"{redis_prefix}:{{@ada}}:head", f"{redis_prefix}:{{@ada}}:events")
        device = await come(node, cursors[0])
        assert device.resumed is False
        await node.until(lambda: stays.lost)
        assert (await come(node, device.cursor)).resumed is True
        await node.publish(update(2))
        await node.until(lambda: device.numbers == [2])
        assert not device.lost


async def test_the_end_of_a_stream_is_remembered_while_somebody_follows_it(
    redis_server: RedisServer, redis_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_KEEPINGS", 3000)
    heads = [f"{redis_prefix}:{{@{user}}}:head" for user in ("ada", "bob")]
    async with open_nodes(redis_server.url, redis_prefix, count=1, cursor_seconds=60) as (node,):
        for user in ("ada", "bob"):
            await node.join(Device(user))
        for head in heads:
            redis_server.cli("pexpire", head, "9000")
        await until(lambda: all(int(redis_server.cli("pttl", head)) > 50_000 for head in heads))


async def test_a_large_batch_does_not_cut_off_who_hears_of_it() -> None:
    large = [Event(EventName.USER_UPDATE, "ada", data=b"%d" % number + b" " * 60_000) for number in range(60)]
    with RedisServer("--client-output-buffer-limit", "pubsub 2mb 0 0") as server:
        async with open_nodes(server.url) as (one, two):
            devices = [await node.join(Device(user)) for node in (one, two) for user in ("ada", "bob")]
            await one.publish(update(100), *large, update(101, "bob"), update(102))
            await one.publish(update(103))
            wanted = {"ada": [100, *range(60), 102, 103], "bob": [101]}
            for node, (ada, bob) in ((one, devices[:2]), (two, devices[2:])):
                await node.until(lambda ada=ada: ada.numbers == wanted["ada"])  # type: ignore[misc]
                await node.until(lambda bob=bob: bob.numbers == wanted["bob"])  # type: ignore[misc]
                assert node.figure("redis_losses") == 0


async def test_a_large_batch_that_is_not_kept_is_told_all_the_same(redis_server: RedisServer) -> None:
    large = [Event(EventName.USER_UPDATE, "ada", data=b"%d" % number + b" " * 60_000) for number in range(30)]
    async with open_nodes(redis_server.url, history_events=20, redis_queue_bytes=1024**3) as (one, two):
        device = await one.join(Device("ada"))
        await two.publish(*large)
        await one.until(lambda: device.numbers == list(range(30)))
        assert not device.lost


async def test_closing_hands_over_what_was_taken_in(redis_server: RedisServer) -> None:
    async with open_nodes(redis_server.url, count=1) as (node,):
        device = await node.join(Device("ada"))
        node.gate = trio.Event()
        await node.publish(update(0))
        # It is at the gate, and the others behind it.
        await node.until(lambda: node.handed == 1)
        await node.publish(update(1))
        await until(lambda: node.figure("redis_queue_bytes") > 0)
        one = node.figure("redis_queue_bytes")
        for number in range(2, 10):
            await node.publish(update(number))
        # Nearly the same size each: their places may differ by a digit.
        await until(lambda: node.figure("redis_queue_bytes") > 8.5 * one)
        await node.engine.aclose()
        with pytest.raises(EngineUnavailableError):
            await node.publish(update(10))
        with pytest.raises(EngineUnavailableError):
            await come(node, device.cursor)
    assert device.numbers == list(range(10))


async def test_closing_does_not_wait_for_a_redis_that_hangs() -> None:
    with RedisServer() as server:
        engine = RedisEngine(make_settings(engine=server.url, redis_timeout=1000.0), Clock())
        server.pause()
        with trio.fail_after(SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(engine.run, FakeNode(engine))
                await trio.testing.wait_all_tasks_blocked()
                await engine.aclose()


async def test_closing_before_it_runs(redis_server: RedisServer) -> None:
    engine = RedisEngine(make_settings(engine=redis_server.url), Clock())
    await engine.aclose()
    with trio.fail_after(SECONDS):
        await engine.run(FakeNode(engine))


async def test_it_may_be_cancelled_at_any_moment(redis_server: RedisServer, redis_prefix: str) -> None:
    for turn in range(60):
        prefix = f"{redis_prefix}-{turn}"
        engine = RedisEngine(make_settings(engine=redis_server.url, redis_prefix=prefix), Clock())
        with trio.fail_after(SECONDS):
            async with trio.open_nursery() as nursery:
                await nursery.start(engine.run, FakeNode(engine))
                if turn % 2:
                    # It reads the intake by now.
                    lease = f"{prefix}:{{{prefix}:intake}}:reader"
                    await until(lambda lease=lease: redis_server.cli("exists", lease) == "1")  # type: ignore[misc]
                for _ in range(turn % 30):
                    await trio.lowlevel.checkpoint()
                if turn % 3:
                    await engine.aclose()
                nursery.cancel_scope.cancel()


async def test_being_cancelled_leaves_no_connection_open(redis_cluster: Sequence[RedisServer]) -> None:
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in redis_cluster)
    engine = RedisEngine(make_settings(engine=f"redis+cluster://{hosts}", intake="off"), Clock())
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(engine.run, FakeNode(engine))
            nursery.cancel_scope.cancel()
    # One that is still open is complained of when it is collected, which fails the test.
    gc.collect()
