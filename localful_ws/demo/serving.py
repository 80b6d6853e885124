"""The demo in a browser: a daemon, the backend and its page, until a signal comes."""

import errno
import os
import signal
import socket
import tempfile
import webbrowser
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import click
import trio

from localful_ws.demo import screen
from localful_ws.demo.backend import SEEDS, Backend, BackendSettings
from localful_ws.demo.daemon import JWT_SECRET, PUBLISHER_KEY, SERVE, DaemonProcess, running_daemon
from localful_ws.demo.errors import DemoError
from localful_ws.demo.site import build_site

PORT: Final = 42104
"""Where the page is, if that port is free and nobody says otherwise."""

ACCESS_SECONDS: Final = 75.0
"""How long an access token is good: short, so that one sees it renewed."""

RENEWAL_WINDOW: Final = 25.0
"""So many seconds before that a device is asked for a new one: the daemon's ``renewal-window``."""

_HOST: Final = "127.0.0.1"
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# So that whoever presses "1,000 items" again and again gets somewhere.
_MAX_ITEMS: Final = 20_000
# Each page that is opened or reloaded logs in anew.
_MAX_LOGINS: Final = 50
# The passwords are printed: there is nothing to protect, and logging in is quick.
_PASSWORD_COST: Final = 2**10


async def serve_page(
    *,
    port: int | None = None,
    open_browser: bool = False,
    command: Sequence[str] = SERVE,
    access_seconds: float = ACCESS_SECONDS,
    renewal_window: float = RENEWAL_WINDOW,
) -> None:
    """Serve the demo's page until a signal comes.

    Args:
        port: Where; 0 for a free port. If left out, `PORT` if that is free, and else a free one.
        open_browser: Whether to open the page in a browser.
        command: What starts the daemon.
        access_seconds: How long an access token is good.
        renewal_window: So many seconds before it expires a device is asked for a new one.

    Raises:
        DemoError: If the port can't be had, or the daemon doesn't start, or ends.
    """
    with (
        trio.open_signal_receiver(*_SIGNALS) as signals,
        tempfile.TemporaryDirectory(prefix="localful-demo-") as directory,
        _listen(port) as listening,
        trio.CancelScope() as demo,
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_end_at_signal, signals, demo)
            async with running_daemon(command, {"RENEWAL_WINDOW": str(renewal_window)}) as daemon:
                nursery.start_soon(_watch, daemon)
                settings = _settings(Path(directory), daemon, access_seconds)
                backend = build_site(settings, daemon.websocket_url, renewal_window)
                try:
                    await _serve(backend, listening, daemon, open_browser=open_browser)
                finally:
                    backend.close()
    screen.line()
    screen.line("The demo has ended.")


async def _serve(
    backend: Backend, listening: socket.socket, daemon: DaemonProcess, *, open_browser: bool
) -> None:
    url = f"http://{_HOST}:{listening.getsockname()[1]}/"
    async with trio.open_nursery() as nursery:
        await nursery.start(backend.serve, listening, trio.Event())
        _greet(url, daemon)
        if open_browser:
            nursery.start_soon(_open, url)
        await trio.sleep_forever()


def _listen(port: int | None) -> socket.socket:
    """Take the port before anything else is started."""
    try:
        return socket.create_server((_HOST, PORT if port is None else port), backlog=128)
    except OSError as error:
        if port is None and error.errno == errno.EADDRINUSE:
            return socket.create_server((_HOST, 0), backlog=128)
        reason = os.strerror(error.errno or 0).lower()
        raise DemoError(
            f"Port {port or PORT} can't be had: {reason}. Give another: --port 0 takes a free one."
        ) from None


def _settings(directory: Path, daemon: DaemonProcess, access_seconds: float) -> BackendSettings:
    return BackendSettings(
        database=str(directory / "demo.sqlite3"),
        jwt_secret=JWT_SECRET.encode(),
        publisher_key=PUBLISHER_KEY,
        intake_url=daemon.internal_url,
        access_seconds=access_seconds,
        password_cost=_PASSWORD_COST,
        max_items=_MAX_ITEMS,
        max_logins=_MAX_LOGINS,
    )


def _greet(url: str, daemon: DaemonProcess) -> None:
    screen.title("Three devices in a browser, a backend, and a real daemon with made-up secrets")
    screen.fact("the page", url)
    screen.fact("the daemon", f"process {daemon.pid}")
    screen.fact("devices", daemon.websocket_url)
    screen.fact("publishers", f"{daemon.internal_url}/v1/events")
    for seed in SEEDS:
        screen.fact(seed.display_name, f"logs in with {seed.email} and the password: {seed.password}")
    screen.line()
    screen.line("Open the page in a browser. Ctrl-C ends the demo, and nothing of it stays.")


async def _open(url: str) -> None:
    """Open a browser; one that runs in the terminal may take as long as it likes."""
    opened = await trio.to_thread.run_sync(webbrowser.open, url, abandon_on_cancel=True)
    if not opened:
        click.echo("No browser could be opened: open the address yourself.", err=True)


async def _end_at_signal(signals: AsyncIterator[int], demo: trio.CancelScope) -> None:
    async for _ in signals:
        demo.cancel()


async def _watch(daemon: DaemonProcess) -> None:
    last_words = await daemon.wait_ended()
    raise DemoError(f"The daemon ended, and with it the demo.{last_words}")
