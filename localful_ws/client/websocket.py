"""A WebSocket from this side, through trio-websocket: opened in bounded time, and closed to the last file."""

from collections.abc import Awaitable, Callable
from typing import cast

import trio
from attrs import frozen
from trio_websocket import ConnectionRejected, WebSocketConnection, wrap_client_stream

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


@frozen
class _ReaderNursery:
    """Stands in for the nursery in which trio-websocket starts a connection's reader.

    The reader raises when what answers is no WebSocket server, and ends without a word to whoever waits for
    the handshake when the server hangs up. Here either ends the wait.

    Attributes:
        nursery: Where the reader runs.
        opening: What waits for the handshake.
    """

    nursery: trio.Nursery
    opening: trio.CancelScope

    def start_soon(self, reader: Callable[[], Awaitable[None]]) -> None:
        """Start the reader."""
        self.nursery.start_soon(self._run, reader)

    async def _run(self, reader: Callable[[], Awaitable[None]]) -> None:
        try:
            await reader()
        except ConnectionRejected:
            raise
        except Exception:
            # Of wsproto or of h11 below it. That there is no connection is all there is to say.
            self.opening.cancel()
        else:
            self.opening.cancel()


async def open_websocket(
    nursery: trio.Nursery,
    endpoint: Endpoint,
    open_stream: Callable[[], Awaitable[trio.abc.Stream]],
    connect_timeout: float,
    max_message_bytes: int,
) -> WebSocket:
    """Open a WebSocket; the nursery runs what reads from it.

    Raises:
        ConnectionLostError: If there is no connection, or no WebSocket server answers in time.
    """
    try:
        with trio.move_on_after(connect_timeout):
            stream = await open_stream()
            with trio.CancelScope() as opening:
                reader = _ReaderNursery(nursery, opening)
                return await _open(reader, endpoint, stream, max_message_bytes)
            raise ConnectionLostError("There is no connection: no WebSocket server answered.")
    except trio.BrokenResourceError as error:
        raise ConnectionLostError(f"There is no connection: {error.__cause__ or 'it broke'}.") from None
    except OSError as error:
        raise ConnectionLostError(f"There is no connection: {error}.") from None
    raise ConnectionLostError("There is no connection: the server did not answer in time.")


async def _open(
    reader: _ReaderNursery, endpoint: Endpoint, stream: trio.abc.Stream, max_message_bytes: int
) -> WebSocket:
    try:
        connection = await wrap_client_stream(
            cast("trio.Nursery", reader),
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
