"""Disconnecting users and token groups, and how long their tokens are refused."""

import pytest
import trio
from trio.testing import MockClock

from localful_ws.revocations import TooManyRevocationsError
from tests.raw_device import handshake
from tests.redis_world import settle
from tests.server.verifiers import slow_verifier
from tests.world import ENGINES, STARTED, World, open_world

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
    assert await outcome(world, world.token("ada", "g1")) == "authenticated"
    await trio.sleep(1)
    assert await outcome(world, world.token("ada", "g1")) == "authenticated"


async def test_by_group(world: World, autojump_clock: MockClock) -> None:
    laptop = await world.device("ada", "laptop")
    namesake = await world.device("bob", "laptop")
    phone = await world.device("ada", "phone")
    assert await world.disconnect(group="laptop") == 2
    assert (laptop.closed, namesake.closed) == ((4403, "forbidden"), (4403, "forbidden"))
    assert phone.closed is None
    await trio.sleep(60)
    # Unlike a user's, a group's tokens are refused whenever they were issued.
    assert await outcome(world, world.token("ada", "laptop")) == "forbidden"
    assert await outcome(world, world.token("ada", "desktop")) == "authenticated"


async def test_nobody_is_connected(world: World, autojump_clock: MockClock) -> None:
    assert await world.disconnect(user="ada") == 0
    assert await world.disconnect(group="laptop") == 0
    assert await outcome(world, world.token("ada", "laptop")) == "forbidden"


@pytest.mark.parametrize("until", [None, STARTED + 100])
async def test_a_revocation_lapses(kind: str, autojump_clock: MockClock, until: float | None) -> None:
    async with open_world(kind, revocation_seconds=100) as world:
        old = world.token("ada", "phone", 1000)
        await trio.sleep(1)
        await world.disconnect(group="laptop", until=until)
        await world.disconnect(user="ada", until=until)
        for pause, group_outcome in ((0, "forbidden"), (98.5, "forbidden"), (2, "authenticated")):
            await trio.sleep(pause)
            assert await outcome(world, world.token("bob", "laptop")) == group_outcome
            assert await outcome(world, old) == group_outcome


async def test_a_device_that_has_closed_is_not_counted(world: World, autojump_clock: MockClock) -> None:
    device = await world.raw(handshake(f"Authorization: Bearer {world.token('ada')}"))
    assert await world.disconnect(user="ada") == 1
    assert await world.disconnect(user="ada") == 0
    assert device.ended_at is None  # it has yet to answer
    assert world.closes() == {"forbidden": 1}


async def test_a_group_that_was_renewed_away_is_not_meant(world: World, autojump_clock: MockClock) -> None:
    device = await world.device("ada", "old")
    await device.say({"event": "authenticate", "token": world.token("ada", "new")})
    assert await world.disconnect(group="old") == 0
    assert device.closed is None
    assert await world.disconnect(group="new") == 1
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
        await world.disconnect(group="other", until=STARTED + 50)
        with pytest.raises(TooManyRevocationsError):
            await world.disconnect(user="ada")
        assert device.closed is None
        assert await outcome(world, world.token("ada", "laptop")) == "authenticated"
        await trio.sleep(50)
        assert await world.disconnect(user="ada") == 2


async def test_whoever_is_told_to_go_makes_room_at_once(autojump_clock: MockClock) -> None:
    """A device that does not answer the close doesn't keep its user's new login out meanwhile."""
    async with open_world("lean", max_connections_per_user=1) as world:
        await world.raw(handshake(f"Authorization: Bearer {world.token('ada', 'old')}"))
        assert await world.disconnect(group="old") == 1
        again = await world.device("ada", "new")
        await world.publish({"event": "user-update", "user": "ada"})
        assert again.events == ["user-update"]
