"""The engine of a single node."""

from collections.abc import Sequence
from typing import Any

import pytest
import trio
from attrs import Factory, define
from structlog.testing import capture_logs
from trio.testing import MockClock, wait_all_tasks_blocked

from localful_ws.clock import Clock
from localful_ws.engine import (
    EngineUnavailableError,
    Entry,
    Position,
    Presence,
    Receipt,
    ReplayLimits,
    replay_limits,
)
from localful_ws.engine.memory import MemoryEngine
from localful_ws.protocol import Event, EventName
from localful_ws.publishing import Disconnect
from localful_ws.revocations import TooManyRevocationsError
from tests.world import STARTED, make_settings


def update(number: int) -> Event:
    return Event(EventName.USER_UPDATE, f"u{number}")


@define
class FakeNode:
    """A node that notes what it is handed, and takes its time."""

    seconds: float = 0.0
    full: bool = False
    handed: list[object] = Factory(list)
    lost: list[str] = Factory(list)
    accepted_at: list[float] = Factory(list)

    def devices_of(self, user: str, vaults: int) -> list[Presence]:
        return [Presence(user, 1.5, vaults, ())]

    async def route(self, entries: Sequence[Entry], accepted_at: float) -> None:
        await trio.sleep(self.seconds)
        self.handed += [entry.event.user for entry in entries]
        self.accepted_at.append(accepted_at)

    def refuse(self, disconnects: Sequence[Disconnect]) -> None:
        if self.full:
            raise TooManyRevocationsError
        self.handed.append(list(disconnects))

    def remember(self, disconnects: Sequence[Disconnect]) -> None:
        raise AssertionError("here the limit holds")

    def close(self, disconnect: Disconnect) -> int:
        self.handed.append(disconnect)
        return 7

    def recall(self, disconnects: Sequence[Disconnect]) -> None:
        raise AssertionError("nothing is recalled from memory")

    def lose(self, user: str) -> int:
        self.lost.append(user)
        return 1


def make_engine(queue: int = 10, timeout: float = 5, **changes: Any) -> MemoryEngine:
    settings = make_settings(publish_queue=queue, publish_timeout=timeout, **changes)
    return MemoryEngine(settings, Clock(lambda: STARTED))


def disconnect(user: str | None = None, group: str | None = None) -> Disconnect:
    return Disconnect(user, group, at=STARTED, until=STARTED + 60)


def test_what_is_replayed_fits_into_a_send_buffer() -> None:
    settings = make_settings(send_buffer_events=9, send_buffer_bytes=200_000, max_message_bytes=100_000)
    assert replay_limits(settings) == ReplayLimits(max_events=8, max_bytes=100_000 - 4096)


async def test_everything_is_handed_over_in_order(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    engine, node = make_engine(), FakeNode()
    nursery.start_soon(engine.run, node)
    began = trio.current_time()
    assert engine.unavailable() is None
    assert await engine.publish([update(1), update(2)]) == Receipt(2)
    assert await engine.publish([]) == Receipt(0)
    await trio.sleep(1)
    assert await engine.publish([update(3)]) == Receipt(1)
    assert await engine.disconnect(disconnect(user="u1")) == 7
    await wait_all_tasks_blocked()
    assert node.handed == ["u1", "u2", "u3", [disconnect(user="u1")], disconnect(user="u1")]
    assert node.accepted_at == [began, began, began + 1]


async def test_nobody_joins_in_the_middle_of_a_large_batch(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    engine, node = make_engine(), FakeNode()
    nursery.start_soon(engine.run, node)
    positions: list[Position] = []
    large = Event(EventName.USER_UPDATE, "u1", data=b'"%b"' % (b"x" * 1024 * 1024))
    await engine.publish([large] * 20)
    for _ in range(20):
        nursery.start_soon(engine.join, "u1", None, positions.append)
        await trio.lowlevel.checkpoint()
    await wait_all_tasks_blocked()
    assert node.handed == ["u1"] * 20
    assert len(positions) == 20
    assert {position.cursor.partition(".")[2] for position in positions} <= {"0", "20"}


async def test_an_event_that_fails_is_lost_to_its_user_only(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    engine, node = make_engine(), FakeNode()
    positions: list[Position] = []
    nursery.start_soon(engine.run, node)
    await engine.join("u1", None, positions.append)
    impossible = Event(EventName.VAULT_CREATE, "u1", "\ud800")
    with capture_logs() as logs:
        assert await engine.publish([update(1), update(2), impossible, update(3)]) == Receipt(4)
        await wait_all_tasks_blocked()
    assert node.lost == ["u1"]
    assert node.handed == ["u1", "u2", "u3"]
    assert [(log["log_level"], log["exc_info"]) for log in logs] == [("error", True)]
    await engine.join("u1", positions[0].cursor, positions.append)
    assert positions[1].missed is None
    await engine.publish([update(1)])
    await wait_all_tasks_blocked()
    await engine.join("u1", positions[1].cursor, positions.append)
    assert [entry.data for entry in positions[2].missed or ()] == [b"null"]
    assert node.lost == ["u1"]


async def test_a_disconnect_comes_after_what_was_accepted_before(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    engine, node = make_engine(), FakeNode(seconds=1)
    nursery.start_soon(engine.run, node)
    for number in range(3):
        await engine.publish([update(number)])
    assert await engine.disconnect(disconnect(group="g")) == 7
    assert node.handed == ["u0", "u1", "u2", [disconnect(group="g")], disconnect(group="g")]


async def test_a_disconnect_that_cannot_be_remembered(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    engine, node = make_engine(), FakeNode(full=True)
    nursery.start_soon(engine.run, node)
    with pytest.raises(TooManyRevocationsError):
        await engine.disconnect(disconnect(user="u1"))
    assert await engine.publish([update(1)]) == Receipt(1)
    await wait_all_tasks_blocked()
    assert node.handed == ["u1"], "nobody is refused or closed"


def delete(user: str, **changes: Any) -> Event:
    return Event(EventName.USER_DELETE, user, **changes)


async def test_who_is_deleted_is_refused_before_that_is_accepted(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    engine, node = make_engine(revocation_seconds=60.0), FakeNode(seconds=1)
    nursery.start_soon(engine.run, node)
    await wait_all_tasks_blocked()
    await engine.publish([update(1), delete("u2", id="d"), update(3), delete("u4")])
    assert node.handed == [[disconnect(user="u2"), disconnect(user="u4")]]
    # The same again, as by a publisher that was not answered: who has begun anew since may stay.
    assert await engine.publish([delete("u2", id="d")]) == Receipt(0, 1)
    await trio.sleep(10)
    assert node.handed[1:] == ["u1", "u2", "u3", "u4"]


async def test_when_nobody_more_can_be_refused_nobody_is_deleted(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    engine, node = make_engine(queue=1, timeout=0.1), FakeNode(full=True)
    nursery.start_soon(engine.run, node)
    await wait_all_tasks_blocked()
    for _ in range(3):
        with pytest.raises(TooManyRevocationsError):
            await engine.publish([update(1), delete("u2", id="d")])
    await wait_all_tasks_blocked()
    assert node.handed == []
    # Neither the place in the queue nor the id is used up.
    node.full = False
    assert await engine.publish([update(1), delete("u2", id="d")]) == Receipt(2)


async def test_before_the_node_has_started_nobody_is_deleted() -> None:
    with pytest.raises(EngineUnavailableError):
        await make_engine().publish([delete("u1")])


async def test_a_full_queue_is_waited_for_and_then_refused(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    engine, node = make_engine(queue=1), FakeNode(seconds=6)
    nursery.start_soon(engine.run, node)
    began = trio.current_time()
    await engine.publish([update(1)])
    await wait_all_tasks_blocked()
    await engine.publish([update(2)])
    with pytest.raises(EngineUnavailableError) as refused:
        await engine.publish([update(3)])
    assert trio.current_time() == began + 5
    assert refused.value.retry_after > 0
    assert refused.value.message.endswith(".")
    await engine.publish([update(4)])  # waits a second for its place
    assert trio.current_time() == began + 6
    with pytest.raises(EngineUnavailableError):
        await engine.disconnect(disconnect(user="u1"))
    await trio.sleep(100)
    assert node.handed == ["u1", "u2", "u4"]


async def test_a_node_too_busy_for_a_disconnect(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    engine, node = make_engine(), FakeNode(seconds=60)
    nursery.start_soon(engine.run, node)
    await engine.publish([update(1)])
    with pytest.raises(EngineUnavailableError) as refused:
        await engine.disconnect(disconnect(user="u1"))
    assert "busy" in refused.value.message
    await trio.sleep(100)
    assert node.handed == ["u1", [disconnect(user="u1")], disconnect(user="u1")]  # late, but nothing is lost


async def test_who_is_there(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    engine, node = make_engine(), FakeNode(seconds=10)
    nursery.start_soon(engine.run, node)
    assert await engine.who_is_there("ada", 3) == [Presence("ada", 1.5, 3, ())]
    await engine.publish([update(1)])
    with pytest.raises(EngineUnavailableError, match="busy"):
        await engine.who_is_there("ada", 3)


async def test_what_was_accepted_is_handed_over_before_the_end(autojump_clock: MockClock) -> None:
    engine, node = make_engine(), FakeNode(seconds=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run, node)
        for number in range(3):
            await engine.publish([update(number)])
        await engine.aclose()
        for refused in (engine.publish([update(9)]), engine.disconnect(disconnect(user="u"))):
            with pytest.raises(EngineUnavailableError) as error:
                await refused
            assert "shutting down" in error.value.message
    assert node.handed == ["u0", "u1", "u2"]
    with pytest.raises(EngineUnavailableError):
        await engine.publish([update(9)])


async def test_publishers_that_wait_when_it_closes(autojump_clock: MockClock) -> None:
    engine, node = make_engine(queue=1), FakeNode()
    async with trio.open_nursery() as nursery:

        async def publish() -> None:
            with pytest.raises(EngineUnavailableError, match="shutting down"):
                await engine.publish([update(2)])

        await engine.publish([update(1)])
        nursery.start_soon(publish)
        await wait_all_tasks_blocked()
        await engine.aclose()
        await engine.run(node)
    assert node.handed == ["u1"]


async def test_an_id_is_accepted_once(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    engine, node = make_engine(idempotency_seconds=300), FakeNode()
    nursery.start_soon(engine.run, node)

    def event(user: str, name: str) -> Event:
        return Event(EventName.USER_UPDATE, user, id=name)

    assert await engine.publish([event("ada", "1"), event("bob", "1"), event("ada", "1")]) == Receipt(2, 1)
    assert await engine.publish([event("ada", "1"), event("ada", "2")]) == Receipt(1, 1)
    await trio.sleep(299)
    assert await engine.publish([event("ada", "1")]) == Receipt(0, 1)
    await trio.sleep(1)
    assert await engine.publish([event("ada", "1")]) == Receipt(1)
    await wait_all_tasks_blocked()
    assert node.handed == ["ada", "bob", "ada", "ada"]


async def test_an_id_that_was_refused_is_new(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    """Of two publishes of the same id that both wait, none is told that the other was accepted."""
    engine, node = make_engine(queue=1, timeout=5), FakeNode()
    await engine.publish([update(1)])
    outcomes: list[Receipt | str] = []

    async def publish() -> None:
        try:
            outcomes.append(await engine.publish([Event(EventName.USER_UPDATE, "ada", id="1")]))
        except EngineUnavailableError as error:
            outcomes.append(error.message)

    nursery.start_soon(publish)
    nursery.start_soon(publish)
    await trio.sleep(6)
    assert len(outcomes) == 2
    assert all(isinstance(outcome, str) for outcome in outcomes)
    nursery.start_soon(engine.run, node)
    assert await engine.publish([Event(EventName.USER_UPDATE, "ada", id="1")]) == Receipt(1)
