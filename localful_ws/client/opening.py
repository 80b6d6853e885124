"""`open_client`: a device that lives as long as a block of code."""

import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NoReturn

import anyio
from anyio.abc import ByteStream

from localful_ws.client.client import Client, ClientOptions, GetToken
from localful_ws.client.codec import is_cursor
from localful_ws.client.conversation import vaults_of
from localful_ws.client.endpoint import open_stream as open_network_stream
from localful_ws.client.endpoint import parse_endpoint
from localful_ws.client.status import Status, Timeouts


def open_client(
    url: str,
    get_token: GetToken,
    *,
    vaults: Iterable[str] = (),
    since: str | None = None,
    timeouts: Timeouts | None = None,
    buffered_events: int = 1024,
    max_message_bytes: int = 1024 * 1024,
    ssl_context: ssl.SSLContext | None = None,
    on_status: Callable[[Status], None] | None = None,
    open_stream: Callable[[], Awaitable[ByteStream]] | None = None,
    draw: Callable[[], float] = random.random,
) -> AbstractAsyncContextManager[Client]:
    """Be a device as long as the ``async with`` block lasts.

    Entering the block does not wait for the server: iterate, or call `Client.wait_ready`.

    Args:
        url: Where the server is: ``ws://…`` or ``wss://…``.
        get_token: Gives an access token, at once or awaited. Called before each connection and when the
            server asks for a renewal. It may raise `TokenUnavailableError` to be asked again later; whatever
            else it raises before a connection ends the client.
        vaults: The vaults whose data events are wanted.
        since: The cursor of an earlier client (`Client.cursor`) of the same user, to go on where it ended;
            None to begin at the present, with a `SnapshotNeeded`.
        timeouts: How long to wait for what.
        buffered_events: Events that may wait to be iterated over, at least 1. When they are so many, no more
            is read from the connection; if that goes on for long, it is given up from one side or the other,
            and made anew once there is room.
        max_message_bytes: The largest message taken from the server.
        ssl_context: Whom to trust with ``wss``; None trusts whom the system trusts.
        on_status: Called when the connection comes and goes. It must not raise.
        open_stream: How to connect, if not over the network.
        draw: Draws a number from 0 to 1, for the jitter of reconnections.

    Raises:
        TypeError: If ``vaults`` is no list of strings.
        ValueError: If the URL is none, ``since`` can't be a cursor, or ``buffered_events`` is less than 1.
    """
    endpoint = parse_endpoint(url)
    if since is not None and not is_cursor(since):
        raise ValueError("since must be a cursor, a string of 1 to 128 characters.")
    if buffered_events < 1:
        raise ValueError("buffered_events must be at least 1.")
    options = ClientOptions(
        endpoint=endpoint,
        get_token=get_token,
        open_stream=open_stream or (lambda: open_network_stream(endpoint, ssl_context)),
        timeouts=timeouts or Timeouts(),
        buffered_events=buffered_events,
        max_message_bytes=max_message_bytes,
        on_status=on_status or _ignore,
        draw=draw,
    )
    return _run_client(options, vaults_of(vaults), since)


@asynccontextmanager
async def _run_client(
    options: ClientOptions, vaults: tuple[str, ...], since: str | None
) -> AsyncIterator[Client]:
    client = Client(options, vaults, since)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.run)
            try:
                yield client
            finally:
                await client.aclose()
                tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # What the block raised leaves it as it was, not in a group.
        if len(group.exceptions) == 1:
            _raise_alone(group.exceptions[0])
        raise


def _ignore(_: Status) -> None:
    pass


def _raise_alone(error: BaseException) -> NoReturn:
    """Raise what was in a group without the group as its context."""
    context = error.__context__
    try:
        raise error
    finally:
        error.__context__ = context
