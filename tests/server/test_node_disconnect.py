"""Disconnecting users and token groups, and how long their tokens are refused."""

import pytest
import trio
from trio.testing import MockClock

from localful_ws.publishing import Disconnect
from localful_ws.revocations import TooManyRevocationsError
from localful_ws.tokens.signatures import sign
from tests.raw_device import handshake
from tests.redis_world import settle
from tests.server.verifiers import slow_verifier
from tests.world import ENGINES, SECRET, STARTED, World, open_world

pytestmark = pytest.mark.kinds(*ENGINES)


async def outcome(world: World, token: str) -> str:
    """What becomes of a new connection with this token."""
    device = await world.open()
    await device.say({"event": "authenticate", "token": token})
    (message,) = device.messages
    return str(message.get("code", message["event"]))


async def test_by_user(world: World, autojump_clock: MockClock) -> None:
    old = world.token("ada", "g1")
    ada = [await world.device("ada", group) for group in ("g1", "g2")]
    bob = await world.device("bob", "g1")
    await trio.sleep(1)
    assert await world.disconnect(user="ada") == 2
    assert [(device.closed, device.messages) for device in ada] == [((4403, "forbidden"), [])] * 2
    assert bob.closed is None
    assert world.closes() == {"forbidden": 2}
    assert await outcome(world, old) == "forbidden"
    await trio.sleep(1)
    assert await outcome(world, world.token("ada", "g1")) == "authenticated"


@pytest.mark.parametrize(
    ("named", "closed"),
    [
        ({"user": "ada", "group": "laptop"}, {"laptop"}),
        ({"user": "ada"}, {"laptop", "phone"}),
        ({"group": "laptop"}, {"laptop", "namesake"}),
    ],
)
async def test_who_is_named(
    world: World, autojump_clock: MockClock, named: dict[str, str], closed: set[str]
) -> None:
    logins = {"laptop": ("ada", "laptop"), "phone": ("ada", "phone"), "namesake": ("bob", "laptop")}
    tokens = {name: world.token(*login) for name, login in logins.items()}
    devices = {name: await world.device(*login) for name, login in logins.items()}
    await trio.sleep(1)
    assert await world.disconnect(**named) == len(closed)
    await trio.sleep(1)
    for name, device in devices.items():
        assert device.closed == ((4403, "forbidden") if name in closed else None)
        assert await outcome(world, tokens[name]) == ("forbidden" if name in closed else "authenticated")
        assert await outcome(world, world.token(*logins[name])) == "authenticated"


@pytest.mark.parametrize("other", [("a", "b:c"), ("a:b:c", ""), ("a:b", "c ")])
async def test_ids_with_what_could_part_them(
    world: World, autojump_clock: MockClock, other: tuple[str, str]
) -> None:
    user, group = other[0], other[1] or "g"
    named, unnamed = await world.device("a:b", "c"), await world.device(user, group)
    token, of_the_named = world.token(user, group), world.token("a:b", "c")
    await trio.sleep(1)
    assert await world.disconnect(user="a:b", group="c") == 1
    assert (named.closed, unnamed.closed) == ((4403, "forbidden"), None)
    assert await outcome(world, token) == "authenticated"
    assert await outcome(world, of_the_named) == "forbidden"


async def test_one_that_was_asked_for_before_they_came_closes_nobody(
    world: World, autojump_clock: MockClock
) -> None:
    """A disconnect from the intake may be done late, or again."""
    old = await world.device("ada")
    await trio.sleep(10)
    renewed, new = await world.device("ada", "phone"), await world.device("ada", "tablet")
    at = world.node.clock.now() - 5
    assert await world.disconnect(user="ada", at=at) == 1
    assert await world.disconnect(user="ada", at=at) == 0
    assert (old.closed, renewed.closed, new.closed) == ((4403, "forbidden"), None, None)
    await renewed.say({"event": "authenticate", "token": world.token("ada", "phone")})
    assert renewed.events == ["authenticated"]


async def test_nobody_is_connected(world: World, autojump_clock: MockClock) -> None:
    token = world.token("ada", "laptop")
    await trio.sleep(1)
    assert await world.disconnect(user="ada") == 0
    assert await world.disconnect(group="laptop") == 0
    assert await world.disconnect(user="ada", group="laptop") == 0
    assert await outcome(world, token) == "forbidden"


async def test_a_token_that_does_not_say_when_it_was_issued(world: World, autojump_clock: MockClock) -> None:
    token = sign(b'{"sub":"ada","gid":"laptop","exp":%d}' % (STARTED + 9000), SECRET)
    device = await world.open()
    await device.say({"event": "authenticate", "token": token})
    assert device.take()[0]["event"] == "authenticated"
    assert await world.disconnect(user="ada", group="laptop", at=STARTED) == 1
    assert device.closed == (4403, "forbidden")
    assert await outcome(world, token) == "forbidden"


@pytest.mark.parametrize("until", [None, STARTED + 100])
async def test_a_revocation_lapses(kind: str, autojump_clock: MockClock, until: float | None) -> None:
    async with open_world(kind, revocation_seconds=100) as world:
        logins = [("ada", "phone"), ("bob", "laptop"), ("cy", "phone")]
        tokens = [world.token(user, group, 1000) for user, group in logins]
        await trio.sleep(1)
        await world.disconnect(user="ada", until=until)
        await world.disconnect(group="laptop", until=until)
        await world.disconnect(user="cy", group="phone", until=until)
        for pause, expected in ((0, "forbidden"), (98.5, "forbidden"), (2, "authenticated")):
            await trio.sleep(pause)
            assert [await outcome(world, token) for token in tokens] == [expected] * 3


async def test_a_device_that_has_closed_is_not_counted(world: World, autojump_clock: MockClock) -> None:
    device = await world.raw(handshake(f"Authorization: Bearer {world.token('ada')}"))
    await trio.sleep(0.5)
    assert await world.disconnect(user="ada") == 1
    assert await world.disconnect(user="ada") == 0
    assert device.ended_at is None  # it has yet to answer
    assert world.closes() == {"forbidden": 1}


async def test_a_group_that_was_renewed_away_is_not_meant(world: World, autojump_clock: MockClock) -> None:
    device = await world.device("ada", "old")
    await device.say({"event": "authenticate", "token": world.token("ada", "new")})
    await trio.sleep(1)
    assert await world.disconnect(user="ada", group="old") == 0
    assert device.closed is None
    assert await world.disconnect(user="ada", group="new") == 1
    assert device.closed == (4403, "forbidden")


async def test_while_a_token_is_being_verified(kind: str, autojump_clock: MockClock) -> None:
    async with open_world(kind, verifier=slow_verifier(1)) as world:
        device = await world.open()
        await device.say({"event": "authenticate", "token": world.token("ada", "laptop")})
        await trio.sleep(0.5)
        assert await world.disconnect(user="ada") == 0
        await trio.sleep(1)
        await settle()
        assert [message["code"] for message in device.messages] == ["forbidden"]
        assert device.closed == (4403, "forbidden")


async def test_when_no_more_can_be_remembered_nothing_is_done(kind: str, autojump_clock: MockClock) -> None:
    async with open_world(kind, max_revocations=1) as world:
        device = await world.device("ada", "laptop")
        token = world.token("ada", "laptop")
        await trio.sleep(1)
        await world.disconnect(group="other", until=STARTED + 50)
        with pytest.raises(TooManyRevocationsError):
            await world.disconnect(user="ada")
        # Nor is the user deleted, whose tokens would still be good.
        with pytest.raises(TooManyRevocationsError):
            await world.publish({"event": "user-delete", "user": "ada"})
        assert (device.closed, device.events) == (None, [])
        assert await outcome(world, token) == "authenticated"
        await trio.sleep(50)
        assert await world.disconnect(user="ada") == 2


async def test_what_an_engine_has_decided_is_done_over_the_limit_too(
    kind: str, autojump_clock: MockClock
) -> None:
    async with open_world(kind, max_revocations=1) as world:
        devices = [await world.device(user, "laptop") for user in ("ada", "bob", "cy", "dee")]
        tokens = [world.token(user, "laptop") for user in ("ada", "bob", "cy", "dee")]
        await trio.sleep(1)
        now, subscriber = world.node.clock.now(), world.node.subscriber
        ada, bob = (Disconnect(user, at=now, until=now + 100) for user in ("ada", "bob"))
        subscriber.remember([ada, bob])
        assert (subscriber.close(ada), subscriber.close(bob)) == (1, 1)
        subscriber.recall([Disconnect(group="other", at=now, until=now + 100)])
        subscriber.recall([Disconnect("cy", "laptop", at=now, until=now + 100)])
        await settle()
        assert [device.closed for device in devices] == [(4403, "forbidden")] * 3 + [None]
        outcomes = [await outcome(world, token) for token in tokens]
        assert outcomes == ["forbidden"] * 3 + ["authenticated"]


async def test_whoever_is_told_to_go_makes_room_at_once(autojump_clock: MockClock) -> None:
    """A device that does not answer the close doesn't keep its user's new login out meanwhile."""
    async with open_world("lean", max_connections_per_user=1) as world:
        await world.raw(handshake(f"Authorization: Bearer {world.token('ada', 'old')}"))
        await trio.sleep(1)
        assert await world.disconnect(group="old") == 1
        again = await world.device("ada", "new")
        await world.publish({"event": "user-update", "user": "ada"})
        assert again.events == ["user-update"]
