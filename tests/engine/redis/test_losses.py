"""What the log says when events can't be had any more."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

import pytest
import trio
import trio.testing
from attrs import define, field
from structlog.testing import capture_logs

from localful_ws.clock import Clock
from localful_ws.engine import Subscriber
from localful_ws.engine.redis.control import Control
from localful_ws.engine.redis.keys import Keys
from localful_ws.engine.redis.queue import RouteQueue
from localful_ws.engine.redis.shards import Shards
from localful_ws.engine.redis.streams import Streams
from localful_ws.engine.redis.subscriptions import Subscriptions
from tests.world import make_settings


@define
class Redis:
    """A server whose streams are empty, and begin anew with each new epoch.

    Attributes:
        subscriptions: Its channels.
        epoch: Of all streams.
        link: Something.
    """

    subscriptions: Subscriptions = field(init=False)
    epoch: bytes = b"e1"
    link: object = True
    publish_command: str = "PUBLISH"

    def of(self, _: object) -> "Redis":
        return self

    async def wait_for(self, _: object) -> None:
        await trio.lowlevel.checkpoint()

    async def run_script(self, *_: object, is_patient: bool) -> list[object]:
        """The script ``read``."""
        await trio.lowlevel.checkpoint()
        return [self.epoch, b"0-0", 0, []]


@define
class Node:
    """Closes devices: so many of each user."""

    devices: Counter[str]

    def lose(self, user: str) -> int:
        return self.devices.pop(user, 0)


KEYS = Keys("localful")
USERS = [f"u{number}" for number in range(1000)]


@pytest.fixture
def redis() -> Redis:
    return Redis()


@pytest.fixture
def node() -> Node:
    return Node(Counter([*USERS, *USERS[:500]]))


@pytest.fixture
async def streams(redis: Redis, node: Node, nursery: trio.Nursery) -> Streams:
    """The streams of all users, as they are followed when all is well."""
    settings = make_settings()
    queue = RouteQueue(settings.redis_queue_bytes)
    control = Control(settings, Clock(), KEYS, queue.put_call)
    control.in_force = True
    streams = Streams(settings, KEYS, queue, cast("Shards", redis), control)
    redis.subscriptions = Subscriptions(streams.subscribed)
    nursery.start_soon(queue.run, cast("Subscriber", node))
    nursery.start_soon(streams.run)
    async with trio.open_nursery() as joining:
        for user in USERS:
            joining.start_soon(streams.join, user, None, lambda _: None)
        await trio.testing.wait_all_tasks_blocked()
        streams.subscribed([channel_of(user) for user in USERS])
    return streams


def channel_of(user: str) -> bytes:
    return KEYS.of_user(user, "live").encode()


async def come_back_empty(redis: Redis, streams: Streams, users: Sequence[str]) -> list[Any]:
    """Have users' streams begin anew; returns what the log says of it within some seconds."""
    redis.epoch += b"+"
    with capture_logs() as log:
        streams.subscribed([channel_of(user) for user in users])
        await trio.sleep(5)
    return log


async def test_a_thousand_users_are_one_line(autojump_clock: object, redis: Redis, streams: Streams) -> None:
    (line,) = await come_back_empty(redis, streams, USERS)
    assert (line["log_level"], line["users"], line["devices"]) == ("warning", 1000, 1500)
    assert "4413" in line["event"]
    assert "Redis came back empty" in line["reason"]
    assert streams.counts.lost == 1000


async def test_what_is_lost_later_is_told_again(
    autojump_clock: object, redis: Redis, streams: Streams
) -> None:
    assert len(await come_back_empty(redis, streams, USERS[:10])) == 1
    (line,) = await come_back_empty(redis, streams, USERS[600:602])
    assert (line["users"], line["devices"]) == (2, 2)


async def test_where_nobody_is_closed_nothing_is_told(
    autojump_clock: object, redis: Redis, node: Node, streams: Streams
) -> None:
    node.devices.clear()
    assert await come_back_empty(redis, streams, USERS) == []
    assert streams.counts.lost == 1000
