"""What a node says of who is there; what else an engine hands it is told of by ``test_node_*``."""

import pytest
import trio
from trio.testing import MockClock

from tests.world import ENGINES, World

pytestmark = pytest.mark.kinds(*ENGINES)


async def test_who_is_there(world: World, autojump_clock: MockClock) -> None:
    before = world.node.clock.now()
    await world.device("ada", "laptop", "v1", "v2", "v3")
    await world.device("bob", "laptop", "v1")
    gone = await world.device("ada", "tablet")
    await world.device("ada", "phone")
    await gone.socket.aclose()
    laptop, phone = await world.node.who_is_there("ada", 2)
    assert (laptop.group, laptop.subscribed, laptop.vaults) == ("laptop", 3, ("v1", "v2"))
    assert (phone.group, phone.subscribed, phone.vaults) == ("phone", 0, ())
    assert before <= laptop.connected_at <= phone.connected_at <= world.node.clock.now()
    assert await world.node.who_is_there("cy", 2) == []


async def test_devices_that_missed_events_are_counted_for_five_minutes(
    world: World, autojump_clock: MockClock
) -> None:
    def lately() -> int:
        return world.node.metrics.gauges().missed_events_lately

    async def lose(user: str, devices: int) -> None:
        for number in range(devices):
            await world.device(user, f"g{number}")
        assert world.node.subscriber.lose(user) == devices
        assert world.node.subscriber.lose(user) == 0

    assert lately() == 0
    await lose("ada", 3)
    assert lately() == 3
    await trio.sleep(100)
    await lose("bob", 2)
    assert lately() == 5
    # No sooner than after five minutes, and little later.
    await trio.sleep(199)
    assert lately() == 5
    await trio.sleep(15)
    assert lately() == 2
    await trio.sleep(100)
    assert lately() == 0
