"""The transport on trio-websocket, through its public API only.

trio-websocket reads frames in a task of its own and answers pings and closes by itself. It is given the
outbox as its stream. Our own frames are built once for all devices and go to the outbox directly.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import cast

import structlog
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from localful_ws.protocol import CloseCode
from localful_ws.server.boundary import Boundary
from localful_ws.server.outbox import Outbox
from localful_ws.server.transport.base import (
    HttpRefusal,
    Judge,
    RequestHead,
    Sender,
    Transport,
    TransportClosedError,
    TransportHost,
)

_log = structlog.get_logger(__name__)
_RECEIVE_BYTES = 4096
_OUR_CODES = {code.value: code.reason for code in (CloseCode.PROTOCOL_ERROR, CloseCode.INVALID_TEXT)}


class _ReaderBoundary:
    """Stands in for the nursery in which trio-websocket starts a connection's reader.

    The reader raises on some malformed handshakes. That ends this connection and nothing else.

    Args:
        boundary: Where the reader runs.
        at_end: Called when it ends.
    """

    __slots__ = ("_at_end", "_boundary")

    def __init__(self, boundary: Boundary, at_end: Callable[[], object]) -> None:
        self._boundary = boundary
        self._at_end: Callable[[], object] | None = at_end  # None when that has been done

    def at_end(self, act: Callable[[], object]) -> None:
        """Call ``act`` in place of what was to be called when the reader ends; now, if it has."""
        if self._at_end is None:
            act()
        else:
            self._at_end = act

    def start_soon(self, reader: Callable[[], Awaitable[None]]) -> None:
        """Start the reader in the shared nursery."""
        self._boundary.start_soon(self._run, reader)

    async def _run(self, reader: Callable[[], Awaitable[None]]) -> None:
        try:
            await reader()
        except Exception as error:
            _log.debug("a connection's reader failed", error=type(error).__name__)
        finally:
            act, self._at_end = self._at_end, None
            if act is not None:
                act()


class TrioWebSocket(Transport):
    """A trio-websocket connection over an `Outbox`."""

    __slots__ = ("_closed", "_closing", "_connection", "_host", "_outbox", "_reader")

    def __init__(
        self,
        connection: WebSocketConnection,
        reader: _ReaderBoundary,
        outbox: Outbox,
        host: TransportHost,
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._outbox = outbox
        self._host = host
        # From `close` on: set when it is complete, and what bounds it.
        self._closed: trio.Event | None = None
        self._closing: trio.CancelScope | None = None

    async def receive(self) -> str | bytes:
        """See `Transport.receive`."""
        try:
            message = await self._connection.get_message()
        except ConnectionClosed as error:
            raise TransportClosedError(await self._finish(error)) from None
        # trio-websocket counts characters.
        limit = self._host.max_message_bytes
        if isinstance(message, str) and len(message) * 4 > limit and len(message.encode()) > limit:
            self.close(CloseCode.MESSAGE_TOO_BIG)
            with trio.move_on_after(self._host.close_timeout):
                await self._wait_closed()
            raise TransportClosedError(CloseCode.MESSAGE_TOO_BIG.reason)
        return message

    def sender(self) -> Sender:
        """See `Transport.sender`."""
        return self._send

    def close(self, code: CloseCode, *, drop_waiting: bool = False) -> None:
        """See `Transport.close`."""
        if self._closed is None:
            self._closed = trio.Event()
            self._closing = trio.CancelScope()
            if drop_waiting:
                self._outbox.discard_waiting()
            self._host.boundary.start_soon(self._close, code, self._closed, self._closing)

    def abort(self) -> None:
        """See `Transport.abort`."""
        if self._closing is not None:
            # Its reader may have failed, on a ping after our close frame for one, and left nobody else to
            # end the wait.
            self._closing.cancel()
        self._host.boundary.start_soon(trio.aclose_forcefully, self._outbox)

    def take_heard(self) -> bool:
        """See `Transport.take_heard`."""
        heard, self._outbox.heard = self._outbox.heard, False
        return heard

    def waiting(self) -> tuple[int, int]:
        """See `Transport.waiting`."""
        return self._outbox.waiting_events, self._outbox.waiting_bytes

    def _send(self, data: bytes | memoryview, frames: Sequence[bytes | memoryview]) -> None:
        if self._closed is None and self._connection.closed is None:
            self._outbox.write_frames(data, frames)

    async def _close(self, code: CloseCode, closed: trio.Event, closing: trio.CancelScope) -> None:
        try:
            with closing:
                await self._connection.aclose(code, code.reason)
        finally:
            await trio.aclose_forcefully(self._outbox)
            closed.set()

    async def _finish(self, error: ConnectionClosed) -> str:
        if self._closed is not None:
            await self._wait_closed()
        elif error.reason is not None and error.reason.code == CloseCode.MESSAGE_TOO_BIG:
            await self._linger()
            return CloseCode.MESSAGE_TOO_BIG.reason
        if error.reason is None or error.reason.code == 1006:
            return "connection-lost"
        return _OUR_CODES.get(error.reason.code, "device-closed")

    async def _wait_closed(self) -> None:
        if self._closed is not None:
            await self._closed.wait()

    async def _linger(self) -> None:
        # trio-websocket has sent its close frame and reads no more, but for once. Were the socket closed with
        # bytes of the message still unread, the kernel would reset it, and the device might never see the
        # close frame.
        reader_ended = trio.Event()
        self._reader.at_end(reader_ended.set)
        broken = (trio.BrokenResourceError, trio.ClosedResourceError)
        with trio.move_on_after(self._host.close_timeout), suppress(*broken):
            await self._outbox.send_eof()
            await reader_ended.wait()
            while await self._outbox.receive_some(_RECEIVE_BYTES):
                pass


async def accept_trio_websocket(
    stream: trio.abc.Stream, host: TransportHost, judge: Judge
) -> Transport | None:
    """Do the opening handshake with trio-websocket.

    Returns:
        The open transport, or None if there is none: refused, malformed, or the peer left.
    """
    outbox = Outbox(stream, host.outbox)
    with trio.CancelScope() as handshake, suppress(ConnectionClosed):
        # The reader ends when the peer leaves or sends no HTTP; nobody would ever see a request then.
        reader = _ReaderBoundary(host.boundary, handshake.cancel)
        request = await wrap_server_stream(
            cast("trio.Nursery", reader),
            outbox,
            max_message_size=host.max_message_bytes,
            receive_buffer_size=_RECEIVE_BYTES,
        )
        answer = await judge(RequestHead(request.path, request.headers, request.proposed_subprotocols))
        if isinstance(answer, HttpRefusal):
            await request.reject(answer.status, extra_headers=list(answer.headers), body=answer.body)
            return None
        connection = await request.accept(subprotocol=answer.subprotocol)
        return TrioWebSocket(connection, reader, outbox, host)
    return None
