"""What is done in steps, as a generator that yields between them, so that others can have their turn."""

from collections.abc import Generator
from typing import TypeVar

import trio

T = TypeVar("T")

Steps = Generator[None, None, T]
"""Yields after each step but the last one, and returns what came of it."""


def finish(steps: Steps[T]) -> T:
    """Take all steps at once."""
    try:
        while True:
            next(steps)
    except StopIteration as end:
        result: T = end.value
        return result


async def take_turns(steps: Steps[T]) -> T:
    """Take all steps, and let others run between them."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        await trio.lowlevel.checkpoint()
