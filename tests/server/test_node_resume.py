"""Devices that were away, on a whole node."""

from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from localful_ws.server import delivery
from tests.redis_world import settle
from tests.world import ENGINES, TestDevice, World, open_world

pytestmark = pytest.mark.kinds(*ENGINES)


def event(name: str, user: str = "ada", **keys: Any) -> dict[str, Any]:
    return {"event": name, "user": user, **keys}


def update(number: int, **keys: Any) -> dict[str, Any]:
    return event("user-update", data=number, **keys)


async def resume(
    world: World, since: str, *vaults: str, group: str = "laptop", token: str | None = None
) -> TestDevice:
    device = await world.open()
    token = token or world.token("ada", group)
    await device.say({"event": "authenticate", "token": token, "vaults": list(vaults), "since": since})
    return device


def answer_of(device: TestDevice) -> tuple[bool, list[Any]]:
    """Whether the device resumed, and the data of what it was told."""
    first, *others = device.messages
    assert first["event"] == "authenticated"
    return first["resumed"], [message["data"] for message in others]


async def cursor_of(world: World, user: str = "ada") -> str:
    """Where a user's stream ends now, as any device is told."""
    device = await world.device(user, "watcher")
    await device.socket.aclose()
    await settle()
    return device.cursors[0]


async def test_what_was_missed_comes_first_and_once(world: World, autojump_clock: MockClock) -> None:
    since = await cursor_of(world)
    await world.publish(update(1), update(2), event("user-update", "bob", data="not hers"))
    await world.publish(update(3))
    device = await resume(world, since)
    assert answer_of(device) == (True, [1, 2, 3])
    await world.publish(update(4))
    assert answer_of(device) == (True, [1, 2, 3, 4])
    assert len(set(device.cursors)) == 4  # authenticated has the cursor of the third
    assert device.cursors[0] == device.cursors[3]
    for missed, cursor in enumerate(device.cursors[1:], start=1):
        assert answer_of(await resume(world, cursor)) == (True, [1, 2, 3, 4][missed:])


async def test_only_what_concerns_the_device(world: World, autojump_clock: MockClock) -> None:
    since = await cursor_of(world)
    await world.publish(
        event("item-create", vault="v1", data=1),
        event("item-create", vault="v2", data=2),
        event("item-create", vault="v1", group="laptop", data=3),
        event("vault-update", vault="v3", data=4),
        update(5, group="laptop"),
        update(6, group="phone"),
    )
    assert answer_of(await resume(world, since, "v1")) == (True, [1, 4, 6])
    assert answer_of(await resume(world, since)) == (True, [4, 6])
    assert answer_of(await resume(world, since, "v1", "v2", group="phone")) == (True, [1, 2, 3, 4, 5])
    assert world.node.metrics.echoes_suppressed == 5


async def test_a_vault_deleted_meanwhile_is_in_no_subscription(
    world: World, autojump_clock: MockClock
) -> None:
    since = await cursor_of(world)
    await world.publish(
        event("item-create", vault="v1", data=1),
        event("vault-delete", vault="v1", data=2),
        event("item-create", vault="v1", data=3),
        event("item-create", vault="v2", data=4),
    )
    device = await resume(world, since, "v1", "v2")
    assert device.messages[0]["vaults"] == ["v1", "v2"]
    assert answer_of(device) == (True, [1, 2, 4])
    await world.publish(event("item-create", vault="v1", data=5))
    assert answer_of(device) == (True, [1, 2, 4])


async def test_cursors_that_lead_nowhere(world: World, autojump_clock: MockClock) -> None:
    await world.publish(update(1))
    bobs = await cursor_of(world, "bob")
    for since in ("x", "a.b.c", bobs, "\N{SNOWMAN}", "1" * 128):
        device = await resume(world, since)
        assert answer_of(device) == (False, [])
        await world.publish(update(2))
        assert answer_of(device) == (False, [2])
    assert world.node.metrics.resumes == {True: 0, False: 5}


async def test_a_device_that_does_not_resume_is_not_told_whether_it_did(
    world: World, autojump_clock: MockClock
) -> None:
    await world.publish(update(1))
    device = await world.open()
    await device.say({"event": "authenticate", "token": world.token()})
    assert list(device.messages[0]) == ["event", "user", "group", "expiresAt", "vaults"]
    assert len(device.cursors) == 1


async def test_a_renewal_does_not_resume(world: World, autojump_clock: MockClock) -> None:
    device = await world.device()
    await world.publish(update(1))
    await device.say({"event": "authenticate", "token": world.token(ttl=7200), "since": device.cursors[0]})
    assert [message["event"] for message in device.messages] == ["user-update", "authenticated"]
    assert "resumed" not in device.messages[1]
    assert device.cursors[2] == device.cursors[1]


@pytest.mark.parametrize(("limits", "missed"), [({"history_events": 2}, 3), ({"history_seconds": 60}, 1)])
async def test_further_than_history_reaches(
    autojump_clock: MockClock, limits: dict[str, Any], missed: int
) -> None:
    async with open_world("lean", **limits) as world:
        start = await cursor_of(world)
        await world.publish(*[update(number) for number in range(missed)])
        await trio.sleep(30)
        newer = await cursor_of(world)
        await world.publish(update(9))
        await trio.sleep(31)
        assert answer_of(await resume(world, start)) == (False, [])
        assert answer_of(await resume(world, newer)) == (True, [9])


async def test_a_quiet_user_can_resume_much_later(autojump_clock: MockClock) -> None:
    async with open_world("lean") as world:
        start = await cursor_of(world)
        for _ in range(20):
            await trio.sleep(600)
            await world.publish(event("user-update", "bob"))
        assert answer_of(await resume(world, start)) == (True, [])


async def test_more_than_the_send_buffer_holds(autojump_clock: MockClock) -> None:
    async with open_world("lean", send_buffer_events=10, send_buffer_bytes=300_000) as world:
        start = await cursor_of(world)
        await world.publish(*[update(number) for number in range(9)])
        assert answer_of(await resume(world, start)) == (True, [*range(9)])
        await world.publish(update(9))
        assert answer_of(await resume(world, start)) == (False, [])
        big = await cursor_of(world)
        await world.publish(event("user-update", data="x" * 60_000))
        await world.publish(event("user-update", data="x" * 60_000))
        assert answer_of(await resume(world, big))[0] is True
        await world.publish(event("user-update", data="x" * 60_000))
        assert answer_of(await resume(world, big)) == (False, [])


async def test_history_switched_off(autojump_clock: MockClock) -> None:
    async with open_world("lean", history_events=0) as world:
        start = await cursor_of(world)
        assert answer_of(await resume(world, start)) == (True, [])
        await world.publish(update(1))
        assert answer_of(await resume(world, start)) == (False, [])


async def test_a_user_who_was_deleted_meanwhile_is_another(world: World, autojump_clock: MockClock) -> None:
    start, old = await cursor_of(world), world.token()
    await trio.sleep(2)
    await world.publish(update(1), event("user-delete"), update(2))
    assert (await resume(world, start, token=old)).closed == (4403, "forbidden")
    device = await resume(world, start)
    assert answer_of(device) == (False, [])
    await world.publish(update(3))
    assert answer_of(device) == (False, [3])


async def test_no_gap_and_no_repeat_while_much_is_published(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Devices come back all the time, also while a batch is being delivered."""
    monkeypatch.setattr(delivery, "_QUESTIONS_WITHOUT_A_BREAK", 3)
    start = await cursor_of(world)
    devices: list[TestDevice] = []

    async def come_back() -> None:
        for _ in range(15):
            device = await world.open()
            devices.append(device)
            await device.send({"event": "authenticate", "token": world.token(), "since": start})
            await trio.lowlevel.checkpoint()

    async def publish() -> None:
        for number in range(60):
            batch = [update(number * 10 + index, user="ada") for index in range(10)]
            others = [event("user-update", f"u{index}") for index in range(10)]
            await world.node.publish(world.decode_events([*batch[:5], *others, *batch[5:]]))
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish)
        nursery.start_soon(come_back)
    await settle()
    for device in devices:
        assert answer_of(device) == (True, [*range(600)])


async def test_a_device_that_comes_in_the_middle_of_its_users_deletion_is_closed(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_QUESTIONS_WITHOUT_A_BREAK", 1)
    async with open_world("lean") as world:
        await world.device("bob")
        ready = await world.open()
        await ready.send({"event": "authenticate", "token": world.token()})
        batch = [event("user-update", "bob")] * 50 + [event("user-delete")]
        await world.node.publish(world.decode_events(batch))
        await settle()
        assert ready.closed == (4403, "forbidden")


async def test_a_renewal_is_not_told_a_cursor_ahead_of_what_was_sent(autojump_clock: MockClock) -> None:
    async with open_world("lean") as world:
        devices = [await world.device("ada", f"g{number}") for number in range(8)]
        events = world.decode_events([update(number) for number in range(400)])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.node.publish, events)
            for number, device in enumerate(devices):
                renewal = {"event": "authenticate", "token": world.token("ada", f"g{number}")}
                nursery.start_soon(device.send, renewal)
        await settle()
        places = [device.events.index("authenticated") for device in devices]
        for device, place in zip(devices, places, strict=True):
            numbers = [int(cursor.partition(".")[2]) for cursor in device.cursors[1:]]
            assert all(number <= numbers[place] for number in numbers[:place])
            assert all(number > numbers[place] for number in numbers[place + 1 :])


async def test_when_too_much_is_waiting_nobody_resumes(kind: str, autojump_clock: MockClock) -> None:
    async with open_world(kind, send_budget=100_000) as world:
        start = await cursor_of(world)
        await world.publish(update(1))
        reader = await world.open(
            headers=[(b"authorization", f"Bearer {world.token('bob')}".encode())],
            read=False,
            make_pair=trio.testing.lockstep_stream_pair,
        )
        while not world.node.budget.is_short:
            assert world.closes() == {"device-closed": 1}
            await world.publish(event("user-update", "bob", data="x" * 5_000))
        device = await resume(world, start)
        (error,) = device.messages
        assert (error["event"], error["code"]) == ("error", "try-again-later")
        assert device.closed == (1013, "try-again-later")
        assert world.node.metrics.authentication_failures["try-again-later"] == 1
        # Who has missed nothing, and who does not resume, takes no room.
        assert answer_of(await resume(world, await cursor_of(world))) == (True, [])
        await world.device("ada")
        world.nursery.start_soon(reader.read)
        await settle()
        assert answer_of(await resume(world, start)) == (True, [1])


async def test_a_revoked_device_cannot_resume(world: World, autojump_clock: MockClock) -> None:
    start = await cursor_of(world)
    await world.disconnect(user="ada", group="laptop")
    assert (await resume(world, start)).closed == (4403, "forbidden")
