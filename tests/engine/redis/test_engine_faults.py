"""The engine while Redis fails: nothing is lost in silence, and nothing comes twice."""

import random

import pytest
import trio
import trio.lowlevel
import trio.testing
from structlog.testing import capture_logs

from localful_ws.clock import Clock
from localful_ws.engine import EngineUnavailableError, Receipt
from localful_ws.engine.redis.lua import PUBLISH
from localful_ws.publishing import Disconnect
from tests.redis_server import RedisServer

from .links import open_url
from .nodes import SECONDS, Device, FakeNode, open_nodes, publish_surely, until, update

pytestmark = pytest.mark.sockets


def is_up(*nodes: FakeNode) -> bool:
    return all(node.engine.unavailable() is None for node in nodes)


async def kill_subscriptions(server: RedisServer) -> None:
    await trio.to_thread.run_sync(server.cli, "client", "kill", "type", "pubsub")


async def test_a_question_that_redis_does_not_answer() -> None:
    with RedisServer() as server:
        async with open_nodes(server.url, count=1, publish_timeout=0.2) as (node,):
            server.pause()
            with pytest.raises(EngineUnavailableError) as refused:
                await node.engine.who_is_there("ada", 2)
            assert refused.value.message == "Redis did not answer."
            with pytest.raises(EngineUnavailableError, match="may have been done or not"):
                await node.engine.disconnect(Disconnect(user="ada", at=0, until=1))
            server.resume()


async def test_redis_is_killed_and_comes_back() -> None:
    with RedisServer(appendonly=True, appendfsync="always") as server:
        async with open_nodes(server.url) as nodes:
            devices = [await node.join(Device("ada")) for node in nodes]
            away = await nodes[0].join(Device("ada"))
            nodes[0].leave(away)
            for number in range(100):
                if number in (30, 60):
                    async with trio.open_nursery() as nursery:
                        # One that is under way when it happens.
                        nursery.start_soon(publish_surely, nodes[0], update(number, id=str(number)))
                        await trio.lowlevel.checkpoint()
                        server.kill()
                        await until(lambda: not any(is_up(node) for node in nodes))
                        sentence = nodes[1].engine.unavailable()
                        assert sentence is not None
                        assert sentence.endswith(".")
                        with pytest.raises(EngineUnavailableError):
                            await nodes[1].publish(update(-1))
                        with pytest.raises(EngineUnavailableError):
                            await nodes[1].engine.disconnect(Disconnect(user="ada", at=0, until=1))
                        await trio.to_thread.run_sync(server.start)
                await publish_surely(nodes[number % 2], update(number, id=str(number)))
            for node, device in zip(nodes, devices, strict=True):
                await node.until(lambda device=device: len(device.numbers) >= 100)  # type: ignore[misc]
                assert device.numbers == list(range(100))
                assert node.figure("redis_losses") == 2
                assert node.figure("redis_missed") == 0
            await until(lambda: is_up(*nodes))
            await nodes[1].join(away, since=True)
            assert (away.resumed, away.numbers) == (True, list(range(100)))


async def test_subscriptions_are_cut_again_and_again() -> None:
    users = [f"user-{number}" for number in range(30)]
    with RedisServer() as server:
        async with open_nodes(server.url) as nodes:
            devices = [await node.join(Device(user)) for node in nodes for user in users]
            for number in range(100):
                async with trio.open_nursery() as nursery:
                    if number % 20 == 10:
                        nursery.start_soon(kill_subscriptions, server)
                    batch = [update(number, user, id=str(number)) for user in users]
                    await publish_surely(nodes[number % 2], *batch)
            for node in nodes:
                await node.until(lambda node=node: len(node.numbers) >= 100 * len(users))  # type: ignore[misc]
                assert node.figure("redis_losses") > 0
                assert node.figure("redis_missed") == 0
            assert all(device.numbers == list(range(100)) for device in devices)


async def test_commands_are_cut_again_and_again() -> None:
    with RedisServer() as server:
        async with open_nodes(server.url) as nodes:
            devices = [await node.join(Device("ada")) for node in nodes]
            # More often than the pool of a client has connections.
            for number in range(80):
                await trio.to_thread.run_sync(server.cli, "client", "kill", "type", "normal")
                await publish_surely(nodes[0], update(number, id=str(number)))
            for node, device in zip(nodes, devices, strict=True):
                await node.until(lambda device=device: len(device.numbers) >= 80)  # type: ignore[misc]
                assert device.numbers == list(range(80))


async def test_redis_says_nothing_for_too_long() -> None:
    with RedisServer() as server:
        async with open_nodes(server.url, redis_timeout=0.3, publish_timeout=0.2) as nodes:
            devices = [await node.join(Device("ada")) for node in nodes]
            await nodes[0].publish(update(0, id="0"))
            server.pause()
            # Its request is given up and arrives nevertheless.
            with pytest.raises(EngineUnavailableError, match="may have been done or not"):
                await nodes[0].publish(update(1, id="1"))
            await until(lambda: not any(is_up(node) for node in nodes))
            server.resume()
            await until(lambda: is_up(*nodes))
            await publish_surely(nodes[0], update(1, id="1"))
            for node, device in zip(nodes, devices, strict=True):
                await node.until(lambda device=device: device.numbers == [0, 1])  # type: ignore[misc]


async def test_too_many_publishes_are_under_way() -> None:
    with RedisServer() as server:
        async with open_nodes(server.url, count=1, redis_timeout=5, publish_timeout=0.5, publish_queue=1) as (
            node,
        ):
            device = await node.join(Device("ada"))
            await node.publish(update(0))
            server.pause()
            refused: list[str] = []

            async def publish(number: int) -> None:
                with pytest.raises(EngineUnavailableError) as error:
                    await node.publish(update(number, id=str(number)))
                refused.append(error.value.message)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(publish, 1)
                await trio.testing.wait_all_tasks_blocked(0.05)
                # Of these one gets the place when the first gives up, and the other waits in vain.
                nursery.start_soon(publish, 2)
                nursery.start_soon(publish, 3)
            assert sorted("Too many" in message for message in refused) == [False, False, True]
            server.resume()
            for number in (1, 2, 3):
                await publish_surely(node, update(number, id=str(number)))
            await node.until(lambda: sorted(device.numbers) == [0, 1, 2, 3])


async def test_a_request_that_is_given_up_does_not_confuse_those_after_it() -> None:
    with RedisServer() as server:
        async with open_nodes(server.url, count=1, redis_timeout=5, publish_timeout=0.1) as (node,):
            device = await node.join(Device("ada"))
            await node.publish(update(-1))  # from now on Redis has the script
            for number in range(5):
                server.pause()
                batch = [update(number, id=f"{number}.{index}") for index in range(number + 1)]
                with pytest.raises(EngineUnavailableError):
                    await node.publish(*batch)
                with trio.move_on_after(0.02) as scope:
                    await node.join(Device("ada", cursor=device.cursor), since=True)
                assert scope.cancelled_caught
                server.resume()
                assert await node.publish(*batch) == Receipt(0, number + 1)
                assert await node.publish(update(number)) == Receipt(1)
            assert node.figure("redis_losses") == 0
            await node.until(lambda: len(device.numbers) == 21)


async def test_everything_is_flushed_under_devices() -> None:
    with RedisServer() as server:
        async with open_nodes(server.url) as nodes:
            devices = [await node.join(Device("ada")) for node in nodes]
            bob = await nodes[0].join(Device("bob"))
            await nodes[0].publish(update(1))
            for node, device in zip(nodes, devices, strict=True):
                await node.until(lambda device=device: device.numbers == [1])  # type: ignore[misc]
            server.cli("flushall")
            await nodes[0].publish(update(2))
            for node, device in zip(nodes, devices, strict=True):
                await node.until(lambda device=device: device.lost)  # type: ignore[misc]
                assert device.numbers == [1]
                await node.join(device, since=True)
                assert device.resumed is False
            assert not bob.lost
            await nodes[1].publish(update(3))
            for node, device in zip(nodes, devices, strict=True):
                await node.until(lambda device=device: device.numbers == [1, 3])  # type: ignore[misc]


async def test_redis_comes_back_empty_and_is_given_what_was_acknowledged() -> None:
    with RedisServer() as server:
        async with open_nodes(server.url) as (one, two):
            ada, bob = await one.join(Device("ada")), await two.join(Device("bob"))
            await one.publish(update(1, id="1"), update(2))
            await two.publish(update(3), update(4, id="4"))
            server.kill()
            await until(lambda: not is_up(one) and not is_up(two))
            server.start()
            await two.until(lambda: bob.lost)  # of whom nobody knows anything
            await until(lambda: is_up(one, two))
            assert await two.publish(update(1, id="1"), update(4, id="4")) == Receipt(0, 2)
            await one.publish(update(5))
            await one.until(lambda: ada.numbers == [1, 2, 3, 4, 5])
            away = Device("ada", cursor=ada.cursor)
            assert (await two.join(away, since=True)).resumed is True


async def test_it_is_given_that_however_long_it_was_away() -> None:
    seconds = 1.0
    with RedisServer() as server:
        async with open_nodes(server.url, redis_handover_seconds=seconds) as nodes:
            device = await nodes[0].join(Device("ada"))
            away = await nodes[1].join(Device("ada"))
            nodes[1].leave(away)
            order = Disconnect(user="bob", at=Clock().now(), until=Clock().now() + 60)
            await nodes[0].engine.disconnect(order)
            await nodes[0].publish(update(0))
            server.kill()
            await until(lambda: not any(is_up(node) for node in nodes))
            # As long as that is kept, and as a sentinel takes to find out.
            over = trio.current_time() + seconds
            await until(lambda: trio.current_time() > over)
            await trio.to_thread.run_sync(server.start)
            await until(lambda: is_up(*nodes))
            await nodes[1].join(away, since=True)
            assert (away.resumed, away.numbers) == (True, [0])
            assert not device.lost
            assert "user:bob" in server.cli("hkeys", server.cli("keys", "*:revoked"))


async def test_what_redis_has_no_memory_for_is_given_back_as_soon_as_it_has() -> None:
    with RedisServer() as server:
        async with open_nodes(server.url, count=1) as (node,):
            away = await node.join(Device("ada"))
            node.leave(away)
            await node.publish(update(1), update(2, id="2"))
            server.kill()
            await until(lambda: not is_up(node))
            (server.directory / "redis.conf").write_text("maxmemory 1\n")
            server.start()
            await until(lambda: "OOM" in (node.engine.unavailable() or ""))
            server.cli("config", "set", "maxmemory", "0")
            await until(lambda: is_up(node))
            assert await node.publish(update(2, id="2"), update(3)) == Receipt(1, 1)
            await node.join(away, since=True)
            await node.until(lambda: away.numbers == [1, 2, 3])
            assert away.resumed is True


async def test_redis_comes_back_empty() -> None:
    with RedisServer() as server:
        async with open_nodes(server.url, redis_handover_seconds=0) as (one, two):
            ada, bob = await one.join(Device("ada")), await two.join(Device("bob"))
            await one.publish(update(1))
            server.kill()
            await until(lambda: not is_up(one) and not is_up(two))
            server.start()
            await one.until(lambda: ada.lost)
            await two.until(lambda: bob.lost)
            await until(lambda: is_up(one, two))
            await two.join(ada, since=True)
            assert ada.resumed is False
            await one.publish(update(2))
            await two.until(lambda: ada.numbers[-1] == 2)


async def test_redis_comes_back_with_an_older_state(redis_prefix: str) -> None:
    with RedisServer() as server:
        async with open_nodes(server.url, redis_prefix) as (one, two):
            device, bob = await one.join(Device("ada")), await two.join(Device("bob"))
            away = await two.join(Device("ada"))
            await one.publish(update(1))
            await two.until(lambda: away.numbers == [1])
            two.leave(away)
            key = f"{redis_prefix}:{{@ada}}"
            last = server.cli("hget", f"{key}:head", "last")
            await one.publish(update(2), update(3))
            await one.until(lambda: device.numbers == [1, 2, 3])
            # What a server does that had not written its file to the end.
            for gone in server.cli("xrange", f"{key}:events", f"({last}", "+").splitlines():
                if gone.count("-") == 1 and gone.replace("-", "").isdigit():
                    server.cli("xdel", f"{key}:events", gone)
            server.cli("hset", f"{key}:head", "last", last)
            await kill_subscriptions(server)
            await one.until(lambda: device.lost)
            await until(lambda: is_up(one, two))
            await two.publish(update(4))
            # It was not told of 2 and 3, and nobody can tell it any more.
            await two.join(away, since=True)
            assert (away.resumed, away.numbers) == (False, [1])
            await two.publish(update(5))
            await two.until(lambda: away.numbers == [1, 5])
            assert not bob.lost


async def test_redis_comes_back_with_the_state_before_a_stream_was_begun_anew(redis_prefix: str) -> None:
    with RedisServer() as server:
        async with open_nodes(server.url, redis_prefix) as (one, two):
            away = await two.join(Device("ada"))
            await one.publish(update(1))
            await two.until(lambda: away.numbers == [1])
            two.leave(away)
            kept = [f"{redis_prefix}:{{@ada}}:{what}" for what in ("events", "head")]
            for key in kept:
                server.cli("copy", key, f"{key}:before")
            server.cli("del", *kept)
            await one.publish(update(2))
            for key in kept:
                server.cli("copy", f"{key}:before", key, "replace")
            losses = one.figure("redis_losses")
            server.cli("client", "kill", "type", "normal")
            await kill_subscriptions(server)
            await one.until(lambda: one.figure("redis_losses") > losses)
            await until(lambda: is_up(one, two))
            # What it has a cursor of is there, and 2 is not.
            await two.join(away, since=True)
            assert (away.resumed, away.numbers) == (False, [1])


async def test_what_another_version_wrote_can_not_be_had(redis_prefix: str) -> None:
    with RedisServer() as server:
        async with open_nodes(server.url, redis_prefix) as (one, two), open_url(server.url) as link:
            device, away = await one.join(Device("ada")), await two.join(Device("ada"))
            two.leave(away)
            bob = await one.join(Device("bob"))
            key = f"{redis_prefix}:{{@ada}}"
            for message in (b"", b"{}", b"\xff", b'{"epoch":"e","prev":"0-0","events":[]}'):
                await link.call("PUBLISH", f"{key}:live", message)
            await one.publish(update(1))
            await one.until(lambda: device.numbers == [1])
            assert not device.lost
            arguments: list[str | bytes | int] = [
                100,
                60000,
                60000,
                60000,
                "PUBLISH",
                "e",
                f"{key}:live",
                1,
                "0",
            ]
            keys = f"{key}:events", f"{key}:head"
            stored = b'{"event":"user-dance","data":1}'
            await link.call("EVAL", PUBLISH.text, len(keys), *keys, *arguments, stored)
            await one.until(lambda: device.lost)
            await two.join(away, since=True)
            assert away.resumed is False
            await two.publish(update(2), update(2, "bob"))
            await two.until(lambda: away.numbers == [2])
            await one.until(lambda: bob.numbers == [2])
            assert is_up(one, two)


async def test_redis_has_no_memory_left() -> None:
    with RedisServer() as server:
        async with open_nodes(server.url, count=1, auth_timeout=0.2) as (node,):
            device = await node.join(Device("ada"))
            server.cli("config", "set", "maxmemory", "1")
            with capture_logs() as log:
                with pytest.raises(EngineUnavailableError):
                    await node.publish(update(1))
                with pytest.raises(EngineUnavailableError):
                    await node.engine.disconnect(Disconnect(user="ada", at=0, until=Clock().now() + 60))
                # She has a stream, and he has none.
                other = await node.join(Device("ada"), since=False)
                with pytest.raises(EngineUnavailableError):
                    await node.join(Device("bob"))
            assert all("OOM" in entry["reason"] for entry in log)
            assert [entry["event"] for entry in log if entry["log_level"] == "error"] == [
                "Redis refuses what is written; trying on",
                "a stream can't be read; trying on",
            ]
            reason = node.engine.unavailable()
            assert reason is not None
            assert "OOM" in reason
            assert node.figure("redis_losses") == 0
            server.cli("config", "set", "maxmemory", "0")
            await until(lambda: is_up(node))
            bob = await node.join(Device("bob"))
            await node.publish(update(2), update(2, "bob"))
            await node.until(lambda: device.numbers == other.numbers == bob.numbers == [2])


async def test_redis_becomes_a_replica() -> None:
    with RedisServer("--repl-diskless-sync-delay", "0") as primary, RedisServer() as server:
        async with open_nodes(server.url) as (one, two):
            device, other = await one.join(Device("ada")), await two.join(Device("ada"))
            server.cli("replicaof", "127.0.0.1", str(primary.port))
            for node in (one, two):
                with pytest.raises(EngineUnavailableError):
                    await node.publish(update(1))
            await until(lambda: not is_up(one) and not is_up(two))
            await until(lambda: "master_link_status:up" in server.cli("info", "replication"))
            server.cli("replicaof", "no", "one")
            await until(lambda: is_up(one, two))
            # It has now what the other one had.
            await one.until(lambda: device.lost)
            await two.until(lambda: other.lost)
            await one.join(device)
            await two.publish(update(2))
            await one.until(lambda: device.numbers == [2])


async def test_nobody_is_there_at_first(redis_prefix: str) -> None:
    with RedisServer() as server:
        server.kill()
        async with open_nodes(server.url, auth_timeout=0.2) as (one, two):
            assert not is_up(one)
            with pytest.raises(EngineUnavailableError):
                await one.join(Device("ada"))
            assert one.figure("redis_followed_users") == 0
            async with trio.open_nursery() as nursery:
                waiting = Device("ada")

                async def join() -> None:
                    while True:
                        try:
                            await two.join(waiting)
                        except EngineUnavailableError:
                            continue
                        return

                nursery.start_soon(join)
                await trio.to_thread.run_sync(server.start)
            await until(lambda: is_up(one, two))
            await one.publish(update(1))
            await two.until(lambda: waiting.numbers == [1])


async def test_joins_while_redis_comes_and_goes() -> None:
    draw = random.Random(3)
    with RedisServer(appendonly=True, appendfsync="always") as server:
        async with open_nodes(server.url, auth_timeout=1) as nodes:
            moving = [Device(f"user-{number}") for number in range(10)]
            for device in moving:
                await nodes[0].join(device)
                nodes[0].leave(device)
            numbers = 0
            over = False

            async def move(device: Device) -> None:
                while not over:
                    node = draw.choice(nodes)
                    try:
                        await node.join(device, since=True)
                    except EngineUnavailableError:
                        continue
                    assert device.resumed
                    await trio.sleep(draw.choice([0, 0.01]))
                    node.leave(device)

            with trio.fail_after(SECONDS):
                async with trio.open_nursery() as nursery:
                    for device in moving:
                        nursery.start_soon(move, device)
                    for _ in range(3):
                        for _ in range(20):
                            batch = [update(numbers, device.user, id=f"{numbers}") for device in moving]
                            await publish_surely(nodes[0], *batch)
                            numbers += 1
                        server.kill()
                        await trio.sleep(0.05)
                        await trio.to_thread.run_sync(server.start)
                    over = True
            await until(lambda: is_up(*nodes))
            for device in moving:
                await nodes[1].join(device, since=True)
                assert device.numbers == list(range(60))
                nodes[1].leave(device)
            assert [node.figure("redis_followed_users") for node in nodes] == [0, 0]


async def test_it_is_closed_while_it_is_busy() -> None:
    with RedisServer() as server:
        async with open_nodes(server.url, auth_timeout=0.3) as (one, two):
            device = await one.join(Device("ada"))
            one.gate = trio.Event()
            await two.publish(update(0))
            await one.until(lambda: one.handed == 1)
            await two.publish(*[update(number) for number in range(1, 10)])
            await until(lambda: one.figure("redis_queue_bytes") > 0)
            async with trio.open_nursery() as nursery:
                await one.engine.aclose()
                nursery.start_soon(refuse_join, one)
                with pytest.raises(EngineUnavailableError, match="shutting down"):
                    await one.publish(update(99))
                with pytest.raises(EngineUnavailableError):
                    await one.engine.pause("ada", str)
                server.cli("flushall")
                one.gate.set()
            await one.until(lambda: device.numbers == list(range(10)))


async def refuse_join(node: FakeNode) -> None:
    """Let nobody in."""
    for since in (True, False):
        with pytest.raises(EngineUnavailableError), trio.fail_after(SECONDS):
            await node.join(Device("cy"), since=since)
