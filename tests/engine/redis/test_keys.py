"""No user's id makes a name of ours: of a key, a channel or a hash field."""

import re
from collections.abc import Sequence
from itertools import combinations, product

import attrs
import pytest

from localful_ws.clock import Clock
from localful_ws.engine import Receipt
from localful_ws.engine.redis.keys import Keys, hash_slot
from localful_ws.protocol import Event, EventName
from localful_ws.publishing import Disconnect
from tests.redis_server import RedisServer

from .nodes import Device, FakeNode, open_nodes, update

PREFIX = "localful"
HOSTILE = [
    *(
        "a",
        "b",
        "a:b",
        "b:c",
        "c",
        ":",
        "user:ada",
        "group:ada",
        "login:a",
        "user:",
        "group",
        'login:["a","b"]',
    ),
    *(
        '"',
        "\\",
        'a","b',
        '["a","b"]',
        "null",
        " ",
        "\t\r\n",
        "\x00",
        "{",
        "}",
        "%7B",
        "@",
        "ä",
        "\N{SNOWMAN}",
    ),
    "\N{PILE OF POO}" * 128,
]
KINDS = ("events", "head", "live", "id:", "id:events")


def names_of_ours(prefix: str) -> list[str]:
    """All that is named after no user."""
    keys = Keys(prefix)
    return [*attrs.asdict(keys).values(), keys.of_node("n")]


def ids_like_names(prefix: str) -> list[str]:
    """Ids made of all that names consist of: every part, every mark, and what stands between two marks."""
    names = [*names_of_ours(prefix), *(Keys(prefix).of_user("ada", kind) for kind in KINDS)]
    names += ["user:ada", "group:ada", "user:control", "%", "%7B", "%7Bcontrol%7D", "@control", "}", "}:{"]
    ids: dict[str, None] = {}
    for name in names:
        parts = [part for part in re.split(r"(\W)", name) if part]
        for start, end in combinations(range(len(parts) + 1), 2):
            ids["".join(parts[start:end])] = None
    return list(ids)


def test_the_ids_are_those_that_would_do_harm() -> None:
    ids = ids_like_names(PREFIX)
    assert {"control", "{control}", "control}:live", "localful:intake", "user", ":", "@", "{@ada}"} <= set(
        ids
    )
    assert len(ids) > 150


@pytest.mark.parametrize("prefix", [PREFIX, "a", "a:intake", "control", "user", "a:control:live"])
def test_no_users_name_is_anothers(prefix: str) -> None:
    keys = Keys(prefix)
    taken = set(names_of_ours(prefix))
    # Deployments may share a Redis, each with a prefix of its own.
    taken.update(*(names_of_ours(f"{prefix}:{more}") for more in ("intake", "control", "user", "live", "x")))
    for user in ids_like_names(prefix):
        names = [keys.of_user(user, kind) for kind in KINDS]
        assert taken.isdisjoint(names)
        taken.update(names)
        assert len({hash_slot(name.encode()) for name in names}) == 1


def test_what_belongs_together_is_in_one_slot() -> None:
    keys = Keys(PREFIX)
    control = (keys.revoked, keys.lapses, keys.control, keys.of_node("n"))
    assert len({hash_slot(name.encode()) for name in control}) == 1
    assert hash_slot(keys.lease.encode()) == hash_slot(keys.intake.encode())


@pytest.fixture(params=["one server", "cluster"])
def redis_url(request: pytest.FixtureRequest) -> str:
    """Where Redis is."""
    if request.param == "one server":
        server: RedisServer = request.getfixturevalue("redis_server")
        return server.url
    servers: Sequence[RedisServer] = request.getfixturevalue("redis_cluster")
    return f"redis+cluster://127.0.0.1:{servers[0].port}"


async def visit(node: FakeNode, other: FakeNode, users: Sequence[str]) -> None:
    """Have a device of each user come, get its own event, and leave."""
    devices = [await node.join(Device(user)) for user in users]
    events = [update(number, user, id=user) for number, user in enumerate(users)]
    assert await other.publish(*events) == Receipt(len(users))
    await node.until(lambda: all(device.numbers for device in devices))
    assert [device.numbers for device in devices] == [[number] for number in range(len(users))]
    for device in devices:
        node.leave(device)
    # Channels are given up in order: once this one is listened to, those of before are not any more.
    node.leave(await node.join(Device("somebody else")))


@pytest.mark.sockets
async def test_users_who_are_called_like_things_disturb_nobody(redis_url: str, redis_prefix: str) -> None:
    users = ids_like_names(redis_prefix)
    clock = Clock()
    async with open_nodes(redis_url, redis_prefix) as (one, two):
        victim, leaver = [await one.join(Device(user)) for user in ("victim", "leaver")]
        await visit(one, two, users)

        revocation = Disconnect(user="victim", at=clock.now(), until=clock.now() + 60)
        assert await two.engine.disconnect(revocation) == 1
        assert victim.stay == 1
        await two.publish(Event(EventName.USER_DELETE, "leaver", data=b"7"))
        await one.until(lambda: leaver.numbers == [7] and len(one.revoked) == 2)
        assert [(each.user, each.group) for each in one.revoked] == [("victim", None), ("leaver", None)]


@pytest.mark.sockets
async def test_revocations_of_such_users_are_recalled_as_theirs(redis_url: str, redis_prefix: str) -> None:
    names = list(dict.fromkeys([*ids_like_names(redis_prefix)[:60], *HOSTILE]))
    now = Clock().now()
    asked = [Disconnect(user=name, at=now, until=now + 60) for name in names]
    asked += [Disconnect(group=name, at=now, until=now + 90) for name in names]
    # Each of these would be another's if ids were put together with a mark that they may have.
    asked += [Disconnect(*login, at=now, until=now + 120) for login in product(HOSTILE, HOSTILE)]
    async with open_nodes(redis_url, redis_prefix, count=1, max_revocations=len(asked)) as (node,):
        for disconnect in asked:
            await node.engine.disconnect(disconnect)
        assert node.revoked == asked
    async with open_nodes(redis_url, redis_prefix, count=1) as (node,):
        assert len(node.revoked) == len(asked)
        assert set(node.revoked) == set(asked)


@pytest.mark.parametrize("channel", ["a", "{user}.a", "x{user}", "{}a", "a{}{b}", "{a", "a}b{c}", "é{ü}"])
@pytest.mark.sockets
def test_slots_are_those_of_the_cluster(redis_cluster: Sequence[RedisServer], channel: str) -> None:
    assert redis_cluster[0].cli("cluster", "keyslot", channel) == str(hash_slot(channel.encode()))
