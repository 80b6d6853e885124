"""The demo: a real daemon, three devices of two users, and every event, shown and checked.

``localful-ws demo`` and ``make demo`` call `run`.
"""

import trio

from localful_ws.demo.errors import DemoError
from localful_ws.demo.performance import play

__all__ = ["DemoError", "run"]


def run(*, keep: bool = False) -> None:
    """Play the demo.

    Args:
        keep: Whether to keep the daemon running at the end, until Ctrl-C.

    Raises:
        DemoError: If something did not go as it should; click ends with status 1 and its message.
        click.Abort: If a signal ended it early.
    """
    try:
        trio.run(lambda: play(keep=keep))
    except BaseExceptionGroup as group:
        raise _first(group) from None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
