"""The Sentinels: who is to be written to, by what they say."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from attrs import Factory, define
from trio.testing import MockClock, wait_all_tasks_blocked

from localful_ws.engine import EngineUnavailableError
from localful_ws.engine.redis.errors import RedisUnavailableError
from localful_ws.engine.redis.sentinels import Sentinels
from localful_ws.engine.redis.servers import Place, Servers
from localful_ws.redis_url import parse_url
from tests.redis_server import RedisServer, free_port, redis_sentinel

from .links import Remote, bulk, confirm, in_memory, push
from .nodes import SECONDS, Device, open_nodes, publish_surely, until, update

ONE, OTHER = ("10.0.0.1", 6379), ("10.0.0.2", 6380)
QUICK = [
    "sentinel down-after-milliseconds main 300",
    "sentinel failover-timeout main 3000",
]


# --- in memory ---


@define(eq=False)
class FakeSentinel:
    """What a Sentinel knows.

    Attributes:
        place: The server to write to; None if it knows none of that name.
        epoch: Of which failover.
        is_there: Whether it can be reached.
        hangs: Whether it answers no questions.
        remotes: Who is connected to it.
    """

    place: Place | None = ONE
    epoch: int = 0
    is_there: bool = True
    hangs: bool = False
    remotes: list[Remote] = Factory(list)

    async def serve(self, remote: Remote) -> None:
        if not self.is_there:
            return
        await remote.greet(mode="sentinel")
        self.remotes.append(remote)
        while True:
            command = await remote.next()
            if command[0] == b"SUBSCRIBE":
                await remote.send(confirm("subscribe", *command[1:]))
            elif command[0] == b"PING":
                await remote.send(b"+PONG\r\n")
            elif self.hangs:
                await trio.sleep(1.5)  # it is there, and late
                if self.place is None:
                    await remote.send(b"-ERR No such master with that name\r\n")
            elif self.place is None:
                await remote.send(b"-ERR No such master with that name\r\n")
            elif command[1] == b"MASTER":
                # While a failover is under way this is the old one.
                texts = "ip", "10.0.0.9", "port", "6379", "config-epoch", str(self.epoch)
                await remote.send(b"%3\r\n" + bulk(*texts))
            else:
                assert command == [b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", b"main"]
                await remote.send(b"*2\r\n" + bulk(self.place[0], str(self.place[1])))


Named = list[Place]


@asynccontextmanager
async def asked(*fakes: FakeSentinel | None) -> AsyncIterator[tuple[Sentinels, Named]]:
    """Sentinels that are connected to; at the places of those that are None nobody listens."""
    hosts = ",".join(f"s{number}" for number in range(len(fakes)))
    servers = Servers.of(parse_url(f"redis+sentinel://{hosts}/main"), 4.0)
    places = {(f"s{n}", 26379): fake.serve for n, fake in enumerate(fakes) if fake is not None}
    named: Named = []
    sentinels = Sentinels(servers, named.append)
    async with trio.open_nursery() as nursery:
        with in_memory(places, nursery):
            nursery.start_soon(sentinels.run)
            await wait_all_tasks_blocked()
            yield sentinels, named
            nursery.cancel_scope.cancel()


async def test_who_knows_of_the_latest_failover_is_right(autojump_clock: MockClock) -> None:
    fakes = FakeSentinel(ONE, 3), FakeSentinel(OTHER, 4), FakeSentinel(ONE, 3), FakeSentinel(None), None
    async with asked(*fakes) as (sentinels, named):
        assert await sentinels.find() == OTHER
        assert named[-1] == OTHER
        await sentinels.confirm(OTHER)
        with pytest.raises(RedisUnavailableError, match="name another server"):
            await sentinels.confirm(ONE)
    assert trio.current_time() == 0


async def test_none_knows_it(autojump_clock: MockClock) -> None:
    async with asked(FakeSentinel(None)) as (sentinels, named):
        with pytest.raises(RedisUnavailableError, match="No Sentinel knows a server called main"):
            await sentinels.find()
        assert trio.current_time() == 4.0
        with pytest.raises(RedisUnavailableError, match="No Sentinel can be asked"):
            await sentinels.confirm(ONE)
        assert named == []


async def test_none_is_there(autojump_clock: MockClock) -> None:
    async with asked(None, None) as (sentinels, _):
        with pytest.raises(RedisUnavailableError, match="No Sentinel can be asked"):
            await sentinels.confirm(ONE)
        assert trio.current_time() == 0


async def test_one_comes_later(autojump_clock: MockClock) -> None:
    fakes = FakeSentinel(None), FakeSentinel(OTHER, is_there=False)
    async with asked(*fakes) as (sentinels, _), trio.open_nursery() as nursery:
        nursery.start_soon(find, sentinels, OTHER)
        await trio.sleep(1.2)
        fakes[1].is_there = True
    assert trio.current_time() == 1.5


async def test_one_comes_while_the_others_are_asked(autojump_clock: MockClock) -> None:
    fakes = FakeSentinel(hangs=True), FakeSentinel(OTHER, is_there=False)
    async with asked(*fakes) as (sentinels, _), trio.open_nursery() as nursery:
        nursery.start_soon(find, sentinels, OTHER)
        fakes[0].place = None
        fakes[1].is_there = True
    # When the first one has answered, and is not waited for another time.
    assert trio.current_time() == 1.75


async def find(sentinels: Sentinels, place: Place) -> None:
    assert await sentinels.find() == place


async def test_one_that_hangs_is_not_waited_for_long(autojump_clock: MockClock) -> None:
    fakes = FakeSentinel(ONE, 3), FakeSentinel(OTHER, 4, hangs=True)
    async with asked(*fakes) as (sentinels, _):
        began = trio.current_time()
        await sentinels.confirm(ONE)
        assert trio.current_time() - began == 0.25


async def test_all_hang(autojump_clock: MockClock) -> None:
    async with asked(FakeSentinel(hangs=True)) as (sentinels, _):
        began = trio.current_time()
        with pytest.raises(RedisUnavailableError, match="No Sentinel can be asked"):
            await sentinels.confirm(ONE)
        assert trio.current_time() - began <= 4


async def test_what_one_announces_is_looked_into_at_once(autojump_clock: MockClock) -> None:
    fakes = FakeSentinel(ONE), FakeSentinel(ONE)
    async with asked(*fakes) as (_, named):
        await trio.sleep(1.5)
        assert set(named) == {ONE}
        fakes[0].place, fakes[0].epoch = OTHER, 1
        await fakes[0].remotes[0].send(push("message", "+switch-master", "main 10.0.0.1 6379 10.0.0.2 6380"))
        await wait_all_tasks_blocked()
        assert (named[-1], trio.current_time()) == (OTHER, 1.5)


async def test_it_is_asked_now_and_then(autojump_clock: MockClock) -> None:
    fake = FakeSentinel(ONE)
    async with asked(fake) as (_, named):
        await trio.sleep(3.5)
        fake.place = OTHER
        before = len(named)
        await trio.sleep(1.0)
        assert named[before:] == [OTHER]
        assert 4 <= len(named) <= 6


# --- real ones ---


@asynccontextmanager
async def looking(*servers: RedisServer) -> AsyncIterator[tuple[Sentinels, Named]]:
    """Be connected to real Sentinels."""
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    named: Named = []
    sentinels = Sentinels(Servers.of(parse_url(f"redis+sentinel://{hosts}/main"), 3.0), named.append)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sentinels.run)
        yield sentinels, named
        nursery.cancel_scope.cancel()


@pytest.mark.sockets
async def test_real_ones_of_which_one_is_behind(redis_server: RedisServer) -> None:
    with (
        RedisServer() as other,
        redis_sentinel(redis_server, "main", "sentinel config-epoch main 2") as behind,
        redis_sentinel(other, "main", "sentinel config-epoch main 5") as ahead,
    ):
        async with looking(behind, ahead) as (sentinels, named):
            await until(lambda: ("127.0.0.1", other.port) in named)
            await sentinels.confirm(("127.0.0.1", other.port))
            with pytest.raises(RedisUnavailableError, match="name another server"):
                await sentinels.confirm(("127.0.0.1", redis_server.port))
            behind.pause()
            began = trio.current_time()
            await sentinels.confirm(("127.0.0.1", other.port))
            assert trio.current_time() - began < 1.0
            behind.resume()
            for each in (behind, ahead):
                each.kill()
            with pytest.raises(RedisUnavailableError, match="No Sentinel can be asked"):
                await lose(sentinels, ("127.0.0.1", other.port))


async def lose(sentinels: Sentinels, place: Place) -> None:
    """Have a server confirmed until it can't be any more."""
    with trio.fail_after(SECONDS):
        while True:
            await sentinels.confirm(place)


def knows_replica(sentinel: RedisServer, replica: RedisServer) -> Callable[[], bool]:
    return lambda: f"127.0.0.1:{replica.port}" in sentinel.cli("sentinel", "replicas", "main")


@pytest.mark.sockets
@pytest.mark.parametrize("how", ["asked for", "killed"])
async def test_a_failover_is_followed(redis_prefix: str, how: str) -> None:
    replication = "--repl-diskless-sync-delay", "0"
    with (
        RedisServer(*replication) as primary,
        RedisServer(*replication, "--replicaof", "127.0.0.1", str(primary.port)) as replica,
        redis_sentinel(primary, "main", *QUICK) as sentinel,
    ):
        await until(lambda: "master_link_status:up" in replica.cli("info", "replication"))
        await until(knows_replica(sentinel, replica))
        url = f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{sentinel.port}/main"
        async with open_nodes(url, redis_prefix) as nodes:
            devices = [await node.join(Device("ada")) for node in nodes]
            for number in range(20):
                await publish_surely(nodes[number % 2], update(number, id=str(number)))
            if how == "killed":
                primary.kill()
            else:
                await until(lambda: sentinel.cli("sentinel", "failover", "main") == "OK")
            # Nothing that is confirmed from now on is lost, whoever is written to.
            for number in range(20, 40):
                await publish_surely(nodes[number % 2], update(number, id=str(number)))
                await trio.sleep(0.05)
            await until(
                lambda: str(replica.port) in sentinel.cli("sentinel", "get-master-addr-by-name", "main")
            )
            # Whoever is told from now on that all is well has it at the new one, within some two seconds.
            with trio.fail_after(4):
                await publish_surely(nodes[0], update(40, id="40"))
            for node, device in zip(nodes, devices, strict=True):
                await node.until(lambda device=device: device.numbers == list(range(41)))  # type: ignore[misc]
                assert not device.lost
                await until(lambda node=node: node.engine.unavailable() is None)  # type: ignore[misc]
            assert replica.cli("xlen", f"{redis_prefix}:{{@ada}}:events") == "41"


@pytest.mark.sockets
async def test_without_sentinels_nothing_is_confirmed() -> None:
    with RedisServer() as server, redis_sentinel(server, "main") as sentinel:
        url = f"redis+sentinel://127.0.0.1:{sentinel.port}/main"
        async with open_nodes(url, count=1) as (node,):
            device = await node.join(Device("ada"))
            await node.publish(update(1))
            sentinel.kill()
            with pytest.raises(EngineUnavailableError, match="may have been done or not"):
                await until_refused(node.publish)
            await node.until(lambda: 1 in device.numbers)
            sentinel.start()
            await publish_surely(node, update(3, id="3"))


async def until_refused(publish: Callable[..., object]) -> None:
    """Publish until it is refused."""
    for _ in range(100):
        await publish(update(2, id="2"))  # type: ignore[misc]
