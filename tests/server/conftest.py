"""What the tests of the whole node share."""

import gc
from collections.abc import AsyncIterator, Iterator

import pytest
import trio
from trio.testing import MockClock

from tests.world import World, open_world


@pytest.fixture
async def world(kind: str, autojump_clock: MockClock) -> AsyncIterator[World]:
    """A node with the settings that `world.make_settings` makes, for tests that ask for the clock as well."""
    assert trio.lowlevel.current_clock() is autojump_clock, "without it as an argument, time is real"
    async with open_world(kind) as world:
        yield world


@pytest.fixture
def no_garbage_collector() -> Iterator[None]:
    """What is referred to in a circle stays until the end of the test."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
