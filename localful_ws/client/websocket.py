"""A WebSocket from this side, through trio-websocket: opened in bounded time, and closed to the last file."""

from collections.abc import Awaitable, Callable
from typing import cast

import trio
from attrs import frozen
from trio_websocket import WebSocketConnection, wrap_client_stream

from localful_ws.client.endpoint import Endpoint
from localful_ws.protocol import SUBPROTOCOL, CloseCode


class ConnectionLostError(Exception):
    """There is no connection; the message is a sentence that says why."""


@frozen
class WebSocket:
    """An open WebSocket and the stream below it."""

    connection: WebSocketConnection
    stream: trio.abc.Stream

    async def say_goodbye(self, code: CloseCode, patience: float) -> None:
        """Close with this code, and wait for the answer for at most ``patience`` seconds."""
        with trio.move_on_after(patience):
            await self.connection.aclose(code, code.reason)

    async def drop(self) -> None:
        """Close the stream, which trio-websocket leaves open when the other side closes first."""
        await trio.aclose_forcefully(self.stream)


async def open_websocket(
    nursery: trio.Nursery,
    endpoint: Endpoint,
    open_stream: Callable[[], Awaitable[trio.abc.Stream]],
    connect_timeout: float,
    max_message_bytes: int,
) -> WebSocket:
    """Open a WebSocket; the nursery runs what reads from it.

    Raises:
        ConnectionLostError: If there is no connection, or no answer in time.
    """
    try:
        with trio.move_on_after(connect_timeout):
            return await _open(nursery, endpoint, await open_stream(), max_message_bytes)
    except trio.BrokenResourceError as error:
        raise ConnectionLostError(f"There is no connection: {error.__cause__ or 'it broke'}.") from None
    except OSError as error:
        raise ConnectionLostError(f"There is no connection: {error}.") from None
    raise ConnectionLostError("There is no connection: the server did not answer in time.")


async def _open(
    nursery: trio.Nursery, endpoint: Endpoint, stream: trio.abc.Stream, max_message_bytes: int
) -> WebSocket:
    try:
        connection = await wrap_client_stream(
            nursery,
            # Any stream will do; the annotation names the two usual ones.
            cast("trio.SocketStream", stream),
            endpoint.host_header,
            endpoint.target,
            subprotocols=[SUBPROTOCOL],
            max_message_size=max_message_bytes,
        )
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return WebSocket(connection, stream)
