"""The demo: a real daemon, three devices of two users, and every event.

``localful-ws demo`` and ``make demo`` call `run_page`: it is shown in a browser. With ``--terminal``, and by
``make demo-terminal``, it is `run_terminal` that is called: it is played, checked and printed.
"""

from collections.abc import Awaitable, Callable

import trio

from localful_ws.demo.errors import DemoError
from localful_ws.demo.performance import play
from localful_ws.demo.serving import serve_page

__all__ = ["DemoError", "run_page", "run_terminal"]


def run_page(*, port: int | None = None, open_browser: bool = False) -> None:
    """Serve the page until a signal comes.

    Args:
        port: Where; 0 for a free port. If left out, the usual one if that is free, and else a free one.
        open_browser: Whether to open the page in a browser.

    Raises:
        DemoError: If it can't be served; click ends with status 1 and its message.
    """
    _run(lambda: serve_page(port=port, open_browser=open_browser))


def run_terminal(*, keep: bool = False) -> None:
    """Play the demo.

    Args:
        keep: Whether to keep the daemon running at the end, until Ctrl-C.

    Raises:
        DemoError: If something did not go as it should; click ends with status 1 and its message.
        click.Abort: If a signal ended it early.
    """
    _run(lambda: play(keep=keep))


def _run(demo: Callable[[], Awaitable[None]]) -> None:
    try:
        trio.run(demo)
    except BaseExceptionGroup as group:
        raise _first(group) from None


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
