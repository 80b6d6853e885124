"""Crash boundaries: what fails in one connection stays there."""

from collections.abc import Awaitable, Callable

import structlog

_log = structlog.get_logger(__name__)


async def run_bounded(task: Callable[..., Awaitable[object]], args: tuple[object, ...] = ()) -> None:
    """Run a task in a shared nursery such that one that raises is logged and harms nobody else."""
    try:
        await task(*args)
    except Exception:
        _log.exception("a task failed", task=getattr(task, "__qualname__", repr(task)))
