"""Who gets which event: subscriptions, routing, echoes, order, and how much of the node an event touches."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from localful_ws.protocol import Connection, Event, EventKind, EventName, Verdict
from localful_ws.server.device import Device
from localful_ws.server.send_buffer import Piece
from tests.raw_device import handshake, text
from tests.redis_world import settle
from tests.world import ENGINES, World, open_world

pytestmark = pytest.mark.kinds(*ENGINES)


def event(name: str, user: str = "ada", vault: str | None = None, **more: Any) -> dict[str, Any]:
    return {"event": name, "user": user, **({} if vault is None else {"vault": vault}), **more}


def sample(name: EventName, **more: Any) -> dict[str, Any]:
    return event(name.value, vault=None if name.kind is EventKind.USER else "v1", **more)


async def test_subscribe_is_answered_with_what_is_in_force(world: World, autojump_clock: MockClock) -> None:
    device = await world.device()
    await device.say({"event": "subscribe", "vaults": ["b", "a", "b"], "id": "s1", "extra": [1]})
    await device.say({"vaults": ["c"]})
    await device.say({"event": "subscribe", "vaults": [], "id": ""})
    assert device.messages == [
        {"event": "subscribed", "vaults": ["b", "a"], "id": "s1"},
        {"event": "subscribed", "vaults": ["c"]},
        {"event": "subscribed", "vaults": [], "id": ""},
    ]


async def test_a_subscription_replaces_the_one_before(world: World, autojump_clock: MockClock) -> None:
    device = await world.device("ada", "laptop", "a", "b")
    await device.say({"event": "subscribe", "vaults": ["b", "c"]})
    device.take()
    for vault in "abc":
        await world.publish(event("item-create", vault=vault))
    assert [message["vault"] for message in device.take()] == ["b", "c"]
    await device.say({"vaults": []})
    device.take()
    await world.publish(event("item-create", vault="b"), event("vault-update", vault="a"))
    assert device.events == ["vault-update"]


async def test_a_subscription_that_is_refused_changes_nothing(kind: str, autojump_clock: MockClock) -> None:
    async with open_world(kind, max_vaults=20) as world:
        device = await world.device("ada", "laptop", "a")
        too_many = [str(number) for number in range(21)]
        await device.say({"event": "subscribe", "vaults": too_many, "id": "s"})
        (error,) = device.take()
        assert (error["event"], error["code"], error["id"]) == ("error", "too-many-vaults", "s")
        await world.publish(event("item-create", vault="a"), event("item-create", vault="1"))
        assert [message["vault"] for message in device.take()] == ["a"]
        await device.say({"event": "subscribe", "vaults": too_many[1:] * 2})
        assert device.take()[0]["vaults"] == too_many[1:]
        await world.publish(event("item-create", vault="a"), event("item-create", vault="20"))
        assert [message["vault"] for message in device.take()] == ["20"]


@pytest.mark.parametrize("name", EventName, ids=lambda name: name.value)
async def test_every_event_goes_to_whom_it_concerns(
    world: World, autojump_clock: MockClock, name: EventName
) -> None:
    devices = {
        "subscribed": await world.device("ada", "g1", "v1", "v2"),
        "not subscribed": await world.device("ada", "g2", "v2"),
        "no vaults": await world.device("ada", "g3"),
        "origin": await world.device("ada", "phone", "v1"),
        "same group again": await world.device("ada", "phone", "v1"),
        "other user": await world.device("bob", "g1", "v1"),
        "group of the same name": await world.device("bob", "phone", "v1"),
        "unauthenticated": await world.open(),
    }
    await world.publish(sample(name, group="phone", data={"n": 1}))
    got = {who for who, device in devices.items() if device.events == [name.value]}
    nothing = {who for who, device in devices.items() if device.events == []}
    wanted = {"subscribed"} if name.kind is EventKind.DATA else {"subscribed", "not subscribed", "no vaults"}
    assert got == wanted
    assert nothing == set(devices) - wanted
    (message,) = devices["subscribed"].messages
    assert message.get("vault") == (None if name.kind is EventKind.USER else "v1")
    assert message["data"] == {"n": 1}
    assert set(message) <= {"event", "vault", "data"}
    metrics = world.node.metrics
    assert {accepted: count for accepted, count in metrics.events_accepted.items() if count} == {name: 1}
    assert metrics.events_delivered == len(wanted)
    assert metrics.echoes_suppressed == 2
    assert sum(metrics.publish_to_write.counts) == 1


async def test_an_event_without_origin_goes_to_all_devices(world: World, autojump_clock: MockClock) -> None:
    devices = [await world.device("ada", group) for group in ("g1", "g1", "g2")]
    await world.publish(event("user-update"))
    assert [device.messages for device in devices] == [[{"event": "user-update", "data": None}]] * 3


async def test_data_arrives_byte_for_byte(world: World, autojump_clock: MockClock) -> None:
    raw = await world.raw(handshake())
    await raw.say(text({"event": "authenticate", "token": world.token(), "vaults": ["v\u00e9"]}))
    data = b'{ "b":1.50,\n "a" : [1e2, "\\u00e9\xc3\xa9"],"b":null }'
    body = b'{"event":"item-create","user":"ada","vault":"v\xc3\xa9","data":%s}' % data
    await world.node.publish(world.decode(body))
    await settle()
    beginning = b'{"event":"item-create","vault":"v\xc3\xa9","data":%s,"cursor":"' % data
    assert raw.frames[-1].payload.startswith(beginning)


@pytest.mark.parametrize("size", [0, 10, 125, 126, 60_000, 65_500])
async def test_events_of_every_size(world: World, autojump_clock: MockClock, size: int) -> None:
    device = await world.device()
    await world.publish(event("user-update", data="x" * size))
    assert device.messages == [{"event": "user-update", "data": "x" * size}]


async def test_all_devices_of_a_user_see_the_order_of_acceptance(
    world: World, autojump_clock: MockClock
) -> None:
    devices = [await world.device("ada", f"g{number}", "v") for number in range(3)]
    numbers = itertools.count()

    async def publisher(batch: int) -> None:
        for _ in range(10):
            events = [event("item-create", vault="v", data=next(numbers)) for _ in range(batch)]
            await world.node.publish(world.decode_events(events))

    async with trio.open_nursery() as nursery:
        for batch in (1, 7, 30):
            nursery.start_soon(publisher, batch)
    await settle()
    orders = [[message["data"] for message in device.messages] for device in devices]
    assert orders == [list(range(380))] * 3
    assert world.node.metrics.events_delivered == 3 * 380


async def test_after_vault_delete_the_vault_is_in_no_subscription(
    world: World, autojump_clock: MockClock
) -> None:
    other = await world.device("ada", "g1", "v", "w")
    origin = await world.device("ada", "phone", "v")
    stranger = await world.device("bob", "g1", "v")
    await world.publish(
        event("item-create", vault="v"),
        event("vault-delete", vault="v", group="phone"),
        event("item-create", vault="v"),
        event("item-create", vault="w"),
        event("item-create", "bob", "v"),
    )
    assert [(message["event"], message["vault"]) for message in other.take()] == [
        ("item-create", "v"),
        ("vault-delete", "v"),
        ("item-create", "w"),
    ]
    assert origin.events == ["item-create"]
    assert stranger.events == ["item-create"]
    await other.say({"vaults": ["v"]})
    await world.publish(event("item-delete", vault="v"))
    assert other.events == ["subscribed", "item-delete"]


async def test_user_delete_ends_the_user(world: World, autojump_clock: MockClock) -> None:
    token = world.token("ada", "laptop")
    other = await world.device("ada", "laptop")
    origin = await world.device("ada", "phone")
    stranger = await world.device("bob", "laptop")
    await trio.sleep(1)
    await world.publish(
        event("user-update"), event("user-delete", group="phone", data="bye"), event("user-update")
    )
    assert [message["event"] for message in other.messages] == ["user-update", "user-delete"]
    assert [message["event"] for message in origin.messages] == ["user-update"]
    assert (other.closed, origin.closed) == ((4403, "forbidden"), (4403, "forbidden"))
    assert (stranger.events, stranger.closed) == ([], None)
    late = await world.open()
    await late.say({"event": "authenticate", "token": token})
    assert (late.events, late.closed) == (["error"], (4403, "forbidden"))
    assert world.closes() == {"forbidden": 3}


async def test_events_go_on_while_a_renewal_is_verified(world: World, autojump_clock: MockClock) -> None:
    device = await world.device("ada", "laptop", "v")
    await device.send({"event": "authenticate", "token": world.token("ada", "laptop")})
    await world.publish(event("item-create", vault="v"))
    assert sorted(device.events) == ["authenticated", "item-create"]


async def test_what_is_accepted_goes_no_further_than_its_user(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []
    wants = Connection.wants

    def counting(self: Connection, published: Event) -> Verdict:
        asked.append(None if self.session is None else self.session.user)
        return wants(self, published)

    monkeypatch.setattr(Connection, "wants", counting)
    async with open_world("lean", max_connections=1000) as world:
        devices = [
            await world.raw(handshake(f"Authorization: Bearer {world.token(f'u{number // 2}')}"))
            for number in range(1000)
        ]
        assert all(len(device.messages) == 1 for device in devices)
        await world.publish(event("user-update", "u7"))
        assert asked == ["u7", "u7"]
        await world.publish(event("user-update", "nobody"))
        assert asked == ["u7", "u7"]
        got = [number for number, device in enumerate(devices) if len(device.messages) == 2]
        assert got == [14, 15]


steps = st.one_of(
    st.tuples(st.just("subscribe"), st.lists(st.sampled_from("vwx"), max_size=3)),
    st.tuples(st.just("publish"), st.sampled_from(["ada", "bob"])),
    st.tuples(st.just("renew"), st.none()),
)


@given(st.lists(st.tuples(st.sampled_from(["ada", "bob"]), steps), min_size=3, max_size=12))
@settings(max_examples=25, deadline=None)
async def test_nobody_hears_of_another_users_vaults(script: list[tuple[str, tuple[str, Any]]]) -> None:
    """In any order of subscribing, publishing and renewing, each gets its own user's events and no others."""

    async with open_world("lean") as world:
        devices = {user: await world.device(user, "g", "v") for user in ("ada", "bob")}
        subscribed = {"ada": {"v"}, "bob": {"v"}}
        expected: dict[str, list[int]] = {"ada": [], "bob": []}
        for number, (who, (what, argument)) in enumerate(script):
            if what == "subscribe":
                await devices[who].say({"vaults": argument})
                subscribed[who] = set(argument)
            elif what == "renew":
                await devices[who].say({"event": "authenticate", "token": world.token(who, "g")})
            else:
                for vault in "vwx":
                    await world.publish(event("item-create", argument, vault, data=number))
                    if vault in subscribed[argument]:
                        expected[argument].append(number)
        got = {
            user: [message["data"] for message in device.messages if message["event"] == "item-create"]
            for user, device in devices.items()
        }
        assert got == expected


async def test_all_devices_are_given_the_same_bytes(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Piece] = []
    send_batch = Device.send_batch

    def noting(self: Device, pieces: Sequence[Piece]) -> None:
        given.extend(pieces)
        send_batch(self, pieces)

    monkeypatch.setattr(Device, "send_batch", noting)
    devices = [await world.device("ada", f"g{number}") for number in range(5)]
    given.clear()
    await world.publish(event("user-update"), event("user-update", "nobody"))
    assert [device.events for device in devices] == [["user-update"]] * 5
    assert len(given) == 5
    assert all(piece is given[0] for piece in given)


async def test_others_have_their_turn_while_many_are_told(world: World, autojump_clock: MockClock) -> None:
    devices = [await world.device("ada", f"g{number}") for number in range(40)]
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    batch = world.entries([event("user-update")] * 200)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        await trio.lowlevel.checkpoint()
        before = turns
        await world.node.subscriber.route(batch, trio.current_time())
        assert turns - before >= 2
        nursery.cancel_scope.cancel()
    await settle()
    assert world.node.metrics.events_delivered == 40 * len(batch)
    assert {len(device.messages) for device in devices} == {len(batch)}


async def test_no_event_of_a_dropped_vault_however_long_the_batch(
    world: World, autojump_clock: MockClock
) -> None:
    """While a long batch is delivered, devices go on changing their subscriptions."""
    devices = [await world.device("ada", f"g{number}", "v") for number in range(30)]
    batch = [event("item-create", vault="v", data="x" * 60_000) for _ in range(20)]
    for number, device in enumerate(devices):
        await device.send({"vaults": [] if number % 2 else ["v"], "id": "s"})
    await world.node.subscriber.route(world.entries(batch), trio.current_time())
    await settle()
    for number, device in enumerate(devices):
        names = [message["event"] for message in device.messages]
        assert names.count("subscribed") == 1
        if number % 2:
            assert names[-1] == "subscribed", "an event of a vault that was dropped"
        else:
            assert names.count("item-create") == 20
