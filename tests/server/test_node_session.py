"""The life of an authenticated connection: renewal, expiry, pings, over hours."""

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.raw_device import PING, PONG, TEXT, RawDevice, close, frame, handshake, text
from tests.redis_world import settle
from tests.server.verifiers import slow_verifier
from tests.world import STARTED, TestDevice, World, open_world

HOUR = 3600.0


async def raw_device(world: World, **claims: Any) -> RawDevice:
    device = await world.raw(handshake())
    await device.say(text({"event": "authenticate", "token": world.token(**claims)}))
    return device


def pings(device: RawDevice) -> int:
    return [each.opcode for each in device.frames].count(PING)


# --- renewal and expiry ---


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


async def test_the_window_is_a_setting(transport: str, autojump_clock: MockClock) -> None:
    async with open_world(transport, renewal_window=7) as world:
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


async def test_a_renewal_with_too_many_vaults_changes_nothing(
    transport: str, autojump_clock: MockClock
) -> None:
    async with open_world(transport, max_vaults=1) as world:
        device = await world.device("ada", "laptop", "a", ttl=100)
        message = {"event": "authenticate", "token": world.token(), "vaults": ["b", "c"], "id": "r"}
        await device.say(message)
        await check_unchanged(world, device, "too-many-vaults")


async def test_a_renewal_while_the_verifier_is_away_changes_nothing(
    transport: str, autojump_clock: MockClock
) -> None:
    verifier = slow_verifier()
    async with open_world(transport, verifier=verifier) as world:
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
    await world.disconnect(group="phone")
    await device.say({"event": "authenticate", "token": world.token("ada", "phone"), "id": "r"})
    assert [(message["code"], message["id"]) for message in device.messages] == [("forbidden", "r")]
    assert device.closed == (4403, "forbidden")


async def test_a_renewal_has_to_be_verified_before_the_token_expires(
    transport: str, autojump_clock: MockClock
) -> None:
    verifier = slow_verifier()
    async with open_world(transport, verifier=verifier) as world:
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


# --- pings ---


async def test_hours_of_pings_and_pongs(world: World, autojump_clock: MockClock) -> None:
    device = await raw_device(world, ttl=10 * HOUR)
    await trio.sleep(1)
    while world.now() < 3 * HOUR:
        before = pings(device)
        await trio.sleep(25)
        assert pings(device) == before + 1
        await device.say(frame(PONG, device.frames[-1].payload))
    assert pings(device) == 3 * HOUR / 25
    assert (device.ended_at, device.messages[1:], world.closes()) == (None, [], {})


@pytest.mark.parametrize(("interval", "patience"), [(25, 20), (10, 3), (5, 12)])
async def test_a_device_that_does_not_answer_a_ping_is_dropped(
    transport: str, autojump_clock: MockClock, interval: float, patience: float
) -> None:
    async with open_world(transport, ping_interval=interval, ping_timeout=patience) as world:
        device = await raw_device(world)
        await device.ended.wait()
        assert device.ended_at == pytest.approx(interval + patience, abs=1e-3)
        assert (pings(device), device.closed, len(device.frames)) == (1, None, 2)
        await settle()
        assert world.closes() == {"ping-timeout": 1}
        assert world.node.devices() == ()


@pytest.mark.parametrize(
    "answer",
    [
        frame(PONG),
        frame(PONG, b"another payload"),
        frame(PING, b"mine"),
        text({"vaults": []}),
        frame(TEXT, b"{", final=False),
        frame(TEXT, b"{")[:1],
    ],
)
async def test_anything_that_comes_answers_a_ping(
    world: World, autojump_clock: MockClock, answer: bytes
) -> None:
    device = await raw_device(world)
    await trio.sleep(44.9)
    await device.say(answer)
    await trio.sleep(5)
    assert (pings(device), device.ended_at) == (1, None)
    await trio.sleep(1)
    assert pings(device) == 2
    await device.ended.wait()
    assert device.ended_at == pytest.approx(70, abs=1e-3)


async def test_what_came_before_a_ping_does_not_answer_it(world: World, autojump_clock: MockClock) -> None:
    device = await raw_device(world)
    await trio.sleep(24.9)
    await device.say(frame(PONG))
    await device.ended.wait()
    assert device.ended_at == pytest.approx(45, abs=1e-3)


async def test_a_device_may_ping_too(world: World, autojump_clock: MockClock) -> None:
    device = await raw_device(world)
    payloads = [b"", b"a", b"\x00\xff" * 62]
    await device.say(*(frame(PING, payload) for payload in payloads))
    assert device.pongs() == payloads


# --- the device's end of it ---


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (close(1000, b"bye"), (1000, "bye")),
        (close(1001), (1001, "")),
        (close(4999), (4999, "")),
        (frame(8), None),
    ],
)
async def test_a_device_closes(
    world: World, autojump_clock: MockClock, sent: bytes, answer: tuple[int, str] | None
) -> None:
    device = await raw_device(world)
    await device.say(sent)
    assert device.frames[-1].opcode == 8
    assert device.closed == (1000, "normal")
    assert device.ended_at == 0.0
    assert world.closes() == {"device-closed": 1}
    assert world.node.devices() == ()


async def test_a_device_vanishes(world: World, autojump_clock: MockClock) -> None:
    device = await raw_device(world)
    await device.stream.aclose()
    await settle()
    assert world.closes() == {"connection-lost": 1}
    assert world.node.devices() == ()
    await world.publish({"event": "user-update", "user": "ada"})
    # Its appointment with the timekeeper does not keep it alive.
    assert [kept for kept in world.node.timekeeper._heap if kept.timed is not None] == []


async def test_a_device_that_does_not_answer_a_close_is_dropped(
    world: World, autojump_clock: MockClock
) -> None:
    device = await raw_device(world)
    await world.disconnect(user="ada")
    assert (device.closed, device.ended_at) == ((4403, "forbidden"), None)
    await device.ended.wait()
    assert device.ended_at == 5
    await settle()
    assert (world.closes(), world.node.devices()) == ({"forbidden": 1}, ())


@pytest.mark.parametrize(
    "chatter",
    [frame(PING, b"?"), text({"vaults": ["a"]}), frame(PONG), text("x" * 70_000), frame(TEXT, mask=None)],
    ids=["ping", "message", "pong", "too big", "malformed"],
)
async def test_what_comes_after_a_close_is_not_looked_at(
    world: World, autojump_clock: MockClock, chatter: bytes
) -> None:
    device = await raw_device(world)
    await world.disconnect(user="ada")
    before = device.frames
    for _ in range(10):
        await device.say(chatter)
        await trio.sleep(1)
    assert device.frames == before
    assert device.ended_at is not None
    assert device.ended_at <= 10
    assert (world.closes(), world.node.devices()) == ({"forbidden": 1}, ())


async def test_nothing_follows_the_answer_to_a_close(world: World, autojump_clock: MockClock) -> None:
    """Not even an event that is published at the same moment, where sending takes its time."""
    device = await world.raw(handshake(), make_pair=trio.testing.lockstep_stream_pair)
    await device.say(text({"event": "authenticate", "token": world.token()}))
    await device.send(close())
    for _ in range(20):
        await world.node.publish(world.decode_events([{"event": "user-update", "user": "ada"}]))
    await settle()
    assert device.closed == (1000, "normal")
