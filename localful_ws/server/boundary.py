"""Crash boundaries: what fails in one connection stays there."""

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
import trio

_log = structlog.get_logger(__name__)


class Boundary:
    """Starts tasks in a shared nursery such that one that raises is logged and harms nobody else.

    Has the `start_soon` of a nursery, and so can stand in for one where a library wants to start a task.

    Args:
        nursery: Where the tasks run.
    """

    __slots__ = ("_nursery",)

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def start_soon(self, task: Callable[..., Awaitable[Any]], *args: object, name: object = None) -> None:
        """Start ``task(*args)`` soon, as `trio.Nursery.start_soon` does."""
        self._nursery.start_soon(self._run, task, args, name=name or task)

    async def _run(self, task: Callable[..., Awaitable[Any]], args: tuple[object, ...]) -> None:
        try:
            await task(*args)
        except Exception:
            _log.exception("a task failed", task=getattr(task, "__qualname__", repr(task)))
