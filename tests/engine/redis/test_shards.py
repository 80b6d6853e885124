"""The servers that have the keys: where a command goes, and what comes of answers that lead elsewhere."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from localful_ws.engine.redis.errors import RedisRefusedError, RedisUnavailableError
from localful_ws.engine.redis.keys import SLOTS, hash_slot
from localful_ws.engine.redis.lua import KNOWN
from localful_ws.engine.redis.servers import Place

from .links import bulk, push
from .owners import FakeRedis, open_shards

SINGLE = "redis://a:1"
CLUSTER = "redis+cluster://a:1,b:2"
A, B = ("a", 1), ("b", 2)
# Keys in the slots of the first half, and of the second.
LOW, HIGH = "b", "a"


def slots(*halves: Place) -> bytes:
    """What CLUSTER SLOTS tells of two halves."""
    told = b"*2\r\n"
    for number, (host, port) in enumerate(halves):
        told += b"*3\r\n:%d\r\n:%d\r\n*2\r\n" % (number * SLOTS // 2, (number + 1) * SLOTS // 2 - 1)
        told += bulk(host) + b":%d\r\n" % port
    return told


def cluster(*halves: Place) -> dict[Place, FakeRedis]:
    """Two servers that know who has what."""
    fakes = {place: FakeRedis({"mode": "cluster"}) for place in (A, B)}
    for fake in fakes.values():
        fake.answers[b"CLUSTER"].extend([slots(*(halves or (A, B)))] * 100)
    return fakes


def test_the_keys_are_where_they_should_be() -> None:
    assert hash_slot(LOW.encode()) < SLOTS // 2 <= hash_slot(HIGH.encode())


async def test_scripts_are_sent_without_waiting_and_in_order(autojump_clock: MockClock) -> None:
    fake = FakeRedis()
    fake.answers[b"EVALSHA"].extend([b":1\r\n", b":2\r\n", b":3\r\n"])
    async with open_shards(SINGLE, {A: fake}) as (shards, owner):
        assert not shards.is_cluster
        arguments: list[str | bytes | int | float] = [b"\xff", 7]
        calls = [([name, f"{name}2"], arguments) for name in "xyz"]
        assert await shards.run_scripts(KNOWN, calls) == [1, 2, 3]
        assert fake.asked == [
            [b"EVALSHA", KNOWN.digest.encode(), b"2", name, name + b"2", b"\xff", b"7"]
            for name in (b"x", b"y", b"z")
        ]
        assert owner.wrote_errors == []


async def test_a_script_that_is_not_known_is_sent_whole(autojump_clock: MockClock) -> None:
    fake = FakeRedis()
    fake.answers[b"EVALSHA"].append(b"-NOSCRIPT No matching script.\r\n")
    fake.answers[b"EVAL"].append(b":5\r\n")
    replies: list[object] = []
    async with open_shards(SINGLE, {A: fake}) as (shards, owner):
        assert await shards.run_scripts(KNOWN, [(["k"], ["x"])], replies.extend) == [5]
        assert replies == [5]
        assert fake.asked[-1] == [b"EVAL", KNOWN.text.encode(), b"1", b"k", b"x"]
        assert owner.wrote_errors == [""]


@pytest.mark.parametrize("passing", ["TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN"])
async def test_what_passes_is_waited_for(autojump_clock: MockClock, passing: str) -> None:
    fake = FakeRedis()
    fake.answers[b"GET"].extend([f"-{passing} not now\r\n".encode()] * 10)
    async with open_shards(SINGLE, {A: fake}) as (shards, _):
        assert await shards.call("k", "GET", "k") == b"OK"
        assert 0.1 < trio.current_time() < 1


async def test_what_is_refused_is_told_to_the_owner_if_it_was_to_be_relied_on(
    autojump_clock: MockClock,
) -> None:
    fake = FakeRedis()
    fake.answers[b"EVALSHA"].extend([b"-OOM no\r\n", b"-OOM no\r\n", b":1\r\n"])
    async with open_shards(SINGLE, {A: fake}) as (shards, owner):
        replies: list[object] = []
        with pytest.raises(RedisRefusedError, match="OOM no"):
            await shards.run_script(KNOWN, ["k"])
        with pytest.raises(RedisRefusedError, match="OOM no"):
            await shards.run_scripts(KNOWN, [(["k"], [])], replies.extend)
        assert replies == []
        assert await shards.run_scripts(KNOWN, [(["k"], [])], replies.extend) == [1]
        assert owner.wrote_errors == ["OOM", ""]
        assert shards.losses == 0


async def test_one_that_takes_no_writes_any_more_is_looked_at_anew(autojump_clock: MockClock) -> None:
    fake = FakeRedis()
    fake.answers[b"EVALSHA"].append(b"-READONLY You can't write against a read only replica.\r\n")
    async with open_shards(SINGLE, {A: fake}) as (shards, owner):
        fake.said["role"] = "replica"
        with pytest.raises(RedisRefusedError, match="READONLY"):
            await shards.run_scripts(KNOWN, [(["k"], [])], [].extend)
        await trio.sleep(1)
        assert shards.first.link is None
        with pytest.raises(RedisUnavailableError):
            await shards.run_script(KNOWN, ["k"])
        fake.said["role"] = "master"
        await shards.wait_for("k")
        assert await shards.run_script(KNOWN, ["k"]) == b"OK"
        assert (shards.losses, len(owner.begun)) == (1, 2)


async def test_who_wants_something_of_one_that_was_just_lost_waits(autojump_clock: MockClock) -> None:
    fake = FakeRedis()
    async with open_shards(SINGLE, {A: fake}) as (shards, _):
        await fake.cut()
        await wait_all_tasks_blocked()
        assert shards.first.link is None
        assert await shards.call("k", "GET", "k") == b"OK"
        assert trio.current_time() < 1
        fake.is_there = False
        await fake.cut()
        await wait_all_tasks_blocked()
        began = trio.current_time()
        with pytest.raises(RedisUnavailableError, match="can't be reached just now"):
            await shards.call("k", "GET", "k")
        assert 1.9 < trio.current_time() - began <= 2.0
        began = trio.current_time()
        with pytest.raises(RedisUnavailableError):
            await shards.call("k", "GET", "k")
        assert trio.current_time() == began


async def test_what_was_sent_when_it_is_lost_is_not_sent_again(autojump_clock: MockClock) -> None:
    fake = FakeRedis()
    fake.answers[b"GET"].append(b"")
    async with open_shards(SINGLE, {A: fake}) as (shards, _), trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(RedisUnavailableError):
                await shards.call("k", "GET", "k")

        nursery.start_soon(ask)
        await wait_all_tasks_blocked()
        await fake.cut()
        await trio.sleep(1)
        assert fake.asked == [[b"GET", b"k"]]


# --- what it takes to rely on a write ---


@pytest.mark.parametrize(("taken", "confirmed"), [(1, False), (2, True), (3, True)])
async def test_replicas_are_waited_for(autojump_clock: MockClock, taken: int, *, confirmed: bool) -> None:
    fake = FakeRedis()
    fake.answers[b"WAIT"].append(b":%d\r\n" % taken)
    async with open_shards(SINGLE, {A: fake}, replicas=2) as (shards, owner):
        assert await shards.run_script(KNOWN, ["k"]) == b"OK"
        assert fake.names() == [b"EVALSHA"]
        replies: list[object] = []
        if confirmed:
            assert await shards.run_scripts(KNOWN, [(["k"], [])], replies.extend) == [b"OK"]
        else:
            with pytest.raises(RedisUnavailableError, match="Fewer than 2 replicas"):
                await shards.run_scripts(KNOWN, [(["k"], [])], replies.extend)
        # It is written all the same.
        assert replies == [b"OK"]
        assert fake.asked[-2:] == [
            [b"EVALSHA", KNOWN.digest.encode(), b"1", b"k"],
            [b"WAIT", b"2", b"500"],
        ]
        assert owner.wrote_errors == [""]


async def test_many_writes_are_confirmed_together(autojump_clock: MockClock) -> None:
    fake = FakeRedis()
    fake.answers[b"WAIT"].extend([b":1\r\n"] * 100)
    async with open_shards(SINGLE, {A: fake}, replicas=1) as (shards, _):
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(shards.run_scripts, KNOWN, [([str(number)], [])], [].extend)
        assert fake.names().count(b"EVALSHA") == 100
        assert fake.names().count(b"WAIT") <= 2


# --- a Cluster ---


async def test_keys_go_to_who_has_them(autojump_clock: MockClock) -> None:
    fakes = cluster()
    async with open_shards(CLUSTER, fakes) as (shards, _):
        assert shards.is_cluster
        assert await shards.run_scripts(KNOWN, [([LOW], []), ([HIGH], []), ([LOW], [])]) == [b"OK"] * 3
        assert [
            [command[3] for command in fakes[place].asked if command[0] == b"EVALSHA"] for place in (A, B)
        ] == [
            [b"b", b"b"],
            [b"a"],
        ]


@pytest.mark.parametrize("host", [b"b", b""])
async def test_a_slot_that_has_moved_is_looked_for_where_it_is(
    autojump_clock: MockClock, host: bytes
) -> None:
    fakes = cluster()
    slot = hash_slot(LOW.encode())
    if not host:
        fakes["a", 2] = fakes[B]
    fakes[A].answers[b"GET"].append(b"-MOVED %d %b:2\r\n" % (slot, host))
    async with open_shards(
        CLUSTER, fakes, lambda shards: shards.of(LOW).subscriptions.want(LOW.encode())
    ) as (
        shards,
        owner,
    ):
        await wait_all_tasks_blocked()
        assert owner.channels == [LOW.encode()]
        assert await shards.call(LOW, "GET", LOW) == b"OK"
        assert fakes[B].asked[-1] == [b"GET", LOW.encode()]
        await wait_all_tasks_blocked()
        # The channel is heard where its slot is.
        assert owner.channels == [LOW.encode()] * 2
        for remote in fakes[B].remotes:
            await remote.send(push("smessage", LOW, "x"))
        await wait_all_tasks_blocked()
        assert {message.data for message in owner.heard} == {b"x"}
        await shards.call(LOW, "GET", LOW)
        assert fakes[A].names().count(b"GET") == 1
        assert shards.losses == 0


async def test_a_key_of_a_slot_that_is_moving_is_asked_for_once_elsewhere(autojump_clock: MockClock) -> None:
    fakes = cluster()
    fakes[A].answers[b"EVALSHA"].append(b"-ASK %d b:2\r\n" % hash_slot(LOW.encode()))
    fakes[A].answers[b"EVAL"].append(b"-ASK %d b:2\r\n" % hash_slot(LOW.encode()))
    fakes[B].answers[b"EVALSHA"].append(b"-NOSCRIPT none\r\n")
    async with open_shards(CLUSTER, fakes) as (shards, _):
        assert await shards.run_script(KNOWN, [LOW]) == b"OK"
        assert fakes[B].names()[-4:] == [b"ASKING", b"EVALSHA", b"ASKING", b"EVAL"]
        await shards.run_script(KNOWN, [LOW])
        assert fakes[A].names()[-3:] == [b"EVALSHA", b"EVAL", b"EVALSHA"]


async def test_one_that_is_lost_leaves_the_others(autojump_clock: MockClock) -> None:
    fakes = cluster()
    async with open_shards(CLUSTER, fakes) as (shards, _):
        fakes[B].is_there = False
        await fakes[B].cut()
        await wait_all_tasks_blocked()
        for _ in range(10):
            assert await shards.call(LOW, "GET", LOW) == b"OK"
            await trio.sleep(1)
        with pytest.raises(RedisUnavailableError):
            await shards.call(HIGH, "GET", HIGH)
        assert shards.losses == 1
        # Another one takes over, and those who are there know of it.
        fakes[A].answers[b"CLUSTER"].clear()
        fakes[A].answers[b"CLUSTER"].extend([slots(A, A)] * 100)
        await shards.wait_for(HIGH)
        assert await shards.call(HIGH, "GET", HIGH) == b"OK"
        assert fakes[A].asked[-1] == [b"GET", HIGH.encode()]


async def test_nobody_is_there_at_first(autojump_clock: MockClock) -> None:
    fakes = cluster()
    for fake in fakes.values():
        fake.is_there = False
    async with open_shards(CLUSTER, fakes) as (shards, _):
        assert shards.tried
        with pytest.raises(RedisUnavailableError):
            await shards.call(LOW, "GET", LOW)
        fakes[B].is_there = True
        await shards.wait_for(HIGH)
        assert await shards.call(HIGH, "GET", HIGH) == b"OK"


@pytest.mark.parametrize(
    "place", [b"", b" x", b" 5 b", b" 99999 b:2", b" 5 b:x", b" x b:2", b" -5 b:2", b" 5 b:999999"]
)
@pytest.mark.parametrize("url", [SINGLE, CLUSTER])
async def test_what_leads_nowhere_is_refused(autojump_clock: MockClock, url: str, place: bytes) -> None:
    fakes = cluster() if url == CLUSTER else {A: FakeRedis()}
    fakes[A].answers[b"GET"].append(b"-MOVED%b\r\n" % place)
    async with open_shards(url, fakes) as (shards, _):
        with pytest.raises(RedisRefusedError, match="MOVED"):
            await shards.call(LOW, "GET", LOW)
        assert set(shards.by_place) <= {A, B}
        shards.take_moved(RedisRefusedError(f"MOVED{place.decode()}"))
        assert await shards.call(LOW, "GET", LOW) == b"OK"


@pytest.mark.parametrize("host", [b"a..b", b"x" * 70])
async def test_a_slot_is_said_to_be_at_what_is_no_name(autojump_clock: MockClock, host: bytes) -> None:
    fakes = cluster()
    fakes[A].answers[b"GET"].append(b"-MOVED %d %b:2\r\n" % (hash_slot(LOW.encode()), host))
    async with open_shards(CLUSTER, fakes) as (shards, _):
        in_memory = trio.open_tcp_stream

        async def connect(name: str, port: int) -> trio.abc.Stream:
            name.encode("idna")
            return await in_memory(name, port)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trio, "open_tcp_stream", connect)
            # The others know better.
            assert await shards.call(LOW, "GET", LOW) == b"OK"
