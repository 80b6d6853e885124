"""Whether Redis takes what is written: why not is told at once, and that it does again soon after."""

from collections.abc import Awaitable, Callable
from typing import cast

import pytest
import trio
from attrs import Factory, define
from structlog.testing import capture_logs
from trio.testing import MockClock

from localful_ws.clock import Clock
from localful_ws.engine import EngineUnavailableError
from localful_ws.engine.redis.errors import RedisRefusedError, RedisUnavailableError
from localful_ws.engine.redis.lua import PUBLISH, REVOKE
from localful_ws.engine.redis.refusals import Refusals
from localful_ws.engine.redis.shard import Shard
from localful_ws.metrics import Figure
from localful_ws.publishing import Disconnect
from tests.redis_server import RedisServer

from .nodes import SECONDS, Device, FakeNode, open_nodes, until, update

REFUSED = "Redis refuses what is written; trying on"
TAKEN = "Redis takes what is written again"


@define(eq=False)
class FakeShard:
    """A server, or none.

    Attributes:
        link: Whether it is there.
        refuses: What comes of a write.
        probed: When it was tried.
    """

    link: object = True
    refuses: Exception | None = None
    probed: list[float] = Factory(list)

    @property
    def shard(self) -> Shard:
        return cast("Shard", self)


async def probe(shard: Shard) -> None:
    fake = cast("FakeShard", shard)
    fake.probed.append(trio.current_time())
    if fake.refuses is not None:
        raise fake.refuses


@pytest.fixture
async def refusals(nursery: trio.Nursery) -> tuple[Refusals, list[float]]:
    changes: list[float] = []
    refusals = Refusals(probe, lambda: changes.append(trio.current_time()))
    nursery.start_soon(refusals.run)
    return refusals, changes


def why(refusals: Refusals) -> str | None:
    """Why something is refused."""
    return refusals.reason


OOM = RedisRefusedError("OOM command not allowed")


async def test_it_is_tried_every_second_and_told_once(
    autojump_clock: MockClock, refusals: tuple[Refusals, list[float]]
) -> None:
    refused, changes = refusals
    one, other = FakeShard(refuses=OOM), FakeShard()
    with capture_logs() as log:
        for _ in range(5):
            refused.note(one.shard, PUBLISH, OOM)
        assert why(refused) == "OOM command not allowed"
        await trio.sleep(3.5)
        one.refuses = None
        await trio.sleep(5)
    assert one.probed == [1.0, 2.0, 3.0, 4.0]
    assert other.probed == []
    assert (why(refused), changes[-1]) == (None, 4.0)
    assert [entry["event"] for entry in log] == [REFUSED, TAKEN]


async def test_another_reason_is_told(
    autojump_clock: MockClock, refusals: tuple[Refusals, list[float]]
) -> None:
    refused, _ = refusals
    one = FakeShard()
    with capture_logs() as log:
        refused.note(one.shard, PUBLISH, OOM)
        refused.note(one.shard, PUBLISH, RedisRefusedError("OOM somewhat else"))
        refused.note(one.shard, PUBLISH, RedisRefusedError("NOPERM no"))
        assert why(refused) == "NOPERM no"
        refused.note(one.shard, REVOKE, RedisRefusedError("WRONGTYPE no"))
        refused.forget(one.shard, PUBLISH)
        assert why(refused) == "WRONGTYPE no"
        refused.forget(one.shard, REVOKE)
        refused.forget(one.shard, REVOKE)
    assert why(refused) is None
    assert [(entry["event"], entry.get("reason")) for entry in log] == [
        (REFUSED, "OOM command not allowed"),
        (REFUSED, "NOPERM no"),
        (REFUSED, "WRONGTYPE no"),
        (TAKEN, None),
    ]


async def test_each_server_has_its_own_reason(
    autojump_clock: MockClock, refusals: tuple[Refusals, list[float]]
) -> None:
    refused, _ = refusals
    one, other = FakeShard(refuses=OOM), FakeShard(refuses=RedisRefusedError("NOREPLICAS no"))
    refused.note(one.shard, PUBLISH, OOM)
    refused.note(other.shard, PUBLISH, RedisRefusedError("NOREPLICAS no"))
    refused.forget(one.shard)
    assert why(refused) == "NOREPLICAS no"
    other.refuses = None
    await trio.sleep(1.5)
    assert why(refused) is None


async def test_one_that_is_lost_is_another_matter(
    autojump_clock: MockClock, refusals: tuple[Refusals, list[float]]
) -> None:
    refused, _ = refusals
    one, hanging = FakeShard(link=None), FakeShard(refuses=RedisUnavailableError("lost"))
    refused.note(one.shard, PUBLISH, OOM)
    refused.note(hanging.shard, PUBLISH, OOM)
    await trio.sleep(1.5)
    assert (one.probed, hanging.probed) == ([], [1.0])
    assert why(refused) == "OOM command not allowed"
    hanging.link = None
    await trio.sleep(1)
    assert why(refused) is None


async def test_known_reasons_are_counted_from_nought(
    autojump_clock: MockClock, refusals: tuple[Refusals, list[float]]
) -> None:
    assert {"unavailable", "timeout", "OOM", "NOREPLICAS"} <= set(refusals[0].counts)
    assert set(refusals[0].counts.values()) == {0}


async def test_not_any_number_of_reasons_is_counted(
    autojump_clock: MockClock, refusals: tuple[Refusals, list[float]]
) -> None:
    for number in range(1000):
        refusals[0].count(f"E{number}")
    refusals[0].count("OOM")
    counts = refusals[0].counts
    assert len(counts) < 40
    assert (counts["E1"], counts["OOM"], counts.total()) == (1, 1, 1001)


# --- a real Redis that refuses ---

Cause = Callable[[RedisServer, str], object]
Try = Callable[[FakeNode], Awaitable[object]]


async def publish(node: FakeNode) -> None:
    await node.publish(update(1))


async def disconnect(node: FakeNode) -> None:
    now = Clock().now()
    await node.engine.disconnect(Disconnect(user="eve", at=now, until=now + 60))


def config(name: str, value: str) -> Cause:
    return lambda server, _: server.cli("config", "set", name, value)


def acl(*rules: str) -> Cause:
    return lambda server, _: server.cli("acl", "setuser", "default", *rules)


def control(command: str, what: str, *arguments: str) -> Cause:
    return lambda server, prefix: server.cli(command, f"{prefix}:{{control}}:{what}", *arguments)


CAUSES: dict[str, tuple[str, Cause, Cause, Try]] = {
    "no memory": ("OOM", config("maxmemory", "1"), config("maxmemory", "0"), publish),
    "no memory for revocations": ("OOM", config("maxmemory", "1"), config("maxmemory", "0"), disconnect),
    "no replica": (
        *("NOREPLICAS", config("min-replicas-to-write", "1"), config("min-replicas-to-write", "0")),
        publish,
    ),
    "no key may be written": ("NOPERM", acl("resetkeys"), acl("allkeys"), publish),
    "no script may be run": ("NOPERM", acl("-evalsha", "-eval"), acl("+@all"), publish),
    "the revocations are text": (
        "WRONGTYPE",
        control("set", "revoked", "x"),
        control("del", "revoked"),
        disconnect,
    ),
    "their lapses are text": (
        "WRONGTYPE",
        control("set", "lapses", "x"),
        control("del", "lapses"),
        disconnect,
    ),
}


def reasons(node: FakeNode) -> dict[str, float]:
    """How many writes were not confirmed, by the reason."""
    figure: Figure = next(each for each in node.engine.figures() if each.name == "redis_unconfirmed")
    assert not isinstance(figure.value, float | int)
    return {reason: count for reason, count in figure.value.items() if count}


@pytest.mark.sockets
@pytest.mark.parametrize("name", CAUSES)
async def test_why_something_is_refused(redis_prefix: str, name: str) -> None:
    code, cause, remedy, attempt = CAUSES[name]
    with RedisServer() as server:
        async with open_nodes(server.url, redis_prefix) as (node, other):
            device = await node.join(Device("ada"))
            cause(server, redis_prefix)
            with capture_logs() as log:
                for _ in range(3):
                    with pytest.raises(EngineUnavailableError, match=f"Redis refuses it: {code}"):
                        await attempt(node)
                    sentence = node.engine.unavailable()
                    assert sentence is not None
                    assert sentence.startswith(f"Redis refuses what is written: {code}")
                    assert sentence.endswith(".")
                    assert not sentence.endswith("..")
                # Who has not been refused anything does not know.
                assert other.engine.unavailable() is None
                remedy(server, redis_prefix)
                began = trio.current_time()
                await until(lambda: node.engine.unavailable() is None)
                assert trio.current_time() - began < 2
            assert [entry["event"] for entry in log if entry["log_level"] in ("warning", "error")] == [
                REFUSED,
                TAKEN,
            ]
            assert reasons(node) == {code: 3}
            assert reasons(other) == {}
            assert node.figure("redis_losses") == 0
            await node.publish(update(2))
            await node.until(lambda: device.numbers == [2])


@pytest.mark.sockets
async def test_a_server_that_has_become_a_replica_is_away(redis_prefix: str) -> None:
    with RedisServer() as server:
        async with open_nodes(server.url, redis_prefix, count=1) as (node,):
            server.cli("replicaof", "127.0.0.1", "1")
            with pytest.raises(EngineUnavailableError, match="READONLY"):
                await node.publish(update(1))
            await until(lambda: node.engine.unavailable() == "Redis can't be reached just now.")
            server.cli("replicaof", "no", "one")
            with trio.fail_after(SECONDS):
                await until(lambda: node.engine.unavailable() is None)
            assert reasons(node) == {"READONLY": 1}


@pytest.mark.sockets
async def test_what_is_not_confirmed_is_counted(redis_prefix: str) -> None:
    with RedisServer() as server:
        async with open_nodes(server.url, redis_prefix, count=1, publish_timeout=0.2) as (node,):
            server.pause()
            with pytest.raises(EngineUnavailableError):
                await node.publish(update(1))
            server.resume()
            server.kill()
            with pytest.raises(EngineUnavailableError):
                await node.publish(update(1))
            assert reasons(node).keys() <= {"timeout", "unavailable"}
            assert sum(reasons(node).values()) == 2


async def test_revocations_that_can_not_be_given_back_are_when_they_can_be(redis_prefix: str) -> None:
    with RedisServer() as server:
        async with open_nodes(server.url, redis_prefix, count=1) as (node,):
            device = await node.join(Device("ada"))
            await disconnect(node)
            server.cli("config", "set", "maxmemory", "1")
            server.cli("client", "kill", "type", "pubsub")
            await until(lambda: "OOM" in (node.engine.unavailable() or ""))
            # It is heard what others publish, and read.
            node.leave(device)
            await node.join(device, since=True)
            assert device.resumed
            revoked = server.cli("keys", "*:revoked")
            server.cli("del", revoked)
            server.cli("config", "set", "maxmemory", "0")
            await until(lambda: node.engine.unavailable() is None)
            assert server.cli("hkeys", revoked) == "user:eve"
