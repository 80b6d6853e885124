"""What was acknowledged is given to a server that lacks it, and nothing is put where it does not belong."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import trio
from attrs import define, evolve
from structlog.testing import capture_logs
from trio.testing import MockClock

from localful_ws.engine.redis.acknowledged import Acknowledged, Kept, Written
from localful_ws.engine.redis.errors import RedisRefusedError
from localful_ws.engine.redis.keys import Keys
from localful_ws.engine.redis.link import Ended, Link, Message
from localful_ws.engine.redis.lua import PUBLISH
from localful_ws.settings import Settings
from tests.redis_server import RedisServer
from tests.world import make_settings

from .links import linked, open_url

DONE, WAITS = 1, 0


def stored_of(number: int) -> bytes:
    return b'{"event":"user-update","data":%d}' % number


# --- what is kept, and for how long ---


def keep(**changes: Any) -> Acknowledged:
    return Acknowledged(make_settings(**changes), Keys("localful"))


def written(*numbers: int, size: int = 0) -> list[Written]:
    return [
        Written(b"5-%d" % number, b"5-%d" % (number - 1), stored_of(number) + b" " * size)
        for number in numbers
    ]


def everybody(_: str) -> bool:
    return True


def numbers_of(kept: Sequence[Kept]) -> dict[str, list[int]]:
    return {each.user: [int(event.id[2:]) for event in each.events] for each in kept}


def test_it_is_kept_by_user_and_epoch_and_in_order() -> None:
    acknowledged = keep()
    acknowledged.remember("ada", b"e", written(9), 0.0)
    acknowledged.remember("bob", b"e", written(1), 0.0)
    acknowledged.remember("ada", b"e", written(10, 11), 0.0)
    # The answers to two publishes may come in another order than these were written in.
    acknowledged.remember("ada", b"e", written(8), 0.0)
    assert numbers_of(acknowledged.of(everybody, 1.0)) == {"ada": [8, 9, 10, 11], "bob": [1]}
    assert numbers_of(acknowledged.of("bob".__eq__, 1.0)) == {"bob": [1]}
    acknowledged.remember("ada", b"f", written(1), 0.0)
    assert [(each.user, each.epoch) for each in acknowledged.of("ada".__eq__, 1.0)] == [
        ("ada", b"e"),
        ("ada", b"f"),
    ]


@pytest.mark.parametrize(
    ("settings", "seconds"),
    [
        ({"redis_handover_seconds": 7.0}, 7.0),
        # What history does not have any more nobody asks for.
        ({"redis_handover_seconds": 7.0, "history_seconds": 3.0}, 3.0),
        ({"redis_handover_seconds": 0.0}, 0.0),
        ({"history_seconds": 0.0}, 0.0),
    ],
)
def test_it_is_kept_for_a_time(settings: dict[str, Any], seconds: float) -> None:
    acknowledged = keep(**settings)
    acknowledged.remember("ada", b"e", written(1), 100.0)
    if seconds:
        assert numbers_of(acknowledged.of(everybody, 100.0 + seconds - 0.1)) == {"ada": [1]}
        acknowledged.remember("ada", b"e", written(2), 100.0 + seconds - 0.1)
        assert numbers_of(acknowledged.of(everybody, 100.0 + seconds)) == {"ada": [2]}
    assert numbers_of(acknowledged.of(everybody, 200.0)) == {}


def test_it_is_kept_up_to_a_size() -> None:
    acknowledged = keep(redis_handover_bytes=10_000)
    for number in range(1, 8):
        acknowledged.remember("ada", b"e", written(number, size=3000), 0.0)
        assert (
            sum(len(event.stored) for each in acknowledged.of(everybody, 0.0) for event in each.events)
            <= 10_000
        )
    assert numbers_of(acknowledged.of(everybody, 0.0)) == {"ada": [6, 7]}
    acknowledged.remember("ada", b"e", written(8, size=20_000), 0.0)
    assert acknowledged.of(everybody, 0.0) == []
    acknowledged.remember("ada", b"e", written(9), 0.0)
    assert numbers_of(acknowledged.of(everybody, 0.0)) == {"ada": [9]}


# --- giving it to a real Redis ---


@define(eq=False)
class Place:
    """A user's stream in a real Redis, and who listens.

    Attributes:
        link: The connection.
        keys: The names.
        heard: What was told to nodes that follow the stream.
    """

    link: Link
    keys: Keys
    heard: list[Message | Ended]

    def key(self, what: str) -> str:
        return self.keys.of_user("ada", what)

    async def publish(
        self, count: int, history_events: int = 1000, history_ms: int = 60_000
    ) -> list[Written]:
        """Publish so many events, each with an id; what a node keeps of that."""
        events = []
        for _ in range(count):
            number = int(await self.link.call("INCR", self.key("number")))
            arguments: list[str | bytes | int] = [history_events, history_ms, 60_000, 60_000, "PUBLISH"]
            keys = [self.key("events"), self.key("head"), self.key(f"id:{number}")]
            [_, [_, before, place]] = await self.link.call(
                *("EVAL", PUBLISH.text, "3", *keys),
                *arguments,
                *("epoch", self.key("live"), "1", "1"),
                stored_of(number),
            )
            events.append(Written(place, before, stored_of(number), keys[2]))
        await self.listen()
        return events

    async def lose(self, *events: Written, last: bytes = b"") -> None:
        """Have these not been written; what the head says then."""
        key, gone = self.key("events"), {event.id for event in events}
        entries = await self.link.call("XRANGE", key, "-", "+")
        # Written anew: a stream remembers the greatest id that it ever had.
        await self.link.call("DEL", key, *(event.key for event in events if event.key))
        for id_, fields in entries:
            if id_ not in gone:
                await self.link.call("XADD", key, id_, *fields)
        if last:
            await self.link.call("HSET", self.key("head"), "last", last)

    async def listen(self) -> list[tuple[str, str, list[str]]]:
        """What was told since: epochs, what came before, and the ids of the events."""
        await self.link.call("PING")
        heard = [json.loads(each.data) for each in self.heard if isinstance(each, Message)]
        self.heard.clear()
        return [(each["epoch"], each["prev"], [id_ for id_, _ in each["events"]]) for each in heard]

    async def state(self) -> tuple[bytes | None, bytes | None, list[tuple[bytes, bytes, bytes]]]:
        """The epoch, the last id, and the stream: ids, what came before, and the events."""
        epoch, last = await self.link.call("HMGET", self.key("head"), "epoch", "last")
        entries = await self.link.call("XRANGE", self.key("events"), "-", "+")
        return epoch, last, [(id_, fields[1], fields[3]) for id_, fields in entries]

    async def give(self, events: Sequence[Written], *, last: bool = False, **changes: Any) -> int:
        """Give events; whether nothing is lacking before them."""
        acknowledged = Acknowledged(settings(self, **changes), self.keys)
        kept = [Kept("ada", b"epoch", events)]
        waiting = await acknowledged.give(self.link, kept, "PUBLISH", last=last)
        assert waiting in ([], kept)
        return WAITS if waiting else DONE

    async def ids(self, events: Sequence[Written]) -> list[int]:
        """Which events' own ids are known."""
        return [await self.link.call("EXISTS", event.key) for event in events]


def settings(place: Place, **changes: Any) -> Settings:
    return make_settings(redis_prefix=place.keys.prefix, history_seconds=60, **changes)


@pytest.fixture
async def place(redis_server: RedisServer, redis_prefix: str) -> AsyncIterator[Place]:
    heard: list[Message | Ended] = []
    async with open_url(redis_server.url, heard.extend) as link:
        place = Place(link, Keys(redis_prefix), heard)
        await link.send_order("SUBSCRIBE", [place.key("live").encode()]).wait()
        yield place


def entries(events: Sequence[Written]) -> list[tuple[bytes, bytes, bytes]]:
    return [(event.id, event.before, event.stored) for event in events]


def told(before: bytes, events: Sequence[Written], epoch: str = "epoch") -> tuple[str, str, list[str]]:
    return epoch, before.decode(), [event.id.decode() for event in events]


@pytest.mark.sockets
async def test_nothing_is_lacking(place: Place) -> None:
    events = await place.publish(5)
    before = await place.state()
    assert before == (b"epoch", events[-1].id, entries(events))
    for given in (events, events[:2], events[1:2], events[3:], [events[0], events[4]]):
        assert await place.give(given) == DONE
        assert await place.state() == before
    assert await place.listen() == []


@pytest.mark.sockets
@pytest.mark.parametrize("last", [True, False])
async def test_the_end_is_lacking(place: Place, *, last: bool) -> None:
    events = await place.publish(6)
    before = await place.state()
    await place.lose(*events[4:], last=events[3].id)
    assert await place.give(events[2:], last=last) == DONE
    assert await place.state() == before
    assert await place.ids(events) == [1] * 6
    assert await place.listen() == [told(events[3].id, events[4:])]
    assert await place.give(events, last=last) == DONE
    assert await place.listen() == []


@pytest.mark.sockets
async def test_all_is_lacking_and_the_beginning_is_known(place: Place) -> None:
    events = await place.publish(4)
    before = await place.state()
    await place.link.call("DEL", place.key("events"), place.key("head"), *(event.key for event in events))
    assert await place.give(events) == DONE
    assert await place.state() == before
    assert await place.ids(events) == [1] * 4
    assert await place.listen() == [told(b"0-0", events)]
    for what, most in (("events", 60_000), ("head", 3_600_000_000), ("id:1", 3_600_000_000)):
        assert 0 < await place.link.call("PTTL", place.key(what)) <= most


@pytest.mark.sockets
async def test_all_is_lacking_and_the_beginning_is_not_known(place: Place) -> None:
    events = await place.publish(4)
    await place.link.call("DEL", place.key("events"), place.key("head"), *(event.key for event in events))
    assert await place.give(events[1:]) == WAITS
    assert await place.state() == (None, None, [])
    assert await place.listen() == []
    assert await place.give(events[1:], last=True) == DONE
    epoch, last, left = await place.state()
    assert epoch not in (None, b"epoch")
    # Cursors of before are of another epoch; new ones come after them all the same.
    assert (last, left) == (events[-1].id, [])
    assert await place.listen() == [told(events[-1].id, [], (epoch or b"").decode())]


@pytest.mark.sockets
async def test_the_middle_is_lacking(place: Place) -> None:
    events = await place.publish(5)
    await place.lose(events[2])
    assert await place.give(events) == DONE
    epoch, last, left = await place.state()
    assert epoch not in (None, b"epoch")
    assert (last, left) == (events[-1].id, [])
    assert await place.listen() == [told(events[-1].id, [], (epoch or b"").decode())]
    # Those of before are of no use to the new one.
    assert await place.give(events, last=True) == DONE
    assert await place.state() == (epoch, last, [])


@pytest.mark.sockets
async def test_what_comes_before_is_brought_by_another_node(place: Place) -> None:
    events = await place.publish(6)
    before = await place.state()
    await place.lose(*events[1:], last=events[0].id)
    mine, others = [events[1], events[4], events[5]], events[2:4]
    assert await place.give(others) == WAITS
    assert (await place.state())[1:] == (events[0].id, entries(events[:1]))
    assert await place.ids(events) == [1, 0, 0, 0, 0, 0]
    assert 0 < await place.link.call("PTTL", place.key("lacking")) <= 60_000
    # Whoever closes the gap appends all that follows it.
    assert await place.give(mine) == DONE
    assert await place.state() == before
    assert await place.ids(events) == [1] * 6
    assert await place.listen() == [told(events[0].id, events[1:])]
    assert await place.link.call("EXISTS", place.key("lacking")) == 0
    assert await place.give(others) == DONE
    assert await place.listen() == []


@pytest.mark.sockets
async def test_two_nodes_take_turns_at_what_is_lacking(place: Place) -> None:
    events = await place.publish(100)
    before = await place.state()
    await place.lose(*events[10:], last=events[9].id)
    assert await place.give(events[1::2]) == WAITS
    assert await place.give(events[::2]) == DONE
    assert await place.give(events[1::2], last=True) == DONE
    assert await place.state() == before
    assert await place.listen() == [told(events[9].id, events[10:])]


@pytest.mark.sockets
async def test_what_comes_before_is_brought_by_nobody(place: Place) -> None:
    events = await place.publish(6)
    await place.lose(*events[2:], last=events[1].id)
    assert await place.give(events[3:]) == WAITS
    assert (await place.state())[0] == b"epoch"
    assert await place.give(events[3:], last=True) == DONE
    epoch, last, left = await place.state()
    assert epoch not in (None, b"epoch")
    assert (last, left) == (events[-1].id, [])
    assert await place.listen() == [told(events[-1].id, [], (epoch or b"").decode())]


@pytest.mark.sockets
@pytest.mark.parametrize("last", [True, False])
async def test_another_epoch_that_was_begun_later(place: Place, *, last: bool) -> None:
    events = await place.publish(3)
    await place.lose(events[1])
    await place.link.call("HSET", place.key("head"), "epoch", "another")
    before = await place.state()
    assert await place.give(events, last=last) == DONE
    assert await place.state() == before
    assert await place.ids(events) == [1, 0, 1]
    assert await place.listen() == []


@pytest.mark.sockets
@pytest.mark.parametrize("last", [True, False])
async def test_another_epoch_that_was_begun_earlier(place: Place, *, last: bool) -> None:
    events = await place.publish(3)
    await place.lose(events[2], last=events[1].id)
    await place.link.call("HSET", place.key("head"), "epoch", "another")
    assert await place.give(events, last=last) == DONE
    epoch, end, left = await place.state()
    assert epoch not in (None, b"epoch", b"another")
    assert (end, left) == (events[2].id, [])
    assert await place.listen() == [told(events[2].id, [], (epoch or b"").decode())]


@pytest.mark.sockets
async def test_history_that_was_trimmed_is_nothing_that_is_lacking(place: Place) -> None:
    events = await place.publish(8, history_events=3)
    before = await place.state()
    assert [id_ for id_, _, _ in before[2]] == [event.id for event in events[5:]]
    assert await place.give(events, history_events=3) == DONE
    assert await place.state() == before
    await place.lose(*events[6:], last=events[5].id)
    assert await place.give(events, history_events=3, last=True) == DONE
    # It is as long as it may be.
    assert (await place.state())[:2] == before[:2]
    assert entries(events[5:])[-2:] == (await place.state())[2][-2:]
    assert await place.listen() == [told(events[5].id, events[6:])]


@pytest.mark.sockets
@pytest.mark.parametrize("last", [True, False])
async def test_history_is_switched_off(place: Place, *, last: bool) -> None:
    events = await place.publish(4, history_events=0)
    assert (await place.state())[1:] == (events[-1].id, [])
    assert await place.give(events, last=last, history_events=0) == DONE
    assert await place.listen() == []
    await place.lose(*events[2:], last=events[1].id)
    assert await place.give(events, last=last, history_events=0) == DONE
    assert await place.state() == (b"epoch", events[-1].id, [])
    assert await place.ids(events) == [1] * 4
    assert await place.listen() == [told(events[1].id, events[2:])]


@pytest.mark.sockets
async def test_ids_are_set_again_although_the_events_are_there(place: Place) -> None:
    events = await place.publish(3)
    events[1] = evolve(events[1], key="")
    await place.link.call("DEL", events[0].key, events[2].key)
    assert await place.give(events, idempotency_seconds=0) == DONE
    assert [await place.link.call("EXISTS", event.key) for event in (events[0], events[2])] == [0, 0]
    assert await place.give(events, idempotency_seconds=50) == DONE
    for event in (events[0], events[2]):
        assert 40_000 < await place.link.call("PTTL", event.key) <= 50_000


@pytest.mark.sockets
async def test_very_much_is_given_in_portions(place: Place) -> None:
    events = await place.publish(1)
    events += [
        Written(
            b"9999999999999-%d" % n, events[-1].id if n == 1 else b"9999999999999-%d" % (n - 1), stored_of(n)
        )
        for n in range(1, 1201)
    ]
    assert await place.give(events, history_events=2000) == DONE
    assert (await place.state())[1:] == (events[-1].id, entries(events))
    assert [len(ids) for _, _, ids in await place.listen()] == [499, 500, 201]


@pytest.mark.sockets
async def test_what_stands_in_the_way_makes_way(place: Place) -> None:
    events = await place.publish(3)
    await place.link.call("SET", place.key("head"), "junk")
    await place.link.call("SET", place.key("events"), "junk")
    assert await place.give(events) == DONE
    assert (await place.state()) == (b"epoch", events[-1].id, entries(events))


@pytest.mark.sockets
async def test_a_server_that_takes_nothing_is_given_it_later(redis_prefix: str) -> None:
    with RedisServer() as server:
        async with open_url(server.url) as link:
            place = Place(link, Keys(redis_prefix), [])
            events = await place.publish(3)
            await place.lose(events[2], last=events[1].id)
            server.cli("config", "set", "maxmemory", "1")
            assert await place.give(events) == WAITS
            assert (await place.state())[1] == events[1].id
            server.cli("config", "set", "maxmemory", "0")
            assert await place.give(events) == DONE
            assert (await place.state())[1] == events[2].id


@pytest.mark.sockets
async def test_a_server_that_is_not_ready_is_given_it_later(redis_prefix: str) -> None:
    with RedisServer("--cluster-enabled", "yes", "--cluster-port", "0") as server:
        async with open_url(server.url) as link:
            events = written(1)
            acknowledged = Acknowledged(make_settings(redis_prefix=redis_prefix), Keys(redis_prefix))
            with pytest.raises(RedisRefusedError) as caught:
                await acknowledged.give(link, [Kept("ada", b"e", events)], "SPUBLISH", last=True)
            assert caught.value.code == "CLUSTERDOWN"


async def test_many_are_given_together(autojump_clock: MockClock) -> None:
    users = [Kept(f"user-{number}", b"e", written(1)) for number in range(150)]
    waiting: list[Kept] = []

    async def give(link: Link) -> None:
        waiting.extend(await keep().give(link, users, "PUBLISH", last=True))

    with capture_logs() as logs:
        async with linked() as (link, remote), trio.open_nursery() as nursery:
            nursery.start_soon(give, link)
            # Without an answer in between.
            given = [await remote.next() for _ in users]
            await remote.send(b":1\r\n" * 49 + b":0\r\n" + b"-OOM command not allowed\r\n" * 100)
    assert {command[0] for command in given} == {b"EVAL"}
    assert waiting == users[49:]
    assert [(log["users"], log["reason"]) for log in logs if "users" in log] == [
        (100, "OOM command not allowed")
    ]
