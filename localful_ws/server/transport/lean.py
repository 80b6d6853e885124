"""The transport straight on a stream: wsproto's frames, read in the connection's own task.

An idle connection has no second task, no channel and no lock, and nothing is left of the handshake.
"""

from contextlib import suppress
from enum import Enum
from typing import Any

import trio
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import CloseConnection, Message, Ping

from localful_ws.protocol import CloseCode, pong_frame
from localful_ws.server.outbox import Outbox
from localful_ws.server.transport.base import (
    HttpRefusal,
    Judge,
    RequestHead,
    Sender,
    Transport,
    TransportClosedError,
    TransportHost,
    http_refusal,
)
from localful_ws.server.transport.upgrade import (
    UpgradeError,
    accept_response,
    head_length,
    parse_upgrade,
    refusal_response,
)

_RECEIVE_BYTES = 4096
_BROKEN = (trio.BrokenResourceError, trio.ClosedResourceError)
_MALFORMED = {code.value: code for code in (CloseCode.PROTOCOL_ERROR, CloseCode.INVALID_TEXT)}


class _State(Enum):
    OPEN = "open"
    CLOSING = "closing"
    """Our close frame is written; the device's is awaited."""
    CLOSED = "closed"
    """Nothing that comes is looked at any more."""


class LeanWebSocket(Transport):
    """A WebSocket on an `Outbox` (RFC 6455, sections 5 to 7), without extensions.

    Args:
        outbox: The stream, after the handshake.
        host: What it shares with the others.
        received: What has already come after the handshake.
    """

    __slots__ = ("_frames", "_host", "_outbox", "_parts", "_size", "_state")

    def __init__(self, outbox: Outbox, host: TransportHost, received: bytes) -> None:
        self._outbox = outbox
        self._host = host
        self._frames = Connection(ConnectionType.SERVER, trailing_data=received)
        # The parts of a message that has begun to come, and how many bytes of it there are.
        self._parts: list[str | bytes] | None = None
        self._size = 0
        self._state = _State.OPEN

    async def receive(self) -> str | bytes:
        """See `Transport.receive`."""
        while self._state is not _State.CLOSED:
            for event in self._frames.events():
                if isinstance(event, Message):
                    message = self._assemble(event)
                    if self._size > self._host.max_message_bytes:
                        await self._refuse_message()
                    if message is not None:
                        return message
                elif isinstance(event, Ping):
                    await self._pong(bytes(event.payload))
                elif isinstance(event, CloseConnection):
                    raise TransportClosedError(await self._receive_close(event))
            await self._receive_bytes()
        raise TransportClosedError("connection-lost")

    def sender(self) -> Sender:
        """See `Transport.sender`: the outbox itself, which takes nothing after a close frame."""
        return self._outbox.write_frames

    def close(self, code: CloseCode, *, drop_waiting: bool = False) -> None:
        """See `Transport.close`."""
        if self._state is _State.OPEN:
            self._state = _State.CLOSING
            if drop_waiting:
                self._outbox.discard_waiting()
            self._outbox.write_last(bytes(self._frames.send(CloseConnection(code=code, reason=code.reason))))

    def abort(self) -> None:
        """See `Transport.abort`."""
        self._state = _State.CLOSED
        self._host.boundary.start_soon(trio.aclose_forcefully, self._outbox)

    def take_heard(self) -> bool:
        """See `Transport.take_heard`."""
        heard, self._outbox.heard = self._outbox.heard, False
        return heard

    def waiting(self) -> tuple[int, int]:
        """See `Transport.waiting`."""
        return self._outbox.waiting_events, self._outbox.waiting_bytes

    def _assemble(self, part: Message[Any]) -> str | bytes | None:
        """Take a part of a message; returns the message when it is complete."""
        if self._state is not _State.OPEN:
            return None
        data: str | bytes = part.data
        self._size += len(data) if isinstance(data, bytes) or data.isascii() else len(data.encode())
        if self._parts is None and part.message_finished:
            message = data
        else:
            if self._parts is None:
                self._parts = [data]
            elif data:  # parts without content could come without end
                self._parts.append(data)
            if not part.message_finished:
                return None
            message = _join(self._parts)
            self._parts = None
        if self._size <= self._host.max_message_bytes:
            self._size = 0
        return message

    async def _refuse_message(self) -> None:
        """Close because a message is too big, and read on to the device's answer, but not for long."""
        self._parts, self._size = None, 0
        self.close(CloseCode.MESSAGE_TOO_BIG)
        with trio.move_on_after(self._host.close_timeout), suppress(TransportClosedError):
            await self.receive()
        raise TransportClosedError(CloseCode.MESSAGE_TOO_BIG.reason)

    async def _pong(self, payload: bytes) -> None:
        if self._state is _State.OPEN:
            try:
                await self._outbox.send_all(pong_frame(payload))
            except _BROKEN:
                raise TransportClosedError("connection-lost") from None

    async def _receive_bytes(self) -> None:
        try:
            data = await self._outbox.receive_some(_RECEIVE_BYTES)
        except _BROKEN:
            data = b""
        if not data:
            raise TransportClosedError("connection-lost")
        self._frames.receive_data(bytes(data))

    async def _receive_close(self, event: CloseConnection) -> str:
        """Answer a close frame, or close because of a frame that can't be; returns which it was."""
        if self._frames.state is ConnectionState.CLOSED:
            self._state = _State.CLOSED
            await _wait_sent(self._outbox, self._host)  # the device's close frame may have crossed ours
            return "device-closed"
        if self._frames.state is ConnectionState.REMOTE_CLOSING:
            self._state = _State.CLOSED
            await _send_last(self._outbox, bytes(self._frames.send(event.response())), self._host)
            return "device-closed"
        # wsproto says so in the same words when it could not make sense of the bytes. It reads no further.
        code = _MALFORMED.get(event.code, CloseCode.PROTOCOL_ERROR)
        self.close(code)
        self._state = _State.CLOSED
        await _linger(self._outbox, self._host)
        return code.reason


async def accept_lean(stream: trio.abc.Stream, host: TransportHost, judge: Judge) -> Transport | None:
    """Do the opening handshake (RFC 6455, section 4.2).

    Returns:
        The open transport, or None if there is none: refused, malformed, or the peer left.
    """
    outbox = Outbox(stream, host.outbox)
    received = bytearray()
    try:
        while (length := head_length(received)) is None:
            data = await outbox.receive_some(_RECEIVE_BYTES)
            if not data:
                return None
            received += data
        request = parse_upgrade(bytes(received[:length]))
        answer = await judge(RequestHead(request.target, request.headers, request.subprotocols))
    except UpgradeError as error:
        answer = http_refusal(error.status, error.identifier, error.message)
    except _BROKEN:
        return None
    if isinstance(answer, HttpRefusal):
        await _send_last(outbox, refusal_response(answer.status, answer.headers, answer.body), host)
        await _linger(outbox, host)
        return None
    outbox.write(accept_response(request, answer.subprotocol))
    if outbox.waiting_bytes:
        await _wait_sent(outbox, host)
    return LeanWebSocket(outbox, host, bytes(received[length:]))


async def _send_last(outbox: Outbox, data: bytes, host: TransportHost) -> None:
    outbox.write_last(data)
    with trio.move_on_after(host.close_timeout), suppress(*_BROKEN):
        await outbox.wait_send_all_might_not_block()


async def _wait_sent(outbox: Outbox, host: TransportHost) -> None:
    with trio.move_on_after(host.close_timeout), suppress(*_BROKEN):
        await outbox.wait_send_all_might_not_block()


async def _linger(outbox: Outbox, host: TransportHost) -> None:
    """Say that nothing more will come, and read away what the peer still sends until it closes.

    Were the socket closed with unread bytes, the kernel would reset the connection, and the peer might never
    see the answer that was sent last.
    """
    with trio.move_on_after(host.close_timeout), suppress(*_BROKEN):
        await outbox.send_eof()
        while await outbox.receive_some(_RECEIVE_BYTES):
            pass


def _join(parts: list[str | bytes]) -> str | bytes:
    texts = [part for part in parts if isinstance(part, str)]
    return "".join(texts) if texts else b"".join(part for part in parts if isinstance(part, bytes))
