"""The engine in a Redis that is well: devices come, go and move between nodes, and miss nothing."""

import random
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import trio

from localful_ws.clock import Clock
from localful_ws.engine import Position, Receipt, replay_limits
from localful_ws.protocol import Event, EventName
from localful_ws.publishing import Disconnect
from tests.redis_server import RedisServer
from tests.world import make_settings

from .nodes import SECONDS, Device, FakeNode, open_nodes, until, update

pytestmark = pytest.mark.sockets

STRANGE = ["a{b}c%é", "{", "}{", "%7B", "{control}", "☃", " ", "a:b\r\n*"]


def large(number: int, size: int, user: str = "ada") -> Event:
    """An event with so many bytes of data."""
    return Event(EventName.USER_UPDATE, user, data=b'"%*d"' % (size - 2, number))


async def test_each_node_routes_what_its_users_get(redis_server: RedisServer) -> None:
    async with open_nodes(redis_server.url) as (one, two):
        ada, bob = await one.join(Device("ada")), await two.join(Device("bob"))
        both = await two.join(Device("ada"))
        assert await one.publish(update(1), update(2, "bob"), update(3), update(4, "cy")) == Receipt(4)
        assert await two.publish(update(5, "bob"), update(6)) == Receipt(2)
        await one.until(lambda: ada.numbers == [1, 3, 6])
        await two.until(lambda: both.numbers == [1, 3, 6] and bob.numbers == [2, 5])
        assert (one.numbers, two.numbers) == ([1, 3, 6], [1, 3, 2, 5, 6])
        assert ada.cursor == both.cursor


@pytest.mark.parametrize("user", STRANGE)
async def test_users_whose_names_look_like_something(redis_server: RedisServer, user: str) -> None:
    async with open_nodes(redis_server.url) as (one, two):
        device = await one.join(Device(user))
        others = [await two.join(Device(other)) for other in STRANGE if other != user]
        assert await two.publish(update(1, user, id=user), update(2, user, id=user)) == Receipt(1, 1)
        await one.until(lambda: device.numbers == [1])
        one.leave(device)
        await two.publish(update(3, user))
        await two.join(device, since=True)
        assert (device.numbers, device.resumed) == ([1, 3], True)
        assert [other.numbers for other in others] == [[]] * len(others)


async def test_an_id_is_accepted_once(redis_server: RedisServer) -> None:
    async with open_nodes(redis_server.url) as (one, two):
        device = await one.join(Device("ada"))
        batch = [update(1, id="a"), update(2, id="b"), update(3, id="a"), update(4), update(5, "bob", id="a")]
        assert await one.publish(*batch) == Receipt(4, 1)
        assert await two.publish(*batch) == Receipt(1, 4)
        await one.until(lambda: device.numbers == [1, 2, 4, 4])


async def test_a_batch_of_a_thousand_users(redis_server: RedisServer) -> None:
    patience: Any = dict.fromkeys(("auth_timeout", "publish_timeout", "redis_timeout"), 30.0)
    async with open_nodes(redis_server.url, **patience) as (one, two):
        users = [f"user-{number}" for number in range(1000)]
        devices = []

        async def join(user: str) -> None:
            devices.append(await one.join(Device(user)))

        async with trio.open_nursery() as nursery:
            for user in users:
                nursery.start_soon(join, user)
        batch = [update(number, user, id="i" * 128) for number, user in enumerate(users)]
        assert await two.publish(*batch) == Receipt(1000)
        await one.until(lambda: len(one.numbers) == 1000)
        assert all(device.numbers == [int(device.user[5:])] for device in devices)
        assert await two.publish(*batch, *[update(1, id=str(number)) for number in range(1000)]) == Receipt(
            1000, 1000
        )


async def test_events_as_large_as_a_batch_may_be(redis_server: RedisServer) -> None:
    events = [large(number, 900_000) for number in range(5)]
    async with open_nodes(redis_server.url, send_buffer_bytes=4 * 1024 * 1024) as (one, two):
        device, other = await one.join(Device("ada")), await two.join(Device("ada"))
        two.leave(other)
        await two.publish(*events[:4])
        await one.until(lambda: device.numbers == [0, 1, 2, 3])
        await two.join(other, since=True)
        assert (other.resumed, other.numbers) == (True, [0, 1, 2, 3])
        two.leave(other)
        other.cursor, one_cursor = device.cursor, other.cursor
        await two.publish(*events)
        await two.join(other, since=True)
        assert other.resumed is False, "more than a send buffer holds"
        assert device.cursor != one_cursor


async def test_more_than_a_send_buffer_holds_is_not_told(redis_server: RedisServer) -> None:
    settings = make_settings()
    room = settings.send_buffer_bytes - replay_limits(settings).max_bytes
    changes: dict[str, Any] = {"send_buffer_events": 31, "send_buffer_bytes": room + 20_000}
    async with open_nodes(redis_server.url, count=1, **changes) as (node,):
        device = await node.join(Device("ada"))
        node.leave(device)
        resumed = []
        for number in range(35):
            await node.publish(update(number))
            late = await node.join(Device("ada", cursor=device.cursor), since=True)
            resumed.append(late.resumed)
            node.leave(late)
        # An event counts for more than its data: it has an envelope.
        assert resumed.index(False) == 30
        await node.publish(*[large(1, 2000, "bob")] * 10)
        bob = await node.join(Device("bob"))
        for count, fits in ((9, True), (10, False)):
            start = bob.cursor
            await node.publish(*[large(1, 2000, "bob")] * count)
            late = await node.join(Device("bob", cursor=start), since=True)
            assert late.resumed is fits
            node.leave(late)
            await node.until(lambda late=late: bob.cursor == late.cursor)  # type: ignore[misc]


async def test_history_ends_by_count_and_by_age(redis_server: RedisServer) -> None:
    async with open_nodes(redis_server.url, count=1, history_events=3, history_seconds=0.4) as (node,):
        device = await node.join(Device("ada"))
        node.leave(device)
        start = device.cursor
        await node.publish(update(1), update(2), update(3))
        await node.join(device, since=True)
        assert (device.resumed, device.numbers) == (True, [1, 2, 3])
        await node.publish(update(4))
        late = Device("ada", cursor=start)
        await node.join(late, since=True)
        assert (late.resumed, late.numbers) == (False, [])
        node.leave(late)
        late.cursor = device.cursor
        await trio.sleep(0.45)
        await node.publish(update(5))
        await node.until(lambda: device.numbers[-1] == 5)
        old = Device("ada", cursor=start)
        assert (await node.join(old, since=True)).resumed is False


@pytest.mark.parametrize("changes", [{"history_events": 0}, {"history_seconds": 0}])
async def test_without_history_a_gap_is_told(redis_server: RedisServer, changes: dict[str, Any]) -> None:
    async with open_nodes(redis_server.url, redis_queue_bytes=1024, **changes) as (one, two):
        device = await one.join(Device("ada"))
        await two.publish(update(1))
        await one.until(lambda: device.numbers == [1])
        one.gate = trio.Event()
        for number in range(2, 12):
            await two.publish(update(number))
        # Being routed, in the queue, and then no room.
        await until(lambda: one.figure("redis_queue_bytes") >= 1024)
        await until(lambda: one.figure("redis_followed_users") == 1)
        one.gate.set()
        await one.until(lambda: device.lost)
        assert device.numbers == list(range(1, 1 + len(device.numbers)))
        assert len(device.numbers) < 11
        await one.join(device, since=True)
        assert device.resumed is False
        await two.publish(update(12))
        await one.until(lambda: device.numbers[-1] == 12)


async def test_a_full_queue_loses_nothing(redis_server: RedisServer) -> None:
    users = [f"user-{number}" for number in range(40)]
    async with open_nodes(redis_server.url, redis_queue_bytes=1024) as (one, two):
        devices = [await one.join(Device(user)) for user in users]
        one.gate = trio.Event()
        for number in range(20):
            await two.publish(*[update(number, user) for user in users])
        await until(lambda: one.figure("redis_queue_bytes") >= 1024)
        # One that comes meanwhile waits, and is told all.
        late = Device(users[0], cursor=devices[0].cursor)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(one.join, late, since=True))
            await trio.sleep(0.05)
            assert late.resumed is None
            one.gate.set()
        for device in [*devices, late]:
            await one.until(lambda device=device: len(device.numbers) == 20)  # type: ignore[misc]
            assert device.numbers == list(range(20))
        assert one.figure("redis_missed") == 0
        assert one.figure("redis_readings") > 0


async def test_who_comes_after_all_have_left_is_told_nothing_of_before(redis_server: RedisServer) -> None:
    async with open_nodes(redis_server.url) as (one, two):
        gone, other = await one.join(Device("ada")), await one.join(Device("bob"))
        one.gate = trio.Event()
        await two.publish(update(0, "bob"))
        await two.publish(update(1), update(2))
        await until(lambda: one.figure("redis_queue_bytes") > 0)
        one.leave(gone)
        new = await one.join(Device("ada"))
        one.gate.set()
        await two.publish(update(3))
        await one.until(lambda: 3 in new.numbers)
        assert new.numbers == [3]
        assert other.numbers == [0]


async def test_a_device_moves_between_nodes_under_load(redis_server: RedisServer) -> None:
    draw = random.Random(1)
    total = 400
    async with open_nodes(redis_server.url, redis_queue_bytes=4096) as nodes, trio.open_nursery() as nursery:
        moving = [Device("ada") for _ in range(4)]
        staying = [await node.join(Device("ada")) for node in nodes]
        for device in moving:
            await nodes[0].join(device)

        async def stutter(node: FakeNode) -> None:
            while len(node.numbers) < total:
                node.gate = trio.Event()
                await trio.sleep(draw.random() * 0.02)
                node.gate.set()
                await trio.sleep(draw.random() * 0.02)

        async def move(device: Device) -> None:
            node = nodes[0]
            while len(device.numbers) < total:
                node.leave(device)
                await trio.sleep(draw.choice([0, 0, 0.005]))
                node = draw.choice(nodes)
                await node.join(device, since=True)
                assert device.resumed, "the history reaches back"
                await trio.sleep(draw.choice([0, 0.002, 0.02]))

        with trio.fail_after(SECONDS):
            async with trio.open_nursery() as busy:
                # Each of them is too slow at times, and its queue full.
                for node in nodes:
                    nursery.start_soon(stutter, node)
                for device in moving:
                    busy.start_soon(move, device)
                for number in range(total):
                    await nodes[number % 2].publish(update(number), update(number, "bob"))
        for node, device in zip(nodes, staying, strict=True):
            await node.until(lambda device=device: len(device.numbers) >= total)  # type: ignore[misc]
        assert all(device.numbers == list(range(total)) for device in [*moving, *staying])
        nursery.cancel_scope.cancel()


async def test_many_come_and_go(redis_server: RedisServer, redis_prefix: str) -> None:
    draw = random.Random(2)
    users = [f"user-{number}" for number in range(20)]
    over = False
    async with open_nodes(redis_server.url, redis_prefix) as nodes:

        async def publish() -> None:
            for number in range(200):
                await nodes[0].publish(*[update(number, user) for user in users])

        async def come_and_go(device: Device) -> None:
            began: int | None = None
            node = nodes[0]
            while not over:
                await node.join(device, since=began is not None)
                began = began or 0
                assert device.resumed is not False
                await trio.sleep(draw.choice([0, 0, 0.01]))
                node.leave(device)
                node = draw.choice(nodes)
            await node.join(device, since=True)
            node.leave(device)

        devices = [Device(user) for user in users]
        with trio.fail_after(SECONDS):
            async with trio.open_nursery() as nursery:
                for device in devices:
                    nursery.start_soon(come_and_go, device)
                await publish()
                over = True
        for device in devices:
            assert device.numbers == list(range(200))[-len(device.numbers) :]
            assert len(device.numbers) > 100
        assert [node.figure("redis_followed_users") for node in nodes] == [0, 0]
        await until(lambda: redis_server.cli("pubsub", "channels", f"{redis_prefix}:*user-*") == "")


@pytest.mark.parametrize("steps", range(12))
async def test_a_join_that_is_cancelled_follows_nothing(redis_server: RedisServer, steps: int) -> None:
    async with open_nodes(redis_server.url, count=1) as (node,):
        device = await node.join(Device("ada"))
        node.leave(device)
        for since in (False, True):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(partial(node.join, device, since=since))
                    for _ in range(steps):
                        await trio.sleep(0.0005)
                    scope.cancel()
            if device in node.devices["ada"]:
                node.leave(device)
            assert node.figure("redis_followed_users") == 0
        await node.join(device, since=True)
        assert device.resumed


async def test_what_begin_raises_is_raised_and_nothing_is_followed(redis_server: RedisServer) -> None:
    def begin(position: Position) -> None:
        raise ZeroDivisionError

    async with open_nodes(redis_server.url, count=1) as (node,):
        for since in (None, (await node.join(Device("ada"))).cursor, "nonsense"):
            with pytest.raises(ZeroDivisionError):
                await node.engine.join("bob", since, begin)
        assert node.figure("redis_followed_users") == 1


async def test_a_cluster(redis_cluster: Sequence[RedisServer]) -> None:
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in redis_cluster)
    users = [f"user-{number}" for number in range(30)] + STRANGE
    async with open_nodes(f"redis+cluster://{hosts}") as (one, two):
        devices = [await one.join(Device(user)) for user in users]
        batch = [update(number, user, id="1") for number, user in enumerate(users)]
        assert await two.publish(*batch) == Receipt(len(users))
        assert await one.publish(*batch, update(99)) == Receipt(1, len(users))
        await one.until(lambda: len(one.numbers) == len(users))
        assert [device.numbers for device in devices] == [[number] for number in range(len(users))]
        for device in devices:
            one.leave(device)
        await one.publish(*[update(50, user) for user in users])
        for device in devices:
            await two.join(device, since=True)
            assert (device.resumed, device.numbers[1:]) == (True, [50])
        now = Clock().now()
        assert await one.engine.disconnect(Disconnect(user=users[0], at=now, until=now + 60)) == 1
