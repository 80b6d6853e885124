"""What a connection's driver needs of a WebSocket, whichever library speaks it."""

import abc
import json
from collections.abc import Awaitable, Callable, Sequence

import trio
from attrs import field, frozen

from localful_ws.protocol import CloseCode
from localful_ws.server.boundary import Boundary
from localful_ws.server.outbox import OutboxPolicy


class TransportClosedError(Exception):
    """The WebSocket is over.

    Attributes:
        reason: A word for the statistics: a close reason of ours, ``device-closed`` or ``connection-lost``.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@frozen
class RequestHead:
    """A WebSocket handshake as it came in.

    Attributes:
        target: Path and query.
        headers: Names in lower case; ``sec-websocket-protocol`` is not among them.
        subprotocols: What ``sec-websocket-protocol`` offers, in order.
    """

    target: str
    headers: Sequence[tuple[bytes, bytes]] = field(repr=False)
    subprotocols: Sequence[str] = field(repr=False)


@frozen
class Upgrade:
    """The answer that lets a handshake go ahead, with the subprotocol to select."""

    subprotocol: str | None


@frozen
class HttpRefusal:
    """The answer that ends a handshake: an HTTP response with a JSON body."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def http_refusal(status: int, identifier: str, message: str) -> HttpRefusal:
    """Make an answer in Localful's error shape.

    Args:
        status: The HTTP status.
        identifier: A word for programs.
        message: A sentence for people.
    """
    body = {"statusCode": status, "identifier": identifier, "message": message, "context": {}}
    headers = (
        (b"Content-Type", b"application/json"),
        (b"Connection", b"close"),
        *_MORE_HEADERS.get(status, ()),
    )
    return HttpRefusal(status, headers, json.dumps(body).encode())


_MORE_HEADERS = {
    401: ((b"WWW-Authenticate", b"Bearer"),),
    405: ((b"Allow", b"GET"),),
    426: ((b"Upgrade", b"websocket"), (b"Sec-WebSocket-Version", b"13")),
    503: ((b"Retry-After", b"5"),),
}

Judge = Callable[[RequestHead], Awaitable[Upgrade | HttpRefusal]]
"""Decides about a handshake."""


@frozen
class TransportHost:
    """What all transports of a node share.

    Attributes:
        boundary: Where a transport starts tasks that may outlive the caller.
        outbox: The limits of each outbox.
        max_message_bytes: The longest message a device may send.
        close_timeout: Seconds to go on reading from a device that was told to go.
    """

    boundary: Boundary
    outbox: OutboxPolicy
    max_message_bytes: int
    close_timeout: float


Sender = Callable[[bytes | memoryview, Sequence[bytes | memoryview]], None]
"""Sends frames, which it is given joined and one by one."""


class Transport(abc.ABC):
    """One WebSocket, after its handshake.

    One task receives; anybody may send, without waiting. Closing is begun by `close` and is over when
    `receive` raises; whoever began it bounds it by calling `abort`.
    """

    __slots__ = ()

    @abc.abstractmethod
    async def receive(self) -> str | bytes:
        """Wait for the next message: `str` for text, `bytes` for binary.

        Raises:
            TransportClosedError: When there will be no more and the connection is closed.
        """

    @abc.abstractmethod
    def sender(self) -> Sender:
        """The function that sends whole server frames, without waiting; ask once and keep it.

        It is a function, not a method of the transport, because it is called for every device and event.
        After a close has begun it drops them. It raises `localful_ws.server.outbox.OutboxFullError` if
        the device reads too slowly.
        """

    @abc.abstractmethod
    def close(self, code: CloseCode, *, drop_waiting: bool = False) -> None:
        """Begin the closing handshake; a second call does nothing.

        Args:
            code: The close code; its reason word goes with it.
            drop_waiting: Whether what waits in the outbox is dropped rather than sent first.
        """

    @abc.abstractmethod
    def abort(self) -> None:
        """Drop the connection at once, without a handshake."""

    @abc.abstractmethod
    def take_heard(self) -> bool:
        """Whether any bytes came from the device since this was last asked."""

    @abc.abstractmethod
    def waiting(self) -> tuple[int, int]:
        """How many frames wait to be sent, and how many bytes they have."""


Accepter = Callable[[trio.abc.Stream, TransportHost, Judge], Awaitable[Transport | None]]
"""Does the opening handshake on a stream; None if it ended there (refused, malformed, or the peer left)."""
