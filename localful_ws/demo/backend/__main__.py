"""``python -m localful_ws.demo.backend``: the backend beside a daemon that runs already."""

import signal
import socket
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import click
import trio

from localful_ws.demo.backend import SEEDS, Backend, BackendSettings, build_backend
from localful_ws.server.listeners import ListenError, address, bind

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_BACKLOG = 128


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=42104, show_default=True, help="Port to listen on.")
@click.option(
    "--database", type=click.Path(dir_okay=False), help="File of the database; a temporary one if left out."
)
@click.option(
    "--intake-url",
    default="http://127.0.0.1:42103",
    show_default=True,
    help="The daemon's internal port.",
)
@click.option("--access-seconds", default=60.0, show_default=True, help="How long an access token is good.")
@click.option(
    "--publisher-key",
    envvar="LOCALFUL_WS_PUBLISHER_KEY",
    required=True,
    help="The daemon's; better given as LOCALFUL_WS_PUBLISHER_KEY.",
)
@click.option(
    "--jwt-secret",
    envvar="LOCALFUL_WS_JWT_SECRET",
    required=True,
    help="The daemon's; better given as LOCALFUL_WS_JWT_SECRET.",
)
def main(
    *,
    host: str,
    port: int,
    database: str | None,
    intake_url: str,
    access_seconds: float,
    publisher_key: str,
    jwt_secret: str,
) -> None:
    """Run the example backend until Ctrl-C."""
    with tempfile.TemporaryDirectory(prefix="localful-backend-") as directory:
        try:
            settings = BackendSettings(
                database=database or str(Path(directory, "backend.sqlite3")),
                jwt_secret=jwt_secret.encode(),
                publisher_key=publisher_key,
                intake_url=intake_url,
                access_seconds=access_seconds,
            )
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        try:
            backend = build_backend(settings)
        except sqlite3.Error as error:
            raise click.ClickException(f"The database can't be opened: {error}.") from None
        try:
            listening = bind(host, port, setting="port", backlog=_BACKLOG)
            trio.run(run, backend, listening)
        except ListenError as error:
            raise click.ClickException(str(error)) from None
        finally:
            backend.close()


async def run(backend: Backend, listening: socket.socket) -> None:
    """Serve and publish until a signal comes.

    Args:
        backend: The backend.
        listening: Where; it is closed at the end.
    """
    stopping = trio.Event()
    with trio.open_signal_receiver(*_SIGNALS) as signals:
        async with trio.open_nursery() as background:
            background.start_soon(_stop_at_signal, signals, stopping)
            await background.start(backend.serve, listening, stopping)
            host, port = address(listening)
            _greet(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")


def _greet(url: str) -> None:
    click.echo(f"The backend listens on {url}")
    for seed in SEEDS:
        click.echo(f"  {seed.display_name} logs in with {seed.email} and the password: {seed.password}")


async def _stop_at_signal(signals: AsyncIterator[int], stopping: trio.Event) -> None:
    await anext(signals)
    stopping.set()


if __name__ == "__main__":
    main()
