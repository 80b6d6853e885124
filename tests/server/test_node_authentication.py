"""The first message of a device: in time or not, good or not."""

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from localful_ws.tokens import mint_token
from tests.raw_device import BINARY, close, frame, handshake, text
from tests.redis_world import settle
from tests.server.verifiers import slow_verifier
from tests.world import SECRET, STARTED, TRANSPORTS, World, open_world

OTHER_SECRET = b"another secret of thirty-two bytes and more"


@pytest.mark.kinds(*TRANSPORTS)
async def test_a_silent_device_is_closed_after_exactly_3_seconds(
    world: World, autojump_clock: MockClock
) -> None:
    device = await world.open()
    await device.ended.wait()
    assert (device.closed, device.closed_at) == ((4408, "authentication-timeout"), 3.0)
    assert device.messages == []
    await settle()
    assert world.closes() == {"authentication-timeout": 1}
    assert world.node.devices() == ()


async def test_the_time_is_a_setting(autojump_clock: MockClock) -> None:
    async with open_world(auth_timeout=0.5) as world:
        device = await world.open()
        await device.ended.wait()
        assert device.closed_at == 0.5


@pytest.mark.kinds(*TRANSPORTS)
async def test_a_message_after_2999_milliseconds_is_in_time(world: World, autojump_clock: MockClock) -> None:
    device = await world.open()
    await trio.sleep(2.999)
    await device.say({"event": "authenticate", "token": world.token()})
    assert device.events == ["authenticated"]
    assert device.times == [2.999]
    await trio.sleep(1)
    assert device.closed is None


async def test_the_answer_says_who_it_is(world: World, autojump_clock: MockClock) -> None:
    device = await world.open()
    await device.say(
        {
            "event": "authenticate",
            "token": world.token("ada", "phone", 100),
            "vaults": ["b", "a", "b"],
            "id": "1",
        }
    )
    assert device.messages == [
        {
            "event": "authenticated",
            "user": "ada",
            "group": "phone",
            "expiresAt": STARTED + 100,
            "vaults": ["b", "a"],
            "id": "1",
        }
    ]
    assert world.node.metrics.authentications == 1
    assert world.node.metrics.gauges().connections == {"awaiting-auth": 0, "authenticated": 1, "closed": 0}


@pytest.mark.parametrize(
    ("message", "code", "word"),
    [
        ({"event": "authenticate", "token": "no.token.this"}, 4401, "unauthorized"),
        ({"event": "authenticate", "token": ""}, 4401, "unauthorized"),
        ({"event": "authenticate", "token": "x" * 8193}, 4401, "unauthorized"),
        ({"event": "subscribe", "vaults": ["a"]}, 4401, "unauthorized"),
        ({"vaults": ["a"]}, 4401, "unauthorized"),
        ({"event": "authenticate"}, 4400, "bad-message"),
        ({"event": "authenticate", "token": "t", "vaults": ["a", "b", "c"]}, 4400, "bad-message"),
        ({"event": "sing"}, 4400, "bad-message"),
        ([], 4400, "bad-message"),
        ("hello", 4400, "bad-message"),
        (b'{"event": "authenticate"}', 4400, "bad-message"),
    ],
)
async def test_what_is_no_good_first_message(
    autojump_clock: MockClock, message: Any, code: int, word: str
) -> None:
    async with open_world(max_vaults=2) as world:
        device = await world.open()
        if isinstance(message, dict):
            message["id"] = "m1"
        await device.say(message)
        (error,) = device.messages
        assert error["event"] == "error"
        assert error["code"] == word
        assert error["message"].endswith(".")
        assert error.get("id") == ("m1" if isinstance(message, dict) else None)
        assert (device.closed, device.closed_at) == ((code, word), 0.0)
        assert world.closes() == {word: 1}
        assert world.node.metrics.authentications == 0


@pytest.mark.parametrize(
    "claims",
    [
        {"secret": OTHER_SECRET},
        {"ttl": -1.0},
        {"ttl": 0.0},
        {"now": STARTED + 60},
        {"group_claim": "sid"},
    ],
)
async def test_a_token_that_does_not_hold(
    world: World, autojump_clock: MockClock, claims: dict[str, Any]
) -> None:
    arguments: dict[str, Any] = {
        "secret": SECRET,
        "user": "ada",
        "group": "laptop",
        "ttl": 3600.0,
        "now": STARTED,
    }
    token = mint_token(**(arguments | claims))
    device = await world.open()
    await device.say({"event": "authenticate", "token": token})
    assert device.messages[0]["code"] == "unauthorized"
    assert device.closed == (4401, "unauthorized")
    assert token not in json.dumps(device.messages)
    assert world.node.metrics.authentication_failures["unauthorized"] == 1


async def test_a_slow_verdict_counts_from_the_message(autojump_clock: MockClock) -> None:
    async with open_world(verifier=slow_verifier(2)) as world:
        device = await world.open()
        await trio.sleep(2.5)
        await device.say({"event": "authenticate", "token": world.token()})
        await trio.sleep(5)
        assert (device.events, device.times, device.closed) == (["authenticated"], [4.5], None)


@pytest.mark.parametrize(("ttl", "closed"), [(2.0, (4401, "unauthorized")), (2.5, None)])
async def test_a_token_that_expires_while_its_user_is_joined(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, ttl: float, closed: tuple[int, str] | None
) -> None:
    async with open_world() as world:
        join = world.node.engine.join

        async def join_slowly(*arguments: Any) -> None:
            await trio.sleep(2)
            await join(*arguments)

        monkeypatch.setattr(world.node.engine, "join", join_slowly)
        device = await world.open()
        await device.say({"event": "authenticate", "token": world.token(ttl=ttl)})
        await trio.sleep(2)
        await settle()
        assert (device.events, device.closed) == (["authenticated" if closed is None else "error"], closed)


@pytest.mark.parametrize(("seconds", "ready"), [(0.5, False), (1000, True)])
async def test_a_verifier_that_is_away_or_hangs(
    autojump_clock: MockClock, seconds: float, *, ready: bool
) -> None:
    async with open_world(verifier=slow_verifier(seconds, ready=ready)) as world:
        device = await world.open()
        await trio.sleep(2)
        await device.say({"event": "authenticate", "token": world.token(), "id": "x"})
        await device.ended.wait()
        assert [(message["code"], message["id"]) for message in device.messages] == [("try-again-later", "x")]
        assert (device.closed, device.closed_at) == ((1013, "try-again-later"), 2 + min(seconds, 3))
        assert world.node.metrics.authentication_failures["try-again-later"] == 1
        assert world.closes() == {"try-again-later": 1}


@pytest.mark.kinds(*TRANSPORTS)
async def test_messages_wait_while_a_token_is_verified(kind: str, autojump_clock: MockClock) -> None:
    async with open_world(kind, verifier=slow_verifier(1)) as world:
        device = await world.open()
        await device.send({"event": "authenticate", "token": world.token()})
        await device.send({"event": "subscribe", "vaults": ["a"], "id": "1"})
        await device.send({"event": "subscribe", "vaults": ["b"], "id": "2"})
        await settle()
        assert device.messages == []
        await trio.sleep(1)
        await settle()
        assert [message.get("id") for message in device.messages] == [None, "1", "2"]
        assert device.times == [1, 1, 1]


async def test_no_event_before_authentication(autojump_clock: MockClock) -> None:
    async with open_world(verifier=slow_verifier(1)) as world:
        device = await world.open()
        await world.publish({"event": "user-update", "user": "ada"})
        await device.say({"event": "authenticate", "token": world.token(), "vaults": ["v"]})
        await world.publish({"event": "item-create", "user": "ada", "vault": "v"})
        await trio.sleep(1)
        await settle()
        await world.publish({"event": "item-delete", "user": "ada", "vault": "v"})
        assert device.events == ["authenticated", "item-delete"]


@pytest.mark.kinds(*TRANSPORTS)
async def test_a_device_that_leaves_while_its_token_is_verified(kind: str, autojump_clock: MockClock) -> None:
    async with open_world(kind, verifier=slow_verifier(1)) as world:
        device = await world.raw(handshake())
        await device.say(text({"event": "authenticate", "token": world.token()}), close())
        await trio.sleep(1.5)
        await settle()
        assert device.closed == (1000, "normal")
        assert world.closes() == {"device-closed": 1}
        assert world.node.devices() == ()
        assert await world.publish({"event": "user-update", "user": "ada"}) == 1


@pytest.mark.kinds(*TRANSPORTS)
async def test_a_message_in_pieces_is_bounded_by_the_same_3_seconds(
    world: World, autojump_clock: MockClock
) -> None:
    device = await world.raw(handshake())
    message = text({"event": "authenticate", "token": world.token()})
    await device.say(message[:40])
    await trio.sleep(1.5)
    await device.say(message[40:50])
    await device.ended.wait()
    assert device.closed == (4408, "authentication-timeout")
    assert world.closes() == {"authentication-timeout": 1}


@pytest.mark.kinds(*TRANSPORTS)
async def test_pings_do_not_prolong_the_3_seconds(world: World, autojump_clock: MockClock) -> None:
    device = await world.raw(handshake())
    for _ in range(2):
        await trio.sleep(1.25)
        await device.say(frame(9, b"still here"))
    assert device.pongs() == [b"still here"] * 2
    await trio.sleep(0.5)
    await settle()
    assert device.closed == (4408, "authentication-timeout")


@pytest.mark.kinds(*TRANSPORTS)
async def test_a_binary_message_is_refused_at_any_time(world: World, autojump_clock: MockClock) -> None:
    device = await world.device()
    await device.say(b"{}")
    assert device.messages[0]["code"] == "bad-message"
    assert device.closed == (4400, "bad-message")
    raw = await world.raw(handshake())
    await raw.say(frame(BINARY, b"\x00\xff"))
    assert raw.closed == (4400, "bad-message")
    assert world.closes() == {"bad-message": 2}
