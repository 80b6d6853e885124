"""The engine of a single node."""

from collections.abc import Sequence

import pytest
import trio
from attrs import Factory, define
from trio.testing import MockClock, wait_all_tasks_blocked

from localful_ws.engine import EngineUnavailableError
from localful_ws.engine.memory import MemoryEngine
from localful_ws.protocol import Event, EventName
from localful_ws.publishing import Disconnect
from localful_ws.revocations import TooManyRevocationsError


def update(number: int) -> Event:
    return Event(EventName.USER_UPDATE, f"u{number}")


@define
class FakeNode:
    """A node that notes what it is handed, and takes its time."""

    seconds: float = 0.0
    full: bool = False
    handed: list[object] = Factory(list)
    accepted_at: list[float] = Factory(list)

    async def route(self, events: Sequence[Event], accepted_at: float) -> None:
        await trio.sleep(self.seconds)
        self.handed += [event.user for event in events]
        self.accepted_at.append(accepted_at)

    def apply_disconnect(self, disconnect: Disconnect) -> int:
        self.handed.append(disconnect)
        if self.full:
            raise TooManyRevocationsError
        return 7


async def test_everything_is_handed_over_in_order(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    engine, node = MemoryEngine(queue=10, timeout=5), FakeNode()
    nursery.start_soon(engine.run, node)
    began = trio.current_time()
    assert engine.unavailable() is None
    assert await engine.publish([update(1), update(2)]) == 2
    assert await engine.publish([]) == 0
    await trio.sleep(1)
    assert await engine.publish([update(3)]) == 1
    assert await engine.disconnect(Disconnect(user="u1")) == 7
    await wait_all_tasks_blocked()
    assert node.handed == ["u1", "u2", "u3", Disconnect(user="u1")]
    assert node.accepted_at == [began, began, began + 1]


async def test_a_disconnect_comes_after_what_was_accepted_before(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    engine, node = MemoryEngine(queue=10, timeout=5), FakeNode(seconds=1)
    nursery.start_soon(engine.run, node)
    for number in range(3):
        await engine.publish([update(number)])
    assert await engine.disconnect(Disconnect(group="g")) == 7
    assert node.handed == ["u0", "u1", "u2", Disconnect(group="g")]


async def test_a_disconnect_that_cannot_be_remembered(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    engine, node = MemoryEngine(queue=10, timeout=5), FakeNode(full=True)
    nursery.start_soon(engine.run, node)
    with pytest.raises(TooManyRevocationsError):
        await engine.disconnect(Disconnect(user="u1"))
    assert await engine.publish([update(1)]) == 1
    await wait_all_tasks_blocked()
    assert node.handed[-1] == "u1"


async def test_a_full_queue_is_waited_for_and_then_refused(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    engine, node = MemoryEngine(queue=1, timeout=5), FakeNode(seconds=6)
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
        await engine.disconnect(Disconnect(user="u1"))
    await trio.sleep(100)
    assert node.handed == ["u1", "u2", "u4"]


async def test_a_node_too_busy_for_a_disconnect(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    engine, node = MemoryEngine(queue=10, timeout=5), FakeNode(seconds=60)
    nursery.start_soon(engine.run, node)
    await engine.publish([update(1)])
    with pytest.raises(EngineUnavailableError) as refused:
        await engine.disconnect(Disconnect(user="u1"))
    assert "busy" in refused.value.message
    await trio.sleep(100)
    assert node.handed == ["u1", Disconnect(user="u1")]  # late, but nothing is lost


async def test_what_was_accepted_is_handed_over_before_the_end(autojump_clock: MockClock) -> None:
    engine, node = MemoryEngine(queue=10, timeout=5), FakeNode(seconds=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run, node)
        for number in range(3):
            await engine.publish([update(number)])
        await engine.aclose()
        for refused in (engine.publish([update(9)]), engine.disconnect(Disconnect(user="u"))):
            with pytest.raises(EngineUnavailableError) as error:
                await refused
            assert "shutting down" in error.value.message
    assert node.handed == ["u0", "u1", "u2"]
    with pytest.raises(EngineUnavailableError):
        await engine.publish([update(9)])


async def test_publishers_that_wait_when_it_closes(autojump_clock: MockClock) -> None:
    engine = MemoryEngine(queue=0, timeout=5)
    async with trio.open_nursery() as nursery:

        async def publish() -> None:
            with pytest.raises(EngineUnavailableError):
                await engine.publish([update(1)])

        nursery.start_soon(publish)
        await wait_all_tasks_blocked()
        await engine.aclose()
