"""What a node says of who is there; what else an engine hands it is told of by ``test_node_*``."""

import pytest
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
