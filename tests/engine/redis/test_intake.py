"""What is appended to the intake is published in order, or set aside."""

import json
import time
from collections.abc import AsyncIterator, Sequence

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from localful_ws.engine import EngineUnavailableError
from localful_ws.engine.redis.intake import IntakeCounts
from localful_ws.protocol import Event, EventName
from localful_ws.publishing import Disconnect, PublishLimits
from localful_ws.revocations import TooManyRevocationsError
from tests.redis_server import RedisServer

from .intakes import REVOCATION_SECONDS, TIMEOUT, Intake, open_shards, running

pytestmark = pytest.mark.sockets


@pytest.fixture
async def intake(redis_server: RedisServer, redis_prefix: str) -> AsyncIterator[Intake]:
    async with open_shards(redis_server.url) as shards:
        yield Intake(shards, redis_prefix)


async def test_what_was_added_while_no_node_ran_is_taken_in_order(intake: Intake) -> None:
    ids = await intake.add_numbers(range(5))
    batch = {"events": [{"event": "user-update", "user": "u", "data": n} for n in (5, 6)]}
    ids.append(await intake.add("body", json.dumps(batch)))
    single = {"event": "item-create", "user": "u", "vault": "v", "group": "g", "data": 7, "id": "own"}
    await intake.add("body", json.dumps(single))
    await intake.add(
        "event", "item-create", "user", "ä", "vault", "v", "group", "g", "data", " 8 ", "id", "own", "x", "y"
    )
    async with running(intake):
        await intake.publisher.wait(9)
        await intake.wait_empty()
    assert intake.publisher.numbers == list(range(9))
    assert len(intake.publisher.batches) == 1
    made = [f"intake:{entry}" for entry in ids]
    assert [event.id for event in intake.publisher.events] == [
        *made[:5],
        f"{made[5]}:0",
        f"{made[5]}:1",
        "own",
        "own",
    ]
    last = intake.publisher.events[-1]
    assert (last.name.value, last.user, last.vault, last.group) == ("item-create", "ä", "v", "g")
    assert intake.counts == IntakeCounts(accepted=9)
    assert await intake.rejected() == []
    assert await intake.pending() == 0


async def test_what_is_added_is_taken_at_once(intake: Intake) -> None:
    async with running(intake):
        began = trio.current_time()
        for number in range(10):
            await intake.wait_idle()
            await intake.add_numbers([number])
            await intake.publisher.wait(number + 1)
        # Whoever looked now and then would need a second for each.
        assert trio.current_time() - began < 3
        assert intake.publisher.numbers == list(range(10))


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"user": "u", "data": "1"}, "event is missing."),
        ({"event": "item-create", "user": "u"}, "item-create needs the vault it is about."),
        ({"event": "user-update", "user": "u", "data": "{"}, "data is not JSON"),
        ({"event": "user-update", "user": b"\xff\x00\r\n"}, "user is not UTF-8"),
        ({"event": "user-update", "user": "u", "data": b"\x00" * 5000}, "data is not JSON"),
        ({"event": "user-update", "user": "u" * 200}, "user must be a string of 1 to 128 characters."),
        ({"event": "user-update", "user": "u", "data": '"%s"' % ("x" * 200)}, "data has 202 bytes of JSON"),
        ({"body": "[]"}, "The body must be a JSON object."),
        ({"body": "{"}, "The body is not JSON"),
        ({"body": ""}, "The body is empty"),
        ({"disconnect": "{}"}, "Name the user to disconnect"),
        ({"disconnect": '{"user": "u", "until": 1}'}, "until must be in the future"),
        ({"disconnect": '{"user": "u"}', "event": "user-update", "user": "u"}, "Send either a disconnect or"),
        ({"body": '{"events": [{"event": "user-update", "user": "u"}, 1]}'}, "events[1]: It must be a JSON"),
        ({"body": '{"event": "user-update", "user": "u"}', "event": "user-update"}, "Send either a body or"),
        ({b"\xff\xfe": b"\x00", "": ""}, "event is missing."),
        ({"body": b'{"data":' + b"[" * 200}, "data is nested more than 100 deep."),
        ({"event": "user-update", "user": "u", "reason": "r", "vault": "v"}, "user-update is a user event"),
    ],
)
async def test_what_can_not_be_accepted_is_set_aside_and_the_rest_goes_on(
    intake: Intake, entry: dict[str | bytes, str | bytes], reason: str
) -> None:
    intake.limits = PublishLimits(max_event_bytes=100)
    await intake.add_numbers([0])
    bad = await intake.add(*(text for pair in entry.items() for text in pair))
    await intake.add_numbers([1])
    with capture_logs() as log:
        async with running(intake):
            await intake.publisher.wait(2)
            await intake.wait_empty()
    assert intake.publisher.numbers == [0, 1]
    assert intake.counts == IntakeCounts(accepted=2, rejected=1)
    (rejected,) = await intake.rejected_texts()
    kept, (reason_name, said, entry_name, entry_id) = rejected[:-4], rejected[-4:]
    assert kept == [
        text.encode() if isinstance(text, str) else text for pair in entry.items() for text in pair
    ]
    assert (reason_name, entry_name, entry_id) == (b"reason", b"entry", bad.encode())
    assert said.decode().startswith(reason)
    assert [(each["count"], each["log_level"]) for each in log] == [(1, "warning")]


async def test_entries_that_are_too_big_are_set_aside_and_cut(intake: Intake) -> None:
    intake.limits = PublishLimits(max_body_bytes=10_000)
    await intake.add("body", b"x" * 3_000_000)
    await intake.add(*(text for number in range(30) for text in (str(number), "y" * 2000)))
    await intake.add(*(text for number in range(3000) for text in ("a" + str(number), "")))
    await intake.add_numbers([1])
    async with running(intake):
        await intake.publisher.wait(1)
        await intake.wait_empty()
    first, second, third = await intake.rejected()
    assert first["body"] == b"x" * 1000
    assert first["reason"] == b"An entry has at most 14096 bytes; this one had 3000004, and is cut."
    assert len(second) == 20 + 2
    assert second["19"] == b"y" * 1000
    assert len(third) == 2000 + 2
    assert third["reason"] == b"event is missing."
    assert intake.counts == IntakeCounts(accepted=1, rejected=3)


async def test_a_flood_of_bad_entries_is_bounded(intake: Intake) -> None:
    await intake.add_at_once(("event", "nonsense", "user", str(number)) for number in range(11_500))
    await intake.add_numbers([1])
    async with running(intake):
        await intake.publisher.wait(1)
        await intake.wait_empty()
    assert intake.counts == IntakeCounts(accepted=1, rejected=11_500)
    assert 10_000 <= await intake.call("XLEN", f"{intake.stream}:rejected") < 10_200


async def test_much_is_taken_in_portions(intake: Intake) -> None:
    for number in range(60):
        await intake.add("event", "user-update", "user", "u", "data", f'"{number:02}{"x" * 60_000}"')
    async with running(intake):
        await intake.publisher.wait(60)
    assert [int(event.data[1:3]) for event in intake.publisher.events] == list(range(60))
    assert max(map(len, intake.publisher.batches)) == 18, "about a megabyte"


async def test_a_publish_has_no_more_events_than_may_be(intake: Intake) -> None:
    intake.limits = PublishLimits(max_events=10)
    await intake.add_numbers(range(25))
    for numbers in (range(25, 34), range(34, 44), range(44, 45)):
        batch = {"events": [{"event": "user-update", "user": "u", "data": n} for n in numbers]}
        await intake.add("body", json.dumps(batch))
    async with running(intake):
        await intake.publisher.wait(45)
    assert intake.publisher.numbers == list(range(45))
    assert [len(batch) for batch in intake.publisher.batches] == [10, 10, 5, 9, 10, 1]


def disconnect_of(entry: str, user: str | None, group: str | None = None) -> Disconnect:
    asked = int(entry.partition("-")[0]) / 1000
    return Disconnect(user, group, at=asked, until=asked + REVOCATION_SECONDS)


async def test_a_disconnect_has_its_place_among_events(intake: Intake) -> None:
    await intake.add_numbers([0, 1])
    ids = [await intake.add("disconnect", '{"user": "u0", "group": "g"}')]
    await intake.add_numbers([2])
    ids.append(await intake.add("disconnect", '{"user": "u1"}'))
    ids.append(await intake.add("disconnect", '{"group": "g"}'))
    await intake.add_numbers([3, 4])
    await intake.add("event", "user-delete", "user", "u5", "data", "5")
    await intake.add_numbers([6])
    async with running(intake):
        await intake.publisher.wait(7)
        await intake.wait_empty()
    events = intake.publisher.events
    assert intake.publisher.all == [
        *events[:2],
        disconnect_of(ids[0], "u0", "g"),
        events[2],
        disconnect_of(ids[1], "u1"),
        disconnect_of(ids[2], None, "g"),
        *events[3:],
    ]
    assert intake.publisher.numbers == list(range(7))
    # What may be refused for what it revokes is asked for alone.
    assert [len(batch) for batch in intake.publisher.batches] == [2, 1, 2, 1, 1]
    assert intake.counts == IntakeCounts(accepted=10)


async def test_what_can_not_be_revoked_is_set_aside_and_the_rest_goes_on(intake: Intake) -> None:
    async def refuse(events: Sequence[Event]) -> None:
        if not events or any(event.name is EventName.USER_DELETE for event in events):
            raise TooManyRevocationsError

    intake.publisher.before = refuse
    await intake.add_numbers([0])
    bad = [
        await intake.add("disconnect", '{"user": "u"}'),
        await intake.add("event", "user-delete", "user", "u"),
    ]
    await intake.add_numbers([1])
    with capture_logs() as log:
        async with running(intake):
            await intake.publisher.wait(2)
            await intake.wait_empty()
    assert intake.publisher.numbers == [0, 1]
    assert intake.counts == IntakeCounts(accepted=2, rejected=2)
    rejected = await intake.rejected()
    assert [entry["entry"].decode() for entry in rejected] == bad
    assert rejected[0]["disconnect"] == b'{"user": "u"}'
    assert all(b"max-revocations" in entry["reason"] for entry in rejected)
    assert [each["log_level"] for each in log] == ["warning"] * 2


async def test_while_the_engine_is_unavailable_everything_waits(intake: Intake) -> None:
    refusals = 4

    async def refuse(events: Sequence[Event]) -> None:
        if len(intake.publisher.batches) <= refusals:
            raise EngineUnavailableError("not now", retry_after=60)

    intake.publisher.before = refuse
    await intake.add_numbers([0])
    await intake.add("event", "nonsense")
    await intake.add_numbers([1])
    await intake.add("disconnect", '{"user": "u"}')
    async with running(intake):
        await intake.publisher.wait(2)
        await intake.add_numbers([2])
        await intake.publisher.wait(3)
        await intake.wait_empty()
    assert intake.publisher.numbers == [0, 1, 2]
    assert [len(batch) for batch in intake.publisher.batches] == [2] * (refusals + 1) + [1]
    assert intake.counts == IntakeCounts(accepted=4, rejected=1)


async def test_in_a_cluster(redis_cluster: Sequence[RedisServer], redis_prefix: str) -> None:
    url = f"redis+cluster://127.0.0.1:{redis_cluster[0].port}"
    async with open_shards(url) as shards:
        intake = Intake(shards, redis_prefix)
        await intake.add_numbers(range(20))
        await intake.add("event", "nonsense")
        async with running(intake):
            await intake.publisher.wait(20)
            await intake.add_numbers([20])
            await intake.publisher.wait(21)
            await intake.wait_empty()
        assert intake.publisher.numbers == list(range(21))
        assert [entry["event"] for entry in await intake.rejected()] == [b"nonsense"]
        assert not await intake.is_held()


async def test_ten_thousand_entries_go_through_quickly(
    intake: Intake, capsys: pytest.CaptureFixture[str]
) -> None:
    count = 10_000
    await intake.add_at_once(
        ("event", "user-update", "user", f"u{number % 7}", "data", str(number)) for number in range(count)
    )
    began = time.perf_counter()
    async with running(intake):
        await intake.publisher.wait(count)
        await intake.wait_empty()
    seconds = time.perf_counter() - began
    with capsys.disabled():
        print(f"\nintake: {count / seconds:,.0f} entries a second")
    assert intake.publisher.numbers == list(range(count))
    assert seconds < TIMEOUT
