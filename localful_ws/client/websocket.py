"""A WebSocket from this side: wsproto's frames on a stream of anyio, and so the same on Trio and asyncio.

Every wait is bounded, by what is given or by whoever calls; ``max_message_bytes`` bounds what is held.
"""

import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import anyio
from anyio.abc import ByteStream
from anyio.lowlevel import checkpoint_if_cancelled
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Message,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from localful_ws.client.endpoint import Endpoint
from localful_ws.client.reconnect import LOST
from localful_ws.client.waking import Signal
from localful_ws.protocol import SUBPROTOCOL, CloseCode

_RECEIVE_BYTES = 16 * 1024
_MOST_BODY = 16 * 1024
_BODY_SECONDS = 2.0
# What a stream raises when it is over: anyio's words for it, and what the ssl module says itself.
_BROKEN = (
    anyio.EndOfStream,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.BusyResourceError,
    OSError,
)
_NO_SERVER = "There is no connection: no WebSocket server answered."
_BROKE = "The connection broke."
_CLOSED = "The server closed the connection."


class ConnectionLostError(Exception):
    """There is no connection; the message is a sentence that says why."""


class HandshakeRefusedError(Exception):
    """The handshake was answered with an HTTP error.

    Attributes:
        status: The HTTP status.
        body: The body of the answer, or its beginning.
    """

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.body = body


class WebSocketClosedError(Exception):
    """The connection has ended.

    Attributes:
        code: The close code; 1006 if it ended without one.
        reason: The close reason.
        message: A sentence about it.
    """

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message


class WebSocket:
    """An open WebSocket (RFC 6455), without extensions. One task receives; any may send.

    Args:
        stream: What it runs over.
        max_message_bytes: The largest message that is taken.
        close_timeout: Seconds for the closing handshake.
    """

    def __init__(self, stream: ByteStream, max_message_bytes: int, close_timeout: float) -> None:
        self._stream = stream
        self._max_message_bytes = max_message_bytes
        self._close_timeout = close_timeout
        self._frames = WSConnection(ConnectionType.CLIENT)
        self._events: Iterator[Event] = iter(())
        # The parts of a message that has begun to come, and how many bytes of it there are.
        self._parts: list[Any] = []
        self._size = 0
        self._sending = anyio.Lock()
        # Whether a frame may have been cut in the middle: then nothing can follow it.
        self._is_cut = False
        # The close frame that the end we were told of is answered with.
        self._last: CloseConnection | None = None
        self._is_heard = False
        self._heard = Signal()

    async def shake_hands(self, endpoint: Endpoint) -> int | None:
        """Do the opening handshake.

        Returns:
            The HTTP status if the server refuses; None if the WebSocket is open.

        Raises:
            ConnectionLostError: If there is no WebSocket server.
        """
        try:
            await self._send(Request(endpoint.host_header, endpoint.target, subprotocols=[SUBPROTOCOL]))
            while True:
                await self._receive_bytes()
                for event in self._events:
                    if isinstance(event, AcceptConnection):
                        return None
                    if isinstance(event, RejectConnection):
                        return event.status_code
        except (WebSocketClosedError, RemoteProtocolError, ValueError):
            # ValueError: headers that are not ASCII. That there is no connection is all there is to say.
            raise ConnectionLostError(_NO_SERVER) from None

    async def receive_body(self) -> bytes:
        """What there is of the body of a refusal, in bounded time and space."""
        body = bytearray()
        with anyio.move_on_after(_BODY_SECONDS), suppress(WebSocketClosedError, RemoteProtocolError):
            while len(body) < _MOST_BODY:
                for event in self._events:
                    if isinstance(event, RejectData):
                        body += event.data
                        if event.body_finished:
                            return bytes(body)
                await self._receive_bytes()
        return bytes(body)

    async def receive(self) -> str | bytes:
        """The next message, whole. Pings are answered meanwhile.

        Raises:
            WebSocketClosedError: If the connection has ended, or has to; `say_goodbye` is still to be called.
        """
        while True:
            for event in self._events:
                if isinstance(event, Message):
                    message = self._assemble(event)
                    if message is not None:
                        return message
                elif isinstance(event, Ping):
                    if self._frames.state is ConnectionState.OPEN:
                        await self._send(event.response())
                elif isinstance(event, CloseConnection):
                    raise self._ended(event)
            await self._receive_bytes()

    async def send(self, text: str) -> None:
        """Send a message.

        Raises:
            WebSocketClosedError: If the connection has ended. Whoever receives is told how.
        """
        await self._send(TextMessage(text))

    async def ping(self) -> None:
        """Send a ping, and wait until anything has come from the server.

        Raises:
            WebSocketClosedError: If the connection has ended. Whoever receives is told how.
        """
        self._is_heard = False
        await self._send(Ping())
        while not self._is_heard:
            await self._heard.wait()

    async def say_goodbye(self, code: CloseCode) -> None:
        """Close with this code and wait for the answer, or answer the server's close; in bounded time."""
        with anyio.move_on_after(self._close_timeout), suppress(WebSocketClosedError):
            await self._send(self._last or CloseConnection(code, code.reason))
            while self._last is None:
                await self.receive()

    async def drop(self) -> None:
        """Close the stream, whatever is under way."""
        await anyio.aclose_forcefully(self._stream)

    def _assemble(self, part: Message[Any]) -> str | bytes | None:
        """Take a part of a message; returns the message when it is complete."""
        data: str | bytes = part.data
        self._size += len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode())
        if self._size > self._max_message_bytes:
            self._last = CloseConnection(CloseCode.MESSAGE_TOO_BIG, CloseCode.MESSAGE_TOO_BIG.reason)
            too_big = f"The server sent a message of more than {self._max_message_bytes} bytes."
            raise WebSocketClosedError(CloseCode.MESSAGE_TOO_BIG, CloseCode.MESSAGE_TOO_BIG.reason, too_big)
        if part.message_finished and not self._parts:
            self._size = 0
            return data
        if data:  # parts without content could come without end
            self._parts.append(data)
        if not part.message_finished:
            return None
        message: str | bytes = data[:0].join(self._parts)
        self._parts, self._size = [], 0
        return message

    def _ended(self, event: CloseConnection) -> WebSocketClosedError:
        if self._frames.state is ConnectionState.OPEN or self._frames.state is ConnectionState.LOCAL_CLOSING:
            # wsproto could not make sense of the bytes, and says so in the same words. It reads no further.
            code = (
                CloseCode.INVALID_TEXT if event.code == CloseCode.INVALID_TEXT else CloseCode.PROTOCOL_ERROR
            )
            self._last = CloseConnection(code, code.reason)
            return WebSocketClosedError(code, code.reason, "The server sent what is no WebSocket frame.")
        self._last = event.response()
        return WebSocketClosedError(int(event.code), event.reason or "", _CLOSED)

    async def _send(self, event: Event) -> None:
        async with self._sending:
            if self._is_cut:
                raise WebSocketClosedError(LOST, "", _BROKE)
            # Whoever is cancelled already sends nothing at all. From here on a stream is cancelled only while
            # the socket is full.
            await checkpoint_if_cancelled()
            try:
                data = self._frames.send(event)
            except LocalProtocolError:
                # One side has said goodbye.
                raise WebSocketClosedError(LOST, "", _CLOSED) from None
            self._is_cut = True
            try:
                await self._stream.send(data)
            except _BROKEN:
                raise WebSocketClosedError(LOST, "", _BROKE) from None
            self._is_cut = False

    async def _receive_bytes(self) -> None:
        try:
            data = await self._stream.receive(_RECEIVE_BYTES)
        except _BROKEN:
            raise WebSocketClosedError(LOST, "", _BROKE) from None
        self._is_heard = True
        self._heard.notify()
        self._frames.receive_data(data)
        self._events = self._frames.events()


async def open_websocket(
    endpoint: Endpoint,
    open_stream: Callable[[], Awaitable[ByteStream]],
    *,
    connect_timeout: float,
    close_timeout: float,
    max_message_bytes: int,
) -> WebSocket:
    """Open a WebSocket.

    Raises:
        HandshakeRefusedError: If the server refuses the handshake.
        ConnectionLostError: If there is no connection, or no WebSocket server answers in time.
    """
    try:
        with anyio.move_on_after(connect_timeout) as opening:
            websocket = WebSocket(await open_stream(), max_message_bytes, close_timeout)
            try:
                status = await websocket.shake_hands(endpoint)
            except BaseException:
                await websocket.drop()
                raise
    except _BROKEN as error:
        raise ConnectionLostError(f"There is no connection: {_why(error)}.") from None
    if opening.cancelled_caught:
        raise ConnectionLostError("There is no connection: the server did not answer in time.")
    if status is None:
        return websocket
    try:
        raise HandshakeRefusedError(status, await websocket.receive_body())
    finally:
        await websocket.drop()


def _why(error: BaseException) -> str:
    """What went wrong below, in the same words on Trio and asyncio."""
    while error.__cause__ is not None:
        error = error.__cause__
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
    if isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError | socket.gaierror):
        return os.strerror(error.errno)
    if isinstance(error, socket.gaierror):
        return str(error.strerror)
    return str(error) or "it broke"
