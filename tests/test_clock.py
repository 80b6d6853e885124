"""The daemon's clock: Unix seconds that never run backwards."""

import pytest
import trio
from trio.testing import MockClock

from localful_ws.clock import Clock

STARTED = 1_000_000.0


async def test_the_clock(autojump_clock: MockClock) -> None:
    clock = Clock(lambda: STARTED)
    assert clock.now() == STARTED
    await trio.sleep(2.5)
    assert clock.now() == STARTED + 2.5
    with trio.move_on_at(clock.deadline(STARTED + 4)) as scope:
        await trio.sleep_forever()
    assert scope.cancelled_caught
    assert clock.now() == STARTED + 4


async def test_the_clock_catches_up_with_the_time_of_day(autojump_clock: MockClock) -> None:
    ahead = 0.0
    clock = Clock(lambda: STARTED + trio.current_time() + ahead)
    started = clock.now()
    ahead = 3600.0  # the machine slept, and its monotonic clock with it
    assert clock.now() == pytest.approx(started + 3600)
    await trio.sleep(2.5)
    assert clock.now() == pytest.approx(started + 3602.5)


async def test_the_clock_never_runs_backwards(autojump_clock: MockClock) -> None:
    ahead = 0.0
    clock = Clock(lambda: STARTED + trio.current_time() + ahead)
    started = clock.now()
    ahead = -3600.0
    assert clock.now() == started
    await trio.sleep(2.5)
    assert clock.now() == pytest.approx(started + 2.5)
