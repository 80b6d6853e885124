"""What happened lately is counted, and forgotten in its time."""

import trio
from trio.testing import MockClock

from localful_ws.server.lately import Lately


async def test_nothing_is_forgotten_too_early_or_a_step_too_late(autojump_clock: MockClock) -> None:
    for offset in range(10):
        lately = Lately(300, 10)
        lately.add(2)
        await trio.sleep(299)
        assert lately.count() == 2
        await trio.sleep(12)
        assert lately.count() == 0
        await trio.sleep(offset)


async def test_memory_is_bounded(autojump_clock: MockClock) -> None:
    lately = Lately(300, 10)
    for _ in range(2000):
        lately.add(1)
        await trio.sleep(1)
    assert len(lately._counts) <= 32
    assert 300 <= lately.count() <= 310
