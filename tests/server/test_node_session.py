"""The life of an authenticated session: renewal and expiry, over a day."""

import pytest
import trio
from trio.testing import MockClock

from tests.redis_world import settle
from tests.server.verifiers import slow_verifier
from tests.world import STARTED, TestDevice, World, open_world

HOUR = 3600.0


@pytest.mark.parametrize(("ttl", "asked_at"), [(3600, 3540), (61, 1), (60, 30), (40, 20), (2, 1)])
async def test_a_token_runs_out(world: World, autojump_clock: MockClock, ttl: float, asked_at: float) -> None:
    device = await world.device(ttl=ttl)
    await device.ended.wait()
    assert device.messages == [{"event": "reauthenticate", "expiresAt": STARTED + ttl}]
    assert device.times[-1] == asked_at
    assert (device.closed, device.closed_at) == ((4410, "token-expired"), ttl)
    assert world.closes() == {"token-expired": 1}
    await settle()
    assert world.node.devices() == ()


async def test_the_window_is_a_setting(autojump_clock: MockClock) -> None:
    async with open_world(renewal_window=7) as world:
        device = await world.device(ttl=100)
        await device.ended.wait()
        assert device.times[-1] == 93


async def test_a_renewal_prolongs_the_session(world: World, autojump_clock: MockClock) -> None:
    device = await world.device("ada", "laptop", "a", ttl=100)
    await trio.sleep(30)
    await device.say({"event": "authenticate", "token": world.token("ada", "desktop", 120), "id": "r"})
    assert device.take() == [
        {
            "event": "authenticated",
            "user": "ada",
            "group": "desktop",
            "expiresAt": STARTED + 150,
            "vaults": ["a"],
            "id": "r",
        }
    ]
    await world.publish(
        {"event": "item-create", "user": "ada", "vault": "a", "group": "laptop"},
        {"event": "item-delete", "user": "ada", "vault": "a", "group": "desktop"},
    )
    assert [message["event"] for message in device.take()] == ["item-create"]
    await device.ended.wait()
    assert (device.events, device.times[-1]) == (["reauthenticate"], 90)
    assert device.closed_at == 150
    assert world.node.metrics.authentications == 2


async def test_a_renewal_with_vaults_replaces_the_subscription(
    world: World, autojump_clock: MockClock
) -> None:
    device = await world.device("ada", "laptop", "a")
    await device.say({"event": "authenticate", "token": world.token(), "vaults": ["b", "b"]})
    assert device.take()[0]["vaults"] == ["b"]
    for vault in "ab":
        await world.publish({"event": "item-create", "user": "ada", "vault": vault})
    assert [message["vault"] for message in device.take()] == ["b"]


async def check_unchanged(world: World, device: TestDevice, code: str) -> None:
    (error,) = device.take()
    assert (error["event"], error["code"], error["id"]) == ("error", code, "r")
    await world.publish({"event": "item-create", "user": "ada", "vault": "a"})
    assert [message["event"] for message in device.take()] == ["item-create"]
    await device.ended.wait()
    assert (device.closed, device.closed_at) == ((4410, "token-expired"), 100)


@pytest.mark.parametrize("token", ["no.token.this", None])
async def test_a_renewal_with_a_bad_token_changes_nothing(
    world: World, autojump_clock: MockClock, token: str | None
) -> None:
    device = await world.device("ada", "laptop", "a", ttl=100)
    token = token or world.token(ttl=-1)
    await device.say({"event": "authenticate", "token": token, "vaults": ["b"], "id": "r"})
    await check_unchanged(world, device, "unauthorized")
    assert world.node.metrics.authentication_failures["unauthorized"] == 1


async def test_a_renewal_with_too_many_vaults_changes_nothing(autojump_clock: MockClock) -> None:
    async with open_world(max_vaults=1) as world:
        device = await world.device("ada", "laptop", "a", ttl=100)
        message = {"event": "authenticate", "token": world.token(), "vaults": ["b", "c"], "id": "r"}
        await device.say(message)
        await check_unchanged(world, device, "too-many-vaults")


async def test_a_renewal_while_the_verifier_is_away_changes_nothing(autojump_clock: MockClock) -> None:
    verifier = slow_verifier()
    async with open_world(verifier=verifier) as world:
        device = await world.device("ada", "laptop", "a", ttl=100)
        verifier.ready = False
        await device.say({"event": "authenticate", "token": world.token(), "id": "r"})
        await check_unchanged(world, device, "try-again-later")


async def test_another_users_token_is_forbidden(world: World, autojump_clock: MockClock) -> None:
    device = await world.device("ada", "laptop", "a")
    await device.say({"event": "authenticate", "token": world.token("bob"), "id": "r"})
    (error,) = device.messages
    assert (error["code"], error["id"]) == ("forbidden", "r")
    assert device.closed == (4403, "forbidden")
    for user in ("ada", "bob"):
        await world.publish({"event": "user-update", "user": user})
    assert device.messages == [error]


async def test_a_renewal_with_a_revoked_token_is_forbidden(world: World, autojump_clock: MockClock) -> None:
    device = await world.device("ada", "laptop")
    await world.disconnect(user="ada", group="phone")
    await device.say({"event": "authenticate", "token": world.token("ada", "phone"), "id": "r"})
    assert [(message["code"], message["id"]) for message in device.messages] == [("forbidden", "r")]
    assert device.closed == (4403, "forbidden")


async def test_a_renewal_has_to_be_verified_before_the_token_expires(autojump_clock: MockClock) -> None:
    verifier = slow_verifier()
    async with open_world(verifier=verifier) as world:
        device = await world.device("ada", ttl=100)
        await trio.sleep(99)
        device.take()
        verifier.seconds = 2
        await device.send({"event": "authenticate", "token": world.token()})
        await device.ended.wait()
        assert (device.messages, device.closed, device.closed_at) == ([], (4410, "token-expired"), 100)
        await trio.sleep(5)
        assert world.node.devices() == ()
        assert world.closes() == {"token-expired": 1}


async def test_a_day_of_renewals(world: World, autojump_clock: MockClock) -> None:
    device = await world.device("ada", "laptop", "a", ttl=HOUR)
    renewals = 0
    while world.now() < 24 * HOUR:
        await trio.sleep(30)
        for message in device.take():
            assert message["event"] in ("reauthenticate", "authenticated")
            if message["event"] == "reauthenticate":
                assert message["expiresAt"] - (STARTED + world.now()) == pytest.approx(60, abs=30)
                await device.say({"event": "authenticate", "token": world.token(ttl=HOUR)})
                renewals += 1
    assert renewals in (24, 25)
    assert (device.closed, world.closes()) == (None, {})
    await world.publish({"event": "item-create", "user": "ada", "vault": "a"})
    assert device.events[-1] == "item-create"
