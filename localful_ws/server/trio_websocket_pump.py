"""Devices whose frames trio-websocket reads, through its public API only: the transport beside our own.

The library reads in a task of its own, answers pings, and says what is malformed. Our frames are built once
for all devices and go out beside its own, frame by frame. It is the device that closes, as everywhere.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import cast

import structlog
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, wrap_server_stream

from localful_ws.protocol import (
    BinaryReceived,
    CloseCode,
    CloseReceived,
    Malformed,
    PingReceived,
    TextReceived,
)
from localful_ws.server.pump import RECEIVE_BYTES, StartSoon, StreamPump
from localful_ws.server.websocket import WebSocket

_log = structlog.get_logger(__name__)
_MALFORMED = {
    code.value: code for code in (CloseCode.PROTOCOL_ERROR, CloseCode.INVALID_TEXT, CloseCode.MESSAGE_TOO_BIG)
}
_PONG = 0x8A  # how a pong begins; it has at most 125 bytes, and no mask
_ABNORMAL_CLOSURE = 1006  # RFC 6455, section 7.4.1: never sent


class TrioWebSocketPump(StreamPump):
    """Pushes a device with the messages that trio-websocket makes of what comes.

    Args:
        stream: As for `StreamPump`.
        start_soon: As for `StreamPump`.
        close_timeout: As for `StreamPump`.
        max_message_bytes: The longest message a device may send.

    Attributes:
        answered: Whether the handshake is over, so that only the device sends.
    """

    __slots__ = ("_connection", "_max_message_bytes", "_reader_runs", "_waiting", "answered")

    def __init__(
        self, stream: trio.abc.Stream, start_soon: StartSoon, close_timeout: float, max_message_bytes: int
    ) -> None:
        super().__init__(stream, start_soon, close_timeout)
        self.answered = False
        self._max_message_bytes = max_message_bytes
        self._reader_runs = False
        # What is not worth waiting for when the reader has ended.
        self._waiting: trio.CancelScope | None = None
        self._connection: WebSocketConnection | None = None

    async def take_request(self) -> WebSocketRequest:
        """Read the opening handshake.

        Raises:
            ConnectionClosed: If the peer leaves, or sends something else.
        """
        try:
            with trio.CancelScope() as self._waiting:
                return await wrap_server_stream(
                    cast("trio.Nursery", self),
                    _LibraryStream(self, self._stream),
                    max_message_size=self._max_message_bytes,
                    receive_buffer_size=RECEIVE_BYTES,
                )
        finally:
            self._waiting = None
        raise ConnectionClosed(None)

    def start_soon(self, reader: Callable[[], Awaitable[None]]) -> None:
        """Start the library's reader, in place of the nursery that it asks for."""
        self._reader_runs = True
        self._start_soon(partial(self._run, reader))

    async def _run(self, reader: Callable[[], Awaitable[None]]) -> None:
        # It raises on some malformed handshakes. That ends this connection and nothing else.
        try:
            await reader()
        except Exception as error:
            _log.debug("a connection's reader failed", error=type(error).__name__)
        finally:
            self._reader_runs = False
            # It ends when the peer leaves or sends no HTTP; nobody would ever see a request then.
            if self._waiting is not None:
                self._waiting.cancel()

    async def accept(self, request: WebSocketRequest, subprotocol: str | None) -> None:
        """Answer the handshake, so that there can be a device."""
        self._connection = await request.accept(subprotocol=subprotocol)
        self.answered = True

    def close(self, device: WebSocket, *, at_once: bool) -> None:
        """See `localful_ws.server.websocket.Pump`."""
        super().close(device, at_once=at_once)
        connection, self._connection = self._connection, None
        if connection is not None:
            self._start_soon(partial(_drain, connection))

    async def receive(self, device: WebSocket) -> None:
        """Wait for the next message, and push it into the device."""
        if self._connection is None:
            # The library reads no more, but for once.
            with trio.CancelScope() as self._waiting:
                if self._reader_runs:
                    await trio.sleep_forever()
            await super().receive(device)
            return
        try:
            message = await self._connection.get_message()
        except ConnectionClosed as closed:
            self._connection = None
            self._end(device, _ABNORMAL_CLOSURE if closed.reason is None else closed.reason.code)
            return
        if isinstance(message, bytes):
            device.take(BinaryReceived())
        elif len(message.encode()) > self._max_message_bytes:  # the library counts characters
            device.take(Malformed(CloseCode.MESSAGE_TOO_BIG))
        else:
            device.take(TextReceived(message))

    def _end(self, device: WebSocket, code: int) -> None:
        if code == _ABNORMAL_CLOSURE:
            device.lost()
        else:
            device.take(Malformed(_MALFORMED[code]) if code in _MALFORMED else CloseReceived(code, ""))


class _LibraryStream(trio.abc.Stream):
    """The stream as trio-websocket sees it: after the handshake it only seems to send."""

    __slots__ = ("_pump", "_stream")

    def __init__(self, pump: TrioWebSocketPump, stream: trio.abc.Stream) -> None:
        self._pump = pump
        self._stream = stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._stream.receive_some(max_bytes)
        if self._pump.device is not None:
            self._pump.device.arrived(len(data))
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if not self._pump.answered:
            await self._stream.send_all(data)
            return
        await trio.lowlevel.checkpoint()
        # It sends pongs, and close frames; the device writes both itself.
        if data[0] == _PONG and self._pump.device is not None:
            self._pump.device.take(PingReceived(bytes(data[2:])))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        # The device says when.
        await trio.lowlevel.checkpoint()


async def _drain(connection: WebSocketConnection) -> None:
    """Take what the library has still read: messages that nobody takes would hold its reader up for ever."""
    with suppress(ConnectionClosed):
        while True:
            await connection.get_message()
