"""Runs a daemon, or the parent of several, until a signal ends it."""

import signal
import sys
from typing import Protocol

import structlog
import trio

from localful_ws.server.daemon import Daemon
from localful_ws.server.workers.supervisor import Supervisor
from localful_ws.settings import Settings

_log = structlog.get_logger(__name__)


class Server(Protocol):
    """What runs until a signal ends it: a daemon, or the parent of several."""

    def shut_down(self) -> None:
        """Begin to drain; `serve` returns when that is done."""
        ...

    async def serve(self) -> None:
        """Serve until `shut_down`, drain, and return. Cancelled, it ends at once."""
        ...


def run(settings: Settings) -> None:
    """Run the daemon, or with ``workers`` several, until a signal ends it.

    The first SIGTERM or SIGINT drains it, and it returns. A second ends it at once.

    Raises:
        SystemExit: With 128 and the signal's number, after a second signal.
        localful_ws.server.listeners.ListenError: If an address can't be listened on.
        localful_ws.settings.SettingsError: If a setting turns out to be impossible.
    """
    impatient_signal = trio.run(serve_until_signalled, _build_server(settings))
    if impatient_signal is not None:
        sys.exit(128 + impatient_signal)


def _build_server(settings: Settings) -> Server:
    return Daemon(settings) if settings.workers == 1 else Supervisor(settings, settings.workers)


async def serve_until_signalled(server: Server) -> int | None:
    """Serve until SIGTERM or SIGINT, drain, and return; or until the server ends by itself.

    Returns:
        The number of a second signal, which ended it at once; None without one.
    """
    impatient_signal = None
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:

            async def watch() -> None:
                nonlocal impatient_signal
                number = await anext(signals)
                _log.info("draining", signal=signal.Signals(number).name)
                server.shut_down()
                impatient_signal = await anext(signals)
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            await server.serve()
            nursery.cancel_scope.cancel()
    return impatient_signal
