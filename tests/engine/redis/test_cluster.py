"""A Cluster whose slots move and whose servers die, while it is written to and heard."""

from collections.abc import Sequence
from itertools import count, islice

import pytest
import trio

from localful_ws.engine import EngineUnavailableError, Receipt
from localful_ws.engine.redis.keys import hash_slot
from localful_ws.engine.redis.link import Link
from localful_ws.engine.redis.shard import Shard
from tests.redis_server import RedisServer
from tests.redis_server import redis_cluster as run_cluster

from .nodes import Device, open_nodes, publish_surely, until, update

pytestmark = pytest.mark.sockets

SLOTS = 16384


def url_of(servers: Sequence[RedisServer]) -> str:
    return f"redis+cluster://127.0.0.1:{servers[0].port}"


def slot_of(prefix: str, user: str = "ada") -> int:
    return hash_slot(f"{prefix}:{{@{user}}}:live".encode())


def owner_of(slot: int, servers: Sequence[RedisServer]) -> RedisServer:
    """Who had it when the Cluster was made."""
    count = len(servers)
    return next(server for n, server in enumerate(servers) if slot < SLOTS * (n + 1) // count)


def users_of(prefix: str, servers: Sequence[RedisServer]) -> list[str]:
    """A user at each of the servers."""
    users: dict[int, str] = {}
    for number in range(1000):
        user = f"user-{number}"
        users.setdefault(owner_of(slot_of(prefix, user), servers).port, user)
    return [users[server.port] for server in servers]


class Move:
    """A slot on its way from one server to another."""

    def __init__(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        self.slot, self.source, self.target = str(slot), source, target
        self._ids = source.cli("cluster", "myid"), target.cli("cluster", "myid")

    def begin(self) -> None:
        """Have new keys made at the new server."""
        self.target.cli("cluster", "setslot", self.slot, "importing", self._ids[0])
        self.source.cli("cluster", "setslot", self.slot, "migrating", self._ids[1])

    def keys_left(self) -> list[str]:
        """What is still at the old server."""
        return self.source.cli("cluster", "getkeysinslot", self.slot, "10000").split()

    def take(self, *keys: str) -> None:
        """Move some of that."""
        self.source.cli("migrate", "127.0.0.1", str(self.target.port), "", "0", "5000", "keys", *keys)

    def end(self) -> None:
        """Have all of the slot at the new server."""
        self.target.cli("cluster", "setslot", self.slot, "node", self._ids[1])
        self.source.cli("cluster", "setslot", self.slot, "node", self._ids[1])

    def do(self) -> None:
        """Do all of it."""
        self.begin()
        self.take(*self.keys_left())
        assert self.keys_left() == []
        self.end()


async def test_a_slot_moves_key_by_key_while_it_is_written_to(
    redis_cluster: Sequence[RedisServer], redis_prefix: str
) -> None:
    slot = slot_of(redis_prefix)
    source = owner_of(slot, redis_cluster)
    target = next(server for server in redis_cluster if server is not source)
    async with open_nodes(url_of(redis_cluster), redis_prefix) as nodes:
        devices = [await node.join(Device("ada")) for node in nodes]
        bob = await nodes[0].join(Device("bob"))
        known: list[int] = []

        async def publish() -> None:
            for number in range(len(known), len(known) + 3):
                await publish_surely(nodes[number % 2], update(number, id=str(number)))
                known.append(number)

        await publish()
        for move in (Move(slot, source, target), Move(slot, target, source)):
            move.begin()
            async with trio.open_nursery() as nursery:
                # As long as some of its keys are here and some, or new ones, there: TRYAGAIN.
                nursery.start_soon(publish)
                for key in move.keys_left():
                    await trio.to_thread.run_sync(move.take, key)
                    await trio.sleep(0.05)
                # Now nothing is here any more, and what needs no new key is done there: ASK.
                assert await nodes[0].publish(update(-1)) == Receipt(1)
                known.append(-1)
                move.end()
            await publish()
            for node, device in zip(nodes, devices, strict=True):
                await node.until(lambda device=device: len(device.numbers) >= len(known))  # type: ignore[misc]
                assert device.numbers == known
                assert node.figure("redis_losses") == 0
                assert node.engine.unavailable() is None
        await publish_surely(nodes[0], update(7, "bob", id="7"))
        await nodes[0].until(lambda: bob.numbers == [7])
        assert not any(device.lost for device in (*devices, bob))


async def test_nothing_is_missed_when_a_slot_moves_in_a_moment(
    redis_cluster: Sequence[RedisServer], redis_prefix: str
) -> None:
    slot = slot_of(redis_prefix)
    source = owner_of(slot, redis_cluster)
    target = next(server for server in redis_cluster if server is not source)
    async with open_nodes(url_of(redis_cluster), redis_prefix) as nodes:
        devices = [await node.join(Device("ada")) for node in nodes]
        numbers = 0
        over = False

        async def publish() -> None:
            nonlocal numbers
            while not over:
                await publish_surely(nodes[numbers % 2], update(numbers, id=str(numbers)))
                numbers += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish)
            for move in [Move(slot, source, target), Move(slot, target, source)] * 2:
                await trio.to_thread.run_sync(move.do)
                await trio.sleep(0.1)
            over = True
        for node, device in zip(nodes, devices, strict=True):
            await node.until(lambda device=device: len(device.numbers) >= numbers)  # type: ignore[misc]
            assert device.numbers == list(range(numbers))
            assert node.figure("redis_losses") == 0


async def test_a_server_that_dies_is_missed_by_its_users_only(redis_prefix: str) -> None:
    with run_cluster() as servers:
        # The others go on all the same.
        for server in servers:
            server.cli("config", "set", "cluster-require-full-coverage", "no")
        users = users_of(redis_prefix, servers)
        control = owner_of(hash_slot(f"{redis_prefix}:{{control}}:live".encode()), servers)
        dying = next(server for server in servers if server is not control)
        theirs = users[servers.index(dying)]
        async with open_nodes(url_of(servers), redis_prefix, publish_timeout=0.5) as nodes:
            devices = {(node, user): await node.join(Device(user)) for node in nodes for user in users}
            for user in users:
                await nodes[0].publish(update(0, user, id="0"))
            dying.kill()
            with pytest.raises(EngineUnavailableError):
                await nodes[0].publish(update(1, theirs, id="1"))
            for number in range(1, 20):
                for user in users:
                    if user != theirs:
                        await nodes[number % 2].publish(update(number, user, id=str(number)))
            for (node, user), device in devices.items():
                if user != theirs:
                    await node.until(lambda device=device: len(device.numbers) >= 20)  # type: ignore[misc]
                    assert device.numbers == list(range(20))
            # All is given to it that was acknowledged: it has forgotten everything.
            dying.start()
            await until(lambda: "cluster_state:ok" in dying.cli("cluster", "info"))
            await publish_surely(nodes[1], update(1, theirs, id="1"))
            for node in nodes:
                device = devices[node, theirs]
                await node.until(lambda device=device: device.numbers == [0, 1])  # type: ignore[misc]
                assert not device.lost
                assert node.figure("redis_losses") == 1


async def test_a_server_that_the_url_names_may_be_away(
    redis_cluster: Sequence[RedisServer], redis_prefix: str
) -> None:
    with RedisServer() as gone:
        port = gone.port
    url = f"redis+cluster://127.0.0.1:{port},127.0.0.1:{redis_cluster[2].port}"
    async with open_nodes(url, redis_prefix, count=1) as (node,):
        assert node.engine.unavailable() is None
        users = users_of(redis_prefix, redis_cluster)
        devices = [await node.join(Device(user)) for user in users]
        await node.publish(*(update(1, user) for user in users))
        await node.until(lambda: all(device.numbers == [1] for device in devices))
    assert all(server.cli("keys", f"{redis_prefix}:*") for server in redis_cluster)


async def test_what_is_there_is_no_cluster(redis_server: RedisServer, redis_prefix: str) -> None:
    url = f"redis+cluster://127.0.0.1:{redis_server.port}"
    async with open_nodes(url, redis_prefix, count=1, auth_timeout=0.1) as (node,):
        assert node.engine.unavailable() == "Redis can't be reached just now."
        with pytest.raises(EngineUnavailableError):
            await node.join(Device("ada"))


async def test_a_slot_that_stays_on_its_way_keeps_nobody_else_waiting(
    redis_cluster: Sequence[RedisServer], redis_prefix: str
) -> None:
    slot = slot_of(redis_prefix)
    source = owner_of(slot, redis_cluster)
    target = next(server for server in redis_cluster if server is not source)
    # More than are read at once, and all of one slot.
    numbers = count()
    users = list(islice((f"{n}" for n in numbers if slot_of(redis_prefix, f"{n}") == slot), 20))
    other = next(
        user for user in users_of(redis_prefix, redis_cluster) if slot_of(redis_prefix, user) != slot
    )
    async with open_nodes(url_of(redis_cluster), redis_prefix, count=1) as (node,):
        for user in users:
            # Whose history has lapsed: one key is there, and one is not, which makes it TRYAGAIN.
            node.leave(await node.join(Device(user)))
        move = Move(slot, source, target)
        move.begin()
        async with trio.open_nursery() as nursery:
            for user in users:
                nursery.start_soon(node.join, Device(user))
            await until(lambda: node.figure("redis_followed_users") == len(users))
            await trio.testing.wait_all_tasks_blocked()
            with trio.fail_after(1):
                await node.join(Device(other))
            move.take(*move.keys_left())
            move.end()
        Move(slot, target, source).do()


async def test_a_node_that_has_nothing_to_give_waits_for_those_that_have(
    redis_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_cluster(3, 1) as servers:
        masters, replica = servers[:3], servers[3]
        user = users_of(redis_prefix, masters)[0]
        async with open_nodes(url_of(masters), redis_prefix) as (late, early):
            device = await early.join(Device(user))
            await late.publish(update(0, user))
            await early.until(lambda: device.numbers == [0])
            # What comes next the replica does not get.
            replica.pause()
            masters[0].cli("client", "kill", "type", "replica")
            await late.publish(update(1, user))
            await early.until(lambda: device.numbers == [0, 1])
            began = trio.Event()
            begin_early, begin_late = early.engine.begin, late.engine.begin

            async def begin(shard: Shard, link: Link) -> None:
                began.set()
                await begin_early(shard, link)

            async def begin_later(shard: Shard, link: Link) -> None:
                await began.wait()
                await trio.sleep(0.2)
                await begin_late(shard, link)

            monkeypatch.setattr(early.engine, "begin", begin)
            monkeypatch.setattr(late.engine, "begin", begin_later)
            masters[0].kill()
            replica.resume()
            await publish_surely(late, update(2, user, id="2"))
            await early.until(lambda: device.numbers == [0, 1, 2])
            assert not device.lost
